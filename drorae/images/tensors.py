"""Pictures as tensors, and tensors as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:  # the process that decodes, see drorae.decoding, starts without it
    import torch


def to_tensor(picture: Image.Image) -> torch.Tensor:
    """RGB picture to a float tensor (3, H, W) in [0, 1]."""
    import torch

    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 255


def to_uint8(image: torch.Tensor) -> torch.Tensor:
    """Image tensor around [0, 1] to uint8 of the same shape: clamped and *rounded*, exactly what PNG files hold."""
    return (image.detach().float().clamp(0, 1) * 255).round().byte()


def to_pil(image: torch.Tensor) -> Image.Image:
    """Image tensor (3, H, W) around [0, 1] to a PIL picture, see :func:`to_uint8`."""
    return Image.fromarray(to_uint8(image).permute(1, 2, 0).cpu().numpy())
