"""Tab *Compare*: what the last layer lost and what fusion brings back."""

from __future__ import annotations

import gradio as gr

from drorae.explore import Exploration
from drorae.ui.bundle import compare_value
from drorae.ui.components import CompareViewer


def compare_tab(first: Exploration) -> CompareViewer:
    """Build the tab around a finished example."""
    with gr.Tab("Compare", id="compare"):
        return CompareViewer(compare_value(first), elem_id="compare")
