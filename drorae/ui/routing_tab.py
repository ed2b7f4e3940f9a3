"""Tab *Routing*: the weight of every layer at every token."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from drorae.explorer.explore import Exploration
from drorae.study.plots import layer_profile
from drorae.ui.components import RoutingViewer
from drorae.ui.examples import NAMES
from drorae.viewers.values import routing_value


class RoutingTab(NamedTuple):
    """The outputs of the tab; what is to be said of a model without fusion is hidden otherwise, and the rest then."""

    viewer: RoutingViewer
    note: gr.Markdown
    heading: gr.Markdown
    profile: gr.Plot


def build(first: Exploration) -> RoutingTab:
    """Build the tab around a finished example."""
    routed = first.shares is not None
    with gr.Tab("Routing", id="routing"):
        note = gr.Markdown(
            "This model reads the last layer only, so there is no routing to show.",
            visible=not routed,
            elem_id="no-routing",
        )
        viewer = RoutingViewer(routing_value(first, NAMES[0]), elem_id="routing")
        heading = gr.Markdown(
            "### The whole photo in one line\nMean share of each layer over all tokens; the whiskers hold the middle "
            "80 % of them. A long whisker means that the layer is used in some places and not in others.",
            visible=routed,
        )
        profile = gr.Plot(profile_figure(first), show_label=False, container=False, visible=routed, elem_id="profile")
    return RoutingTab(viewer, note, heading, profile)


def values(result: Exploration, example: str | None) -> list[Any]:
    """An exploration for :class:`RoutingTab`."""
    routed = result.shares is not None
    return [
        routing_value(result, example),
        gr.update(visible=not routed),
        gr.update(visible=routed),
        gr.update(value=profile_figure(result), visible=routed),
    ]


def profile_figure(result: Exploration):
    """The chart of the tab, ``None`` for a model without fusion."""
    return None if result.shares is None else layer_profile(result.shares)
