"""A gallery: its reports, its index, and the index in a browser, opened from the disk."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import NEEDS_CHROMIUM
from conftest import ROOT, build
from PIL import Image
from playwright.sync_api import Page, expect
from test_encodings import decode

from drorae.cli import main
from drorae.explorer.batch import explore_batch
from drorae.explorer.reading import Reading
from drorae.images import open_photo
from drorae.viewers import gallery
from drorae.viewers.report import Frames, report
from drorae.viewers.values import frames_value, scaled_size

EXAMPLES = ROOT / "assets" / "examples"
NAMES = ("cat", "coffee", "rocket")
PHOTOS = '[data-part="photos"] > li'


@pytest.fixture(scope="module")
def site(tiny, tmp_path_factory) -> Path:
    """The gallery of three photos, by the command. Do not change it."""
    place = tmp_path_factory.mktemp("gallery")
    tiny.save_pretrained(place / "model")
    captions = {"cat.jpg": 'A cat, <looking> at "you"'}
    (place / "captions.json").write_text(json.dumps(captions), encoding="utf-8")
    photos = [str(EXAMPLES / f"{name}.jpg") for name in NAMES]
    given = ["--model", str(place / "model"), "--captions", str(place / "captions.json"), "--out", str(place / "site")]
    assert main(["gallery", *photos, *given]) == 0
    return place / "site"


@pytest.fixture(scope="module")
def rows(tiny):
    return {row.name: row for row in explore_batch([EXAMPLES / f"{name}.jpg" for name in NAMES], tiny)}


def cards(site: Path) -> dict[str, str]:
    """The HTML of every photo in the index, by name, in their order."""
    text = (site / "index.html").read_text(encoding="utf-8")
    return {re.search(r'data-name="([^"]*)"', each)[1]: each for each in re.findall(r"<li .*?</li>", text, re.S)}


def test_numbers_are_those_of_a_batch_and_the_largest_gain_is_first(site, rows):
    found = cards(site)
    assert list(found) == sorted(rows, key=lambda name: -rows[name].gain)
    for name, card in found.items():
        row = rows[name]
        assert float(re.search(r'data-gain="([^"]*)"', card)[1]) == pytest.approx(row.gain, abs=1e-4)
        assert float(re.search(r'data-harmed="([^"]*)"', card)[1]) == pytest.approx(row.harmed, abs=1e-4)
        assert f"<dd>{row.metrics['rae']['psnr']:.1f} dB</dd>" in card
        assert f"<dd>{row.gain:+.1f} dB</dd>" in card


def test_every_photo_has_its_thumbnail_and_its_report(site, tiny):
    for name in NAMES:
        with Image.open(site / "thumbnails" / f"{name}.webp") as thumbnail:
            assert thumbnail.size == (96, 32)
            found = np.asarray(thumbnail.convert("RGB")).astype(int)
        reading = Reading(open_photo(EXAMPLES / f"{name}.jpg"), tiny)
        wanted = np.stack(gallery.side_by_side(reading.routes))
        for place, panel in enumerate(np.split(found, 3, axis=1)):  # of a lossy file
            assert np.abs(panel - wanted).mean((1, 2, 3)).argmin() == place
        text = (site / "photos" / f"{name}.html").read_text(encoding="utf-8")
        assert f"{name}.jpg" in text
        assert "pictures at most 128 pixels wide or high, quality 90 of 100" in text


def test_captions_are_text_and_describe_the_thumbnail(site):
    card = cards(site)["cat.jpg"]
    assert '<p class="soft">A cat, &lt;looking&gt; at &quot;you&quot;</p>' in card
    panels = "the photo, what the last layer keeps, and what all layers keep of it, side by side"
    assert f'alt="A cat, &lt;looking&gt; at &quot;you&quot;: {panels}"' in card
    assert 'alt="rocket.jpg: the photo,' in cards(site)["rocket.jpg"]


def test_nothing_comes_from_elsewhere(site):
    for path in (site / "index.html", *(site / "photos").iterdir()):
        text = path.read_text(encoding="utf-8")
        asked = re.findall(
            r"""(?:src|href|srcset|action)=["']([^"']+)""", re.sub(r"<script>.*?</script>", "", text, flags=re.S)
        )
        outside = [each for each in asked if re.match(r"\w+:|//", each) and not each.startswith("data:")]
        links = ["https://arxiv.org/abs/2605.10780"] if path.name == "index.html" else []  # to be followed
        assert outside == links
        assert not re.search(r"@import|url\((?!\s*['\"]?(?:data:|#))", text)
    assert sorted(path.name for path in site.iterdir()) == ["index.html", "photos", "thumbnails"]


