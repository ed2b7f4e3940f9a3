"""The sentences of the page that hold numbers, evaluated on a blank page."""

from __future__ import annotations

import pytest
from browser import NEEDS_CHROMIUM

from drorae.viewers.static_files import library, read_static

pytestmark = NEEDS_CHROMIUM
MINUS = "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def say(browser):
    """A sentence of ``words`` by its name and the values it is told."""
    page = browser.new_page()
    page.add_script_tag(content=f"{library()}\n{read_static('words.js')}")
    yield lambda name, *values: page.evaluate(f"(values) => words.{name}(...values)", list(values))
    page.close()


def test_what_resembles_a_place(say):
    start = "this place resembles"
    assert say("resembles", "3", 12.4, 41, 30) == f"In layer 3 {start} 12 of 100 places; in the last layer 41."
    assert say("resembles", "z_base", 41, 41, 30) == f"In the last layer {start} 41 of 100 places; in the latent 30."
    assert say("resembles", "z_final", 30, 41, 30) == f"In the latent {start} 30 of 100 places; in the last layer 41."
    # without fusion there is no latent of its own
    assert say("resembles", "z_base", 41, 41, None) == f"In the last layer {start} 41 of 100 places."


@pytest.mark.parametrize(
    ("coefficient", "added", "end"),
    [
        (0.1, 1, "It does not care about texture here."),
        (0.74, 0.95, "It is added more where the photo is textured."),
        (-0.5, 1, "It is added more where the photo is smooth."),
        (-0.5, 0.05, "It is held back more where the photo is textured."),
        (0.5, 0, "It is held back more where the photo is smooth."),
        (0.5, 0.5, "Its weight rises with texture."),
        (-0.5, 0.5, "Its weight falls with texture."),
    ],
)
def test_what_a_coefficient_means(say, coefficient, added, end):
    sign = f"{MINUS}" if coefficient < 0 else "+"
    assert say("texture", 1, coefficient, added) == f"Layer 2: r = {sign}{abs(coefficient):.2f}. {end}"


def test_a_layer_that_is_used_alike_everywhere_has_no_coefficient(say):
    assert say("texture", 0, None, 1) == "Layer 1 is used alike everywhere: there is no coefficient."


def test_shares_in_words(say):
    shares = [0, 0.05, 0.1, 0.2, 0.25, 1 / 3, 0.5, 2 / 3, 0.8, 0.95]
    said = ["nothing", "hardly any", "a tenth", "a fifth", "a quarter", "a third", "half", "two thirds", "most"]
    assert [say("howMuch", share) for share in shares] == [*said, "nearly all"]


@pytest.mark.parametrize(
    ("coarse", "fine", "sentence"),
    [
        (0.85, 0.21, "Most of the large shapes came back, a fifth of the finest detail."),
        (0.85, -0.3, "Most of the large shapes came back; the finest detail got worse."),
        (-0.3, 0.5, "The large shapes got worse; half of the finest detail came back."),
        (-0.3, -0.1, "All sizes of detail got worse."),
        (None, None, "The last layer lost nothing here, so nothing could come back."),
    ],
)
def test_what_came_back_by_size(say, coarse, fine, sentence):
    assert say("bySize", coarse, fine) == sentence


def test_stored_numbers_against_those_of_the_pixels(say):
    ratios = [1, 1.01, 2, 6, 6.1, 8, 12, 48, 4.5, 2.6, 30.7, 0.5, 0.25, 0.4]
    said = ["as many", "as many", "half", "a sixth", "a sixth", "an eighth", "1/12", "1/48", "22 %", "38 %", "1/31"]
    more = ["twice as many", "4 times as many", "2.5 times as many"]
    assert [say("ofThePixels", ratio) for ratio in ratios] == said + more
