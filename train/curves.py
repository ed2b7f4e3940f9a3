"""Curves of a training as an SVG picture, for model cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 56, 130, 16, 44  # margins, pixels
COLOURS = ("#0b7a53", "#b3541e", "#3d5a98", "#8a3d7c", "#585e68")
INK, GRID, PAPER = "#15171a", "#dcdcd8", "#ffffff"
TICKS = 5  # about
Curve = Sequence[tuple[float, float]]  # steps and values


def ticks(low: float, high: float) -> list[float]:
    """About five round numbers from ``low`` to ``high``: multiples of 1, 2 or 5 times a power of ten."""
    if high <= low:
        return [low]
    rough = (high - low) / TICKS
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = int(np.ceil(low / step - 1e-9))
    return [float(f"{k * step:.10g}") for k in range(first, int(np.floor(high / step + 1e-9)) + 1)]


def curves_svg(curves: Mapping[str, Curve], label: str) -> str:
    """One line per curve over the steps, with its name at its end.

    Args:
        curves: name to (step, value) pairs; those without any are left out.
        label: label of the vertical axis.

    Raises:
        ValueError: no curve has a pair.
    """
    curves = {name: curve for name, curve in curves.items() if len(curve)}
    if not curves:
        raise ValueError("there is no curve to draw")
    steps = [step for curve in curves.values() for step, _ in curve]
    values = [value for curve in curves.values() for _, value in curve]
    room = 0.05 * (max(values) - min(values)) or 0.5
    low, high, most = min(values) - room, max(values) + room, max(steps)

    def x(step: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * step / (most or 1), 1)

    def y(value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low), 1)

    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" font-family="sans-serif" font-size="12" fill="{INK}">',
        f"<title>{escape(f'{label} by step: ' + ', '.join(curves))}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{PAPER}"/>',
    ]
    for value in ticks(low, high):
        parts.append(f'<path d="M{LEFT} {y(value)}H{right}" stroke="{GRID}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(value) + 4}" text-anchor="end">{value:g}</text>')
    for step in ticks(0, most):
        parts.append(f'<text x="{x(step)}" y="{bottom + 18}" text-anchor="middle">{step:,.0f}</text>')
    parts.append(f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 8}" text-anchor="middle">step</text>')
    middle = (TOP + bottom) / 2
    parts.append(f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{escape(label)}</text>')
    parts.append(f'<path d="M{LEFT} {TOP}V{bottom}H{right}" stroke="{INK}" fill="none"/>')
    for number, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(f"{x(step)},{y(value)}" for step, value in curve)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        step, value = curve[-1]
        parts.append(f'<circle cx="{x(step)}" cy="{y(value)}" r="3" fill="{colour}"/>')
        parts.append(f'<text x="{x(step) + 7}" y="{y(value) + 4}" fill="{colour}">{escape(name)} {value:.4g}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def save_curves(file: Path, curves: Mapping[str, Curve], label: str) -> None:
    """Write :func:`curves_svg` to a file."""
    file.write_text(curves_svg(curves, label), encoding="utf-8")
