"""Charts of the view Study: published numbers as filled marks, what was measured here as open diamonds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from drorae.study import published
from drorae.study.fits import Fit, Measured, magnitudes, refits
from drorae.study.plots import INK, apply_style
from drorae.study.published import ROUTE_SCORES, Peer, RouteScores, Scaling

if TYPE_CHECKING:
    import plotly.graph_objects as go  # which is loaded when a chart is drawn

# Okabe and Ito's colours, which all kinds of colour vision tell apart; shape and filling say the same
PEER, PAPER, OURS, STATED = "#8a97a8", "#0072b2", "#d55e00", "#009e73"
GRID_GAP = 0.14
AXES = {
    "rfid": "rFID, lower is better",
    "psnr": "PSNR, dB, higher is better",
    "gfid": "gFID without guidance",
    "guided": "gFID with guidance",
}
PLANES = {
    "rFID and gFID without guidance": ("rfid", "gfid"),
    "rFID and gFID with guidance": ("rfid", "guided"),
    "PSNR and rFID": ("psnr", "rfid"),
    "PSNR and gFID with guidance": ("psnr", "guided"),
}
LOGARITHMIC = ("rfid", "gfid", "guided")


def peers(plane: str, own: Measured | None) -> go.Figure:
    """All tokenizers that published both numbers of a plane of :data:`PLANES`; the paper's three routes joined.

    Of a measured model only its PSNR can be there: other photos, and no Inception network. It is drawn as a line.
    """
    import plotly.graph_objects as go

    x, y = PLANES[plane]
    figure = go.Figure()
    known = [peer for peer in published.PEERS if getattr(peer, x) is not None and getattr(peer, y) is not None]
    usual = [peer for peer in known if epochs(peer, y) in (80, None if y == "rfid" else 80)]
    other = [peer for peer in known if peer not in usual]
    for rows, symbol, name in (
        (usual, "circle", "peers" if y == "rfid" else "peers, generator of 80 epochs"),
        (other, "square", "peers, longer or not stated"),
    ):
        if rows:
            figure.add_scatter(
                x=[getattr(row, x) for row in rows],
                y=[getattr(row, y) for row in rows],
                mode="markers+text",
                text=[row.name for row in rows],
                textposition=spread(rows, x, y),
                textfont={"size": 11},
                marker={"color": PEER, "size": 9, "symbol": symbol},
                customdata=[[row.source, row.note, stated_epochs(row, y)] for row in rows],
                hovertemplate="<b>%{text}</b>, arXiv %{customdata[0]}<br>" + values(x, y) + "%{customdata[2]}<br>"
                "%{customdata[1]}<extra></extra>",
                name=name,
            )
    figure.add_scatter(
        x=[getattr(route, x) for route in ROUTE_SCORES],
        y=[getattr(route, y) for route in ROUTE_SCORES],
        mode="lines+markers+text",
        text=["RAE", "phase 2", "DRoRAE"],
        textposition="bottom center",
        textfont={"size": 12, "color": PAPER},
        marker={"color": PAPER, "size": 11},
        line={"color": PAPER, "width": 1.5},
        customdata=[[route.name] for route in ROUTE_SCORES],
        hovertemplate=f"<b>%{{customdata[0]}}</b>, arXiv {published.PAPER}, table 1<br>"
        + values(x, y)
        + "<extra></extra>",
        name="the paper",
    )
    if own is not None and x == "psnr":
        for key, value in own.psnr.items():
            figure.add_vline(value, line={"color": OURS, "width": 1.5, "dash": "dot"})
            figure.add_annotation(
                x=value, y=1, yref="paper", text=key, showarrow=False, textangle=-90, xanchor="right", yanchor="top",
                font={"color": OURS, "size": 11},
            )  # fmt: skip
    points: list[Peer | RouteScores] = [*known, *ROUTE_SCORES]
    mine = [] if own is None or x != "psnr" else list(own.psnr.values())
    figure.update_xaxes(title=AXES[x], **scale(x, [*mine, *(getattr(point, x) for point in points)]))
    figure.update_yaxes(title=AXES[y], **scale(y, [getattr(point, y) for point in points]))
    return legend_below(apply_style(figure, 510))


def epochs(peer: Peer, axis: str) -> int | None:
    """Epochs of the generator behind a number; ``None`` where none took part or it is not stated."""
    return {"gfid": peer.epochs, "guided": peer.guided_epochs}.get(axis)


def stated_epochs(peer: Peer, axis: str) -> str:
    """Epochs of the generator as display text; empty where none takes part."""
    if axis == "rfid":
        return ""
    number = epochs(peer, axis)
    return "<br>epochs of the generator not stated" if number is None else f"<br>generator of {number} epochs"


def values(x: str, y: str) -> str:
    """Both numbers of a point, as display text."""
    return f"{AXES[x].split(',')[0]} %{{x}}, {AXES[y].split(',')[0]} %{{y}}"


def scale(axis: str, numbers: Sequence[float]) -> dict[str, Any]:
    """Kind, range and marks of an axis, with room for the names of the outermost points."""
    if axis not in LOGARITHMIC:
        room = 0.1 * (max(numbers) - min(numbers))
        return {"range": [min(numbers) - room, max(numbers) + room]}
    room = 0.1 * np.log10(max(numbers) / min(numbers))
    marks = {"rfid": [0.1, 0.2, 0.3, 0.5, 0.8], "gfid": [1.5, 2, 3, 4, 6], "guided": [1, 1.2, 1.5, 2, 3]}[axis]
    return {
        "type": "log",
        "range": [np.log10(min(numbers)) - room, np.log10(max(numbers)) + room],
        "tickvals": marks,
        "ticktext": [f"{mark:g}" for mark in marks],
    }


def spread(rows: Sequence[Peer], x: str, y: str) -> list[str]:
    """Where each name stands: by turns above and below from left to right, so that neighbours keep apart."""
    order = sorted(range(len(rows)), key=lambda i: (getattr(rows[i], x), getattr(rows[i], y)))
    places = [""] * len(rows)
    for turn, i in enumerate(order):
        places[i] = ("top center", "bottom center")[turn % 2]
    return places


def phases(own: Measured | None) -> go.Figure:
    """PSNR and SSIM of the three routes: the paper's, and those of a measured model."""
    from plotly.subplots import make_subplots

    figure = make_subplots(1, 2, horizontal_spacing=GRID_GAP, subplot_titles=("PSNR, dB", "SSIM"))
    names = ["last layer", "phase 2", "full"]
    for column, key in enumerate(("psnr", "ssim"), 1):
        paper = [getattr(route, key) for route in ROUTE_SCORES]
        figure.add_scatter(
            x=names,
            y=paper,
            mode="lines+markers",
            marker={"color": PAPER, "size": 11},
            line={"color": PAPER, "width": 1.5},
            customdata=[[value - paper[0]] for value in paper],
            hovertemplate="%{x}: %{y} (%{customdata[0]:+.3g})<extra>the paper, table 1</extra>",
            name="the paper: ImageNet, 256 px, DINOv2-B",
            legendgroup="paper",
            showlegend=column == 1,
            row=1,
            col=column,
        )
        if own is None:
            continue
        there = [(name, route.key) for name, route in zip(names, ROUTE_SCORES, strict=True) if route.key in own.psnr]
        mine = [getattr(own, key)[route] for _, route in there]
        figure.add_scatter(
            x=[name for name, _ in there],
            y=mine,
            mode="lines+markers",
            marker={"color": OURS, "size": 12, "symbol": "diamond-open", "line": {"width": 2}},
            line={"color": OURS, "width": 1.5, "dash": "dot"},
            customdata=[[value - mine[0]] for value in mine],
            hovertemplate="%{x}: %{y:.4g} (%{customdata[0]:+.3g})<extra>measured here</extra>",
            name=f"{own.name}: {own.reference}, measured here",
            legendgroup="own",
            showlegend=column == 1,
            row=1,
            col=column,
        )
    return legend_below(apply_style(figure, 370))


