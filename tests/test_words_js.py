"""The sentences of the page that hold numbers, evaluated on a blank page."""

from __future__ import annotations

import pytest
from browser import NEEDS_CHROMIUM

from drorae.viewers.static_files import read_static

pytestmark = NEEDS_CHROMIUM
MINUS = "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def say(browser):
    """A sentence of ``words`` by its name and the values it is told."""
    page = browser.new_page()
    page.add_script_tag(content=read_static("lib.js") + read_static("words.js"))
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
        (0.1, 1, "No clear relation to texture here."),
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
    sentences = [say("bySize", 1, share) for share in shares]
    start = "Nearly all of the large shapes came back"
    assert sentences == [f"{start}, {word} of the finest detail." for word in [*said, "nearly all"]]


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


def test_the_meter_answers_and_points(say):
    def place(departure):
        return say("meter", {"verdict": "yes", "departure": departure, "limits": [0.08, 0.24]})["place"]

    # 30 percent up to the first limit, 25 up to the second, the rest beyond it
    assert [place(value) for value in (0, 0.04, 0.08, 0.16, 0.24, 0.48)] == pytest.approx([0, 15, 30, 42.5, 55, 77.5])
    known = say("meter", {"verdict": "no", "beyond": 0.2, "departure": 4, "limits": [1, 2]})
    assert (known["question"], known["answer"]) == ("Does the picture hold up?", "No.")
    assert known["more"] == ""  # odd places are another matter than the picture
    older = say("meter", {"verdict": "no", "beyond": 0.2})
    assert (older["question"], older["more"]) == ("Does the decoder know this?", " 20 of 100 places odd.")
    unknown = say("meter", {"verdict": "unknown", "beyond": None, "departure": 4, "limits": None})
    assert (unknown["answer"], unknown["more"], unknown["place"]) == ("Not measured for this model.", "", None)


def test_places_and_progress(say):
    assert say("paintedPlaces", 24, 1024) == "Only in 24 of 1,024 places."
    assert say("paintedPlaces", 0, 1024) == "In the whole picture."
    assert say("oneByOne", {"done": 34, "total": 46}) == "Layers one by one: 34 of 46"


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"gains": [8.1, 9, -1]}, "Fusion came closer on 2 of 3 photos, by 8.1 dB in the middle."),
        ({"gains": [1, 2]}, "Fusion came closer on all 2 photos, by 1.5 dB in the middle."),
        ({"gains": [-1, -2, 0.5]}, "Fusion came closer on 1 of 3 photos, and on most it did not."),
        ({"gains": [-1, -2]}, "Fusion came closer on none of 2 photos."),
        ({"gains": [3.21]}, "Fusion came closer to this photo, by 3.2 dB."),
        ({"gains": [-3]}, "Fusion came no closer to this photo."),
        ({"fused": False, "psnr": [20, 21, 30]}, "3 photos from the last layer alone, 21.0 dB in the middle."),
        ({"photos": 0, "gains": []}, "None of these files could be read."),
    ],
)
def test_many_photos_in_one_sentence(say, told, sentence):
    gains = told.get("gains", [])
    count = len(gains or told.get("psnr", []))
    assert say("manyPhotos", {"psnr": [], "fused": True, "photos": count, "gains": gains, **told}) == sentence


def test_what_else_is_said_of_many_photos(say):
    first = "All layers and their own decoder, against the last layer alone."
    assert say("manyMore", {"bad": 0, "stopped": 0, "other": None}) == first
    rest = " 2 files could not be read. Stopped before all 1,500 photos were read. These numbers are of x."
    assert say("manyMore", {"bad": 2, "stopped": 1500, "other": "x"}) == first + rest


def test_stored_numbers_against_those_of_the_pixels(say):
    ratios = [1, 1.01, 2, 6, 6.1, 8, 12, 48, 4.5, 2.6, 30.7, 0.5, 0.25, 0.4]
    said = ["as many", "as many", "half", "a sixth", "a sixth", "an eighth", "1/12", "1/48", "22 %", "38 %", "1/31"]
    more = ["twice as many", "4 times as many", "2.5 times as many"]
    assert [say("ofThePixels", ratio) for ratio in ratios] == said + more


@pytest.mark.parametrize(
    ("closer", "headline"),
    [
        ([], "Closer costs numbers. Count both."),
        ([{"title": "TAEF2", "stored": 10}], "TAEF2 comes closer, with fewer numbers."),
        ([{"title": "A", "stored": 100}, {"title": "B", "stored": 200}], "A and B come closer."),
    ],
)
def test_who_comes_closer_is_said(say, closer, headline):
    first, second = say("tokenizers", closer, 100)
    assert first == headline
    assert ("vision encoder" in second) == bool(closer)


def test_the_gain_is_shared_out_between_layers_and_decoder(say):
    assert say("certainty", 9.04, 6.24) == ["65 % less error", " (+9.0 dB: layers +6.2, new decoder +2.8)."]
    assert say("certainty", -0.5) == ["6 % more error", f" ({MINUS}0.5 dB)."]


def test_a_place_in_line(say):
    assert [say("ahead", count) for count in (1, 2, 1000)] == [
        "1 other is before you.",
        "2 others are before you.",
        "1,000 others are before you.",
    ]
