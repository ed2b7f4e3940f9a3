"""The load test, with a few visitors and without a clock: every question ends in the right answer or in a refusal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import served
from gate import finish

from drorae.explorer.reading import Reading
from drorae.images import open_photo
from drorae.ui.limits import SIZES, Limits
from drorae.ui.page import build_demo
from drorae.viewers.values import routes_value
from tests.hostile.crowd import FRAMES, ROUTES, SAMPLES, Behaviour, Tally, crowd, picture, same_routes, wrong_answers

ROUNDS = 3
TWICE = Behaviour(0.0, lambda number: number < ROUNDS)


@pytest.fixture
def proxied(monkeypatch):
    monkeypatch.setenv("DRORAE_PROXIES", "127.0.0.1")


def test_a_crowd_gets_the_right_answers(pipeline, proxied, tmp_path):
    pipeline.save_pretrained(tmp_path)
    model = pipeline.autoencoder
    with served(build_demo(model, "tiny", str(tmp_path))) as url:
        tally, _ = finish(crowd(url, 5, 2, TWICE, samplers=1))
    assert not tally.broken, tally.reasons
    assert not tally.refused, tally.reasons
    assert tally.answered[ROUTES] == 5 * ROUNDS
    assert tally.answered[SAMPLES] == ROUNDS
    assert tally.answered["tiles"] == tally.answered["standing"] == 5 * ROUNDS
    compared, wrong = wrong_answers(tally, model)
    assert compared == 5 * ROUNDS + tally.answered[FRAMES]
    assert wrong == 0
    assert len(tally.values[SAMPLES, 0]) == 1  # one seed, one picture


def test_a_crowd_that_is_too_large_is_refused_politely_and_sampling_is_not(pipeline, proxied, tmp_path):
    pipeline.save_pretrained(tmp_path)
    limits = replace(Limits(), sizes={**SIZES, "explore": 1})
    with served(build_demo(pipeline.autoencoder, "tiny", str(tmp_path), limits=limits)) as url:
        tally, _ = finish(crowd(url, 8, 1, TWICE, samplers=1))
    assert not tally.broken, tally.reasons
    assert tally.refused
    assert tally.answered[ROUTES] + tally.refused[ROUTES] == 8 * ROUNDS
    assert (tally.answered[SAMPLES], tally.refused[SAMPLES]) == (ROUNDS, 0)
    assert all("Too many people are here right now" in reason for reason in tally.reasons)
    assert wrong_answers(tally, pipeline.autoencoder)[1] == 0


def test_the_answer_of_another_picture_is_found_out(tiny):
    def value(number):
        reading = Reading(open_photo(picture(number), "x"), tiny)
        return routes_value(reading.routes, key="", name="", model={"name": "", "hash": ""}, facts={})

    first, second = value(0), value(1)
    assert same_routes(first, value(0))
    assert not same_routes(first, second)
    assert not same_routes({**first, "pictures": second["pictures"]}, first)
    assert not same_routes({**first, "metrics": second["metrics"]}, first)
    tally = Tally()
    tally.keep(ROUTES, 0, first)
    tally.keep(ROUTES, 0, first)
    tally.keep(ROUTES, 0, second)
    assert wrong_answers(tally, tiny) == (3, 1)
    assert len(np.unique([picture(number) for number in range(5)])) == 5
