"""A page in bf16: close to fp32, in every kind, and it says so; without being asked it computes in fp32."""

import copy

import numpy as np
import pytest
import torch
from browser import NEEDS_CHROMIUM
from conftest import ROOT, build
from playwright.sync_api import expect
from test_encodings import decode

from drorae.bundled import EXAMPLE_NAMES
from drorae.checkpoints import CheckpointError
from drorae.devices import multiplies_bf16, page_precision, precision_name
from drorae.errors import DRoRAEError
from drorae.explorer.reading import Reading
from drorae.explorer.sampling import Request, sample_to_end
from drorae.images import open_photo
from drorae.pretrained.adapter import cast_weights
from drorae.ui import app
from drorae.ui.about_tab import facts_text
from drorae.ui.generators import CLASS, TEXT, local_generator
from drorae.ui.models import Shelf, model_config, model_line
from drorae.ui.photo import Photos
from drorae.viewers.report import report

CAT = ROOT / "assets" / "examples" / "cat.jpg"
WISH = {"key": "cat", "example": "cat"}
PSNR, LEVELS, WORST = 0.05, 1.0, 8  # dB, and 8-bit levels of 255: how far bf16 may be from fp32


@pytest.fixture(scope="module")
def half(embedded):
    """The shipped model in bf16. Do not change it."""
    return cast_weights(copy.deepcopy(embedded), torch.bfloat16)


@pytest.fixture(scope="module")
def tiny_half():
    """A random model in bf16, with statistics. Do not change it."""
    model = build(finetuned_decoder=True)
    model.set_statistics(torch.rand(48, 4, 4) + 0.5, torch.randn(48, 4, 4))
    return cast_weights(model, torch.bfloat16)


def test_bf16_is_within_its_bounds_of_fp32(embedded, half):
    photo = open_photo(CAT)
    full, short = (Reading(photo, model).routes for model in (embedded, half))
    assert np.array_equal(full.original, short.original)  # the photo is the photo
    differs = False
    for route, numbers in full.metrics.items():
        difference = np.abs(full.pictures[route].astype(int) - short.pictures[route])
        differs |= bool(difference.any())
        assert difference.mean() < LEVELS, route
        assert difference.max() <= WORST, route
        assert short.metrics[route]["psnr"] == pytest.approx(numbers["psnr"], abs=PSNR), route
        assert short.metrics[route]["ssim"] == pytest.approx(numbers["ssim"], abs=0.005), route
    assert differs  # or it was not bf16


def test_every_kind_works_in_bf16(tiny_half):
    photos = Photos(Shelf(tiny_half, "half", open_to_all=False))
    full = Photos(Shelf(cast_weights(copy.deepcopy(tiny_half), torch.float32), "full", open_to_all=False))
    routes, expected = photos.routes(WISH), full.routes(WISH)
    assert np.array_equal(decode(routes["pictures"]["original"]), decode(expected["pictures"]["original"]))
    for route, numbers in expected["metrics"].items():
        assert routes["metrics"][route]["psnr"] == pytest.approx(numbers["psnr"], abs=0.1)
    assert photos.tiles(WISH)["psnr"] == pytest.approx(full.tiles(WISH)["psnr"], abs=0.1)
    *_, frames = photos.frames(WISH)
    *_, wanted = full.frames(WISH)
    for kind in ("strengths", "removed", "alone", "experts"):
        psnrs = [[frame["psnr"] for frame in each[kind]] for each in (frames, wanted)]
        assert psnrs[0] == pytest.approx(psnrs[1], abs=0.2)
    painted = photos.intervene({**WISH, "beta": 0.7, "tokens": [1]})
    assert painted["psnr"] == pytest.approx(full.intervene({**WISH, "beta": 0.7, "tokens": [1]})["psnr"], abs=0.1)
    assert len(photos.similarity({**WISH, "token": 3})["photos"]) == 1
    *_, column = photos.tokenizers({**WISH, "id": "mean-2"})
    assert decode(column["columns"]["mean-2"]["picture"]).shape == (32, 32, 3)
    assert photos.arrays(WISH)["base64"]
    assert "bfloat16 on cpu" in photos.report(WISH)["text"]


