"""What the layers look like side by side: principal components with one basis for all of them, and local texture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from drorae.models.fusion import layer_norm

CLIP = 0.01  # share of values cut off at either end, so that a few outliers do not fade the rest


def shared_components(layers: Sequence[Tensor], eps: float = 1e-6) -> np.ndarray:
    """First three principal components of all layers together, as colours: (L, N, 3) uint8.

    One basis and one scale for all layers: the same colour means the same thing everywhere.

    Args:
        layers: L token maps (1, N, C), normalised here.
    """
    tokens = layer_norm(torch.stack(tuple(layers))[:, 0], eps).float()  # (L, N, C)
    centred = (tokens - tokens.mean((0, 1))).flatten(0, 1)
    _, basis = torch.linalg.eigh(centred.T @ centred)  # ascending
    basis = basis[:, [-1, -2, -3]]
    largest = basis.gather(0, basis.abs().argmax(0, keepdim=True))
    values = (centred @ (basis * largest.sign())).cpu().numpy()  # a component's sign is arbitrary: made repeatable
    low, high = np.quantile(values, [CLIP, 1 - CLIP], axis=0)
    scaled = np.clip((values - low) / np.maximum(high - low, 1e-12), 0, 1)
    return (scaled * 255).round().astype(np.uint8).reshape(len(layers), -1, 3)


def texture_energy(picture: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Mean gradient magnitude of the brightness in every token's square, (rows * columns,), 8-bit levels per pixel.

    Args:
        picture: (H, W, 3) uint8.
        grid: rows and columns; they divide H and W.
    """
    rows, columns = grid
    brightness = picture.astype(np.float64) @ (0.299, 0.587, 0.114)
    magnitude = np.hypot(*np.gradient(brightness))
    return magnitude.reshape(rows, len(picture) // rows, columns, -1).mean((1, 3)).ravel()


def correlation(shares: np.ndarray, texture: np.ndarray) -> np.ndarray:
    """Pearson's coefficient of every layer's share (N, L) with the texture (N,): (L,), NaN where either is flat."""
    x, y = shares - shares.mean(0), (texture - texture.mean())[:, None]
    size = np.sqrt((x**2).sum(0) * (y**2).sum(0))
    return np.where(size > 1e-12, (x * y).sum(0) / np.maximum(size, 1e-12), np.nan)