def test_pictures_of_interventions_are_smaller_and_their_numbers_are_not(cat_reading):
    *_, made = cat_reading.interventions()
    full, small = frames_value(cat_reading.routes, made), frames_value(cat_reading.routes, made, 16)
    assert (small["width"], small["height"], full["width"]) == (16, 16, 32)
    assert small["strengths"] == full["strengths"]
    columns = small["columns"]
    sheet = decode(small["sprite"])
    assert sheet.shape[1] == 16 * columns
    index = small["removed"][1]["index"]
    top, left = index // columns * 16, index % columns * 16
    wanted = np.asarray(Image.fromarray(made.removed[1].picture).resize((16, 16), Image.Resampling.LANCZOS))
    assert np.array_equal(sheet[top : top + 16, left : left + 16], wanted)
    assert len(frames_value(cat_reading.routes, made, 16, 50)["sprite"]) < len(small["sprite"]) < len(full["sprite"])
    assert (small["differs"], full["differs"]) == (False, True)
    assert frames_value(cat_reading.routes, made, 64) == full  # never enlarged
    assert scaled_size(300, 200, 150) == (150, 100)


def test_a_report_gets_the_best_quality_that_fits(cat_reading, monkeypatch):
    sizes = [len(report(cat_reading, "m", "p", frames=Frames(128, each)).encode()) for each in gallery.QUALITIES]
    assert sizes == sorted(sizes, reverse=True)
    for limit, quality in ((sizes[0], 90), (sizes[2], 65), (1, 45)):
        monkeypatch.setattr(gallery, "LIMIT", limit)
        assert f"quality {quality} of 100" in gallery.small_report(cat_reading, "m", "p")


def test_slugs_differ_wherever_files_are_kept():
    names = ["Cat.jpg", "cat.png", "a/cat.jpg", "Ünïcode ☃.jpg", "☃.jpg", "☃.png", "a.b.jpg"]
    assert gallery.slugs(names) == ["cat", "cat-2", "a-cat", "n-code", "photo", "photo-2", "a-b"]


