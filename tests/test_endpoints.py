"""Three doors, one room: page, HTTP and command line give equal numbers for the same picture."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from conftest import ROOT, build, sent, served
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from test_encodings import decode, frame_of, half_step, unpack

from drorae.cli import main
from drorae.explorer.explore import explore
from drorae.images import ImageError, load_image
from drorae.ui.page import build_demo
from drorae.ui.status import status_line
from drorae.ui.uploads import GONE, open_upload
from drorae.viewers.values import frames_value

CAT, COFFEE = (str(ROOT / "assets" / "examples" / f"{name}.jpg") for name in ("cat", "coffee"))
PUBLIC = {"/reconstruct", "/routing", "/intervene", "/batch", "/sample_class", "/sample_text"}


@pytest.fixture(scope="module")
def client(pipeline, text_pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("generators")
    pipeline.save_pretrained(folder / "class")
    text_pipeline.save_pretrained(folder / "text")
    with served(build_demo(pipeline.autoencoder, "tiny", str(folder / "class"), str(folder / "text"))) as address:
        yield Client(address, verbose=False)


@pytest.fixture(scope="module")
def checkpoint(pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    pipeline.autoencoder.save_pretrained(folder)
    return str(folder)


def printed(capsys, *arguments: str) -> dict:
    assert main(list(arguments)) == 0
    return json.loads(capsys.readouterr().out.splitlines()[0])


def test_these_endpoints_and_no_others_are_public_and_described(client):
    found = client.view_api(return_format="dict")["named_endpoints"]
    assert set(found) == PUBLIC
    assert all(each["description"].strip() for each in found.values())
    documented = {p["parameter_name"] for p in found["/intervene"]["parameters"]}
    assert documented == {"picture", "layers", "beta", "tokens", "size", "whole"}


def test_reconstruct_is_the_same_through_all_doors(client, checkpoint, pipeline, capsys, tmp_path):
    file, by_http = client.predict(handle_file(CAT), api_name="/reconstruct")
    by_command = printed(capsys, "reconstruct", CAT, "--model", checkpoint, "--out", str(tmp_path), "--json")
    result = explore(load_image(CAT), pipeline.autoencoder)
    on_page = sent(result)
    for name in ("rae", "phase2", "drorae"):
        assert by_http[name] == {key: value for key, value in by_command[name].items() if key != "file"}
        assert {key: by_http[name][key] for key in ("psnr", "ssim", "mae")} == on_page["metrics"][name]
        if name != "rae":
            assert by_http[name]["harmed"] == result.gains[name].harmed
    assert np.array_equal(np.array(Image.open(file)), np.array(Image.open(by_command["drorae"]["file"])))
    assert np.array_equal(np.array(Image.open(file)), decode(on_page["pictures"]["drorae"]))


def test_routing_is_the_same_through_all_doors(client, checkpoint, pipeline, capsys, tmp_path):
    by_http = client.predict(handle_file(CAT), api_name="/routing")
    out = tmp_path / "weights.npz"
    by_command = printed(capsys, "routing", CAT, "--model", checkpoint, "--out", str(out), "--json")
    assert by_http == by_command
    result = explore(load_image(CAT), pipeline.autoencoder, interventions=False)
    on_page = sent(result)
    for key in ("weights", "shares"):
        assert np.array_equal(np.array(by_http[key], "<f4"), getattr(result, key))
        assert np.abs(unpack(on_page[key], (16, 3)) - by_http[key]).max() <= half_step(on_page[key])
    assert np.array_equal(np.load(out)["weights"], np.array(by_http["weights"], "<f4"))
    assert by_http["cosine"] == on_page["cosine"]


def test_intervene_is_the_same_through_all_doors(client, checkpoint, pipeline, capsys, tmp_path):
    file, by_http = client.predict(handle_file(CAT), [1, 3], None, None, api_name="/intervene")
    out = tmp_path / "x.png"
    by_command = printed(capsys, "intervene", CAT, "--without", "2", "--model", checkpoint, "--out", str(out), "--json")
    assert by_http == {key: by_command[key] for key in by_http}
    assert np.array_equal(np.array(Image.open(file)), np.array(Image.open(out)))
    result = explore(load_image(CAT), pipeline.autoencoder)
    on_page = frames_value(result, result.interventions)
    frame = on_page["removed"][1]
    shown = frame_of(on_page, frame, result.pictures["drorae"]).astype(int)
    assert np.abs(shown - np.array(Image.open(file)).astype(int)).max() <= 1  # the page decodes several at once
    assert frame["psnr"] == pytest.approx(by_http["psnr"], abs=0.01)
    _, region = client.predict(handle_file(CAT), None, 0.7, [0, 1, 5], api_name="/intervene")
    by_command = printed(
        capsys, *f"intervene {CAT} --beta 0.7 --tokens 0 1 5 --model {checkpoint} --out {out} --json".split()
    )
    assert region == {key: by_command[key] for key in region}


def test_batch_is_the_same_by_http_and_command(client, checkpoint, capsys, tmp_path):
    by_http = client.predict([handle_file(CAT), handle_file(COFFEE)], api_name="/batch")
    assert main(["batch", CAT, COFFEE, "--model", checkpoint, "--out", str(tmp_path / "x.csv"), "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert by_http == [json.loads(line) for line in lines[:2]]


@pytest.fixture(scope="module")
def anysize(tmp_path_factory) -> Iterator[tuple[Client, list[str]]]:
    """A page of a model of any size, and the arguments by which commands take it."""
    folder, model = tmp_path_factory.mktemp("any"), build(any_size=True, finetuned_decoder=True)
    model.save_pretrained(folder)
    with served(build_demo(model, "any")) as address:
        yield Client(address, verbose=False), ["--model", str(folder), "--size", "64", "--whole", "--json"]


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("photos") / "wide.png"
    Image.open(CAT).resize((320, 200)).save(file)
    return str(file)


def test_a_size_and_the_whole_photo_are_the_same_through_all_doors(anysize, wide, capsys, tmp_path):
    """320 x 200 with as many pixels as 64 x 64, in patches of 8: 80 x 48."""
    client, options = anysize
    photo, part = handle_file(wide), {"size": 64, "whole": True}
    size, out = {"width": 80, "height": 48}, str(tmp_path / "out")
    calls = [
        ("reconstruct", {}, ["--out", out]),
        ("routing", {}, ["--out", out + ".npz"]),
        ("intervene", {"beta": 0.7, "tokens": [59]}, ["--beta", "0.7", "--tokens", "59", "--out", out + ".png"]),
    ]
    for name, more, arguments in calls:
        answer = client.predict(photo, **part, **more, api_name=f"/{name}")
        file, by_http = (None, answer) if name == "routing" else answer
        by_command = printed(capsys, name, wide, *options, *arguments)
        assert by_http | size == by_http, name
        for key, value in by_http.items():
            shown = by_command[key]
            assert value == ({k: v for k, v in shown.items() if k != "file"} if isinstance(shown, dict) else shown)
        assert file is None or Image.open(file).size == (80, 48)
    (row,) = client.predict([photo], **part, api_name="/batch")
    assert row == printed(capsys, "batch", wide, *options, "--out", out + ".csv")
    assert row | size == row
    (square,) = client.predict([photo], size=64, api_name="/batch")
    assert (square["width"], square["height"]) == (64, 64)


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ({"size": 60}, "the side must be a multiple of 8 pixels, not 60; use 64"),
        ({"size": 64.5}, "The side is a whole number of pixels, not 64.5."),
        ({"size": 4096}, "This page works at up to 512 pixels, not at 4096; the command line has no limit."),
    ],
)
def test_sizes_that_cannot_be_are_one_sentence(anysize, wide, part, sentence):
    for name, pictures in (("reconstruct", handle_file(wide)), ("batch", [handle_file(wide)])):
        with pytest.raises(AppError, match=re.escape(sentence)):
            anysize[0].predict(pictures, **part, api_name=f"/{name}")


def test_a_model_of_squares_refuses_what_it_cannot(client, checkpoint, capsys, tmp_path):
    for part, option, sentence in (
        ({"size": 64}, ["--size", "64"], "this model works at 32 pixels only, not at 64"),
        ({"whole": True}, ["--whole"], "this model works on squares only, not on whole pictures"),
    ):
        for name, pictures in (("reconstruct", handle_file(CAT)), ("batch", [handle_file(CAT)])):
            with pytest.raises(AppError, match=re.escape(sentence)):
                client.predict(pictures, **part, api_name=f"/{name}")
        for name in ("reconstruct", "routing", "intervene", "report", "batch", "compare"):
            arguments = [name, CAT, "--model", checkpoint, "--out", str(tmp_path / name), *option]
            assert main(arguments) == 2
            assert capsys.readouterr().err == f"{sentence}\n"
            assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("kind", "arguments", "command"),
    [
        ("class", ("church", 3, 4, "autoguidance", 1.5), ["--class", "church", "--guidance", "autoguidance"]),
        ("text", ("a church", "", 3, 4, "cfg", 1.5), ["--prompt", "a church", "--guidance", "cfg"]),
    ],
)
def test_samples_are_the_same_by_http_and_command(
    client, pipeline, text_pipeline, capsys, tmp_path, kind, arguments, command
):
    file, settings = client.predict(*arguments, api_name=f"/sample_{kind}")
    folder, out = tmp_path / "generator", tmp_path / "x.png"
    (pipeline if kind == "class" else text_pipeline).save_pretrained(folder)
    more = ["--seed", "3", "--steps", "4", "--scale", "1.5", "--generator", str(folder), "--out", str(out)]
    assert main(["sample", *command, *more]) == 0
    capsys.readouterr()
    assert np.array_equal(np.array(Image.open(file)), np.array(Image.open(out)))
    assert settings["seed"] == 3


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("intervene", ([9], None, None), "There is no layer 9"),
        ("intervene", (None, 2.0, None), "The strength must be between 0"),
        ("intervene", ("all", None, None), "The layers must be a list of numbers"),
    ],
)
def test_bad_values_are_one_sentence(client, name, arguments, sentence):
    with pytest.raises(AppError, match=re.escape(sentence)):
        client.predict(handle_file(CAT), *arguments, api_name=f"/{name}")


def test_pictures_of_one_name_are_numbered(client, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "cat.jpg").write_bytes(Path(COFFEE).read_bytes())
    files = [handle_file(each) for each in (CAT, str(tmp_path / "other" / "cat.jpg"), COFFEE)]
    rows = client.predict(files, api_name="/batch")
    assert [row["picture"] for row in rows] == ["cat.jpg (1)", "cat.jpg (2)", "coffee.jpg"]


def test_half_characters_are_one_sentence(client):
    """Sent as JSON escapes, which is how they arrive from a browser."""
    half = "Character 3 of the prompt is half a character (U+D83D); type it again."
    for name, data, sentence in (
        ("text", ["a \ud83d dog", "", 0, 2, "none", 1.0], half),
        ("text", ["a dog", "\ud83d", 0, 2, "cfg", 2.0], "negative_prompt is half a character"),
        ("class", ["\ud83d", 0, 2, "none", 1.0], r"\\ud83d"),
    ):
        address = f"{client.src.rstrip('/')}/gradio_api/call/sample_{name}"
        sent = httpx.post(address, content=json.dumps({"data": data}), headers={"Content-Type": "application/json"})
        answer = httpx.get(f"{address}/{sent.json()['event_id']}", timeout=60).text
        assert answer.startswith("event: error")
        assert sentence in answer


def test_an_upload_that_was_deleted_is_one_sentence(tmp_path):
    with pytest.raises(ImageError, match=f"^{re.escape(GONE)}$"):
        open_upload(str(tmp_path / "photo.jpg"))
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ImageError) as caught:
        open_upload(str(tmp_path / "text.png"))
    assert str(tmp_path) not in str(caught.value)


def test_what_the_status_line_says_can_be_sent():
    assert "There is no class &#x27;\\ud83d&#x27;" in status_line("There is no class '\ud83d'", error=True)


def test_without_generators_there_is_nothing_to_sample():
    demo = build_demo(build(), "tiny")
    names = {each["api_name"] for each in demo.config["dependencies"] if each.get("api_visibility") == "public"}
    assert names == {"reconstruct", "routing", "intervene", "batch"}
