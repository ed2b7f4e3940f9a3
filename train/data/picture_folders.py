"""Folders of pictures as data sets: the first level may name splits, the level below names classes, and a table
``metadata.jsonl`` (``.csv``, ``.parquet``) may say more about each picture."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from PIL import Image

from drorae.errors import reason_of
from train.errors import DataError

SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
TABLES = {
    "metadata.jsonl": pyarrow.json.read_json,
    "metadata.csv": pyarrow.csv.read_csv,
    "metadata.parquet": pyarrow.parquet.read_table,
}
FILE_NAME = "file_name"  # the column that says which picture a row is about, relative to the table's folder


def load_picture_folder(root: Path, split: str, where: str) -> datasets.Dataset:
    """The pictures of a split with ``image`` (encoded), ``label`` where there are class folders, and what a table says.

    The folders of the first level name splits (see :func:`split_folders`); without such folders everything is the
    training split. The first level below is the class, however deep the picture lies. Links are followed, hidden files
    left out. Where there is a table, the pictures are those that it lists.

    Args:
        root: an absolute path without links, so that the fingerprint names the files themselves.
        where: named in messages.

    Raises:
        FileNotFoundError: there are no such pictures.
        DataError: a table that cannot be used.
    """
    folders = split_folders(root, split, where)
    found = {file: folder for folder in folders for file in walk(folder, where)}
    named = [file for file in found if is_picture(file)]
    pictures = [file for file in named if _is_text(file)]
    if len(pictures) < len(named):
        count = len(named) - len(pictures)
        say(f"{where}: {count} of {len(named)} pictures are left out, whose names are not UTF-8; rename them.")
    if not pictures:
        raise FileNotFoundError("there are no pictures")
    tables = {file: None for file in (*(root / name for name in TABLES), *found) if file.name in TABLES}
    rows = _read_tables([file for file in tables if file.is_file()], where)
    if rows:
        pictures = _select_listed(pictures, rows, where)
    about = pa.Table.from_pylist([rows[file] for file in pictures]) if rows else pa.table({})
    features = datasets.Features.from_arrow_schema(about.schema)
    columns = {name: about.column(name) for name in about.column_names}
    if "label" not in columns:
        classes = [_class_of(file.relative_to(found[file])) for file in pictures]
        names = sorted({name for name in classes if name is not None})
        if names:
            numbers = {name: number for number, name in enumerate(names)}
            columns["label"] = pa.array([None if name is None else numbers[name] for name in classes], pa.int64())
            features["label"] = datasets.ClassLabel(names=names)
            if None in classes:
                say(f"{where}: no class folder holds {classes.count(None)} of {len(pictures)} pictures.")
    paths = pa.array([str(file) for file in pictures], pa.string())
    columns["image"] = pa.StructArray.from_arrays([pa.nulls(len(pictures), pa.binary()), paths], ["bytes", "path"])
    features["image"] = datasets.Image(decode=False)
    table = datasets.table.InMemoryTable(pa.table(columns))
    features = datasets.Features({name: features[name] for name in columns})
    fingerprint = _fingerprint([*pictures, *tables], split)
    return datasets.Dataset(table, datasets.DatasetInfo(features=features), fingerprint=fingerprint)


def split_folders(root: Path, split: str, where: str) -> list[Path]:
    """The folders of the first level that hold a split; ``root`` itself for training where none of them names a split.

    They name splits where all of them are called as splits are, where one for training and another split are among
    them, or where those so called hold folders and no pictures. So ``cat``, ``train`` and ``bus`` are classes. Folders
    that are then in no split are named on the error stream.

    Raises:
        FileNotFoundError: there is nothing of this split.
    """
    # a split of another name is the folder of that name
    known = {split.lower(): split} | {name: key for key, names in SPLITS.items() for name in names}
    holders = [folder for folder in _folders(root) if next(filter(is_picture, walk(folder, where)), None) is not None]
    kinds = {
        folder: known.get(folder.name.lower(), folder.name if folder.name == split else None) for folder in holders
    }
    named = {folder: kind for folder, kind in kinds.items() if kind is not None}
    others = [folder.name for folder in holders if folder not in named]
    several = "train" in named.values() and len(set(named.values())) > 1
    if not named or (others and not several and any(is_picture(file) for folder in named for file in folder.iterdir())):
        if split != "train":
            raise FileNotFoundError(f"no folder of the first level is called '{split}'")
        return [root]
    folders = [folder for folder, kind in named.items() if kind == split]
    if not folders:
        raise FileNotFoundError(f"the first level has {', '.join(repr(folder.name) for folder in named)} only")
    if others:
        say(f"{where}: the pictures in {', '.join(map(repr, others))} are in no split and left out.")
    return folders


def walk(folder: Path, where: str, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """All files below a folder in order of their names, but hidden ones; links are followed, once around a circle.

    Folders that cannot be listed are named on the error stream.
    """
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        with os.scandir(folder) as found:
            entries = sorted((entry for entry in found if not _is_hidden(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        say(f"{where}: '{folder}' cannot be listed ({error.strerror}); its pictures are left out.")
        return
    for entry in entries:
        if entry.is_dir():
            yield from walk(Path(entry.path), where, (*above, real))
        else:
            yield Path(entry.path)


def is_picture(file: Path) -> bool:
    """Whether a file is called as pictures are, readable here or not."""
    return file.suffix.lower() in _suffixes()


@functools.cache
def say(text: str) -> None:
    """Say something on the error stream, once."""
    print(text, file=sys.stderr)


@functools.cache
def _suffixes() -> frozenset[str]:
    Image.init()
    return frozenset(suffix for suffix, kind in Image.EXTENSION.items() if kind in Image.OPEN) | {".heic", ".heif"}


def _is_text(file: Path) -> bool:
    """Whether a path can be written down as text; Linux allows names of any bytes."""
    try:
        str(file).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__"))


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not _is_hidden(path.name))


def _class_of(path: Path) -> str | None:
    """The first level of a path below its split; ``None`` for a picture that lies in no folder."""
    return path.parts[0] if len(path.parts) > 1 else None


def _read_tables(tables: list[Path], where: str) -> dict[Path, dict]:
    """Rows by their picture, without the column that names it."""
    rows: dict[Path, dict] = {}
    again = total = 0
    for file in tables:
        try:
            read = TABLES[file.name](file).to_pylist()
        except (OSError, ValueError) as error:  # pyarrow's errors are of these kinds
            raise DataError(f"{where}: '{file}' cannot be read ({reason_of(error)}).") from error
        for row in read:
            name = row.pop(FILE_NAME, None)
            if not isinstance(name, str):
                raise DataError(f"{where}: a row of '{file}' names no picture in '{FILE_NAME}'.")
            place = Path(os.path.normpath(file.parent / name))
            again, total = again + (place in rows), total + 1
            rows[place] = row
    if again:
        said = f"{again} of {total} rows of metadata name a picture that an earlier row names; the last one is used."
        say(f"{where}: {said}")
    return rows


def _select_listed(pictures: list[Path], rows: dict[Path, dict], where: str) -> list[Path]:
    """The pictures that have a row; how many have none, and how many rows have no picture, is said."""
    listed = [file for file in pictures if file in rows]
    if not listed:
        raise DataError(f"{where}: the tables of metadata list none of {len(pictures)} pictures.")
    if len(listed) < len(pictures):
        count = len(pictures) - len(listed)
        say(f"{where}: no table of metadata lists {count} of {len(pictures)} pictures, which are left out.")
    missing = sum(not file.is_file() for file in rows)
    if missing:
        say(f"{where}: rows of metadata whose picture is not there: {missing} of {len(rows)}.")
    return listed


def _fingerprint(files: list[Path], split: str) -> str:
    """A hash of which files these are, how large, and when they were changed."""
    digest = hashlib.sha256(split.encode())
    for file in files:
        try:
            state = file.stat()
            digest.update(f"{file}\n{state.st_size}\n{state.st_mtime_ns}\n".encode(errors="surrogateescape"))
        except OSError:  # a link that leads nowhere
            digest.update(f"{file}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]
