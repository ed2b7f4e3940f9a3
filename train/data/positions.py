"""Photos as training positions: picture, crop, flip and noise are a pure function of (seed, position in the run)."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import torch
from datasets.distributed import split_dataset_by_node
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from drorae.checkpoints import reason_of
from drorae.images import ImageError, load_image, square, to_tensor
from train.data.captions import draw
from train.data.sources import Rows, load_photos
from train.errors import DataError
from train.settings import Schedule

TOLERATED = 50  # damaged pictures in a row, before the data set itself is at fault
SHUFFLE_BUFFER = 2000  # rows of a stream that are mixed


class Batch(NamedTuple):
    """What one micro-step sees.

    Attributes:
        images: (B, 3, H, W) in [0, 1]; ``None`` where their latents were computed before.
        positions: (B,) in the run.
        damaged: a note on every damaged picture met.
        labels: (B,) class numbers, -1 where the data has none.
        latents: (B, C, h, w) before normalisation, where they were computed before.
        captions: one per picture, where they were asked for.
    """

    images: Tensor | None
    positions: Tensor
    damaged: list[str]
    labels: Tensor | None = None
    latents: Tensor | None = None
    captions: list[str] | None = None

    def to(self, device: torch.device) -> Batch:
        """The same on another device, but for the positions: they are read by the host alone."""
        tensors = {k: v for k, v in self._asdict().items() if isinstance(v, Tensor) and k != "positions"}
        return self._replace(**{k: v.to(device, non_blocking=True) for k, v in tensors.items()})


# image, position, notes on damaged pictures, label, caption
Sample = tuple[Tensor | None, int, list[str], int, str | None]


class Crop(NamedTuple):
    """How a training picture is cut: shorter side resized to ``resize`` pixels (when not ``None``), then a random
    square of ``scale`` times the shorter side, resized to the training size but never enlarged while the picture has
    a larger square; mirrored half of the time if ``flip``. ``centre`` takes the central square, as ADM does, instead.
    """

    resize: int | None
    scale: tuple[float, float]
    flip: bool
    centre: bool = False


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
                f"--shares {' '.join(map(str, shares))}: give one whole number of 1 or more for each of {len(counts)} "
                "sources, none of which may be empty."
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
        captions: of every row over all sources, where they are wanted.
        shares: how often each source is drawn, see :class:`Positions`; ``None``: by its size.
    """

    def __init__(
        self,
        sources: Sequence[Rows],
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
                picture = open_row(row, f"training photo {index}")
            except ImageError as error:
                damaged.append(str(error))
                continue
            text = None if self.captions is None else draw(self.captions[index], self.seed, position)
            image = cut(picture, side_at(self.size, position), self.crop, self.seed, position)
            return image, position, damaged, label_of(row), text
        raise DataError(f"{TOLERATED} training pictures in a row cannot be read; the first: {damaged[0]}")


class TrainingStream:
    """The same for data that can only be read in order: streamed tar shards, parquet or hub data sets.

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

    def _endless(self, rank: int, world: int) -> Iterator[dict]:
        rows = split_dataset_by_node(self.rows.shuffle(self.seed, buffer_size=SHUFFLE_BUFFER), rank, world)
        epoch = 0
        while True:
            rows.set_epoch(epoch)
            count = 0
            for row in rows:
                count += 1
                yield row
            if not count:
                raise DataError(f"a stream has no rows for process {rank} of {world}; use at least {world} shards.")
            epoch += 1

    def batches(self, schedule: Schedule, start_step: int, rank: int, world: int) -> Iterator[Batch]:
        """This process's batches from ``start_step`` to the end, decoded ahead by a few threads."""
        micro = schedule.micro_batch(world)
        rows = enumerate(self._endless(rank, world))
        recent: deque = deque(maxlen=TOLERATED)
        for _ in range(start_step * schedule.accumulation * micro):
            recent.append(next(rows))

        def prepare(item: tuple[int, dict]) -> Sample:
            number, row = item
            position = number * world + rank  # unique, which is all that crop, flip and noise ask for
            try:
                picture = open_row(row, f"a picture of the stream{'' if '__key__' in row else f', row {position}'}")
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
                whole = last[0] if last[0].shape[-1] == side else resized(last[0], side)
                batch.append((whole, position, damaged, *last[1:]))
            yield collate(batch)


def side_at(size: int | Callable[[int], int], position: int) -> int:
    """The side of the picture at a position of the run, pixels."""
    return size(position) if callable(size) else size


def prefetch(work: Callable[[Any], Any], items: Iterable[Any], threads: int) -> Iterator[Any]:
    """``map(work, items)`` in order on a few threads, never more than a few items ahead."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 4 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def resized(image: Tensor, side: int) -> Tensor:
    """An image (3, H, H) in [0, 1] at another side."""
    return F.interpolate(image[None], (side, side), mode="bicubic", antialias=True)[0].clamp(0, 1)


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples to one batch."""
    images, positions, damaged, labels, captions = zip(*samples, strict=True)
    notes = [note for notes in damaged for note in notes]
    texts = None if captions[0] is None else list(captions)
    return Batch(torch.stack(images), torch.tensor(positions), notes, torch.tensor(labels), None, texts)


def label_of(row: dict) -> int:
    """The class number of a row, -1 without one."""
    label = row.get("label")
    return label if isinstance(label, int) else -1


def open_row(row: dict, name: str) -> Image.Image:
    """The picture of a row, encoded or not, as upright RGB.

    Raises:
        ImageError: it is damaged or cannot be read; the message names its file where the data set knows it.
    """
    picture = row["image"]
    if isinstance(picture, dict):
        path = picture.get("path") or row.get("__key__")
        name = f"{name}, {path}" if path else name
        picture = picture["bytes"] if picture.get("bytes") else picture.get("path")
    if picture is None:
        raise ImageError(f"'{name}' has no picture.")
    try:
        return load_image(picture, name=name)
    except OSError as error:  # no permission, a name that is too long, a disk that fails
        raise ImageError(f"'{name}' cannot be read ({error.strerror or reason_of(error)}).") from error


def cut(picture: Image.Image, size: int, crop: Crop, seed: int, position: int) -> Tensor:
    """Random crop and flip of position ``position``, as a tensor (3, size, size) in [0, 1]."""
    if crop.resize is not None:
        factor = crop.resize / min(picture.size)
        target = [max(crop.resize, round(side * factor)) for side in picture.size]
        picture = picture.resize(target, Image.Resampling.BICUBIC)
    if crop.centre:
        image = to_tensor(adm_square(picture, size))
        return image.flip(-1) if crop.flip and mirrored(seed, position) else image
    return to_tensor(random_crop(picture, size, crop.scale, crop.flip, random.Random(f"{seed}-{position}")))


def crop_squares(images: Tensor, corners: Tensor, side: int) -> Tensor:
    """Of every image (B, C, H, W) the square whose upper left corner is ``corners`` (B, 2), row and column: (B, C,
    side, side). All at once, and differentiable."""
    steps = torch.arange(side, device=images.device)
    rows, columns = (corners[:, axis, None] + steps for axis in (0, 1))
    count, channels, _, width = images.shape
    strip = images.gather(2, rows[:, None, :, None].expand(count, channels, side, width))
    return strip.gather(3, columns[:, None, None, :].expand(count, channels, side, side))


def mirrored(seed: int, position: int) -> bool:
    """Whether the central square at this position of the run is mirrored."""
    return random.Random(f"mirror-{seed}-{position}").random() < 0.5


def random_crop(
    picture: Image.Image, size: int, scale: tuple[float, float], flip: bool, rng: random.Random
) -> Image.Image:
    """Random square crop, resized to ``size`` where it is not that large already, mirrored half of the time."""
    shorter = min(picture.size)
    smallest = min(1.0, size / shorter)  # a smaller square would only be enlarged
    side = shorter * rng.uniform(max(scale[0], smallest), max(scale[1], smallest))
    left = rng.uniform(0, picture.width - side)
    top = rng.uniform(0, picture.height - side)
    if round(side) == size:
        left, top = round(left), round(top)
        crop = picture.crop((left, top, left + size, top + size))
    else:
        crop = picture.resize((size, size), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip and rng.random() < 0.5 else crop


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
    rows: Rows | datasets.IterableDataset = load_photos(path, split, option, streaming=not Path(path).exists())
    if isinstance(rows, datasets.IterableDataset):
        rows = rows.take(limit) if limit else rows
        rows = list(rows) if in_memory else rows
    if not isinstance(rows, datasets.IterableDataset) and not len(rows):
        raise DataError(f"{option} {path}: its split '{split}' has no rows.")
    return ValidationPhotos(rows, size, limit, crop, workers)


def adm_square(picture: Image.Image, size: int) -> Image.Image:
    """The centre crop of ADM (arXiv 2105.05233), which ImageNet's FID statistics were made with: halve by boxes while
    the shorter side is at least twice ``size``, resize it to ``size`` (bicubic), cut the centre."""
    while min(picture.size) >= 2 * size:
        picture = picture.resize(tuple(side // 2 for side in picture.size), Image.Resampling.BOX)
    scale = size / min(picture.size)
    picture = picture.resize(tuple(round(side * scale) for side in picture.size), Image.Resampling.BICUBIC)
    left, top = ((side - size) // 2 for side in picture.size)
    return picture.crop((left, top, left + size, top + size))


CROPS = {"square": square, "adm": adm_square}


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
        rows: Rows | datasets.IterableDataset,
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
        return to_tensor(self.crop(open_row(row, f"photo {number}"), self.size))

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
            raise DataError(f"none of {seen} pictures can be read{reason}")
