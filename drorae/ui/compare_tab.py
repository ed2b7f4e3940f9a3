"""Tab *Compare*: what the last layer lost and what fusion brings back."""

from __future__ import annotations

import gradio as gr

from drorae.explorer.explore import Exploration
from drorae.ui.components import CompareViewer
from drorae.ui.examples import NAMES
from drorae.viewers.values import compare_value


def build(first: Exploration) -> CompareViewer:
    """Build the tab around a finished example."""
    with gr.Tab("Compare", id="compare"):
        return CompareViewer(compare_value(first, NAMES[0]), elem_id="compare")
