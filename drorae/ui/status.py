"""Sentences of the status lines."""

from __future__ import annotations

from html import escape

from drorae.ui.uploads import as_unicode


def status_line(text: str, error: bool = False) -> str:
    """One sentence for a status line, escaped."""
    kind, role = ("status error", "alert") if error else ("status", "status")
    return f'<p class="{kind}" role="{role}">{escape(as_unicode(text))}</p>'
