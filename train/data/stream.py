"""Training data that can only be read in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from datasets.distributed import split_dataset_by_node

from drorae.errors import count_of
from drorae.images import ImageError
from train.data.batches import Batch, Sample, collate
from train.data.captions import draw
from train.data.crops import Crop, cut, resize
from train.data.positions import TOLERATED, side_at
from train.data.prefetching import prefetch
from train.data.rows import label_of, picture_of
from train.errors import DataError
from train.settings import Schedule

SHUFFLE_BUFFER = 2000  # rows of a stream that are mixed


class TrainingStream:
    """Photos that can only be read in order, cropped and flipped: streamed tar shards, parquet or hub data sets.

    ``datasets`` shuffles the shards and a buffer of rows per epoch and splits them over the processes. A damaged
    picture is replaced by the one before it. A resumed run reads (without decoding) over what it has seen before, so it
    continues exactly, at the price of that reading.

    Args:
        rows: a ``datasets.IterableDataset`` with an encoded ``image``.
        size: side of the pictures, pixels, or a function from the position in the run to it.
        captions: from a row to all its captions, where they are wanted.
    """

    def __init__(
        self,
        rows: Any,
        size: int | Callable[[int], int],
        crop: Crop,
        seed: int,
        captions: Callable[[dict], list[str]] | None = None,
    ):
        self.rows, self.size, self.crop, self.seed, self.captions = rows, size, crop, seed, captions
        self.sources = [rows]

    def _endless_rows(self, rank: int, world: int) -> Iterator[dict]:
        rows = split_dataset_by_node(self.rows.shuffle(self.seed, buffer_size=SHUFFLE_BUFFER), rank, world)
        epoch = 0
        while True:
            rows.set_epoch(epoch)
            count = 0
            for row in rows:
                count += 1
                yield row
            if not count:
                raise DataError(
                    f"a stream has no rows for process {rank} of {world}; use at least {count_of(world, 'shard')}."
                )
            epoch += 1

    def batches(self, schedule: Schedule, start_step: int, rank: int, world: int) -> Iterator[Batch]:
        """This process's batches from ``start_step`` to the end, decoded ahead by a few threads."""
        micro = schedule.micro_batch(world)
        rows = enumerate(self._endless_rows(rank, world))
        recent: deque = deque(maxlen=TOLERATED)
        for _ in range(start_step * schedule.accumulation * micro):
            recent.append(next(rows))

        def prepare(item: tuple[int, dict]) -> Sample:
            number, row = item
            position = number * world + rank  # unique, which is all that crop, flip and noise ask for
            try:
                picture = picture_of(row, f"a picture of the stream{'' if '__key__' in row else f', row {position}'}")
            except ImageError as error:
                return None, position, [str(error)], -1, None
            text = None if self.captions is None else draw(self.captions(row), self.seed, position)
            image = cut(picture, side_at(self.size, position), self.crop, self.seed, position)
            return image, position, [], label_of(row), text

        # what a damaged picture is replaced by: the last whole one, also of an earlier sitting
        side = side_at(self.size, start_step * micro * world)
        last = torch.full((3, side, side), 0.5), -1, None if self.captions is None else ""
        for item in reversed(recent):
            image, _, _, *about = prepare(item)
            if image is not None:
                last = image, *about
                break
        samples = prefetch(prepare, rows, max(1, schedule.workers))
        missing = 0
        for _ in range((schedule.steps - start_step) * schedule.accumulation):
            batch = []
            for image, position, damaged, *about in islice(samples, micro):
                missing = 0 if image is not None else missing + 1
                if missing == TOLERATED:
                    raise DataError(f"{TOLERATED} pictures in a row cannot be read; the last: {damaged[0]}")
                last = (image, *about) if image is not None else last
                side = side_at(self.size, position)
                whole = last[0] if last[0].shape[-1] == side else resize(last[0], side)
                batch.append((whole, position, damaged, *last[1:]))
            yield collate(batch)
