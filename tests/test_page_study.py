"""The tabs Study and About, and another model, in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from browser import NEEDS_CHROMIUM, Watched, contrast, shown_pixels
from conftest import ROOT, TINY, build, served
from fake_hub import reach, serve
from gate import Gate
from playwright.sync_api import expect

import drorae.ui.models
from drorae.explorer.batch import explore_batch
from drorae.explorer.explore import intervene
from drorae.explorer.interventions import Intervention
from drorae.images import load_image
from drorae.pretrained.adapter import load_tokenizer
from drorae.ui.page import build_demo
from drorae.viewers.report import model_hash

pytestmark = NEEDS_CHROMIUM

CHARTS = ("phases", "peers", "scaling", "designs", "strategies", "geneval")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(build_demo(build(finetuned_decoder=True), "tiny", switch=True)) as address:
        yield address


@pytest.fixture(scope="module")
def one_page(browser, url) -> Iterator[Watched]:
    """A page that shows the first model before and after: it takes longer to open than a test takes."""
    watched = Watched(browser, url)
    yield watched
    watched.page.close()


@pytest.fixture
def home(one_page) -> Iterator[Watched]:
    yield one_page
    one_page.check()


@pytest.fixture
def view(browser, url) -> Iterator[Watched]:
    watched = Watched(browser, url)
    yield watched
    watched.check()
    watched.page.close()


def test_all_charts_are_drawn_and_fit_a_phone(browser, url):
    view = Watched(browser, url, width=390)
    view.open("Study")
    for name in CHARTS:
        chart = view.page.locator(f"#study-{name} .main-svg").first
        chart.scroll_into_view_if_needed()
        expect(chart).to_be_visible()
    assert view.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert contrast(view.page, "#study-introduction p") >= 4.5
    view.check()
    view.page.close()


def test_the_text_is_readable_in_the_dark(browser, url):
    view = Watched(browser, url, query="?__theme=dark")
    view.open("Study")
    assert contrast(view.page, "#study-introduction p") >= 4.5
    view.check()
    view.page.close()


def test_another_plane_and_the_numbers_behind_it(home):
    home.open("Study")
    peers = home.page.locator("#study-peers")
    expect(peers.get_by_text("DINO-SAE", exact=True)).to_be_visible()
    home.page.get_by_label("PSNR and gFID with guidance").check()
    expect(peers.get_by_text("PSNR, dB, higher is better")).to_be_visible()
    expect(peers.get_by_text("HiRAE-24", exact=True)).to_be_visible()
    expect(peers.get_by_text("FAE", exact=True)).to_have_count(0)  # it published no PSNR
    home.page.get_by_role("button", name="Numbers and sources").nth(2).click()
    expect(home.page.get_by_role("row", name="h = 3072 56.7 0.471 -0.011 -0.049")).to_be_visible()


def test_about_has_card_limits_and_citation(home):
    home.open("About")
    expect(home.page.locator("#facts")).to_contain_text("32 × 32 pixels, 3 layers, 16 tokens")
    expect(home.page.locator("#card")).to_contain_text("There is no model card")  # of a random model
    expect(home.page.locator("#citation")).to_contain_text("2605.10780")
    expect(home.page.get_by_role("heading", name="Limits")).to_be_visible()


def load(view: Watched, name: str) -> None:
    if not view.page.locator("#model-load").is_visible():
        view.page.get_by_role("button", name="Another model").click()
    box = view.page.locator("#model-name input")
    box.fill(name)
    box.press("Enter")
    view.page.locator("#model-load").click()


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A model without fusion, with other sizes and a card."""
    folder = tmp_path_factory.mktemp("models") / "plain-rae"
    build(fusion=None, encoder_input_size=48).save_pretrained(folder)
    (folder / "README.md").write_text(
        "---\nlicense: mit\n---\n# Plain\n<script>alert(1)</script>\n\nA **plain** RAE.\n"
    )
    return folder


def test_another_model_and_back(home, other):
    page = home.page
    load(home, str(other))
    expect(page.locator("#model-status")).to_contain_text("no fusion: its last layer only")
    expect(page.locator("#model-status")).to_contain_text("on the CPU")
    expect(page.locator("#status")).to_contain_text("48 × 48 pixels, rebuilt along one route")
    expect(page.locator("#compare figure")).to_have_count(2)
    home.open("Routing")
    expect(page.locator("#no-routing")).to_be_visible()
    expect(page.locator("#profile")).to_have_count(0)
    home.open("Intervene")
    expect(page.locator("#no-interventions")).to_be_visible()
    home.open("About")
    expect(page.locator("#card")).to_contain_text("A plain RAE.")
    expect(page.locator("#card")).not_to_contain_text("license")
    assert page.locator("#card script").count() == 0
    load(home, "tiny")
    expect(page.locator("#status")).to_contain_text("32 × 32 pixels, rebuilt along 3 routes")
    home.open("Routing")
    expect(page.locator("#no-routing")).to_have_count(0)
    expect(page.locator("#routing .strip button").first).to_be_visible()


