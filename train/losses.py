"""Perceptual distance on the first convolutions of VGG-11, a stand-in where LPIPS weights cannot be had."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import vgg11_bn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TAPS = (2, 6, 10, 13)  # the ReLUs after convolutions 1 to 4, in torchvision's numbering


class VGG11Perceptual(nn.Module):
    """Mean squared distance of channel-normalised VGG-11-BN features after its first four convolutions.

    The form of LPIPS (arXiv 1801.03924) without its learned channel weights: call it "VGG11 perceptual", not LPIPS.

    Args:
        weights: safetensors of torchvision's ``vgg11_bn`` with the keys ``features.0`` to ``features.12``.

    Raises:
        FileNotFoundError: no such file, with what to put there.
    """

    def __init__(self, weights: Path):
        super().__init__()
        if not weights.is_file():
            raise FileNotFoundError(
                f"the perceptual loss needs '{weights}' (torchvision's vgg11_bn, features 0..12); pass --weights FOLDER"
            )
        self.features = vgg11_bn(weights=None).features[: TAPS[-1] + 1].eval().requires_grad_(False)
        for layer in self.features:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # taps must survive the next layer
        state = {key.removeprefix("features."): value for key, value in load_file(weights).items()}
        self.features.load_state_dict(state, strict=True)
        self.features.to(memory_format=torch.channels_last)  # the fast layout for convolutions, a third faster on CPUs
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def _taps(self, x: Tensor) -> list[Tensor]:
        x = (x - self.mean) / self.std
        taps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in TAPS:
                taps.append(nn.functional.normalize(x.float(), dim=1, eps=1e-6))
        return taps

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to a scalar; 0 for equal pictures."""
        with torch.no_grad():
            wanted = self._taps(target)
        return sum((a - b).square().sum(1).mean() for a, b in zip(self._taps(prediction), wanted, strict=True))
