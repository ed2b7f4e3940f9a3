"""Captions of training pictures: a column of texts, an icon's name and tags, or sentences made from the class name."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import datasets

from train.data.icons import is_icon_table, texts
from train.data.sources import GeneratedPictures, PictureRows, Table
from train.errors import DataError

COLUMNS = ("captions", "caption", "text", "txt")  # a list of texts, or one text
TEMPLATES = ("a photo of a {}", "a picture of a {}", "a {}", "this is a {}")


def captions_of(rows: PictureRows | datasets.IterableDataset, where: str = "--data") -> Callable[[dict], list[str]]:
    """A function from a row to all its captions.

    Raises:
        DataError: the data has neither captions nor class names.
    """
    if isinstance(rows, GeneratedPictures):
        return lambda row: [f"a {GeneratedPictures.CLASSES[row['label']]} disc"]
    if not isinstance(rows, datasets.Dataset | datasets.IterableDataset):  # held in memory
        raise DataError(f"{where}: the columns of rows in memory are not known; give a copy of the data on this disk.")
    if is_icon_table(rows.features):
        return lambda row: texts(row["caption"], row["tags"], row["style"])
    column = next((name for name in COLUMNS if name in rows.features), None)
    if column is not None:
        return lambda row: _texts(row[column])
    feature = rows.features.get("label")
    if isinstance(feature, datasets.ClassLabel):
        return lambda row: _sentences(feature.names, row["label"])
    raise DataError(f"{where}: the columns are {list(rows.features)}; captions are looked for in {', '.join(COLUMNS)}.")


def all_captions(sources: Sequence[Table]) -> list[list[str]]:
    """Captions of every row of all sources, without reading a picture."""
    result = []
    for source in sources:
        of = captions_of(source)
        if isinstance(source, datasets.Dataset | datasets.IterableDataset):
            source = source.remove_columns([name for name in source.column_names if name == "image"])
        result += [of(row) for row in source]
    return result


def draw(captions: list[str], seed: int, position: int) -> str:
    """One of the captions, by position in the run."""
    return random.Random(f"caption-{seed}-{position}").choice(captions) if captions else ""


def _texts(value: str | list[str] | None) -> list[str]:
    texts = [value] if isinstance(value, str) else (value or [])
    return [text.strip() for text in texts if text and text.strip()]


def _sentences(names: list[str], label: int | None) -> list[str]:
    """What can be said of a picture of a class; nothing of one that has no class."""
    if label is None or label < 0:
        return []
    return [template.format(_first_name(names[label])) for template in TEMPLATES]


def _first_name(name: str) -> str:
    """The first synonym, without underscores."""
    return name.split(",")[0].replace("_", " ")
