"""Tab *Batch*: many pictures in one table, best, worst and most harmed first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from PIL import Image

from drorae.checkpoints import CheckpointError
from drorae.explorer.batch import explore_batch
from drorae.images import ImageError
from drorae.ui.components import BatchViewer
from drorae.ui.models import Shelf
from drorae.ui.parsing import payload_of
from drorae.ui.status import status_line
from drorae.ui.uploads import open_upload, upload_names
from drorae.viewers.values import batch_value

MAX_BATCH = 500
SECONDS = 1.0  # between two looks at a running batch


class BatchTab(NamedTuple):
    """Inputs, buttons and outputs of the tab. ``explored`` holds the files of the rows that are shown."""

    files: gr.File
    folder: gr.UploadButton
    run: gr.Button
    stop: gr.Button
    status: gr.HTML
    viewer: BatchViewer
    explored: gr.State


def build() -> BatchTab:
    """Build the tab; nothing is computed before somebody gives it pictures."""
    with gr.Tab("Batch", id="batch"):
        gr.Markdown(
            f"Up to {MAX_BATCH} pictures at once: how much each of them gains, how much is harmed, and which layer "
            "has the largest share.",
            elem_id="batch-introduction",
        )
        files = gr.File(
            file_count="multiple",
            file_types=["image", ".avif", ".heic", ".heif"],
            label="Pictures",
            height=150,
            elem_id="batch-files",
        )
        with gr.Row():
            run = gr.Button("Explore all", variant="primary", elem_id="batch-run")
            folder = gr.UploadButton("Choose a folder", file_count="directory", elem_id="batch-folder")
            stop = gr.Button("Stop", variant="stop", interactive=False, elem_id="batch-stop")
        status = gr.HTML(elem_id="batch-status")
        viewer = BatchViewer(elem_id="batch")
        explored = gr.State([])
    return BatchTab(files, folder, run, stop, status, viewer, explored)


def button_states(running: bool) -> list[gr.Button]:
    """Which of the buttons *Explore all* and *Stop* can be pressed."""
    return [gr.Button(interactive=not running), gr.Button(interactive=running)]


def explore_all(shelf: Shelf, paths: list[str] | None, name: str) -> Iterator[tuple[Any, ...]]:
    """Explore pictures one after another, yielding status line, table, both buttons, and the paths of its rows; the
    last value has all rows.

    Args:
        shelf: where the model is.
        paths: the pictures.
        name: of the model.
    """
    try:
        if not paths:
            raise ImageError("Choose pictures first.")
        if len(paths) > MAX_BATCH:
            raise ImageError(f"{len(paths)} pictures are too many; choose at most {MAX_BATCH}.")
        model = shelf.get(name)
    except (CheckpointError, ImageError) as error:
        yield (status_line(str(error), error=True), gr.skip(), *button_states(False), gr.skip())
        return
    rows, yielded = [], -SECONDS
    for row in explore_batch(paths, model, names=upload_names(paths), read=open_upload):
        rows.append(row)
        if len(rows) < len(paths) and time.monotonic() - yielded >= SECONDS:
            yielded = time.monotonic()
            yield (status_line(""), batch_value(rows, len(paths), True), *button_states(True), paths)
    yield (status_line(""), batch_value(rows, len(paths), False), *button_states(False), paths)


def stop() -> tuple[Any, ...]:
    """Status line, table and buttons of a batch that was stopped; its rows stay."""
    return (status_line("Stopped."), gr.update(stopped=time.time()), *button_states(False))


def open_row(event: gr.EventData, paths: list[str]) -> tuple[Any, ...]:
    """Make a picture of the batch the page's picture, under its own name: status line, its path, and the tab to open.

    Args:
        event: brings the ``index`` of the row.
        paths: of all rows.
    """
    index = payload_of(event).get("index")
    try:
        if not isinstance(index, int) or not 0 <= index < len(paths):
            raise ImageError("That picture is no longer there; choose the pictures again.")
        open_upload(paths[index])  # a bad one stays a row
        return (status_line(""), paths[index], gr.Tabs(selected="compare"))
    except ImageError as error:
        return (status_line(str(error), error=True), gr.skip(), gr.skip())


def picture_files(paths: list[str]) -> list[str]:
    """The files of a folder that can be pictures."""
    known = {*Image.registered_extensions(), ".heic", ".heif"}
    return [path for path in paths if Path(path).suffix.lower() in known]
