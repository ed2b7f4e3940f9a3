"""Routing to picture and back in a real browser: regions, leaning tokens, the formula, texture, the fingerprint."""

from __future__ import annotations

import re

import numpy as np
import pytest
from browser import NEEDS_CHROMIUM, Watched
from conftest import ROOT
from playwright.sync_api import expect

from drorae.explorer.explore import explore
from drorae.images import load_image

pytestmark = NEEDS_CHROMIUM


@pytest.fixture(scope="module")
def result(tiny):
    return explore(load_image(ROOT / "assets" / "examples" / "cat.jpg"), tiny)


@pytest.fixture(scope="module")
def one_page(browser, tiny_url):
    """For all tests: a page takes longer to open than a test takes."""
    watched = Watched(browser, tiny_url)
    watched.routing()
    yield watched
    watched.page.close()


@pytest.fixture
def view(one_page):
    one_page.page.mouse.move(0, 0)
    one_page.state("routing", "(state.token = null)")
    one_page.page.locator("#routing [data-part=stage]").focus()
    one_page.page.keyboard.press("Escape")  # nothing is pinned, no layer laid over
    yield one_page
    one_page.check()


def number(text: str) -> float:
    return float(text.replace("\N{MINUS SIGN}", "-"))


def terms(view: Watched) -> list[float]:
    texts = view.page.locator("#routing .formula .term span").all_inner_texts()
    return [number(text) for text in texts]


def test_the_formula_has_the_numbers_of_the_token(view, result):
    stage = view.page.locator("#routing [data-part=stage]")
    stage.focus()
    view.page.keyboard.press("Home")
    assert terms(view) == pytest.approx(result.weights[0].tolist(), abs=0.0051)
    formula = view.page.locator("#routing [data-part=formula]").inner_text()
    energy = np.sqrt((result.weights[0].astype(float) ** 2).sum())
    assert float(re.search(r"/ (\d+\.\d+)", formula)[1]) == pytest.approx(energy, abs=0.0051)
    assert "0.2 (" in formula
    note = view.page.locator("#routing [data-part=formula-note]").inner_text()
    cosine = number(re.search(r"z_base is ([+\N{MINUS SIGN}]\d\.\d\d)", note)[1])
    assert cosine == pytest.approx(result.cosines[0], abs=0.0051)


def test_dragging_over_tokens_shows_their_mean(view, result):
    stage = view.page.locator("#routing [data-part=stage]")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    y = box["y"] + box["height"] * 0.375  # the second row of four
    view.page.mouse.move(box["x"] + box["width"] * 0.1, y)
    view.page.mouse.down()
    view.page.mouse.move(box["x"] + box["width"] * 0.6, y)  # in one jump
    view.page.mouse.up()
    tokens = [4, 5, 6]
    assert view.state("routing", "state.pins") == [tokens]
    expect(view.page.locator("#routing [data-part=names]")).to_contain_text("A: mean of 3 tokens")
    shown = view.page.locator("#routing .bars .row[data-layer] .share .first").all_inner_texts()
    assert [number(text) for text in shown] == pytest.approx(result.shares[tokens].mean(0).tolist(), abs=0.00051)
    assert terms(view) == pytest.approx(result.weights[tokens].mean(0).tolist(), abs=0.0051)


def test_a_layer_outlines_the_tokens_that_lean_on_it_most(view, result):
    view.page.locator("#routing .strip button").nth(1).click()
    expect(view.page.locator("#routing [data-part=where]")).to_contain_text("lean on it most")
    best = np.argsort(-result.shares[:, 1])[:2]  # a tenth of 16 tokens
    stage = view.page.locator("#routing [data-part=stage]")
    yellow = stage.evaluate(
        """canvas => {
            const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
            const cell = canvas.width / 4, found = Array(16).fill(0);
            for (let i = 0; i < data.length; i += 4) {
                if (data[i] !== 255 || data[i + 1] !== 213 || data[i + 2] !== 74) continue;
                const [x, y] = [(i / 4) % canvas.width, Math.floor(i / 4 / canvas.width)];
                found[Math.min(3, Math.floor(y / cell)) * 4 + Math.min(3, Math.floor(x / cell))] += 1;
            }
            return found;
        }"""
    )
    assert {int(token) for token in best} <= {token for token, count in enumerate(yellow) if count > 100}


def test_texture_coefficients_and_fingerprint_are_the_librarys(view, result):
    buttons = view.page.locator("#routing .correlations button")
    shown = [number(text.split()[-1]) for text in buttons.all_inner_texts()]
    assert shown == pytest.approx(result.texture_correlation.tolist(), abs=0.0051)
    buttons.nth(2).click()
    words = view.page.locator("#routing [data-part=scatter-words]")
    expect(words).to_contain_text("Layer 3: r =")
    rows = view.page.locator("#routing [data-part=fingerprint] tr").all_inner_texts()
    assert len(rows) == 6
    assert number(rows[-1].split("\t")[-1]) == pytest.approx(result.cosine, abs=0.0051)
    # the deepest quarter of three layers is the third
    first = re.match(r"([+\N{MINUS SIGN}]\d\.\d\d) ± (\d\.\d\d)", rows[4].split("\t")[-1])
    assert number(first[1]) == pytest.approx(result.shares[:, 2].mean(), abs=0.0051)
    assert float(first[2]) == pytest.approx(result.shares[:, 2].std(), abs=0.0051)
