"""Where a photo stands among held-out ones: how much fusion gained on it, and how often it gains less."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from drorae.checkpoints import CheckpointError
from drorae.explorer.evidence import read_evidence
from drorae.explorer.explore import available_routes, open_picture
from drorae.images import CENTRE
from drorae.metrics import psnr
from drorae.models.autoencoder import AutoencoderDRoRAE

SPREAD = "spread.json"  # beside the weights, written by train.spread
SIDE = 224  # pixels: the side of photos20's photos, so that none is enlarged
BIN = 0.25  # dB, of the density
DIGITS = 2  # of a gain in dB


class Spread(NamedTuple):
    """Gains of held-out photos.

    Attributes:
        size: side of the photos, pixels.
        gains: dB, ascending, (M,).
        data: which photos these were.
    """

    size: int
    gains: np.ndarray
    data: str


class Density(NamedTuple):
    """How many gains lie in each of equal bins between ``start`` and ``stop``, dB."""

    start: float
    stop: float
    counts: list[int]


class Standing(NamedTuple):
    """A photo among held-out ones.

    Attributes:
        size: side in pixels at which all of them were measured, this one as well.
        gain: gain of this photo, dB, rounded as theirs.
        photos: how many held-out photos there are.
        below: how many of them gained less.
        density: density of their gains; the same for every photo.
    """

    size: int
    gain: float
    photos: int
    below: int
    density: Density


def standing_size(model: AutoencoderDRoRAE) -> int:
    """The side at which photos are compared: 224 pixels for models of any size, and the model's own for others."""
    return SIDE if model.config.any_size else model.image_size


@torch.inference_mode()
def fusion_gains(model: AutoencoderDRoRAE, images: Tensor) -> Tensor:
    """PSNR of the model's last route over ``rae``, dB, of images (B, 3, H, W) in [0, 1]: (B,).

    Raises:
        ValueError: a model without fusion.
    """
    last = available_routes(model)[-1]
    if not last.fused:
        raise ValueError("there is no gain without fusion; load a model with fusion")
    grid = model.encoder.grid_of(images)
    layers = model.encoder(images.to(model.device))
    quality = []
    for fusion, decoder in ((False, "original"), (True, last.decoder)):
        latent = model.tokens_to_latent(model.fuse(layers, fusion=fusion).tokens, grid)
        quality.append(psnr(model.decode(latent, decoder=decoder).sample, images.to(model.device)))
    return quality[1] - quality[0]


def read_spread(folder: Path) -> Spread | None:
    """The gains that ``train.spread`` measured of the weights in a folder; ``None`` where it did not measure these.

    Raises:
        CheckpointError: a file that is damaged.
    """
    content = read_evidence(folder, SPREAD)
    if content is None:
        return None
    try:
        gains = np.sort(np.asarray(content["gains"], dtype=np.float64))
        spread = Spread(int(content["size"]), gains, str(content["data"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"'{folder / SPREAD}' has no gains; run python -m train.spread again.") from error
    if gains.ndim != 1 or not gains.size or not np.isfinite(gains).all():
        raise CheckpointError(f"'{folder / SPREAD}' has no gains; run python -m train.spread again.")
    return spread


def photo_gain(
    picture: Image.Image,
    model: AutoencoderDRoRAE,
    spread: Spread,
    whole: bool = False,
    centre: Sequence[float] = CENTRE,
) -> float:
    """Gain of a square of an RGB picture, or of all of it, at the size of the spread, dB.

    Args:
        whole, centre: see :func:`~drorae.explorer.reading.open_picture`.

    Raises:
        ImageError: the model does not work at that size.
        ValueError: a model without fusion.
    """
    return fusion_gains(model, open_picture(picture, model, spread.size, whole, centre)).item()


def place(spread: Spread, gain: float) -> Standing:
    """Where a gain in dB stands in a spread; infinite ones stand at its ends."""
    gain = round(gain, DIGITS)
    below = int(np.searchsorted(spread.gains, gain, side="left"))
    return Standing(spread.size, gain, len(spread.gains), below, density(spread.gains))


def density(gains: np.ndarray) -> Density:
    """Counts of gains, dB, in bins of a quarter of a dB, from the bin of the smallest to that of the largest."""
    first, last = math.floor(gains.min() / BIN), math.floor(gains.max() / BIN)
    numbers = np.floor(np.asarray(gains) / BIN).astype(int) - first
    counts = np.bincount(numbers, minlength=last - first + 1)
    return Density(first * BIN, (last + 1) * BIN, counts.tolist())
