"""What the page's events call, without a page: plain values in, plain values out."""

from __future__ import annotations

import base64
import io
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from conftest import ROOT, build
from PIL import Image
from test_encodings import decode

import drorae.explorer.batch
import drorae.explorer.reading
from drorae.checkpoints import CheckpointError
from drorae.explorer.batch import explore_batch, to_csv
from drorae.explorer.explore import explore
from drorae.explorer.interventions import InterventionError
from drorae.explorer.standing import Spread
from drorae.images import ImageError, load_image, whole_picture
from drorae.ui import about_tab, endpoints, many_photos, study_tab
from drorae.ui.models import Shelf, cancel_load, end_load, model_line, switch_model, switch_unless_cancelled
from drorae.ui.parsing import as_int
from drorae.ui.photo import UNFORESEEN, Photos, answering, failure_answer
from drorae.ui.status import status_line

CAT, COFFEE = (str(ROOT / "assets" / "examples" / f"{name}.jpg") for name in ("cat", "coffee"))
CAT_WISH = {"key": "cat", "example": "cat"}
UNCHANGED = gr.skip()


@pytest.fixture
def shelf(tiny):
    return Shelf(tiny, "tiny", open_to_all=True)


@pytest.fixture
def photos(shelf):
    return Photos(shelf)


@pytest.fixture
def uploads(tmp_path_factory) -> Path:
    """A folder where Gradio would put what visitors send."""
    folder = Path(os.environ["GRADIO_TEMP_DIR"]) / tmp_path_factory.mktemp("uploads").name
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder)


def pressable(buttons) -> list[bool]:
    return [button.interactive for button in buttons]


@pytest.mark.parametrize("value", [3, "3", None, 2.5, float("inf"), True])
def test_only_whole_floats_become_integers(value):
    assert as_int(value) is value
    assert type(as_int(3.0)) is int


def test_a_status_line_is_escaped_and_an_error_is_an_alert():
    assert status_line("<b>") == '<p class="status" role="status">&lt;b&gt;</p>'
    assert status_line("no", error=True) == '<p class="status error" role="alert">no</p>'


# a photo


def test_routes_are_what_the_model_makes_of_a_photo(photos, tiny):
    value = photos.routes({**CAT_WISH, "name": "the cat"})
    result = explore(load_image(CAT), tiny, interventions=False)
    assert [value[name] for name in ("key", "name", "example")] == ["cat", "the cat", "cat"]
    assert value["metrics"]["drorae"]["psnr"] == pytest.approx(result.metrics["drorae"]["psnr"], abs=1e-6)
    assert np.array_equal(decode(value["pictures"]["drorae"]), result.pictures["drorae"])
    assert value["model"] == {"name": "tiny", "hash": photos.shelf.hash("tiny")}


def test_an_uploaded_file_is_read_where_the_crop_is(photos, uploads):
    wide = np.random.default_rng(0).integers(0, 256, (32, 80, 3), dtype=np.uint8)
    Image.fromarray(wide).save(uploads / "wide.png")
    wish = {"key": "0" * 16, "file": {"path": str(uploads / "wide.png")}, "centre": [0, 0.5]}
    assert np.array_equal(decode(photos.routes(wish)["pictures"]["original"]), wide[:, :32])
    assert photos.routes(wish)["name"] == "photo"  # whoever sends no name has none


@pytest.fixture(scope="module")
def anysize():
    """A random model of any size. Do not change it."""
    return build(any_size=True, finetuned_decoder=True)


