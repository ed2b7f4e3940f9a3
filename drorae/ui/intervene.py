"""Tab *Intervene*: other strengths, fewer layers, regions, and whether the decoder still knows the latent."""

from __future__ import annotations

from typing import NamedTuple

import gradio as gr

from drorae.explorer.explore import Exploration
from drorae.ui.components import InterveneViewer
from drorae.ui.examples import NAMES
from drorae.viewers.values import intervene_value


class InterveneTab(NamedTuple):
    """The outputs of the tab; the note is for models without a router."""

    viewer: InterveneViewer
    note: gr.Markdown


def intervene_tab(first: Exploration) -> InterveneTab:
    """Build the tab around a finished example."""
    with gr.Tab("Intervene", id="intervene"):
        note = gr.Markdown(
            "This model mixes its layers without a router, or reads the last one only: there are no layers to "
            "switch and no strength to set.",
            visible=first.interventions is None,
            elem_id="no-interventions",
        )
        return InterveneTab(InterveneViewer(intervene_value(first, NAMES[0]), elem_id="intervene"), note)
