"""Study, About, and another model, in a real browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from browser import NEEDS_CHROMIUM, Watched, canvas_pixels, contrast
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
from drorae.pretrained.download import running
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
    with Watched(browser, url, query="?example=cat") as watched:
        watched.know("routes")
        yield watched


@pytest.fixture
def home(one_page) -> Iterator[Watched]:
    yield one_page
    one_page.check()


@pytest.fixture
def view(browser, url) -> Iterator[Watched]:
    watched = Watched(browser, url, query="?example=cat")
    watched.know("routes")
    yield watched
    watched.check()
    watched.page.close()


@pytest.mark.parametrize(("width", "theme"), [(390, "light"), (1440, "dark")])
def test_all_charts_are_drawn_when_it_is_opened_and_fit(browser, url, width, theme):
    view = Watched(browser, url, width=width, query=f"?__theme={theme}")
    assert view.page.locator(".js-plotly-plot").count() == 0
    view.open("study")
    for name in CHARTS:
        chart = view.page.locator(f"#study-{name} .main-svg").first
        chart.scroll_into_view_if_needed()
        expect(chart).to_be_visible()
    assert view.page.evaluate("document.documentElement.scrollWidth") <= width
    assert contrast(view.page, "#study-introduction p") >= 4.5
    assert view.page.locator(".modebar").first.is_hidden()
    marks = view.page.locator("#study-phases .scatterlayer .point").first
    blue = {"light": "rgb(31, 95, 191)", "dark": "rgb(116, 174, 255)"}[theme]  # --sup of page/theme.css
    assert marks.evaluate("(node) => getComputedStyle(node).fill") == blue
    view.check()
    view.page.close()


def test_another_plane_and_the_numbers_behind_it(home):
    home.open("study")
    peers = home.page.locator("#study-peers")
    expect(peers.get_by_text("DINO-SAE", exact=True)).to_be_visible()
    home.page.get_by_label("PSNR and gFID with guidance").check()
    expect(peers.get_by_text("PSNR, dB, higher is better")).to_be_visible()
    expect(peers.get_by_text("HiRAE-24", exact=True)).to_be_visible()
    expect(peers.get_by_text("FAE", exact=True)).to_have_count(0)  # it published no PSNR
    home.page.get_by_role("button", name="Numbers and sources").nth(2).click()
    expect(home.page.get_by_role("row", name="h = 3072 56.7 0.471 -0.011 -0.049")).to_be_visible()


@pytest.mark.parametrize(("width", "theme"), [(390, "dark"), (1440, "light")])
def test_the_papers_rows_fold_out_and_fit(browser, url, width, theme):
    view = Watched(browser, url, width=width, query=f"?__theme={theme}")
    view.open("study")
    rows = view.page.locator("#study-rows")
    expect(rows.get_by_role("table")).to_have_count(0)
    rows.get_by_role("button", name="Table 9: The deepest layers (12 rows)").click()
    row = rows.get_by_role("row", name="3 of 12 layers rFID 0.568, 14.2M not run")
    expect(row).to_contain_text("python -m train.stage1 --preset dinov2-b-deepest-3 --phase fusion")
    expect(row).to_be_visible()
    assert view.page.evaluate("document.documentElement.scrollWidth") <= width
    assert contrast(view.page, "#study-rows td") >= 4.5
    view.check()
    view.page.close()


def test_about_has_card_limits_and_citation(home):
    home.open("about")
    expect(home.page.locator("#facts")).to_contain_text("32 × 32 pixels, 3 layers, 16 places")
    expect(home.page.locator("#card")).to_contain_text("There is no model card")  # of a random model
    expect(home.page.locator("#citation")).to_contain_text("2605.10780")
    expect(home.page.get_by_role("heading", name="Limits")).to_be_visible()
    expect(home.page.get_by_role("heading", name="Another model")).to_be_visible()


def load(view: Watched, name: str) -> None:
    view.open("about")
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


def shown_model(view: Watched, name: str) -> dict:
    """The routes of the photo, once they are of that model."""
    view.page.wait_for_function(f"store.data('routes')?.model.name === {name!r} && !store.waits('routes')")
    return view.page.evaluate("store.data('routes')")


def test_another_model_and_back(home, other):
    page = home.page
    load(home, str(other))
    expect(page.locator("#model-status")).to_contain_text("no fusion: its last layer only")
    expect(page.locator("#model-status")).to_contain_text("on the CPU")
    routes = shown_model(home, str(other))
    assert (routes["width"], list(routes["metrics"])) == (48, ["rae"])
    expect(page.locator("#card")).to_contain_text("A plain RAE.")
    expect(page.locator("#card")).not_to_contain_text("license")
    assert page.locator("#card script").count() == 0
    home.open("picture")
    expect(page.locator("#picture h1")).to_have_text("This model paints from its last layer alone.")
    load(home, "tiny")
    routes = shown_model(home, "tiny")
    assert (routes["width"], list(routes["metrics"])) == (32, ["rae", "phase2", "drorae"])
    expect(page.locator("#facts")).to_contain_text("32 × 32 pixels")


def test_every_view_and_the_report_follow_the_model(view, tmp_path):
    page, folder, photo = view.page, tmp_path / "four", ROOT / "assets" / "examples" / "cat.jpg"
    four = build(encoder_args={**TINY["encoder_args"], "depth": 4}, encoder_input_size=48, finetuned_decoder=True)
    four.save_pretrained(folder)
    load(view, str(folder))
    assert shown_model(view, str(folder))["layers"] == 4

    view.open("layers")
    for layer in (2, 3):  # the pictures without one layer are there, this one has to be asked for
        page.locator(f"#layers .chan[data-layer='{layer - 1}'] .toggle").click()
    expected = intervene(load_image(photo), four, Intervention(layers=(1, 4)))
    page.wait_for_function("!document.querySelector('#layers .shot.waits')")
    expect(page.locator("#layers .changed .score b")).to_have_text(
        f"{expected.metrics['psnr']:.1f}".replace("-", "\N{MINUS SIGN}")
    )
    painted = canvas_pixels(page, "#layers .changed canvas.px >> nth=0")
    assert np.abs(painted.astype(int) - expected.picture).max() <= 1

    view.open("photos")
    page.locator("#photos [data-part=files]").set_input_files(photo)
    (row,) = explore_batch([photo], four)
    expect(page.locator("#photos tbody td[data-key=drorae]")).to_have_text(
        f"{row.metrics['drorae']['psnr']:.1f}".replace("-", "\N{MINUS SIGN}")
    )

    page.get_by_role("button", name="Share").click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name="Save report").click()
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
    shown_model(view, str(folder))
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
    page.evaluate("store.show('coffee')")
    home.know("routes", "coffee")
    assert shown_model(home, "tiny")["layers"] == 3


def test_a_fixed_page_offers_no_other_model(browser, tiny_url):
    view = Watched(browser, tiny_url)
    view.open("about")
    expect(view.page.locator("#facts")).to_be_visible()
    assert view.page.get_by_role("heading", name="Another model").count() == 0
    assert view.page.get_by_role("button", name="Load", exact=True).count() == 0
    view.check()
    view.page.close()


def test_a_download_shows_its_progress_and_can_be_cancelled(home, other, tmp_path, monkeypatch):
    status, pieces = home.page.locator("#model-status"), Gate()
    with serve("somebody/plain-rae", other, pieces) as hub:
        reach(hub, tmp_path, monkeypatch)
        load(home, "somebody/plain-rae")
        expect(status).to_contain_text("Fetching somebody/plain-rae:")
        expect(status).to_contain_text(" kB of ")
        pieces.wait_for(1)  # the weights are on their way
        cancel = home.hold_cancel()
        home.page.locator("#model-cancel").click()
        expect(status).to_contain_text("Cancelled; this page shows tiny.")
        expect(status).to_contain_text("Fetching somebody/plain-rae:")  # the download does not know of it yet
        (pid,) = running
        os.kill(pid, 0)  # it is there
        cancel.release()
        expect(status).to_contain_text("Cancelled; this page shows tiny.")
        expect(home.page.locator("#model-load")).to_be_enabled()
        assert not running
        shown_model(home, "tiny")
        pieces.open()
