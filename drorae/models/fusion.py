"""Depth-routed fusion of all encoder layers (paper section 3.2, equations 2 to 5).

Symbols: z_k (B, N, C) is the output of encoder layer k = 1..L; LN is the encoder's final norm *without* affine
parameters; h_k are expert outputs; w (B, N, L) are signed routing weights. Every fusion maps a sequence of L layer
outputs to one token map and, on request, says how much each layer contributed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

FUSIONS = ("depth-routed", "depth-routed-softmax", "mean")


class Routing(NamedTuple):
    """How the layers were mixed.

    Attributes:
        weights: w_k, (B, N, L): the router's signed output, where positive adds a layer and negative suppresses it; its
            softmax for the softmax weighting; 1/K for the mean.
        shares: the factor of layer k in the sum, (B, N, L): w_k / sqrt(sum_k w_k^2 + eps) (equation 4); for softmax and
            mean, whose sums are not divided, the weights themselves.
        base: z_base, (B, N, C), the normalised last layer.
        fused: z_fuse, (B, N, C), the aggregate before the incremental correction.
    """

    weights: Tensor
    shares: Tensor
    base: Tensor
    fused: Tensor


class FusionOutput(NamedTuple):
    """Tokens (B, N, C) and, when asked for, the routing that produced them."""

    tokens: Tensor
    routing: Routing | None


def join_outputs(outputs: Sequence[FusionOutput]) -> FusionOutput:
    """The outputs of several batches as that of one."""
    tokens = torch.cat([output.tokens for output in outputs])
    if outputs[0].routing is None:
        return FusionOutput(tokens, None)
    return FusionOutput(tokens, Routing(*map(torch.cat, zip(*(output.routing for output in outputs), strict=True))))


def layer_norm(x: Tensor, eps: float = 1e-6) -> Tensor:
    """LN: zero mean and unit variance over the last axis, no affine parameters, computed in fp32."""
    return F.layer_norm(x.float(), x.shape[-1:], eps=eps).to(x.dtype)


def energy_shares(weights: Tensor, eps: float = 1e-6) -> Tensor:
    """w_k / sqrt(sum_k w_k^2 + eps) over the last axis, in fp32 (the factor of equation 4)."""
    weights = weights.float()
    return weights / (weights.square().sum(-1, keepdim=True) + eps).sqrt()


def incremental_correction(base: Tensor, fused: Tensor, beta: float | Tensor, eps: float = 1e-6) -> Tensor:
    """Equation 5: z_final = LN(z_base + beta (z_fuse - z_base)). beta = 0 keeps z_base, beta = 1 gives z_fuse."""
    return layer_norm(base + beta * (fused - base), eps)


class LayerExperts(nn.Module):
    """Equation 2: h_k = LN(MLP_k(LN(z_k))), MLP = Linear(C, h) -> LayerNorm -> GELU -> Linear(h, C), one per layer.

    The L experts are stored stacked. A GPU runs them as one batched product, a CPU one after the other, whose hidden
    values then stay in its cache. The paper names neither activation nor biases:
    GELU after the hidden LayerNorm and biases follow the same author's HiRAE (arXiv 2609.37775, equation 7).
    """

    def __init__(self, num_layers: int, dim: int, hidden_dim: int, eps: float = 1e-6):
        super().__init__()
        self.eps = eps
        self.weight_in = nn.Parameter(torch.empty(num_layers, dim, hidden_dim))
        self.bias_in = nn.Parameter(torch.zeros(num_layers, 1, hidden_dim))
        self.norm_weight = nn.Parameter(torch.ones(num_layers, 1, hidden_dim))
        self.norm_bias = nn.Parameter(torch.zeros(num_layers, 1, hidden_dim))
        self.weight_out = nn.Parameter(torch.empty(num_layers, hidden_dim, dim))
        self.bias_out = nn.Parameter(torch.zeros(num_layers, 1, dim))
        # The paper is silent on initialisation: truncated normal 0.02, as usual for transformers.
        nn.init.trunc_normal_(self.weight_in, std=0.02)
        nn.init.trunc_normal_(self.weight_out, std=0.02)

    def forward(self, normed: Tensor) -> Tensor:
        """LN(z_k) stacked as (L, B*N, C) to h_k stacked the same way."""
        if normed.device.type == "cpu":
            out = torch.stack([self._expert(k, tokens) for k, tokens in enumerate(normed.unbind())])
        else:
            hidden = torch.baddbmm(self.bias_in.to(normed.dtype), normed, self.weight_in.to(normed.dtype))
            hidden = torch.stack([self._activate(k, values) for k, values in enumerate(hidden.unbind())])
            out = torch.baddbmm(self.bias_out.to(normed.dtype), hidden, self.weight_out.to(normed.dtype))
        return layer_norm(out, self.eps)

    def _expert(self, k: int, tokens: Tensor) -> Tensor:
        """MLP_k of tokens (B*N, C)."""
        kind = tokens.dtype
        hidden = torch.addmm(self.bias_in[k].to(kind), tokens, self.weight_in[k].to(kind))
        return torch.addmm(self.bias_out[k].to(kind), self._activate(k, hidden), self.weight_out[k].to(kind))

    def _activate(self, k: int, hidden: Tensor) -> Tensor:
        """LayerNorm and GELU inside MLP_k, (B*N, h), in fp32."""
        weight, bias = self.norm_weight[k, 0].float(), self.norm_bias[k, 0].float()
        return F.gelu(F.layer_norm(hidden.float(), weight.shape, weight, bias, self.eps)).to(hidden.dtype)


class DepthRoutedFusion(nn.Module):
    """The paper's fusion: layer experts, a linear router, energy-constrained aggregation, incremental correction.

    ::

        h_k     = LN(MLP_k(LN(z_k)))                              (2)
        w       = R [LN(z_1); ...; LN(z_L)]                       (3)  one Linear(L*C, L) per token, no activation
        z_fuse  = LN( sum_k w_k h_k / sqrt(sum_k w_k^2 + eps) )   (4)
        z_final = LN( z_base + beta (z_fuse - z_base) )           (5)  z_base = LN(z_L), beta = 0.2

    With ``weighting="softmax"`` the router output passes a softmax and the sum is not divided (the paper's ablation,
    table 3). Defaults where the paper is silent: the router reads *normalised* layers (stated in HiRAE appendix D.2),
    eps = 1e-6, router weight ~ N(0, 0.02^2) and bias 1, so that training starts from near-equal positive weights.

    Args:
        num_layers: L, number of encoder layers, all of them are fused.
        dim: C, channels of a token.
        hidden_dim: expert width h; 4 * C when omitted (3072 for DINOv2-B, 56.85M parameters in all).
        beta: strength of the correction, fixed, not learned.
        weighting: ``"signed"`` (the paper) or ``"softmax"`` (its ablation).
        eps: used by every LN and by the energy normalisation.

    Raises:
        ValueError: unknown ``weighting``, ``beta`` outside [0, 1], ``hidden_dim`` below 1, or a number of layers other
            than L at call time.
    """

    def __init__(
        self,
        num_layers: int,
        dim: int,
        hidden_dim: int | None = None,
        beta: float = 0.2,
        weighting: str = "signed",
        eps: float = 1e-6,
    ):
        super().__init__()
        if hidden_dim is not None and hidden_dim < 1:
            raise ValueError(f"the experts' hidden width must be at least 1, not {hidden_dim}")
        if not 0 <= beta <= 1:
            raise ValueError(f"beta must be between 0 (last layer only) and 1 (fused only), not {beta}")
        if weighting not in ("signed", "softmax"):
            raise ValueError(f"weighting is 'signed' or 'softmax', not {weighting!r}")
        self.num_layers, self.beta, self.weighting, self.eps = num_layers, beta, weighting, eps
        self.experts = LayerExperts(num_layers, dim, 4 * dim if hidden_dim is None else hidden_dim, eps)
        self.gradient_checkpointing = False  # compute the experts again in the backward pass, to save memory
        self.router = nn.Linear(num_layers * dim, num_layers)
        nn.init.normal_(self.router.weight, std=0.02)
        nn.init.ones_(self.router.bias)

    def forward(
        self, layers: Sequence[Tensor], return_routing: bool = False, keep: Tensor | None = None
    ) -> FusionOutput:
        """L block outputs (B, N, C), not yet normalised, to fused tokens (B, N, C) with unit token variance.

        ``keep`` (B, L) or (B, N, L), boolean, leaves layers out of the sum; the energy of the others is renormalised.
        """
        output = self.mix(*self.read(layers), keep if keep is None or keep.ndim == 3 else keep[:, None])
        return output if return_routing else FusionOutput(output.tokens, None)

    def read(self, layers: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """All before the sum: z_base (B, N, C), expert outputs (L, B, N, C) and the router's output (B, N, L)."""
        if len(layers) != self.num_layers:
            raise ValueError(f"this fusion was built for {self.num_layers} layers and got {len(layers)}")
        normed = layer_norm(torch.stack(tuple(layers)), self.eps)  # (L, B, N, C)
        tokens = normed.flatten(1, 2)
        if self.gradient_checkpointing and torch.is_grad_enabled():
            h = checkpoint(self.experts, tokens, use_reentrant=False)
        else:
            h = self.experts(tokens)
        h = h.unflatten(1, normed.shape[1:3])  # (2)
        return normed[-1], h, self.router(normed.permute(1, 2, 0, 3).flatten(2))  # (3)

    def mix(
        self, base: Tensor, h: Tensor, weights: Tensor, keep: Tensor | None = None, beta: Tensor | None = None
    ) -> FusionOutput:
        """The sum and the correction; ``keep`` broadcasts to (B, N, L), ``beta``, if not the fusion's, to (B, N, 1)."""
        if keep is not None:
            weights = weights.masked_fill(~keep, -torch.inf if self.weighting == "softmax" else 0)
        if self.weighting == "softmax":
            weights = shares = weights.float().softmax(-1)
        else:
            shares = energy_shares(weights, self.eps)
        total = torch.einsum("bnl,lbnc->bnc", shares.to(h.dtype), h.expand(-1, len(shares), -1, -1))
        fused = layer_norm(total, self.eps)  # (4)
        final = incremental_correction(base, fused, self.beta if beta is None else beta, self.eps)  # (5)
        return FusionOutput(final, Routing(weights.float(), shares, base, fused))


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
