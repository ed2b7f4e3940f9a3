"""A person's photos as training data and held-out photos. Where the folder has a validation split of its own, that is
held out; else each photo's content decides, so that a photo stays on its side whatever is added or renamed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np

from drorae.images import ImageError
from train.data.rows import picture_of
from train.data.sources import GENERATED, PictureRows, load_photos
from train.errors import DataError

OPTION = "FOLDER"
LEAST_HELD_OUT, LEAST = 4, 20  # photos that are held out, and all that there are, at least
HEAD = 65536  # bytes of a photo that, with its length, stand for all of it
TRIED = 64  # photos that are opened before training begins
SPAN = 2**64


class FitPhotos(NamedTuple):
    """The photos of a folder.

    Attributes:
        train: what is trained on; a stream where they are tar shards.
        held_out: what is measured on.
        train_count: how many there are to train on.
        name: name of the folder.
        own_split: whether the folder itself says what is held out.
        digest: digest of all that decides what is held out.
    """

    train: PictureRows | datasets.IterableDataset
    held_out: PictureRows
    train_count: int
    name: str
    own_split: bool
    digest: str


def split_photos(folder: str, share: float) -> FitPhotos:
    """The photos of a folder, or of whatever else :func:`train.data.sources.load_photos` takes.

    Args:
        share: share of the photos that is held out, where the folder has no validation split; at least four are.

    Raises:
        DataError: nothing usable there, or too few photos.
    """
    rows = load_photos(folder, "train", OPTION)
    name = folder if folder == GENERATED else Path(folder).resolve().name or folder
    own = _own_split(folder)
    if own is not None:
        held_out = list(own) if isinstance(own, datasets.IterableDataset) else own
        count = sum(1 for _ in rows) if isinstance(rows, datasets.IterableDataset) else len(rows)
        photos = FitPhotos(rows, held_out, count, name, True, f"{count}-{len(held_out)}")
    else:
        photos = _split(rows, share, name)
    total = photos.train_count + len(photos.held_out)
    if total < LEAST or len(photos.held_out) < LEAST_HELD_OUT or photos.train_count < 1:
        raise DataError(
            f"{OPTION} {folder}: too few pictures to train and to measure on, {total}, of which "
            f"{len(photos.held_out)} held out; give at least {LEAST}, better some hundred."
        )
    if not isinstance(photos.train, datasets.IterableDataset):
        check_readable(photos.train, folder)
    check_readable(photos.held_out, folder)
    return photos


def check_readable(rows: PictureRows, folder: str) -> None:
    """Check that at least half of some photos, evenly spread, can be read; damaged ones among them are skipped later.

    Raises:
        DataError: how many cannot, and why the first cannot.
    """
    chosen = np.linspace(0, len(rows) - 1, min(TRIED, len(rows))).round().astype(int)
    notes = []
    for index in chosen:
        try:
            picture_of(rows[int(index)], f"photo {index}")
        except ImageError as error:
            notes.append(str(error))
    if 2 * len(notes) > len(chosen):
        raise DataError(
            f"{OPTION} {folder}: {len(notes)} of {len(chosen)} pictures that were tried cannot be read; the first: "
            f"{notes[0]}"
        )


def place_of(row: dict) -> int:
    """Where a photo falls between 0 and 2^64, by its content: the hash of its length and of its first 64 KiB.

    Equal photos fall on one place, whatever they are called. What cannot be opened falls by its name.
    """
    picture = row["image"]
    digest = hashlib.sha256()
    if not isinstance(picture, dict):  # drawn, not encoded
        digest.update(picture.tobytes())
    elif picture.get("bytes"):
        digest.update(str(len(picture["bytes"])).encode() + picture["bytes"][:HEAD])
    else:
        path = Path(picture.get("path") or "")
        try:
            with path.open("rb") as file:
                digest.update(str(path.stat().st_size).encode() + file.read(HEAD))
        except OSError:
            digest.update(path.name.encode(errors="surrogateescape"))
    return int.from_bytes(digest.digest()[:8], "big")


def threshold(places: Sequence[int], share: float) -> int:
    """Photos that fall at or below it are held out: ``share`` of the range, or more where fewer than four would be."""
    edge = int(share * SPAN)
    if sum(place <= edge for place in places) < LEAST_HELD_OUT:
        return sorted(places)[:LEAST_HELD_OUT][-1] if places else edge
    return edge


def _own_split(folder: str) -> Any:
    try:
        rows = load_photos(folder, "validation", OPTION)
    except DataError:
        return None
    return rows if isinstance(rows, datasets.IterableDataset) or len(rows) else None


def _split(rows: Any, share: float, name: str) -> FitPhotos:
    places = [place_of(row) for row in rows]
    edge = threshold(places, share)
    digest = hashlib.sha256(repr(sorted(places)).encode()).hexdigest()[:16]
    if isinstance(rows, datasets.IterableDataset):
        held_out: PictureRows = [row for row in rows if place_of(row) <= edge]
        train = rows.filter(lambda row: place_of(row) > edge)
        return FitPhotos(train, held_out, len(places) - len(held_out), name, False, digest)
    inside = [number for number, place in enumerate(places) if place <= edge]
    outside = [number for number, place in enumerate(places) if place > edge]
    return FitPhotos(_select(rows, outside), _select(rows, inside), len(outside), name, False, digest)


def _select(rows: Any, numbers: Iterable[int]) -> PictureRows:
    return rows.select(list(numbers)) if isinstance(rows, datasets.Dataset) else [rows[number] for number in numbers]
