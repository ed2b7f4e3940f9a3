"""The sentences of Generate, evaluated on a blank page."""

import pytest
from browser import NEEDS_CHROMIUM

from drorae.viewers.static_files import read_static

pytestmark = NEEDS_CHROMIUM


@pytest.fixture(scope="module")
def evaluate(browser):
    page = browser.new_page()
    for name in ("lib", "words"):
        page.add_script_tag(content=read_static(f"{name}.js"))
    yield lambda expression, x=None: page.evaluate(f"(x) => {expression}", x)
    page.close()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "Settings: 25 steps, AutoGuidance 1.5, seeds from 0"),
        ({"count": 1, "seed": 7, "steps": 1}, "Settings: 1 step, AutoGuidance 1.5, seed 7"),
        ({"count": None}, "Settings: 25 steps, AutoGuidance 1.5"),
        ({"scale": 1}, "Settings: 25 steps, no guidance, seeds from 0"),
        ({"guidance": None}, "Settings: 25 steps, no guidance, seeds from 0"),
        ({"negative": "night", "count": None}, "Settings: 25 steps, AutoGuidance 1.5, away from \u201cnight\u201d"),
        ({"other": "a dog", "count": None}, "Settings: 25 steps, AutoGuidance 1.5, another text"),
    ],
)
def test_settings_are_their_own_summary(evaluate, changes, line):
    asked = {"steps": 25, "guidance": "AutoGuidance", "scale": 1.5, "seed": 0, "count": 3, "negative": "", "other": ""}
    assert evaluate("words.settings(x)", {**asked, **changes}) == line


@pytest.mark.parametrize(
    ("shown", "total", "looked_at", "sentence"),
    [
        (3, 5, 16, "Three picked by us out of 16 seeds."),
        (3, 3, None, "All three seeds, as they came."),
        (3, 17, None, "Three of 17 seeds, as they came."),
        (1, 1, None, "One seed, as it came."),
    ],
)
def test_who_chose_the_seeds_is_said(evaluate, shown, total, looked_at, sentence):
    assert "".join(evaluate("words.choiceOf(...x)", [shown, total, looked_at])) == sentence


def test_a_run_says_where_it_is(evaluate):
    assert evaluate("words.stopped(7, 25)").startswith("Stopped after step 7 of 25.")
    assert evaluate("words.stopped(0, 25)") == "Stopped."
    assert evaluate("words.running(7, 25)").startswith("Step 7 of 25.")
    assert evaluate("[0.964, 0].map(words.noise)") == ["96 % noise", "picture"]
