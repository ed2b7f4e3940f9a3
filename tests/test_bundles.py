"""The results that the examples ship with are those of the embedded model, and belong to it alone."""

from __future__ import annotations

import base64
import gzip
import io
import json

import numpy as np
import pytest
from PIL import Image

from drorae import AutoencoderDRoRAE
from drorae.bundled import EXAMPLE_NAMES, bundled_path
from drorae.explorer.reading import default_size
from drorae.explorer.standing import Spread, read_spread
from drorae.viewers import bundles
from drorae.viewers.bundles import LIMIT, bundle_address, bundle_of, example_bundle, read_bundle
from drorae.viewers.report import model_hash
from train import examples

PACKED = ("weights", "shares", "cosines", "texture")


def pixels(url: str) -> np.ndarray:
    content = base64.b64decode(url.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def numbers(value: dict) -> np.ndarray:
    return value["scale"] * np.frombuffer(base64.b64decode(value["data"]), "<i2").astype(float)


def check(shipped: dict, computed: dict) -> None:
    """That two bundles show the same: pictures to one level of 255, PSNR to 0.01 dB."""
    assert (shipped["model"], shipped["size"]) == (computed["model"], computed["size"])
    assert set(shipped["kinds"]) == set(computed["kinds"])
    ours, theirs = shipped["kinds"]["routes"], computed["kinds"]["routes"]
    assert set(ours) == set(theirs)
    for route, picture in ours["pictures"].items():
        assert np.abs(pixels(picture) - pixels(theirs["pictures"][route])).max() <= 1, route
    for route, found in ours["metrics"].items():
        assert found["psnr"] == pytest.approx(theirs["metrics"][route]["psnr"], abs=0.01)
        assert found["ssim"] == pytest.approx(theirs["metrics"][route]["ssim"], abs=0.001)
    for name in PACKED:
        expected = numbers(theirs[name])
        assert np.allclose(numbers(ours[name]), expected, atol=2e-4 * np.abs(expected).max()), name
    changing = {"pictures", "metrics", "seconds", "components", "spectra", "energies", "cosine", "correlation", *PACKED}
    assert {key: ours[key] for key in ours.keys() - changing} == {key: theirs[key] for key in theirs.keys() - changing}
    ours, theirs = shipped["kinds"]["tiles"], computed["kinds"]["tiles"]
    assert ours["side"] == theirs["side"]
    assert (
        np.square(pixels(ours["sprite"]) - pixels(theirs["sprite"])).mean() < 2
    )  # thumbs are not kept to the last bit
    assert ours["psnr"] == pytest.approx(theirs["psnr"], abs=0.01)
    if "standing" in computed["kinds"]:
        ours, theirs = shipped["kinds"]["standing"], computed["kinds"]["standing"]
        assert ours["gain"] == pytest.approx(theirs["gain"], abs=0.02)
        assert ours["density"] == theirs["density"]


def recompute(name: str, model: AutoencoderDRoRAE) -> None:
    shipped = read_bundle(name, model_hash(model), default_size(model))
    assert shipped is not None, f"run python -m train.examples again: the results of '{name}' are not of this model"
    computed = example_bundle(name, model, "assets/drorae-tiny", read_spread(bundled_path("drorae-tiny")))
    check(shipped, json.loads(json.dumps(computed)))


def test_the_first_example_ships_what_the_embedded_model_makes_of_it(embedded):
    recompute(EXAMPLE_NAMES[0], embedded)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLE_NAMES[1:])
def test_every_example_ships_what_the_embedded_model_makes_of_it(embedded, name):
    recompute(name, embedded)


@pytest.mark.parametrize("name", EXAMPLE_NAMES)
def test_bundles_are_small(name):
    assert len(gzip.compress(bundle_of(name).read_bytes())) <= LIMIT


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(bundles, "bundle_of", lambda name: tmp_path / f"{name}.json")
    return tmp_path


def test_a_bundle_is_of_one_model_and_one_size(folder):
    bundle = {"model": "abc", "size": 128, "kinds": {}}
    (folder / "cat.json").write_text(json.dumps(bundle), encoding="utf-8")
    assert read_bundle("cat", "abc", 128) == bundle
    assert bundle_address("cat", "abc", 128) == "drorae/examples/cat.json?v=abc"
    for name, model, size in (("cat", "abd", 128), ("cat", "abc", 256), ("rocket", "abc", 128)):
        assert read_bundle(name, model, size) is None
        assert bundle_address(name, model, size) is None


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '"abc"'])
def test_damaged_bundles_are_not_used(folder, content):
    (folder / "cat.json").write_text(content, encoding="utf-8")
    assert read_bundle("cat", "abc", 128) is None


def test_the_command_writes_every_example(tmp_path, tiny, monkeypatch, capsys):
    monkeypatch.setattr(examples, "load_tokenizer", lambda name: tiny)
    monkeypatch.setattr(examples, "resolve", lambda name: tmp_path)
    monkeypatch.setattr(examples, "read_spread", lambda folder: Spread(32, np.arange(-5.0, 5.0), "photos"))
    examples.main(["mine", "--out", str(tmp_path / "out")])
    assert capsys.readouterr().out.count("routes, tiles, standing") == len(EXAMPLE_NAMES)
    monkeypatch.setattr(bundles, "bundle_of", lambda name: tmp_path / "out" / f"{name}.json")
    for name in EXAMPLE_NAMES:
        bundle = read_bundle(name, model_hash(tiny), 32)
        assert bundle["kinds"]["routes"]["example"] == name
        assert bundle["kinds"]["routes"]["model"] == {"name": "mine", "hash": model_hash(tiny)}
        assert sum(bundle["kinds"]["standing"]["density"]["counts"]) == bundle["kinds"]["standing"]["photos"] == 10
        check(bundle, bundle)
    pictures = bundle["kinds"]["routes"]["pictures"]
    changed = json.loads(json.dumps(bundle))
    changed["kinds"]["routes"]["pictures"]["rae"] = pictures["original"]
    with pytest.raises(AssertionError):
        check(changed, bundle)


def test_results_that_are_too_large_are_not_shipped(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(examples, "load_tokenizer", lambda name: tiny)
    monkeypatch.setattr(examples, "resolve", lambda name: tmp_path)
    monkeypatch.setattr(examples, "LIMIT", 1000)
    with pytest.raises(examples.DataError, match=r"'cat' take .* at most 1,000 may be shipped"):
        examples.main(["mine", "--out", str(tmp_path / "out")])
    assert not list((tmp_path / "out").iterdir())
