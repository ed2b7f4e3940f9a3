"""Many photos in a real browser: sent one by one, read row by row, sorted, filtered, kept, opened."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import NEEDS_CHROMIUM, Watched, canvas_pixels, contrast
from conftest import ROOT
from gate import Gate, come_to
from PIL import Image
from playwright.sync_api import expect

import drorae.explorer.batch
from drorae.explorer.batch import explore_batch, to_csv
from drorae.explorer.explore import explore
from drorae.images import load_image
from drorae.ui import many_photos

pytestmark = NEEDS_CHROMIUM
EXAMPLES = [ROOT / "assets" / "examples" / f"{name}.jpg" for name in ("cat", "coffee", "galaxies")]
MINUS = "\N{MINUS SIGN}"
ROWS = "#photos [data-part=rows] tr"

# what a browser makes of files and folders that are dropped; scripts cannot make it themselves
DROP = """([names, content]) => {
    const file = (name) => new File([Uint8Array.from(content)], name, { type: "image/jpeg" });
    const leaf = (path) => ({
        isFile: true, fullPath: path, file: (found) => found(file(path.split("/").pop())),
    });
    let parts = [names.map((name) => leaf(`/folder/${name}`)), []];
    const folder = { isFile: false, createReader: () => ({ readEntries: (found) => found(parts.shift()) }) };
    const event = new Event("drop", { bubbles: true, cancelable: true });
    event.dataTransfer = { types: ["Files"], items: [{ webkitGetAsEntry: () => folder }], files: [] };
    document.querySelector("#bar .logo").dispatchEvent(event);
    return event.defaultPrevented;
}"""


@pytest.fixture(scope="module")
def home(browser, tiny_url) -> Iterator[Watched]:
    """A page that takes longer to open than a test takes."""
    with Watched(browser, tiny_url, 1440, "?tab=photos") as watched:
        watched.page.wait_for_selector("#photos", state="visible")
        yield watched


@pytest.fixture
def view(home) -> Iterator[Watched]:
    """Many photos, before any was chosen."""
    home.page.set_viewport_size({"width": 1440, "height": 900})
    home.open("photos")
    if part(home, "more").is_visible():
        part(home, "more").click()
    part(home, "search").evaluate("(node) => { node.value = ''; node.dispatchEvent(new Event('input')); }")
    yield home
    home.check()


def part(view: Watched, name: str):
    return view.page.locator(f"#photos [data-part={name}]")


def give(view: Watched, files: list[Path]) -> None:
    """Choose files, and wait until all were read."""
    part(view, "files").set_input_files(files)
    expect(part(view, "again")).to_be_visible()
    expect(view.page.locator(ROWS)).to_have_count(len(files))


def names(view: Watched) -> list[str]:
    return view.page.locator(f"{ROWS} th span").all_inner_texts()


def sort(view: Watched, key: str) -> None:
    view.page.locator(f"#photos thead th[data-key={key}] button").click()


def test_rows_are_sorted_filtered_kept_and_opened(view, tiny, tmp_path):
    page = view.page
    bad = tmp_path / "notes.png"
    bad.write_text("no picture")
    files = [*EXAMPLES, bad]
    give(view, files)
    rows = list(explore_batch(files, tiny))
    good = sorted(rows[:3], key=lambda row: -row.gain)
    assert names(view) == [*(row.name for row in good), "notes.png"]  # best first; what has no number last
    expect(page.locator("#photos td.bad")).to_contain_text("is not a picture that can be read")
    expect(part(view, "rowcount")).to_have_text("4 rows")
    expect(part(view, "subtitle")).to_contain_text("1 file could not be read.")
    closer = sum(row.gain > 0 for row in good)
    expect(part(view, "headline")).to_contain_text({0: "none of 3", 3: "all 3"}.get(closer, f"{closer} of 3"))
    sort(view, "gain")
    assert names(view) == [*(row.name for row in reversed(good)), "notes.png"]
    sort(view, "harmed")
    assert names(view)[:3] == [row.name for row in sorted(rows[:3], key=lambda row: -row.harmed)]
    sort(view, "name")
    assert names(view) == ["cat.jpg", "coffee.jpg", "galaxies.jpg", "notes.png"]

    cells = page.locator(ROWS, has_text="coffee.jpg").locator("td").all_inner_texts()
    psnr = [rows[1].metrics[route]["psnr"] for route in ("rae", "phase2", "drorae")]
    assert [float(text.replace(MINUS, "-")) for text in cells[:4]] == pytest.approx([*psnr, rows[1].gain], abs=0.0501)
    assert cells[4:] == [f"{100 * rows[1].harmed:.0f} %", f"layer {rows[1].layer}"]
    mean = part(view, "mean").locator("th, td").all_inner_texts()
    assert mean[0] == "Mean of 3 photos"  # the bad one is not counted
    assert float(mean[4].replace(MINUS, "-")) == pytest.approx(np.mean([row.gain for row in good]), abs=0.0501)

    part(view, "search").fill("COFF")
    assert names(view) == ["coffee.jpg"]
    expect(part(view, "rowcount")).to_have_text("1 of 4 rows")
    part(view, "search").fill("")
    counts = part(view, "bins").locator("button span").all_inner_texts()
    assert sum(int(count) for count in counts if count) == 3
    column = part(view, "bins").locator("button:not([data-none])").last
    column.click()
    assert good[0].name in names(view)
    assert set(names(view)).isdisjoint({"notes.png"})
    assert len(names(view)) == int(column.locator("span").inner_text())
    part(view, "all").click()
    assert len(names(view)) == 4

    with page.expect_download() as download:
        part(view, "csv").click()
    download.value.save_as(tmp_path / "rows.csv")
    assert (tmp_path / "rows.csv").read_text() == to_csv(rows)
    assert len(list(csv.reader((tmp_path / "rows.csv").open()))) == 5

    before = len(view.requests)
    sort(view, "rae")
    part(view, "search").fill("gal")
    assert len(view.requests) == before  # all of it asks for nothing
    page.locator(ROWS).get_by_role("button", name="galaxies.jpg").click()
    page.wait_for_function("store.state.view === 'picture' && store.photo()?.name === 'galaxies.jpg'")
    view.know("routes")
    expected = explore(load_image(EXAMPLES[2]), tiny, interventions=False)
    page.evaluate("new Promise(requestAnimationFrame).then(() => new Promise(requestAnimationFrame))")
    page.wait_for_function("!document.querySelector('#picture .shot.waits')")
    shown = canvas_pixels(page, "#picture [data-part=stage] .fig >> nth=1 >> canvas.px >> nth=0")
    assert np.array_equal(shown, expected.pictures["rae"])
    page.go_back()
    expect(page.locator(ROWS)).to_have_count(1)  # all is as it was left


def test_a_folder_is_dropped_anywhere_and_only_its_pictures_are_taken(view):
    content = list(EXAMPLES[0].read_bytes())
    assert view.page.evaluate(DROP, [["b.jpg", "a.JPG", "notes.txt", ".hidden.jpg"], content])
    expect(view.page.locator(ROWS)).to_have_count(2)
    expect(part(view, "again")).to_be_visible()
    sort(view, "name")
    if names(view)[0] != "a.JPG":
        sort(view, "name")
    assert names(view) == ["a.JPG", "b.jpg"]
    assert view.page.evaluate("store.state.view") == "photos"
    part(view, "more").click()
    assert view.page.evaluate(DROP, [["notes.txt"], content])
    expect(part(view, "problem")).to_have_text("There are no pictures in there. Choose others.")


def test_examples_are_rows_that_open_as_examples(view):
    part(view, "examples").click()
    expect(part(view, "again")).to_be_visible()
    assert sorted(names(view)) == sorted(view.page.evaluate("store.config.examples.map(({ title }) => title)"))
    view.page.locator(ROWS).get_by_role("button", name="rocket").click()
    view.page.wait_for_function("store.state.photo === 'rocket' && store.state.view === store.state.explored")


def test_a_file_that_cannot_be_sent_is_a_row_and_the_others_are_read(view, tmp_path):
    refused = []

    def refuse_second(route) -> None:
        refused.append(route)
        route.fulfill(status=413, json={"detail": "too large"}) if len(refused) == 2 else route.continue_()

    view.page.route("**/upload*", refuse_second)
    give(view, EXAMPLES)
    view.page.unroute("**/upload*")
    expect(view.page.locator("#photos td.bad")).to_have_text(
        "It could not be sent. It may be larger than this page takes."
    )
    expect(part(view, "subtitle")).to_contain_text("1 file could not be read.")
    sort(view, "gain")
    assert names(view)[-1] == "coffee.jpg"  # what has no number comes last
    assert all("413" in text for text in view.complaints)  # the browser's own words about the refusal
    view.complaints.clear()
    part(view, "again").click()
    expect(view.page.locator("#photos td.bad")).to_have_count(0)
    expect(view.page.locator(ROWS)).to_have_count(3)


def test_too_many_are_one_sentence_and_nothing_is_sent(view):
    before = len(view.requests)
    part(view, "root").evaluate(
        """(root) => {
            const all = new DataTransfer();
            for (let i = 0; i < 501; i += 1) all.items.add(new File(["x"], `${i}.png`));
            const input = root.querySelector("[data-part=files]");
            input.files = all.files;
            input.dispatchEvent(new Event("change"));
        }"""
    )
    expect(part(view, "problem")).to_have_text("501 photos are too many; choose at most 500.")
    assert len(view.requests) == before


def test_stop_keeps_the_rows_and_ends_the_work(view, tmp_path, monkeypatch, cancelling):
    pictures = Gate()

    def held(*args, **kwargs):
        pictures.enter()
        return explore(*args, **kwargs)

    monkeypatch.setattr(drorae.explorer.batch, "explore", held)
    monkeypatch.setattr(many_photos, "SECONDS", 0)  # every row is sent when it is there
    files = [tmp_path / f"{number:03}.png" for number in range(6)]
    for file in files:
        Image.effect_noise((64, 64), 60).convert("RGB").save(file)
    rows = view.page.locator(ROWS)
    part(view, "files").set_input_files(files)
    pictures.let(2)
    expect(rows).to_have_count(2)
    expect(part(view, "count")).to_have_text("2 of 6 photos")
    expect(part(view, "progress")).to_have_attribute("aria-valuenow", "2")
    cancel = view.hold_cancel()
    part(view, "stop").click()
    expect(part(view, "subtitle")).to_contain_text("Stopped before all 6 photos were read.")
    pictures.let(1)  # the server does not know of it yet
    pictures.wait_for(4)
    cancel.release()
    come_to(cancelling, "what was made was cancelled")
    pictures.open()  # the fourth comes to its end, and no other is begun
    part(view, "more").click()
    give(view, EXAMPLES[:1])  # what comes next is answered
    assert pictures.arrived == 5
    assert names(view) == ["cat.jpg"]


@pytest.mark.parametrize(("width", "theme"), [(1440, "dark"), (390, "light")])
def test_it_fits_and_is_readable(view, width, theme):
    page = view.page
    page.set_viewport_size({"width": width, "height": 844})
    page.evaluate(f"document.body.classList.toggle('dark', {str(theme == 'dark').lower()})")
    many = [EXAMPLES[i % 3] for i in range(12)]
    part(view, "files").set_input_files(many)
    expect(part(view, "again")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for selector in ("h1", "[data-part=subtitle]", "tbody td", "thead button", ".bins i", "tfoot td"):
        assert contrast(page, f"#photos {selector}") >= 4.5
    scrolled = part(view, "scroll").evaluate("(node) => node.scrollHeight > node.clientHeight + 40")
    assert scrolled
    inside = part(view, "scroll").bounding_box()
    mean = part(view, "mean").locator("th").bounding_box()
    assert inside["y"] < mean["y"] < inside["y"] + inside["height"]  # it stands still at the lower edge
    heights = page.locator(f"{ROWS} th span").evaluate_all("(all) => all.map((node) => node.offsetHeight)")
    assert max(heights) < 30  # no name breaks in two
    page.evaluate("document.body.classList.remove('dark')")
