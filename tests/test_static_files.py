"""Scripts and styles of the page, of its views, of reports and galleries are made of all files there are, each once."""

from __future__ import annotations

from conftest import ROOT

from drorae.ui.page import VIEWS
from drorae.viewers.static_files import (
    FIRST_VIEWS,
    PAGE_SCRIPTS,
    PAGE_STYLES,
    STATIC,
    VIEW_SCRIPTS,
    VIEW_STYLES,
    first_script,
    first_style,
    page_script,
    page_style,
    read_static,
    script,
    style,
)

FOLDER = ROOT / "drorae" / "viewers" / "static"
AROUND = ("bar", "strip")  # views that are always there


def check_all_are_taken_once(parts: list[str], ending: str, least: int) -> None:
    """The parts together are the files of that ending, each once and whole, and nothing else."""
    together = "".join(parts)
    texts = {str(file): file.read_text(encoding="utf-8") for file in FOLDER.rglob(f"*.{ending}")}
    assert len(texts) > least
    for name, text in texts.items():
        assert together.count(text) == 1, name
    assert len(together) == sum(map(len, texts.values()))


def test_no_script_is_left_out_or_taken_twice():
    views = [script(name) for name in (*VIEWS, *AROUND)]
    others = [read_static(f"{name}.js") for name in ("channel", "gallery", "early")]
    check_all_are_taken_once([page_script(), *views, *others], "js", 40)


def test_no_style_is_left_out_or_taken_twice():
    views = [style(name) for name in (*VIEWS, *AROUND)]
    others = [read_static(f"{name}.css") for name in ("gradio", "report", "gallery", "early")]
    check_all_are_taken_once([page_style(), *views, *others], "css", 20)


def test_views_have_markup_and_style_beside_their_scripts():
    for name in (*VIEWS, *AROUND):
        assert (STATIC / f"{name}.html").is_file()
        assert style(name)
    assert {*VIEW_SCRIPTS, *VIEW_STYLES} <= {*VIEWS, *AROUND}


def test_the_first_views_come_with_the_page_in_their_order():
    scripts, styles = first_script(), first_style()
    places = [scripts.index(script(name)) for name in FIRST_VIEWS]
    assert places[0] > 0
    assert places == sorted(places)
    for name in FIRST_VIEWS:
        assert f"#early-{name}" in styles
        assert style(name) in styles


def test_what_all_need_comes_first():
    order = [
        PAGE_SCRIPTS.index(name)
        for name in (
            "lib",
            "words",
            "store/state",
            "store/questions",
            "store/photos",
            "store/address",
            "parts/nodes",
            "guide",
        )
    ]
    assert order == sorted(order)


def test_what_depends_on_the_width_comes_after_what_it_changes():
    order = [PAGE_STYLES.split().index(name) for name in ("theme", "base", "stage", "widths")]
    assert order == sorted(order)
    assert VIEW_STYLES["generate"].split()[-1] == "widths"
