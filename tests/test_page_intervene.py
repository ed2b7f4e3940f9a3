"""The tabs Intervene and Frequency in a real browser, and what Routing says of a model of twelve layers."""

from __future__ import annotations

import re

import numpy as np
import pytest
from browser import NEEDS_CHROMIUM, Watched, contrast, shown_pixels
from conftest import served
from playwright.sync_api import expect

from drorae.explorer.explore import intervene
from drorae.explorer.interventions import Intervention
from drorae.ui.page import build_demo

pytestmark = NEEDS_CHROMIUM
PAINTED = "#intervene [data-part=picture]"


@pytest.fixture(scope="module")
def url(embedded):
    with served(build_demo(embedded, "drorae-tiny")) as address:
        yield address


@pytest.fixture(scope="module")
def one_page(browser, url):
    """For all tests: a page takes longer to open than a test takes."""
    watched = Watched(browser, url)
    yield watched
    watched.page.close()


@pytest.fixture
def view(one_page):
    one_page.open("Intervene")
    one_page.page.wait_for_selector("#intervene figure img")
    one_page.page.get_by_role("button", name="Reset").click()
    one_page.requests.clear()
    yield one_page
    one_page.check()


def posted(view: Watched) -> list[str]:
    return [url for url in view.requests if "queue/join" in url]


def strength(view: Watched, index: int) -> None:
    slider = view.page.locator("#intervene [data-part=strength]")
    slider.evaluate("(node, value) => { node.value = value; node.dispatchEvent(new Event('input')); }", str(index))


def keep(view: Watched, layer: int):
    return view.page.locator(f"#intervene .switches button[data-layer='{layer}']")


def answered(view: Watched) -> None:
    expect(view.page.locator("#intervene [data-part=metrics]")).to_contain_text("in brackets")


def test_strengths_and_single_layers_flip_without_a_request(view, explored):
    made, page = explored.interventions, view.page
    metrics = page.locator("#intervene [data-part=metrics]")
    assert np.array_equal(shown_pixels(page, PAINTED), explored.pictures["drorae"])
    expect(metrics).to_contain_text("as trained")
    for index, frame in enumerate(made.strengths):
        strength(view, index)
        assert np.array_equal(shown_pixels(page, PAINTED), frame.picture)
        expect(metrics).to_contain_text(f"{frame.metrics['psnr']:.2f} dB")
        expect(page.locator("#intervene [data-part=beta]")).to_contain_text(f"{made.betas[index]:.2f}")
    strength(view, 2)
    assert np.array_equal(shown_pixels(page, PAINTED), explored.pictures["drorae"])  # bit for bit
    for layer in (1, 12):
        keep(view, layer).click()
        assert keep(view, layer).get_attribute("aria-pressed") == "false"
        assert np.array_equal(shown_pixels(page, PAINTED), made.removed[layer - 1].picture)
        keep(view, layer).click()
    page.get_by_role("button", name="only layer 2", exact=True).click()
    assert np.array_equal(shown_pixels(page, PAINTED), made.alone[1].picture)
    expect(page.locator("#intervene [data-part=verdict]")).to_contain_text("No layer was ever missing in training")
    page.get_by_role("button", name="only layer 2", exact=True).click()
    assert np.array_equal(shown_pixels(page, PAINTED), explored.pictures["drorae"])
    assert not posted(view)


def test_the_slider_works_by_keyboard_and_the_button_shows_the_usual_picture(view, explored):
    page = view.page
    page.locator("#intervene [data-part=strength]").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    frame = explored.interventions.strengths[5]
    assert np.array_equal(shown_pixels(page, PAINTED), frame.picture)
    hold = page.get_by_role("button", name="Hold: as trained")
    hold.focus()
    page.keyboard.down("Enter")
    assert np.array_equal(shown_pixels(page, PAINTED), explored.pictures["drorae"])
    page.keyboard.up("Enter")
    assert np.array_equal(shown_pixels(page, PAINTED), frame.picture)
    page.get_by_role("button", name="Reset").click()
    assert np.array_equal(shown_pixels(page, PAINTED), explored.pictures["drorae"])
    assert not posted(view)


