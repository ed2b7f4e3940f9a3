"""Perceptual distances: LPIPS where its weights can be fetched, and a stand-in on the first convolutions of VGG-11."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
from torchvision.models import vgg11_bn

from drorae.checkpoints import CheckpointError, read_weights
from train.errors import DataError, check_weights
from train.settings import IMAGENET_MEAN, IMAGENET_STD, PerceptualPreset

TAPS = (2, 6, 10, 13)  # the ReLUs after convolutions 1 to 4, in torchvision's numbering


def build_perceptual(preset: PerceptualPreset, weights_folder: Path) -> nn.Module:
    """The distance a preset names, frozen: images (B, 3, H, W) in [0, 1] twice to a scalar.

    Raises:
        FileNotFoundError: its weights file is not there.
        DataError: its weights cannot be fetched.
    """
    if preset.network == "vgg11":
        assert preset.weights is not None, "the weights of vgg11 are in a file, which its preset names"
        return VGG11Perceptual(weights_folder / preset.weights)
    return LPIPS("vgg")


class LPIPS(nn.Module):
    """LPIPS v0.1 (arXiv 1801.03924) as in torchmetrics, differentiable, mean over pictures.

    Args:
        network: ``"vgg"`` or ``"alex"``; torchvision's weights of it are fetched at the first use.

    Raises:
        DataError: they cannot be fetched.
    """

    def __init__(self, network: str):
        super().__init__()
        try:
            metric = LearnedPerceptualImagePatchSimilarity(network, normalize=True)
        except OSError as error:  # urllib's errors are OSErrors
            raise DataError(
                f"LPIPS needs torchvision's {network} weights, which could not be fetched ({error}); connect once, or "
                "choose a preset whose perceptual network is a file."
            ) from error
        self.network = metric.net.eval().requires_grad_(False)

    def per_picture(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to one distance per picture, (B,)."""
        return self.network(prediction, target, normalize=True).flatten()

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to a scalar; 0 for equal pictures."""
        return self.per_picture(prediction, target).mean()


class VGG11Perceptual(nn.Module):
    """Mean squared distance of channel-normalised VGG-11-BN features after its first four convolutions.

    The form of LPIPS (arXiv 1801.03924) without its learned channel weights: call it "VGG11 perceptual", not LPIPS.

    Args:
        weights: safetensors of torchvision's ``vgg11_bn`` with the keys ``features.0`` to ``features.12``.

    Raises:
        FileNotFoundError: no such file, with what to put there.
        CheckpointError: it is damaged, or holds another network.
    """

    def __init__(self, weights: Path):
        super().__init__()
        check_weights(weights, f"the perceptual distance needs '{weights}' (torchvision's vgg11_bn, features 0..12)")
        self.features = vgg11_bn(weights=None).features[: TAPS[-1] + 1].eval().requires_grad_(False)
        for layer in self.features:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # taps must survive the next layer
        state = {
            key.removeprefix("features."): value for key, value in read_weights(weights, only_floats=False).items()
        }
        try:
            self.features.load_state_dict(state, strict=True)
        except RuntimeError as error:
            raise CheckpointError(
                f"'{weights}' does not hold torchvision's vgg11_bn, features 0..12; fetch it again."
            ) from error
        self.features.to(memory_format=torch.channels_last)  # the fast layout for convolutions, a third faster on CPUs
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def taps(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) in [0, 1] to the channel-normalised features (B, C, h, w) that are compared."""
        x = (images - self.mean) / self.std
        taps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in TAPS:
                taps.append(nn.functional.normalize(x.float(), dim=1, eps=1e-6))
        return taps

    def per_picture(self, prediction: Tensor, wanted: list[Tensor]) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] and the :meth:`taps` of their targets to one distance per picture, (B,)."""
        pairs = zip(self.taps(prediction), wanted, strict=True)
        return sum((a - b).square().sum(1).mean((1, 2)) for a, b in pairs)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to a scalar; 0 for equal pictures."""
        with torch.no_grad():
            wanted = self.taps(target)
        return self.per_picture(prediction, wanted).mean()
