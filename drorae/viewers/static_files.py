"""Markup, style and script of a view, as the page and the reports embed them."""

from __future__ import annotations

from importlib.resources import files

STATIC = files("drorae.viewers") / "static"


def read_static(name: str) -> str:
    """The text of a file of ``static/``."""
    return (STATIC / name).read_text(encoding="utf-8")


PAGE_SCRIPTS = ("lib", "words", "store", "parts", "guide", "share", "crop")  # each needs those before it


def page_script() -> str:
    """The script of the whole page: pure functions, the store, what views are made of. It comes before every view."""
    return "\n".join(read_static(f"{name}.js") for name in PAGE_SCRIPTS)


def page_style() -> str:
    """The style that all views share."""
    return read_static("page.css")


def style(name: str) -> str:
    """A view's own style."""
    return read_static(f"{name}.css")


def markup(name: str) -> str:
    """A view's HTML."""
    return read_static(f"{name}.html")
