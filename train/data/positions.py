"""Photos as training positions: picture, crop, flip and noise are a pure function of (seed, position in the run)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from drorae.errors import count_of
from drorae.images import ImageError
from train.data.batches import Batch, Sample, collate
from train.data.captions import draw
from train.data.crops import Crop, cut
from train.data.rows import label_of, picture_of
from train.data.sources import PictureRows
from train.errors import DataError
from train.settings import Schedule

TOLERATED = 50  # damaged pictures in a row, before the data set itself is at fault


class Positions(Dataset):
    """Position p of a run is sample p mod n of epoch p div n, freshly permuted per epoch.

    A run that is resumed at position p therefore sees exactly what an uninterrupted run would have seen, on any number
    of processes.

    With ``shares`` the samples are parts of several sources, and of ``sum(shares)`` positions in a row so many belong
    to each: within its own positions a source goes through its epochs as above.

    Args:
        counts: number of different samples of each source.
        shares: whole numbers of 1 or more, one per source; ``None`` treats the sources as one.

    Raises:
        DataError: shares that do not fit the sources.
    """

    def __init__(self, counts: Sequence[int], seed: int, shares: Sequence[int] | None = None):
        if shares is not None and (len(shares) != len(counts) or min(shares) < 1 or min(counts) < 1):
            raise DataError(
                f"--shares {' '.join(map(str, shares))}: give {count_of(len(counts), 'whole number')} of 1 or more, "
                "one for each source, none of which may be empty."
            )
        self.count, self.seed, self.shares = sum(counts), seed, None if shares is None else tuple(shares)
        self._parts = [self.count] if shares is None else list(counts)
        self._starts = [0, *np.cumsum(self._parts).tolist()]
        self._orders: dict[int, tuple[int, np.ndarray]] = {}  # of each source the epoch it is in

    def index(self, position: int, skip: int = 0) -> int:
        """Which sample a position stands for, or the one ``skip`` after it in the same source."""
        source = 0
        if self.shares is not None:
            turn, place = divmod(position, sum(self.shares))
            while place >= self.shares[source]:
                place -= self.shares[source]
                source += 1
            position = turn * self.shares[source] + place
        epoch, offset = divmod(position, self._parts[source])
        if source not in self._orders or self._orders[source][0] != epoch:
            key = (self.seed, epoch) if source == 0 else (self.seed, epoch, source)
            self._orders[source] = epoch, np.random.default_rng(key).permutation(self._parts[source])
        _, order = self._orders[source]
        return self._starts[source] + int(order[(offset + skip) % self._parts[source]])

    def collate(self, samples: Sequence[Any]) -> Batch:
        """Samples to one batch."""
        return collate(samples)

    def batches(self, schedule: Schedule, start_step: int, rank: int, world: int) -> DataLoader:
        """This process's batches from ``start_step`` to the end; ``accumulation`` of them make a step."""
        micro = schedule.micro_batch(world)
        parts = schedule.accumulation * world
        chunks = [
            range(base, base + micro)
            for step in range(start_step, schedule.steps)
            for part in range(rank, parts, world)
            for base in [step * schedule.batch_size + part * micro]
        ]
        return DataLoader(
            self,
            batch_sampler=chunks,
            num_workers=schedule.workers,
            collate_fn=self.collate,
            pin_memory=torch.cuda.is_available(),
            # starting workers draws a seed; drawn from here, it leaves the random states of the run alone
            generator=torch.Generator().manual_seed(schedule.seed),
        )


class TrainingPositions(Positions):
    """Photos by :class:`Positions`, cropped and flipped. A damaged picture is replaced by the one after it.

    Args:
        sources: one or more sequences of rows with an ``image``; they are concatenated.
        size: side of the pictures, pixels, or a function from the position in the run to it.
        captions: captions of every row over all sources, where they are wanted.
        shares: how often each source is drawn, see :class:`Positions`; ``None``: by its size.
    """

    def __init__(
        self,
        sources: Sequence[PictureRows],
        size: int | Callable[[int], int],
        crop: Crop,
        seed: int,
        captions: list[list[str]] | None = None,
        shares: Sequence[int] | None = None,
    ):
        self.sources, self.size, self.crop, self.captions = sources, size, crop, captions
        counts = [len(source) for source in sources]
        self.ends = np.cumsum(counts)
        if not self.ends[-1]:
            raise DataError("--data: the training split has no rows")
        super().__init__(counts, seed, shares)

    @property
    def photos(self) -> int:
        """Number of different photos."""
        return self.count

    def row(self, index: int) -> dict:
        """A row by its number over all sources, its image still encoded."""
        source = int(np.searchsorted(self.ends, index, side="right"))
        return self.sources[source][index - (int(self.ends[source - 1]) if source else 0)]

    def __getitem__(self, position: int) -> Sample:
        """Image (3, size, size) in [0, 1], its position, notes on damaged pictures, its label and caption.

        Raises:
            DataError: dozens of pictures in a row are damaged.
        """
        damaged: list[str] = []
        for skip in range(TOLERATED):
            index = self.index(position, skip)
            row = self.row(index)
            try:
                picture = picture_of(row, f"training photo {index}")
            except ImageError as error:
                damaged.append(str(error))
                continue
            text = None if self.captions is None else draw(self.captions[index], self.seed, position)
            image = cut(picture, side_at(self.size, position), self.crop, self.seed, position)
            return image, position, damaged, label_of(row), text
        raise DataError(f"{TOLERATED} training pictures in a row cannot be read; the first: {damaged[0]}")


def side_at(size: int | Callable[[int], int], position: int) -> int:
    """The side of the picture at a position of the run, pixels."""
    return size(position) if callable(size) else size
