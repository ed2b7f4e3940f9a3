"""Tab *Frequency*: at which size of detail something was lost, and which layer brings it back."""

from __future__ import annotations

import gradio as gr

from drorae.explorer.explore import Exploration
from drorae.ui.components import FrequencyViewer
from drorae.viewers.values import frequency_value


def build(first: Exploration) -> FrequencyViewer:
    """Build the tab around a finished example."""
    with gr.Tab("Frequency", id="frequency"):
        return FrequencyViewer(frequency_value(first), elem_id="frequency")
