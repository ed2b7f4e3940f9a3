"""The pure functions of the views, evaluated on a blank page."""

from __future__ import annotations

import base64
from itertools import pairwise

import numpy as np
import pytest
from browser import NEEDS_CHROMIUM

from drorae.viewers.encodings import pack
from drorae.viewers.static_files import read_static

pytestmark = NEEDS_CHROMIUM
MINUS = "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def evaluate(browser):
    """An expression of ``lib`` and a value ``x``, as JSON can carry it."""
    page = browser.new_page()
    page.add_script_tag(content=read_static("lib.js"))
    yield lambda expression, x=None: page.evaluate(f"(x) => {expression}", x)
    page.close()


@pytest.mark.parametrize(
    ("value", "digits", "plain", "signed"),
    [
        (1.25, 1, "1.3", "+1.3"),
        (-1.5, 2, f"{MINUS}1.50", f"{MINUS}1.50"),
        (0, 1, "0.0", "0.0"),
        (-0.04, 1, "0.0", "0.0"),  # not "-0.0"
        (0.04, 1, "0.0", "0.0"),
        (None, 2, "", ""),
    ],
)
def test_numbers_have_a_true_minus_and_no_negative_zero(evaluate, value, digits, plain, signed):
    assert evaluate("[lib.number(...x), lib.signedNumber(...x)]", [value, digits]) == [plain, signed]


def test_there_is_one_rule_for_percent(evaluate):
    shares = {0.254: "25 %", 0: "0 %", 1: "100 %", -0.3: f"{MINUS}30 %", -0.004: "0 %", None: ""}
    assert evaluate("x.map((share) => lib.percent(share))", list(shares)) == list(shares.values())
    assert evaluate("lib.percent(0.0123, 1)") == "1.2 %"


def test_means_and_limits(evaluate):
    assert evaluate("lib.mean(x)", [1, 2, 6]) == 3
    assert evaluate("lib.mean(Float32Array.from(x))", [1, 2, 6]) == 3
    assert [evaluate("lib.clamp(x, 0, 4)", value) for value in (-1, 3, 9)] == [0, 3, 4]


def test_base64_is_bytes(evaluate):
    values = np.array([0.5, -2, 1e-3], "<f4")
    text = base64.b64encode(values.tobytes()).decode()
    assert evaluate("[...new Float32Array(lib.decodeBase64(x))]", text) == values.tolist()


@pytest.mark.parametrize("dark", [False, True])
def test_a_diverging_scale_goes_through_the_pages_colour(evaluate, dark):
    flag = "true" if dark else "false"
    values = [-1, -0.5, 0, 0.5, 1, -7, 7]
    colours = np.array(evaluate(f"x.map((value) => lib.divergingColour('routing', value, {flag}))", values))
    negative, half, middle, plus, positive, below, above = colours
    assert middle.tolist() == ([26, 28, 31] if dark else [247, 246, 243])  # no white panel in the dark
    assert (below.tolist(), above.tolist()) == (negative.tolist(), positive.tolist())
    assert np.abs(half - (negative + middle) / 2).max() <= 0.5
    assert np.abs(plus - (positive + middle) / 2).max() <= 0.5
    assert negative[2] > negative[0]  # blue is held back, orange added
    assert positive[0] > positive[2]
    ramp = evaluate(f"lib.gradient('routing', {flag})")
    assert ramp == f"linear-gradient(to right, {','.join(rgb(each) for each in (negative, middle, positive))})"


@pytest.mark.parametrize("dark", [False, True])
def test_many_values_take_the_same_colours(evaluate, dark):
    flag = "true" if dark else "false"
    values = [-100, -96, -31.3, -0.1, 0, 0.2, 48, 95.9, 400]
    pixels = np.array(evaluate(f"Array.from(lib.divergingPixels('gain', x, 96, {flag}))", values)).reshape(-1, 4)
    expected = evaluate(f"x.map((value) => lib.divergingColour('gain', value / 96, {flag}))", values)
    assert np.abs(pixels[:, :3] - expected).max() <= 1
    assert (pixels[:, 3] == 255).all()


def rgb(colour: np.ndarray) -> str:
    return f"rgb({','.join(map(str, colour.tolist()))})"