def scaling() -> go.Figure:
    """rFID of phase 2 against the size of the fusion: the paper's points, its stated line, the refit, its residuals."""
    from plotly.subplots import make_subplots

    figure = make_subplots(
        2,
        2,
        row_heights=[0.68, 0.32],
        horizontal_spacing=GRID_GAP,
        vertical_spacing=0.1,
        shared_xaxes=True,
        subplot_titles=("by width", "by layers"),
    )
    fits = refits()
    widths = magnitudes(published.WIDTHS)
    layers = np.array([row.setting for row in published.LAYERS], dtype=float)
    _add_scaling(figure, 1, published.WIDTHS, widths, fits.widths, 10**widths / 1e6, "h = ")
    _add_scaling(figure, 2, published.LAYERS, layers, fits.layers, layers, "layers: ")
    slope, intercept, _ = published.STATED_WIDTH_FIT
    figure.add_scatter(
        x=10**widths / 1e6,
        y=slope * widths + intercept,
        mode="lines",
        line={"color": STATED, "width": 2, "dash": "dash"},
        hovertemplate="%{y:.3f}<extra>line stated in the paper</extra>",
        name=f"stated: {slope} log10(p) + {intercept}",
        row=1,
        col=1,
    )
    for row in (1, 2):
        figure.update_xaxes(type="log", row=row, col=1, tickvals=[3, 10, 30, 100], ticktext=["3", "10", "30", "100"])
        figure.update_xaxes(dtick=3, tick0=3, row=row, col=2)
    figure.update_xaxes(title="millions of parameters", row=2, col=1)
    figure.update_xaxes(title="layers fused", row=2, col=2)
    figure.update_yaxes(title="rFID", row=1, col=1)
    figure.update_yaxes(title="residual", row=2, col=1)
    return legend_below(apply_style(figure, 510))


