"""The text mode of the tab Generate in a real browser, on tiny real generators of both kinds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from browser import NEEDS_CHROMIUM, Watched, contrast, shown_pixels
from conftest import served
from playwright.sync_api import expect

from drorae.explorer.sampling import Request, sample_with_progress
from drorae.images import png_settings
from drorae.ui.page import build_demo

pytestmark = NEEDS_CHROMIUM


@pytest.fixture(scope="module")
def url(pipeline, text_pipeline, tmp_path_factory) -> Iterator[str]:
    folders = [tmp_path_factory.mktemp(name) for name in ("classes", "texts")]
    for made, folder in zip((pipeline, text_pipeline), folders, strict=True):
        made.save_pretrained(folder)
    with served(build_demo(pipeline.autoencoder, "tiny", *map(str, folders))) as address:
        yield address


@pytest.fixture(scope="module")
def one_page(browser, url) -> Iterator[Watched]:
    """For all tests: a page takes longer to open than a test takes."""
    watched = Watched(browser, url)
    yield watched
    watched.page.close()


@pytest.fixture
def view(one_page) -> Iterator[Watched]:
    opened(one_page)
    yield one_page
    one_page.check()


def opened(watched: Watched) -> None:
    watched.open("Generate")
    watched.page.wait_for_selector("#samples .sample")
    watched.page.get_by_label("a text", exact=True).check()
    expect(watched.page.locator("#prompt textarea")).to_be_visible()
    steps = watched.page.locator("#steps input[type=number]")
    steps.fill("3")
    steps.press("Tab")
    for name in ("negative", "other"):
        watched.page.locator(f"#{name} textarea").fill("")


def run(view: Watched, prompt: str) -> None:
    view.page.locator("#prompt textarea").fill(prompt)
    view.page.locator("#generate-run").click()
    expect(view.page.locator("#samples [data-part=headline] strong")).to_have_text(prompt)
    view.page.wait_for_selector("#samples .sample:enabled")


def sample(row: int, number: int) -> str:
    return f"#samples .sample[data-row='{row}'][data-sample='{number}'] img"


def assert_rows(view: Watched, text_pipeline, **request) -> None:
    *_, result = sample_with_progress(text_pipeline, Request(**{"seed": 0, "count": 4, "steps": 3, **request}), "tiny")
    assert view.page.locator("#samples section.row").count() == len(result.rows)
    for number, row in enumerate(result.rows):
        difference = shown_pixels(view.page, sample(number, 1)).astype(int) - row.pictures["finetuned"][1]
        assert np.abs(difference).max() <= 1


def test_a_kind_of_generator_is_chosen(view):
    page = view.page
    expect(page.locator("#class")).to_be_hidden()
    expect(page.locator("#negative")).to_be_visible()
    expect(page.get_by_label("AutoGuidance")).to_have_count(0)  # this one has no guide
    page.get_by_label("a class", exact=True).check()
    expect(page.locator("#class")).to_be_visible()
    expect(page.locator("#prompt")).to_be_hidden()
    expect(page.get_by_label("AutoGuidance")).to_be_visible()
    page.locator("#generate-run").click()
    expect(page.locator("#samples [data-part=headline] strong")).to_have_text("tench")


def test_pictures_of_a_text(view, text_pipeline):
    run(view, "a red ball")
    assert_rows(view, text_pipeline, subject="a red ball", guidance="cfg", scale=3.0)
    settings = dict(zip(*(view.page.locator(f"#samples {t}").all_inner_texts() for t in ("dt", "dd")), strict=True))
    assert settings["prompt"] == "a red ball"
    with view.page.expect_download() as download:
        view.page.locator("#samples [data-part=save]").click()
    assert download.value.suggested_filename == "a-red-ball-seed0-guided.png"
    assert png_settings(download.value.path())["prompt"] == "a red ball"


def test_two_texts_on_the_same_seeds_away_from_a_third(view, text_pipeline):
    page = view.page
    page.locator("#negative textarea").fill("grass")
    page.locator("#other textarea").fill("a church at night")
    run(view, "two dogs")  # of which nothing is shown yet
    assert_rows(
        view,
        text_pipeline,
        subject="two dogs",
        guidance="cfg",
        scale=3.0,
        negative="grass",
        other="a church at night",
    )
    titles = page.locator("#samples section.row h3").all_inner_texts()
    assert titles == [
        'Classifier-free guidance, scale 3, away from "grass"',
        "Unguided",
        '"a church at night": classifier-free guidance, scale 3, away from "grass"',
    ]


def test_an_example_fills_the_text(view):
    view.page.locator("#prompts").get_by_text("a photo of a church").click()
    expect(view.page.locator("#prompt textarea")).to_have_value("a photo of a church")


def test_markup_in_a_text_is_text(view):
    page = view.page
    markup = '<img src=x onerror="window.broken=1"><b>bold</b> **stars**'
    page.locator("#other textarea").fill(markup)
    run(view, markup)
    assert page.locator("img[src='x']").count() == 0
    # another such picture: what the first would have done it has done before
    page.evaluate("new Promise((done) => { const one = new Image(); one.onerror = done; one.src = 'x'; })")
    assert page.evaluate("window.broken") is None
    assert page.locator("#samples b", has_text="bold").count() == 0
    assert markup in page.locator("#samples section.row h3").last.inner_text()
    view.complaints.clear()  # of the other picture


def test_a_text_beyond_all_reason_gets_one_sentence(view):
    page = view.page
    before = page.locator(sample(0, 0)).get_attribute("src")
    page.locator("#prompt textarea").fill("x" * 10_001)
    page.locator("#generate-run").click()
    expect(page.locator("#generate-status .error")).to_contain_text("A prompt of 10001 characters is too long")
    assert page.locator(sample(0, 0)).get_attribute("src") == before


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_shows_it_without_sideways_scrolling_and_readable(browser, url, theme):
    view = Watched(browser, url, width=390, query=f"?__theme={theme}")
    opened(view)
    run(view, "a red ball " * 8)
    for part in ("#samples .headline", "#samples h3", "#samples dt"):
        assert contrast(view.page, part) > 4.5
    assert view.page.evaluate("document.documentElement.scrollWidth") <= 390
    view.check()
    view.page.close()
