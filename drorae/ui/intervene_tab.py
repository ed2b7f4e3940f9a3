"""Tab *Intervene*: other strengths, fewer layers, regions, and whether the decoder still knows the latent."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from drorae.checkpoints import CheckpointError
from drorae.explorer.explore import Exploration, intervene
from drorae.explorer.interventions import InterventionError
from drorae.images import ImageError
from drorae.ui.components import InterveneViewer
from drorae.ui.examples import NAMES
from drorae.ui.models import Shelf
from drorae.ui.parsing import intervention_of, payload_of
from drorae.ui.uploads import open_upload
from drorae.viewers.values import frame_value, intervene_value


class InterveneTab(NamedTuple):
    """The outputs of the tab; the note is for models without a router."""

    viewer: InterveneViewer
    note: gr.Markdown


def build(first: Exploration) -> InterveneTab:
    """Build the tab around a finished example."""
    with gr.Tab("Intervene", id="intervene"):
        note = gr.Markdown(
            "This model mixes its layers without a router, or reads the last one only: there are no layers to "
            "switch and no strength to set.",
            visible=first.interventions is None,
            elem_id="no-interventions",
        )
        return InterveneTab(InterveneViewer(intervene_value(first, NAMES[0]), elem_id="intervene"), note)


def values(result: Exploration, example: str | None) -> list[Any]:
    """An exploration for :class:`InterveneTab`."""
    return [
        gr.update(value=intervene_value(result, example), answer=None),
        gr.update(visible=result.interventions is None),
    ]


def answer(shelf: Shelf, event: gr.EventData, path: str, name: str) -> dict[str, Any]:
    """The viewer's ``answer`` to a wish: the ``frame`` of one intervention, or the ``error``, under the wish's ``id``.

    Args:
        shelf: where the model is.
        event: brings the wish.
        path: the picture that is shown.
        name: of the model.
    """
    wish = payload_of(event)
    try:
        frame = intervene(open_upload(path), shelf.get(name), intervention_of(wish))
    except (CheckpointError, ImageError, InterventionError) as error:
        return gr.update(answer={"id": wish.get("id"), "error": str(error)})
    return gr.update(answer={"id": wish.get("id"), "frame": frame_value(frame)})
