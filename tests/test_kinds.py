"""What the browser gets of a photo, kind by kind: plain JSON that holds what was computed."""

import json

import numpy as np
import pytest
from conftest import build
from PIL import Image
from test_encodings import decode, frame_of, half_step, unpack

from drorae.explorer.compatibility import Compatibility
from drorae.explorer.reading import Reading
from drorae.explorer.similarity import similarity
from drorae.explorer.spectrum import band_edges
from drorae.images import Photo
from drorae.viewers.encodings import webp
from drorae.viewers.values import THUMB, frames_value, routes_value, similar_value, tiles_value

MODEL = {"name": "tiny", "hash": "0123456789abcdef"}


@pytest.fixture(scope="module")
def reading(tiny) -> Reading:
    noise = np.random.default_rng(0).integers(0, 256, (20, 28, 3), dtype=np.uint8)
    return Reading(Photo.of(Image.fromarray(noise)), tiny)


def routes_of(reading: Reading) -> dict:
    return routes_value(reading.routes, key="cat", name="cat.jpg", model=MODEL, facts=reading.facts, example="cat")


def same(value: dict, expected: dict) -> bool:
    """Whether JSON keeps it, and it is as expected."""
    return json.loads(json.dumps(value, allow_nan=False)) == expected


def test_routes(reading):
    value, found = routes_of(reading), reading.routes
    assert same(value, value)
    assert set(value) == {
        "key",
        "name",
        "example",
        "width",
        "height",
        "rows",
        "columns",
        "layers",
        "beta",
        "seconds",
        "size",
        "model",
        "pictures",
        "metrics",
        "weights",
        "shares",
        "cosines",
        "texture",
        "cosine",
        "correlation",
        "divided",
        "components",
        "edges",
        "spectra",
        "energies",
        "notes",
    }
    assert (value["key"], value["name"], value["example"], value["model"]) == ("cat", "cat.jpg", "cat", MODEL)
    sizes = [value[name] for name in ("width", "height", "size", "rows", "columns", "layers", "beta")]
    assert sizes == [32, 32, 32, 4, 4, 3, 0.2]
    assert list(value["pictures"]) == ["original", "rae", "phase2", "drorae"]
    for name, url in value["pictures"].items():
        assert np.array_equal(decode(url), found.original if name == "original" else found.pictures[name])
    assert value["metrics"] == found.metrics
    for name in ("weights", "shares", "cosines", "texture"):
        expected = getattr(found, name)
        assert np.abs(unpack(value[name], expected.shape) - expected).max() <= half_step(value[name])
    assert value["divided"] is True
    assert value["cosine"] == found.cosine
    assert value["correlation"] == found.texture_correlation.tolist()
    assert value["edges"] == band_edges().tolist()
    assert {name: sum(energies) for name, energies in value["energies"].items()} == {
        name: pytest.approx(np.square(shown.astype(float) - found.original).mean())
        for name, shown in found.pictures.items()
    }
    assert list(value["spectra"]) == list(value["pictures"])
    assert value["notes"] == {
        "width": 28, "height": 20, "crop": [4, 0, 20], "enlarged": 1.6, "flattened": False
    }  # fmt: skip


def test_components_are_whole(reading):
    import base64

    raw = np.frombuffer(base64.b64decode(routes_of(reading)["components"]), np.uint8)
    assert np.array_equal(raw.reshape(3, 16, 3), reading.routes.components)


@pytest.mark.parametrize(("fusion", "routes"), [(None, ["rae"]), ("mean", ["rae", "phase2"])])
def test_routes_of_other_models(reading, fusion, routes):
    other = Reading(Photo.of(Image.fromarray(reading.routes.original)), build(fusion=fusion))
    value = routes_of(other)
    assert same(value, value)
    assert list(value["pictures"]) == ["original", *routes]
    assert value["divided"] is False
    assert (value["weights"] is None) == (value["cosine"] is None) == (fusion is None)
    assert value["notes"]["crop"] is None
    assert value["notes"]["enlarged"] is None


def thumbs(pictures: list[np.ndarray]) -> np.ndarray:
    """What arrives of pictures that are sent in a row, as thumbs."""
    return decode(webp(np.concatenate(pictures, 1), THUMB))


