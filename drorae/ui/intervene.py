"""Tab *Intervene*: other strengths, fewer layers, regions, and whether the decoder still knows the latent."""

from __future__ import annotations

import gradio as gr

from drorae.bundle import intervene_value
from drorae.explore import Exploration
from drorae.ui.components import InterveneViewer
from drorae.ui.examples import NAMES


def intervene_tab(first: Exploration) -> InterveneViewer:
    """Build the tab around a finished example."""
    with gr.Tab("Intervene", id="intervene"):
        if first.interventions is None:
            gr.Markdown(
                "This model mixes its layers without a router, or reads the last one only: there are no layers to "
                "switch and no strength to set.",
                elem_id="no-interventions",
            )
        return InterveneViewer(intervene_value(first, NAMES[0]), elem_id="intervene")
