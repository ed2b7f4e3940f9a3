"""The tab Batch in a real browser."""

from __future__ import annotations

import csv

import drorae.ui.batch_tab
import numpy as np
import pytest
from browser import NEEDS_CHROMIUM, Watched, contrast, shown_pixels
from conftest import ROOT
from gate import PATIENCE, Gate
from PIL import Image
from playwright.sync_api import expect

import drorae.explorer.batch
from drorae.explorer.batch import explore_batch, to_csv
from drorae.explorer.explore import explore
from drorae.images import load_image

pytestmark = NEEDS_CHROMIUM
EXAMPLES = [ROOT / "assets" / "examples" / f"{name}.jpg" for name in ("cat", "coffee", "galaxies")]


def opened(browser, url, width=1280, query="") -> Watched:
    view = Watched(browser, url, width, query)
    view.open("Batch")
    return view


def explore_all(view: Watched, files) -> None:
    view.page.locator("#batch-files input[type=file]").set_input_files(files)
    expect(view.page.locator("#batch-files")).to_contain_text(files[-1].stem)
    view.page.get_by_role("button", name="Explore all").click()
    expect(view.page.locator("#batch tbody tr")).to_have_count(len(files))
    expect(view.page.locator("#batch tbody img")).to_have_count(len([f for f in files if f.suffix == ".jpg"]))


def names(view: Watched) -> list[str]:
    return view.page.locator("#batch tbody tr th").all_inner_texts()


def test_a_batch_is_sorted_filtered_saved_and_opened(browser, tiny_url, tiny, tmp_path):
    view = opened(browser, tiny_url)
    page = view.page
    bad = tmp_path / "notes.png"
    bad.write_text("no picture")
    files = [*EXAMPLES, bad]
    explore_all(view, files)
    rows = list(explore_batch(files, tiny))
    good = sorted(rows[:3], key=lambda row: -row.gain)
    assert names(view) == [*(row.name for row in good), "notes.png"]  # best first; what has no number last
    expect(page.locator("#batch td.error")).to_contain_text("is not a picture that can be read")
    page.get_by_role("button", name="worst gain first").click()
    assert names(view) == [*(row.name for row in reversed(good)), "notes.png"]
    page.get_by_role("button", name="most harmed first").click()
    assert names(view)[:3] == [row.name for row in sorted(rows[:3], key=lambda row: -row.harmed)]
    cells = page.locator("#batch tbody tr", has_text="coffee.jpg").locator("td").all_inner_texts()
    assert float(cells[2]) == pytest.approx(rows[1].metrics["drorae"]["psnr"], abs=0.006)
    assert int(cells[-1]) == rows[1].layer

    page.locator("#batch [data-part=search]").fill("COFF")
    assert names(view) == ["coffee.jpg"]
    page.locator("#batch [data-part=search]").fill("")
    page.locator("#batch rect").last.click()
    assert good[0].name in names(view)
    assert good[-1].name not in names(view)
    page.get_by_role("button", name="Show all gains").click()
    assert len(names(view)) == 4

    with page.expect_download() as download:
        page.locator("#batch [data-part=csv]").click()
    download.value.save_as(tmp_path / "rows.csv")
    assert (tmp_path / "rows.csv").read_text() == to_csv(rows)
    assert len(list(csv.reader((tmp_path / "rows.csv").open()))) == 5

    # other files are chosen and not explored yet: a row still opens its own picture
    page.locator("#batch-files").get_by_label("Clear").first.click()
    page.locator("#batch-files input[type=file]").set_input_files(EXAMPLES[:1])
    expect(page.locator("#batch-files")).not_to_contain_text("galaxies")
    page.locator("#batch tbody tr", has_text="galaxies.jpg").get_by_role("button").click()
    expected = explore(load_image(EXAMPLES[2]), tiny)
    expect(page.locator("#compare tr[data-route=drorae] td").first).to_contain_text(
        f"{expected.metrics['drorae']['psnr']:.2f}"
    )
    assert np.array_equal(shown_pixels(page, "#compare figure[data-route=rae] img"), expected.pictures["rae"])
    with page.expect_download() as download:
        page.get_by_role("button", name="Save report").click()
    assert download.value.suggested_filename == "drorae-galaxies.html"  # under its own name
    view.check()
    page.close()


def test_stop_keeps_the_rows_and_frees_the_model(browser, tiny_url, tmp_path, monkeypatch, cancelling):
    pictures = Gate()

    def held(*args, **kwargs):
        pictures.enter()
        return explore(*args, **kwargs)

    monkeypatch.setattr(drorae.explorer.batch, "explore", held)
    monkeypatch.setattr(drorae.ui.batch_tab, "SECONDS", 0)  # every row is sent when it is there
    view = opened(browser, tiny_url)
    files = [tmp_path / f"{number:03}.png" for number in range(6)]
    for file in files:
        Image.effect_noise((64, 64), 60).convert("RGB").save(file)
    view.page.locator("#batch-files input[type=file]").set_input_files(files)
    expect(view.page.locator("#batch-files")).to_contain_text("005")
    rows, status = view.page.locator("#batch tbody tr"), view.page.locator("#batch-status")
    view.page.get_by_role("button", name="Explore all").click()
    pictures.let(2)
    expect(rows).to_have_count(2)
    expect(view.page.locator("#batch [data-part=progress]")).to_be_visible()
    cancel = view.hold_cancel()
    view.page.get_by_role("button", name="Stop").click()
    expect(status).to_contain_text("Stopped.")
    pictures.let(1)  # the batch does not know of it yet, and writes over that
    expect(rows).to_have_count(3)
    expect(status).not_to_contain_text("Stopped.")
    pictures.wait_for(4)
    cancel.release()
    assert cancelling.wait(PATIENCE)
    pictures.open()  # the fourth comes to its end, and no other is begun
    expect(status).to_contain_text("Stopped.")
    expect(view.page.get_by_role("button", name="Explore all")).to_be_enabled()
    expect(view.page.locator("#batch [data-part=progress]")).to_be_hidden()
    expect(rows).to_have_count(3)
    # the next picture is answered, not after the batch
    view.page.locator("#picture input[type=file]").set_input_files(EXAMPLES[1])
    view.page.wait_for_function(
        "() => { const n = [...document.querySelectorAll('#compare, #compare *')].find((e) => e.__compare);"
        " return n.__compare.value.example === 'coffee'; }"
    )
    assert pictures.arrived == 4
    expect(rows).to_have_count(3)
    view.check()
    view.page.close()


def test_nothing_chosen_is_one_sentence(browser, tiny_url):
    view = opened(browser, tiny_url)
    view.page.get_by_role("button", name="Explore all").click()
    expect(view.page.locator("#batch-status .error")).to_contain_text("Choose pictures first")
    view.check()
    view.page.close()


@pytest.mark.parametrize(("width", "theme"), [(1280, "dark"), (390, "light")])
def test_the_tab_fits_and_is_readable(browser, tiny_url, width, theme):
    view = opened(browser, tiny_url, width, f"?__theme={theme}")
    explore_all(view, EXAMPLES)
    assert view.page.evaluate("document.documentElement.scrollWidth") <= width
    for part in (".headline", ".hint", "tbody td"):
        assert contrast(view.page, f"#batch {part}") >= 4.5
    view.check()
    view.page.close()
