"""What a visitor takes along: the report and the link, in a real browser."""

from __future__ import annotations

import os
from pathlib import Path

import drorae.ui.sharing
import numpy as np
import pytest
from browser import NEEDS_CHROMIUM, Watched, shown_pixels
from conftest import ROOT
from playwright.sync_api import expect

from drorae.explorer.explore import explore, intervene
from drorae.explorer.interventions import Intervention
from drorae.images import load_image

pytestmark = NEEDS_CHROMIUM
ROCKET = ROOT / "assets" / "examples" / "rocket.jpg"


def written(view: Watched) -> None:
    """Wait for the answer to the button; what went wrong would stand beside it."""
    expect(view.page.locator("#report [data-part=make]")).to_have_attribute("aria-disabled", "false")
    expect(view.page.locator("#report [data-part=note]")).to_contain_text("The report is one file")


def test_the_report_button_saves_a_file_that_names_the_picture(browser, tiny_url, tmp_path):
    view = Watched(browser, tiny_url)
    with view.page.expect_download() as download:
        view.page.get_by_role("button", name="Save report").click()
        written(view)
    assert download.value.suggested_filename == "drorae-cat.html"
    download.value.save_as(tmp_path / "x.html")
    assert "python -m drorae report assets/examples/cat.jpg --model tiny" in (tmp_path / "x.html").read_text()
    view.page.get_by_label("Remove Image").click()  # what is shown stays, and can still be kept
    expect(view.page.locator("#status")).to_contain_text("Choose another picture")
    with view.page.expect_download() as download:
        view.page.get_by_role("button", name="Save report").click()
    assert download.value.suggested_filename == "drorae-cat.html"
    view.check()
    view.page.close()


def test_a_report_that_fails_is_a_sentence_and_can_be_asked_for_again(browser, tiny_url, monkeypatch):
    def fails(*args):
        raise ValueError("of a kind nobody thought of")

    monkeypatch.setattr(drorae.ui.sharing, "report", fails)
    view = Watched(browser, tiny_url)
    view.page.get_by_role("button", name="Save report").click()
    expect(view.page.locator("#report [data-part=note]")).to_contain_text("could not be written; try again")
    monkeypatch.undo()
    with view.page.expect_download():
        view.page.get_by_role("button", name="Save report").click()
        written(view)
    view.page.close()


def test_an_upload_that_was_deleted_is_asked_for_again(browser, tiny_url, tiny, tmp_path):
    view = Watched(browser, tiny_url)
    (tmp_path / "mine.jpg").write_bytes(ROCKET.read_bytes() + b"\0")
    view.page.locator("#picture input[type=file]").set_input_files(tmp_path / "mine.jpg")
    number = explore(load_image(ROCKET), tiny).metrics["rae"]["psnr"]
    expect(view.page.locator("#compare tr[data-route=rae] td").first).to_contain_text(f"{number:.2f}")
    kept = list(Path(os.environ["GRADIO_TEMP_DIR"]).rglob("mine.jpg"))
    assert kept
    for file in kept:
        file.unlink()
    view.page.get_by_role("button", name="Save report").click()
    note = view.page.locator("#report [data-part=note]")
    expect(note).to_have_text("The picture is no longer kept here; choose it again.")
    view.check()
    view.page.close()


