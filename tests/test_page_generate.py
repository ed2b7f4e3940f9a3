"""The tab Generate in a real browser, on a tiny real generator."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator

import numpy as np
import pytest
from browser import NEEDS_CHROMIUM, Watched, contrast, shown_pixels
from conftest import build, served
from gate import PATIENCE, Gate
from gradio_client import Client
from playwright.sync_api import expect

from drorae import DiTDH
from drorae.explorer.sampling import Request, sample_with_progress
from drorae.images import png_settings
from drorae.ui.page import build_demo

pytestmark = NEEDS_CHROMIUM


@pytest.fixture(scope="module")
def generator(pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("generator")
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def url(pipeline, generator) -> Iterator[str]:
    with served(build_demo(pipeline.autoencoder, "tiny", str(generator))) as address:
        yield address


@pytest.fixture
def view(browser, url) -> Iterator[Watched]:
    watched = Watched(browser, url)
    opened(watched)
    yield watched
    watched.check()
    watched.page.close()


@pytest.fixture(scope="module")
def first_page(browser, url) -> Iterator[Watched]:
    """A page that samples nothing: it takes longer to open than a test takes."""
    watched = Watched(browser, url)
    opened(watched)
    yield watched
    watched.page.close()


@pytest.fixture
def shown(first_page) -> Iterator[Watched]:
    """What is there before anything is asked for."""
    first_page.open("Generate")
    yield first_page
    first_page.check()


def opened(watched: Watched) -> None:
    watched.open("Generate")
    watched.page.wait_for_selector("#samples .sample")


def setting(view: Watched, name: str, value: float) -> None:
    """Type a number next to a slider or into a field."""
    field = view.page.locator(f"#{name} input[type=number]")
    field.fill(str(value))
    field.press("Tab")


def finished(view: Watched) -> None:
    expect(view.page.locator("#generate-run")).to_be_enabled()
    view.page.wait_for_selector("#samples .sample:enabled")


def sample(view: Watched, row: int, number: int) -> str:
    return f"#samples .sample[data-row='{row}'][data-sample='{number}'] img"


def expected(pipeline, **changes):
    defaults = {"subject": "tench", "seed": 0, "count": 4, "steps": 25, "guidance": "autoguidance", "scale": 1.5}
    *_, result = sample_with_progress(pipeline, Request(**{**defaults, **changes}), "tiny")
    return result


def test_finished_samples_are_there_at_first_paint(shown, pipeline):
    assert not any("queue/join" in request for request in shown.requests)
    result = expected(pipeline)
    for row in range(2):
        for number in (0, 3):
            pixels = shown_pixels(shown.page, sample(shown, row, number))
            difference = np.abs(pixels.astype(int) - result.rows[row].pictures["finetuned"][number])
            assert difference.max() <= 1  # the page's generator was saved and loaded
    assert shown.page.locator("#samples h3").all_inner_texts()[:2] == ["AutoGuidance, scale 1.5", "Unguided"]
    expect(shown.page.locator("#samples [data-part=headline]")).to_contain_text("tench: 4 pictures per row")


def test_generates_what_was_asked_for(view, pipeline):
    page = view.page
    page.locator("#class input").fill("golf")
    page.get_by_role("option", name="golf ball").click()
    page.get_by_label("classifier-free").check()
    setting(view, "seed", 7)
    setting(view, "count", 2)
    setting(view, "steps", 6)
    setting(view, "scale", 3)
    page.locator("#generate-run").click()
    expect(page.locator("#samples [data-part=headline]")).to_contain_text("golf ball: 2 pictures per row")
    finished(view)
    result = expected(pipeline, subject="golf ball", seed=7, count=2, steps=6, guidance="cfg", scale=3.0)
    assert page.locator("#samples .sample").count() == 4
    pixels = shown_pixels(page, sample(view, 0, 1))
    assert np.abs(pixels.astype(int) - result.rows[0].pictures["finetuned"][1]).max() <= 1
    assert page.locator("#samples .sample span").all_inner_texts() == ["seed 7", "seed 8"] * 2


def test_a_chosen_sample_shows_its_film_both_decoders_and_settings(shown, pipeline):
    page = shown.page
    page.locator("#samples .sample[data-row='1'][data-sample='2']").click()
    assert page.locator("#samples [data-part=film] figure").count() == 8
    assert page.locator("#samples [data-part=film] figcaption").last.inner_text() == "t = 0.00"
    for decoder in ("original", "finetuned"):
        selector = f"#samples figure[data-decoder={decoder}] img"
        made = expected(pipeline).rows[1].pictures[decoder][2]
        assert np.abs(shown_pixels(page, selector).astype(int) - made).max() <= 1
    settings = dict(zip(*(page.locator(f"#samples {tag}").all_inner_texts() for tag in ("dt", "dd")), strict=True))
    assert settings["class"] == "tench"
    assert settings["seed"] == "2"
    assert settings["guidance"] == "none"
    assert len([r for r in shown.requests if "queue/join" in r]) == 0
    with page.expect_download() as download:
        page.locator("#samples [data-part=save]").click()
    assert download.value.suggested_filename == "tench-seed2-unguided.png"
    stored = png_settings(download.value.path())
    assert {key: str(value) for key, value in stored.items()} == settings


def test_a_sample_becomes_the_input(shown):
    page = shown.page
    page.locator("#samples .sample[data-row='0'][data-sample='1']").click()
    pixels = shown_pixels(page, sample(shown, 0, 1))
    before = page.locator("#compare figure[data-route=original] img").get_attribute("src")
    page.get_by_role("button", name="Use as input").click()
    expect(page.get_by_role("tab", name="Compare")).to_have_attribute("aria-selected", "true")
    page.wait_for_function(
        "before => document.querySelector('#compare figure[data-route=original] img').src !== before", arg=before
    )
    assert np.array_equal(shown_pixels(page, "#compare figure[data-route=original] img"), pixels)


CALLS_A_STEP = 3  # of a denoiser: guided by another one, and unguided


@pytest.fixture
def denoisers(monkeypatch) -> Iterator[Gate]:
    """Every call of a denoiser waits here."""
    gate, forward = Gate(), DiTDH.forward

    def held(self, *args, **kwargs):
        gate.enter()
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(DiTDH, "forward", held)
    yield gate
    gate.open()


def test_previews_while_it_runs_and_stop_frees_the_worker(view, denoisers, cancelling):
    page, headline = view.page, view.page.locator("#samples [data-part=headline]")
    status = page.locator("#generate-status")
    setting(view, "steps", 5)
    page.locator("#generate-run").click()
    denoisers.let(2 * CALLS_A_STEP)
    expect(headline).to_contain_text("step 2 of 5")
    expect(page.locator("#samples .sample:disabled")).to_have_count(8)
    expect(page.locator("#samples [role=progressbar]")).to_be_visible()
    cancel = view.hold_cancel()
    page.locator("#generate-stop").click()
    expect(headline).to_contain_text("stopped after step 2")
    expect(status).to_contain_text("Stopped.")
    denoisers.let(CALLS_A_STEP)  # the run does not know of it yet, and writes over that
    expect(headline).to_contain_text("step 3 of 5")
    denoisers.wait_for(3 * CALLS_A_STEP + 1)
    cancel.release()
    assert cancelling.wait(PATIENCE)
    denoisers.let(CALLS_A_STEP)  # the step that is being computed comes to its end
    expect(headline).to_contain_text("stopped after step 3")
    expect(status).to_contain_text("Stopped.")
    expect(page.locator("#generate-run")).to_be_enabled()
    expect(page.locator("#generate-stop")).to_be_disabled()
    denoisers.open()
    setting(view, "steps", 2)
    page.locator("#generate-run").click()
    expect(headline).to_contain_text("4 pictures per row")
    finished(view)
    # four steps of the first run and two of this one: the worker did not end the first one before
    assert denoisers.arrived == 6 * CALLS_A_STEP


def test_stop_that_comes_too_late_leaves_the_finished_pictures(view, denoisers):
    page, headline = view.page, view.page.locator("#samples [data-part=headline]")
    setting(view, "steps", 3)
    page.locator("#generate-run").click()
    denoisers.let(CALLS_A_STEP)
    expect(headline).to_contain_text("step 1 of 3")
    cancel = view.hold_cancel()
    page.locator("#generate-stop").click()
    expect(headline).to_contain_text("stopped after step 1")
    denoisers.open()
    expect(headline).to_contain_text("4 pictures per row")
    expect(page.locator("#generate-status")).not_to_contain_text("Stopped.")
    cancel.release()
    expect(page.locator("#generate-status")).to_contain_text("Stopped.")
    expect(headline).to_contain_text("4 pictures per row")
    assert page.locator("#samples .sample:disabled").count() == 0
    expect(page.locator("#generate-run")).to_be_enabled()


def test_other_seeds(view):
    page = view.page
    setting(view, "steps", 2)
    page.get_by_role("button", name="Other seeds").click()
    page.wait_for_function("document.querySelector('#seed input').value !== '0'")
    seed = page.locator("#seed input").input_value()
    expect(page.locator("#samples .sample span").first).to_have_text(f"seed {seed}")
    finished(view)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("steps", 0, "not 0"),
        ("scale", -1, "not -1"),
        ("count", 10_000, "10000 pictures at once"),
        ("seed", -1, "not -1"),
    ],
)
def test_bad_numbers_get_one_sentence_and_lose_nothing(url, generator, field, value, message):
    """Sent to the API, where no slider clamps them."""
    request = {
        "title": str(generator),
        "label": 0,
        "prompt": "",
        "negative": "",
        "other": "",
        "seed": 0,
        "count": 4,
        "steps": 2,
        "guidance": "cfg",
        "scale": 2,
    }
    request |= {"compare": True, field: value}
    client = Client(url, verbose=False)
    status, *_ = client.predict(*request.values(), api_name="/generate")
    assert message in status
    assert "alert" in status


def test_an_unknown_class_gets_one_sentence_and_loses_nothing(shown):
    page = shown.page
    before = page.locator(sample(shown, 0, 0)).get_attribute("src")
    page.locator("#class input").fill("golden gate")
    page.locator("#class input").press("Enter")
    page.locator("#generate-run").click()
    expect(page.locator("#generate-status .error")).to_contain_text("There is no class 'golden gate'; use for example")
    assert page.locator(sample(shown, 0, 0)).get_attribute("src") == before
    finished(shown)


def test_the_api_gives_pictures_with_their_settings(url, generator):
    client = Client(url, verbose=False)
    _, value, *_ = client.predict(str(generator), "church", "", "", "", 3, 1, 2, "none", 1, False, api_name="/generate")
    value = value.get("value", value)
    picture = value["rows"][0]["pictures"]["finetuned"][0]
    settings = png_settings(io.BytesIO(base64.b64decode(picture.partition(",")[2])))
    assert settings["class"] == "church"
    assert settings["seed"] == 3


def test_without_a_generator_the_tab_says_how_to_get_one(browser):
    with served(build_demo(build(), "no generator")) as address:
        view = Watched(browser, address)
        view.open("Generate")
        expect(view.page.locator("#no-generator")).to_contain_text("python -m train.stage2")
        expect(view.page.locator("#no-generator")).to_contain_text("CUDA GPU")
        view.check()
        view.page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_shows_it_without_sideways_scrolling_and_readable(browser, url, theme):
    view = Watched(browser, url, width=390, query=f"?__theme={theme}")
    opened(view)
    for part in ("#samples .headline", "#samples h3", "#samples .sample span", "#samples dt", "#samples .hint"):
        assert contrast(view.page, part) > 4.5
    assert view.page.evaluate("document.documentElement.scrollWidth") <= 390
    view.check()
    view.page.close()
