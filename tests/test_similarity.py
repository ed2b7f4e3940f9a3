"""What resembles a token, against PyTorch's cosine similarity in float64."""

import numpy as np
import pytest
import torch
from conftest import build
from PIL import Image
from test_fusion import norm64
from torch.nn.functional import cosine_similarity

from drorae.explorer.interventions import InterventionError
from drorae.explorer.reading import Reading
from drorae.explorer.similarity import similarity
from drorae.images import Photo


def read(model, seed=0, **options) -> Reading:
    noise = np.random.default_rng(seed).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    return Reading(Photo.of(Image.fromarray(noise)), model, **options)


@torch.no_grad()
def maps64(model, images) -> torch.Tensor:
    """Every map of Similarity, from the equations in float64, (L + 3, N, C)."""
    layers = [norm64(layer[0].double()) for layer in model.encoder(images)]
    _, experts, weights = (part.double() for part in model.fusion_module.read(model.encoder(images)))
    shares = weights[0] / torch.sqrt((weights[0] ** 2).sum(-1, keepdim=True) + 1e-6)
    base = layers[-1]
    fuse = norm64(sum(shares[:, k, None] * experts[k, 0] for k in range(len(layers))))
    return torch.stack([*layers, base, fuse, norm64(base + 0.2 * (fuse - base))])


@pytest.mark.parametrize("token", [0, 6, 15])
def test_similarity_is_the_librarys_on_the_equations(model, token):
    here, there = read(model), read(model, seed=1)
    maps, others = maps64(model, here.images), maps64(model, there.images)
    for other, tokens in ((None, maps), (there, others)):
        found = similarity(here, token, other)
        expected = cosine_similarity(maps[:, token, None], tokens, dim=-1)
        assert found.values.shape == (6, 16)
        assert found.maps == ("1", "2", "3", "z_base", "z_fuse", "z_final")
        torch.testing.assert_close(torch.from_numpy(found.values).double(), expected, atol=2e-5, rtol=0)
        assert (found.token, found.grid_size) == (token, (4, 4))
    own = similarity(here, token).values
    assert own[:, token] == pytest.approx(1, abs=1e-6)
    assert own.max() <= 1 + 1e-6
    assert own.argmax(1).tolist() == [token] * 6


def test_the_second_photo_may_have_another_shape():
    model = build(any_size=True)
    here, there = read(model, size=32), read(model, 1, size=64, whole=True)
    found = similarity(here, 3, there)
    assert found.grid_size == (7, 9)
    assert found.values.shape == (6, 63)


def test_without_fusion_the_layers_remain():
    found = similarity(read(build(fusion=None)), 2)
    assert found.maps == ("1", "2", "3", "z_base")
    assert np.array_equal(found.values[2], found.values[3])


@pytest.mark.parametrize("token", [16, -1, 1.5, "2"])
def test_a_token_that_is_not_there_is_refused(tiny, token):
    with pytest.raises(InterventionError, match=r"There is no token .*; tokens are numbered 0 to 15\."):
        similarity(read(tiny), token)


def test_two_models_are_not_compared(tiny, model):
    with pytest.raises(ValueError, match="two models"):
        similarity(read(tiny), 0, read(model))