def test_a_link_restores_example_layers_strength_tokens_and_tab(browser, tiny_url, tiny):
    """It is written by the page, and read by a page that was opened anew."""
    view = Watched(browser, tiny_url)
    page = view.page
    page.locator("#examples button, #examples .gallery-item").nth(3).click()
    expected = explore(load_image(ROCKET), tiny)
    row = page.locator("#compare tr[data-route=rae] td").first
    expect(row).to_contain_text(f"{expected.metrics['rae']['psnr']:.2f}")
    page.get_by_role("tab", name="Routing").click()
    page.locator("#routing .strip button").nth(1).click()
    page.locator("#routing [data-part=stage]").focus()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    page.get_by_role("tab", name="Intervene").click()
    page.locator("#intervene .switches button[data-layer='3']").click()
    page.get_by_role("button", name="Copy link").click()
    address = view.state("report", "state.address")
    assert address.partition("?")[2] == "example=rocket&tab=intervene&off=3&token=0&layer=2"
    page.close()

    view = Watched(browser, address)
    page = view.page
    expect(page.get_by_role("tab", name="Intervene")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#intervene .switches button[data-layer='3']")).to_have_attribute("aria-pressed", "false")
    frame = intervene(load_image(ROCKET), tiny, Intervention(layers=(1, 2)))
    expect(page.locator("#intervene [data-part=metrics]")).to_contain_text(f"{frame.metrics['psnr']:.2f} dB")
    shown = shown_pixels(page, "#intervene [data-part=picture]").astype(int)
    assert np.abs(shown - frame.picture.astype(int)).max() <= 1
    view.routing()
    assert view.state("routing", "[state.layer, state.pins]") == [1, [0]]
    view.check()
    page.close()


def test_a_link_restores_a_strength_in_a_region(browser, tiny_url, tiny, cat):
    view = Watched(browser, tiny_url)
    page = view.page
    view.open("Intervene")
    page.get_by_role("button", name="Paint a region").click()
    page.locator("#intervene [data-part=size]").select_option("3")
    brush = page.locator("#intervene [data-part=brush]")
    brush.scroll_into_view_if_needed()
    box = brush.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.1, box["y"] + box["height"] * 0.1)  # the corner: two by two tokens
    slider = page.locator("#intervene [data-part=strength]")
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.get_by_role("button", name="Copy link").click()
    address = view.state("report", "state.address")
    assert address.partition("?")[2] == "example=cat&tab=intervene&beta=0.7&region=0-1.4-5"
    view.check()
    page.close()

    view = Watched(browser, address)
    frame = intervene(cat, tiny, Intervention(beta=0.7, tokens=(0, 1, 4, 5)))
    expect(view.page.locator("#intervene [data-part=metrics]")).to_contain_text(f"{frame.metrics['psnr']:.2f} dB")
    expect(view.page.locator("#intervene [data-part=beta]")).to_have_text("0.70")
    shown = shown_pixels(view.page, "#intervene [data-part=picture]").astype(int)
    assert np.abs(shown - frame.picture.astype(int)).max() <= 1
    view.check()
    view.page.close()


@pytest.mark.parametrize(
    "query",
    [
        "?example=cat&beta=2&off=0.99.x&region=7-3.9999&token=-1&layer=77&tab=nothing",
        "?off=1-3&beta=%3Cscript%3E",
    ],
)
def test_a_link_that_makes_no_sense_shows_the_usual_page(browser, tiny_url, query):
    view = Watched(browser, tiny_url, query=query)
    view.page.get_by_role("tab", name="Intervene").click()
    expect(view.page.locator("#intervene [data-part=metrics]")).to_contain_text("as trained")
    view.check()
    view.page.close()


def test_an_unknown_example_is_one_sentence(browser, tiny_url):
    view = Watched(browser, tiny_url, query="?example=<b>dog</b>")
    expect(view.page.locator("#status .error")).to_contain_text("The link names an example '<b>dog</b>'")
    view.check()
    view.page.close()


def test_a_link_of_an_upload_says_that_the_picture_stays_here(browser, tiny_url, tmp_path):
    view = Watched(browser, tiny_url)
    (tmp_path / "mine.jpg").write_bytes(ROCKET.read_bytes() + b"\0")  # not the example's bytes
    view.page.locator("#picture input[type=file]").set_input_files(tmp_path / "mine.jpg")
    expect(view.page.locator("#compare tr[data-route=rae] td").first).not_to_be_empty()
    view.page.wait_for_function(
        "() => { const n = [...document.querySelectorAll('#compare, #compare *')].find((e) => e.__compare);"
        " return n.__compare.value.example === null; }"
    )
    view.page.get_by_role("button", name="Copy link").click()
    expect(view.page.locator("#report [data-part=note]")).to_contain_text("not your picture")
    assert "example" not in view.state("report", "state.address")
    view.check()
    view.page.close()
