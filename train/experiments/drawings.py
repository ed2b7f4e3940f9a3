"""Charts of plotly as SVG files, for READMEs: no browser is needed, and equal charts give equal files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import numpy as np

from train.curves import GRID, INK, PAPER, ticks

if TYPE_CHECKING:
    import plotly.graph_objects as go

WIDTH = 860  # pixels
TOP, BOTTOM, RIGHT = 40, 48, 16
LINE_HEIGHT = 20


def figure_svg(figure: go.Figure, label: str) -> str:
    """A chart with linear, logarithmic or named axes as an SVG picture: its marks, intervals and lines.

    Args:
        figure: scatter traces in one row of charts.
        label: what it shows, for those who cannot see it.
    """
    content: dict[str, Any] = figure.to_plotly_json()
    layout, traces = content["layout"], content["data"]
    height = int(layout["height"])
    left = int(layout["margin"]["l"])
    shared = traces if any("matches" in axis for key, axis in layout.items() if key.startswith("yaxis")) else None
    legend = list(dict.fromkeys(t["name"] for t in traces if t.get("showlegend", len(traces) > 1)))
    top = TOP + LINE_HEIGHT * len(legend)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height + top}" width="{WIDTH}" '
        f'height="{height + top}" role="img" font-family="sans-serif" font-size="12" fill="{INK}">',
        f"<title>{escape(label)}</title>",
        f'<rect width="{WIDTH}" height="{height + top}" fill="{PAPER}"/>',
    ]
    for number, name in enumerate(legend):
        trace = next(t for t in traces if t["name"] == name)
        y = 18 + LINE_HEIGHT * number
        parts.append(_mark(left + 8, y - 4, trace["marker"]))
        parts.append(f'<text x="{left + 24}" y="{y}">{escape(name)}</text>')
    for name in sorted(key for key in layout if key.startswith("xaxis")):
        suffix = name.removeprefix("xaxis")
        mine = [t for t in traces if t.get("xaxis", "x") == f"x{suffix}"]
        parts += _panel(mine, shared or mine, layout, suffix, (left, top, WIDTH - RIGHT, height + top - BOTTOM))
    for note in layout.get("annotations", ()):  # the titles of the panels
        x = left + (WIDTH - RIGHT - left) * note["x"]
        parts.append(f'<text x="{x:.1f}" y="{top - 8}" text-anchor="middle">{escape(note["text"])}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(
    traces: list[dict[str, Any]],
    beside: list[dict[str, Any]],
    layout: dict[str, Any],
    suffix: str,
    area: tuple[float, float, float, float],
) -> list[str]:
    """Axes and marks of one chart within ``area`` (left, top, right, bottom), of which its domain is a part. Its
    heights hold the traces ``beside``."""
    across, down = layout[f"xaxis{suffix}"], layout.get(f"yaxis{suffix}", {})
    left, top, right, bottom = area
    start, end = across.get("domain", (0, 1))
    left, right = left + (right - left) * start, left + (right - left) * end
    names = list(dict.fromkeys(y for t in traces for y in t["y"] if isinstance(y, str)))
    xs = [x for t in traces for x in _ends(t, "x")]
    ys = [y for t in beside for y in (range(len(names)) if names else _ends(t, "y"))]
    log = across.get("type") == "log"
    if not xs:
        return []
    low, high = _range([float(np.log10(x)) for x in xs] if log else [*xs, 0.0] if names else xs)
    bottom_y, top_y = (len(names) - 0.5, -0.5) if names else _range(ys)

    def place_x(x: float) -> float:
        return round(left + (right - left) * ((np.log10(x) if log else x) - low) / (high - low), 1)

    def place_y(y: float | str) -> float:
        value = names.index(y) if isinstance(y, str) else y
        return round(bottom + (top - bottom) * (value - bottom_y) / (top_y - bottom_y), 1)

    parts = []
    marks = [m for m in (mantissa * 10.0**e for e in range(-3, 5) for mantissa in (1, 3)) if low <= np.log10(m) <= high]
    for x in marks if log else ticks(low, high):
        if left <= place_x(x) <= right:
            parts.append(f'<path d="M{place_x(x)} {top}V{bottom}" stroke="{GRID}"/>')
            parts.append(f'<text x="{place_x(x)}" y="{bottom + 17}" text-anchor="middle">{x:g}</text>')
    for y in names or ticks(bottom_y, top_y):
        text = escape(str(y)) if names else f"{y:g}"
        if top <= place_y(y) <= bottom:
            parts.append(f'<path d="M{left:.1f} {place_y(y)}H{right:.1f}" stroke="{GRID}"/>')
            parts.append(f'<text x="{left - 8:.1f}" y="{place_y(y) + 4}" text-anchor="end">{text}</text>')
    if names:
        parts.append(f'<path d="M{place_x(0)} {top}V{bottom}" stroke="{INK}" stroke-dasharray="4 3"/>')
    for trace in traces:
        if trace["mode"] == "lines":
            path = " ".join(f"{place_x(x)},{place_y(y)}" for x, y in zip(trace["x"], trace["y"], strict=True))
            dash = ' stroke-dasharray="2 4"' if trace["line"]["dash"] == "dot" else ""
            colour = trace["line"]["color"]
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"{dash}/>')
            continue
        for index, (x, y) in enumerate(zip(trace["x"], trace["y"], strict=True)):
            colour = trace["marker"]["color"]
            for axis, value in (("x", x), ("y", y)):
                error = trace.get(f"error_{axis}")
                if not error:
                    continue
                ends = value - error["arrayminus"][index], value + error["array"][index]
                if axis == "x":
                    path = f"M{place_x(ends[0])} {place_y(y)}H{place_x(ends[1])}"
                else:
                    path = f"M{place_x(x)} {place_y(ends[0])}V{place_y(ends[1])}"
                parts.append(f'<path d="{path}" stroke="{colour}"/>')
            parts.append(_mark(place_x(x), place_y(y), trace["marker"]))
            if "text" in trace["mode"]:
                parts.append(_name(place_x(x), place_y(y), trace["text"][index], trace["textposition"][index], colour))
    title = across.get("title", {}).get("text", "")
    parts.append(f'<text x="{(left + right) / 2:.1f}" y="{bottom + 38}" text-anchor="middle">{escape(title)}</text>')
    side = down.get("title", {}).get("text", "")
    if side:
        at = f"translate(14 {(top + bottom) / 2:.1f}) rotate(-90)"
        parts.append(f'<text transform="{at}" text-anchor="middle">{escape(side)}</text>')
    return parts


def _name(x: float, y: float, name: str, place: str, colour: str) -> str:
    """The name of a mark beside it, where plotly would put it ("top left")."""
    vertical, horizontal = place.split()
    anchor, beside = {"left": ("end", -9), "center": ("middle", 0), "right": ("start", 9)}[horizontal]
    above = {"top": -9, "middle": 4, "bottom": 18}[vertical]
    at = f'x="{x + beside:.1f}" y="{y + above:.1f}" text-anchor="{anchor}"'
    return f'<text {at} font-size="11" fill="{colour}">{escape(name)}</text>'


def _ends(trace: dict[str, Any], axis: str) -> list[float]:
    """Values of a trace along an axis, with both ends of their intervals."""
    values = [float(value) for value in trace[axis]]
    error = trace.get(f"error_{axis}")
    if error:
        values += [value - less for value, less in zip(trace[axis], error["arrayminus"], strict=True)]
        values += [value + more for value, more in zip(trace[axis], error["array"], strict=True)]
    return values


def _range(values: list[float]) -> tuple[float, float]:
    """The least and the greatest value, with some room."""
    room = 0.06 * (max(values) - min(values)) or 0.5
    return min(values) - room, max(values) + room


def _mark(x: float, y: float, marker: dict[str, Any]) -> str:
    """A mark: a filled circle for what was published, an open diamond or square for what was measured here."""
    symbol, colour = marker.get("symbol", "circle"), marker["color"]
    if symbol == "circle":
        return f'<circle cx="{x}" cy="{y}" r="4" fill="{colour}"/>'
    shape = {"diamond-open": "M-5.5 0L0 -5.5L5.5 0L0 5.5Z", "square-open": "M-4 -4H4V4H-4Z"}[symbol]
    return f'<path transform="translate({x} {y})" d="{shape}" fill="none" stroke="{colour}" stroke-width="2"/>'