def _add_scaling(
    figure: go.Figure, column: int, rows: Sequence[Scaling], x: np.ndarray, line: Fit, shown: np.ndarray, what: str
) -> None:
    rfid = np.array([row.rfid for row in rows])
    names = [f"{what}{row.setting}, {row.parameters}M" for row in rows]
    first = {"showlegend": column == 1, "row": 1, "col": column}
    figure.add_scatter(
        x=shown,
        y=rfid,
        mode="markers",
        marker={"color": PAPER, "size": 10},
        text=names,
        hovertemplate="%{text}: rFID %{y}<extra>the paper</extra>",
        name="the paper, tables 8 and 9",
        legendgroup="paper",
        **first,
    )
    figure.add_scatter(
        x=shown,
        y=line.at(x),
        mode="lines",
        line={"color": PAPER, "width": 2},
        hovertemplate="%{y:.3f}<extra>refit</extra>",
        name="refit from the tables",
        legendgroup="refit",
        **first,
    )
    figure.add_bar(
        x=shown,
        y=rfid - line.at(x),
        width=0.12 * shown if column == 1 else 0.5,
        marker={"color": PAPER},
        text=names,
        textposition="none",
        hovertemplate="%{text}: %{y:+.3f}<extra>residual of the refit</extra>",
        showlegend=False,
        row=2,
        col=column,
    )


def designs() -> go.Figure:
    """Table 3: what a fusion does to rFID, and to the loss of a generator upon its latent."""
    import plotly.graph_objects as go

    rows = [row for row in published.VARIANTS if row.loss is not None]
    figure = go.Figure(
        go.Scatter(
            x=[row.rfid for row in rows],
            y=[row.loss for row in rows],
            mode="markers+text",
            text=[row.name for row in rows],
            textposition=["bottom center", "bottom center", "top center", "top center", "bottom center"],
            textfont={"size": 12},
            marker={
                "color": PAPER,
                "size": [14 if "incremental" in row.name and "energy" in row.name else 10 for row in rows],
            },
            hovertemplate="<b>%{text}</b><br>rFID %{x}, loss %{y}<extra>the paper, table 3</extra>",
        )
    )
    figure.update_xaxes(title=AXES["rfid"], range=[0.42, 0.6])
    figure.update_yaxes(title="generator's loss, 12 epochs", range=[0.35, 0.9])
    return apply_style(figure, 340)


def strategies() -> go.Figure:
    """Table 4: reconstruction and generation by what is trained."""
    import plotly.graph_objects as go

    figure = go.Figure()
    names = [row.name.replace(", ", ",<br>").replace(" and ", "<br>and ") for row in published.STRATEGIES]
    for key, name, colour, symbol in (
        ("rfid", "rFID", PAPER, "circle"),
        ("gfid", "gFID without guidance", STATED, "square"),
        ("guided", "gFID with AutoGuidance", PEER, "triangle-up"),
    ):
        figure.add_scatter(
            x=[getattr(row, key) for row in published.STRATEGIES],
            y=names,
            mode="markers+text",
            text=[getattr(row, key) for row in published.STRATEGIES],
            textposition="bottom center" if key == "guided" else "top center",
            textfont={"size": 12},
            marker={"color": colour, "size": 12, "symbol": symbol},
            hovertemplate="%{y}: %{x}<extra>" + name + "</extra>",
            name=name,
        )
    figure.update_xaxes(title="lower is better", type="log", tickvals=[0.1, 0.3, 1, 3, 10], range=[-1.1, 1.5])
    figure.update_yaxes(range=[len(names) - 0.6, -0.6])
    figure = legend_below(apply_style(figure, 370))
    return figure.update_layout(margin={"l": 96})


def geneval() -> go.Figure:
    """Tables 2 and 7: GenEval by task, one mark per tokenizer."""
    import plotly.graph_objects as go

    figure = go.Figure()
    symbols = ("square", "triangle-up", "circle", "x", "star")
    colours = (PEER, "#cc79a7", STATED, "#e69f00", PAPER)
    for (name, scores), symbol, colour in zip(published.GENEVAL.items(), symbols, colours, strict=True):
        figure.add_scatter(
            x=list(published.GENEVAL_TASKS),
            y=list(scores),
            mode="markers",
            marker={"color": colour, "size": 14 if name == "DRoRAE" else 10, "symbol": symbol},
            hovertemplate="%{x}: %{y}<extra>" + name + "</extra>",
            name=name,
        )
    figure.update_yaxes(title="GenEval", range=[0, 1.05])
    return legend_below(apply_style(figure, 400))


def legend_below(figure: go.Figure) -> go.Figure:
    """The legend under the chart, where a phone has room for it."""
    figure.update_layout(
        legend={"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0, "x": 0, "font": {"color": INK}},
        margin={"b": 142},
    )
    figure.update_annotations(font_size=13)  # the titles of two charts side by side, on a phone
    return figure
