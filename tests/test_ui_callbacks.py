"""What the page's events call, without a page: plain values in, plain values out."""

from __future__ import annotations

import base64
import io
import shutil
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from conftest import ROOT, build
from PIL import Image

import drorae.explorer.batch
from drorae.checkpoints import CheckpointError
from drorae.explorer.explore import explore, intervene
from drorae.explorer.interventions import Intervention
from drorae.images import ImageError, load_image
from drorae.ui import about_tab, batch_tab, endpoints, intervene_tab, picture, sharing, study_tab
from drorae.ui.examples import EXAMPLES
from drorae.ui.generators import CLASS, TEXT, Generator
from drorae.ui.models import Shelf, cancel_load, model_line, switch_model
from drorae.ui.parsing import as_int
from drorae.ui.status import status_line
from drorae.viewers.values import compare_value, frame_value

CAT, COFFEE = (str(ROOT / "assets" / "examples" / f"{name}.jpg") for name in ("cat", "coffee"))
UNCHANGED = gr.skip()


@pytest.fixture
def shelf(tiny):
    return Shelf(tiny, "tiny", open_to_all=True)


@pytest.fixture
def generators(pipeline, text_pipeline):
    made = [Generator("classes", CLASS, lambda: pipeline), Generator("texts", TEXT, lambda: text_pipeline)]
    for generator in made:
        generator.load()
    return made


def event(data) -> gr.EventData:
    return gr.EventData(None, data)


def pressable(buttons) -> list[bool]:
    return [button.interactive for button in buttons]


def pixels(url: str) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


@pytest.mark.parametrize("value", [3, "3", None, 2.5, float("inf"), True])
def test_only_whole_floats_become_integers(value):
    assert as_int(value) is value
    assert type(as_int(3.0)) is int


def test_a_status_line_is_escaped_and_an_error_is_an_alert():
    assert status_line("<b>") == '<p class="status" role="status">&lt;b&gt;</p>'
    assert status_line("no", error=True) == '<p class="status error" role="alert">no</p>'


# the picture


def test_a_picture_fills_all_views_in_the_order_of_their_components(shelf, tiny):
    calls = []
    status, *values, path = picture.explore_picture(shelf, CAT, "tiny", lambda at, desc: calls.append((at, desc)))
    assert "32 × 32 pixels, rebuilt along 3 routes" in status
    assert path == CAT
    assert len(values) == picture.NUM_VALUES
    result = explore(load_image(CAT), tiny)
    assert values[0] == compare_value(result, "cat")
    assert np.array_equal(pixels(values[0]["routes"][-1]["picture"]), result.pictures["drorae"])
    assert [value["visible"] for value in values[2:5]] == [False, True, True]  # no note, heading, chart
    assert values[5]["answer"] is None
    assert values[6]["visible"] is False
    assert set(values[7]["spectra"]) == {"original", "rae", "phase2", "drorae"}
    assert calls[-1][0][0] == calls[-1][0][1] > 0  # all interventions were painted


def test_what_a_model_has_no_part_for_is_hidden():
    plain = Shelf(build(fusion=None), "rae", open_to_all=False)
    _, compare, routing, note, heading, chart, interventions, no_router, _, _ = picture.explore_picture(
        plain, CAT, "rae"
    )
    assert [route["name"] for route in compare["routes"]] == ["rae"]
    assert routing is None
    assert interventions["value"] is None
    assert [note["visible"], heading["visible"], chart["visible"], no_router["visible"]] == [True, False, False, True]


@pytest.mark.parametrize(
    ("path", "name", "role", "sentence"),
    [
        (None, "tiny", "status", "keep looking at this one"),
        (__file__, "tiny", "alert", "not a picture that can be read"),
        (CAT, "gone", "alert", "is no longer loaded"),
    ],
)
def test_without_a_new_picture_what_is_shown_stays(shelf, path, name, role, sentence):
    status, *kept = picture.explore_picture(shelf, path, name)
    assert f'role="{role}"' in status
    assert sentence in status
    assert kept == [UNCHANGED] * (picture.NUM_VALUES + 1)


def test_a_wish_is_answered_under_its_number(shelf, tiny):
    wish = {"id": 7, "layers": [1, 3], "beta": 0.4, "tokens": None}
    answer = intervene_tab.answer(shelf, event(wish), CAT, "tiny")["answer"]
    assert answer == {"id": 7, "frame": frame_value(intervene(load_image(CAT), tiny, Intervention((1, 3), 0.4)))}


@pytest.mark.parametrize(
    ("wish", "number", "sentence"),
    [
        ({"id": 8, "layers": [9]}, 8, "There is no layer 9"),
        ({"id": 9, "tokens": "all"}, 9, "must be a list of numbers"),
        ({"beta": 2}, None, "between 0"),
    ],
)
def test_a_wish_that_cannot_be_met_is_answered_too(shelf, wish, number, sentence):
    answer = intervene_tab.answer(shelf, event(wish), CAT, "tiny")["answer"]
    assert answer["id"] == number
    assert sentence in answer["error"]


@pytest.mark.parametrize("data", [None, "x", [1]])
def test_an_event_without_a_wish_asks_for_the_picture_as_trained(shelf, tiny, data):
    answer = intervene_tab.answer(shelf, event(data), CAT, "tiny")["answer"]
    assert answer == {"id": None, "frame": frame_value(intervene(load_image(CAT), tiny, Intervention()))}


# models


