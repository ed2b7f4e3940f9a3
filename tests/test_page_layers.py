"""The view Layers in a real browser: what is at hand, what is asked for, the brush, playing, models without layers."""

from __future__ import annotations

import numpy as np
import pytest
from browser import NEEDS_CHROMIUM, Watched, contrast
from conftest import ROOT, build, served
from playwright.sync_api import expect

from drorae.explorer.interventions import Intervention
from drorae.explorer.reading import Reading
from drorae.images import open_photo
from drorae.ui.page import build_demo

pytestmark = NEEDS_CHROMIUM
CHANGED = "#layers .changed canvas.px"
MINUS = "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def reading(tiny) -> Reading:
    return Reading(open_photo((ROOT / "assets" / "examples" / "cat.jpg").read_bytes(), "cat"), tiny)


@pytest.fixture(scope="module")
def made(reading):
    *_, last = reading.interventions()
    return last


@pytest.fixture(scope="module")
def one_page(browser, tiny_url):
    """For all tests: a page takes longer to open than a test takes."""
    watched = Watched(browser, tiny_url, query="?example=cat")
    watched.know("routes")
    watched.open("layers")
    watched.page.wait_for_function("store.data('frames')?.done === store.data('frames')?.total && store.data('frames')")
    watched.page.wait_for_function("store.data('tiles')")
    yield watched
    watched.page.close()


@pytest.fixture
def view(one_page):
    one_page.page.set_viewport_size({"width": 1440, "height": 900})
    one_page.page.locator("#layers [data-part=reset]").click()
    drawn(one_page)
    one_page.requests.clear()
    yield one_page
    one_page.check()


def drawn(view: Watched) -> None:
    """Wait until everything that was decided is on the screen."""
    view.page.wait_for_function("!document.querySelector('#layers .shot.waits')")
    view.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def pixels(view: Watched, selector: str = CHANGED) -> np.ndarray:
    drawn(view)
    width, height, values = view.page.locator(selector).first.evaluate(
        """canvas => {
            const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
            return [canvas.width, canvas.height, Array.from(data)];
        }"""
    )
    return np.array(values, np.uint8).reshape(height, width, 4)[..., :3]


def asked(view: Watched) -> int:
    return sum("queue/join" in url for url in view.requests)


def switch(view: Watched, layer: int, **options) -> None:
    view.page.locator(f"#layers .chan[data-layer='{layer - 1}'] .toggle").click(**options)


def headline(view: Watched):
    return view.page.locator("#layers [data-part=headline]")


def test_single_changes_are_at_hand(view, reading, made):
    page, trained = view.page, reading.routes.pictures["drorae"]
    assert np.array_equal(pixels(view), trained)
    assert np.array_equal(pixels(view, "#layers .trained canvas.px"), trained)
    expect(headline(view)).to_have_text("Take a layer away. What goes with it?")
    usual = made.strengths[made.betas.index(made.beta)].metrics["psnr"]
    for layer, frame in enumerate(made.removed, 1):
        switch(view, layer)
        assert np.array_equal(pixels(view), frame.picture)
        expect(headline(view)).to_contain_text(f"Without layer {layer}")
        expect(page.locator("#layers .changed .score b")).to_have_text(
            f"{frame.metrics['psnr']:.1f}".replace("-", MINUS)
        )
        worth = page.locator(f"#layers .chan[data-layer='{layer - 1}'] em").inner_text()
        assert float(worth.replace(MINUS, "-")) == pytest.approx(usual - frame.metrics["psnr"], abs=0.0501)
        switch(view, layer)
    switch(view, 2, modifiers=["Shift"])
    assert np.array_equal(pixels(view), made.alone[1].picture)
    expect(headline(view)).to_contain_text("With layer 2 alone")
    switch(view, 2)  # the last one that is left
    expect(page.locator("#layers [data-part=hint]")).to_contain_text("Keep at least one layer.")
    assert page.evaluate("store.state.off") == [0, 2]
    page.get_by_role("button", name="As trained", exact=True).first.click()
    page.locator("#layers [data-part=strength]").focus()
    page.keyboard.press("Home")
    for beta, frame in zip(made.betas, made.strengths, strict=True):
        assert np.array_equal(pixels(view), frame.picture)
        expect(page.locator("#layers [data-part=strength-value]")).to_contain_text(f"{beta:.2f}")
        page.keyboard.press("ArrowRight")
    assert asked(view) == 0


def test_a_tile_of_the_strip_switches_its_layer_and_the_strip_ends_in_the_changed_picture(view, made):
    view.page.evaluate("store.set({ step: 3 })")
    view.page.locator("#strip .tile[data-layer='0']").click()
    assert view.page.evaluate("[store.state.off, store.state.step]") == [[0], 4]  # the guide's third step is done
    drawn(view)
    shown = view.page.evaluate(
        """() => {
            const canvas = store.changedPicture();
            return Array.from(canvas.getContext('2d').getImageData(0, 0, 1, 1).data);
        }"""
    )
    assert shown[:3] == made.removed[0].picture[0, 0].tolist()
    assert view.page.locator("#layers .chan[data-layer='0'] .toggle").get_attribute("aria-pressed") == "false"
    assert np.array_equal(pixels(view, "#strip .cell:last-child canvas"), made.removed[0].picture)


