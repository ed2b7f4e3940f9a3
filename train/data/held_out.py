"""Held-out photos: centre crops in the order of their data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
import numpy as np
import torch
from torch import Tensor

from drorae.images import ImageError, to_tensor
from train.data.crops import CROPS
from train.data.prefetching import prefetch
from train.data.rows import label_of, picture_of
from train.data.sources import PictureRows, load_photos
from train.errors import DataError


def load_held_out(
    path: str,
    split: str,
    size: int,
    limit: int | None = None,
    crop: str = "square",
    option: str = "--data",
    workers: int = 2,
    in_memory: bool = True,
) -> ValidationPhotos:
    """The held-out photos of any source. Streams, and data sets on the hub, whose other splits stay where they are, are
    read into memory, still encoded; of them ``limit`` takes the first.

    Args:
        workers: threads that read pictures.
        in_memory: ``False`` reads a stream as often as its pictures are asked for, in order, and keeps none.

    Raises:
        DataError: nothing usable there, or nothing at all.
    """
    rows: PictureRows | datasets.IterableDataset = load_photos(path, split, option, streaming=not Path(path).exists())
    if isinstance(rows, datasets.IterableDataset):
        rows = rows.take(limit) if limit else rows
        rows = list(rows) if in_memory else rows
    if not isinstance(rows, datasets.IterableDataset) and not len(rows):
        raise DataError(f"{option} {path}: its split '{split}' has no rows.")
    return ValidationPhotos(rows, size, limit, crop, workers)


class ValidationPhotos:
    """Held-out photos, centre crop; at most ``limit`` of them, evenly spread over the set. Damaged ones are skipped.

    Args:
        rows: a sequence, or a stream, of which all are taken, in order, by :meth:`batches` alone.
        crop: ``"square"`` (central square, one Lanczos resampling) or ``"adm"``, see :func:`adm_square`.
        workers: threads that read pictures.

    Attributes:
        count: how many there are; ``None`` for a stream.
        damaged: a note on every damaged picture met so far.
    """

    def __init__(
        self,
        rows: PictureRows | datasets.IterableDataset,
        size: int,
        limit: int | None = None,
        crop: str = "square",
        workers: int = 2,
    ):
        self.rows, self.size, self.crop, self.workers = rows, size, CROPS[crop], workers
        self.streamed = isinstance(rows, datasets.IterableDataset)
        self.count: int | None = None
        if not self.streamed:
            self.count = len(rows) if limit is None else min(limit, len(rows))
            self.indices = np.linspace(0, len(rows) - 1, self.count).round().astype(int)
        self.damaged: list[str] = []
        self._readable: list[int] = []

    def __len__(self) -> int:
        return len(self.indices)

    def _rows(self) -> Iterator[tuple[int, dict]]:
        """The chosen rows with their numbers."""
        if self.streamed:
            yield from enumerate(self.rows)
        else:
            for i in range(len(self)):
                yield int(self.indices[i]), self.row(i)

    def row(self, i: int) -> dict:
        """The i-th chosen row, its image still encoded."""
        return self.rows[int(self.indices[i])]

    def __getitem__(self, i: int) -> Tensor:
        """Image (3, size, size) in [0, 1].

        Raises:
            ImageError: the picture is damaged.
        """
        return self._picture(int(self.indices[i]), self.row(i))

    def _picture(self, number: int, row: dict) -> Tensor:
        return to_tensor(self.crop(picture_of(row, f"photo {number}"), self.size))

    def labels(self) -> Tensor | None:
        """Classes (M,) of the pictures that the last :meth:`batches` gave; ``None`` without class numbers."""
        if label_of(self.row(0)) < 0:
            return None
        return torch.tensor([label_of(self.row(i)) for i in self._readable])

    def captions(self, of: Callable[[dict], list[str]]) -> list[str]:
        """The first caption of each of the pictures that the last :meth:`batches` gave."""
        return [(of(self.row(i)) or [""])[0] for i in self._readable]

    def batches(self, batch_size: int) -> Iterator[Tensor]:
        """Images (B, 3, size, size) of the readable photos in order; the last batch may be smaller.

        Raises:
            DataError: not one can be read.
        """
        self.damaged, self._readable = [], []
        batch: list[Tensor] = []

        def read(item: tuple[int, dict]) -> Tensor | str:
            try:
                return self._picture(*item)
            except ImageError as error:
                return str(error)

        seen = 0
        for i, image in enumerate(prefetch(read, self._rows(), self.workers)):
            seen += 1
            if isinstance(image, str):
                self.damaged.append(image)
                continue
            self._readable.append(i)
            batch.append(image)
            if len(batch) == batch_size:
                yield torch.stack(batch)
                batch = []
        if batch:
            yield torch.stack(batch)
        if not self._readable:
            reason = f"; the first: {self.damaged[0]}" if self.damaged else ""
            raise DataError(f"no picture of {seen} can be read{reason}")
