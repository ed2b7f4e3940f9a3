"""Fusions that only the study compares: each changes one step of :class:`~drorae.models.fusion.DepthRoutedFusion`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drorae.models.fusion import (
    DepthRoutedFusion,
    Fusion,
    FusionOutput,
    LayerExperts,
    MeanFusion,
    Routing,
    SoftmaxRoutedFusion,
    SomeLayersFusion,
    layer_norm,
    weighted_sum,
)
from train.experiments.experiment import ALL, BUDGETS, DEEPEST, MEAN, SIGNED, FusionChoice

# HiRAE (arXiv 2609.37775): of the shallow, middle and deep third, what is dropped in training and how large it may be
DROPOUT, CAPS = (0.50, 0.25, 0.10), (0.025, 0.075, 0.150)


class DeepestRouterFusion(DepthRoutedFusion):
    """The router reads the last layer alone, as HiRAE's does."""

    def __init__(self, num_layers: int, dim: int, hidden_size: int, beta: float, eps: float):
        super().__init__(num_layers, dim, hidden_size, beta, eps)
        self.router = nn.Linear(dim, num_layers)
        nn.init.normal_(self.router.weight, std=0.02)
        nn.init.ones_(self.router.bias)

    def router_weights(self, z: Tensor) -> Tensor:
        """LN(z_k), (L, B, N, C), to w, (B, N, L), of LN(z_L)."""
        return self.router(z[-1])


class PlainExperts(LayerExperts):
    """Experts without GELU: linear but for their LayerNorm. The paper names no activation."""

    def _activate(self, k: int, hidden: Tensor) -> Tensor:
        """LayerNorm inside MLP_k, (B*N, h), in fp32."""
        weight, bias = self.norm_weight[k, 0].float(), self.norm_bias[k, 0].float()
        return F.layer_norm(hidden.float(), weight.shape, weight, bias, self.eps).to(hidden.dtype)


class BudgetFusion(DepthRoutedFusion):
    """HiRAE's residual budgets in the place of the incremental correction (equation 5).

    ::

        R_g     = sum of w_k h_k / sqrt(sum of all w_k^2 + eps) over the layers of group g
        D_g     = dropout(R_g, p_g), elementwise, in training only
        z_final = LN( z_base + sum_g D_g min(1, c_g |z_base| / max(|D_g|, eps)) )

    The groups are the shallow, middle and deep third of the layers; norms are of a picture, over tokens and channels.
    Experts and router are the paper's, so that nothing but the anchor differs (HiRAE's router reads the last layer).

    Raises:
        ValueError: the layers do not divide by three.
    """

    def __init__(self, num_layers: int, dim: int, hidden_size: int, eps: float):
        super().__init__(num_layers, dim, hidden_size, beta=1.0, eps=eps)
        if num_layers % len(CAPS):
            raise ValueError(f"three budgets need layers in three equal groups, not {num_layers}")

    def forward(
        self, layers: Sequence[Tensor], return_routing: bool = False, keep: Tensor | None = None
    ) -> FusionOutput:
        """Arguments and result as of :meth:`drorae.models.fusion.Fusion.forward`."""
        z = self.normalize(layers)
        w, shares = self.shares(self.router_weights(z), keep)
        h, size = self.expert_outputs(z), self.num_layers // len(CAPS)
        base, total = z[-1], torch.zeros_like(z[-1])
        for group, (dropout, cap) in enumerate(zip(DROPOUT, CAPS, strict=True)):
            chosen = slice(group * size, (group + 1) * size)
            residual = F.dropout(weighted_sum(shares[..., chosen], h[chosen]), dropout, self.training)
            length = torch.linalg.vector_norm(residual.float(), dim=(1, 2), keepdim=True).clamp(min=self.eps)
            budget = cap * torch.linalg.vector_norm(base.float(), dim=(1, 2), keepdim=True)
            total = total + residual * (budget / length).clamp(max=1).to(residual.dtype)
        tokens = layer_norm(base + total, self.eps)
        if not return_routing:
            return FusionOutput(tokens, None)
        return FusionOutput(tokens, Routing(w, shares, base, layer_norm(weighted_sum(shares, h), self.eps)))


def build_choice(choice: FusionChoice, num_layers: int, dim: int, eps: float) -> Fusion:
    """A fresh fusion as an experiment has it, for an encoder of ``num_layers`` layers and ``dim`` channels.

    Raises:
        ValueError: changes that have not been built together, or layers that the encoder does not have.
    """
    layers = [number - 1 for number in choice.layers]
    if not layers or layers[0] < 0 or layers[-1] >= num_layers:
        raise ValueError(f"layers are 1 to {num_layers}, not {choice.layers}")
    if choice.rule == MEAN:
        return MeanFusion(num_layers, len(layers), eps)
    everything, width = len(layers) == num_layers, choice.width
    usual = everything and choice.activation
    fusion: DepthRoutedFusion | None = None
    if choice.rule == SIGNED and choice.router == ALL and everything:
        fusion = DepthRoutedFusion(num_layers, dim, width, choice.beta, eps)
        if not choice.activation:
            fusion.experts = PlainExperts(num_layers, dim, width, eps)
    elif choice.rule == SIGNED and choice.router == ALL and choice.activation:
        fusion = SomeLayersFusion(num_layers, layers, dim, width, choice.beta, eps)
    elif choice.rule == SIGNED and choice.router == DEEPEST and usual:
        fusion = DeepestRouterFusion(num_layers, dim, width, choice.beta, eps)
    elif choice.rule == BUDGETS and choice.router == ALL and usual:
        fusion = BudgetFusion(num_layers, dim, width, eps)
    elif choice.router == ALL and usual:
        fusion = SoftmaxRoutedFusion(num_layers, dim, width, choice.beta, eps)
    if fusion is None:
        raise ValueError(f"the study changes one thing at a time, not all of {choice}")
    return fusion
