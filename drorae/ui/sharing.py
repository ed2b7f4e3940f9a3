"""What a visitor takes along: a report of the picture, and a link to the view."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gradio as gr

from drorae.checkpoints import CheckpointError
from drorae.explorer.explore import explore
from drorae.images import ImageError
from drorae.ui.examples import EXAMPLES, NAMES, example_of, example_path
from drorae.ui.models import Shelf
from drorae.ui.status import status_line
from drorae.ui.uploads import open_upload
from drorae.viewers.report import report

TABS = ("compare", "routing", "intervene", "frequency", "batch", "generate", "study", "about")
REPORT_FAILED = "The report could not be written; try again, or choose another picture."


def write_report(shelf: Shelf, path: str, name: str) -> dict[str, Any]:
    """The report of a picture for the button that asked for it: ``name`` and ``text`` of the file, or ``error``.

    Args:
        shelf: where the model is.
        path: the picture that is shown.
        name: of the model.
    """
    moment = time.time()  # an equal value would not reach the button, which waits for one
    try:
        model = shelf.get(name)
        picture = example_path(example_of(path)) or Path(path).name  # as the command can take it
        text = report(explore(open_upload(path), model), model, name, picture)
    except (CheckpointError, ImageError) as error:
        return {"error": str(error), "moment": moment}
    return {"name": f"drorae-{Path(path).stem}.html", "text": text, "moment": moment}


def report_failure() -> dict[str, Any]:
    """The answer to the button when something unforeseen happened: it must not be left waiting."""
    return {"error": REPORT_FAILED, "moment": time.time()}


def restore_view(example: str | None, tab: str | None) -> tuple[Any, ...]:
    """Picture, tab and status line that a link names; the viewers read the rest of it themselves.

    Args:
        example: name of one of the page's pictures.
        tab: one of ``TABS``.
    """
    chosen = gr.Tabs(selected=tab) if tab in TABS else gr.skip()
    if example is None or example == NAMES[0]:
        return gr.skip(), chosen, gr.skip()
    if example not in EXAMPLES:
        text = f"The link names an example '{example[:40]}' that is not here; there are {', '.join(NAMES)}."
        return gr.skip(), chosen, status_line(text, error=True)
    return EXAMPLES[example], chosen, gr.skip()


def open_link(request: gr.Request) -> tuple[Any, ...]:
    """:func:`restore_view` of the address that was opened."""
    return restore_view(request.query_params.get("example"), request.query_params.get("tab"))
