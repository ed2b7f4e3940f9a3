"""Weights in a real browser: maps, numbers and what resembles a place, against what the explorer computes."""

from __future__ import annotations

import re

import numpy as np
import pytest
from browser import NEEDS_CHROMIUM, Watched
from playwright.sync_api import expect

from drorae.explorer.reading import Reading
from drorae.explorer.similarity import similarity
from drorae.images import open_photo
from drorae.study import published
from drorae.ui.examples import EXAMPLES

pytestmark = NEEDS_CHROMIUM
ROOT = ".weights[data-part=root]"
LARGE = f"{ROOT} .shot >> nth=0"
SCALE = np.array([[20, 84, 180], [247, 246, 243], [184, 62, 4]])  # held back, nothing, added
MINUS_SIGN = (12, 47, 107)


def reading_of(example, model) -> Reading:
    with open(EXAMPLES[example], "rb") as file:
        return Reading(open_photo(file.read(), example), model)


@pytest.fixture(scope="module")
def reading(tiny):
    return reading_of("cat", tiny)


@pytest.fixture(scope="module")
def result(reading):
    return reading.routes


@pytest.fixture(scope="module")
def one_page(browser, tiny_url):
    """For all tests: a page takes longer to open than a test takes."""
    watched = Watched(browser, tiny_url, query="?tab=weights&example=cat", width=1440)
    watched.page.wait_for_selector(f"{ROOT} .map[data-layer='2']")
    yield watched
    watched.page.close()


@pytest.fixture
def view(one_page):
    one_page.page.mouse.move(0, 0)
    one_page.page.evaluate("store.set({ like: null, second: null, layer: 1 }); parts.release()")
    one_page.page.wait_for_selector(f"{ROOT} .map[data-layer='1'][aria-pressed=true]")
    yield one_page
    one_page.check()


def number(text: str) -> float:
    return float(text.replace("\N{MINUS SIGN}", "-"))


def terms(view: Watched) -> list[float]:
    return [number(text.split()[0]) for text in view.page.locator(f"{ROOT} .eq .tm").all_inner_texts()]


def bars(view: Watched) -> list[float]:
    rows = view.page.locator(f"{ROOT} .bars .row span:last-child")
    return [number(text) for text in rows.all_inner_texts()]


def state(view: Watched, name: str):
    return view.page.evaluate(f"store.state.{name}")


