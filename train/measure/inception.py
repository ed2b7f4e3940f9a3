"""Inception-v3 as FID has it since TensorFlow's, through torchmetrics: 2,048 pooled features of a picture."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import NoTrainInceptionV3

from train.errors import DataError

NUM_FEATURES = 2048
WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"  # as torch-fidelity publishes them


def load_inception(folder: Path | None = None) -> nn.Module:
    """The network, which takes pictures (B, 3, H, W) of bytes and gives features (B, 2048).

    Pictures are resized as TensorFlow 1 did, with which the published numbers and ADM's statistics were made, and not
    with the antialiasing that is torchmetrics' default.

    Args:
        folder: its weights are taken from there where it has them, else fetched by torch-fidelity.

    Raises:
        DataError: torch-fidelity is not installed, or there are no weights.
    """
    own = None if folder is None or not (folder / WEIGHTS).is_file() else str(folder / WEIGHTS)
    try:
        network = NoTrainInceptionV3("inception-v3-compat", [str(NUM_FEATURES)], own)
    except ModuleNotFoundError as error:
        raise DataError("FID needs the package torch-fidelity: pip install torch-fidelity") from error
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"FID needs the Inception weights, which could not be fetched ({error}); put {WEIGHTS} into the folder of "
            "--weights."
        ) from error
    network.use_antialias = False
    return network


def to_bytes(images: Tensor) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] as bytes, rounded."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)
