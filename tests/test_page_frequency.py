"""By size of detail in a real browser: what came back, and which layer brought it, against the explorer."""

from __future__ import annotations

import numpy as np
import pytest
from browser import NEEDS_CHROMIUM, Watched
from playwright.sync_api import expect
from test_page_weights import number, reading_of, state

from drorae.explorer.spectrum import recovery

pytestmark = NEEDS_CHROMIUM
ROOT = ".frequency[data-part=root]"
SIZES = ["over 16", "8\N{EN DASH}16", "5.3\N{EN DASH}8", "4\N{EN DASH}5.3", "3.2\N{EN DASH}4", "2.7\N{EN DASH}3.2"]
SIZES += ["2.3\N{EN DASH}2.7", "under 2.3"]


@pytest.fixture(scope="module")
def reading(tiny):
    return reading_of("cat", tiny)


@pytest.fixture(scope="module")
def back(reading):
    """Share of what the last layer lost, by band."""
    energies = reading.routes.energies
    return recovery(energies["rae"], energies["drorae"])


@pytest.fixture(scope="module")
def one_page(browser, tiny_url):
    watched = Watched(browser, tiny_url, query="?tab=frequency&example=cat", width=1440)
    watched.page.wait_for_function("store.data('frames')?.layers?.length === 3")
    watched.painted()  # though it has no picture
    yield watched
    watched.page.close()


@pytest.fixture
def view(one_page):
    one_page.page.evaluate("store.set({ layer: 1 }); store.go('frequency')")
    one_page.page.wait_for_selector(f"{ROOT} .matrix button")
    yield one_page
    one_page.check()


def percent(share: float) -> str:
    return f"{100 * share:.0f} %".replace("-", "\N{MINUS SIGN}").replace("\N{MINUS SIGN}0 %", "0 %")


def test_what_came_back_by_size(view, back):
    texts = view.page.locator(f"{ROOT} .bands > span:not(.well)").all_inner_texts()
    assert texts[0::2] == SIZES
    assert texts[1::2] == [percent(share) for share in back]
    expect(view.page.locator(f"{ROOT} .head p")).to_have_text(
        f"Of the last layer\N{RIGHT SINGLE QUOTATION MARK}s error, {percent(back[0])} is gone in shapes "
        f"over 16 pixels, {percent(back[-1])} in detail under 2.3."
    )
    expected = view.page.evaluate("(shares) => words.bySize(...shares)", [back[0], back[-1]])
    expect(view.page.locator(f"{ROOT} h1")).to_have_text(expected)


def test_curves_are_logarithms_of_the_energies(view, reading):
    spectra = reading.routes.spectra
    heights = {}
    for route, name in (("original", "original"), ("rae", "rae"), ("all", "drorae")):
        points = view.page.locator(f"{ROOT} polyline[data-route={route}]").get_attribute("points")
        heights[name] = [float(point.split(",")[1]) for point in points.split()]
    energies = np.log10(np.concatenate([np.maximum(spectra[name], 1e-3) for name in heights]))
    slope, offset = np.polyfit(energies, np.concatenate(list(heights.values())), 1)
    assert slope < 0  # more is higher up
    assert np.concatenate(list(heights.values())) == pytest.approx(offset + slope * energies, abs=0.01)
    labels = view.page.locator(f"{ROOT} svg text.name").all_text_contents()
    assert sorted(labels) == ["All layers", "Last layer", "Photo"]


def test_the_matrix_says_what_each_layer_brings_and_chooses_it(view, reading):
    *_, made = reading.interventions()
    energies = reading.routes.energies
    usual = made.strengths[made.betas.index(made.beta)].energies
    expected = np.stack([1 - recovery(energies["rae"], frame.energies - usual) for frame in made.removed])
    cells = view.page.locator(f"{ROOT} .matrix button")
    shown = np.array([number(text) for text in cells.all_inner_texts()]).reshape(3, 8)
    assert np.abs(shown - 100 * expected).max() <= 0.51
    cells.nth(16).hover()
    assert state(view, "hot") == 2
    note = view.page.locator(f"{ROOT} [data-part=cell]")
    expect(note).to_contain_text("Without layer 3, ")
    expect(note).to_contain_text(percent(abs(expected[2, 0])))
    expect(note).to_contain_text("over 16 pixels")
    cells.nth(16).click()
    assert state(view, "layer") == 2
    view.page.keyboard.press("ArrowUp")
    view.page.keyboard.press("ArrowRight")
    expect(cells.nth(9)).to_be_focused()
    expect(note).to_contain_text("Without layer 2, ")
    view.page.keyboard.press("Enter")
    assert state(view, "layer") == 1


def test_the_four_ways_to_look_are_one_group(view):
    group = view.page.locator(f"{ROOT} [data-part=how] button")
    names = ["Pictures", "Where it helped", "By size of detail", "Other tokenizers"]
    assert group.all_inner_texts() == names
    assert group.evaluate_all("(all) => all.map((each) => each.getAttribute('aria-pressed'))")[2] == "true"
    group.nth(1).click()
    expect(view.page.locator(".picture [data-part=how] button[aria-pressed=true]")).to_have_text("Where it helped")
    assert [state(view, "view"), state(view, "helped")] == ["picture", True]
    view.page.locator(".picture [data-part=how] button").nth(2).click()
    view.page.wait_for_selector(ROOT, state="visible")
    view.page.evaluate("store.set({ helped: false })")


@pytest.mark.parametrize("width", [1440, 1024, 390])
def test_no_label_is_small_and_nothing_is_wider_than_the_page(view, width):
    view.page.set_viewport_size({"width": width, "height": 844})
    for name in ("frequency", "weights"):
        view.page.evaluate(f"store.go('{name}')")
        view.page.wait_for_selector(f"#{name}", state="visible")
        small = view.page.locator(f"#{name}").evaluate(
            """(root) => {
                const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT), small = [];
                while (walker.nextNode()) {
                    const { parentElement: node, textContent } = walker.currentNode;
                    if (!textContent.trim() || !node.getClientRects().length) continue;
                    if (parseFloat(getComputedStyle(node).fontSize) < 11) small.push(textContent);
                }
                return small;
            }"""
        )
        assert small == []
        assert view.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    view.page.set_viewport_size({"width": 1440, "height": 900})
