"""The page's picture: exploring it fills the tabs *Compare*, *Routing*, *Intervene* and *Frequency*."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gradio as gr

from drorae.checkpoints import CheckpointError
from drorae.explorer.explore import Exploration, explore
from drorae.images import ImageError
from drorae.ui import intervene_tab, routing_tab
from drorae.ui.components import CompareViewer, FrequencyViewer
from drorae.ui.examples import example_of
from drorae.ui.models import Shelf
from drorae.ui.status import status_line, summary_line
from drorae.ui.uploads import open_upload
from drorae.viewers.values import compare_value, frequency_value

PROGRESS = gr.Progress()  # Gradio puts the request's own in its place


class Views(NamedTuple):
    """What a picture fills."""

    compare: CompareViewer
    routing: routing_tab.RoutingTab
    intervene: intervene_tab.InterveneTab
    frequency: FrequencyViewer

    def outputs(self) -> list[Any]:
        """The components, in the order of :func:`view_values`."""
        return [self.compare, *self.routing, *self.intervene, self.frequency]


def view_values(result: Exploration, example: str | None) -> list[Any]:
    """An exploration for :meth:`Views.outputs`; ``example`` is the name of the page's own picture, if it is one."""
    return [
        compare_value(result, example),
        *routing_tab.values(result, example),
        *intervene_tab.values(result, example),
        frequency_value(result),
    ]


NUM_VALUES = 2 + len(routing_tab.RoutingTab._fields) + len(intervene_tab.InterveneTab._fields)


def explore_picture(
    shelf: Shelf, path: str | None, name: str, progress: Callable[..., Any] = PROGRESS
) -> tuple[Any, ...]:
    """Rebuild a picture from the encoder's last layer and from all layers, say how the layers were routed, and what
    other strengths and fewer layers would have given.

    Args:
        shelf: where the model is.
        path: the picture; its central square is used. ``None`` when it was cleared.
        name: of the model.
        progress: called with (painted, all) interventions and what they are.

    Returns:
        The status line, the :func:`view_values`, and the path of the picture that they show. What is shown stays
        where there is no new picture.
    """
    kept = [gr.skip()] * (NUM_VALUES + 1)
    if path is None:
        return (status_line("Choose another picture, or keep looking at this one."), *kept)
    try:
        example = example_of(path)
        result = explore(
            open_upload(path), shelf.get(name), progress=lambda n, total: progress((n, total), desc="interventions")
        )
    except (CheckpointError, ImageError) as error:
        return (status_line(str(error), error=True), *kept)
    return (status_line(summary_line(result)), *view_values(result, example), path)