def test_packed_numbers_and_what_is_computed_of_pictures(evaluate):
    rng = np.random.default_rng(0)
    values = rng.normal(size=40)
    found = evaluate("Array.from(lib.unpack(x))", pack(values))
    assert np.abs(np.array(found) - values).max() <= np.abs(values).max() / 32767
    pictures = rng.integers(0, 256, (3, 5, 4))  # RGBA of five pixels: original, reference, shown
    original, reference, shown = pictures[..., :3]
    gain = (np.abs(reference - original) - np.abs(shown - original)).mean(1)
    found = evaluate("Array.from(lib.gainMap(...x.map((each) => each.flat())))", pictures.tolist())
    assert np.allclose(found, gain, atol=1e-5)
    # 6.02 dB more is half the error, as much less is twice
    assert evaluate("x.map(lib.errorChange)", [20 * np.log10(2), -20 * np.log10(2), 0]) == [-50, 100, 0]


def test_ink_can_be_read_on_every_colour(evaluate):
    def luminance(channels):
        linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in channels]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    colours = np.random.default_rng(0).integers(0, 256, (500, 3)).tolist()
    for colour, ink in zip(colours, evaluate("x.map(lib.inkOn)", colours), strict=True):
        light, dark = sorted((luminance(colour), {"#000": 0.0, "#fff": 1.0}[ink]), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_a_rectangle_of_tokens_has_any_two_corners(evaluate):
    # a grid of 4 columns: tokens 1 and 10 are row 0, column 1 and row 2, column 2
    inside = [1, 2, 5, 6, 9, 10]
    for corners in ([1, 10], [10, 1], [2, 9], [9, 2]):
        assert evaluate("lib.tokensWithin(...x, 4)", corners) == inside
    assert evaluate("lib.tokensWithin(5, 5, 4)") == [5]


def test_a_line_of_tokens_has_no_gap(evaluate):
    assert evaluate("lib.tokensBetween(0, 15, 4)") == [0, 5, 10, 15]
    assert evaluate("lib.tokensBetween(3, 0, 4)") == [3, 2, 1, 0]
    assert evaluate("lib.tokensBetween(6, 6, 4)") == [6, 6]
    for start, end in np.random.default_rng(1).integers(0, 16 * 16, (50, 2)).tolist():
        line = evaluate("lib.tokensBetween(...x, 16)", [start, end])
        assert (line[0], line[-1]) == (start, end)
        places = [divmod(token, 16) for token in line]
        for (row, column), (below, right) in pairwise(places):
            assert max(abs(row - below), abs(column - right)) <= 1


def test_numbers_of_a_link_come_back(evaluate):
    for numbers in ([], [0], [3, 7, 8, 9], [9, 8, 1, 2, 3, 20], list(range(64))):
        text = evaluate("lib.writeNumbers(x)", numbers)
        assert evaluate("lib.readNumbers(x, 64)", text) == sorted(numbers)
    assert evaluate("lib.writeNumbers(new Set(x))", [9, 3, 8, 7]) == "3.7-9"


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        (None, []),
        ("", []),
        ("64", []),  # beyond the end
        ("5.5.4-5", [5, 4]),
        ("9-7.-1.x.1e9.2", [2]),
        ("1-1000000000", []),
        ("2.5", [2, 5]),
    ],
)
def test_what_a_link_cannot_mean_is_left_out(evaluate, text, numbers):
    assert evaluate("lib.readNumbers(x, 64)", text) == numbers


def test_the_file_leaves_one_name(browser):
    page = browser.new_page()
    before = set(page.evaluate("Object.getOwnPropertyNames(window)"))
    page.add_script_tag(content=read_static("lib.js"))
    assert set(page.evaluate("Object.getOwnPropertyNames(window)")) == before  # a constant is not a property
    assert page.evaluate("typeof lib") == "object"
    page.close()


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("HTTP 429: Your address has sent enough.\n", "Your address has sent enough."),
        ("HTTP 413: too large", None),
        ("Connection errored out. ", None),
    ],
)
def test_the_servers_sentence_about_files_is_found_in_an_error(evaluate, message, said):
    assert evaluate("lib.refusal(new Error(x))", message) == said
    assert evaluate("lib.refusal(x)", None) is None
