"""The adversary of stage 1: small heads on features of a frozen vision transformer, and differentiable augmentation.

The layout is that of the discriminator published with RAE (arXiv 2510.11690, which takes it from StyleGAN-T, arXiv
2301.09515): tokens of four blocks of a frozen ViT plus the last of them once more, one head of spectrally normalised
1-D convolutions over the token sequence for each.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from train.settings import AdversaryPreset
from train.tasks.backbones import load_timm


class LocalNorm(nn.Module):
    """Batch norm of (B, C, N) without running statistics, each picture by itself: over its tokens, per channel.

    RAE's configuration of StyleGAN-T's local batch norm (one picture per virtual batch): the logits of a picture depend
    on nothing else in the batch.
    """

    def __init__(self, channels: int, eps: float = 1e-6):
        super().__init__()
        self.weight, self.bias, self.eps = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels)), eps

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, N) to the same shape."""
        return F.instance_norm(x.float(), weight=self.weight, bias=self.bias, eps=self.eps)


class Head(nn.Module):
    """Features (B, C, N) to one logit per token (B, N)."""

    def __init__(self, channels: int, kernel_size: int = 9):
        super().__init__()
        self.inlet = self._block(channels, 1)
        self.residual = self._block(channels, kernel_size)
        self.logit = spectral_norm(nn.Conv1d(channels, 1, 1))

    @staticmethod
    def _block(channels: int, kernel_size: int) -> nn.Sequential:
        convolution = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2, padding_mode="circular")
        return nn.Sequential(spectral_norm(convolution), LocalNorm(channels), nn.LeakyReLU(0.2))

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, N) to logits (B, N)."""
        x = self.inlet(x)
        x = (self.residual(x) + x) / math.sqrt(2)
        return self.logit(x).squeeze(1)


class FrozenFeatures(nn.Module):
    """Patch tokens of some blocks of a frozen ViT; the deepest is given twice. Gradients reach the picture."""

    def __init__(self, preset: AdversaryPreset, model: nn.Module):
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.taps, self.size = preset.taps, preset.input_size
        self.register_buffer("mean", torch.tensor(preset.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preset.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) in [0, 1] to features (B, C, N)."""
        if images.shape[-1] != self.size:
            images = F.interpolate(images, size=(self.size, self.size), mode="bilinear", align_corners=False)
        features = self.model.forward_intermediates(
            (images - self.mean) / self.std,
            indices=list(self.taps),
            norm=False,
            stop_early=True,
            output_fmt="NLC",
            intermediates_only=True,
        )
        features = [feature.transpose(1, 2) for feature in features]
        return [*features, features[-1]]


class Discriminator(nn.Module):
    """Trainable heads on frozen features: images to one logit per head and token.

    The frozen part is kept out of :meth:`parameters` and of the saved state: it never changes.
    """

    def __init__(self, preset: AdversaryPreset, weights_folder):
        super().__init__()
        model = load_timm(
            preset.backbone,
            preset.backbone_weights,
            weights_folder,
            img_size=preset.input_size,
            act_layer="gelu_tanh",  # as RAE's
        )
        self._frozen = (FrozenFeatures(preset, model),)  # in a tuple, so that it is not a submodule
        self.heads = nn.ModuleList([Head(model.embed_dim) for _ in range(len(preset.taps) + 1)])

    @property
    def frozen(self) -> FrozenFeatures:
        """The frozen feature network."""
        return self._frozen[0]

    def _apply(self, fn, *args, **kwargs):
        self.frozen._apply(fn)  # moves to the device with the heads
        return super()._apply(fn, *args, **kwargs)

    def forward(self, *batches: Tensor) -> tuple[Tensor, ...]:
        """Batches of images (B, 3, H, W) in [0, 1] to logits (B, heads * N) each, in one call of the wrapped module."""
        return tuple(
            torch.cat([head(x) for head, x in zip(self.heads, self.frozen(images), strict=True)], dim=1)
            for images in batches
        )


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Discriminator loss: half the mean of relu(1 - real) + relu(1 + fake)."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def generator_loss(fake: Tensor) -> Tensor:
    """Minus the mean logit of the reconstructions."""
    return -fake.mean()


def augment(images: Tensor, draws: Tensor) -> Tensor:
    """Differentiable augmentation (arXiv 2006.10738): translation by up to 1/8, brightness, saturation, contrast.

    Computed in fp32 on the range [-1, 1], as RAE does: what a shift uncovers is mid-grey, and brightness changes by up
    to a quarter of the range.

    Args:
        images: (B, 3, H, W) in [0, 1].
        draws: (B, 5) uniform in [0, 1), one row per picture: shifts in y and x, then the three colour changes.

    Returns:
        Images of the same shape, around [0, 1], fp32.
    """
    x = images.float() * 2 - 1
    size = x.shape[-1]
    reach = size // 8
    dy, dx = (((2 * reach + 1) * shift).long().to(x.device) - reach for shift in draws[:, :2].unbind(1))
    steps = torch.arange(size, device=x.device)
    rows, columns = steps[None] + dy[:, None], steps[None] + dx[:, None]  # (B, size): where each one comes from
    inside = ((rows >= 0) & (rows < size))[:, :, None] & ((columns >= 0) & (columns < size))[:, None, :]
    batch = torch.arange(len(x), device=x.device)[:, None, None]
    moved = x[batch, :, rows.clamp(0, size - 1)[:, :, None], columns.clamp(0, size - 1)[:, None, :]]
    x = moved.permute(0, 3, 1, 2) * inside[:, None]

    brightness, saturation, contrast = draws[:, 2:, None, None, None].to(x).unbind(1)
    x = x + (brightness - 0.5)
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * (2 * saturation) + grey
    mean = x.mean((1, 2, 3), keepdim=True)
    x = (x - mean) * (contrast + 0.5) + mean
    return (x + 1) / 2
