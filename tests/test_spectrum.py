"""Bands against closed forms: gratings, Parseval's theorem, and what counts as brought back."""

import numpy as np
import pytest

from drorae.explorer.spectrum import BANDS, band_edges, band_energies, detail_energies, error_energies, recovery


def grating(cycles: int, vertical: bool = False, size: int = 64, height: float = 50.0) -> np.ndarray:
    """Brightness waves of ``cycles`` per picture, (size, size, 3)."""
    wave = height * np.cos(2 * np.pi * cycles * np.arange(size) / size)
    values = np.broadcast_to(wave[:, None] if vertical else wave[None], (size, size))
    return np.repeat(values[..., None], 3, 2)


@pytest.mark.parametrize("vertical", [False, True])
@pytest.mark.parametrize("cycles", [1, 5, 14, 31])
def test_a_grating_lights_up_its_own_band(cycles, vertical):
    energies = band_energies(grating(cycles, vertical))
    expected = int(cycles / 64 / 0.0625)
    assert band_edges()[expected] <= cycles / 64 < band_edges()[expected + 1]
    assert energies[expected] == pytest.approx(50**2 / 2)  # the mean of a squared cosine is one half
    assert np.delete(energies, expected).max() < 1e-9


def test_the_diagonal_belongs_to_the_last_band():
    checks = np.indices((32, 32)).sum(0)[..., None] % 2 * 2.0 - 1  # 0.5 cycles per pixel both ways
    assert band_energies(checks)[-1] == pytest.approx(1)


def test_energies_add_up_to_the_mean_squared_error():
    shown, original = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), dtype=np.uint8)
    energies = error_energies(shown, original)
    assert energies.shape == (BANDS,)
    assert energies.sum() == pytest.approx(((shown.astype(float) - original.astype(float)) ** 2).mean())
    assert detail_energies(shown).sum() == pytest.approx(shown.astype(float).var((0, 1)).mean())
    assert detail_energies(np.full((16, 16, 3), 200, np.uint8)).max() < 1e-9


def test_a_band_that_is_restored_is_recovered_and_no_other():
    original = (128 + grating(5) + grating(14, vertical=True)).astype(np.uint8)
    flat = np.full_like(original, 128)
    half = (128 + grating(5) + 0.5 * grating(14, vertical=True)).astype(np.uint8)
    lost = error_energies(flat, original)
    back = recovery(lost, error_energies(half, original))
    assert back[1] == pytest.approx(1, abs=0.01)
    assert back[3] == pytest.approx(0.75, abs=0.01)  # half of the height is missing: a quarter of the energy
    assert recovery(np.array([10.0]), np.array([30.0]))[0] == -2
    assert np.isnan(recovery(np.array([0.001]), np.array([5.0]))[0])
