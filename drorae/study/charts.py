"""Charts of the tab *Study*: published numbers as filled marks, what was measured here as open diamonds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from drorae.study import published
from drorae.study.colours import INK, OTHER, OURS, PAPER, PEER, STATED
from drorae.study.fits import Fit, Measured, magnitudes, refits
from drorae.study.plots import apply_style
from drorae.study.published import ROUTE_SCORES, Peer, Scaling

if TYPE_CHECKING:
    import plotly.graph_objects as go  # which is loaded when a chart is drawn

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
ROUTE_TITLES = ["RAE", "phase 2", "DRoRAE"]
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
    named = [*zip(ROUTE_TITLES, ROUTE_SCORES, strict=True), *((peer.name, peer) for peer in known)]
    points: dict[str, tuple[float, float]] = {name: (getattr(row, x), getattr(row, y)) for name, row in named}
    mine = [] if own is None or x != "psnr" else list(own.psnr.values())
    axes = [scale(x, [*mine, *(at for at, _ in points.values())]), scale(y, [at for _, at in points.values()])]
    places = label_places(points, axes, ROUTE_TITLES)
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
                textposition=[places[row.name] for row in rows],
                textfont={"size": 11},
                marker={"color": PEER, "size": 9, "symbol": symbol},
                customdata=[[published.source_words(row.source), row.note, stated_epochs(row, y)] for row in rows],
                hovertemplate="<b>%{text}</b>, %{customdata[0]}<br>" + point_values(x, y) + "%{customdata[2]}<br>"
                "%{customdata[1]}<extra></extra>",
                name=name,
            )
    figure.add_scatter(
        x=[getattr(route, x) for route in ROUTE_SCORES],
        y=[getattr(route, y) for route in ROUTE_SCORES],
        mode="lines+markers+text",
        text=ROUTE_TITLES,
        textposition=[places[name] for name in ROUTE_TITLES],
        textfont={"size": 13, "color": PAPER},
        marker={"color": PAPER, "size": 11},
        line={"color": PAPER, "width": 1.5},
        customdata=[[route.name] for route in ROUTE_SCORES],
        hovertemplate=f"<b>%{{customdata[0]}}</b>, arXiv {published.PAPER}, table 1<br>"
        + point_values(x, y)
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
    figure.update_xaxes(title=AXES[x], **axes[0])
    figure.update_yaxes(title=AXES[y], **axes[1])
    return legend_above(apply_style(figure, 510))


def epochs(peer: Peer, axis: str) -> int | None:
    """Epochs of the generator behind a number; ``None`` where no generator took part or none are stated."""
    return {"gfid": peer.epochs, "guided": peer.guided_epochs}.get(axis)


def stated_epochs(peer: Peer, axis: str) -> str:
    """Epochs of the generator as display text; empty where no generator takes part."""
    if axis == "rfid":
        return ""
    number = epochs(peer, axis)
    return "<br>epochs of the generator not stated" if number is None else f"<br>generator of {number} epochs"


def point_values(x: str, y: str) -> str:
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


AREA = (620, 380)  # pixels in which names must keep apart: what a chart has on a small laptop
LETTER, LINE = 6.6, 15  # width and height of a letter of a name, pixels


def label_places(
    points: dict[str, tuple[float, float]], axes: Sequence[dict[str, Any]], joined: Sequence[str] = ()
) -> dict[str, str]:
    """Where the name of each point stands beside its mark, so that it covers neither marks nor names nor the line,
    where that is possible: those with the nearest neighbours choose first.

    Args:
        points: by name.
        axes: kinds and ranges of both, see :func:`scale`.
        joined: names of points that a line joins, in its order.
    """
    at = {}
    for name, values in points.items():
        shares = []
        for value, axis in zip(values, axes, strict=True):
            low, high = axis["range"]
            shares.append(((np.log10(value) if axis.get("type") == "log" else value) - low) / (high - low))
        at[name] = np.array([shares[0] * AREA[0], (1 - shares[1]) * AREA[1]])

    def box(name: str, place: str) -> np.ndarray:
        vertical, horizontal = place.split()
        width = LETTER * len(name)
        x = {"left": -width - 4, "center": -width / 2, "right": 4}[horizontal]
        y = {"top": -LINE - 5, "middle": -LINE / 2, "bottom": 5}[vertical]
        if vertical == "middle":
            x += 4 if horizontal == "right" else -4
        left, top = at[name] + np.array([x, y])
        return np.array([left, top, left + width, top + LINE])

    marks = {name: np.array([*(middle - 6), *(middle + 6)]) for name, middle in at.items()}
    steps = np.linspace(0.05, 0.95, 30)[:, None]
    line = [
        np.array([*(middle - 2), *(middle + 2)])
        for one, other in pairwise(joined)
        for middle in at[one] + steps * (at[other] - at[one])
    ]
    taken: dict[str, np.ndarray] = {}
    places = {}
    nearest = {
        name: min(float(np.linalg.norm(middle - other)) for each, other in at.items() if each != name)
        for name, middle in at.items()
    }
    for name in sorted(at, key=lambda each: nearest[each]):
        others = [*taken.values(), *line, *(mark for each, mark in marks.items() if each != name)]

        def cost(place: str, name: str = name, others: list[np.ndarray] = others) -> float:
            mine = box(name, place)
            beyond = max(0.0, -float(mine[0])) + max(0.0, float(mine[2]) - AREA[0])
            return sum(overlap(mine, other) for other in others) + 100 * beyond

        places[name] = min(PLACES, key=cost)
        taken[name] = box(name, places[name])
    return places


PLACES = (
    "middle right",
    "middle left",
    "top center",
    "bottom center",
    "top right",
    "bottom right",
    "top left",
    "bottom left",
)


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Area that two rectangles (left, top, right, bottom) share."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    return float(np.prod(np.maximum(sides, 0)))


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
    return legend_above(apply_style(figure, 370), titles=True)


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
    return legend_above(apply_style(figure, 510), titles=True)


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
    figure = legend_above(apply_style(figure, 370))
    return figure.update_layout(margin={"l": 96})


def geneval() -> go.Figure:
    """Tables 2 and 7: GenEval by task, one mark per tokenizer."""
    import plotly.graph_objects as go

    figure = go.Figure()
    symbols = ("square", "triangle-up", "circle", "x", "star")
    colours = (PEER, OTHER, STATED, OURS, PAPER)
    tasks = np.arange(len(published.GENEVAL_TASKS))
    for turn, (name, scores) in enumerate(published.GENEVAL.items()):
        figure.add_scatter(
            x=tasks + 0.15 * (turn - (len(published.GENEVAL) - 1) / 2),  # side by side: none hides another
            y=list(scores),
            mode="markers",
            marker={"color": colours[turn], "size": 13 if name == "DRoRAE" else 10, "symbol": symbols[turn]},
            text=list(published.GENEVAL_TASKS),
            hovertemplate="%{text}: %{y}<extra>" + name + "</extra>",
            name=name,
        )
    figure.update_xaxes(
        tickvals=tasks,
        ticktext=list(published.GENEVAL_TASKS),
        range=[-0.5, len(tasks) - 0.5],
        showgrid=False,
        zeroline=False,
    )
    for edge in tasks[1:] - 0.5:
        figure.add_vline(edge, line={"color": "rgba(128,128,128,0.25)", "width": 1})
    figure.update_yaxes(title="GenEval", range=[0, 1.05])
    return legend_above(apply_style(figure, 400))


def legend_above(figure: go.Figure, titles: bool = False) -> go.Figure:
    """The legend over the chart, above the ``titles`` of its parts; it takes as much room as its lines need."""
    height = figure.layout.height - figure.layout.margin.t - figure.layout.margin.b
    figure.update_layout(
        legend={
            "orientation": "h",
            "yanchor": "bottom",
            "y": 1 + (30 if titles else 8) / height,
            "x": 0,
            "font": {"color": INK},
        }
    )
    figure.update_annotations(font_size=13)  # the titles of two charts side by side, on a phone
    return figure
