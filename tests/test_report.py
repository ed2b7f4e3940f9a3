"""The report: one file that asks for nothing, opened in a real browser, and how it is made again."""

from __future__ import annotations

import json
import re
import shlex

import numpy as np
import pytest
from browser import NEEDS_CHROMIUM, canvas_pixels
from conftest import ROOT, build
from PIL import Image
from playwright.sync_api import expect

from drorae import __version__
from drorae.cli import main
from drorae.explorer.reading import Reading
from drorae.images import Photo, open_photo
from drorae.viewers.report import _json, model_hash, report

CAT = str(ROOT / "assets" / "examples" / "cat.jpg")


def read(picture: Image.Image, model) -> Reading:
    return Reading(Photo.of(picture), model)


def test_names_are_data_and_facts_are_there(model, cat):
    name = "</script><img src=x onerror=alert(1)>.png"
    text = report(read(cat, model), "a <model>", name)
    assert "<img src=x" not in text
    assert "a &lt;model&gt;" in text
    assert model_hash(model) in text
    assert f"drorae {__version__}" in text
    assert "of the files" not in text  # none are known of this one


def test_the_shipped_model_is_named_as_its_card_names_it(model, cat):
    text = report(read(cat, model), "assets/drorae-tiny", "cat.jpg")
    files = re.search(r"of the files ([0-9a-f]{16})", text)[1]
    assert files == json.loads((ROOT / "assets" / "drorae-tiny" / "measured.json").read_text())["sha256"]


def test_a_name_is_no_option_of_the_command(model, cat):
    assert "report ./-dash.png --model" in report(read(cat, model), "m", "-dash.png")


def test_no_value_can_end_the_element_it_stands_in():
    value = {"name": "</script><b>", "share": None}
    assert "<" not in _json(value)
    assert json.loads(_json(value)) == value


def test_the_hash_is_of_the_weights():
    one, same, other = build(), build(), build()
    other.decoder.decoder_pred.bias.data[0] += 1e-3
    assert model_hash(one) == model_hash(same) != model_hash(other)


@NEEDS_CHROMIUM[0]
@NEEDS_CHROMIUM[1]
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_file_works_alone_and_opens_as_the_page_stood(browser, embedded, cat, tmp_path, scheme):
    reading = read(cat, embedded)
    *_, made = reading.interventions()
    out = tmp_path / "cat report.html"
    state = {"off": [1], "token": 7, "pinned": True, "view": "layers"}
    out.write_text(report(reading, "assets/drorae-tiny", "cat.jpg", state), encoding="utf-8")
    assert out.stat().st_size < 5_000_000
    page = browser.new_page()
    page.emulate_media(color_scheme=scheme)
    asked, complaints = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(out.as_uri())
    page.wait_for_selector("html[data-painted]", state="attached")
    third = "#picture [data-part=stage] .third canvas.px >> nth=0"
    assert np.array_equal(canvas_pixels(page, third), reading.routes.pictures["drorae"])
    assert page.evaluate("[store.state.token, store.state.pinned]") == [7, True]
    # what was chosen is shown, and still movable: layers left out that are in the file, and a wish that is not
    changed = "() => parts.pixels(store.changedPicture()).filter((_, i) => i % 4 < 3)"
    for off, frame in ([1], made.removed[1]), ([0], made.removed[0]):
        page.evaluate(f"store.set({{ off: {off} }})")
        page.wait_for_function("store.changedPicture?.()")
        values = page.evaluate(f"Array.from(({changed})())")
        assert np.array_equal(np.array(values, np.uint8), frame.picture.ravel())
    page.evaluate("store.set({ off: [0, 1] })")
    expect(page.locator("#layers")).to_contain_text("open the explorer")
    expect(page.get_by_role("button", name="Try again")).to_be_hidden()  # it would be of no use
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
    assert not complaints
    page.close()


@pytest.mark.parametrize(
    ("part", "options"),
    [
        ({}, ""),
        ({"size": 64}, "--size 64"),
        ({"whole": True}, "--whole"),
        ({"size": 64, "whole": True}, "--size 64 --whole"),
        ({"size": 64, "centre": (0.2, 0.5)}, "--size 64 --centre 0.2 0.5"),
    ],
)
def test_the_command_in_the_file_makes_the_same_file(tmp_path, monkeypatch, part, options):
    model = build(any_size=True)
    model.save_pretrained(tmp_path / "model")
    noise = np.random.default_rng(0).integers(0, 256, (20, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((320, 200)).save(tmp_path / "wide.png")
    monkeypatch.chdir(tmp_path)
    text = report(Reading(open_photo("wide.png"), model, **part), "model", "wide.png")
    command = re.search(r"python -m drorae report [^<]*", text)[0]
    assert " ".join(["wide.png --model model", *options.split(), "--out report.html"]) in command
    assert main(shlex.split(command.replace("&#x27;", "'"))[3:]) == 0
    again = (tmp_path / "report.html").read_text(encoding="utf-8")
    seconds = re.compile(r'"seconds": [\d.e-]+')
    assert seconds.sub("", again) == seconds.sub("", text)


def test_a_model_without_fusion_has_a_report_too(cat):
    text = report(read(cat, build(fusion=None)), "rae", "cat.jpg")
    assert 'id="picture"' in text
    assert 'id="layers"' not in text


def test_bad_pictures_are_one_sentence(tmp_path, capsys):
    (tmp_path / "x.png").write_text("no picture")
    assert main(["report", str(tmp_path / "x.png"), "--out", str(tmp_path / "x.html")]) == 2
    assert "is not a picture that can be read" in capsys.readouterr().err