def test_generators_compute_as_the_page_does(pipeline, text_pipeline, tmp_path):
    autoencoder = cast_weights(copy.deepcopy(pipeline.autoencoder), torch.bfloat16)
    for kind, made, subject in ((CLASS, pipeline, "church"), (TEXT, text_pipeline, "a church")):
        made.save_pretrained(tmp_path / kind)
        generator = local_generator(str(tmp_path / kind), kind, autoencoder)
        loaded = generator.load()
        assert loaded.denoiser.dtype == torch.bfloat16
        assert loaded.autoencoder is autoencoder
        request = Request(subject, 0, 1, 2, "cfg", 1.5, compare=False)
        (picture,) = sample_to_end(loaded, request, "x").rows[0].pictures["finetuned"]
        assert picture.shape == (32, 32, 3)


@pytest.mark.slow
def test_models_that_visitors_load_compute_in_it_too(tiny_half, tiny, tmp_path):
    tiny.save_pretrained(tmp_path)
    shelf = Shelf(tiny_half, "half", open_to_all=True)
    list(shelf.load(str(tmp_path)))
    assert shelf.get(str(tmp_path)).dtype == torch.bfloat16


def test_the_page_says_so_where_it_names_the_model(embedded, half):
    for model, said in ((embedded, False), (half, True)):
        assert (" in bf16, " in facts_text(model, "x")) == said
        assert (" in bf16 on the CPU" in model_line(model, "x")) == said
        assert model_config(Shelf(model, "x", open_to_all=False), "x")["precision"] == ("bf16" if said else "fp32")


@NEEDS_CHROMIUM[0]
@NEEDS_CHROMIUM[1]
@pytest.mark.parametrize("said", [False, True])
def test_it_stands_under_the_photo(browser, tiny, tiny_half, tmp_path, said):
    text = report(Reading(open_photo(CAT), tiny_half if said else tiny), "m", "cat.jpg")
    (tmp_path / "report.html").write_text(text, encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    page.wait_for_selector("html[data-painted]", state="attached")
    note = page.locator("#picture .fig .note").first
    expect(note).to_contain_text("the encoder is shown")
    assert ("Computed in bf16" in note.inner_text()) == said
    page.close()


def test_what_ships_was_computed_in_fp32_and_is_used_then_only(embedded, half):
    bundles = [model_config(Shelf(each, "x", open_to_all=False), "x")["bundles"] for each in (embedded, half)]
    assert all(bundles[0][name] for name in EXAMPLE_NAMES)
    assert not any(bundles[1].values())


@pytest.mark.parametrize(("value", "wanted"), [(None, "fp32"), ("", "fp32"), ("fp32", "fp32"), ("bf16", "bf16")])
def test_the_variable_decides(monkeypatch, value, wanted):
    monkeypatch.delenv("DRORAE_PRECISION", raising=False)
    if value is not None:
        monkeypatch.setenv("DRORAE_PRECISION", value)
    assert precision_name(page_precision()) == wanted


def test_another_value_is_one_sentence_before_anything_is_loaded(monkeypatch, capsys):
    monkeypatch.setattr(app, "load_tokenizer", lambda name: pytest.fail("it was loaded"))
    monkeypatch.setenv("DRORAE_PRECISION", "float16")
    with pytest.raises(DRoRAEError):
        page_precision()
    assert app.main([]) == 2
    assert capsys.readouterr().err == "DRORAE_PRECISION is fp32 or bf16, not 'float16'.\n"


@pytest.mark.parametrize("value", ["fp32", "bf16"])
def test_the_page_starts_in_it(monkeypatch, capsys, tiny, tmp_path, value):
    tiny.save_pretrained(tmp_path)
    monkeypatch.setenv("DRORAE_PRECISION", value)

    def stop(model, *_, **__):
        raise CheckpointError(f"the page is in {precision_name(model.dtype)}")

    monkeypatch.setattr(app, "build_demo", stop)
    assert app.main(["--model", str(tmp_path)]) == 2
    *slow, last = capsys.readouterr().err.splitlines()
    assert last == f"the page is in {value}"
    expected = value == "bf16" and not multiplies_bf16(app.best_device())
    assert [line for line in slow if "slower than fp32" in line] == (slow if expected else [])
    assert len(slow) == expected
