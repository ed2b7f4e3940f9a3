"""Requests that no page sends are answered in a sentence; the full command takes all of them."""

import pytest

from tests.hostile.requests import Served, events, http, outcome, wishes

EVERY = {wishes: 31, http: 7}  # th of them
NAMED = ("file=/etc/passwd", "queue/join: NaN", "number -1", "no end", "number of 10,000 digits", "pwa_icon/0")


@pytest.fixture(scope="module")
def served():
    page = Served()
    with page.launched():
        yield page


@pytest.mark.parametrize("kinds", [wishes, http])
def test_a_sample_is_answered_or_refused(served, kinds):
    cases = [*kinds()]
    taken = cases[:: EVERY[kinds]] + [case for case in cases if any(name in case.what for name in NAMED)]
    found = {f"{case.kind}, {case.what}": outcome(served, case) for case in taken}
    assert {what: said for what, (result, said) in found.items() if result == "wrong"} == {}
    assert {result for result, _ in found.values()} == {"read", "refused"}


def test_events_with_other_values_are_answered_or_refused(served):
    cases = [*events(served)]
    found = {case.what: outcome(served, case) for case in cases[::50]}
    assert {what: said for what, (result, said) in found.items() if result == "wrong"} == {}
    assert len(cases) > 300


def test_models_that_nobody_loaded_are_not_looked_for(served, tmp_path):
    """A wish names any folder; only those of the page's models are looked into."""
    answers = served.photos.answers()
    with pytest.raises(RuntimeError, match="is no longer loaded"):
        answers["standing"]({"example": "cat", "model": str(tmp_path)})
    assert str(tmp_path) not in served.photos.spreads