def test_tiles(reading):
    tiles = reading.tiles()
    value = tiles_value(tiles, side=8)
    assert same(value, value)
    assert value["side"] == 8
    assert value["psnr"] == [tile.metrics["psnr"] for tile in tiles]
    small = [np.asarray(Image.fromarray(tile.picture).resize((8, 8), Image.Resampling.LANCZOS)) for tile in tiles]
    assert np.array_equal(decode(value["sprite"]), thumbs(small))
    large = tiles_value(tiles)
    assert large["side"] == 32  # never enlarged
    assert np.array_equal(decode(large["sprite"]), thumbs([tile.picture for tile in tiles]))


def test_tiles_of_a_wide_picture_keep_its_shape():
    noise = np.random.default_rng(0).integers(0, 256, (100, 300, 3), dtype=np.uint8)
    reading = Reading(Photo.of(Image.fromarray(noise)), build(any_size=True), size=64, whole=True)
    height, width, _ = reading.routes.original.shape
    assert (height, width) == (40, 112)
    value = tiles_value(reading.tiles())
    assert value["side"] == 80
    assert decode(value["sprite"]).shape == (29, 3 * 80, 3)


def test_frames_painted_so_far(reading):
    found, before = reading.routes, []
    for made in reading.interventions():
        value = frames_value(found, made)
        assert same(value, value)
        assert (value["done"], value["total"]) == (made.done, 19)
        lists = [value[kind] for kind in ("strengths", "removed", "alone", "experts")]
        frames = [made.strengths, made.removed, made.alone, made.experts]
        assert [len(each) for each in lists] == [len(each) for each in frames]
        for entries, painted in zip(lists, frames, strict=True):
            for entry, frame in zip(entries, painted, strict=True):
                assert set(entry) == {"index", "psnr", "ssim", "mae", *Compatibility._fields, "verdict"}
                assert np.array_equal(frame_of(value, entry, found.pictures["drorae"]), frame.picture)
                assert entry["psnr"] == frame.metrics["psnr"]
        before.append(value["done"])
    assert before == sorted(before)
    assert before[-1] == 19
    assert value["betas"] == [i / 10 for i in range(11)]
    lost, usual = found.energies["rae"], found.energies["drorae"]
    assert (lost > 0.01).any()
    for row, frame in zip(value["layers"], made.removed, strict=True):
        more = frame.energies - usual  # what is wrong without the layer and was not with it
        assert row == [pytest.approx(more[i] / lost[i], abs=1e-9) if lost[i] > 0.01 else None for i in range(len(lost))]
    assert np.array_equal(made.strengths[2].picture, found.pictures["drorae"])


def test_nothing_painted_yet_is_a_value_too(tiny, reading):
    fresh = Reading(Photo.of(Image.fromarray(reading.routes.original)), tiny)
    value = frames_value(fresh.routes, next(fresh.interventions()))
    assert same(value, value)
    assert (value["done"], value["sprite"], value["columns"], value["strengths"]) == (0, None, 0, [])


def test_similar(reading, tiny):
    other = Reading(Photo.of(Image.fromarray(reading.routes.original[::-1].copy())), tiny)
    found = {"cat": similarity(reading, 5), "dog": similarity(reading, 5, other)}
    value = similar_value(found)
    assert same(value, value)
    assert (value["token"], value["maps"]) == (5, ["1", "2", "3", "z_base", "z_fuse", "z_final"])
    for photo, (key, expected) in zip(value["photos"], found.items(), strict=True):
        assert (photo["key"], photo["rows"], photo["columns"]) == (key, 4, 4)
        assert np.abs(unpack(photo["values"], (6, 16)) - expected.values).max() <= half_step(photo["values"])


def test_sizes_of_the_embedded_model(embedded, cat):
    """At its 128 pixels; what a browser waits for and what follows."""
    reading = Reading(Photo.of(cat), embedded)
    assert len(json.dumps(routes_of(reading))) < 300_000
    assert len(tiles_value(reading.tiles())["sprite"]) < 300_000
