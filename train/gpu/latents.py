"""Latents of all training pictures on the GPU, for the denoisers: several views of each, computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from drorae import AutoencoderDRoRAE
from train.data.batches import Batch
from train.data.captions import draw
from train.data.draws import uniform_draws
from train.data.latent_cache import encode_raw
from train.data.positions import Positions
from train.gpu.pictures import DevicePictures, to_device
from train.settings import Schedule

BATCH = 256


class _InOrder(DevicePictures):
    """Pictures whose positions are their numbers."""

    def index(self, position: int, skip: int = 0) -> int:
        return position


@torch.no_grad()
def encode_views(model: AutoencoderDRoRAE, pictures: DevicePictures, views: int) -> Tensor:
    """Latents (views, n, C, h, w) in half precision before normalisation. Even views are mirrored in odd ones; the
    first two are of whole pictures, the others of random crops."""
    side = model.image_size
    result: list[Tensor] = []
    for view in range(views):
        scale = (1.0, 1.0) if view < 2 else pictures.crop.scale
        cut = _InOrder(
            pictures.pictures,
            pictures.labels,
            [pictures.count],
            pictures.crop._replace(scale=scale, flip=False),
            pictures.seed + view // 2,  # a crop and its mirror image
            pictures.device,
        )
        parts = []
        for first in range(0, pictures.count, BATCH):
            numbers = range(first, min(first + BATCH, pictures.count))
            images = cut.batch(numbers, side, first).images
            images = images.flip(-1) if view % 2 else images
            with torch.autocast(pictures.device.type, torch.bfloat16, enabled=pictures.device.type == "cuda"):
                parts.append(encode_raw(model, images).half())
        result.append(torch.cat(parts))
    return torch.stack(result)


class DeviceLatents(Positions):
    """Latents on the GPU by :class:`~train.data.positions.Positions`, one of the views of each, drawn by position.

    Args:
        latents: (views, n, C, h, w) before normalisation.
        captions: captions of every picture, where they are wanted.
    """

    def __init__(self, latents: Tensor, labels: Tensor, seed: int, captions: Sequence[list[str]] | None = None):
        super().__init__([latents.shape[1]], seed)
        self.latents, self.labels, self.captions = latents, labels, captions
        self.sources = [range(latents.shape[1])]

    def batches(self, schedule: Schedule, start_step: int, rank: int, world: int) -> Iterator[Batch]:
        """All batches from ``start_step`` to the end."""
        size = schedule.micro_batch(world)
        for step in range(start_step, schedule.steps):
            for part in range(rank, schedule.accumulation * world, world):
                first = step * schedule.batch_size + part * size
                yield self.batch(range(first, first + size))

    def batch(self, positions: range) -> Batch:
        """The latents of some positions."""
        numbers = [self.index(position) for position in positions]
        rows = to_device(numbers, self.latents.device)
        where = torch.arange(positions.start, positions.stop, device=rows.device)
        views = (uniform_draws(self.seed, where, 1, "view")[:, 0] * len(self.latents)).long()
        texts = None
        if self.captions is not None:
            texts = [draw(self.captions[n], self.seed, p) for n, p in zip(numbers, positions, strict=True)]
        return Batch(None, where, [], self.labels[rows], self.latents[views, rows], texts)
