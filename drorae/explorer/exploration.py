"""What is found in one picture, as plain arrays and numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from drorae.explorer.compatibility import Compatibility
from drorae.explorer.layer_maps import correlation


@dataclass(frozen=True)
class Gain:
    """What fusion changed, against the last layer.

    Attributes:
        map: (H, W) float32, |last layer - original| - |route - original| in 8-bit levels, mean over RGB: positive
            where the route is closer to the original. Its mean is the difference of the two mean absolute errors.
        improved, harmed: shares of pixels in [0, 1] whose error fell or rose.
    """

    map: np.ndarray
    improved: float
    harmed: float


@dataclass(frozen=True)
class Frame:
    """What an intervention paints.

    Attributes:
        picture: (H, W, 3) uint8.
        metrics: ``psnr`` (dB), ``ssim`` and ``mae`` (8-bit levels) against the original.
        energies: what is still wrong, by band, see :func:`drorae.explorer.spectrum.error_energies`.
        compatibility: how far it has gone from what the model was trained to paint.
    """

    picture: np.ndarray
    metrics: dict[str, float]
    energies: np.ndarray
    compatibility: Compatibility


@dataclass(frozen=True)
class Interventions:
    """The interventions everybody asks for, painted by the decoder that was trained last; while they are painted, the
    first of each list.

    Attributes:
        num_layers: L, the layers of the encoder.
        beta: the trained strength.
        betas: strengths from 0 to 1, the trained one among them; ``strengths`` are their frames, in this order.
        removed: frame of every layer left out, (L,).
        alone: frame of every layer as the only one in the sum, with the sign the router gave it, (L,).
        experts: frame of every layer's expert output in place of the sum, (L,): what the layer can paint.
    """

    num_layers: int
    beta: float
    betas: tuple[float, ...]
    strengths: list[Frame]
    removed: list[Frame]
    alone: list[Frame]
    experts: list[Frame]

    @property
    def total(self) -> int:
        """How many are painted in the end: the trained strength with all layers is the usual picture, and is not."""
        return len(self.betas) - 1 + 3 * self.num_layers

    @property
    def done(self) -> int:
        """How many of the ``total`` are painted."""
        usual = self.beta in self.betas[: len(self.strengths)]
        return sum(map(len, (self.strengths, self.removed, self.alone, self.experts))) - usual


@dataclass(frozen=True)
class Exploration:
    """One picture, seen through every route.

    Attributes:
        original: (H, W, 3) uint8, the picture the model worked on.
        pictures: route name to (H, W, 3) uint8.
        metrics: route name to ``psnr`` (dB), ``ssim`` and ``mae`` (8-bit levels), computed on those uint8 pictures.
        gains: fused route name to its :class:`Gain` over ``rae``.
        weights, shares: routing (N, L), see :class:`~drorae.models.fusion.Routing`; ``None`` without fusion.
        grid_size: rows and columns of the tokens, N = rows * columns.
        whole: whether it is all of the picture, or its central square.
        cosines: cosine of z_fuse and z_base at every token, (N,); ``None`` without fusion.
        spectra: energy by band of the detail in ``"original"`` and in every route's picture
            (:mod:`drorae.explorer.spectrum`).
        energies: energy by band of what is wrong in every route's picture.
        components: (L, N, 3) uint8, principal components of all encoder layers as colours.
        texture: (N,) mean gradient of the original in every token's square, 8-bit levels per pixel.
        beta: strength of the correction; ``None`` without one.
        interventions: ``None`` for a model without a router, or where they were not asked for.
        seconds: computing time.
    """

    original: np.ndarray
    pictures: dict[str, np.ndarray]
    metrics: dict[str, dict[str, float]]
    gains: dict[str, Gain]
    weights: np.ndarray | None
    shares: np.ndarray | None
    grid_size: tuple[int, int]
    whole: bool
    cosines: np.ndarray | None
    spectra: dict[str, np.ndarray]
    energies: dict[str, np.ndarray]
    components: np.ndarray
    texture: np.ndarray
    beta: float | None
    interventions: Interventions | None
    seconds: float

    @property
    def num_layers(self) -> int:
        """Number of encoder layers that were routed, 0 without fusion."""
        return 0 if self.weights is None else self.weights.shape[1]

    @property
    def size(self) -> int:
        """Side in pixels of a square with as many pixels as the picture: its own, where it is square."""
        height, width, _ = self.original.shape
        return round(math.sqrt(width * height))

    @property
    def cosine(self) -> float | None:
        """Mean cosine of z_fuse and z_base; ``None`` without fusion."""
        return None if self.cosines is None else float(self.cosines.mean())

    @property
    def texture_correlation(self) -> np.ndarray | None:
        """Coefficient of every layer's share with the texture, (L,); ``None`` without fusion."""
        return None if self.shares is None else correlation(self.shares, self.texture)
