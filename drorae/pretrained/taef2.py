"""TAEF2, Ollin Boer Bohan's tiny autoencoder of the FLUX.2 latent: a small tokenizer to compare with (MIT)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers import AutoencoderTiny
from torch import Tensor, nn

from drorae import checkpoints

TAEF2 = "taef2"  # the bundled folder of its weights
CHANNELS = 64  # of every layer
POOLED = {"encoder": (11, 12, 13), "decoder": (2, 3, 4)}  # the blocks at 1/8 of the picture's side


class PooledBlock(nn.Module):
    """A block of ``AutoencoderTiny`` behind TAEF2's extra branch: 1x1 up, group norm over the whole map, 1x1 down."""

    def __init__(self, block: nn.Module, channels: int, groups: int = 4):
        super().__init__()
        self.conv, self.skip, self.fuse = block.conv, block.skip, block.fuse
        wide = 4 * channels
        self.pool = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False),
            nn.GroupNorm(groups, wide),
            nn.ReLU(),
            nn.Conv2d(wide, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to the same shape."""
        x = x + self.pool(x)
        return self.fuse(self.conv(x) + self.skip(x))


class AutoencoderTAEF2(AutoencoderTiny):
    """diffusers' ``AutoencoderTiny`` with the branch that TAEF2 adds to the three deepest blocks of both halves.

    It takes and gives images (B, 3, H, W) in [-1, 1]; latents are (B, 32, H/8, W/8).
    """

    def __init__(self, latent_channels: int = 32):
        super().__init__(latent_channels=latent_channels)
        for half, numbers in POOLED.items():
            layers = getattr(self, half).layers
            for number in numbers:
                layers[number] = PooledBlock(layers[number], CHANNELS)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path = TAEF2, **kwargs: Any) -> AutoencoderTAEF2:
        """TAEF2 in eval mode, in fp32 unless ``torch_dtype`` says otherwise; the bundled weights by default.

        Raises:
            CheckpointError: what is missing, damaged or does not fit, and what to do.
        """
        return checkpoints.load_strict(cls, super().from_pretrained, pretrained_model_name_or_path, **kwargs)
