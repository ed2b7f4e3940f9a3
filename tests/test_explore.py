"""One call gives everything the page shows, and its numbers agree with each other."""

import numpy as np
import pytest
import torch
from conftest import build, sent
from PIL import Image
from test_encodings import decode, half_step, unpack

from drorae.explorer.explore import explore, paint_routes

ROUTES = ["rae", "phase2", "drorae"]


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8))


def test_routes_are_what_encode_and_decode_give(model, images):
    layers = model.encoder(images)
    base, routed = model.fuse(layers, fusion=False).tokens, model.fuse(layers, return_routing=True)
    pictures, routing = paint_routes(model, base, routed, (4, 4)), routed.routing
    last, fused = model.encode(images, fusion=False).latent, model.encode(images, return_routing=True)
    assert list(pictures) == ROUTES
    assert pictures["rae"].equal(model.decode(last, decoder="original").sample)
    assert pictures["phase2"].equal(model.decode(fused.latent, decoder="original").sample)
    assert pictures["drorae"].equal(model.decode(fused.latent, decoder="finetuned").sample)
    assert routing.weights.equal(fused.routing.weights)


@pytest.mark.parametrize(
    ("changes", "routes"),
    [({"fusion": None}, ["rae"]), ({}, ["rae", "phase2"]), ({"fusion": "mean", "finetuned_decoder": True}, ROUTES)],
)
def test_a_model_shows_the_routes_it_has(picture, changes, routes):
    result = explore(picture, build(**changes))
    assert list(result.pictures) == routes
    assert list(result.gains) == routes[1:]
    assert (result.weights is None) == (len(routes) == 1)
    value = sent(result)
    assert list(value["pictures"]) == ["original", *routes]
    assert (value["weights"] is None) == (value["shares"] is None) == (len(routes) == 1)


def test_gain_reconciles_with_the_errors(model, picture):
    result = explore(picture, model)
    for name in ROUTES[1:]:
        gain = result.gains[name]
        by_hand = [
            np.abs(result.pictures[route].astype(int) - result.original.astype(int)).sum(2) for route in ("rae", name)
        ]
        assert np.allclose(gain.map * 3, by_hand[0] - by_hand[1], atol=1e-3)
        assert gain.map.mean() == pytest.approx(result.metrics["rae"]["mae"] - result.metrics[name]["mae"], abs=1e-3)
        assert gain.improved == pytest.approx((by_hand[0] > by_hand[1]).mean())
        assert gain.harmed == pytest.approx((by_hand[0] < by_hand[1]).mean())


def test_psnr_is_that_of_the_pictures_shown(model, picture):
    result = explore(picture, model)
    for name, shown in result.pictures.items():
        mse = ((shown.astype(float) - result.original.astype(float)) ** 2).mean()
        assert result.metrics[name]["psnr"] == pytest.approx(10 * np.log10(255**2 / mse), abs=1e-3)


def test_the_browser_receives_the_same_pixels_and_weights(model, picture):
    result = explore(picture, model)
    value = sent(result)
    assert list(value["pictures"]) == ["original", *ROUTES]
    assert np.array_equal(decode(value["pictures"]["original"]), result.original)
    for name in ROUTES:
        assert np.array_equal(decode(value["pictures"][name]), result.pictures[name])
    for name in ("weights", "shares"):
        assert np.abs(unpack(value[name], (16, 3)) - getattr(result, name)).max() <= half_step(value[name])


def test_cosine_is_that_of_the_fused_and_the_base_tokens(model, picture):
    result = explore(picture, model)
    images = torch.from_numpy(result.original).permute(2, 0, 1)[None].float() / 255
    routing = model.encode(images, return_routing=True).routing
    a, b = routing.fused[0].double(), routing.base[0].double()
    expected = ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).mean().item()
    assert result.cosine == pytest.approx(expected, abs=1e-5)
