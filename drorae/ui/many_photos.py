"""The page *Many photos*: a row of numbers for each, as the model of the page sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr
from PIL import Image

from drorae.checkpoints import CheckpointError
from drorae.explorer.batch import BatchRow, bad_row, distinct_names
from drorae.explorer.reading import check_size, cut_photo
from drorae.images import ImageError, Photo, load_image
from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.ui import durations, gpu, looking
from drorae.ui.lanes import goes_on
from drorae.ui.models import Shelf
from drorae.ui.photo import Wish, photo_path
from drorae.ui.turns import BATCHES
from drorae.ui.uploads import GONE, as_unicode, number_names
from drorae.viewers.values import batch_value

MAX_PHOTOS = 500
SECONDS = 1.0  # between two answers
TOGETHER = 16  # photos that are decoded before a GPU is borrowed; one at the beginning, so that something is seen soon
UNFORESEEN = "These photos could not all be read here. Try again, or choose others."


def page_config() -> dict[str, Any]:
    """What the view knows before anything is asked: how many photos it may send, and which files can be some."""
    return {"most": MAX_PHOTOS, "endings": picture_endings()}


def picture_endings() -> list[str]:
    """Endings of files that can be pictures, in small letters: a folder holds others, too."""
    return sorted({*Image.registered_extensions(), ".heic", ".heif"})


def answer(shelf: Shelf, wish: Wish) -> Iterator[dict[str, Any]]:
    """Answers to a wish, each an update of the channel: ``id`` of the wish, and ``value`` or ``error``."""
    number = wish.get("id")
    try:
        for value in explore_all(shelf, wish):
            yield gr.update(answer={"id": number, "value": value})
    except (CheckpointError, ImageError, gpu.GPUError) as error:
        yield gr.update(answer={"id": number, "error": as_unicode(str(error))})


def failure_answer(wish: Wish) -> dict[str, Any]:
    """The answer to a wish that broke off: it was stopped, or nobody foresaw what happened."""
    return gr.update(answer={"id": wish.get("id"), "error": UNFORESEEN, "moment": time.time()})


def explore_all(shelf: Shelf, wish: Wish) -> Iterator[dict[str, Any]]:
    """The kind ``photos``, again and again with more rows; the last one has all. A bad file is a row, too.

    Args:
        shelf: where the models are.
        wish: ``files``, each the ``path`` of an upload or an ``example``; their ``names``; ``model``.

    Raises:
        CheckpointError: the model is no longer loaded.
        ImageError: no photos, or too many.
    """
    files = wish.get("files")
    if not isinstance(files, list) or not files:
        raise ImageError("Choose photos first.")
    if len(files) > MAX_PHOTOS:
        raise ImageError(f"{len(files)} photos are too many; choose at most {MAX_PHOTOS}.")
    model = shelf.get(wish.get("model") or shelf.first)
    rows, sent = [], -SECONDS
    reading = explore_files(files, model, names_of(wish, len(files)), read_upload)
    for row in BATCHES.step_by_step(reading, goes_on):
        rows.append(row)
        if len(rows) == len(files) or time.monotonic() - sent >= SECONDS:
            sent = time.monotonic()
            yield batch_value(rows, len(files))


def explore_files(
    files: Sequence[Any],
    model: AutoencoderDRoRAE,
    names: Sequence[str],
    read: Callable[[Any, str], Image.Image],
    size: int | None = None,
    whole: bool = False,
) -> Iterator[BatchRow]:
    """What :func:`drorae.explorer.batch.explore_batch` yields: photos are decoded here, some at a time, and go where
    networks run.

    Raises:
        ImageError: a size that the model does not work at, or whole pictures, where it takes squares only.
        GPUError: there is no GPU.
    """
    check_size(model, size, whole)
    both = list(zip(files, names, strict=True))
    together = TOGETHER if gpu.ON_ZEROGPU else 1
    for some in [both[:1], *(both[start : start + together] for start in range(1, len(both), together))]:
        bad, cuts = {}, []
        for place, (file, name) in enumerate(some):
            try:
                cuts.append((name, cut_photo(Photo.of(read(file, name)), model, size, whole)))
            except ImageError as error:
                bad[place] = bad_row(name, error)
        seconds = durations.painting_seconds(*(cut for _, cut in cuts))
        good = gpu.stream(looking.rows, model, cuts, seconds=seconds) if cuts else iter(())
        for place in range(len(some)):
            yield bad[place] if place in bad else next(good)
        for _ in good:  # there is none; a stream that was not left early gives its process back
            pass


def names_of(wish: Wish, count: int) -> list[str]:
    """What the rows are called: the visitor's names with as many folders as tell them apart, numbered where they are
    the same nevertheless."""
    names = wish.get("names")
    if not isinstance(names, list) or len(names) != count:
        names = ["photo"] * count
    return number_names(distinct_names([as_unicode(str(name)) for name in names]))


def read_upload(file: Any, name: str) -> Image.Image:
    """A photo that was uploaded, or an example by its name.

    Raises:
        ImageError: it cannot be used, or is gone.
    """
    if not isinstance(file, dict):
        raise ImageError(GONE)
    return load_image(photo_path({"example": file.get("example"), "file": file}), name)
