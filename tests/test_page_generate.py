"""Generate in a real browser, on tiny real generators of both kinds that share one page."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from browser import NEEDS_CHROMIUM, Watched, contrast, shown_pixels
from conftest import build, served
from gate import Gate, come_to
from playwright.sync_api import expect

from drorae import DiTDH
from drorae.explorer.chosen import CHOSEN
from drorae.explorer.sampling import Request, sample_to_end
from drorae.images import png_settings
from drorae.ui.page import build_demo
from train.choose_seeds import chosen_value

pytestmark = NEEDS_CHROMIUM

SAYS = "#generate [data-part=says]"
RUN = "#generate [data-part=run]"
ASK = "#generate [data-part=ask]"
PICTURE = "#generate .shot img"
STEPS = 3


@pytest.fixture(scope="module")
def url(pipeline, text_pipeline, tmp_path_factory) -> Iterator[str]:
    folders = [tmp_path_factory.mktemp(name) for name in ("classes", "texts")]
    for made, folder in zip((pipeline, text_pipeline), folders, strict=True):
        made.save_pretrained(folder)
    chosen = chosen_value(pipeline, {"church": [7, 2, 5]}, 16)
    (folders[0] / CHOSEN).write_text(json.dumps({**chosen, "settings": {**chosen["settings"], "steps": STEPS}}))
    with served(build_demo(pipeline.autoencoder, "tiny", *map(str, folders))) as address:
        yield address


@pytest.fixture(scope="module")
def home(browser, url) -> Iterator[Watched]:
    """For all tests: a page takes longer to open than a test takes."""
    with Watched(browser, url) as watched:
        watched.page.set_viewport_size({"width": 1280, "height": 720})
        yield watched


@pytest.fixture
def view(home) -> Iterator[Watched]:
    home.open("generate")
    home.page.locator("#generate").get_by_role("button", name="Class", exact=True).click()
    setting(home, "Steps", STEPS)
    setting(home, "First seed", 0)
    setting(home, "Pictures", 3)
    setting(home, "Scale", 1.5)
    yield home
    home.check()


def setting(view: Watched, name: str, value: float) -> None:
    """Type a number into the folded settings."""
    fold = view.page.locator("#generate [data-part=fold]")
    if fold.get_attribute("aria-expanded") == "false":
        fold.click()
    view.page.locator("#generate [data-part=settings]").get_by_label(name).fill(str(value))
    fold.click()


def make(view: Watched, subject: str) -> None:
    view.page.locator(ASK).fill(subject)
    view.page.locator(RUN).click()
    finished(view)


def finished(view: Watched) -> None:
    expect(view.page.locator(RUN)).to_have_text("Make pictures")
    expect(view.page.locator("#generate .shot:enabled").first).to_be_visible()


def seeds(view: Watched) -> list[int]:
    texts = view.page.locator("#generate .gcap b").all_inner_texts()
    return [int(text.removeprefix("seed ")) for text in texts]


def assert_shows(
    view: Watched, pipeline, subject: str, wanted: list[int], decoder: str = "finetuned", **changes
) -> None:
    request = {"steps": STEPS, "guidance": "autoguidance", "scale": 1.5, "compare": False, "seeds": tuple(wanted)}
    made = sample_to_end(pipeline, Request(subject, **{**request, **changes}), "tiny").rows[-1].pictures[decoder]
    assert seeds(view) == wanted
    for number, picture in enumerate(made):
        shown = shown_pixels(view.page, f"{PICTURE} >> nth={number}")
        assert np.abs(shown.astype(int) - picture).max() <= 1  # the page's generator was saved and loaded


def test_nothing_is_sampled_before_somebody_asks(browser, url, monkeypatch):
    monkeypatch.setattr(DiTDH, "forward", lambda *_, **__: pytest.fail("the denoiser was called"))
    view = Watched(browser, url)
    view.open("generate")
    expect(view.page.locator("#generate .message").first).to_have_text(
        "Nothing is made before you ask. Press Make pictures."
    )
    text, panel = (view.page.locator(f"#generate {part}").first.bounding_box() for part in (".message", ".shot"))
    assert text["x"] + text["width"] / 2 == pytest.approx(panel["x"] + panel["width"] / 2, abs=1)
    assert text["y"] + text["height"] / 2 == pytest.approx(panel["y"] + panel["height"] / 2, abs=1)
    view.page.locator(ASK).fill("")
    view.page.locator(RUN).click()
    expect(view.page.locator(SAYS)).to_have_text("Say what to make first.")
    view.check()
    view.page.close()


def test_three_pictures_with_their_buttons_are_in_sight(view, pipeline):
    page = view.page
    make(view, "tench")
    assert_shows(view, pipeline, "tench", [0, 1, 2])
    for part in (ASK, RUN, "#generate [data-part=summary]", "#generate .gcap .btn >> nth=5"):
        box = page.locator(part).bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 720
    expect(page.locator("#generate [data-part=summary]")).to_have_text(
        "Settings: 3 steps, AutoGuidance 1.5, seeds from 0"
    )
    assert page.locator(PICTURE).first.evaluate("node => getComputedStyle(node).imageRendering") == "auto"
    assert page.locator("#strip .tile.film").count() == STEPS  # of three steps all are kept
    assert page.locator("#strip .words").inner_text() == "tench"
    assert page.evaluate("store.link()").endswith("kind=class&label=tench&seed=0-2&steps=3")


def test_chosen_seeds_are_called_so_and_unpicked_ones_are_one_click_away(view, pipeline):
    page = view.page
    make(view, "church")
    assert_shows(view, pipeline, "church", [7, 2, 5])
    assert page.locator("#generate .gcap .tag").all_inner_texts() == ["chosen"] * 3
    expect(page.locator("#generate .say")).to_have_text("Three picked by us out of 16 seeds.")
    page.locator(ASK).fill("")  # what is shown stays what it is
    page.locator(RUN).click()
    expect(page.locator(SAYS)).to_have_text("Say what to make first.")
    assert page.locator("#generate .gcap .tag").all_inner_texts() == ["chosen"] * 3
    page.locator(ASK).fill("church")
    page.get_by_role("button", name="Unpicked").click()
    expect(page.locator("#generate .gcap b").first).to_have_text("seed 0")
    finished(view)
    assert_shows(view, pipeline, "church", [0, 1, 2])
    assert page.locator("#generate .gcap .tag").all_inner_texts() == ["unpicked"] * 3
    thumbs = page.locator("#generate .thumbs button")
    ringed = [thumb.get_attribute("title") for thumb in thumbs.all() if thumb.get_attribute("aria-pressed") == "true"]
    assert ringed == ["seed 0", "seed 1", "seed 2"]
    assert thumbs.count() == 5  # seed 2 was chosen, too
    thumbs.nth(4).click()
    assert seeds(view) == [7, 1, 2]
    before = len(view.requests)
    page.get_by_role("button", name="Chosen seeds").click()
    assert seeds(view) == [7, 2, 5]
    assert len(view.requests) == before
    setting(view, "Scale", 2)  # they were chosen with other settings
    expect(page.locator("#generate [data-part=pick]")).to_be_hidden()


def test_guidance_and_decoder_are_switched(view, pipeline):
    page = view.page
    make(view, "golf ball")
    page.get_by_role("button", name="same decoder").click()
    assert_shows(view, pipeline, "golf ball", [0, 1, 2], decoder="original")
    page.get_by_role("button", name="unguided").click()
    expect(page.get_by_role("button", name="unguided")).to_have_attribute("aria-pressed", "true")
    finished(view)
    page.get_by_role("button", name="retrained").click()
    assert_shows(view, pipeline, "golf ball", [0, 1, 2], guidance="none")
    page.get_by_role("button", name="guided", exact=True).click()
    assert_shows(view, pipeline, "golf ball", [0, 1, 2])


def test_words_have_a_list_a_negative_text_and_another_text(view, text_pipeline):
    page = view.page
    page.locator("#generate").get_by_role("button", name="Words").click()
    setting(view, "Steps", STEPS)
    page.locator(ASK).click()
    page.get_by_role("option", name="a photo of a church").click()
    expect(page.locator(ASK)).to_have_value("a photo of a church")
    page.locator("#generate [data-part=fold]").click()
    page.get_by_label("Negative prompt").fill("night")
    page.get_by_label("Another text").fill("a red ball")
    page.locator(RUN).click()
    finished(view)
    asked = {"guidance": "cfg", "scale": 3.0, "negative": "night"}
    assert_shows(view, text_pipeline, "a photo of a church", [0, 1, 2], **asked)
    page.get_by_role("button", name="another text", exact=True).click()
    assert_shows(view, text_pipeline, "a photo of a church", [0, 1, 2], **asked, other="a red ball")
    for name in ("Negative prompt", "Another text"):
        page.get_by_label(name).fill("")


def test_a_picture_is_saved_with_its_settings_and_taken_apart_at_its_own_size(view):
    page = view.page
    make(view, "tench")
    with page.expect_download() as download:
        page.locator("#generate .gcap").nth(1).get_by_role("button", name="Save").click()
    assert download.value.suggested_filename == "tench-seed1.png"
    stored = png_settings(download.value.path())
    assert (stored["class"], stored["seed"], stored["decoder"]) == ("tench", 1, "finetuned")
    pixels = shown_pixels(page, f"{PICTURE} >> nth=1")
    page.locator("#generate .gcap").nth(1).get_by_role("button", name="Take apart").click()
    page.wait_for_function("store.state.view === 'picture' && store.data('routes')?.name === 'tench-seed1.png'")
    page.evaluate(
        "source => { document.body.append(Object.assign(new Image(), {id: 'opened', src: source})) }",
        page.evaluate("store.data('routes').pictures.original"),
    )
    assert np.array_equal(shown_pixels(page, "#opened"), pixels)
    page.evaluate("document.querySelector('#opened').remove()")


CALLS_A_STEP = 2  # of a denoiser: guided by another one


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
    page, says = view.page, view.page.locator(SAYS)
    setting(view, "Steps", 5)
    setting(view, "First seed", 20)
    page.locator(ASK).fill("tench")
    page.locator(RUN).click()
    denoisers.let(2 * CALLS_A_STEP)
    expect(says).to_have_text("Step 2 of 5. You see where these steps would end.")
    expect(page.locator(RUN)).to_have_text("Stop")
    expect(page.locator("#generate .shot:enabled")).to_have_count(0)
    assert page.locator("#strip .tile.film").count() == 2
    page.locator(RUN).click()
    expect(says).to_have_text("Stopped after step 2 of 5. You see where these steps would have ended.")
    expect(page.locator(RUN)).to_have_text("Make pictures")
    expect(page.locator("#generate .gcap .tag").first).to_have_text("stopped")
    come_to(cancelling, "what was made was cancelled")
    denoisers.open()
    setting(view, "Steps", 2)
    page.locator(RUN).click()
    expect(page.locator("#generate .gcap .tag").first).to_have_text("unpicked")
    finished(view)
    assert denoisers.arrived == (3 + 2) * CALLS_A_STEP  # the first run ended with the step that was being computed


def test_a_bad_value_gets_one_sentence_and_loses_nothing(view):
    page = view.page
    make(view, "tench")
    source = page.locator(PICTURE).first.get_attribute("src")
    page.locator(ASK).fill("golden gate")
    page.locator(RUN).click()
    expect(page.locator(f"{SAYS}.error")).to_contain_text("There is no class 'golden gate'; use for example")
    assert page.locator(PICTURE).first.get_attribute("src") == source
    setting(view, "Steps", 0)
    make(view, "tench")
    expect(page.locator(f"{SAYS}.error")).to_contain_text("not 0")


def part(view: Watched, heading: str):
    return view.page.locator("#generate .part", has_text=heading)


def test_below_are_a_grid_a_walk_a_photo_and_a_morph(view, pipeline):
    page = view.page
    make(view, "tench")
    grid = part(view, "Seeds against guidance")
    grid.get_by_label("Scales").fill("1, 2")
    grid.get_by_label("Seeds").fill("2")
    grid.get_by_role("button", name="Make the grid").click()
    expect(grid.locator("td img")).to_have_count(4)
    walk = part(view, "To class or words")
    walk.get_by_label("To class or words").fill("church")
    walk.get_by_role("button", name="Walk").click()
    expect(walk.locator("h2")).to_have_text("Walk from tench, seed 0, to church, seed 2")
    expect(walk.get_by_role("button", name="Play")).to_be_visible()
    request = {"steps": STEPS, "guidance": "autoguidance", "scale": 1.5, "compare": False}
    made = sample_to_end(pipeline, Request("church", **request, seeds=(2,)), "").rows[0].pictures["finetuned"][0]
    shown = shown_pixels(page, "#generate .walk img >> nth=7")
    assert np.abs(shown.astype(int) - made).max() <= 1
    photo = part(view, "From your photo")
    photo.get_by_role("button", name="Denoise").click()
    expect(photo.locator("figcaption").nth(2)).to_contain_text("As tench")
    morph = part(view, "Morph between two photos")
    expect(morph.get_by_role("button", name="Morph")).to_be_enabled()
    morph.get_by_role("button", name="Morph").click()
    expect(morph.locator(".walk img")).to_have_count(16)
    morph.get_by_role("button", name="Play").click()
    expect(morph.locator("figure[data-now]")).to_have_count(2)
    morph.get_by_role("button", name="Pause").click()
    grid.locator("td button").nth(3).click()
    expect(page.locator("#generate .gcap b").first).to_have_text("seed 1")
    finished(view)
    assert_shows(view, pipeline, "tench", [1], scale=2.0)


def test_a_link_with_seeds_shows_those_pictures_and_one_without_waits(browser, url, pipeline):
    view = Watched(browser, url, query="?tab=generate&kind=class&label=golf+ball&seed=1.4&steps=3&guidance=cfg&scale=2")
    expect(view.page.locator("#generate .gcap b").first).to_have_text("seed 1")
    finished(view)
    assert_shows(view, pipeline, "golf ball", [1, 4], guidance="cfg", scale=2.0)
    view.check()
    view.page.close()
    view = Watched(browser, url, query="?tab=generate&kind=text&prompt=a+red+ball")
    expect(view.page.locator(ASK)).to_have_value("a red ball")
    expect(view.page.locator("#generate .message").first).to_be_visible()
    view.check()
    view.page.close()


def test_without_a_generator_one_sentence_says_how_to_get_one(browser):
    with served(build_demo(build(), "no generator")) as address:
        view = Watched(browser, address)
        view.open("generate")
        expect(view.page.locator("#generate [data-part=none]")).to_contain_text("python -m train.stage2")
        expect(view.page.locator("#generate [data-part=none]")).to_contain_text("CUDA GPU")
        expect(view.page.locator(RUN)).to_be_hidden()
        part(view, "Morph between two photos").get_by_role("button", name="Morph").click()
        expect(view.page.locator("#generate .walk img")).to_have_count(16)
        view.check()
        view.page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_shows_one_picture_at_a_time_and_can_be_read(browser, url, theme):
    view = Watched(browser, url, width=390, query=f"?__theme={theme}")
    view.open("generate")
    setting(view, "Steps", 2)
    make(view, "tench")
    box = view.page.locator("#generate .shot").first.bounding_box()
    assert 380 <= box["width"] <= 390
    assert view.page.locator("#generate .shot").nth(1).bounding_box()["x"] >= 390
    for name in (SAYS, "#generate .gcap .tag", "#generate .say", "#generate .part p", "#generate label.set small"):
        assert contrast(view.page, name) > 4.5
    assert view.page.evaluate("document.documentElement.scrollWidth") <= 390
    view.check()
    view.page.close()
