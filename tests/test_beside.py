"""The photo through other tokenizers, as the page asks for it, without a page."""

from __future__ import annotations

import numpy as np
import pytest
from gate import Gate
from test_encodings import decode

from drorae import CheckpointError
from drorae.explorer.answers import column_answer
from drorae.explorer.tokenizers import load_picture_tokenizer, mean_tokenizer, measure_tokenizer
from drorae.ui import tokenizers
from drorae.ui.models import Shelf
from drorae.ui.photo import Photos, answering
from drorae.ui.tokenizers import Tokenizers

CAT = {"key": "cat", "example": "cat"}


def photos(tiny, open_to_all: bool, allowed=()) -> Photos:
    return Photos(Shelf(tiny, "tiny", open_to_all), Tokenizers(open_to_all, allowed))


def test_columns_are_what_the_library_measures(tiny, cat_reading, small_folder):
    here = photos(tiny, open_to_all=True)
    expected = {
        "mean-2": mean_tokenizer(tiny, 2),
        "taef2": load_picture_tokenizer("taef2"),
        small_folder: load_picture_tokenizer(small_folder),
    }
    for name, tokenizer in expected.items():
        *_, value = here.tokenizers({**CAT, "id": name})
        column = measure_tokenizer(cat_reading.images, tokenizer)
        answer = value["columns"].pop(name)
        assert np.array_equal(decode(answer.pop("picture")), column.picture)
        assert answer == column_answer(column)
        assert value == {"columns": {}, "done": 1, "total": 1}


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ({"id": ""}, "Name a folder or a Hub id first"),
        ({"id": 7}, "no Hub repository of that name"),
        ({"id": "a" * 301}, "at most 300 characters"),
        ({"id": "mean-9"}, "There is no 'mean-9'"),
        ({"id": "no/such:vae"}, "no Hub repository of that name"),
        ({"id": "taef2", "model": "gone"}, "is no longer loaded"),
    ],
)
def test_a_column_that_cannot_be_made_is_a_sentence(tiny, wish, sentence):
    *_, update = answering(photos(tiny, open_to_all=True).tokenizers)({**CAT, **wish})
    assert update["answer"]["id"] == wish["id"]
    assert sentence in update["answer"]["error"]


def test_where_the_model_is_fixed_the_list_is(tiny, small_folder):
    fixed, named = photos(tiny, open_to_all=False), photos(tiny, open_to_all=False, allowed=[small_folder])
    with pytest.raises(CheckpointError, match="the list of tokenizers is fixed"):
        list(fixed.tokenizers({**CAT, "id": small_folder}))
    for here, name in ((named, small_folder), (fixed, "taef2"), (fixed, "mean-2")):
        *_, value = here.tokenizers({**CAT, "id": name})
        assert value["columns"][name]["latent"]
    assert [each["id"] for each in fixed.others.config()["offered"]] == ["taef2"]
    assert [each["id"] for each in named.others.config()["offered"]] == ["taef2", small_folder]
    assert not named.others.config()["open"]
    offered = [each["id"] for each in Tokenizers(True, [small_folder]).config()["offered"]]
    assert offered[:2] == ["taef2", small_folder]
    assert "stabilityai/sd-vae-ft-mse" in offered


def found(finding):
    """What was said meanwhile, and the tokenizer."""
    said = []
    while True:
        try:
            said.append(next(finding))
        except StopIteration as end:
            return said, end.value


def already_checked(name, kind):
    """A check that finds nothing to check."""
    yield f"Checking {name} ..."
    return {}


def test_the_last_three_stay_loaded(tiny, monkeypatch):
    loaded = []
    monkeypatch.setattr(tokenizers, "prepare_with_progress", already_checked)
    monkeypatch.setattr(tokenizers, "load_picture_tokenizer", lambda name, device: loaded.append(name) or object())
    others = Tokenizers(open_to_all=True)
    for name in ("a", "b", "c", "a", "d", "c", "a", "b"):
        found(others.find(name, tiny))
    assert loaded == ["a", "b", "c", "d", "b"]  # b was asked for longest ago when d came
    assert found(others.find("b", tiny))[1] is found(others.find("b", tiny))[1]


def test_waiting_is_said(tiny, monkeypatch):
    gate = Gate()
    monkeypatch.setattr(tokenizers, "prepare_with_progress", already_checked)
    monkeypatch.setattr(tokenizers, "SECONDS", 0.01)
    monkeypatch.setattr(tokenizers, "load_picture_tokenizer", lambda name, device: gate.enter())
    finding = photos(tiny, open_to_all=True).tokenizers({**CAT, "id": "some/where"})
    for said in ("Checking some/where ...", "Loading: "):
        value = next(finding)
        assert value["done"] < value["total"]
        assert value["columns"]["some/where"]["progress"].startswith(said)
    finding.close()
    gate.open()


def test_what_does_not_fit_into_memory_is_said(tiny, monkeypatch):
    def load(name, device):
        raise MemoryError("too large")

    monkeypatch.setattr(tokenizers, "prepare_with_progress", already_checked)

    monkeypatch.setattr(tokenizers, "load_picture_tokenizer", load)
    with pytest.raises(CheckpointError, match="'huge' could not be loaded here: too large"):
        found(Tokenizers(open_to_all=True).find("huge", tiny))
