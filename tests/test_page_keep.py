"""What a visitor takes along: the report and the link, in a real browser."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import NEEDS_CHROMIUM, Watched, canvas_pixels
from conftest import ROOT
from playwright.sync_api import expect

import drorae.ui.photo
from drorae.explorer.explore import intervene
from drorae.explorer.interventions import Intervention
from drorae.images import load_image
from drorae.ui.uploads import GONE

pytestmark = NEEDS_CHROMIUM
ROCKET = ROOT / "assets" / "examples" / "rocket.jpg"
CHANGED = "#layers .changed canvas.px"


@pytest.fixture
def view(home) -> Iterator[Watched]:
    """The first example as the model was trained."""
    home.page.keyboard.press("Escape")
    home.page.evaluate("store.set({ beta: null, off: [], region: [] }); parts.release(); store.show('cat')")
    home.know("routes", "cat")
    yield home
    home.check()


def share(view: Watched, item: str) -> None:
    """Press something in the menu Share."""
    if not view.page.locator("#bar [data-part=menu]").is_visible():
        view.page.get_by_role("button", name="Share").click()
    view.page.get_by_role("menuitem", name=item).click()


def told(view: Watched):
    return view.page.locator("#bar .menu .told")


def uploaded(view: Watched, path: Path) -> None:
    """Look at a photo of one's own."""
    view.upload(path)
    view.page.wait_for_function(f"store.photo()?.name === '{path.name}' && store.data('routes')")


def drawn(view: Watched) -> None:
    view.page.wait_for_function("!document.querySelector('#layers .shot.waits')")
    view.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_the_report_is_a_file_that_names_the_picture(view, tmp_path):
    with view.page.expect_download() as download:
        share(view, "Save report")
    assert download.value.suggested_filename == "drorae-cat.html"
    download.value.save_as(tmp_path / "x.html")
    assert "python -m drorae report assets/examples/cat.jpg --model tiny" in (tmp_path / "x.html").read_text()
    expect(told(view)).to_have_text("Saved drorae-cat.html.")


def test_a_report_that_fails_is_a_sentence_and_can_be_asked_for_again(view, monkeypatch):
    def fails(*args):
        raise ValueError("of a kind nobody thought of")

    monkeypatch.setattr(drorae.ui.photo, "report", fails)
    share(view, "Save report")
    expect(told(view)).to_have_text(drorae.ui.photo.UNFORESEEN)
    monkeypatch.undo()
    with view.page.expect_download():
        share(view, "Save report")


def test_an_upload_that_was_deleted_is_asked_for_again(view, tmp_path):
    (tmp_path / "mine.jpg").write_bytes(ROCKET.read_bytes() + b"\0")
    uploaded(view, tmp_path / "mine.jpg")
    kept = list(Path(os.environ["GRADIO_TEMP_DIR"]).rglob("mine.jpg"))
    assert kept
    for file in kept:
        file.unlink()
    share(view, "Save report")
    expect(told(view)).to_have_text(GONE)


def test_a_link_restores_example_view_layer_place_and_changes(browser, tiny_url, view, tiny):
    """It is written by the page, and read by a page that was opened anew."""
    page = view.page
    page.locator("#bar .tray button[aria-label=rocket]").click()
    view.know("routes", "rocket")
    view.open("weights")
    page.evaluate("store.set({ layer: 1 }); parts.point([0, 0]); parts.pin()")
    page.wait_for_url(re.compile(r"\?tab=weights&example=rocket&token=0&layer=2$"))
    view.open("layers")
    page.locator("#layers .chan[data-layer='2'] .toggle").click()
    page.evaluate("store.set({ beta: 0.7, region: [0, 1, 4, 5] })")
    page.wait_for_url(re.compile("region="))
    address = page.url
    assert address.partition("?")[2] == "tab=layers&example=rocket&token=0&beta=0.7&off=3&region=0-1.4-5"

    other = Watched(browser, address.partition("?")[0], query=f"?{address.partition('?')[2]}")
    other.know("routes", "rocket")
    other.page.wait_for_selector("#layers", state="visible")
    assert other.page.evaluate("[store.state.view, store.state.token, store.state.pinned]") == ["layers", 0, True]
    assert other.page.evaluate("[...store.photos.values()].filter((each) => each.kinds.routes).length") == 1
    other.page.wait_for_function("document.querySelector('#layers .changed .score b')?.textContent")
    frame = intervene(load_image(ROCKET), tiny, Intervention((1, 2), 0.7, tokens=(0, 1, 4, 5)))
    expect(other.page.locator("#layers .changed .score b")).to_have_text(f"{frame.metrics['psnr']:.1f}")
    drawn(other)
    assert np.abs(canvas_pixels(other.page, CHANGED).astype(int) - frame.picture).max() <= 1
    assert other.page.locator("#layers .chan[data-layer='2'] .toggle").get_attribute("aria-pressed") == "false"
    other.check()
    other.page.close()


@pytest.mark.parametrize(
    ("older", "shown"), [("compare", "picture"), ("routing", "weights"), ("intervene", "layers"), ("batch", "photos")]
)
def test_links_of_older_pages_open_the_view_of_today(browser, tiny_url, older, shown):
    view = Watched(browser, tiny_url, query=f"?tab={older}&example=coffee")
    view.page.wait_for_selector(f"#{shown}", state="visible")
    view.know("routes", "coffee")
    view.check()
    view.page.close()


@pytest.mark.parametrize(
    "query",
    [
        "?example=cat&beta=2&off=0.99.x&region=7-3.9999999&token=-1&layer=77&tab=nothing",
        "?off=1-3.&beta=%3Cscript%3E&layer=0",
    ],
)
def test_a_link_that_makes_no_sense_shows_the_usual_page(browser, tiny_url, query):
    view = Watched(browser, tiny_url, query=query)
    view.painted()
    view.know("routes", "cat")
    assert view.page.evaluate("[store.state.beta, store.state.region, store.state.layer, store.state.pinned]") == [
        None,
        [],
        1,
        False,
    ]
    expect(view.page.locator("#bar .failure")).to_be_hidden()
    view.check()
    view.page.close()


def test_a_link_of_an_upload_says_that_the_photo_stays_here(view, tmp_path):
    (tmp_path / "mine.jpg").write_bytes(ROCKET.read_bytes() + b"\0")  # not the example's bytes
    uploaded(view, tmp_path / "mine.jpg")
    share(view, "Copy link")
    expect(told(view)).to_contain_text(re.compile("Your photo stays in this browser|photo=[0-9a-f]{16}"))
    said = told(view).text_content()
    view.page.evaluate("store.receive('standing', { key: store.state.photo, value: {} })")
    expect(told(view)).to_have_text(said)  # what else is heard says no older failure again
    assert "example" not in view.page.evaluate("store.link()")
