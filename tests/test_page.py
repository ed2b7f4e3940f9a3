"""The page in a real browser: Debian's chromium, driven by Playwright."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import numpy as np
import pytest
from browser import NEEDS_CHROMIUM, Watched, contrast, shown_pixels
from conftest import ROOT, build, served
from PIL import Image
from playwright.sync_api import expect
from test_images import png_header

from drorae.explorer.explore import explore
from drorae.images import load_image
from drorae.ui.page import build_demo

pytestmark = NEEDS_CHROMIUM


@pytest.fixture(scope="module")
def url(embedded) -> Iterator[str]:
    with served(build_demo(embedded, "drorae-tiny")) as address:
        yield address


@pytest.fixture(scope="module")
def first_page(browser, url) -> Iterator[Watched]:
    """The shipped model and its first example. A page takes longer to open than a test takes."""
    watched = Watched(browser, url)
    yield watched
    watched.page.close()


@pytest.fixture(scope="module")
def tiny_page(browser, tiny_url) -> Iterator[Watched]:
    """A small model, to which pictures are given."""
    watched = Watched(browser, tiny_url)
    yield watched
    watched.page.close()


@pytest.fixture
def view(first_page) -> Iterator[Watched]:
    """The first page, with the first tab open and nothing chosen in the second."""
    first_page.routing()
    first_page.page.locator("#routing [data-part=stage]").focus()
    first_page.page.keyboard.press("Escape")
    first_page.open("Compare")
    yield first_page
    first_page.check()


@pytest.fixture
def taker(tiny_page) -> Iterator[Watched]:
    """The page that takes pictures, with the first tab open."""
    tiny_page.open("Compare")
    yield tiny_page
    tiny_page.check()


def upload(view: Watched, path) -> None:
    with view.page.expect_file_chooser() as chooser:
        view.page.get_by_role("button", name="Upload a photo").click()
    chooser.value.set_files(path)


def test_a_finished_example_is_there_at_first_paint_and_lossless(view, explored):
    page = view.page
    assert page.locator("#compare figure").count() == 4
    assert not any("queue/join" in request for request in view.requests)
    assert np.array_equal(shown_pixels(page, "#compare figure[data-route=original] img"), explored.original)
    for name, picture in explored.pictures.items():
        assert np.array_equal(shown_pixels(page, f"#compare figure[data-route={name}] img"), picture)
        numbers = page.locator(f"#compare tr[data-route={name}] td").all_inner_texts()
        assert float(re.match(r"[\d.]+", numbers[0])[0]) == pytest.approx(explored.metrics[name]["psnr"], abs=0.006)
        assert float(re.match(r"[\d.]+", numbers[1])[0]) == pytest.approx(explored.metrics[name]["ssim"], abs=0.0006)
    expect(page.locator("#compare [data-part=headline]")).to_contain_text("dB")


def test_an_uploaded_photo_goes_through(taker, tiny, tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(values).resize((300, 200), Image.Resampling.BICUBIC).save(tmp_path / "mine.png")
    expected = explore(load_image(tmp_path / "mine.png"), tiny, interventions=False)
    upload(taker, tmp_path / "mine.png")
    row = taker.page.locator("#compare tr[data-route=drorae] td").first
    expect(row).to_contain_text(f"{expected.metrics['drorae']['psnr']:.2f}")
    assert np.array_equal(
        shown_pixels(taker.page, "#compare figure[data-route=drorae] img"), expected.pictures["drorae"]
    )
    taker.routing()
    weights = taker.state("routing", "Array.from(state.weights)")
    assert np.allclose(np.array(weights).reshape(expected.weights.shape), expected.weights, atol=1e-5)


def test_a_photo_dropped_on_the_picture_goes_through(taker, tiny):
    path = ROOT / "assets" / "examples" / "rocket.jpg"
    expected = explore(load_image(path), tiny, interventions=False)
    taker.page.locator("#picture input[type=file]").set_input_files(path)
    row = taker.page.locator("#compare tr[data-route=phase2] td").first
    expect(row).to_contain_text(f"{expected.metrics['phase2']['psnr']:.2f}")


def test_clearing_the_picture_loses_nothing(taker):
    before = taker.page.locator("#compare").inner_text()
    taker.page.get_by_label("Remove Image").click()
    expect(taker.page.locator("#status")).to_contain_text("Choose another picture")
    assert taker.page.locator("#compare").inner_text() == before


def test_an_example_goes_through(taker, tiny):
    expected = explore(load_image(ROOT / "assets" / "examples" / "coffee.jpg"), tiny, interventions=False)
    taker.page.locator("#examples button, #examples .gallery-item").nth(2).click()
    row = taker.page.locator("#compare tr[data-route=rae] td").first
    expect(row).to_contain_text(f"{expected.metrics['rae']['psnr']:.2f}")


def moving_gif() -> bytes:
    stream = io.BytesIO()
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    return stream.getvalue()


def half_jpeg() -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 90).convert("RGB").save(stream, "JPEG")
    return stream.getvalue()[: stream.tell() // 2]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("text.png", b"this is no picture", "is not a picture that can be read"),
        ("bomb.png", png_header(30000, 30000, b"\0" * 100_000), "more than the 50 megapixels allowed"),
        ("empty.png", b"", "is empty"),
        ("moving.gif", moving_gif(), "is animated (2 frames)"),
        ("half.jpg", half_jpeg(), "is damaged or cut off"),
        ("dot.png", png_header(1, 1, b"\0\0\0\0"), "both sides must be at least 16"),
    ],
)
def test_bad_files_are_one_sentence_and_lose_nothing(taker, tmp_path, name, content, sentence):
    before = taker.page.locator("#compare").inner_text()
    (tmp_path / name).write_bytes(content)
    upload(taker, tmp_path / name)
    status = taker.page.locator("#status .error")
    expect(status).to_contain_text(sentence)
    assert "Traceback" not in taker.page.content()
    assert taker.page.locator("#compare").inner_text() == before
    # its preview cannot be shown either
    taker.complaints[:] = [text for text in taker.complaints if "Failed to load resource" not in text]


def test_slider_works_by_mouse_keyboard_and_any_pair_without_a_request(view):
    page = view.page
    box = page.locator("#compare [data-part=slider]").bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    view.requests.clear()
    before = page.locator("#compare [data-part=before]")
    slider = page.locator("#compare [data-part=position]")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.2, box["y"] + box["height"] / 2)
    assert view.state("compare", "state.position") == pytest.approx(20, abs=4)
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    position = view.state("compare", "state.position")
    assert position == pytest.approx(25, abs=4)
    # the picture chosen for the left is cut off right of the line
    assert before.evaluate("node => node.style.clipPath") == f"inset(0px {100 - position}% 0px 0px)"
    assert page.locator("#compare [data-part=line]").evaluate("node => node.style.left") == f"{position}%"
    page.locator("#compare [data-part=left]").select_option("original")
    page.locator("#compare [data-part=right]").select_option("phase2")
    original = page.locator("#compare figure[data-route=original] img").get_attribute("src")
    phase2 = page.locator("#compare figure[data-route=phase2] img").get_attribute("src")
    assert before.get_attribute("src") == original
    assert page.locator("#compare [data-part=after]").get_attribute("src") == phase2
    assert not [u for u in view.requests if not u.startswith("data:")]


def test_gain_map_shows_the_gain_of_either_route(view, explored):
    page = view.page
    view.requests.clear()
    for title, name in (("All layers fused", "phase2"), ("Full DRoRAE", "drorae")):
        page.locator("#compare [data-part=gain-choices]").get_by_role("button", name=title).click()
        gain = explored.gains[name]
        expect(page.locator("#compare [data-part=gain-shares]")).to_contain_text(
            f"{100 * gain.improved:.0f} % of the pixels improved, {100 * gain.harmed:.0f} % harmed"
        )
        data = page.locator("#compare [data-part=gain]").evaluate(
            "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
        )
        colours = np.array(data).reshape(*gain.map.shape, 4)
        limit = view.state("compare", "state.limit")
        # beyond the limit the two end colours of the scale, in between green for gains and brown for losses
        assert (colours[gain.map >= limit][:, :3] == [1, 102, 94]).all()
        assert (colours[gain.map <= -limit][:, :3] == [140, 81, 10]).all()
        clear = np.abs(gain.map) > limit / 10
        assert np.array_equal(colours[clear][:, 1] > colours[clear][:, 0], gain.map[clear] > 0)
    assert not [u for u in view.requests if not u.startswith("data:")]


def token_at(view: Watched, row: int, column: int, grid: int = 16) -> tuple[float, float]:
    stage = view.page.locator("#routing [data-part=stage]")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    return box["x"] + (column + 0.5) / grid * box["width"], box["y"] + (row + 0.5) / grid * box["height"]


def shown_shares(view: Watched, which: str) -> list[float]:
    texts = view.page.locator(f"#routing .row .share .{which}").all_inner_texts()
    return [float(text.replace("\u2212", "-")) for text in texts]


def test_hovering_shows_the_routing_of_the_token_without_a_request(view, explored):
    view.routing()
    view.page.wait_for_selector("#profile .js-plotly-plot .bars .point")  # the chart below has loaded its script
    view.requests.clear()
    for row, column in ((0, 0), (7, 3), (15, 15)):
        view.page.mouse.move(*token_at(view, row, column))
        token = row * 16 + column
        assert shown_shares(view, "first") == pytest.approx(explored.shares[token].tolist(), abs=6e-4)
        for layer, share in enumerate(explored.shares[token]):
            bar = view.page.locator(f"#routing .row[data-layer='{layer + 1}'] .bar.first")
            assert ("adds" if share >= 0 else "suppresses") in bar.get_attribute("class")
            width = float(bar.evaluate("node => node.style.width").removesuffix("%"))
            assert width == pytest.approx(50 * abs(share), abs=1e-3)
    assert not [u for u in view.requests if not u.startswith("data:")]


def test_pins_compare_two_tokens_and_keys_do_the_same(view, explored):
    view.routing()
    view.page.mouse.click(*token_at(view, 2, 3))
    view.page.mouse.click(*token_at(view, 9, 12))
    assert view.state("routing", "state.pins") == [2 * 16 + 3, 9 * 16 + 12]
    view.page.mouse.move(*token_at(view, 5, 5))
    assert shown_shares(view, "first") == pytest.approx(explored.shares[2 * 16 + 3].tolist(), abs=6e-4)
    assert shown_shares(view, "second") == pytest.approx(explored.shares[9 * 16 + 12].tolist(), abs=6e-4)

    view.page.locator("#routing [data-part=stage]").focus()
    view.page.keyboard.press("Escape")
    assert view.state("routing", "state.pins") == []
    for key in ("Home", "ArrowDown", "ArrowRight", "ArrowRight", "ArrowUp", "ArrowUp"):
        view.page.keyboard.press(key)
    assert view.state("routing", "state.token") == 2
    view.page.keyboard.press("Enter")
    assert view.state("routing", "state.pins") == [2]
    view.page.keyboard.press("Enter")
    assert view.state("routing", "state.pins") == []


def test_a_layer_can_be_laid_over_the_photo(view, explored):
    view.routing()
    stage = view.page.locator("#routing [data-part=stage]")
    plain = stage.evaluate("c => c.toDataURL()")
    layer = view.page.locator("#routing .strip button[data-layer='5']")
    layer.click()
    assert layer.get_attribute("aria-pressed") == "true"
    assert stage.evaluate("c => c.toDataURL()") != plain
    expect(view.page.locator("#routing [data-part=where]")).to_contain_text("the photo shows layer 5")
    stage.focus()
    view.page.keyboard.press("]")
    assert view.state("routing", "state.layer") == 5
    view.page.keyboard.press("Escape")
    assert stage.evaluate("c => c.toDataURL()") == plain

    limit = view.state("routing", "state.limit")
    token = int(explored.shares[:, 4].argmin())
    colour = layer.locator("canvas").evaluate(
        f"c => Array.from(c.getContext('2d').getImageData({token % 16}, {token // 16}, 1, 1).data)"
    )
    share = explored.shares[token, 4]
    assert abs(share) <= limit * 1.5
    assert (colour[2] > colour[0]) == (share < 0)  # blue where the layer is suppressed


def test_profile_shows_the_mean_share_of_every_layer(view, explored):
    view.routing()
    view.page.wait_for_selector("#profile .js-plotly-plot .bars .point")
    heights = view.page.locator("#profile .js-plotly-plot").evaluate("plot => Array.from(plot.calcdata[0], d => d.s)")
    assert heights == pytest.approx(explored.shares.mean(0).tolist(), abs=1e-5)


def test_views_follow_a_second_picture_and_the_last_of_two_quick_ones(taker, tiny):
    taker.routing()
    taker.page.mouse.click(*token_at(taker, 1, 2, 4))
    names = ("astronaut", "galaxies")
    paths = [ROOT / "assets" / "examples" / f"{name}.jpg" for name in names]
    expected = explore(load_image(paths[-1]), tiny, interventions=False)
    for path in paths:
        taker.page.locator("#picture input[type=file]").set_input_files(path)
    taker.page.wait_for_function(
        """(first) => {
            const node = [...document.querySelectorAll('#routing *')].find((n) => n.__routing);
            return node.__routing.value && Math.abs(node.__routing.weights[0] - first) < 1e-4;
        }""",
        arg=float(expected.weights[0, 0]),
    )
    taker.page.mouse.move(*token_at(taker, 2, 3, 4))
    assert shown_shares(taker, "first") == pytest.approx(expected.shares[2 * 4 + 3].tolist(), abs=6e-4)
    assert taker.state("routing", "state.pins") == []
    taker.page.get_by_role("tab", name="Compare").click()
    taker.page.locator("#compare [data-part=left]").select_option("original")
    source = taker.page.locator("#compare [data-part=before]").get_attribute("src")
    assert source == taker.page.locator("#compare figure[data-route=original] img").get_attribute("src")
    assert np.array_equal(shown_pixels(taker.page, "#compare [data-part=before]"), expected.original)


def test_unpin_by_button(view):
    view.routing()
    view.page.mouse.click(*token_at(view, 2, 3))
    view.page.get_by_role("button", name="Unpin").click()
    assert view.state("routing", "state.pins") == []


def test_a_model_without_fusion_shows_what_it_has(browser):
    with served(build_demo(build(fusion=None), "plain RAE")) as address:
        view = Watched(browser, address)
        assert view.page.locator("#compare figure").count() == 2
        assert (view.state("compare", "state.left"), view.state("compare", "state.right")) == ("original", "rae")
        expect(view.page.locator("#compare [data-part=gain-card]")).to_be_hidden()
        view.page.get_by_role("tab", name="Routing").click()
        expect(view.page.locator("#no-routing")).to_contain_text("no routing to show")
        view.check()
        view.page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_shows_everything_without_sideways_scrolling_and_readable(browser, url, theme):
    view = Watched(browser, url, width=390, query=f"?__theme={theme}")
    page = view.page
    for part in ("#compare .headline", "#compare figure b", "#compare .hint"):
        assert contrast(page, part) > 4.5
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("#compare .scroll").evaluate("node => node.scrollWidth <= node.clientWidth")
    view.routing()
    for part in ("#routing h3", "#routing .row .value", "#routing .hint"):
        assert contrast(page, part) > 4.5
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    stage = page.locator("#routing [data-part=stage]").bounding_box()
    assert stage["x"] >= 0
    assert stage["x"] + stage["width"] <= 390
    assert stage["width"] == pytest.approx(stage["height"], abs=1)
    view.check()
    page.close()
