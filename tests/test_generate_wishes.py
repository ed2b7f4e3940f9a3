"""What the page Generate asks for, without a page: plain functions of a wish."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

from drorae.explorer.chosen import CHOSEN, FIRST, weights_of
from drorae.explorer.sampling import Request, sample_to_end, sample_with_progress
from drorae.images import png_settings
from drorae.ui import generate, generators
from drorae.ui.generators import CLASS, TEXT, Generator
from drorae.ui.models import Shelf
from drorae.ui.photo import own_size
from train import choose_seeds

CAT = {"example": "cat"}


@pytest.fixture
def offered(pipeline, text_pipeline):
    return [Generator("classes", CLASS, lambda: pipeline), Generator("texts", TEXT, lambda: text_pipeline)]


@pytest.fixture
def ask(tiny, offered):
    """Every answer to a wish, and whether it is a value or an error."""
    shelf = Shelf(tiny, "tiny", False)

    def ask(what="pictures", **changes):
        wish = {"key": "1", "what": what, "generator": "classes", "subject": "church", "seeds": [3, 8], "steps": 3.0}
        wish |= {"guidance": "cfg", "scale": 2, **changes}
        answers = [update["answer"] for update in generate.answer(shelf, offered, wish)]
        assert all(answer.pop("key") == "1" for answer in answers)
        return answers

    return ask


def picture(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text.partition(",")[2]))))


def test_pictures_are_those_of_the_library(ask, pipeline):
    *running, last = ask()
    steps = [answer["value"]["step"] for answer in running if "step" in answer["value"]]
    assert steps == [1, 2]
    request = Request("church", steps=3, guidance="cfg", scale=2, compare=False, seeds=(3, 8))
    *_, made = sample_with_progress(pipeline, request, "classes")
    (row,) = last["value"]["rows"]
    assert last["value"]["seeds"] == [3, 8]
    for decoder in ("original", "finetuned"):
        assert np.array_equal(picture(row["pictures"][decoder][1]), made.rows[0].pictures[decoder][1])
    file = io.BytesIO(base64.b64decode(row["pictures"]["finetuned"][1].partition(",")[2]))
    assert png_settings(file) == {**row["settings"][1], "decoder": "finetuned"}
    assert row["settings"][1]["seed"] == 8


def test_a_generator_of_texts_gets_the_words(ask):
    value = ask(generator="texts", subject="a church", negative="night", other="a dog")[-1]["value"]
    assert value["label"] == "a church"
    assert [row["name"] for row in value["rows"]] == ["guided", "other"]
    assert value["rows"][0]["settings"][0]["negative"] == "night"


def test_grids_walks_photos_and_morphs_are_answered(ask):
    assert [len(answer["value"]["pictures"]) for answer in ask("grid", scales=[1, 2])[-4:]] == [2, 0, 0, 4]
    assert len(ask("walk", end="golf ball")[-1]["value"]["pictures"]) == 8
    states = [answer["value"] for answer in ask("photo", photos=[CAT], time=0.99)]
    assert [set(state) & {"rebuilt", "noisy", "time"} for state in states].count({"rebuilt", "noisy", "time"}) == 1
    assert len(states[-1]["pictures"]) == 2
    (made,) = ask("morph", photos=[CAT, {"example": "coffee"}])
    assert len(made["value"]["fused"]) == len(made["value"]["last"]) == 8


@pytest.mark.parametrize(
    ("what", "changes", "sentence"),
    [
        ("pictures", {"subject": ""}, "Say what to make first."),
        ("pictures", {"subject": " "}, "Say what to make first."),
        ("pictures", {"subject": None}, "Say what to make first."),
        ("pictures", {"subject": "golden gate"}, "There is no class 'golden gate'"),
        ("pictures", {"steps": 2.5}, "not 2.5"),
        ("pictures", {"seeds": list(range(9))}, "9 pictures at once"),
        ("pictures", {"seeds": [-1]}, "not -1"),
        ("pictures", {"seeds": "many"}, "at least one seed"),
        ("pictures", {"scale": None}, "not None"),
        ("pictures", {"generator": "mine"}, "no generator 'mine'"),
        ("dance", {}, "cannot make 'dance'"),
        ("grid", {"scales": "all"}, "guidance scales"),
        ("walk", {"end": None}, "Say what to make first."),
        ("walk", {"seeds": [1], "end": "church"}, "give two"),
        ("photo", {"photos": [], "time": 0.5}, "Choose a photo first."),
        ("photo", {"photos": [{}], "time": 0.5}, "choose it again"),
        ("photo", {"photos": [{"example": "dog"}], "time": 0.5}, "There is no example 'dog'"),
        ("morph", {"photos": [CAT]}, "Choose two photos first."),
    ],
)
def test_bad_wishes_get_one_sentence(ask, what, changes, sentence):
    (answer,) = [answer for answer in ask(what, **changes) if "loading" not in answer.get("value", {})]
    assert sentence in answer["error"]


def test_a_device_without_memory_gets_one_sentence(ask, monkeypatch):
    def fail(*_):
        raise RuntimeError("CUDA out of memory\nand much more")

    monkeypatch.setattr(generate, "sample_with_progress", fail)
    assert ask()[-1]["error"] == "classes could not run here: CUDA out of memory"


def test_a_generator_is_loaded_at_its_first_use(ask, offered):
    assert ask(steps=1)[0]["value"] == {"running": True, "loading": "classes"}
    assert offered[0].is_loaded()
    assert "loading" not in ask(steps=1)[0]["value"]


def test_the_view_knows_what_each_generator_takes(offered, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = generate.page_config(offered)
    classes, texts = config["generators"]
    assert classes["names"] == ["tench", "church", "golf ball"]
    assert classes["guidance"] == ["none", "cfg", "autoguidance"]
    assert classes["start"] == "tench"
    assert (texts["names"], texts["start"]) == ([], generate.PROMPTS[0])
    assert texts["guidance"] == ["none", "cfg"]  # this one has no guide
    assert classes["chosen"] is None
    assert not classes["first"]
    assert classes["settings"]["guidance"] == "autoguidance"
    assert (texts["settings"]["guidance"], texts["settings"]["scale"]) == ("cfg", 3.0)
    assert config["needs"] == generators.RAE_NEEDS
    published = Generator(generators.RAE_TITLE, CLASS, lambda: None, ["tench"])
    assert generate.page_config([*offered, published])["needs"] is None


def test_the_view_starts_with_the_guidance_that_a_generator_was_saved_with(pipeline):
    usual = pipeline.config.guidance, pipeline.config.guidance_scale
    pipeline.register_to_config(guidance="cfg", guidance_scale=2.2)
    settings = generate.generator_config(Generator("classes", CLASS, lambda: pipeline))["settings"]
    assert (settings["guidance"], settings["scale"]) == ("cfg", 2.2)
    pipeline.register_to_config(guidance=usual[0], guidance_scale=usual[1])


def test_chosen_seeds_are_those_of_these_weights(pipeline, tmp_path):
    known = Generator("classes", CLASS, lambda: pipeline, folder=tmp_path)
    assert known.chosen() is None
    value = choose_seeds.chosen_value(pipeline, {"church": [4, 2]}, 16)
    (tmp_path / CHOSEN).write_text(json.dumps(value))
    assert known.chosen()["seeds"] == {"church": [4, 2]}
    assert known.chosen()["looked_at"] == 16
    assert known.chosen()["settings"] == {"steps": 25, "guidance": "autoguidance", "scale": 1.5}
    (tmp_path / CHOSEN).write_text(json.dumps({**value, "weights": "0" * 16}))
    assert known.chosen() is None
    (tmp_path / FIRST).write_text(json.dumps({"weights": weights_of(pipeline), "values": []}))
    assert known.has_first()
    assert known.first()["values"] == []


def test_weights_are_named_by_every_network(pipeline):
    name = weights_of(pipeline)
    assert name == weights_of(pipeline)
    bias = next(pipeline.guide.parameters())
    before = bias.data.clone()
    bias.data[0] += 1
    assert weights_of(pipeline) != name
    bias.data.copy_(before)
    assert weights_of(pipeline) == name


def test_choices_are_read_and_sheets_have_every_seed(pipeline):
    assert choose_seeds.read_choice("Golden retriever=7,9") == ("golden retriever", [7, 9])
    for text in ("golden retriever", "=1", "church=a"):
        with pytest.raises(choose_seeds.SamplingError, match="subject=seed,seed,seed"):
            choose_seeds.read_choice(text)
    sheet = choose_seeds.draw_sheet(pipeline, "church", 9)
    assert sheet.size == (8 * 32, 2 * (32 + choose_seeds.NUMBER))
    made = (
        sample_to_end(pipeline, choose_seeds.usual_request(pipeline, "church", [8]), "")
        .rows[0]
        .pictures["finetuned"][0]
    )
    corner = np.asarray(sheet)[32 + 2 * choose_seeds.NUMBER :, :32].astype(int)
    assert np.abs(corner - made).max() <= 1


def test_the_first_pictures_of_the_shipped_generator_are_its_own(embedded):
    """One picture made again: the chosen ones of a file that ships with the weights are not from somewhere else."""
    name = ROOT / "assets" / "drorae-tiny-class"
    shipped = generators.local_generator(str(name), CLASS, embedded)
    first, chosen = shipped.first(), shipped.chosen()
    assert first is not None
    seeds = chosen["seeds"][first["subject"].lower()]
    value = first["values"][0]
    assert set(seeds) | {0, 1, 2} == set(value["seeds"])
    at = value["seeds"].index(seeds[0])
    request = choose_seeds.usual_request(shipped.load(), first["subject"], seeds[:1])
    made = sample_to_end(shipped.load(), request, "").rows[0]
    kept = picture(value["rows"][0]["pictures"]["finetuned"][at]).astype(int)
    assert np.abs(kept - made.pictures["finetuned"][0]).max() <= 1
    assert value["rows"][0]["settings"][at]["seed"] == seeds[0]


def test_a_generated_picture_is_looked_at_at_its_own_size(embedded):
    assert own_size({"size": embedded.image_size}, embedded) == embedded.image_size
    assert own_size({"size": 4096}, embedded) is None
    assert own_size({}, embedded) is None


def test_seeds_are_looked_at_and_chosen_by_the_commands_of_its_help(pipeline, tmp_path, monkeypatch, capsys):
    """Subjects may stand after the options, as the help has them."""
    monkeypatch.setattr(choose_seeds, "load_pipeline", lambda name: pipeline)
    monkeypatch.setattr(choose_seeds, "STEPS", 1)
    sheets = tmp_path / "sheets"
    choose_seeds.main([str(tmp_path), "--look", "3", "--to", str(sheets), "golf ball", "church"])
    assert sorted(file.name for file in sheets.iterdir()) == ["church.png", "golf-ball.png"]
    with Image.open(sheets / "church.png") as sheet:
        assert sheet.size == (3 * 32, 32 + choose_seeds.NUMBER)
    choose_seeds.main([str(tmp_path), "--look", "3", "--chosen", "golf ball=2,0", "church=1"])
    chosen = json.loads((tmp_path / CHOSEN).read_text())
    assert (chosen["seeds"], chosen["looked_at"]) == ({"golf ball": [2, 0], "church": [1]}, 3)
    assert json.loads((tmp_path / FIRST).read_text())["subject"] == "golf ball"
    assert capsys.readouterr().out.count(str(tmp_path)) == 4
