"""Photos as training positions: picture, crop and flip are a pure function of (seed, position in the run)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from drorae.images import load_image, square, to_tensor

GENERATED = "generated"


class DataError(ValueError):
    """A data set that cannot be used; the message says what was looked for and where."""


def load_photos(path: str, split: str, option: str = "--data") -> Sequence[dict]:
    """Rows with an ``image`` from a folder of ``{split}-*.parquet`` files or an image folder with that split.

    ``"generated"`` gives drawn pictures instead, for smoke runs. ``option`` is named in error messages.

    Raises:
        DataError: nothing usable there.
    """
    if path == GENERATED:
        return GeneratedPictures(64, seed=0 if split == "train" else 1)
    folder = Path(path)
    if not folder.is_dir():
        raise DataError(f"{option} {path}: there is no such folder; give a folder of parquet files or of pictures.")
    files = sorted(str(file) for file in folder.glob(f"{split}-*.parquet"))
    try:
        if files:
            rows = datasets.load_dataset("parquet", data_files=files, split="train")
        else:
            rows = datasets.load_dataset("imagefolder", data_dir=str(folder), split=split)
    except (datasets.exceptions.DatasetGenerationError, FileNotFoundError, ValueError) as error:
        raise DataError(
            f"{option} {path}: no '{split}-*.parquet' files and no '{split}' pictures there ({error})."
        ) from None
    if "image" not in rows.column_names:
        raise DataError(f"{option} {path}: the columns are {rows.column_names}, and none is called 'image'.")
    return rows


class GeneratedPictures(Sequence):
    """Coloured gratings and discs, different for every index and seed."""

    def __init__(self, count: int, seed: int, size: int = 48):
        self.count, self.seed, self.size = count, seed, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < self.count:
            raise IndexError(index)  # which also ends a loop over the pictures
        rng = np.random.default_rng((self.seed, index))
        y, x = np.mgrid[: self.size, : self.size] / self.size
        wave = np.sin(2 * np.pi * (rng.uniform(1, 6, 3) * x[..., None] + rng.uniform(1, 6, 3) * y[..., None]))
        disc = (x - rng.uniform()) ** 2 + (y - rng.uniform()) ** 2 < 0.05
        picture = np.where(disc[..., None], rng.uniform(0, 1, 3), 0.5 + 0.4 * wave)
        return {"image": Image.fromarray((picture * 255).astype(np.uint8))}


class TrainingPositions(Dataset):
    """Position p of a run is sample p mod n of epoch p div n, freshly permuted per epoch, cropped and flipped.

    A run that is resumed at position p therefore sees exactly the pictures an uninterrupted run would have seen.

    Args:
        sources: one or more sequences of rows with an ``image``; they are concatenated.
        size: side of the pictures, pixels.
        crop_scale: side of the random square crop as a share of the short side, (low, high).
    """

    def __init__(self, sources: Sequence[Sequence[dict]], size: int, crop_scale: tuple[float, float], seed: int):
        self.sources, self.size, self.crop_scale, self.seed = sources, size, crop_scale, seed
        self.ends = np.cumsum([len(source) for source in sources])
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    @property
    def photos(self) -> int:
        """Number of different photos."""
        return int(self.ends[-1])

    def __getitem__(self, position: int) -> Tensor:
        epoch, offset = divmod(position, self.photos)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng((self.seed, epoch)).permutation(self.photos)
        index = int(self._order[offset])
        source = int(np.searchsorted(self.ends, index, side="right"))
        start = int(self.ends[source - 1]) if source else 0
        picture = load_image(self.sources[source][index - start]["image"], name=f"training photo {index}")
        return to_tensor(random_crop(picture, self.size, self.crop_scale, random.Random(f"{self.seed}-{position}")))


def random_crop(picture: Image.Image, size: int, scale: tuple[float, float], rng: random.Random) -> Image.Image:
    """Random square crop, resized to ``size``, mirrored half of the time."""
    side = min(picture.size) * rng.uniform(*scale)
    left = rng.uniform(0, picture.width - side)
    top = rng.uniform(0, picture.height - side)
    crop = picture.resize((size, size), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else crop


class ValidationPhotos(Dataset):
    """Held-out photos, centre crop; at most ``limit`` of them, evenly spread over the set."""

    def __init__(self, rows: Sequence[dict], size: int, limit: int | None = None):
        count = len(rows) if limit is None else min(limit, len(rows))
        self.rows, self.size = rows, size
        self.indices = np.linspace(0, len(rows) - 1, count).round().astype(int)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int) -> Tensor:
        index = int(self.indices[i])
        return to_tensor(square(load_image(self.rows[index]["image"], name=f"photo {index}"), self.size))
