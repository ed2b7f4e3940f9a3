"""Encoded captions that lie on the GPU: a batch of them is one look-up there."""

from __future__ import annotations

import torch
from torch import Tensor

from train.data.text_cache import CachedText
from train.gpu.pictures import to_device


class DeviceText(CachedText):
    """Encoded captions by their text, all padded to the longest, so that every batch has the same shape.

    Args:
        cached: the captions' tokens.
        device: where they are kept, in half precision.
    """

    def __init__(self, cached: CachedText, device: torch.device):
        super().__init__(cached.tokens, cached.places)
        self.numbers = {caption: number for number, caption in enumerate(cached.places)}
        tokens, self.mask = (part.to(device) for part in cached.get(list(cached.places)))
        self.padded = tokens.half()

    def get(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Tokens (B, T, D) and a mask (B, T) of the ones that count, on the device."""
        rows = to_device([self.numbers[caption] for caption in captions], self.padded.device)
        return self.padded[rows].float(), self.mask[rows]
