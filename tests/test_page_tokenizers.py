"""The view Other tokenizers in a real browser: columns, their numbers and maps, adding and dropping, links."""

from __future__ import annotations

import json

import numpy as np
import pytest
from browser import NEEDS_CHROMIUM, Watched, canvas_pixels, contrast
from conftest import served
from playwright.sync_api import expect

from drorae.explorer.tokenizers import load_picture_tokenizer, mean_tokenizer, measure_tokenizer
from drorae.ui.page import build_demo

pytestmark = NEEDS_CHROMIUM
LEVELS = 64


@pytest.fixture(scope="module")
def url(tiny):
    """A page whose visitors may name any tokenizer."""
    with served(build_demo(tiny, "tiny", switch=True)) as address:
        yield address


@pytest.fixture(scope="module")
def one_page(browser, url):
    watched = Watched(browser, url, query="?tab=tokenizers&example=cat")
    watched.page.wait_for_function("store.data('tokenizers')?.columns.taef2?.picture")
    yield watched
    watched.page.close()


@pytest.fixture
def view(one_page):
    one_page.page.set_viewport_size({"width": 1440, "height": 900})
    one_page.page.evaluate("localStorage.removeItem('drorae-tokenizers'); store.set({ tokenizers: null, token: null })")
    drawn(one_page)
    one_page.requests.clear()
    yield one_page
    one_page.check()


def drawn(view: Watched) -> None:
    view.page.wait_for_function("!document.querySelector('#tokenizers .shot.waits')")
    view.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def column(view: Watched, title: str):
    return view.page.get_by_role("group", name=title, exact=True)


def titles(view: Watched) -> list[str]:
    return view.page.locator("#tokenizers .col .name").all_inner_texts()


def facts(view: Watched, title: str) -> dict[str, str]:
    cells = column(view, title).locator(".facts")
    return dict(zip(cells.locator("dt").all_inner_texts(), cells.locator("dd").all_inner_texts(), strict=True))


def shown(view: Watched, title: str, part: str = ".fig:not(.gain)") -> np.ndarray:
    drawn(view)
    column(view, title).locator(f"{part} canvas.px").evaluate("(canvas) => { canvas.id = 'shown'; }")
    pixels = canvas_pixels(view.page, "#shown")
    view.page.locator("#shown").evaluate("(canvas) => canvas.removeAttribute('id')")
    return pixels


def add(view: Watched, name: str) -> None:
    view.page.get_by_role("button", name="Add a tokenizer").click()
    view.page.get_by_role("textbox", name="Hub id or folder").fill(name)
    view.page.keyboard.press("Enter")


def test_columns_show_pictures_numbers_and_gains(view, tiny, cat_reading):
    assert titles(view) == ["Your photo", "Last layer (RAE)", "Mean of last 3", "All three layers", "TAEF2"]
    routes = cat_reading.routes
    made = {
        "Mean of last 3": measure_tokenizer(cat_reading.images, mean_tokenizer(tiny, 3)),
        "TAEF2": measure_tokenizer(cat_reading.images, load_picture_tokenizer("taef2")),
    }
    original, last = (picture.astype(np.float32) for picture in (routes.original, routes.pictures["rae"]))
    pictures = {"All three layers": routes.pictures["drorae"], **{name: each.picture for name, each in made.items()}}
    for title, picture in pictures.items():
        assert np.array_equal(shown(view, title), picture)
        gain = (np.abs(last - original) - np.abs(picture.astype(np.float32) - original)).mean(2)
        expect(column(view, title).locator(".gain .score")).to_have_text(f"{100 * (gain > 0).mean():.0f} % closer")
        middle, most, least = (np.array(c) for c in ([247, 246, 243], [0, 98, 66], [122, 28, 148]))
        share = np.clip(np.abs(gain) / LEVELS, 0, 1)[..., None]
        colours = middle + share * (np.where(gain[..., None] < 0, least, most) - middle)
        assert np.abs(shown(view, title, ".gain") - colours).max() <= 1
    assert facts(view, "Your photo") == {"pixels": "32 × 32 × 3", "numbers": "3,072"}
    assert facts(view, "TAEF2") == {
        "SSIM": f"{made['TAEF2'].metrics['ssim']:.3f}".replace("-", "\N{MINUS SIGN}"),
        "latent": "4 × 4 × 32",
        "numbers stored": "512",
        "against the pixels": "a sixth",
        "encoder": "pixels only",
        "decoder": "its own",
        "licence": "mit",
    }
    assert facts(view, "All three layers")["latent"] == "4 × 4 × 48"
    assert facts(view, "All three layers")["against the pixels"] == "a quarter"
    assert facts(view, "Mean of last 3")["decoder"] == "that of RAE"
    expect(column(view, "TAEF2").locator(".score b").first).to_have_text(f"{made['TAEF2'].metrics['psnr']:.1f}")
    assert view.requests == []  # nothing is asked for twice


