"""Where in frequency detail is lost and brought back: energies of radial bands, which add up to squared errors."""

from __future__ import annotations

import numpy as np

BANDS = 8


def band_edges() -> np.ndarray:
    """Limits of the bands, (BANDS + 1,), cycles per pixel: equal steps up to 0.5, the corners belong to the last."""
    return np.linspace(0, 0.5, BANDS + 1)


def band_energies(values: np.ndarray) -> np.ndarray:
    """Energy of a picture or of a difference of two in every band, (BANDS,), float64.

    By Parseval's theorem their sum is the mean of the squared values, averaged over the channels.

    Args:
        values: (H, W, channels).
    """
    height, width, _ = values.shape
    power = np.abs(np.fft.fft2(values.astype(np.float64), axes=(0, 1), norm="forward")) ** 2
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    band = np.minimum((radius * 2 * BANDS).astype(int), BANDS - 1)
    return np.bincount(band.ravel(), power.mean(2).ravel(), BANDS)


def detail_energies(picture: np.ndarray) -> np.ndarray:
    """Energy of a picture (H, W, 3) in every band, (BANDS,), without its mean colour; they add up to its variance."""
    values: np.ndarray = picture.astype(np.float64)
    return band_energies(values - values.mean((0, 1)))


def error_energies(shown: np.ndarray, original: np.ndarray) -> np.ndarray:
    """Energy of what is wrong in every band, (BANDS,), in squared 8-bit levels; their sum is the mean squared error.

    Args:
        shown, original: (H, W, 3) uint8.
    """
    return band_energies(shown.astype(np.float64) - original.astype(np.float64))


def recovery(lost: np.ndarray, remaining: np.ndarray) -> np.ndarray:
    """Share of the lost energy that came back in every band: 1 - remaining / lost, negative where more is wrong now.

    Bands in which less than a hundredth of a squared level was lost are NaN: there was nothing to bring back.
    """
    return np.where(lost > 0.01, 1 - remaining / np.maximum(lost, 0.01), np.nan)
