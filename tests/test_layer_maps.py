"""Shared principal components, texture and its correlation, against NumPy and closed forms."""

import numpy as np
import pytest
import torch

from drorae.explorer.layer_maps import correlation, shared_components, texture_energy


def test_components_are_principal_and_shared():
    torch.manual_seed(0)
    layers = [torch.randn(1, 25, 12) * torch.linspace(3, 0.1, 12) + k for k in range(4)]
    colours = shared_components(layers)
    assert colours.shape == (4, 25, 3)
    assert colours.dtype == np.uint8
    normed = [torch.nn.functional.layer_norm(layer[0].double(), (12,), eps=1e-6) for layer in layers]
    tokens = torch.cat(normed).numpy()
    centred = tokens - tokens.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    for channel in range(3):
        values = centred @ directions[channel]
        shown = colours.reshape(-1, 3)[:, channel].astype(float)
        inner = (shown > 0) & (shown < 255)  # what was not cut off
        assert inner.mean() > 0.9
        assert abs(np.corrcoef(values[inner], shown[inner])[0, 1]) > 0.9999
    again = shared_components([layer.clone() for layer in layers])
    assert np.array_equal(colours, again)


def test_layers_that_are_equal_have_equal_colours_and_flat_ones_do_not_fail():
    layer = torch.randn(1, 9, 8)
    colours = shared_components([layer, layer])
    assert np.array_equal(colours[0], colours[1])
    assert shared_components([torch.ones(1, 9, 8)] * 2).max() == 0


def test_texture_of_a_ramp_is_its_slope():
    ramp = np.repeat(np.tile(np.arange(32) * 3, (32, 1))[..., None], 3, 2).astype(np.uint8)
    assert texture_energy(ramp, (4, 4)) == pytest.approx(np.full(16, 3.0))
    flat_left = ramp.copy()
    flat_left[:, :16] = 7
    energies = texture_energy(flat_left, (4, 4)).reshape(4, 4)
    assert energies[:, 0].max() == 0
    assert energies[:, 3] == pytest.approx(3)


def test_correlation_is_pearsons():
    rng = np.random.default_rng(0)
    texture = rng.random(40)
    shares = np.stack([2 * texture - 1, -texture, rng.random(40), np.full(40, 0.3)], 1)
    found = correlation(shares, texture)
    assert found[:2] == pytest.approx([1, -1])
    assert found[2] == pytest.approx(np.corrcoef(shares[:, 2], texture)[0, 1])
    assert np.isnan(found[3])
