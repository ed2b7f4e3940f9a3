"""Markup, style and script of a viewer, as the page and the reports embed them."""

from __future__ import annotations

from importlib.resources import files

from drorae.study.colours import ADDED, SUPPRESSED

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


def library() -> str:
    """The script that every :func:`script` needs before it: pure functions, in one constant ``lib``."""
    return read_static("lib.js")


def script(name: str) -> str:
    """The body of a viewer's function, with what all viewers share before its own; it sees ``element``, ``props``,
    ``watch``, ``trigger`` and ``lib``."""
    return f"{read_static('shared.js')}\n{read_static(f'{name}.js')}"


def shared_style() -> str:
    """The style of all viewers, with the colours that charts use too."""
    colours = f".viewer {{\n  --adds: {ADDED};\n  --suppresses: {SUPPRESSED};\n}}\n"
    return colours + read_static("shared.css")


def style(name: str) -> str:
    """A viewer's own style."""
    return read_static(f"{name}.css")


def markup(name: str) -> str:
    """A viewer's HTML."""
    return read_static(f"{name}.html")
