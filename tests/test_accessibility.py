"""Keyboard, screen readers, contrast and touch, in a real browser; axe-core looks at every tab."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import NEEDS_CHROMIUM, Watched
from conftest import ROOT, served
from playwright.sync_api import expect

from drorae.ui.page import build_demo

pytestmark = NEEDS_CHROMIUM
AXE = Axe()
EXAMPLES = [ROOT / "assets" / "examples" / f"{name}.jpg" for name in ("cat", "galaxies")]
# what is ours and shown with every tab; Gradio's own parts are Gradio's to mend
AROUND = ("#introduction", "#status", "#examples", "#report")
VIEWERS = {name: name.lower() for name in ("Compare", "Routing", "Intervene", "Frequency", "Batch")} | {
    "Generate": "samples"
}
# targets with a side shorter than 24 px, but for rounding
SMALL = """root => [...document.querySelectorAll(`${root} :is(a[href], button, input, select, [tabindex])`)]
    .map(node => [node.getBoundingClientRect(), node.outerHTML.slice(0, 120)])
    .filter(([box]) => box.width && Math.min(box.width, box.height) < 23.9)"""


@pytest.fixture(scope="module")
def url(pipeline, tmp_path_factory) -> Iterator[str]:
    """A page with all tabs filled, those of a generator, too."""
    generator = tmp_path_factory.mktemp("generator")
    pipeline.save_pretrained(generator)
    with served(build_demo(pipeline.autoencoder, "tiny", str(generator))) as address:
        yield address


@pytest.fixture(scope="module")
def view(browser, url) -> Iterator[Watched]:
    """One page for all tests by keyboard: a page takes longer to open than a test takes."""
    watched = Watched(browser, url)
    yield watched
    watched.check()
    watched.page.close()


def use(view: Watched, tab: str, viewer: str) -> None:
    """Open a tab and leave it in a state with as much to see as there is."""
    page = view.page
    view.open(tab)
    if tab == "Routing":
        page.wait_for_selector("#routing .strip button")
        press(view, "routing", "stage", "Home", "Enter", "ArrowDown", "]")
    elif tab == "Intervene":
        press(view, "intervene", "paint", "Enter", "Space")
        page.locator("#intervene .switches button").nth(2).click()
    elif tab == "Batch":
        page.locator("#batch-files input[type=file]").set_input_files(EXAMPLES)
        expect(page.locator("#batch-files")).to_contain_text("galaxies")
        page.get_by_role("button", name="Explore all").click()
        expect(page.locator("#batch tbody img")).to_have_count(len(EXAMPLES))
    page.wait_for_selector(f"#{viewer} h3")


def press(view: Watched, viewer: str, part: str, *keys: str) -> None:
    view.page.locator(f"#{viewer} [data-part={part}]").focus()
    for key in keys:
        view.page.keyboard.press(key)


def centre(view: Watched, part: str) -> tuple[float, float]:
    box = view.page.locator(f"#routing [data-part={part}]").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def focused(view: Watched, attribute: str) -> str | None:
    return view.page.evaluate("name => document.activeElement.getAttribute(name)", attribute)


def said(view: Watched, viewer: str, text: str) -> None:
    expect(view.page.locator(f"#{viewer} [role=status][data-part=said]")).to_contain_text(text)


def violations(view: Watched, *selectors: str) -> list[str]:
    found = AXE.run(view.page, context={"include": [[selector] for selector in selectors]}).response["violations"]
    return [
        f"{rule['impact']} {rule['id']}: {node['html'][:120]}"
        for rule in found
        if rule["impact"] != "minor"
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize(("theme", "width"), [("light", 390), ("dark", 1280)])
def test_axe_finds_nothing_in_any_tab(browser, url, theme, width):
    view = Watched(browser, url, width, f"?__theme={theme}")
    page = view.page
    expect(page.locator("#examples").get_by_role("button", name="rocket")).to_be_visible()
    for tab, viewer in VIEWERS.items():
        use(view, tab, viewer)
        assert violations(view, f"#{viewer}", *AROUND) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(SMALL, f"#{viewer}") + page.evaluate(SMALL, "#report") == []
    view.check()
    page.close()


def test_compare_by_keyboard(view):
    press(view, "compare", "panels", "ArrowRight", "ArrowUp")
    markers = view.page.locator("#compare .panels .marker")
    assert (
        markers.evaluate_all("all => all.map(one => [one.style.display, one.style.left, one.style.top].join())")
        == ["block,55%,45%"] * 4
    )
    press(view, "compare", "position", "ArrowRight")
    expect(markers.first).to_be_hidden()
    assert focused(view, "aria-valuetext") == "51 % Last layer, 49 % Full DRoRAE"

    press(view, "compare", "gain", "ArrowLeft", "Shift+ArrowDown")  # from the middle of 32 pixels
    gain = view.state("compare", "state.map[24 * 32 + 15]")
    words = (
        "as far from" if gain == 0 else f"{abs(gain):.1f} of 255 levels {'closer to' if gain > 0 else 'farther from'}"
    )
    expect(view.page.locator("#compare [data-part=gain-shares]")).to_have_text(f"Pixel 15, 24: {words} the original")
    expect(view.page.locator("#compare [data-part=pixel]")).to_be_visible()
    said(view, "compare", "Pixel 15, 24")
    view.page.keyboard.press("Tab")
    view.page.keyboard.press("Space")
    assert view.page.evaluate("document.activeElement.textContent") == "All layers fused"  # it was drawn anew
    said(view, "compare", "All layers fused: ")

    press(view, "compare", "harmed-only", "Space")
    greener = view.page.locator("#compare [data-part=gain]").evaluate(
        """canvas => {
            const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
            return data.filter((value, i) => i % 4 === 1 && value > data[i - 1]).length;
        }"""
    )
    assert greener == 0
    assert focused(view, "aria-pressed") == "true"


def test_a_rectangle_of_tokens_by_keyboard(view):
    view.routing()
    press(view, "routing", "stage", "Home", "ArrowDown", "Shift+ArrowRight", "Shift+ArrowDown")
    said(view, "routing", "Enter pins the mean of 4 tokens")
    view.page.mouse.move(*centre(view, "stage"))  # a resting mouse that is touched changes nothing
    view.page.keyboard.press("Enter")
    assert view.state("routing", "state.pins") == [[4, 5, 8, 9]]
    said(view, "routing", "A is pinned: mean of 4 tokens")
    view.page.keyboard.press("Shift+ArrowUp")
    view.page.keyboard.press("Escape")
    assert view.state("routing", "[state.corner, state.stroke, state.pins.length]") == [None, None, 1]
    press(view, "routing", "unpin", "Enter")
    assert view.state("routing", "state.pins") == []
    assert focused(view, "data-part") == "stage"


def test_a_layer_by_keyboard_keeps_the_focus_and_marks_what_is_suppressed(view):
    view.routing()
    for place in (".term", ".correlations button", ".strip button"):
        view.page.locator(f"#routing {place}").nth(1).focus()
        view.page.keyboard.press("Enter")
        assert (focused(view, "data-layer"), focused(view, "aria-pressed")) == ("2", "true")
        said(view, "routing", "the photo shows layer 2")
        press(view, "routing", "stage", "Escape")


def test_minus_signs_mark_what_a_layer_suppresses(view):
    view.routing()
    view.page.locator("#routing [data-part=stage]").evaluate(
        """canvas => {
            const context = canvas.getContext('2d'), paint = context.fillRect.bind(context), cell = canvas.width / 4;
            window.marked = [];
            context.fillRect = (x, y, ...size) => {
                if (context.fillStyle === '#000000') marked.push(Math.floor(y / cell) * 4 + Math.floor(x / cell));
                paint(x, y, ...size);
            };
        }"""
    )
    for layer in range(3):
        view.page.evaluate("window.marked = []")
        view.page.locator("#routing .strip button").nth(layer).click()
        shares = view.state(
            "routing", f"Array.from({{ length: 16 }}, (_, i) => state.shares[3 * i + {layer}] / state.limit)"
        )
        assert view.page.evaluate("marked") == [token for token, share in enumerate(shares) if share <= -0.02]
    assert min(shares) < 0


def test_a_moving_mouse_is_not_read_out_and_quick_keys_once(view):
    view.routing()
    press(view, "routing", "stage", "Escape", "Home")
    said(view, "routing", "Token in row 1, column 1")
    view.page.evaluate(
        """() => {
            window.told = [];
            const live = document.querySelectorAll('#routing :is([aria-live], [role=status], output)');
            const watching = new MutationObserver((changes) => told.push(...changes));
            for (const node of live) watching.observe(node, { childList: true });
        }"""
    )
    x, y = centre(view, "stage")
    for step in range(8):
        view.page.mouse.move(x + 10 * step, y)
    view.page.locator("#routing [data-part=stage]").evaluate(
        """(stage, keys) => {
            for (const key of keys) stage.dispatchEvent(new KeyboardEvent('keydown', { key }));
        }""",
        ["Home", "ArrowRight", "ArrowRight", "ArrowDown"],
    )
    said(view, "routing", "Token in row 2, column 3")
    assert view.page.evaluate("told.length") == 1


def test_a_region_is_painted_by_keyboard(view):
    view.open("Intervene")
    view.page.wait_for_selector("#intervene figure img")
    view.page.locator("#intervene [data-part=size]").select_option("1")
    press(view, "intervene", "paint", "Enter")
    assert focused(view, "data-part") == "brush"
    for key in ("ArrowUp", "Space", "Shift+ArrowRight", "Shift+ArrowDown", "ArrowLeft"):
        view.page.keyboard.press(key)
    assert view.state("intervene", "[...state.region].sort((a, b) => a - b)") == [6, 7, 11]
    said(view, "intervene", "Row 3, column 3, not painted. Region: 3 of 16 tokens.")
    press(view, "intervene", "strength", "Home")
    expect(view.page.locator("#intervene [data-part=metrics]")).to_contain_text("in brackets")
    said(view, "intervene", "dB")
    assert focused(view, "aria-valuetext") == "0.00"
    press(view, "intervene", "clear", "Enter")
    assert view.state("intervene", "state.region.size") == 0
    assert focused(view, "data-part") == "paint"
    view.page.keyboard.press("Space")
    press(view, "intervene", "brush", "ArrowUp")
    assert view.state("intervene", "[state.painting, state.token]") == [False, 10]  # the page scrolls, as arrows do
    press(view, "intervene", "brush", "Space", "ArrowUp")
    assert view.state("intervene", "[state.painting, state.token]") == [True, 6]


def test_a_batch_by_keyboard(view):
    use(view, "Batch", "batch")
    bins = view.page.locator("#batch .bin")
    bins.first.focus()
    view.page.keyboard.press("Enter")
    expect(bins.first).to_have_attribute("aria-pressed", "true")
    assert focused(view, "aria-label").startswith("1 picture from")
    said(view, "batch", "1 of 2 pictures in the table.")
    press(view, "batch", "all", "Enter")
    expect(view.page.locator("#batch tbody tr")).to_have_count(2)
    assert focused(view, "class") == "bin"
    view.page.locator("#batch thead button").last.focus()
    for order in ("descending", "ascending"):
        view.page.keyboard.press("Space")
        assert view.page.evaluate("document.activeElement.closest('th').getAttribute('aria-sort')") == order


def test_a_sample_is_chosen_by_keyboard(view):
    view.open("Generate")
    sample = view.page.locator("#samples .sample").nth(6)
    sample.focus()
    view.page.keyboard.press("Enter")
    expect(sample).to_have_attribute("aria-pressed", "true")
    assert (focused(view, "data-row"), focused(view, "data-sample")) == ("1", "2")


def test_the_report_button_keeps_the_focus(view):
    with view.page.expect_download():
        press(view, "report", "make", "Enter")
    expect(view.page.locator("#report [data-part=make]")).to_have_attribute("aria-disabled", "false")
    assert focused(view, "data-part") == "make"
