"""The scripts of the page, of its views and of a gallery are made of all files there are, each once."""

from __future__ import annotations

from conftest import ROOT

from drorae.ui.page import VIEWS
from drorae.viewers.static_files import (
    FIRST_VIEWS,
    PAGE_SCRIPTS,
    STATIC,
    VIEW_SCRIPTS,
    first_script,
    first_style,
    page_script,
    read_static,
    script,
    style,
)

FOLDER = ROOT / "drorae" / "viewers" / "static"
AROUND = ("bar", "strip")  # views that are always there


def test_no_file_is_left_out_or_taken_twice():
    views = [script(name) for name in (*VIEWS, *AROUND)]
    whole = "\n".join([page_script(), *views, *map(read_static, ("channel.js", "gallery.js", "early.js"))])
    files = sorted(FOLDER.rglob("*.js"))
    assert len(files) > 40
    for file in files:
        assert whole.count(file.read_text(encoding="utf-8")) == 1, file.name
    assert len(whole) == sum(len(file.read_text(encoding="utf-8")) for file in files) + len(files) - 1


def test_views_have_markup_and_style_beside_their_scripts():
    for name in (*VIEWS, *AROUND):
        assert (STATIC / f"{name}.html").is_file()
        assert (STATIC / f"{name}.css").is_file()
    assert set(VIEW_SCRIPTS) <= {*VIEWS, *AROUND}


def test_the_first_views_come_with_the_page_in_their_order():
    scripts, styles = first_script(), first_style()
    places = [scripts.index(script(name)) for name in FIRST_VIEWS]
    assert places[0] > 0
    assert places == sorted(places)
    for name in FIRST_VIEWS:
        assert f"#early-{name}" in styles
        assert style(name) in styles


def test_what_all_need_comes_first():
    order = [PAGE_SCRIPTS.index(name) for name in ("lib", "words", "store", "parts/nodes", "guide")]
    assert order == sorted(order)
