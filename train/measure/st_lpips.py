"""ST-LPIPS: a learned perceptual distance that forgives small shifts (arXiv 2207.13686). It is not LPIPS v0.1."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drorae.checkpoints import read_weights
from train.errors import check_weights

WEIGHTS = "st_lpips_alex_fp16.safetensors"
EPS = 1e-10  # of the unit length
# what LPIPS scales pictures in [-1, 1] with
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class STLPIPS(nn.Module):
    """ST-LPIPS with its AlexNet-shaped trunk: mean over pictures of the weighted squared distances of unit features.

    Args:
        file: its weights, ``conv{0..4}_weight``, ``conv{0..4}_bias`` and the read-outs ``lin{0..4}``.

    Raises:
        FileNotFoundError: no such file, with what to put there.
        CheckpointError: it is damaged.
    """

    def __init__(self, file: Path):
        super().__init__()
        check_weights(file, f"ST-LPIPS needs '{file}' (the PyPI package stlpips_pytorch has the weights)")
        for name, value in read_weights(file).items():
            self.register_buffer(name, value.float(), persistent=False)
        line = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("filter", (line[:, None] * line / 16)[None, None], persistent=False)
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1), persistent=False)

    def _blur(self, x: Tensor) -> Tensor:
        """Half the size, without aliasing (Zhang, 2019)."""
        channels = x.shape[1]
        padded = F.pad(x, (2, 2, 2, 2), mode="reflect")
        return F.conv2d(padded, self.filter.expand(channels, 1, 3, 3), stride=2, groups=channels)

    def _convolve(self, x: Tensor, number: int, padding: int) -> Tensor:
        weight, bias = getattr(self, f"conv{number}_weight"), getattr(self, f"conv{number}_bias")
        return F.conv2d(x, weight, bias, padding=padding)

    def taps(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) in [0, 1] to the unit features (B, C, h, w) that are compared."""
        x = (images * 2 - 1 - self.shift) / self.scale
        x = F.relu(self._blur(self._convolve(x, 0, 2)))
        features = [x]
        for number, padding in ((1, 2), (2, 1)):
            x = self._blur(F.max_pool2d(x, 3, stride=1))
            x = F.relu(self._convolve(x, number, padding))
            features.append(x)
        for number in (3, 4):
            x = F.relu(self._convolve(x, number, 1))
            features.append(x)
        return [x / (x.square().sum(1, keepdim=True).sqrt() + EPS) for x in features]

    def per_picture(self, prediction: Tensor, wanted: list[Tensor]) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] and the :meth:`taps` of their targets to one distance per picture, (B,)."""
        total = torch.zeros(len(prediction), device=prediction.device)
        for number, (a, b) in enumerate(zip(self.taps(prediction), wanted, strict=True)):
            readout = getattr(self, f"lin{number}").view(1, -1, 1, 1)
            total = total + ((a - b).square() * readout).sum(1).mean((1, 2))
        return total

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to a scalar; 0 for equal pictures."""
        with torch.no_grad():
            wanted = self.taps(target)
        return self.per_picture(prediction, wanted).mean()
