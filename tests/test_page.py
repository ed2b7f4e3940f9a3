"""The page in a real browser: the strip, Picture, photos in and out, and what a link brings back."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import numpy as np
import pytest
from browser import NEEDS_CHROMIUM, Watched, canvas_pixels, contrast
from conftest import ROOT, build, served
from gate import Gate
from PIL import Image
from playwright.sync_api import expect
from test_images import png_header
from test_kinds import thumbs

import drorae.ui.models
import drorae.ui.photo
from drorae import AutoencoderDRoRAE
from drorae.explorer.explore import explore
from drorae.explorer.reading import Reading
from drorae.images import load_image, open_photo, square
from drorae.ui.page import build_demo

pytestmark = NEEDS_CHROMIUM

ENTRY = 'head > script[type=module][src*="/assets/index-"]'
PANELS = "#picture [data-part=stage] .fig"


@pytest.fixture
def view(home) -> Iterator[Watched]:
    """Picture, with the first example and nothing pointed at."""
    home.page.evaluate("store.set({split: 0, decoder: 'drorae', zoom: {scale: 1, x: 0.5, y: 0.5}, second: null})")
    home.page.evaluate("parts.release(); store.go('picture'); store.show('cat')")
    home.know("routes", "cat")
    yield home
    home.check()


@pytest.fixture(scope="module")
def result(tiny):
    return explore(load_image(ROOT / "assets" / "examples" / "cat.jpg"), tiny, interventions=False)


def signed(value: float) -> str:
    """A number as the page writes it."""
    text = f"{value:+.1f}".replace("-", "\u2212")
    return "0.0" if float(text[1:]) == 0 else text


def panel(view: Watched, number: int) -> np.ndarray:
    return canvas_pixels(view.page, f"{PANELS} >> nth={number} >> canvas.px >> nth=0")


def test_the_panels_show_exactly_the_routes_and_their_numbers(view, result):
    page = view.page
    expect(page.locator(f"{PANELS} >> nth=1 >> .score b")).to_have_text(f"{result.metrics['rae']['psnr']:.1f}")
    expect(page.locator(f"{PANELS} >> nth=2 >> .score b")).to_have_text(f"{result.metrics['drorae']['psnr']:.1f}")
    for number, picture in enumerate([result.original, result.pictures["rae"], result.pictures["drorae"]]):
        assert np.array_equal(panel(view, number), picture)
    page.get_by_role("button", name="same decoder").click()
    expect(page.locator(f"{PANELS} >> nth=2 >> .score b")).to_have_text(f"{result.metrics['phase2']['psnr']:.1f}")
    page.wait_for_function("store.state.decoder === 'phase2'")
    view.settle()
    assert np.array_equal(panel(view, 2), result.pictures["phase2"])
    # what is said is of the decoder that is shown; of the other's gain, which part is the layers'
    last, layers, both = (result.metrics[name]["psnr"] for name in ("rae", "phase2", "drorae"))
    said = page.locator(f"{PANELS} >> nth=2 >> .sure .txt")
    expect(said).to_contain_text(f"({signed(layers - last)} dB)")
    page.get_by_role("button", name="retrained").click()
    expect(said).to_contain_text(f"({signed(both - last)} dB: layers {signed(layers - last)}, new decoder ")


def test_what_a_page_needs_first_is_asked_for_at_once(home):
    asked = [urlsplit(request).path for request in home.requests]
    tags = home.page.locator("head > link[crossorigin]").evaluate_all("all => all.map((each) => each.href)")
    early = {urlsplit(address).path for address in tags}
    first = asked[: asked.index("/theme.css")]  # which Gradio's scripts ask for
    assert {path for path in early if path.startswith("/assets/")} <= set(first)
    before_the_result = asked[: asked.index("/gradio_api/queue/join")]
    entry = {path for path in asked if path.startswith("/assets/index-")}
    assert {path for path in before_the_result if path.startswith("/assets/")} <= early | entry
    assert not any("/static/fonts/" in path for path in asked)


@pytest.mark.parametrize(("query", "names"), [("", ["cat"]), ("?example=rocket", ["rocket"]), ("?photo=0123", ["cat"])])
def test_results_that_ship_are_asked_for_once_and_before_the_scripts(browser, tiny, monkeypatch, query, names):
    address = "drorae/examples/{}.json?v=0"  # of another model, so they are not taken
    monkeypatch.setattr(drorae.ui.models, "bundle_address", lambda name, *_: address.format(name))
    with served(build_demo(tiny, "random")) as url:
        view = Watched(browser, url, query=query)
        view.know("routes")
        asked = [urlsplit(request).path for request in view.requests]
        shipped = [path for path in asked if path.startswith("/drorae/examples/") and path.endswith(".json")]
        assert shipped == [f"/drorae/examples/{name}.json" for name in names]
        assert asked.index(shipped[0]) < asked.index("/theme.css")
        view.page.close()


def test_a_new_photo_fades_the_old_ones_results_at_once(browser, tiny, tmp_path, monkeypatch):
    """While it is sent and read the page shows the photo itself, and nothing of the one before at full strength."""
    gate = Gate()
    routes = drorae.ui.photo.Photos.routes

    def wait(photos, wish):
        gate.enter()
        return routes(photos, wish)

    monkeypatch.setattr(drorae.ui.photo.Photos, "routes", wait)
    Image.new("RGB", (60, 40), (200, 30, 90)).save(tmp_path / "red.png")
    gate.let(1)
    with served(build_demo(tiny, "random")) as url:
        view = Watched(browser, url, width=1440)
        view.painted()
        view.upload(tmp_path / "red.png")
        view.page.wait_for_function("store.photo()?.name === 'red.png'")
        for number in (0, 1, 2):
            expect(view.page.locator(f"{PANELS} >> nth={number} >> .shot")).to_have_class(re.compile("waits"))
        expect(view.page.locator(f"{PANELS} >> nth=0 >> .ahead")).to_be_visible()
        for faded in ("h1", f"{PANELS} >> nth=1 >> .score", ".insp"):
            shown = view.page.locator(f"#picture {faded}" if not faded.startswith("#") else faded).first
            expect(shown).to_have_css("opacity", "0.4")
        expect(view.page.locator(f"{PANELS} >> nth=1 >> .message")).to_have_text("Rebuilding ...")
        assert contrast(view.page, f"{PANELS} >> nth=1 >> .message") > 4.5
        gate.open()
        view.know("routes")
        view.settle()
        expect(view.page.locator(f"{PANELS} >> nth=0 >> .ahead")).to_be_hidden()
        expect(view.page.locator("#picture h1")).to_have_css("opacity", "1")
        view.check()
        view.page.close()


def test_pointing_asks_for_nothing_and_is_shared_by_strip_bars_and_panels(view, result):
    page = view.page
    view.know("tiles")
    before = len(view.requests)
    rows, columns = result.grid_size
    shot = page.locator(f"{PANELS} >> nth=0 >> .shot")
    box = shot.bounding_box()
    row, column = 1, 2
    page.mouse.move(box["x"] + (column + 0.5) / columns * box["width"], box["y"] + (row + 0.5) / rows * box["height"])
    token = row * columns + column
    page.wait_for_function(f"store.state.token === {token}")
    shares = result.shares[token]
    shown = page.locator("#picture .insp .bars .row span:last-child").all_inner_texts()
    assert [float(text.replace("\u2212", "-")) for text in shown] == pytest.approx(shares, abs=0.0051)
    assert page.locator(f"{PANELS} .mark:not([hidden])").count() == 3
    assert page.locator(f"{PANELS} .lens:not([hidden])").count() == 3
    feet = page.locator("#strip .tile b em").all_inner_texts()
    assert [float(text.replace("\u2212", "-")) for text in feet] == pytest.approx(shares, abs=0.0051)
    page.mouse.down()
    page.mouse.up()
    page.mouse.move(5, 5)
    page.wait_for_function("store.state.pinned")
    assert page.evaluate("store.state.token") == token
    page.keyboard.press("Escape")
    page.wait_for_function("store.state.token === null")
    assert len(view.requests) == before


def test_keys_move_by_tokens_pin_and_let_go(view, result):
    page = view.page
    _, columns = result.grid_size
    page.locator(f"{PANELS} >> nth=0 >> .shot").focus()
    page.keyboard.press("ArrowRight")  # the first key marks the middle
    first = page.evaluate("store.state.token")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("store.state.token") == first - columns
    page.keyboard.press("Enter")
    assert page.evaluate("store.state.pinned")
    expect(page.locator("#said")).to_contain_text("added most")
    page.keyboard.press("Escape")
    assert page.evaluate("store.state.token") is None


def test_the_handle_lays_the_last_layer_over_it(view, result):
    page = view.page
    handle = page.get_by_role("slider", name="Pull the last layer over it")
    handle.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert page.evaluate("store.state.split") == 50
    view.settle()
    over = canvas_pixels(page, f"{PANELS} >> nth=2 >> canvas.over")
    assert np.array_equal(over, result.pictures["rae"])
    clip = page.locator(f"{PANELS} >> nth=2 >> canvas.over").evaluate("(node) => getComputedStyle(node).clipPath")
    assert "50%" in clip


def test_zoom_is_one_for_all_panels(view):
    page = view.page
    page.locator(f"{PANELS} >> nth=1 >> .shot").dblclick(position={"x": 50, "y": 60})
    page.wait_for_function("store.state.zoom.scale === 3")
    transforms = page.locator(f"{PANELS} .pane").evaluate_all(
        "(nodes) => nodes.map((n) => getComputedStyle(n).transform)"
    )
    assert len(set(transforms)) == 1
    assert transforms[0].startswith("matrix(3,")
    page.locator(f"{PANELS} >> nth=1 >> .shot").dblclick(position={"x": 50, "y": 60})
    page.wait_for_function("store.state.zoom.scale === 1")


def test_full_screen_flips_the_routes_in_place(view, result):
    page = view.page
    page.locator(f"{PANELS} >> nth=2 >> .shot").focus()
    page.keyboard.press("f")
    dialog = page.locator("dialog.full")
    expect(dialog).to_be_visible()
    expect(dialog).to_contain_text("retrained decoder")
    page.keyboard.press("ArrowRight")
    expect(dialog).to_contain_text("Your photo")
    assert np.array_equal(canvas_pixels(page, "dialog.full canvas"), result.original)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def test_gain_and_harm_are_those_of_the_pictures(view, result):
    page = view.page
    gain = result.gains["drorae"]
    score = page.locator("#picture [data-part=maps] .score")
    expect(score.nth(0)).to_have_text(f"{round(100 * gain.improved)} % closer")
    expect(score.nth(1)).to_have_text(f"{round(100 * gain.harmed)} % harmed")
    page.evaluate("parts.point([10.5, 20.5])")
    value = gain.map[20, 10]
    words = "as far" if value == 0 else f"{abs(value):.1f} of 255 levels {'closer' if value > 0 else 'farther'}"
    note = page.locator("#picture [data-part=maps] .note").first
    expect(note).to_contain_text(words)
    page.evaluate("parts.release()")
    better, worse = gain.map[gain.map > 0].mean(), -gain.map[gain.map < 0].mean()
    expect(note).to_contain_text(f"harmed, by {worse:.1f} of 255 levels on average; where it helped, by {better:.1f}.")


def test_a_photo_goes_through_and_its_crop_can_be_moved(view, tiny, tmp_path):
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).resize((300, 200))
    photo.save(tmp_path / "mine.png")
    view.upload(tmp_path / "mine.png")
    view.page.wait_for_function("store.photo()?.name === 'mine.png' && store.data('routes')")
    expected = explore(load_image(tmp_path / "mine.png"), tiny, interventions=False)
    routes = view.know("routes")
    assert routes["metrics"]["drorae"]["psnr"] == pytest.approx(expected.metrics["drorae"]["psnr"], abs=1e-4)
    expect(view.page.locator(f"{PANELS} >> nth=0 >> .note")).to_contain_text("67 % of the photo")
    view.page.get_by_role("button", name="move the crop").click()
    view.page.get_by_label("The crop. Arrow keys move it.").focus()
    for _ in range(3):
        view.page.keyboard.press("Shift+ArrowLeft")
    view.page.get_by_role("button", name="Use this square").click()
    view.page.wait_for_function("store.data('routes')?.notes.crop[0] === 0")
    moved = square(load_image(tmp_path / "mine.png"), 32, (0.0, 0.5))
    view.page.wait_for_function("!store.waits('routes')")
    view.settle()
    expect(view.page.locator(f"{PANELS} >> nth=0 >> .shot")).not_to_have_class(re.compile("waits"))
    assert np.array_equal(panel(view, 0), np.asarray(moved))


@pytest.fixture(scope="module")
def anysize() -> AutoencoderDRoRAE:
    """A random model of any size. Do not change it."""
    return build(any_size=True, finetuned_decoder=True)


@pytest.fixture(scope="module")
def anysize_url(anysize) -> Iterator[str]:
    with served(build_demo(anysize, "any")) as address:
        yield address


def test_the_whole_photo_is_shown_in_every_view_and_comes_back_with_its_link(browser, anysize, anysize_url, tmp_path):
    """200 x 320 pixels are about as many as 256 x 256: nothing is resized, and there are 40 rows of 25 tokens."""
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (32, 20, 3), dtype=np.uint8)).resize((200, 320))
    photo.save(tmp_path / "tall.png")
    expected = Reading(open_photo(tmp_path / "tall.png"), anysize, whole=True)
    assert np.array_equal(expected.routes.original, np.asarray(photo))
    view = Watched(browser, anysize_url, width=1440)
    page = view.page
    view.upload(tmp_path / "tall.png")
    page.wait_for_function("store.photo()?.name === 'tall.png' && store.data('routes')")
    helped = page.locator("#picture [data-part=maps] .score").nth(0)
    square_gain = Reading(open_photo(tmp_path / "tall.png"), anysize).routes.gains["drorae"]
    expect(helped).to_have_text(f"{round(100 * square_gain.improved)} % closer")
    page.locator(f"{PANELS} >> nth=0").get_by_role("button", name="whole photo").click()
    page.wait_for_function("store.data('routes')?.rows === 40")
    page.wait_for_function("!store.waits('routes')")
    view.settle()
    expect(page.locator(f"{PANELS} >> nth=0 >> .note")).to_contain_text(
        "All of the photo, at the 200 \u00d7 320 pixels"
    )
    for number, picture in enumerate([expected.routes.original, *list(expected.routes.pictures.values())[::2]]):
        assert np.array_equal(panel(view, number), picture)
    expect(helped).to_have_text(f"{round(100 * expected.routes.gains['drorae'].improved)} % closer")
    # the strip: every layer's own picture, and the mark where the place is in it
    view.know("tiles")
    page.wait_for_function("document.querySelector('#strip .tile canvas').height === 80")
    size, way = (50, 80), Image.Resampling.LANCZOS
    small = [np.asarray(Image.fromarray(tile.picture).resize(size, way)) for tile in expected.tiles()]
    for number, tile in enumerate(np.split(thumbs(small), len(small), axis=1)):
        assert np.array_equal(canvas_pixels(page, f"#strip .tile >> nth={number} >> canvas"), tile)
    page.evaluate("parts.point([196, 4])")  # the top right corner
    mark, tile = (page.locator(f"#strip .tile {name} >> nth=0").bounding_box() for name in ("i", "canvas"))
    assert mark["x"] + mark["width"] / 2 - tile["x"] == pytest.approx((0.5 + 12 / 40) * tile["width"], abs=1)
    assert mark["y"] + mark["height"] / 2 - tile["y"] == pytest.approx(0.5 / 40 * tile["height"], abs=1)
    page.evaluate("parts.release()")
    # it stays with the photo, and with the address
    page.evaluate("store.show('cat')")
    page.wait_for_function("store.data('routes')?.rows === 32")
    page.evaluate("store.show([...store.photos.values()].find(({ example }) => !example).key)")
    page.wait_for_function("store.data('routes')?.rows === 40")
    page.wait_for_function("location.search.includes('crop=whole')")
    view.check()
    view.reload()
    page.wait_for_function("store.data('routes')?.rows === 40")
    expect(page.locator(f"{PANELS} >> nth=0 >> .note")).to_contain_text("All of the photo")
    # a phone has the same
    page.set_viewport_size({"width": 390, "height": 800})
    back = page.locator("#picture .parts").get_by_role("button", name="a square of it")
    assert back.bounding_box()["height"] >= 44
    back.click()
    page.wait_for_function("store.data('routes')?.rows === 32")
    expect(page.locator("#picture .parts").get_by_role("button", name="move the crop")).to_be_visible()
    assert "crop" not in page.evaluate("store.address().toString()")
    view.check()
    page.close()


def test_a_model_of_squares_offers_no_whole_photo(view, tmp_path):
    Image.new("RGB", (90, 60), (10, 200, 30)).save(tmp_path / "wide.png")
    view.upload(tmp_path / "wide.png")
    view.page.wait_for_function("store.photo()?.name === 'wide.png' && store.data('routes')")
    stage = view.page.locator("#picture [data-part=stage]")
    expect(stage.get_by_role("button", name="move the crop").first).to_be_visible()
    expect(stage.get_by_role("button", name="whole photo")).to_have_count(0)


BAD = {
    "broken.png": (b"not a picture", "'broken.png' is not a picture that can be read"),
    "huge.png": (png_header(60_000, 60_000), "megapixels"),
    "vector.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "'vector.svg' is not a picture that can be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_sentence_and_loses_nothing(view, result, tmp_path, name):
    content, sentence = BAD[name]
    (tmp_path / name).write_bytes(content)
    view.upload(tmp_path / name)
    expect(view.page.locator("#bar .failure")).to_contain_text(sentence)
    view.page.wait_for_function("store.state.photo !== null && store.data('routes')")
    view.page.evaluate("store.show('cat')")
    assert np.array_equal(panel(view, 0), result.original)
    assert view.page.locator(f"#bar .tray button[aria-label='{name}']").count() == 0
    view.upload(tmp_path / name)
    expect(view.page.locator("#bar .failure")).to_contain_text(sentence)
    view.page.get_by_role("button", name="Close", exact=True).click()
    expect(view.page.locator("#bar .failure")).to_be_hidden()


def test_the_last_of_two_quick_photos_wins(view, tiny):
    coffee = explore(load_image(ROOT / "assets" / "examples" / "coffee.jpg"), tiny, interventions=False)
    view.page.evaluate("store.show('rocket'); store.show('coffee')")
    view.page.wait_for_function("store.data('routes', 'coffee')")
    expect(view.page.locator(f"{PANELS} >> nth=1 >> .score b")).to_have_text(f"{coffee.metrics['rae']['psnr']:.1f}")
    view.settle()
    assert np.array_equal(panel(view, 0), coffee.original)
    view.page.evaluate("void store.show('cat')")
    assert not view.page.evaluate("store.photos.get('cat').waiting.has('routes')")  # it is known: it is not asked for


def test_two_photos_stand_side_by_side(view):
    view.page.locator("#bar .tray button[aria-label=coffee]").click(modifiers=["Shift"])
    expect(view.page.locator("#picture [data-part=second]")).to_contain_text("Beside it: coffee")
    view.know("routes", "coffee")
    assert view.page.evaluate("store.state.photo") == "cat"


def test_the_address_follows_and_brings_back(browser, tiny_url, tmp_path):
    noise = np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "own.png")
    view = Watched(browser, tiny_url, width=1440, query="?tab=compare&example=coffee")
    view.painted()
    assert view.page.evaluate("[...store.photos.values()].filter((each) => each.kinds.routes).length") == 1
    view.know("routes", "coffee")
    view.upload(tmp_path / "own.png")
    view.page.wait_for_function("store.photo()?.name === 'own.png' && store.data('routes')")
    view.page.evaluate("parts.point([9, 9]); parts.pin()")
    view.page.wait_for_url(re.compile("photo=[0-9a-f]{16}.*token="))
    address = view.page.url
    view.reload()
    view.page.wait_for_function("store.photo()?.name === 'own.png' && store.data('routes') && store.state.pinned")
    view.page.wait_for_url(address)
    view.page.evaluate("store.show('cat')")
    view.page.wait_for_url(re.compile("example=cat"))
    view.page.go_back()
    view.page.wait_for_function("store.photo()?.name === 'own.png'")
    view.page.wait_for_url(address)
    # Back, where the photo has to be found and sent again first, and the view is another one, too
    view.page.go_forward()
    view.know("routes", "cat")
    view.open("weights")
    view.page.wait_for_url(re.compile("tab=weights&example=cat"))
    view.page.evaluate("store.show('rocket')")
    view.page.wait_for_url(re.compile("tab=weights&example=rocket"))
    last, entries = view.page.url, view.page.evaluate("history.length")
    view.reload()
    view.know("routes", "rocket")
    view.page.evaluate("history.go(-3)")
    view.page.wait_for_function("store.photo()?.name === 'own.png' && store.data('routes') && store.state.pinned")
    view.page.wait_for_url(address)
    assert view.page.evaluate("history.length") == entries
    view.page.evaluate("history.go(3)")
    view.page.wait_for_url(last)
    view.know("routes", "rocket")
    view.check()
    view.page.close()


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("?example=dog", "The link names an example 'dog' that is not here; there are cat, "),
        ("?photo=0123456789abcdef", "was kept in the browser it was opened in"),
    ],
)
def test_a_link_to_a_photo_that_is_not_here_says_so_and_shows_the_first(browser, tiny_url, query, sentence):
    view = Watched(browser, tiny_url, query=query)
    expect(view.page.locator("#bar .failure")).to_contain_text(sentence)
    view.know("routes", "cat")
    view.check()
    view.page.close()


def test_the_card_and_the_numbers_can_be_kept(view, result, tmp_path):
    page = view.page
    page.get_by_role("button", name="Share").click()
    with page.expect_download() as card:
        page.get_by_role("menuitem", name="Save this card").click()
    assert Image.open(card.value.path()).size == (1200, 630)
    page.get_by_role("button", name="Share").click()
    with page.expect_event("download", lambda file: file.suggested_filename.endswith(".npz")) as arrays:
        page.get_by_role("menuitem", name="Save all numbers").click()
    saved = np.load(io.BytesIO(arrays.value.path().read_bytes()))
    assert np.allclose(saved["shares"], result.shares, atol=1e-6)
    assert np.array_equal(saved["picture_drorae"], result.pictures["drorae"])
    page.keyboard.press("Escape")


def test_a_model_without_fusion_shows_what_it_has(browser):
    with served(build_demo(build(fusion=None), "plain")) as address:
        view = Watched(browser, address, width=1440)
        view.painted()
        expect(view.page.get_by_role("heading", name="This model paints from its last layer alone.")).to_be_visible()
        assert view.page.locator(f"{PANELS} >> nth=2").is_hidden()
        view.check()
        view.page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_shows_the_result_at_once_and_nothing_is_wider(browser, tiny_url, theme):
    view = Watched(browser, tiny_url, width=390, query=f"?__theme={theme}")
    view.page.set_viewport_size({"width": 390, "height": 844})
    view.painted()
    assert view.page.evaluate("document.documentElement.scrollWidth") <= 390
    shot = view.page.locator(f"{PANELS}.third .shot").bounding_box()
    assert shot["y"] + shot["height"] < 844 - 60
    assert view.page.locator("#bar [data-part=tabbar] button").count() == 5
    for selector in ("#picture h1", "#picture .third .score", "#picture .upright span"):
        assert contrast(view.page, selector) >= 4.5
    view.check()
    view.page.close()


def test_what_a_finger_points_at_stays_in_sight_and_can_be_read(phone, tiny_url, result):
    """A tap reads a pixel; the map that a tap chooses is the one in sight; the tab bar says where one is."""
    view = Watched(phone, tiny_url, width=390)
    page = view.page
    page.set_viewport_size({"width": 390, "height": 844})
    view.painted()
    handle = page.locator("#picture .handle")
    for value in (0, 100):  # there is nothing beside the picture that the handle could reach into
        page.evaluate(f"store.set({{ split: {value} }})")
        view.settle()
        box = handle.bounding_box()
        assert 0 <= box["x"] <= box["x"] + box["width"] <= 390
    harmed = page.locator("#picture [data-part=maps] .shot").nth(1)
    harmed.scroll_into_view_if_needed()
    box = harmed.bounding_box()
    harmed.tap(position={"x": box["width"] * 0.3, "y": box["height"] * 0.6})
    side = len(result.original)
    value = result.gains["drorae"].map[int(0.6 * side), int(0.3 * side)]
    note = page.locator("#picture [data-part=maps] .note").first
    expect(note).to_contain_text(f"Pixel {int(0.3 * side)}, {int(0.6 * side)}: ")
    expect(note).to_contain_text(f"{abs(value):.1f} of 255 levels")
    view.open("weights")
    last = page.locator("#weights .map").last
    last.scroll_into_view_if_needed()
    last.tap()
    shot = page.locator("#weights .stage .shot").first.bounding_box()
    assert 0 <= shot["y"] <= shot["y"] + shot["height"] <= 844 - 60
    for name, label in (("frequency", "More"), ("tokenizers", "More"), ("layers", "Layers"), ("picture", "Picture")):
        view.open(name)
        expect(page.locator("#bar [data-part=tabbar] [aria-current]")).to_have_text(label)
    view.check()
    page.close()


def test_results_stand_above_the_fold_on_a_laptop(browser, tiny_url):
    view = Watched(browser, tiny_url, width=1280)
    view.page.set_viewport_size({"width": 1280, "height": 720})
    view.painted()
    for selector in (f"{PANELS} >> nth=2 >> .shot", "#picture .sure", "#picture .guide"):
        box = view.page.locator(selector).first.bounding_box()
        assert box["y"] + box["height"] <= 720
    view.page.close()