def middle(view: Watched, selector: str, token: int) -> tuple[float, float]:
    """Where a token of four by four lies on the screen."""
    box = view.page.locator(selector).bounding_box()
    return box["x"] + box["width"] * (token % 4 + 0.5) / 4, box["y"] + box["height"] * (token // 4 + 0.5) / 4


def pixels(view: Watched, selector: str) -> np.ndarray:
    shape, values = view.page.locator(selector).evaluate(
        """(canvas) => [[canvas.height, canvas.width, 4],
            Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)]"""
    )
    return np.array(values).reshape(shape)[..., :3]


def test_maps_have_one_scale_for_all_photos(view, result):
    for layer in range(3):
        values = result.shares[:, layer].reshape(4, 4, 1) / 0.7
        ends = np.where(values < 0, SCALE[0], SCALE[2])
        expected = SCALE[1] + np.minimum(1, np.abs(values)) * (ends - SCALE[1])
        shown = pixels(view, f"{ROOT} .map[data-layer='{layer}'] canvas")
        assert np.abs(shown - expected).max() <= 1  # shares travel as whole numbers
        caption = view.page.locator(f"{ROOT} .map[data-layer='{layer}'] .score").inner_text()
        assert number(caption) == pytest.approx(result.shares[:, layer].mean(), abs=0.0051)


def test_a_minus_stands_in_cells_that_are_held_back(view, result):
    layer = int(np.argmin(result.shares.min(0)))
    view.page.evaluate(f"store.set({{ layer: {layer} }})")
    view.page.wait_for_selector(f"{ROOT} .map[data-layer='{layer}'][aria-pressed=true]")
    shown = pixels(view, f"{ROOT} .shot >> nth=0 >> canvas.px")
    side = shown.shape[0] / 4
    signs = [tuple(shown[int((t // 4 + 0.48) * side), int((t % 4 + 0.5) * side)]) == MINUS_SIGN for t in range(16)]
    assert signs == (result.shares[:, layer] <= -0.02).tolist()
    assert any(signs)


def test_the_equation_has_the_numbers_of_the_place(view, result):
    view.page.mouse.move(*middle(view, LARGE, 6))
    assert state(view, "token") == 6
    assert terms(view) == pytest.approx(result.shares[6].tolist(), abs=0.0051)
    assert bars(view) == pytest.approx(result.shares[6].tolist(), abs=0.0051)
    text = view.page.locator(f"{ROOT} .maps .card").inner_text()
    assert "0.20 \N{MULTIPLICATION SIGN} ( mix" in text
    energy = np.sqrt((result.weights[6].astype(float) ** 2).sum())
    assert float(re.search(r"divided by (\d+\.\d+)", text)[1]) == pytest.approx(energy, abs=0.0051)
    cosine = number(re.search(r"mix and last: ([+\N{MINUS SIGN}]?\d\.\d\d)", text)[1])
    assert cosine == pytest.approx(result.cosines[6], abs=0.0051)
    view.page.mouse.move(0, 0)
    assert terms(view) == pytest.approx(result.shares.mean(0).tolist(), abs=0.0051)


def test_a_term_lays_its_layer_over_the_photo(view):
    view.page.locator(f"{ROOT} .eq .tm").nth(2).click()
    assert state(view, "layer") == 2
    expect(view.page.locator(f"{ROOT} figcaption").first).to_contain_text("Layer 3 over the photo")
    assert "layer=3" in view.page.evaluate("store.link()")


def test_pointing_at_a_map_marks_the_same_place_everywhere(view, result):
    map_ = f"{ROOT} .map[data-layer='2'] .pane"
    view.page.mouse.move(*middle(view, map_, 9))
    assert state(view, "token") == 9
    marks = view.page.locator(f"{ROOT} .pane .mark:visible").evaluate_all(
        "(marks) => marks.map((mark) => [mark.style.left, mark.style.top])"
    )
    assert marks == [["25%", "50%"]] * 4  # the large map, and one for each layer
    assert view.page.locator("#strip .tile em").all_inner_texts()[0].lstrip("+\N{MINUS SIGN}") == (
        f"{abs(result.shares[9, 0]):.2f}".removeprefix("0")
    )
    view.page.locator(map_).click()
    assert [state(view, "layer"), state(view, "pinned")] == [2, False]  # a click chooses the layer


def test_dragging_draws_a_rectangle_and_shows_its_mean(view, result):
    view.page.mouse.move(*middle(view, LARGE, 5))
    view.page.mouse.down()
    view.page.mouse.move(*middle(view, LARGE, 11))  # in one jump
    view.page.mouse.up()
    tokens = [5, 6, 7, 9, 10, 11]
    assert state(view, "area") == tokens
    expected = pytest.approx(result.shares[tokens].mean(0).tolist(), abs=0.0051)
    assert terms(view) == expected
    assert bars(view) == expected
    expect(view.page.locator(f"{ROOT} .insp .score")).to_have_text("mean of 6 places")
    assert "token=5-7.9-11" in view.page.evaluate("store.link()")
    view.page.mouse.move(*middle(view, LARGE, 0))
    assert state(view, "area") == tokens  # it stays
    assert view.page.evaluate("store.read(store.link().split('?')[1]).area") == tokens


def test_shift_and_arrows_draw_a_rectangle(view, result):
    view.page.locator(LARGE).focus()
    view.page.keyboard.press("ArrowDown")  # the first key only shows where one is: row 3, column 3
    for key in ("ArrowUp", "Shift+ArrowRight", "Shift+ArrowUp"):
        view.page.keyboard.press(key)
    assert state(view, "area") == [2, 3, 6, 7]
    assert terms(view) == pytest.approx(result.shares[[2, 3, 6, 7]].mean(0).tolist(), abs=0.0051)
    expect(view.page.locator("#said")).to_contain_text("Mean of 4 places: layer")
    view.page.keyboard.press("ArrowLeft")
    assert [state(view, "area"), state(view, "token")] == [[], 2]
    view.page.keyboard.press("Escape")
    assert [state(view, "token"), state(view, "pinned")] == [None, False]


def test_two_places_are_compared(view, result):
    view.page.mouse.click(*middle(view, LARGE, 5))
    view.page.get_by_role("button", name="compare with another place").click()
    view.page.mouse.move(*middle(view, LARGE, 14))
    assert [state(view, "against"), state(view, "token")] == [[5], 14]
    expect(view.page.locator(f"{ROOT} .insp .say")).to_contain_text("Line: A, row 2, col 2")
    lines = view.page.locator(f"{ROOT} .bars s").evaluate_all("(all) => all.map((line) => parseFloat(line.style.left))")
    assert lines == pytest.approx((33 + result.shares[5] * 67 / 0.72).clip(0, 100).tolist(), abs=0.1)
    view.page.get_by_role("button", name="stop comparing").click()
    assert state(view, "against") is None


def test_brackets_step_through_the_layers(view):
    view.page.locator(LARGE).focus()
    for key, layer in (("]", 2), ("]", 0), ("[", 2)):
        view.page.keyboard.press(key)
        assert state(view, "layer") == layer


def alike(values: np.ndarray, own: int) -> int:
    """Places in a hundred, without the place itself."""
    return round(100 * ((values >= 0.5).sum() - own) / (len(values) - own))


def test_what_resembles_a_place(view, reading, tiny):
    view.page.mouse.click(*middle(view, LARGE, 10))
    view.page.get_by_role("button", name="What resembles this?").click()
    view.page.wait_for_function("store.data('similar')?.token === 10")
    expected = similarity(reading, 10)
    assert list(expected.maps) == ["1", "2", "3", "z_base", "z_fuse", "z_final"]
    counts = [alike(values, 1) for values in expected.values]
    headline = view.page.locator(f"{ROOT} h1")
    places = f"In layer 2 this place resembles {counts[1]} of 100 places"
    expect(headline).to_have_text(f"{places}; in the last layer {counts[3]}.")
    shown = view.page.locator(f"{ROOT} .map .score").all_inner_texts()
    assert [int(text) for text in shown] == counts
    paper, ink = np.array([240, 238, 234]), np.array([21, 23, 26])
    for i, values in enumerate(expected.values):
        colours = paper + values.clip(0, 1).reshape(4, 4, 1) * (ink - paper)
        assert np.abs(pixels(view, f"{ROOT} .map[data-layer='{i}'] canvas") - colours).max() <= 1

    view.page.locator(f"{ROOT} .map[data-layer='5']").click()
    expect(headline).to_contain_text(f"In the latent this place resembles {counts[5]} of 100")
    assert "like=z_final" in view.page.evaluate("store.link()")
    asked = len(view.requests)
    view.page.locator(f"{ROOT} .map[data-layer='0']").click()
    expect(headline).to_contain_text(f"In layer 1 this place resembles {counts[0]} of 100")
    assert state(view, "layer") == 0  # layers are chosen everywhere
    assert len(view.requests) == asked

    view.page.get_by_role("combobox", name="Also on a second photo").select_option("coffee")
    view.page.wait_for_function("store.data('similar')?.photos.length === 2 && store.data('routes', 'coffee')")
    other = similarity(reading, 10, reading_of("coffee", tiny)).values[0]
    expect(view.page.locator(f"{ROOT} .head p")).to_contain_text(f"On the second photo, {alike(other, 0)} of 100.")
    beside = view.page.locator(f"{ROOT} figure").nth(1)
    expect(beside).to_contain_text(f"most alike {other.max():.2f}".replace("-", "\N{MINUS SIGN}"))


def test_the_photo_stays_where_it_resembles_the_place(view, reading):
    view.page.mouse.click(*middle(view, LARGE, 3))
    view.page.get_by_role("button", name="What resembles this?").click()
    view.page.wait_for_function("store.data('similar')?.token === 3")
    expect(view.page.locator(f"{ROOT} h1")).to_contain_text("In layer 2 this place resembles")
    seen = similarity(reading, 3).values[1].clip(0, 1)
    photo = reading.routes.original.reshape(4, 8, 4, 8, 3).mean((1, 3)).reshape(16, 3)
    page = np.array([250, 249, 247])
    cover = 0.96 * (1 - seen)[:, None]
    shown = pixels(view, f"{ROOT} .shot >> nth=0 >> canvas.px")
    side = shown.shape[0] // 4
    means = shown.reshape(4, side, 4, side, 3).mean((1, 3)).reshape(16, 3)
    assert np.abs(means - (photo + cover * (page - photo))).max() < 3


def test_texture_fingerprint_and_spread_are_the_explorers(view, result):
    view.page.locator(f"{ROOT} summary").click()
    buttons = view.page.locator(f"{ROOT} .coefficients button")
    expect(buttons).to_have_count(3)
    shown = [number(text.split()[-1]) for text in buttons.all_inner_texts()]
    assert shown == pytest.approx(result.texture_correlation.tolist(), abs=0.0051)
    buttons.nth(2).click()
    expect(view.page.locator(f"{ROOT} [data-part=trend]")).to_contain_text("Layer 3: r =")
    rows = view.page.locator(f"{ROOT} [data-part=fingerprint] tr").all_inner_texts()
    assert len(rows) == len(published.LAYER_ROLES) + 1
    assert number(rows[-1].split("\t")[-1]) == pytest.approx(result.cosine, abs=0.0051)
    # the deepest quarter of three layers is the third
    first = re.match(r"([+\N{MINUS SIGN}]\d\.\d\d) ± (\d\.\d\d)", rows[4].split("\t")[-1])
    assert number(first[1]) == pytest.approx(result.shares[:, 2].mean(), abs=0.0051)
    assert float(first[2]) == pytest.approx(result.shares[:, 2].std(), abs=0.0051)
    spread = view.page.locator(f"{ROOT} .spread .row").nth(1).get_attribute("aria-label")
    low, high = np.quantile(result.shares[:, 1], (0.1, 0.9))
    numbers = [number(text) for text in re.findall(r"[+\N{MINUS SIGN}]?\d\.\d\d", spread)]
    assert numbers == pytest.approx([result.shares[:, 1].mean(), low, high], abs=0.0051)
    view.page.locator(f"{ROOT} summary").click()
