"""Markup, style and script of a view, as the page and the reports embed them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files

STATIC = files("drorae.viewers") / "static"


def read_static(name: str) -> str:
    """The text of a file of ``static/``."""
    return (STATIC / name).read_text(encoding="utf-8")


def _paths_in(folder: str, names: str) -> list[str]:
    return [f"{folder}/{name}" for name in names.split()]


STORE = "state questions photos address"  # all in one name, as are the parts
PARTS = "nodes terms drawing pictures photo pointer panel bars bands standing ways"
# each needs those before it
PAGE_SCRIPTS = ("lib", "words", *_paths_in("store", STORE), *_paths_in("parts", PARTS), "guide", "share", "crop")

FIRST_VIEWS = ("bar", "strip", "picture")  # what the page begins with, from above; early.js draws them

# of which files the body of a view's function is made, in this order; of the other views it is one file
VIEW_SCRIPTS = {
    "layers": "choice panels brush switches strength play meter draw",
    "weights": "paint maps stage use like draw more start",
    "generate": "making line settings pictures film draw below strips grid walk photo morph start",
}

# later rules win over those before them
PAGE_STYLES = "theme base buttons head stage bars fields widths full guide dialogs"
VIEW_STYLES = {"generate": "prompt settings pictures below widths"}


def page_script() -> str:
    """The script of the whole page: pure functions, the store, what views are made of. It comes before every view."""
    return _join(PAGE_SCRIPTS, "js")


def first_script() -> str:
    """The script that can draw the first views before Gradio's scripts have run. It comes after the page's; the call
    of ``early.begin`` draws them."""
    arguments = "element, props, watch, trigger, upload"
    views = [f'early.define("{name}", ({arguments}) => {{\n{script(name)}\n}});' for name in FIRST_VIEWS]
    return "\n".join([read_static("early.js"), *views])


def script(name: str) -> str:
    """The body of a view's function. It sees ``element``, ``props``, ``watch``, ``trigger``, ``upload``, and what the
    page's script gives."""
    return _join(_paths_in(name, VIEW_SCRIPTS[name]) if name in VIEW_SCRIPTS else [name], "js")


def page_style() -> str:
    """The style that all views share."""
    return _join(_paths_in("page", PAGE_STYLES), "css")


def first_style() -> str:
    """The styles of the first views, where they stand early and where Gradio has them. The names make them as strong
    as those that Gradio writes for the other views."""
    styles = [f":is(#{name}, #early-{name}) {{\n{style(name)}\n}}" for name in FIRST_VIEWS]
    return "\n".join([read_static("early.css"), *styles])


def style(name: str) -> str:
    """A view's own style."""
    return _join(_paths_in(name, VIEW_STYLES[name]) if name in VIEW_STYLES else [name], "css")


def markup(name: str) -> str:
    """A view's HTML."""
    return read_static(f"{name}.html")


def _join(names: Iterable[str], ending: str) -> str:
    return "".join(read_static(f"{name}.{ending}") for name in names)
