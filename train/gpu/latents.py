"""Latents of all training pictures on the GPU, for the denoisers: several views of each, computed once."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from drorae import AutoencoderDRoRAE
from train.data.batches import Batch
from train.data.captions import draw
from train.data.draws import uniform_draws
from train.data.latent_cache import encode_raw
from train.data.positions import Positions
from train.gpu.pictures import DevicePictures, to_device
from train.settings import Schedule

BATCH = 128


class _InOrder(DevicePictures):
    """Pictures whose positions are their numbers."""

    def index(self, position: int, skip: int = 0) -> int:
        return position


@torch.no_grad()
def encode_views(model: AutoencoderDRoRAE, pictures: DevicePictures, views: int) -> Tensor:
    """Latents (views, n, C, h, w) in half precision before normalisation.

    Where training mirrors pictures, even views are mirrored in odd ones; the first two are of whole pictures, the
    others of random crops. Where it does not, they are drawings on white: the first view is of whole pictures, in the
    others they are as much smaller as a crop would be, at random places on white.
    """
    side, flip = model.image_size, pictures.crop.flip
    result: list[Tensor] = []
    for view in range(views):
        crop, mirrored = divmod(view, 2) if flip else (view, False)
        scale = pictures.crop.scale if crop else (1.0, 1.0)
        cut = _InOrder(
            pictures.pictures,
            pictures.labels,
            [pictures.count],
            pictures.crop._replace(scale=scale, flip=False),
            pictures.seed + crop,
            pictures.device,
        )
        parts = []
        for first in range(0, pictures.count, BATCH):
            numbers = range(first, min(first + BATCH, pictures.count))
            if crop and not flip:
                images = _on_white(cut, numbers, side, first)
            else:
                images = cut.batch(numbers, side, first).images
            images = images.flip(-1) if mirrored else images
            with torch.autocast(pictures.device.type, torch.bfloat16, enabled=pictures.device.type == "cuda"):
                parts.append(encode_raw(model, images).half())
        result.append(torch.cat(parts))
    return torch.stack(result)


def _on_white(pictures: DevicePictures, numbers: range, side: int, step: int) -> Tensor:
    """Whole pictures (B, 3, side, side), smaller by the scale of their crops, all at one random place on white."""
    draws = uniform_draws(pictures.seed, torch.tensor([step]), 3, "margin")[0].tolist()
    low, high = pictures.crop.scale
    smaller = round(side * (low + (high - low) * draws[0]))
    whole = copy.copy(pictures)
    whole.crop = pictures.crop._replace(scale=(1.0, 1.0))
    images = whole.batch(numbers, smaller, step).images
    left, top = (int(draw * (side - smaller + 1)) for draw in draws[1:])
    right, bottom = side - smaller - left, side - smaller - top
    return F.pad(images, (left, right, top, bottom), value=1.0)


class DeviceLatents(Positions):
    """Latents on the GPU by :class:`~train.data.positions.Positions`, one of the views of each, drawn by position.

    Args:
        latents: (views, n, C, h, w) before normalisation.
        captions: captions of every picture, where they are wanted.
        sources: what the pictures came from, one after another.
    """

    def __init__(
        self,
        latents: Tensor,
        labels: Tensor,
        seed: int,
        captions: Sequence[list[str]] | None = None,
        sources: Sequence[range] | None = None,
    ):
        super().__init__([latents.shape[1]], seed)
        self.latents, self.labels, self.captions = latents, labels, captions
        self.sources = sources or [range(latents.shape[1])]

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
