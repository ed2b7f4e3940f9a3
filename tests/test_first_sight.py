"""The page draws its first result before Gradio's scripts have run, and loses nothing when they have."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from browser import NEEDS_CHROMIUM, Held, canvas_pixels
from conftest import ROOT, served
from playwright.sync_api import Page, expect

from drorae.bundled import DEFAULT_MODEL
from drorae.ui.first_sight import with_first_sight
from drorae.ui.page import build_demo

PAGE = (
    b"<html><head><title>T</title>"
    b'<script type="module" crossorigin src="./assets/index-A_1.js"></script>\n'
    b'<link rel="stylesheet" crossorigin href="./assets/index-B.css">'
    b'</head><body style="x"><gradio-app></gradio-app></body></html>'
)
EARLY = "#early-picture [data-part=stage] canvas.px"
LATE = "#picture [data-part=stage] canvas.px"
NO_LATER = """
const later = window.setTimeout;
window.setTimeout = (call, wait, ...rest) =>
    wait && !document.querySelector("script[src*='/assets/']") ? 0 : later(call, wait, ...rest);
"""  # what the page puts off never happens before it has begun to fetch Gradio


def test_gradios_script_is_begun_by_the_page_and_its_style_sheet_stops_nothing():
    page = with_first_sight(PAGE).decode()
    head, _, body = page.partition("</head>")
    assert 'type="module"' not in head
    assert (
        """<link rel="stylesheet" media="print" onload="this.media='all'" crossorigin href="./assets/index-B.css">"""
        in head
    )
    assert '<style id="drorae-style">' in head
    script, begin = body.split("<script>")[1:]
    assert "const store = " in script
    assert 'early.define("picture"' in script
    assert begin.startswith('early.begin(["index-A_1.js"]);</script>')
    assert "<gradio-app>" in begin


@pytest.mark.parametrize("page", [b"", b"<html></html>", b"<head></head>", b"no </head> here", b"\xff\xfe<head>"])
def test_a_page_without_a_body_stays_as_it_is(page):
    assert with_first_sight(page) == page


def test_a_page_that_is_written_otherwise_keeps_its_scripts():
    page = b"<head><script src='x.js'></script></head><body></body>"
    changed = with_first_sight(page)
    assert b"<script src='x.js'></script>" in changed
    assert b"early.begin(" not in changed


@pytest.fixture(scope="module")
def url(embedded) -> Iterator[str]:
    """The page of the embedded model, with its examples' results."""
    with served(build_demo(embedded, DEFAULT_MODEL)) as address:
        yield address


@pytest.fixture
def opened(browser, url) -> Iterator:
    """Opens a page whose first views are there, and Gradio is not."""
    pages = []

    def open_page(query: str = "", **media) -> tuple[Page, Held]:
        page = browser.new_page()
        pages.append(page)
        page.set_default_timeout(60_000)
        page.emulate_media(reduced_motion="reduce", **media)
        held = Held(page, "**/assets/*")  # Gradio's scripts and styles
        page.goto(url + query, wait_until="commit")
        page.wait_for_selector("#early-bar .tray button")
        return page, held

    yield open_page
    for page in pages:
        page.close()


def whole(page: Page) -> None:
    """Wait until everything stands where Gradio has its components."""
    page.wait_for_selector("#bar .tray button", state="attached")
    page.wait_for_selector("#early", state="detached")


