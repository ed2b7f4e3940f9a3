"""Training pictures that lie on the GPU as bytes: nothing is decoded, copied or waited for while training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from drorae.images import ImageError
from train.data.batches import Batch
from train.data.crops import Crop, adm_square, crop_squares
from train.data.draws import uniform_draws
from train.data.positions import Positions
from train.data.rows import label_of, picture_of
from train.data.sources import PictureRows
from train.settings import Schedule

STORED_SIDE = 224  # pixels; all pictures are kept as squares of this side


def decode_all(sources: Sequence[PictureRows], side: int, threads: int) -> tuple[Tensor, Tensor, list[str]]:
    """The central squares of all rows as bytes (n, 3, side, side), their labels (n,), and notes on damaged pictures,
    which are grey."""
    rows = [(s, i) for s, source in enumerate(sources) for i in range(len(source))]
    pictures = torch.empty(len(rows), 3, side, side, dtype=torch.uint8)
    labels = torch.empty(len(rows), dtype=torch.long)

    def read(number: int) -> str | None:
        source, index = rows[number]
        row = sources[source][index]
        labels[number] = label_of(row)
        try:
            picture, note = adm_square(picture_of(row, f"training photo {number}"), side), None
        except ImageError as error:
            picture, note = Image.new("RGB", (side, side), (128, 128, 128)), str(error)
        pictures[number] = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        return note

    with ThreadPoolExecutor(threads) as pool:
        notes = [note for note in pool.map(read, range(len(rows))) if note]
    return pictures, labels, notes


def to_device(numbers: list[int], device: torch.device) -> Tensor:
    """Whole numbers on the device, without waiting for what it is doing."""
    here = torch.tensor(numbers)
    return here.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else here.to(device)


class DevicePictures(Positions):
    """Pictures on the GPU by :class:`~train.data.positions.Positions`, cropped and mirrored there.

    All pictures of a step have the same scale, each its own place, so that one resampling serves the whole step.

    Args:
        pictures: (n, 3, S, S) bytes, those of one source after those of another.
        labels: (n,) class numbers.
        counts: number of pictures of each source.
        shares: see :class:`~train.data.positions.Positions`.
    """

    def __init__(
        self,
        pictures: Tensor,
        labels: Tensor,
        counts: Sequence[int],
        crop: Crop,
        seed: int,
        device: torch.device,
        shares: Sequence[int] | None = None,
    ):
        super().__init__(counts, seed, shares)
        self.captions: list[list[str]] | None = None
        self.pictures, self.labels = pictures.to(device), labels.to(device)
        self.crop, self.device, self.sources = crop, device, [range(count) for count in counts]

    def batches(self, schedule: Schedule, start_step: int, rank: int, world: int) -> Iterator[Batch]:
        """All batches from ``start_step`` to the end."""
        size = schedule.micro_batch(world)
        for step in range(start_step, schedule.steps):
            for part in range(rank, schedule.accumulation * world, world):
                first = step * schedule.batch_size + part * size
                yield self.batch(range(first, first + size), schedule.side(step), step)

    @torch.no_grad()
    def batch(self, positions: range, side: int, step: int) -> Batch:
        """The pictures of some positions at ``side`` pixels."""
        numbers = to_device([self.index(p) for p in positions], self.device)
        images = self.pictures[numbers].float() / 255
        where = torch.arange(positions.start, positions.stop, device=self.device)
        stored = images.shape[-1]
        low, high = (max(scale, side / stored) for scale in self.crop.scale)
        scale = low + (high - low) * uniform_draws(self.seed, torch.tensor([step]), 1, "scale").item()
        resized = max(side, round(side / scale))
        if resized != stored:
            images = F.interpolate(images, (resized, resized), mode="bicubic", antialias=True).clamp(0, 1)
        draws = uniform_draws(self.seed, where, 3, "place")
        images = crop_squares(images, (draws[:, :2] * (resized - side + 1)).long(), side)
        if self.crop.flip:
            images = torch.where((draws[:, 2] < 0.5)[:, None, None, None], images.flip(-1), images)
        return Batch(images, where, [], self.labels[numbers])