def test_any_other_subset_is_one_request_and_equals_the_library(view, embedded, cat):
    keep(view, 1).click()
    keep(view, 12).click()
    answered(view)
    expected = intervene(cat, embedded, Intervention(layers=tuple(range(2, 12))))
    assert len(posted(view)) == 1
    assert np.abs(shown_pixels(view.page, PAINTED).astype(int) - expected.picture.astype(int)).max() <= 1
    expect(view.page.locator("#intervene [data-part=metrics]")).to_contain_text(f"{expected.metrics['psnr']:.2f} dB")


def test_a_painted_region_confines_the_change(view, embedded, cat, explored):
    page = view.page
    page.get_by_role("button", name="Paint a region").click()
    page.locator("#intervene [data-part=size]").select_option("5")
    brush = page.locator("#intervene [data-part=brush]")
    brush.scroll_into_view_if_needed()
    box = brush.bounding_box()

    def at(column: int, row: int) -> tuple[float, float]:
        return box["x"] + (column + 0.5) / 16 * box["width"], box["y"] + (row + 0.5) / 16 * box["height"]

    page.mouse.move(*at(4, 4))
    page.mouse.down()
    page.mouse.move(*at(6, 4))  # in one jump
    page.mouse.up()
    region = view.state("intervene", "[...state.region].sort((a, b) => a - b)")
    assert region == [row * 16 + column for row in range(2, 7) for column in range(2, 9)]
    assert not posted(view)  # nothing is changed there yet
    strength(view, 0)
    answered(view)
    expected = intervene(cat, embedded, Intervention(beta=0.0, tokens=tuple(region)))
    shown = shown_pixels(page, PAINTED).astype(int)
    assert np.abs(shown - expected.picture.astype(int)).max() <= 1
    change = np.abs(shown - explored.pictures["drorae"].astype(int)).mean(2)
    assert change[16:56, 16:72].mean() > 5 * change[80:].mean()
    # by keyboard: a token less, and all of them
    brush.focus()
    view.state("intervene", "(state.token = 0)")
    page.locator("#intervene [data-part=size]").select_option("1")
    brush.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    assert view.state("intervene", "state.region.has(1)")
    page.keyboard.press("Escape")
    assert view.state("intervene", "state.region.size") == 0
    assert np.array_equal(shown_pixels(page, PAINTED), explored.interventions.strengths[0].picture)


def test_the_last_layer_cannot_be_switched_off(view):
    view.page.get_by_role("button", name="only layer 3", exact=True).click()
    keep(view, 3).click()
    expect(view.page.locator("#intervene [data-part=metrics]")).to_contain_text("Keep at least one layer")
    assert view.state("intervene", "state.on.filter(Boolean).length") == 1


@pytest.mark.parametrize("lost", ["cleared", "bad"])
def test_the_picture_that_is_shown_can_be_changed_whatever_came_after_it(view, embedded, cat, tmp_path, lost):
    page = view.page
    if lost == "cleared":
        page.get_by_label("Remove Image").click()
        expect(page.locator("#status")).to_contain_text("Choose another picture")
    else:
        (tmp_path / "notes.png").write_text("no picture")
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Upload a photo").click()
        chooser.value.set_files(tmp_path / "notes.png")
        expect(page.locator("#status")).to_contain_text("is not a picture that can be read")
    keep(view, 1).click()
    keep(view, 2).click()
    layers = tuple(range(3, embedded.encoder.num_layers + 1))
    expected = intervene(cat, embedded, Intervention(layers)).metrics["psnr"]
    expect(page.locator("#intervene [data-part=metrics]")).to_contain_text(f"{expected:.2f}")


