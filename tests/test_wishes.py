"""What the page asks for besides what it has at hand, without a page."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import ROOT
from test_encodings import decode

from drorae.explorer.answers import frame_answer
from drorae.explorer.interventions import Intervention
from drorae.explorer.reading import Reading
from drorae.images import open_photo
from drorae.ui.models import Shelf
from drorae.ui.photo import Photos, answering

CAT = {"key": "cat", "example": "cat"}


@pytest.fixture
def photos(tiny) -> Photos:
    return Photos(Shelf(tiny, "tiny", open_to_all=False))


def test_an_intervention_is_answered_under_its_number(photos, tiny):
    value = photos.intervene({**CAT, "id": "7", "layers": [1, 3], "beta": 0.4, "tokens": None})
    photo = open_photo((ROOT / "assets" / "examples" / "cat.jpg").read_bytes(), "cat")
    frame = Reading(photo, tiny).intervene(Intervention((1, 3), 0.4))
    assert np.array_equal(decode(value.pop("picture")), frame.picture)
    assert value == {"id": "7", **frame_answer(frame)}


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ({"layers": [9]}, "There is no layer 9"),
        ({"layers": []}, "Keep at least one layer"),
        ({"tokens": "all"}, "must be a list of numbers"),
        ({"tokens": [16]}, "There is no token 16"),
        ({"beta": 2}, "between 0"),
        ({"model": "gone"}, "is no longer loaded"),
    ],
)
def test_an_intervention_that_cannot_be_made_is_answered_by_a_sentence(photos, wish, sentence):
    (update,) = answering(photos.intervene)({**CAT, "id": "8", **wish})
    answer = update["answer"]
    assert (answer["key"], answer["id"]) == ("cat", "8")
    assert sentence in answer["error"]