@pytest.fixture
def whole_wish(uploads) -> dict:
    """All of a photo of 320 x 200 pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((320, 200), Image.Resampling.BICUBIC).save(uploads / "wide.png")
    return {"key": "0" * 16, "file": {"path": str(uploads / "wide.png")}, "name": "wide.png", "whole": True}


def test_every_kind_is_about_all_of_the_photo_where_that_is_shown(anysize, whole_wish, tmp_path, monkeypatch):
    """320 x 200 with as many pixels as 64 x 64, in patches of 8: 80 x 48, 6 rows of 10 tokens."""
    monkeypatch.setattr(drorae.explorer.reading, "SIDE", 64)
    photos = Photos(Shelf(anysize, "any", open_to_all=True))
    expected = whole_picture(load_image(whole_wish["file"]["path"]), 64, 8)
    assert expected.size == (80, 48)
    routes = photos.routes(whole_wish)
    assert [routes[name] for name in ("width", "height", "rows", "columns", "size")] == [80, 48, 6, 10, 62]
    assert routes["notes"]["crop"] is None
    for name, picture in routes["pictures"].items():
        assert decode(picture).shape == (48, 80, 3), name
    assert np.array_equal(decode(routes["pictures"]["original"]), np.asarray(expected))
    tiles = photos.tiles(whole_wish)
    assert decode(tiles["sprite"]).shape == (48, 3 * 80, 3)
    *_, frames = photos.frames(whole_wish)
    assert (frames["width"], frames["height"]) == (80, 48)
    frame = photos.intervene({**whole_wish, "id": "i", "beta": 1.0, "tokens": [59]})
    assert decode(frame["picture"]).shape == (48, 80, 3)
    with pytest.raises(InterventionError, match="tokens are numbered 0 to 59"):
        photos.intervene({**whole_wish, "tokens": [60]})
    second = {**whole_wish, "key": "1" * 16, "whole": False}
    found = photos.similarity({**whole_wish, "token": 59, "second": second})
    assert [(each["rows"], each["columns"]) for each in found["photos"]] == [(6, 10), (8, 8)]
    *_, mean = photos.tokenizers({**whole_wish, "id": "mean-2"})
    assert mean["columns"]["mean-2"]["latent"][:2] == [6, 10]
    assert decode(mean["columns"]["mean-2"]["picture"]).shape == (48, 80, 3)
    arrays = np.load(io.BytesIO(base64.b64decode(photos.arrays(whole_wish)["base64"])))
    assert arrays["picture_drorae"].shape == (48, 80, 3)
    assert arrays["weights"].shape == (60, 3)
    assert "all of it at 80 x 48 pixels" in photos.report(whole_wish)["text"]
    assert len(photos.recent) == 2  # the photo, and its square


def test_the_standing_of_a_whole_photo_is_that_of_all_of_it(anysize, whole_wish):
    photos = Photos(Shelf(anysize, "any", open_to_all=True))
    photos.spreads["any"] = Spread(64, np.zeros(1), "none")
    picture = load_image(whole_wish["file"]["path"])
    gains = []
    for everything in (True, False):
        result = explore(picture, anysize, interventions=False, size=64, whole=everything)
        gains.append(result.metrics["drorae"]["psnr"] - result.metrics["rae"]["psnr"])
        found = photos.standing({**whole_wish, "whole": everything})
        assert found["gain"] == pytest.approx(gains[-1], abs=0.006)  # two digits
    assert abs(gains[0] - gains[1]) > 0.02


def test_a_model_of_squares_refuses_all_of_a_photo_in_a_sentence(photos, whole_wish):
    (update,) = answering(photos.routes)({**whole_wish, "version": 3})
    assert update["answer"]["error"] == "this model works on squares only, not on whole pictures"
    assert update["answer"]["version"] == 3


def test_a_model_without_fusion_has_one_route_and_no_weights():
    value = Photos(Shelf(build(fusion=None), "rae", open_to_all=False)).routes(CAT_WISH)
    assert list(value["metrics"]) == ["rae"]
    assert value["weights"] is value["shares"] is value["cosines"] is None


def test_tiles_are_a_row_of_what_every_layer_paints(photos):
    value = photos.tiles(CAT_WISH)
    assert decode(value["sprite"]).shape == (32, 3 * 32, 3)
    assert len(value["psnr"]) == 3


def test_frames_come_as_numbers_first_and_their_pictures_twice(photos):
    values = list(photos.frames(CAT_WISH))
    assert [value["done"] for value in values] == sorted(value["done"] for value in values)
    assert values[-1]["done"] == values[-1]["total"]
    pictures = [value for value in values if "sprite" in value]
    assert len(pictures) == 2
    assert len(pictures[0]["removed"]) == 3
    assert pictures[0]["done"] < pictures[0]["total"]
    assert len(pictures[1]["alone"]) == len(pictures[1]["experts"]) == 3


def test_arrays_are_those_of_the_library_in_full_precision(photos, tiny):
    file = photos.arrays({**CAT_WISH, "name": "my.cat.jpg"})
    assert file["name"] == "my.cat.npz"
    arrays = np.load(io.BytesIO(base64.b64decode(file["base64"])))
    result = explore(load_image(CAT), tiny, interventions=False)
    assert np.array_equal(arrays["original"], result.original)
    for name in ("weights", "shares", "cosines"):
        assert np.allclose(arrays[name], getattr(result, name), atol=1e-6)
    assert np.array_equal(arrays["gain_drorae"] > 0, result.gains["drorae"].map > 0)


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ({}, "is no longer kept here; choose it again"),
        ({"file": "mine.png"}, "is no longer kept here; choose it again"),
        ({"file": {"path": "/nowhere/mine.png"}}, "is no longer kept here; choose it again"),
        ({"file": {"path": CAT}}, "is no longer kept here; choose it again"),  # there, but nobody sent it
        ({"file": {"path": "a\0b"}}, "is no longer kept here; choose it again"),
        ({"example": "<dog>"}, "There is no example '<dog>'; there are cat"),
        ({"example": "cat", "model": "gone"}, "is no longer loaded"),
        ({"example": "cat", "centre": "left"}, "must be two numbers from 0 to 1"),
        ({"example": "cat", "centre": [0.5]}, "must be two numbers from 0 to 1"),
    ],
)
def test_a_wish_that_cannot_be_met_is_one_sentence_under_its_key(photos, wish, sentence):
    (update,) = answering(photos.routes)({"key": "k", "id": 3, **wish})
    answer = update["answer"]
    assert (answer["key"], answer["id"]) == ("k", 3)
    assert sentence in answer["error"]
    assert "value" not in answer


def test_a_file_that_is_no_picture_is_one_sentence_without_its_place(photos, uploads):
    (uploads / "notes.png").write_text("no picture")
    (update,) = answering(photos.routes)({"file": {"path": str(uploads / "notes.png")}, "name": "my notes.png"})
    assert "'my notes.png' is not a picture that can be read" in update["answer"]["error"]
    assert str(uploads) not in update["answer"]["error"]


def test_what_was_answered_before_an_error_stays():
    def breaks(wish):
        yield {"done": 1}
        raise ImageError("The file went away.")

    first, last = answering(breaks)({"key": "k"})
    moments = [each["answer"].pop("moment") for each in (first, last)]  # an equal answer would not reach the page
    assert moments[0] != moments[1]
    assert first["answer"] == {"key": "k", "id": None, "version": None, "value": {"done": 1}}
    assert last["answer"] == {"key": "k", "id": None, "version": None, "error": "The file went away."}


def test_what_nobody_foresaw_is_left_to_the_page_and_said_each_time_anew():
    def breaks(wish):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(answering(breaks)({"key": "k"}))
    first, again = (failure_answer({"key": "k", "id": 4})["answer"] for _ in range(2))
    assert (first["key"], first["id"], first["error"]) == ("k", 4, UNFORESEEN)
    assert first["moment"] != again["moment"]  # an equal value would not arrive


# models


def test_another_model_changes_all_that_speaks_of_it(shelf, tmp_path):
    name = str(tmp_path / "other")
    build(fusion_hidden_size=32).save_pretrained(name)
    (tmp_path / "other" / "README.md").write_text("# Its card")
    *running, last = switch_model(shelf, f"  {name} ", "PSNR and rFID")
    assert f"Looking for {name}" in running[0][0]
    assert all(pressable(state[1:3]) == [False, True] for state in running)
    assert all(state[3:] == (UNCHANGED,) * (len(last) - 3) for state in running)
    status, load, cancel, current, facts, card, *study, bar = last
    assert model_line(shelf.get(name), name) in status
    assert pressable((load, cancel)) == [True, False]
    assert current == name
    assert facts == about_tab.facts_text(shelf.get(name), name)
    assert name in facts
    assert card == "### Its card"
    assert len(study) == study_tab.NUM_FOLLOWING
    assert study[-1] is None  # nothing was measured of it
    assert bar["changed"]["model"] == {"name": name, "hash": shelf.hash(name)}
    assert [bar["changed"][each] for each in ("size", "layers", "channels")] == [32, 3, 48]


def test_a_failed_load_leaves_the_model(shelf, tiny, tmp_path):
    broken = tmp_path / "broken"
    tiny.save_pretrained(broken)
    (broken / "diffusion_pytorch_model.safetensors").write_bytes(b"no weights")
    for name, sentence in ((str(broken), "damaged or incomplete"), (None, "Name a folder"), (" ", "Name a folder")):
        *_, (status, load, cancel, *kept) = switch_model(shelf, name, "PSNR and rFID")
        assert 'role="alert"' in status
        assert sentence in status
        assert pressable((load, cancel)) == [True, False]
        assert kept == [UNCHANGED] * (len(kept))
    assert shelf.get("tiny") is tiny
    with pytest.raises(CheckpointError):
        shelf.get(str(broken))


def test_a_page_with_a_fixed_model_says_so(tiny):
    ((status, *_),) = switch_model(Shelf(tiny, "tiny", open_to_all=False), "any/thing", "PSNR and rFID")
    assert "the model is fixed" in status


def test_a_cancelled_load_names_the_model_that_is_shown():
    status, load, cancel = cancel_load("<x>")
    assert "this page shows &lt;x&gt;." in status
    assert pressable((load, cancel)) == [True, False]


def test_only_who_cancelled_is_told_so(shelf, monkeypatch):
    assert "Cancelled; this page shows tiny." in end_load("tiny", True)[0]
    status, *buttons = end_load("tiny", False)
    assert "Loading failed." in status
    assert "Cancelled" not in status
    assert pressable(buttons) == [True, False]

    def load(name):
        yield "Looking for it ..."
        raise KeyError("a secret")

    monkeypatch.setattr(shelf, "load", load)
    first, last = switch_unless_cancelled(shelf, "x", "PSNR and rFID")
    assert first[-1] is False
    assert last[-1] == UNCHANGED  # a last value may still arrive when somebody has cancelled
    assert "Loading failed: KeyError." in last[0]
    assert "secret" not in last[0]


# many photos


def send(uploads: Path, *paths: str) -> dict:
    """A wish about files, uploaded as the page does it: each into a folder of its own."""
    files = []
    for number, path in enumerate(paths):
        (uploads / str(number)).mkdir()
        files.append({"path": shutil.copy(path, uploads / str(number))})
    return {"files": files, "names": [Path(path).name for path in paths]}


def test_many_photos_grow_row_by_row(shelf, tiny, monkeypatch, uploads, tmp_path):
    monkeypatch.setattr(many_photos, "SECONDS", 0)
    (tmp_path / "bad.png").write_text("no picture")
    paths = [CAT, str(tmp_path / "bad.png"), COFFEE]
    answers = [update["answer"] for update in many_photos.answer(shelf, {"id": 5, **send(uploads, *paths)})]
    assert [answer["id"] for answer in answers] == [5, 5, 5]
    values = [answer["value"] for answer in answers]
    assert [(value["done"], value["total"], len(value["rows"])) for value in values] == [
        (1, 3, 1),
        (2, 3, 2),
        (3, 3, 3),
    ]
    last = values[-1]
    assert [row["error"] is None for row in last["rows"]] == [True, False, True]
    assert [row["name"] for row in last["rows"]] == ["cat.jpg", "bad.png", "coffee.jpg"]
    assert last["rows"][0]["psnr"]["drorae"] == explore(load_image(CAT), tiny).metrics["drorae"]["psnr"]
    assert decode(last["rows"][2]["thumbnail"]).shape == (64, 64, 3)
    assert "".join(last["csv"]) == to_csv(explore_batch(paths, tiny))
    assert values[0]["rows"] == last["rows"][:1]  # what is sent again only grows
    assert values[0]["csv"] == last["csv"][:2]


def test_answers_come_no_oftener_than_once_a_second(shelf, monkeypatch, uploads):
    clock = iter([0, 0, 0.5, 1, 1, 9, 9, 9])  # it is looked at for every row but the last, and when rows are sent
    monkeypatch.setattr(many_photos, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    values = list(many_photos.explore_all(shelf, send(uploads, *[CAT] * 5)))
    assert [value["done"] for value in values] == [1, 3, 4, 5]


@pytest.mark.parametrize(
    ("files", "model", "sentence"),
    [
        (None, "tiny", "Choose photos first."),
        ([], "tiny", "Choose photos first."),
        ("cat.jpg", "tiny", "Choose photos first."),
        ([{"path": CAT}] * 501, "tiny", "501 photos are too many; choose at most 500."),
        ([{"path": CAT}], "gone", "is no longer loaded"),
    ],
)
def test_what_cannot_begin_is_one_sentence(shelf, files, model, sentence):
    (update,) = many_photos.answer(shelf, {"id": 2, "files": files, "model": model})
    assert update["answer"]["id"] == 2
    assert sentence in update["answer"]["error"]


def test_a_file_that_nobody_sent_is_a_row_with_its_sentence(shelf, uploads):
    wish = send(uploads, CAT, CAT)
    Path(wish["files"][0]["path"]).unlink()
    wish["files"] += [{"path": CAT}, "x", None]
    *_, value = many_photos.explore_all(shelf, {**wish, "names": ["a", "b", "c", "d", "e"]})
    gone = "The picture is no longer kept here; choose it again."
    assert [row["error"] for row in value["rows"]] == [gone, None, gone, gone, gone]


def test_rows_have_as_many_folders_as_tell_them_apart():
    names = ["a/1.jpg", "b/1.jpg", "a/2.jpg", "2.png", "2.png"]
    assert many_photos.names_of({"names": names}, 5) == ["a/1.jpg", "b/1.jpg", "2.jpg", "2.png (1)", "2.png (2)"]
    for bad in (None, "x", ["only one"]):
        assert many_photos.names_of({"names": bad}, 2) == ["photo (1)", "photo (2)"]


def test_whoever_stops_ends_the_work(shelf, monkeypatch, uploads):
    explored = []

    def count(*args, **kwargs):
        explored.append(1)
        return explore(*args, **kwargs)

    monkeypatch.setattr(drorae.explorer.batch, "explore", count)
    monkeypatch.setattr(many_photos, "SECONDS", 0)
    answers = many_photos.answer(shelf, send(uploads, *[CAT] * 4))
    next(answers)
    answers.close()
    assert len(explored) == 1
    first, again = (many_photos.failure_answer({"id": 3})["answer"] for _ in range(2))
    assert first["id"] == 3
    assert first["moment"] != again["moment"]


# reports


def test_a_report_names_the_picture_as_the_command_takes_it(photos, uploads):
    file = photos.report({**CAT_WISH, "state": {"beta": 0.4, "evil": 1}})
    assert (file["name"], file["type"]) == ("drorae-cat.html", "text/html")
    assert "python -m drorae report assets/examples/cat.jpg --model tiny" in file["text"]
    assert 'store.set({"beta": 0.4})' in file["text"]
    mine = shutil.copy(COFFEE, uploads / "mine.jpg")
    wish = {"key": "0" * 16, "file": {"path": str(mine)}, "name": "mine.jpg", "state": "none"}
    text = photos.report(wish)["text"]
    assert "python -m drorae report mine.jpg --model tiny" in text
    assert str(uploads) not in text
    (update,) = answering(photos.report)({**CAT_WISH, "model": "gone"})
    assert "is no longer loaded" in update["answer"]["error"]


# endpoints


def test_endpoints_are_functions_of_a_model(tiny):
    best, numbers = endpoints.reconstruct(tiny, CAT)
    result = explore(load_image(CAT), tiny, interventions=False)
    assert np.array_equal(np.array(best), result.pictures["drorae"])
    assert numbers["drorae"]["psnr"] == result.metrics["drorae"]["psnr"]
    assert [row["picture"] for row in endpoints.batch(tiny, [CAT, COFFEE])] == ["cat.jpg", "coffee.jpg"]
    with pytest.raises(ImageError, match="Send between 1 and 500 pictures, not 0"):
        endpoints.batch(tiny, [])


def test_known_errors_become_sentences_and_others_stay():
    def fail(error):
        raise error

    call = endpoints.errors_as_sentences(fail)
    with pytest.raises(gr.Error, match="no picture"):
        call(ImageError("no picture"))
    with pytest.raises(ZeroDivisionError):
        call(ZeroDivisionError())