def test_a_model_without_fusion_has_two_pictures_and_no_gain(tmp_path):
    reading = Reading(open_photo(EXAMPLES / "cat.jpg"), build(fusion=None))
    entry = gallery.entry(reading, "m", "cat.jpg", "cat", "cat.jpg")
    assert entry.size == (64, 32)
    assert "data-gain" not in gallery.photo_card(entry)
    assert gallery.summary([entry]) == "1 photo"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read (No such file or directory)."),
        ("[]", "must be JSON of sentences by file name"),
        ('{"cat.jpg": 3}', "must be JSON of sentences by file name"),
        ("{", "must be JSON of sentences by file name"),
        ('{"dog.jpg": "a dog"}', "speaks of 'dog.jpg', which is not among the pictures."),
    ],
)
def test_captions_that_are_none_are_a_sentence(tmp_path, capsys, content, sentence):
    if content is not None:
        (tmp_path / "captions.json").write_text(content)
    given = ["--captions", str(tmp_path / "captions.json"), "--out", str(tmp_path / "site")]
    assert main(["gallery", str(EXAMPLES / "cat.jpg"), *given]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


def test_a_bad_picture_leaves_the_others_and_none_is_overwritten(site, tmp_path, capsys):
    shutil.copy(EXAMPLES / "cat.jpg", tmp_path)
    (tmp_path / "bad.png").write_text("no picture")
    model = str(site.parent / "model")
    photos = [str(tmp_path / "bad.png"), str(tmp_path / "cat.jpg")]
    assert main(["gallery", *photos, "--model", model, "--out", str(tmp_path / "site")]) == 2
    told = capsys.readouterr()
    assert "bad.png" in told.err
    assert "1 photo, a mean gain of" in told.out
    assert list(cards(tmp_path / "site")) == ["cat.jpg"]
    assert main(["gallery", photos[1], "--model", model, "--out", str(tmp_path)]) == 2
    assert "holds 'cat.jpg', which could be overwritten; choose another folder." in capsys.readouterr().err


def test_twelve_photos_are_free_and_say_whose_they_are(tmp_path):
    program = [sys.executable, str(ROOT / ".github" / "gallery" / "photos.py"), str(tmp_path / "free")]
    subprocess.run(program, check=True)
    captions = json.loads((tmp_path / "free" / "captions.json").read_text(encoding="utf-8"))
    assert len(captions) == 12
    for name, caption in captions.items():
        assert open_photo(tmp_path / "free" / name).width >= 256
        assert caption.endswith((", CC0.", ", public domain."))
    assert subprocess.run(program, capture_output=True).returncode == 1


# in a browser


@pytest.fixture
def index(browser, site) -> Iterator[Page]:
    page = browser.new_page()
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto((site / "index.html").as_uri())
    yield page
    assert all(url.startswith("file:") for url in requests)
    page.close()


def names(page: Page) -> list[str]:
    return page.locator(f"{PHOTOS}:not([hidden])").evaluate_all("(all) => all.map((each) => each.dataset.name)")


def mark(function):
    for each in NEEDS_CHROMIUM:
        function = each(function)
    return function


@mark
def test_photos_are_sorted_and_filtered(index, rows):
    assert names(index) == sorted(rows, key=lambda name: -rows[name].gain)
    index.get_by_label("Sort by").select_option("harmed")
    assert names(index) == sorted(rows, key=lambda name: -rows[name].harmed)
    index.get_by_label("Sort by").select_option("name")
    assert names(index) == ["cat.jpg", "coffee.jpg", "rocket.jpg"]
    index.get_by_label("Find").fill("LOOKING")
    assert names(index) == ["cat.jpg"]
    expect(index.get_by_role("status")).to_have_text("1 of 3 photos")
    index.get_by_label("Find").fill("nothing like it")
    index.get_by_role("button", name="Show all").click()
    assert len(names(index)) == 3
    layer = str(rows["cat.jpg"].layer)
    index.get_by_label("Most weight").select_option(layer)
    assert set(names(index)) == {name for name, row in rows.items() if str(row.layer) == layer}


@mark
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_follows_the_visitor_s_colours(index, width, scheme):
    index.set_viewport_size({"width": width, "height": 844})
    index.emulate_media(color_scheme=scheme)
    assert index.evaluate("document.documentElement.scrollWidth") == width
    background = {"light": "rgb(250, 249, 247)", "dark": "rgb(14, 15, 17)"}[scheme]
    expect(index.locator("body")).to_have_css("background-color", background)  # the browser is told, and not waited for
    boxes = index.locator(PHOTOS).evaluate_all("(all) => all.map((each) => each.getBoundingClientRect().width)")
    assert min(boxes) > 340
    assert not index.evaluate("[...document.images].some((each) => !each.alt)")
    index.emulate_media(color_scheme="light")


@mark
def test_a_photo_leads_to_its_report(index):
    index.locator(f"{PHOTOS} a").first.click()
    index.wait_for_selector("html[data-painted]", state="attached")
    assert "/photos/" in index.url
    index.evaluate("store.set({off: [2]})")  # a picture that is in the file, and smaller than its place
    index.wait_for_function("store.changedPicture?.()")
    assert index.evaluate("store.changedPicture().width") == 32
