"""Reconstruction metrics per picture, on the 8-bit values that are shown and saved."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from drorae.images import to_uint8


def psnr(prediction: Tensor, target: Tensor) -> Tensor:
    """PSNR in dB of every picture, (B,). Images (B, 3, H, W) in [0, 1], rounded to 8 bits first; inf when equal."""
    return peak_signal_noise_ratio(
        _as_shown(prediction), _as_shown(target), data_range=255.0, dim=(1, 2, 3), reduction="none"
    )


def ssim(prediction: Tensor, target: Tensor) -> Tensor:
    """SSIM of every picture, (B,): Gaussian window of 11 pixels and sigma 1.5, mean over RGB, 8-bit values.

    As in torchmetrics (and so in RAE's numbers) the mean includes the borders, which are mirrored. scikit-image leaves
    the outer 5 pixels out, which on a 128 px picture changes the third digit.
    """
    return structural_similarity_index_measure(
        _as_shown(prediction), _as_shown(target), data_range=255.0, reduction="none"
    ).reshape(-1)


def _as_shown(image: Tensor) -> Tensor:
    return to_uint8(image).to(torch.float32)
