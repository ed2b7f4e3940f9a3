"""Fusions by name: the paper's, its softmax ablation, and the fixed mean it is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from drorae.models.fusion import DepthRoutedFusion, FusionOutput, Routing, layer_norm

FUSIONS = ("depth-routed", "depth-routed-softmax", "mean")


def build_fusion(
    name: str | None,
    num_layers: int,
    dim: int,
    eps: float,
    hidden_size: int | None = None,
    beta: float = 0.2,
    mean_layers: int | None = None,
) -> DepthRoutedFusion | MeanFusion | None:
    """A fresh fusion for an encoder of ``num_layers`` layers and ``dim`` channels; ``None`` for RAE.

    Raises:
        ValueError: an unknown name or impossible values.
    """
    if name is None:
        return None
    if name not in FUSIONS:
        raise ValueError(f"fusion is None or one of {', '.join(FUSIONS)}, not {name!r}")
    if name == "mean":
        return MeanFusion(num_layers, num_layers if mean_layers is None else mean_layers, eps)
    weighting = "softmax" if name == "depth-routed-softmax" else "signed"
    return DepthRoutedFusion(num_layers, dim, hidden_size, beta, weighting, eps)


class MeanFusion(nn.Module):
    """RAEv2's fixed fusion (arXiv 2605.18324): mean of the last K normalised layers. No parameters.

    Args:
        num_layers: L, layers of the encoder.
        last: K, how many of the deepest layers are averaged, 1..L.

    Raises:
        ValueError: ``last`` outside 1..L, or a number of layers other than L at call time.
    """

    def __init__(self, num_layers: int, last: int, eps: float = 1e-6):
        super().__init__()
        if not 1 <= last <= num_layers:
            raise ValueError(f"mean fusion takes between 1 and {num_layers} layers, not {last}")
        self.num_layers, self.last, self.eps = num_layers, last, eps

    def forward(self, layers: Sequence[Tensor], return_routing: bool = False) -> FusionOutput:
        """L block outputs (B, N, C) to the mean of the last K after LN, (B, N, C)."""
        if len(layers) != self.num_layers:
            raise ValueError(f"this fusion was built for {self.num_layers} layers and got {len(layers)}")
        normed = layer_norm(torch.stack(tuple(layers[-self.last :])), self.eps)
        mean = normed.mean(0)
        if not return_routing:
            return FusionOutput(mean, None)
        weights = mean.new_zeros(*mean.shape[:2], self.num_layers, dtype=torch.float32)
        weights[..., -self.last :] = 1 / self.last
        return FusionOutput(mean, Routing(weights, weights, normed[-1], mean))
