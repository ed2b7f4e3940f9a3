"""Charts as plotly figures, from plain arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import plotly.graph_objects as go  # which is loaded when a chart is drawn

from drorae.study.colours import ADDED, INK, SUPPRESSED

FONT = '-apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "Liberation Sans", Arial, sans-serif'


def layer_profile(shares: np.ndarray) -> go.Figure:
    """Mean share of every layer over the tokens of a picture, with the middle 80 % of the tokens as whiskers.

    Args:
        shares: w_k / sqrt(sum_k w_k^2), (N, L), tokens by layers.
    """
    import plotly.graph_objects as go

    layers = [str(layer) for layer in range(1, shares.shape[1] + 1)]
    mean = shares.mean(0)
    low, high = np.quantile(shares, (0.1, 0.9), axis=0)
    figure = go.Figure(
        go.Bar(
            x=layers,
            y=mean,
            marker_color=[ADDED if value >= 0 else SUPPRESSED for value in mean],
            error_y={
                "type": "data",
                "symmetric": False,
                # a skewed layer can have its mean outside the middle 80 %
                "array": np.maximum(high - mean, 0),
                "arrayminus": np.maximum(mean - low, 0),
                "color": "#8a8a8a",
                "thickness": 1.5,
                "width": 4,
            },
            customdata=np.stack([low, high], 1),
            hovertemplate="layer %{x}: mean %{y:.3f}<br>80 % of the tokens between %{customdata[0]:.3f} and "
            "%{customdata[1]:.3f}<extra></extra>",
        )
    )
    figure.update_layout(showlegend=False, bargap=0.35)
    figure.update_xaxes(title="encoder layer, shallow to deep", type="category")
    figure.update_yaxes(title="mean share")
    return apply_style(figure, 300)


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
