"""Pictures of 128 x 192 pixels, 16 rows of 24 tokens: every place is found where it is, not in a transposed grid."""

import numpy as np
import pytest
import torch
from conftest import sent
from PIL import Image
from test_encodings import frame_of, unpack

from drorae import AutoencoderDRoRAE
from drorae.explorer.batch import explore_batch
from drorae.explorer.compatibility import distances
from drorae.explorer.explore import explore
from drorae.explorer.interventions import Intervention
from drorae.explorer.reading import Reading
from drorae.explorer.similarity import similarity
from drorae.explorer.spectrum import band_edges, band_energies
from drorae.images import Photo
from drorae.viewers.values import frames_value
from train.measure.latent_metrics import high_frequency_energy
from train.tasks.reconstruction import router_roughness

ROWS, COLUMNS, PATCH = 16, 24, 8
PLACES = [(0, 23), (15, 0), (3, 20)]  # rows and columns that trade places in a transposed grid


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((192, 128), Image.Resampling.BICUBIC)


def read(photo: Image.Image, model: AutoencoderDRoRAE) -> Reading:
    """All of it: as many pixels as a square of 160, of which nothing is resized."""
    reading = Reading(Photo.of(photo), model, 160, whole=True)
    assert reading.grid_size == (ROWS, COLUMNS)
    assert np.array_equal(reading.routes.original, np.asarray(photo))
    return reading


@pytest.fixture(scope="module")
def reading(anysize, photo) -> Reading:
    return read(photo, anysize)


def changed_at(photo: Image.Image, row: int, column: int) -> Image.Image:
    """The same with one patch turned to its negative."""
    values = np.array(photo)
    part = values[row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH]
    part[...] = 255 - part
    return Image.fromarray(values)


def most(per_token: np.ndarray) -> tuple[int, int]:
    """Row and column of the largest of (N,) numbers."""
    row, column = np.unravel_index(np.argmax(per_token), (ROWS, COLUMNS))
    return int(row), int(column)


def loudest_patch(difference: np.ndarray) -> tuple[int, int]:
    """Row and column of the patch in which (H, W) numbers are largest on average."""
    return most(difference.reshape(ROWS, PATCH, COLUMNS, PATCH).mean((1, 3)).ravel())


@torch.inference_mode()
def test_the_latent_of_a_place_is_that_of_its_token(anysize, reading):
    latent = anysize.encode(reading.images).latent
    assert latent.shape == (1, 48, ROWS, COLUMNS)
    for row, column in PLACES:
        token = reading.fused.tokens[0, row * COLUMNS + column]
        expected = (token - anysize.statistics.mean.flatten()) / (anysize.statistics.std.flatten() + 1e-5)
        torch.testing.assert_close(latent[0, :, row, column], expected)
    torch.testing.assert_close(anysize.latent_to_tokens(latent), reading.fused.tokens)


@torch.inference_mode()
@pytest.mark.parametrize(("row", "column"), PLACES)
def test_a_place_of_the_latent_is_painted_where_it_is(anysize, reading, row, column):
    latent = anysize.encode(reading.images).latent
    other = latent.clone()
    other[0, :, row, column] += 3
    difference = (anysize.decode(other).sample - anysize.decode(latent).sample).abs().mean(1)[0]
    assert difference.shape == (128, 192)
    assert loudest_patch(difference.numpy()) == (row, column)


@pytest.mark.parametrize(("row", "column"), PLACES)
def test_routing_and_components_change_where_the_photo_does(anysize, photo, reading, row, column):
    before, after = reading.routes, read(changed_at(photo, row, column), anysize).routes
    for name in ("weights", "shares"):
        assert most(np.abs(getattr(after, name) - getattr(before, name)).sum(1)) == (row, column), name
    assert most(np.abs(after.texture - before.texture)) == (row, column)
    value = sent(after)
    assert (value["rows"], value["columns"]) == (ROWS, COLUMNS)
    shares = unpack(value["shares"], (ROWS * COLUMNS, 3)) - unpack(sent(before)["shares"], (ROWS * COLUMNS, 3))
    assert most(np.abs(shares).sum(1)) == (row, column)


def test_gain_maps_are_those_of_the_pixels(reading):
    routes = reading.routes
    original = routes.original.astype(float)
    errors = {name: np.abs(shown - original).mean(2) for name, shown in routes.pictures.items()}
    for name, gain in routes.gains.items():
        assert gain.map.shape == (128, 192)
        assert np.allclose(gain.map, errors["rae"] - errors[name], atol=1e-4)
        assert gain.improved == pytest.approx((errors[name] < errors["rae"]).mean(), abs=1e-4)
        assert gain.harmed == pytest.approx((errors[name] > errors["rae"]).mean(), abs=1e-4)


