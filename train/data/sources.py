"""Where photos come from: parquet files, image folders, tar shards or a hub data set, all through ``datasets``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import datasets
import numpy as np
from PIL import Image

from drorae.errors import reason_of
from train.data.icons import STYLES, is_held_out, is_icon_table
from train.data.picture_folders import load_picture_folder
from train.errors import DataError

GENERATED = "generated"
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
LABELS = ("label", "labels", "fine_label", "cls")  # columns of class numbers; "cls" in tar shards
PICTURES, BYTES = ("image", "img", "jpg", "png", "webp"), ("binary", "large_binary")  # names, types of columns
STREAM_SHARDS = 64  # that a folder of pictures is read in, where it is streamed


class PictureRows(Protocol):
    """Rows by number, each with an ``image``: a data set, or a list of them in memory."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> dict: ...

    def __iter__(self) -> Iterator[dict]: ...


class Table(PictureRows, Protocol):
    """Rows that say what is in their columns: ``datasets.Dataset``, or :class:`GeneratedPictures`."""

    @property
    def features(self) -> datasets.Features:
        """Column to the kind of its values."""


def load_photos(
    path: str, split: str, option: str = "--data", streaming: bool = False
) -> Table | datasets.IterableDataset:
    """Rows whose ``image`` is still encoded (``{"bytes": ..., "path": ...}``), so that damaged ones can be skipped, and
    whose class number, where they have one, is called ``label``.

    ``path`` is, in this order: ``"generated"`` (drawn pictures, for smoke runs); one parquet file; a folder with
    ``{split}-*.parquet``; a folder with ``{split}-*.tar`` shards (WebDataset layout, always streamed); a folder of
    pictures (``{split}/class/picture.jpg``, see :func:`train.data.picture_folders.load_picture_folder`); the name of a
    data set on the hub, such as ``ILSVRC/imagenet-1k``.

    One file is the training split. A table of icons, however it comes, gives no caption to training that
    :func:`train.data.icons.is_held_out` holds out; of one file these are the validation split.

    Args:
        option: named in error messages.
        streaming: give a ``datasets.IterableDataset`` that is read while it is used.

    Raises:
        DataError: nothing usable there.
    """
    if path == GENERATED:
        return GeneratedPictures(64, seed=0 if split == "train" else 1)
    if not path.strip():
        raise DataError(f"{option}: the name of the data is empty; give a folder, a parquet file or a hub data set.")
    folder = Path(path)
    try:
        whole = folder.resolve()  # fingerprints name files: the same ones, however they were reached
        one_file = folder.is_file() and folder.suffix == ".parquet"
    except (OSError, ValueError) as error:  # a name that no system can have: too long, or with a null character
        reason = getattr(error, "strerror", None) or reason_of(error)
        raise DataError(f"{option} {path[:80]}: no folder can have this name ({reason}).") from error
    parquet = [str(whole)] if one_file else sorted(str(file) for file in whole.glob(f"{split}-*.parquet"))
    shards = sorted(str(file) for file in whole.glob(f"{split}-*.tar"))
    if not (folder.is_dir() or one_file) and (folder.exists() or not HUB_NAME.fullmatch(path)):
        raise DataError(
            f"{option} {path}: there is no such folder; give a folder of parquet files or of pictures, or one parquet "
            "file."
        )
    try:
        if parquet:
            rows = datasets.load_dataset("parquet", data_files=parquet, split="train", streaming=streaming)
        elif shards:
            rows = datasets.load_dataset("webdataset", data_files=shards, split="train", streaming=True)
        elif folder.is_dir():
            rows = load_picture_folder(whole, split, f"{option} {path}")
            rows = rows.to_iterable_dataset(min(len(rows), STREAM_SHARDS)) if streaming else rows
        else:
            rows = datasets.load_dataset(path, split=split, streaming=streaming)
    except DataError:
        raise
    except Exception as error:  # broken files, an unknown name, no network: many types, one thing to do
        reason = reason_of(error)
        if one_file:
            raise DataError(f"{option} {path}: this is not a parquet file that can be read ({reason}).") from error
        if parquet or shards:
            found = f"{split}-*.{'parquet' if parquet else 'tar'}"
            raise DataError(f"{option} {path}: its '{found}' cannot be read, or hold nothing ({reason}).") from error
        if folder.is_dir():
            raise DataError(
                f"{option} {path}: no '{split}-*.parquet' or '{split}-*.tar' files and no '{split}' pictures there "
                f"({reason})."
            ) from error
        raise DataError(
            f"{option} {path}: there is no such folder, and no data set of that name could be fetched from the hub "
            f"({reason})."
        ) from error
    rows = _with_label(_with_encoded_image(rows, f"{option} {path}"))
    if is_icon_table(rows.features):
        return _icons(rows, STYLES.get(folder.stem, "icon"), split, one_file)
    if one_file and split != "train":
        raise DataError(f"{option} {path}: one file has no split '{split}'; give a folder with '{split}-*.parquet'.")
    return rows