@pytest.mark.browser
class TestBrowser:
    pytestmark = NEEDS_CHROMIUM

    def test_the_first_result_is_painted_without_gradio_and_stays_the_same(self, opened):
        page, held = opened()
        page.wait_for_selector("html[data-painted]", state="attached")
        assert (
            page.locator("#early-picture h1").inner_text()
            == "The last layer forgets this photo. Twelve layers remember it."
        )
        scores = page.locator("#early-picture [data-part=stage] .score b").all_inner_texts()
        early = [canvas_pixels(page, f"{EARLY} >> nth={i}") for i in range(3)]
        assert all(each.std() > 10 for each in early)
        place = page.locator("#early-picture h1").bounding_box()
        size = page.locator("#early-picture h1").evaluate("(node) => getComputedStyle(node).fontSize")
        page.evaluate("document.querySelectorAll('.pane, .tray, .strip').forEach((node) => { node.mine = true; })")
        held.release()
        whole(page)
        assert page.evaluate(
            "[...document.querySelectorAll('#picture .pane, #bar .tray, #strip .strip')].every((n) => n.mine)"
        )
        assert page.locator("#picture [data-part=stage] .score b").all_inner_texts() == scores
        for i, before in enumerate(early):
            assert np.array_equal(canvas_pixels(page, f"{LATE} >> nth={i}"), before)
        assert page.locator("#picture h1").bounding_box() == place
        assert page.locator("#picture h1").evaluate("(node) => getComputedStyle(node).fontSize") == size
        assert page.evaluate("document.querySelectorAll('.drorae.bar, #said').length") == 2
        # of two rules that are equally strong, the later one holds
        sheets = page.evaluate("[...document.styleSheets].map(({ ownerNode }) => ownerNode.id || ownerNode.href || '')")
        gradios = [number for number, name in enumerate(sheets) if "/assets/" in name]
        assert gradios
        assert sheets.index("drorae-style") > max(gradios)

    def test_what_is_done_meanwhile_is_kept(self, opened):
        page, held = opened()
        page.locator("#early-bar .tray button[aria-label=coffee]").click()
        page.wait_for_function("store.data('routes', 'coffee')")
        page.locator("#early-picture .handle").focus()
        page.keyboard.press("ArrowRight")
        assert page.evaluate("store.state.split") == 5
        held.release()
        whole(page)
        assert page.evaluate("[store.state.photo, store.state.split]") == ["coffee", 5]
        assert page.evaluate("document.activeElement.className") == "handle"
        page.keyboard.press("ArrowRight")
        assert page.evaluate("store.state.split") == 10

    def test_a_photo_that_is_given_meanwhile_is_sent_once_it_can_be(self, opened):
        page, held = opened()
        page.locator("#early-bar input[type=file]").set_input_files(ROOT / "assets" / "examples" / "rocket.jpg")
        page.wait_for_function("store.photo()?.pending")
        held.release()
        page.wait_for_function("store.data('routes') && !store.photo().example")
        assert page.evaluate("store.photo().name") == "rocket.jpg"

    @pytest.mark.parametrize("wanted", [True, False])
    def test_the_colours_of_the_visitors_choice_stay(self, opened, wanted):
        page, held = opened(color_scheme="light" if wanted else "dark")
        dark = "document.body.classList.contains('dark')"
        try:
            assert page.evaluate(dark) is not wanted
            page.evaluate(
                "window.seen = new Set();"
                "const look = () => seen.add(document.body.classList.contains('dark'));"
                "new MutationObserver(() => requestAnimationFrame(look))"
                ".observe(document.body, { attributeFilter: ['class'] })"
            )
            page.locator("#early-bar [data-part=theme]").click()
            assert page.evaluate(dark) is wanted
            held.release()
            whole(page)
            assert page.evaluate(dark) is wanted
            assert page.evaluate("[...seen]") == [wanted]
        finally:
            page.evaluate("localStorage.removeItem('drorae-theme')")

    @pytest.mark.parametrize(("asked", "dark"), [("dark", True), ("light", False), ("system", True)])
    def test_an_address_may_ask_for_colours(self, opened, asked, dark):
        page, held = opened(f"?__theme={asked}", color_scheme="dark")
        assert page.evaluate("document.body.classList.contains('dark')") is dark
        held.release()
        whole(page)
        assert page.evaluate("document.body.classList.contains('dark')") is dark

    def test_a_link_to_another_view_never_shows_the_picture_first(self, opened):
        page, held = opened("?tab=weights&example=coffee")
        expect(page.locator("#early-picture")).to_be_hidden()
        held.release()
        page.wait_for_selector("#weights .drorae", state="visible")
        assert page.evaluate("[store.state.view, store.state.photo]") == ["weights", "coffee"]
        page.wait_for_function("parts.panels.filter(({node}) => parts.visible(node)).every(({painted}) => painted)")
        assert canvas_pixels(page, "#weights .shot canvas.px >> nth=0").std() > 10
        expect(page.locator("#picture")).to_be_hidden()
        page.evaluate("store.go('picture')")
        page.wait_for_selector(LATE, state="visible")
        whole(page)

    def test_nothing_moves_under_a_hand(self, opened):
        page, held = opened()
        page.wait_for_selector("html[data-painted]", state="attached")
        box = page.locator("#early-picture .handle").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        held.release()
        page.wait_for_function("document.querySelector('#views [role=tabpanel]')")
        page.mouse.move(box["x"] + 120, box["y"] + 20)
        page.wait_for_function("store.state.split > 10")
        assert page.locator("#early-picture .handle").count() == 1
        page.mouse.up()
        whole(page)
        assert page.evaluate("store.state.split") > 10

    def test_a_browser_that_cannot_move_nodes_whole_keeps_the_focus_too(self, opened):
        page, held = opened()
        page.evaluate("delete Element.prototype.moveBefore")
        page.locator("#early-picture .handle").focus()
        held.release()
        whole(page)
        page.wait_for_function("document.activeElement.className === 'handle'")  # once Gradio shows its component


@pytest.mark.browser
class TestWithoutResults:
    pytestmark = NEEDS_CHROMIUM

    def test_a_page_whose_result_must_be_computed_asks_gradio_at_once(self, browser, tiny_url):
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.add_init_script(NO_LATER)
        page.goto(tiny_url)
        page.wait_for_function("store.data('routes', 'cat')")
        page.wait_for_selector("html[data-painted]", state="attached")