def test_columns_are_added_and_dropped_and_remembered(view, cat_reading, small_folder):
    page = view.page
    add(view, small_folder)
    page.wait_for_function("(name) => store.data('tokenizers').columns[name]?.picture", arg=small_folder)
    expected = measure_tokenizer(cat_reading.images, load_picture_tokenizer(small_folder))
    assert np.array_equal(shown(view, "small"), expected.picture)
    assert facts(view, "small")["licence"] == "not stated"
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440
    page.get_by_role("button", name="Drop TAEF2").click()
    expect(page.get_by_role("button", name="Drop small")).to_be_focused()
    assert titles(view)[3:] == ["All three layers", "small"]
    assert page.evaluate("new URLSearchParams(store.address()).getAll('with')") == ["mean-3", small_folder]
    add(view, small_folder)
    expect(page.get_by_role("alert").filter(has_text="beside the others")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Add a tokenizer").click()
    page.get_by_role("button", name="taef2").click()
    expect(column(view, "TAEF2").locator(".score b").first).not_to_be_empty()
    assert sum("queue/join" in url for url in view.requests) == 1  # the folder; TAEF2 was known
    page.evaluate("store.set({ tokenizers: null })")
    assert page.evaluate("JSON.parse(localStorage.getItem('drorae-tokenizers'))") == ["mean-3", small_folder, "taef2"]


def test_what_cannot_be_is_a_sentence_in_its_column(view):
    add(view, "mean-7")
    failed = column(view, "Mean of last 7")
    expect(failed.locator(".message").first).to_contain_text("the encoder has 3 layers")
    with view.page.expect_request("**/queue/join*"):
        failed.get_by_role("button", name="Try again").click()
    view.page.wait_for_function("!store.waits('tokenizers')")
    expect(failed.locator(".message").first).to_contain_text("the encoder has 3 layers")
    drawn(view)  # and nothing waits


def test_pointing_marks_the_place_in_every_column(view):
    page = view.page
    column(view, "TAEF2").locator(".gain .shot").hover(position={"x": 100, "y": 40})
    assert page.evaluate("store.state.token") == 1
    marks = page.locator("#tokenizers .mark:visible")
    assert marks.count() == page.locator("#tokenizers .shot").count() == 8
    page.mouse.move(0, 0)


def test_a_link_fetches_nothing_unasked(browser, url, small_folder, view):
    linked = Watched(browser, url, query=f"?tab=tokenizers&example=cat&with=taef2&with={small_folder}")
    linked.page.wait_for_function("store.data('tokenizers')?.columns.taef2?.picture")
    assert titles(linked) == ["Your photo", "Last layer (RAE)", "All three layers", "TAEF2", "small"]
    expect(column(linked, "small").locator(".message").first).to_have_text("The link names this tokenizer.")
    assert not linked.page.evaluate("store.waits('tokenizers')")
    column(linked, "small").get_by_role("button", name="Fetch it").click()
    linked.page.wait_for_function("(name) => store.data('tokenizers').columns[name]?.picture", arg=small_folder)
    linked.check()
    linked.page.close()


def test_a_fixed_page_offers_its_list(browser, tiny, small_folder):
    with served(build_demo(tiny, "tiny", tokenizers=[small_folder])) as address:
        fixed = Watched(browser, address, query="?tab=tokenizers&example=cat&with=taef2")
        fixed.page.get_by_role("button", name="Add a tokenizer").click()
        dialog = fixed.page.get_by_role("dialog", name="Add a tokenizer")
        expect(dialog).to_contain_text("the list is fixed")
        assert dialog.get_by_role("textbox").count() == 0
        assert dialog.locator("li b").all_inner_texts() == ["mean-3", small_folder]
        dialog.get_by_role("button", name=small_folder).click()
        fixed.page.wait_for_function("(name) => store.data('tokenizers')?.columns[name]?.picture", arg=small_folder)
        fixed.check()
        fixed.page.close()


def test_it_is_readable_and_scrolls_by_itself(view):
    page = view.page
    for part in (".facts dt", ".facts dd", ".close", ".reference", ".rampkey"):
        assert contrast(page, f"#tokenizers {part}") >= 4.5
    page.set_viewport_size({"width": 390, "height": 844})
    drawn(view)
    names = page.locator("#tokenizers .col").evaluate_all("(nodes) => nodes.map((node) => node.ariaLabel)")
    assert names[:2] == ["All three layers", "TAEF2"]  # the two that are seen at once
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    scroller = page.locator("#tokenizers .scroll")
    assert scroller.evaluate("(node) => node.scrollWidth > node.clientWidth")
    scroller.evaluate("(node) => node.scrollTo({ left: 300, behavior: 'instant' })")
    page.wait_for_function(
        """() => [...document.querySelectorAll('#tokenizers .col')]
            .some((node) => Math.abs(node.getBoundingClientRect().left - 16) < 1)"""  # it snaps
    )
    box = page.get_by_role("button", name="Drop TAEF2").bounding_box()
    assert min(box["width"], box["height"]) >= 44


def test_all_numbers_can_be_saved_with_those_of_the_other_tokenizers(view, tmp_path):
    """As JSON, and the arrays as a file of NumPy that comes from the server."""
    files = []
    view.page.get_by_role("button", name="Share").click()
    with view.page.expect_event("download", lambda download: files.append(download) or len(files) == 2):
        view.page.get_by_role("menuitem", name="Save all numbers").click()
    expect(view.page.locator("#bar .menu .told")).to_have_text("Saved cat.npz.")
    saved = {each.suggested_filename: tmp_path / each.suggested_filename for each in files}
    for each in files:
        each.save_as(saved[each.suggested_filename])
    content = json.loads(saved["cat.json"].read_text(encoding="utf-8"))
    known = view.know("tokenizers")["columns"]["taef2"]
    assert content["tokenizers"]["taef2"] == {key: value for key, value in known.items() if key != "picture"}
    with np.load(saved["cat.npz"]) as arrays:
        tokens = content["rows"] * content["columns"]
        assert np.allclose(arrays["weights"].reshape(tokens, -1).ravel(), content["weights"], atol=1e-3)
        assert arrays["picture_rae"].shape == (content["height"], content["width"], 3)
    view.page.keyboard.press("Escape")