def _icons(rows, style: str, split: str, one_file: bool):
    """The icons of a split, with a column ``style``: those for training lack the captions that are held out."""
    wanted = split != "train"
    select = one_file or not wanted
    if isinstance(rows, datasets.IterableDataset):
        features = datasets.Features({**rows.features, "style": datasets.Value("string")})
        rows = rows.map(lambda row: {**row, "style": style}, features=features)
        return rows.filter(lambda row: is_held_out(row["caption"]) == wanted) if select else rows
    rows = rows.add_column("style", [style] * len(rows))
    if not select:
        return rows
    return rows.select([i for i, caption in enumerate(rows["caption"]) if is_held_out(caption) == wanted])


def _with_encoded_image(rows, where: str):
    """The same rows with one column ``image`` that is left undecoded."""
    if rows.features is None:  # a stream that does not say: its first row does
        rows = rows._resolve_features()
    columns = [name for name, feature in rows.features.items() if _holds_pictures(name, feature)]
    if "image" not in columns and len(columns) != 1:
        kinds = {name: getattr(feature, "dtype", type(feature).__name__) for name, feature in rows.features.items()}
        listed = ", ".join(f"'{name}' ({kind})" for name, kind in kinds.items())
        raise DataError(
            f"{where}: the columns are {listed}; the pictures, encoded, have to be in one that is called 'image'."
        )
    column = "image" if "image" in columns else columns[0]
    rows = rows.cast_column(column, datasets.Image(decode=False))  # before renaming, which would decode a stream
    return rows if column == "image" else rows.rename_column(column, "image")


def _holds_pictures(name: str, feature: Any) -> bool:
    """Whether a column holds encoded pictures: it says so, or it holds bytes, as in tables that other libraries than
    ``datasets`` wrote."""
    if isinstance(feature, dict):
        return {"bytes", "path"} >= set(feature) >= {"bytes"} and getattr(feature["bytes"], "dtype", "") in BYTES
    return isinstance(feature, datasets.Image) or (name in PICTURES and getattr(feature, "dtype", "") in BYTES)


def _with_label(rows):
    """The same rows with their class numbers, where there are any, in a column ``label``."""
    column = label_column(rows.features)
    return rows if column in (None, "label") else rows.rename_column(column, "label")


def label_column(features: datasets.Features) -> str | None:
    """The column of class numbers: one of ``LABELS``, or the only one that names classes; ``None`` where there is none.

    A column ``label`` is that column whatever it holds.
    """
    if "label" in features:
        return "label"
    classes = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    numbers = [name for name, feature in features.items() if getattr(feature, "dtype", "").startswith(("int", "uint"))]
    return next((name for name in LABELS if name in numbers), classes[0] if len(classes) == 1 else None)


def class_names(sources: Sequence[PictureRows], count: int | None = None, where: str = "--data") -> list[str]:
    """Names of the classes by number; none where the data has no classes.

    Args:
        count: how many there are, where the data does not say; their numbers are then their names.

    Raises:
        DataError: sources with different classes, labels that are not class numbers, a stream that does not say.
    """
    found = [_names(source, count, where) for source in sources]
    if any(names != found[0] for names in found):
        raise DataError(f"{where}: the sources have different classes; give one, or ones with the same classes.")
    return found[0]


def _names(rows: PictureRows | datasets.IterableDataset, count: int | None, where: str) -> list[str]:
    if isinstance(rows, GeneratedPictures):
        return list(GeneratedPictures.CLASSES)
    if not isinstance(rows, datasets.Dataset | datasets.IterableDataset):  # held in memory
        return [str(number) for number in range(count or 0)]
    column = label_column(rows.features)
    if column is None:
        return []
    if isinstance(rows.features[column], datasets.ClassLabel):
        return list(rows.features[column].names)
    if count is not None:
        return [str(number) for number in range(count)]
    if isinstance(rows, datasets.IterableDataset):
        raise DataError(f"{where}: a stream does not say how many classes it has; give --classes.")
    numbers = rows[column]
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise DataError(f"{where}: the labels in '{column}' are not class numbers; give a data set whose labels are.")
    return [str(number) for number in range(max(numbers, default=-1) + 1)]


class GeneratedPictures:
    """Coloured gratings and discs, different for every index and seed, in two classes: warm and cold discs."""

    CLASSES = ("warm", "cold")

    def __init__(self, count: int, seed: int, size: int = 48):
        self.count, self.seed, self.size = count, seed, size

    @property
    def features(self) -> datasets.Features:
        """The columns, as of a ``datasets.Dataset``."""
        return datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(self.CLASSES))})

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[dict]:
        return (self[index] for index in range(self.count))

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < self.count:
            raise IndexError(index)
        rng = np.random.default_rng((self.seed, index))
        y, x = np.mgrid[: self.size, : self.size] / self.size
        wave = np.sin(2 * np.pi * (rng.uniform(1, 6, 3) * x[..., None] + rng.uniform(1, 6, 3) * y[..., None]))
        disc = (x - rng.uniform()) ** 2 + (y - rng.uniform()) ** 2 < 0.05
        label = index % 2
        colour = rng.uniform(0, 1, 3) * ((1, 0.7, 0.2), (0.2, 0.7, 1))[label]
        picture = np.where(disc[..., None], colour, 0.5 + 0.4 * wave)
        return {"image": Image.fromarray((picture * 255).astype(np.uint8)), "label": label}
