"""Sentences of the status lines."""

from __future__ import annotations

from html import escape

from drorae.explorer.explore import Exploration


def status_line(text: str, error: bool = False) -> str:
    """One sentence for a status line, escaped."""
    return f'<p class="status{" error" if error else ""}" role="{"alert" if error else "status"}">{escape(text)}</p>'


def summary_line(result: Exploration) -> str:
    """What an exploration did, in one sentence."""
    side, count = result.original.shape[0], len(result.pictures)
    routes = f"{count} routes" if count > 1 else "one route"
    return f"Central square at {side} × {side} pixels, rebuilt along {routes} in {result.seconds:.2f} s."