def test_any_other_change_is_one_request_and_equals_the_library(view, reading):
    view.page.evaluate("store.set({ beta: 0.6 })")
    drawn(view)
    view.page.evaluate("store.toggle(0)")
    expect(view.page.locator("#layers .changed .message")).to_have_text("Rebuilding ...")
    expect(headline(view)).to_contain_text("Without layer 1 at strength 0.60,")
    expected = reading.intervene(Intervention((2, 3), 0.6))
    assert np.abs(pixels(view).astype(int) - expected.picture.astype(int)).max() <= 1
    assert asked(view) == 1
    view.page.evaluate("store.toggle(0)")
    view.page.evaluate("store.toggle(0)")
    drawn(view)
    assert asked(view) == 1  # it is known now
    view.page.evaluate("store.set({ region: [999] })")
    expect(view.page.locator("#layers .changed .message")).to_contain_text("There is no token 999")


def test_a_painted_region_confines_the_change(view, reading, made):
    page = view.page
    page.get_by_role("button", name="Paint where it applies").click()
    page.get_by_role("button", name="Small", exact=True).click()
    brush = page.locator("#layers .brush")
    box = brush.bounding_box()

    def at(column: int, row: int) -> tuple[float, float]:
        return box["x"] + (column + 0.5) / 4 * box["width"], box["y"] + (row + 0.5) / 4 * box["height"]

    page.mouse.move(*at(0, 1))
    page.mouse.down()
    page.mouse.move(*at(2, 1))  # in one jump
    page.mouse.up()
    assert page.evaluate("store.state.region") == [4, 5, 6]
    expect(page.locator("#layers .painted")).to_have_text("Only in 3 of 16 places. Now change something.")
    assert asked(view) == 0
    assert page.evaluate("store.state.token") is None  # nothing was pinned by it
    page.evaluate("store.set({ beta: 0 })")
    expect(headline(view)).to_contain_text("where you painted")
    expected = reading.intervene(Intervention(beta=0.0, tokens=(4, 5, 6))).picture
    assert np.abs(pixels(view).astype(int) - expected.astype(int)).max() <= 1
    assert asked(view) == 1
    page.mouse.move(0, 0)
    brush.focus()
    page.keyboard.press("Escape")
    assert page.evaluate("store.state.region") == []
    assert np.array_equal(pixels(view), made.strengths[0].picture)
    page.keyboard.press("Space")  # in the middle: row 3, column 3
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Shift+ArrowLeft")
    assert page.evaluate("store.state.region") == [5, 6, 10]


def test_playing_goes_through_everything_and_ends_as_trained(view, made):
    page = view.page
    page.evaluate(
        """() => {
            window.seen = [];
            store.on(["off", "beta"], ({ off, beta }) => window.seen.push([off.map(String).join(), beta]));
        }"""
    )
    page.locator("#layers [data-play=layers]").click()
    page.wait_for_function("window.seen.length === 4")
    assert page.evaluate("window.seen") == [["0", None], ["1", None], ["2", None], ["", None]]
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Space")
    page.wait_for_function("window.seen.length >= 6")
    assert page.evaluate("window.seen.slice(4, 6)") == [["", 0], ["", 0.1]]
    switch(view, 1)  # whatever else is touched ends it
    assert page.evaluate("[store.state.playing, store.state.off]") == [False, [0]]
    expect(page.locator("#layers [data-play=strength]")).to_have_text("Play")
    page.locator("#layers [data-part=reset]").click()
    page.emulate_media(reduced_motion="reduce")
    try:
        page.locator("#layers [data-play=strength]").click()
        assert page.evaluate("store.state.beta") == 0
        page.locator("#layers [data-play=strength]").click()  # nothing moves but by hand
        assert page.evaluate("store.state.beta") == pytest.approx(made.betas[1])
    finally:
        page.emulate_media(reduced_motion="no-preference")


def test_it_fits_and_is_readable(view):
    page = view.page
    page.set_viewport_size({"width": 1280, "height": 720})
    page.evaluate("store.set({ step: 3 })")
    drawn(view)
    for part in (".guide", "[data-part=meter]"):
        box = page.locator(f"#layers {part}").bounding_box()
        assert box["y"] + box["height"] <= 720
    for part in (".legend", ".ends span", ".note", ".chan em"):
        assert contrast(page, f"#layers {part}") >= 4.5
    page.set_viewport_size({"width": 390, "height": 844})
    drawn(view)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    parts = (".changed .shot", ".curve", ".chans", "[data-part=meter]")
    order = [page.locator(f"#layers {part}").bounding_box()["y"] for part in parts]
    assert order == sorted(order)
    small = page.evaluate(
        """() => [...document.querySelectorAll('#layers :is(.btn, .toggle, .only, .half button, input)')]
            .filter((node) => node.offsetParent)
            .map((node) => [node.className, node.getBoundingClientRect()])
            .filter(([, box]) => box.width < 44 || box.height < 44)
            .map(([name]) => name)"""
    )
    assert small == []


@pytest.mark.parametrize(("fusion", "sentence"), [("mean", "no router"), (None, "last layer alone")])
def test_a_model_without_layers_to_switch_says_so(browser, fusion, sentence):
    with served(build_demo(build(fusion=fusion), "plain")) as address:
        view = Watched(browser, address, query="?example=cat")
        view.know("routes")
        view.open("layers")
        expect(view.page.locator("#layers [data-part=subtitle]")).to_contain_text(sentence)
        expect(view.page.locator("#layers [data-part=desk]")).to_be_hidden()
        view.check()
        view.page.close()
