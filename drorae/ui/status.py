"""Sentences of the status lines."""

from __future__ import annotations

from html import escape

from drorae.explorer.explore import Exploration
from drorae.ui.uploads import as_unicode


def status_line(text: str, error: bool = False) -> str:
    """One sentence for a status line, escaped."""
    kind, role = ("status error", "alert") if error else ("status", "status")
    return f'<p class="{kind}" role="{role}">{escape(as_unicode(text))}</p>'


def summary_line(result: Exploration) -> str:
    """What an exploration did, in one sentence."""
    side, count = result.original.shape[0], len(result.pictures)
    routes = f"{count} routes" if count > 1 else "one route"
    return f"Central square at {side} × {side} pixels, rebuilt along {routes} in {result.seconds:.2f} s."
