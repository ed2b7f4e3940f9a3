"""Keyboard, screen readers, contrast and touch, in a real browser; axe-core looks at every view."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import NEEDS_CHROMIUM, Watched
from conftest import ROOT, served
from playwright.sync_api import expect

from drorae.ui.page import VIEWS, build_demo

pytestmark = NEEDS_CHROMIUM
AXE = Axe()
EXAMPLES = [ROOT / "assets" / "examples" / f"{name}.jpg" for name in ("cat", "galaxies")]
ALL = (*VIEWS, "study", "about")
# what is ours and shown with every view; Gradio's own parts are Gradio's to mend
AROUND = ("#bar", "#strip")
# targets with a side shorter than so many pixels, but for rounding; buttons within a text have its height, and the
# target of a field is its frame
SMALL = """([root, least]) =>
    [...document.querySelectorAll(`${root} .drorae :is(button, .btn, .field, input[type=range]):not(.quiet, .skip)`)]
    .map(node => [node.getBoundingClientRect(), node.outerHTML.slice(0, 120)])
    .filter(([box]) => box.width && Math.min(box.width, box.height) < least - 0.1)
    .map(([, text]) => text)"""


@pytest.fixture(scope="module")
def url(pipeline, tmp_path_factory) -> Iterator[str]:
    """A page with all views filled, those of a generator, too."""
    generator = tmp_path_factory.mktemp("generator")
    pipeline.save_pretrained(generator)
    with served(build_demo(pipeline.autoencoder, "tiny", str(generator), switch=True)) as address:
        yield address


@pytest.fixture(scope="module")
def view(browser, url) -> Iterator[Watched]:
    """One page for all tests by keyboard: a page takes longer to open than a test takes."""
    watched = Watched(browser, url, width=1440)
    watched.painted()
    yield watched
    watched.check()
    watched.page.close()


def use(view: Watched, name: str) -> None:
    """Open a view and leave it in a state with as much to see as there is."""
    page = view.page
    view.open(name)
    if name in ("picture", "weights"):
        page.evaluate("parts.point([0, 0]); parts.pin()")
    elif name == "layers":
        page.evaluate("parts.release()")
        page.wait_for_function("store.data('frames')?.done === store.data('frames')?.total && store.data('frames')")
        page.locator("#layers .toggle").first.click()
    elif name == "photos":
        read(view)
    elif name == "study":
        page.wait_for_selector("#study-geneval .main-svg", state="attached")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def read(view: Watched) -> None:
    """Let Many photos read two."""
    view.open("photos")
    view.page.locator("#photos [data-part=files]").set_input_files(EXAMPLES)
    expect(view.page.locator("#photos [data-part=again]")).to_be_visible()
    expect(view.page.locator("#photos tbody tr")).to_have_count(len(EXAMPLES))


def press(view: Watched, selector: str, *keys: str) -> None:
    view.page.locator(selector).first.focus()
    for key in keys:
        view.page.keyboard.press(key)


def focused(view: Watched, attribute: str) -> str | None:
    return view.page.evaluate("name => document.activeElement.getAttribute(name)", attribute)


def said(view: Watched, text: str) -> None:
    expect(view.page.locator("#said")).to_contain_text(text)


def violations(view: Watched, *selectors: str) -> list[str]:
    found = AXE.run(view.page, context={"include": [[selector] for selector in selectors]}).response["violations"]
    return [
        f"{rule['impact']} {rule['id']}: {node['html'][:160]}"
        for rule in found
        if rule["impact"] != "minor"
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize(
    ("theme", "width"),
    [
        ("light", 1440),
        ("dark", 390),
        pytest.param("light", 390, marks=pytest.mark.slow),  # its colours and its layout are in the two above
        pytest.param("dark", 1440, marks=pytest.mark.slow),
    ],
)
def test_axe_finds_nothing_in_any_view(browser, url, theme, width):
    view = Watched(browser, url, width, f"?__theme={theme}")
    view.painted()
    view.know("tiles")
    found = {}
    for name in ALL:
        use(view, name)
        around = [selector for selector in AROUND if view.page.locator(selector).is_visible()]
        found[name] = violations(view, f"#{name}", *around)
        assert view.page.evaluate("document.documentElement.scrollWidth") <= width
        found[name] += view.page.evaluate(SMALL, [f"#{name}", 24])
    assert found == {name: [] for name in ALL}
    view.check()
    view.page.close()


def test_every_view_opens_by_its_key_and_by_its_link(view):
    page = view.page
    page.locator("#bar [data-part=theme]").focus()
    for key, name in {"2": "layers", "5": "generate", "1": "picture"}.items():
        page.keyboard.press(key)
        expect(page.locator(f"#{name}")).to_be_visible()
    for name in ("photos", "study", "about"):
        press(view, f"#bar a[data-view={name}]", "Enter")
        expect(page.locator(f"#{name}")).to_be_visible()
        assert focused(view, "aria-current") == "page"


def test_many_photos_by_keyboard(view):
    page = view.page
    read(view)
    said(view, "of 2 photos" if page.locator("#photos u").count() else "photos")
    bins = page.locator("#photos .bins button:not([data-none])")
    bins.first.focus()
    page.keyboard.press("Enter")
    expect(bins.first).to_have_attribute("aria-pressed", "true")
    shown = page.locator("#photos tbody tr").count()
    assert focused(view, "aria-label").startswith(f"{shown} photo")
    said(view, f"{shown} of 2 rows in the table." if shown < 2 else "2 rows in the table.")
    press(view, "#photos [data-part=all]", "Enter")
    expect(page.locator("#photos tbody tr")).to_have_count(2)
    assert focused(view, "aria-pressed") == "false"  # the button is gone, and the column has the focus again
    page.locator("#photos thead button").last.focus()
    for order in ("descending", "ascending"):
        page.keyboard.press("Space")
        assert page.evaluate("document.activeElement.closest('th').getAttribute('aria-sort')") == order
    page.locator("#photos [data-part=search]").focus()
    page.keyboard.type("1d5")  # letters and digits that are keys elsewhere
    assert page.evaluate("[store.state.view, document.body.classList.contains('dark')]") == ["photos", False]
    expect(page.locator("#photos [data-part=rowcount]")).to_have_text("0 of 2 rows")
    page.locator("#photos [data-part=search]").fill("")
    press(view, "#photos tbody button", "Enter")
    page.wait_for_function("store.state.view === store.state.explored && store.photo()?.name.endsWith('.jpg')")


def test_a_word_explains_itself_on_focus(view):
    page = view.page
    view.open("picture")
    press(view, "#picture .term")
    tip = page.locator(".drorae.tip")
    expect(tip).to_be_visible()
    assert tip.inner_text() in focused(view, "aria-label")
    page.keyboard.press("Escape")
    expect(tip).to_have_count(0)
    # where the photo stands among others, too
    density = {"from": 0, "to": 2, "counts": [1, 2, 1]}
    value = {"size": 32, "gain": 1, "photos": 200, "below": 150, "density": density}
    page.evaluate("(value) => store.receive('standing', { key: store.state.photo, value })", value)
    press(view, "#picture .sure .term")
    expect(tip).to_contain_text("Every photo the model never saw")
    page.keyboard.press("Escape")


def test_the_menu_is_walked_by_arrows_and_gives_the_focus_back(view):
    page = view.page
    press(view, "#bar [data-part=share]", "Enter")
    items = page.locator("#bar [data-part=menu] [role=menuitem]")
    expect(items.first).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(items.nth(1)).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    expect(items.last).to_be_focused()
    page.keyboard.press("Escape")
    assert focused(view, "data-part") == "share"


def test_the_numbers_of_a_chart_are_reached_by_keyboard(view):
    view.open("study")
    accordion = view.page.get_by_role("button", name="Numbers and sources").first
    accordion.focus()
    view.page.keyboard.press("Enter")
    expect(view.page.locator("#study table").first).to_be_visible()