def test_the_meter_follows(view, explored):
    needle = view.page.locator("#intervene [data-part=needle]")
    meter = view.page.locator("#intervene [data-part=meter]")
    for index in (2, 10):
        strength(view, index)
        standing = explored.interventions.strengths[index].compatibility
        assert meter.get_attribute("data-verdict") == standing.verdict
        left = float(needle.evaluate("node => node.style.left").rstrip("%"))
        assert left == pytest.approx(100 * standing.beyond**0.5, abs=0.01)
        expect(view.page.locator("#intervene [data-part=facts]")).to_contain_text(f"{abs(standing.cosine):.3f}")
    assert explored.interventions.strengths[2].compatibility.verdict == "inside"
    assert explored.interventions.strengths[10].compatibility.verdict == "outside"


def test_the_fingerprint_has_the_spread_over_the_photo(view, explored):
    """Of every layer, and their mean: layers that differ from each other are not spread out over the photo."""
    view.open("Routing")
    rows = view.page.locator("#routing [data-part=fingerprint] tr").all_inner_texts()
    shares = explored.shares
    assert shares[:, :3].std() > 1.5 * shares[:, :3].std(0).mean()  # so that the two cannot be mistaken
    assert f"\N{PLUS-MINUS SIGN} {shares[:, :3].std(0).mean():.2f}," in rows[0]
    assert f"\N{PLUS-MINUS SIGN} {shares[:, 9:].std(0).mean():.2f}," in rows[4]


def test_texture_is_said_of_what_a_layer_does(view, explored):
    view.open("Routing")
    for layer, correlation in enumerate(explored.texture_correlation):
        view.page.locator("#routing .correlations button").nth(layer).click()
        words = view.page.locator("#routing [data-part=scatter-words]").inner_text()
        added = (explored.shares[:, layer] > 0).mean()
        strength = np.corrcoef(np.abs(explored.shares[:, layer]), explored.texture)[0, 1]
        if abs(correlation) < 0.2:
            assert "does not care" in words
        elif added >= 0.9 or added <= 0.1:
            assert ("added more" if added >= 0.9 else "suppressed more") in words
            assert ("textured" if strength > 0 else "smooth") in words
        else:
            assert ("rises" if correlation > 0 else "falls") in words


def test_frequencies_are_those_of_the_library(view, explored):
    page = view.page
    view.open("Frequency")
    page.wait_for_selector("#frequency tbody tr")
    lost = explored.energies["rae"]
    share = 1 - explored.energies["drorae"] / lost
    headline = page.locator("#frequency [data-part=headline]")
    expect(headline).to_contain_text(f"mends {100 * share[0]:.0f} % in coarse shapes")
    # the last band has the corners of the spectrum, too, beyond two pixels per wave
    expect(headline).to_contain_text(re.compile(r"in the finest detail \(under \d"))
    assert page.locator("#frequency polyline").count() == 4
    assert page.locator("#frequency rect[data-route=drorae]").count() == 8
    made = explored.interventions
    usual = made.strengths[2].energies
    for layer in (1, 12):
        expected = (made.removed[layer - 1].energies - usual) / lost
        cells = page.locator(f"#frequency tbody tr:nth-child({layer}) td").all_inner_texts()
        found = [float(cell.replace("−", "-").removesuffix(" %")) / 100 for cell in cells]
        assert found == pytest.approx(expected.tolist(), abs=0.0051)
    assert not posted(view)


@pytest.mark.parametrize(("width", "theme"), [(1280, "dark"), (390, "light")])
def test_both_tabs_fit_and_are_readable(browser, url, width, theme):
    view = Watched(browser, url, width, f"?__theme={theme}")
    for name in ("Intervene", "Frequency"):
        view.open(name)
        view.page.wait_for_selector(f"#{name.lower()} h3")
        assert view.page.evaluate("document.documentElement.scrollWidth") <= width
        for part in ("h3", ".hint"):
            assert contrast(view.page, f"#{name.lower()} {part}") >= 4.5
    view.check()
    view.page.close()
