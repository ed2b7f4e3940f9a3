"""The look of all charts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go  # which is loaded when a chart is drawn

from drorae.study.colours import INK

FONT = '-apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "Liberation Sans", Arial, sans-serif'


def apply_style(figure: go.Figure, height: int) -> go.Figure:
    """The look of all charts: no background, so that light and dark pages both show through; ``height`` in pixels."""
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 60, "r": 16, "t": 28, "b": 52},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": INK, "size": 13, "family": FONT},
        hoverlabel={"font": {"size": 13}},
    )
    lines = {"gridcolor": "rgba(128,128,128,0.25)", "zerolinecolor": "#8a8a8a", "fixedrange": True}
    figure.update_xaxes(**lines)
    figure.update_yaxes(**lines)
    return figure
