"""What one micro-step of training sees, and how samples become it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """What one micro-step sees.

    Attributes:
        images: (B, 3, H, W) in [0, 1]; ``None`` where their latents were computed before.
        positions: (B,) in the run.
        damaged: a note on every damaged picture met.
        labels: (B,) class numbers, -1 where the data has none.
        latents: (B, C, h, w) before normalisation, where they were computed before.
        captions: one per picture, where they were asked for.
    """

    images: Tensor | None
    positions: Tensor
    damaged: list[str]
    labels: Tensor | None = None
    latents: Tensor | None = None
    captions: list[str] | None = None

    def to(self, device: torch.device) -> Batch:
        """The batch on another device, but for the positions: they are read by the host alone."""
        tensors = {k: v for k, v in self._asdict().items() if isinstance(v, Tensor) and k != "positions"}
        return self._replace(**{k: v.to(device, non_blocking=True) for k, v in tensors.items()})


# image, position, notes on damaged pictures, label, caption
Sample = tuple[Tensor | None, int, list[str], int, str | None]


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples to one batch."""
    images, positions, damaged, labels, captions = zip(*samples, strict=True)
    notes = [note for notes in damaged for note in notes]
    texts = None if captions[0] is None else list(captions)
    return Batch(torch.stack(images), torch.tensor(positions), notes, torch.tensor(labels), None, texts)
