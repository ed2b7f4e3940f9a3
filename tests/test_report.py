"""The report: one file that asks for nothing, opened in a real browser, and how it is made again."""

from __future__ import annotations

import json
import re
import shlex

import numpy as np
import pytest
from browser import NEEDS_CHROMIUM, shown_pixels
from conftest import ROOT, build
from playwright.sync_api import expect

from drorae import __version__
from drorae.cli import main
from drorae.explorer.explore import explore
from drorae.viewers.report import _json, model_hash, report

CAT = str(ROOT / "assets" / "examples" / "cat.jpg")


def test_names_are_data_and_facts_are_there(model, cat):
    name = "</script><img src=x onerror=alert(1)>.png"
    text = report(explore(cat, model), model, "a <model>", name)
    assert "<img src=x" not in text
    assert "a &lt;model&gt;" in text
    assert model_hash(model) in text
    assert f"drorae {__version__}" in text
    assert "of the files" not in text  # none are known of this one


def test_the_shipped_model_is_named_as_its_card_names_it(model, cat):
    text = report(explore(cat, model), model, "assets/drorae-tiny", "cat.jpg")
    files = re.search(r"of the files ([0-9a-f]{16})", text)[1]
    assert files == json.loads((ROOT / "assets" / "drorae-tiny" / "measured.json").read_text())["sha256"]


def test_a_name_is_no_option_of_the_command(model, cat):
    assert "report ./-dash.png --model" in report(explore(cat, model), model, "m", "-dash.png")


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
def test_the_file_works_alone(browser, embedded, explored, tmp_path, scheme):
    out = tmp_path / "cat report.html"
    out.write_text(report(explored, embedded, "assets/drorae-tiny", "cat.jpg"), encoding="utf-8")
    page = browser.new_page()
    page.emulate_media(color_scheme=scheme)
    asked, complaints = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(out.as_uri())
    page.wait_for_selector("#routing .strip button")
    assert np.array_equal(shown_pixels(page, "#compare figure[data-route=drorae] img"), explored.pictures["drorae"])
    # still movable: a layer left out, which is in the file, and a wish that is not
    page.locator("#intervene .switches button[data-layer='1']").click()
    shown = shown_pixels(page, "#intervene [data-part=picture]")
    assert np.array_equal(shown, explored.interventions.removed[0].picture)
    page.locator("#intervene .switches button[data-layer='2']").click()
    expect(page.locator("#intervene [data-part=metrics]")).to_contain_text("open the explorer")
    page.locator("#routing .strip button").nth(1).click()
    expect(page.locator("#routing [data-part=where]")).to_contain_text("the photo shows layer 2")
    assert page.locator("#frequency tbody tr").count() == 12
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
    assert not complaints
    page.close()


def test_the_command_in_the_file_makes_the_same_file(tmp_path, capsys, monkeypatch):
    out = tmp_path / "first.html"
    assert main(["report", CAT, "--out", str(out)]) == 0
    text = out.read_text()
    command = re.search(r"python -m drorae report [^<]*", text)[0]
    arguments = shlex.split(command.replace("&#x27;", "'"))[3:]
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 0
    assert (tmp_path / "report.html").read_text() == text


def test_a_model_without_fusion_has_a_report_too(cat):
    model = build(fusion=None)
    text = report(explore(cat, model), model, "rae", "cat.jpg")
    assert 'id="compare"' in text
    assert 'id="intervene"' not in text


def test_bad_pictures_are_one_sentence(tmp_path, capsys):
    (tmp_path / "x.png").write_text("no picture")
    assert main(["report", str(tmp_path / "x.png"), "--out", str(tmp_path / "x.html")]) == 2
    assert "is not a picture that can be read" in capsys.readouterr().err