def test_another_model_changes_all_that_speaks_of_it(shelf, tmp_path):
    name = str(tmp_path / "other")
    build(fusion_hidden_size=32).save_pretrained(name)
    (tmp_path / "other" / "README.md").write_text("# Its card")
    *running, last = switch_model(shelf, f"  {name} ", "PSNR and rFID")
    assert f"Looking for {name}" in running[0][0]
    assert all(pressable(state[1:3]) == [False, True] for state in running)
    assert all(state[3:] == (UNCHANGED,) * (len(last) - 3) for state in running)
    status, load, cancel, current, introduction, facts, card, *study = last
    assert model_line(shelf.get(name), name) in status
    assert pressable((load, cancel)) == [True, False]
    assert current == name
    assert introduction == about_tab.model_facts(shelf.get(name), name).introduction
    assert name in facts
    assert card == "### Its card"
    assert len(study) == study_tab.NUM_FOLLOWING
    assert study[-1] is None  # nothing was measured of it


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


# batch


def test_a_batch_grows_row_by_row(shelf, tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(batch_tab, "SECONDS", 0)
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    paths = [CAT, str(bad), COFFEE]
    *running, last = batch_tab.explore_all(shelf, paths, "tiny")
    assert [len(value["rows"]) for _, value, *_ in running] == [1, 2]
    assert all(value["running"] and pressable(buttons) == [False, True] for _, value, *buttons, _ in running)
    _, value, *buttons, explored = last
    assert explored == paths
    assert pressable(buttons) == [True, False]
    assert not value["running"]
    assert [row["error"] is None for row in value["rows"]] == [True, False, True]
    result = explore(load_image(CAT), tiny, interventions=False)
    assert value["rows"][0]["psnr"]["drorae"] == result.metrics["drorae"]["psnr"]


@pytest.mark.parametrize(
    ("paths", "name", "sentence"),
    [
        (None, "tiny", "Choose pictures first."),
        ([], "tiny", "Choose pictures first."),
        ([CAT] * (batch_tab.MAX_BATCH + 1), "tiny", "501 pictures are too many; choose at most 500."),
        ([CAT], "gone", "is no longer loaded"),
    ],
)
def test_a_batch_that_cannot_begin_keeps_the_table(shelf, paths, name, sentence):
    ((status, value, *buttons, explored),) = batch_tab.explore_all(shelf, paths, name)
    assert sentence in status
    assert 'role="alert"' in status
    assert value == explored == UNCHANGED
    assert pressable(buttons) == [True, False]


def test_closing_a_batch_ends_its_work_and_stop_frees_the_buttons(shelf, monkeypatch):
    explored = []

    def count(*args, **kwargs):
        explored.append(1)
        return explore(*args, **kwargs)

    monkeypatch.setattr(drorae.explorer.batch, "explore", count)
    monkeypatch.setattr(batch_tab, "SECONDS", 0)
    states = batch_tab.explore_all(shelf, [CAT] * 100, "tiny")
    next(states)
    states.close()
    assert len(explored) == 1
    status, viewer, *buttons = batch_tab.stop()
    assert "Stopped." in status
    assert viewer["stopped"] > 0
    assert "value" not in viewer  # the rows stay
    assert pressable(buttons) == [True, False]


def test_a_row_is_opened_under_its_own_name(tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    status, path, tabs = batch_tab.open_row(event({"index": 1}), [CAT, COFFEE])
    assert path == COFFEE
    assert tabs.selected == "compare"
    for index, sentence in ((2, "no longer there"), (-1, "no longer there"), ("0", "no longer there"), (1, "bad.png")):
        status, path, tabs = batch_tab.open_row(event({"index": index}), [CAT, str(bad)])
        assert sentence in status
        assert path == tabs == UNCHANGED


# reports and links


def test_a_report_names_the_picture_as_the_command_takes_it(shelf, tmp_path):
    answer = sharing.write_report(shelf, CAT, "tiny")
    assert answer["name"] == "drorae-cat.html"
    assert "python -m drorae report assets/examples/cat.jpg --model tiny" in answer["text"]
    mine = shutil.copy(COFFEE, tmp_path / "mine.jpg")
    Image.open(mine).rotate(90).save(mine)
    assert "python -m drorae report mine.jpg --model tiny" in sharing.write_report(shelf, str(mine), "tiny")["text"]
    assert "is no longer loaded" in sharing.write_report(shelf, CAT, "gone")["error"]
    assert sharing.report_failure()["error"] == sharing.REPORT_FAILED
    assert sharing.report_failure()["moment"] != sharing.report_failure()["moment"]  # an equal value would not arrive


@pytest.mark.parametrize(
    ("query", "path", "tab"),
    [
        ({}, UNCHANGED, None),
        ({"example": "cat", "tab": "routing"}, UNCHANGED, "routing"),
        ({"example": "rocket", "tab": "nowhere"}, EXAMPLES["rocket"], None),
    ],
)
def test_a_link_opens_an_example_and_a_tab(query, path, tab):
    opened, tabs, status = sharing.open_link(SimpleNamespace(query_params=query))
    assert (opened, status) == (path, UNCHANGED)
    assert tabs == UNCHANGED if tab is None else tabs.selected == tab


def test_a_link_to_another_picture_says_what_there_is():
    opened, _, status = sharing.restore_view("<dog>", None)
    assert opened == UNCHANGED
    assert "&lt;dog&gt;" in status
    assert "cat, astronaut" in status


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
