"""Markup, style and script of a view, as the page and the reports embed them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files

STATIC = files("drorae.viewers") / "static"


def read_static(name: str) -> str:
    """The text of a file of ``static/``."""
    return (STATIC / name).read_text(encoding="utf-8")


PARTS = "nodes terms drawing pictures photo pointer panel bars bands standing ways"  # all in one name
# each needs those before it
PAGE_SCRIPTS = ("lib", "words", "store", *(f"parts/{name}" for name in PARTS.split()), "guide", "share", "crop")

FIRST_VIEWS = ("bar", "strip", "picture")  # what the page begins with, from above; early.js draws them

# of which files the body of a view's function is made, in this order; of the other views it is one file
VIEW_SCRIPTS = {
    "layers": "choice panels brush switches strength play meter draw",
    "weights": "paint maps stage use like draw more start",
    "generate": "making line settings pictures film draw below strips grid walk photo morph start",
}


def page_script() -> str:
    """The script of the whole page: pure functions, the store, what views are made of. It comes before every view."""
    return _joined(PAGE_SCRIPTS)


def first_script() -> str:
    """The script that can draw the first views before Gradio's scripts have run. It comes after the page's; the call
    of ``early.begin`` draws them."""
    arguments = "element, props, watch, trigger, upload"
    views = [f'early.define("{name}", ({arguments}) => {{\n{script(name)}\n}});' for name in FIRST_VIEWS]
    return "\n".join([read_static("early.js"), *views])


def script(name: str) -> str:
    """The body of a view's function. It sees ``element``, ``props``, ``watch``, ``trigger``, ``upload``, and what the
    page's script gives."""
    return _joined([f"{name}/{each}" for each in VIEW_SCRIPTS[name].split()] if name in VIEW_SCRIPTS else [name])


def page_style() -> str:
    """The style that all views share."""
    return read_static("page.css")


def first_style() -> str:
    """The styles of the first views, where they stand early and where Gradio has them. The names make them as strong
    as those that Gradio writes for the other views."""
    styles = [f":is(#{name}, #early-{name}) {{\n{style(name)}\n}}" for name in FIRST_VIEWS]
    return "\n".join([read_static("early.css"), *styles])


def style(name: str) -> str:
    """A view's own style."""
    return read_static(f"{name}.css")


def markup(name: str) -> str:
    """A view's HTML."""
    return read_static(f"{name}.html")


def _joined(scripts: Iterable[str]) -> str:
    return "\n".join(read_static(f"{name}.js") for name in scripts)