def test_every_tab_and_the_report_follow_the_model(view, tmp_path):
    page, folder, photo = view.page, tmp_path / "four", ROOT / "assets" / "examples" / "cat.jpg"
    four = build(encoder_args={**TINY["encoder_args"], "depth": 4}, encoder_input_size=48, finetuned_decoder=True)
    four.save_pretrained(folder)
    load(view, str(folder))
    expect(page.locator("#status")).to_contain_text("48 × 48 pixels, rebuilt along 3 routes")

    view.open("Intervene")
    for layer in (2, 3):  # the pictures without one layer are there, this one has to be asked for
        page.locator(f"#intervene .switches button[data-layer='{layer}']").click()
    expected = intervene(load_image(photo), four, Intervention(layers=(1, 4)))
    numbers = page.locator("#intervene [data-part=metrics]")
    expect(numbers).to_contain_text(f"{expected.metrics['psnr']:.2f} dB")
    painted = shown_pixels(page, "#intervene [data-part=picture]")
    assert np.abs(painted.astype(int) - expected.picture).max() <= 1

    view.open("Batch")
    page.locator("#batch-files input[type=file]").set_input_files(photo)
    expect(page.locator("#batch-files")).to_contain_text("cat")
    page.get_by_role("button", name="Explore all").click()
    expect(page.locator("#batch tbody img")).to_have_count(1)
    (row,) = explore_batch([photo], four)
    expect(page.locator("#batch tbody td").nth(2)).to_contain_text(f"{row.metrics['drorae']['psnr']:.2f}")

    with page.expect_download() as download:
        page.get_by_role("button", name="Save report").click()
    download.value.save_as(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert f"--model {folder}" in text
    assert f"sha256 of its weights {model_hash(four)}" in text


def test_a_cancel_that_comes_too_late_says_which_model_is_shown(view, other, tmp_path, monkeypatch):
    folder, loads, status = tmp_path / "late", Gate(), view.page.locator("#model-status")
    shutil.copytree(other, folder)

    def held(name):
        loads.enter()
        return load_tokenizer(name)

    monkeypatch.setattr(drorae.ui.models, "load_tokenizer", held)
    load(view, str(folder))
    expect(status).to_contain_text(f"Loading {folder}:")
    cancel = view.hold_cancel()
    view.page.locator("#model-cancel").click()
    expect(status).to_contain_text("Cancelled; this page shows tiny.")
    loads.open()  # the cancelling is under way when the model is there
    expect(view.page.locator("#compare figure")).to_have_count(2)
    expect(status).to_contain_text("no fusion: its last layer only")
    cancel.release()
    expect(status).to_contain_text(f"Cancelled; this page shows {folder}.")
    expect(view.page.locator("#model-load")).to_be_enabled()


def test_a_failed_load_leaves_the_model(home, other, tmp_path):
    page = home.page
    broken = tmp_path / "broken"
    shutil.copytree(other, broken)
    (broken / "diffusion_pytorch_model.safetensors").write_bytes(b"no weights")
    for name, told in (
        (str(broken), "is damaged or incomplete"),
        ("nobody/nothing", "There is no folder 'nobody/nothing'"),
        (str(tmp_path), "config.json' is missing"),
    ):
        load(home, name)
        expect(page.locator("#model-status .error")).to_contain_text(told)
        expect(page.locator("#model-status")).not_to_contain_text("Traceback")
    expect(page.locator("#compare figure")).to_have_count(4)
    page.locator("#examples button").nth(1).click()
    expect(page.locator("#status")).to_contain_text("32 × 32 pixels, rebuilt along 3 routes")


def test_a_fixed_page_offers_no_other_model(browser, tiny_url):
    view = Watched(browser, tiny_url)
    assert view.page.get_by_role("button", name="Another model").count() == 0
    view.check()
    view.page.close()


def test_a_download_shows_its_progress_and_can_be_cancelled(home, other, tmp_path, monkeypatch):
    status, pieces = home.page.locator("#model-status"), Gate()
    with serve("somebody/plain-rae", other, pieces) as hub:
        downloads = reach(hub, tmp_path, monkeypatch)
        load(home, "somebody/plain-rae")
        expect(status).to_contain_text("Fetching somebody/plain-rae:")
        expect(status).to_contain_text(" kB of ")
        pieces.wait_for(1)  # the weights are on their way
        cancel = home.hold_cancel()
        home.page.locator("#model-cancel").click()
        expect(status).to_contain_text("Cancelled; this page shows tiny.")
        expect(status).to_contain_text("Fetching somebody/plain-rae:")  # the download does not know of it yet
        assert downloads[-1].returncode is None
        cancel.release()
        expect(status).to_contain_text("Cancelled; this page shows tiny.")
        expect(home.page.locator("#model-load")).to_be_enabled()
        assert downloads[-1].returncode is not None
        expect(home.page.locator("#compare figure")).to_have_count(4)
        pieces.open()