@torch.inference_mode()
def test_interventions_act_on_their_tokens_and_paint_them_where_they_are(reading):
    parts = reading.parts
    tokens = tuple(row * COLUMNS + column for row, column in PLACES)
    usual, mixed = parts.mix([Intervention(), Intervention(beta=1.0, tokens=tokens)])
    assert sorted((mixed - usual).abs().sum(-1).nonzero().flatten().tolist()) == sorted(tokens)
    for token, place in zip(tokens, PLACES, strict=True):
        frame = reading.intervene(Intervention(beta=1.0, tokens=(token,)))
        difference = np.abs(frame.picture.astype(int) - reading.usual.picture.astype(int)).mean(2)
        assert loudest_patch(difference) == place


def test_frames_are_cut_out_of_their_sprite(reading):
    *_, made = reading.interventions()
    value = frames_value(reading.routes, made)
    for kind in ("strengths", "removed", "alone", "experts"):
        for entry, frame in zip(value[kind], getattr(made, kind), strict=True):
            assert np.array_equal(frame_of(value, entry, reading.usual.picture), frame.picture)


def test_what_resembles_a_token_is_told_token_by_token(reading):
    for row, column in PLACES:
        found = similarity(reading, row * COLUMNS + column)
        assert found.grid_size == (ROWS, COLUMNS)
        assert all(most(values) == (row, column) for values in found.values)


@torch.inference_mode()
def test_distances_are_told_token_by_token(anysize, reading):
    tokens, grid = reading.fused.tokens.clone(), (ROWS, COLUMNS)
    before = distances(anysize, tokens, grid)[0]
    for row, column in PLACES:
        tokens[0, row * COLUMNS + column] *= 3
    moved = (distances(anysize, tokens, grid)[0] - before).nonzero().flatten().tolist()
    assert moved == sorted(row * COLUMNS + column for row, column in PLACES)


def test_a_batch_measures_it_in_its_own_shape(anysize, photo, reading, tmp_path):
    photo.save(tmp_path / "long.png")
    (row,) = explore_batch([tmp_path / "long.png"], anysize, 160, whole=True)
    assert (row.width, row.height) == (192, 128)
    assert row.metrics == explore(photo, anysize, interventions=False, size=160, whole=True).metrics
    assert row.harmed == reading.routes.gains["drorae"].harmed
    assert row.layer == reading.routes.shares.mean(0).argmax() + 1


@pytest.mark.parametrize("shape", [(128, 192), (192, 128)])
@pytest.mark.parametrize("cycles", [3 / 64, 7 / 64, 19 / 64])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_size_of_detail_is_counted_in_pixels_whatever_the_shape(shape, cycles, axis):
    wave = np.cos(2 * np.pi * cycles * np.arange(shape[axis]))
    values = np.broadcast_to(wave[:, None] if axis == 0 else wave[None], shape)[..., None]
    energies, band = band_energies(values), int(cycles / 0.0625)
    assert band_edges()[band] <= cycles < band_edges()[band + 1]
    assert energies[band] == pytest.approx(0.5)
    assert energies.sum() == pytest.approx(0.5)


@pytest.mark.parametrize("grid", [(4, 12), (12, 4)])
@pytest.mark.parametrize("axis", [0, 1])
def test_high_frequencies_of_a_token_map_are_those_of_its_own_axis(grid, axis):
    """A DCT basis function number k of n has its energy in the upper half from k = n / 2 on."""
    n = grid[axis]
    for k, expected in ((n // 2 - 1, 0.0), (n // 2, 1.0)):
        wave = torch.cos(torch.pi * (torch.arange(n) + 0.5) * k / n)
        values = (wave[:, None] if axis == 0 else wave[None]).expand(grid)
        found = high_frequency_energy(values.reshape(1, -1, 1), grid).item()
        assert found == pytest.approx(expected, abs=1e-6)


def test_roughness_compares_neighbours_of_the_grid():
    """A corner of 2 rows of 3 differs by 2 in one of two layers: one of 3 x 2 steps down, and one of 4 x 2 across."""
    weights = torch.zeros(1, 2, 3, 2)
    weights[0, 0, 2, 1] = 2.0
    expected = (4 / 6 + 4 / 8) / 2
    assert router_roughness(weights.flatten(1, 2), (2, 3)).item() == pytest.approx(expected)
