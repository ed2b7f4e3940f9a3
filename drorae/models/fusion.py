"""Depth-routed fusion of all encoder layers (paper section 3.2, equations 2 to 5).

Symbols: z_k (B, N, C) is the output of encoder layer k = 1..L; LN is the encoder's final norm *without* affine
parameters; h_k are expert outputs; w (B, N, L) are signed routing weights. Every :class:`Fusion` maps a sequence of L
layer outputs to one token map and, on request, says how much each layer contributed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from drorae.errors import count_of


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


class LayerReadout(NamedTuple):
    """What a routed fusion reads off the layers, once, to be mixed as often as wanted.

    Attributes:
        base: z_base = LN(z_L), (B, N, C).
        experts: h_k, (L, B, N, C), equation 2.
        weights: w, (B, N, L), the router's output, equation 3.
    """

    base: Tensor
    experts: Tensor
    weights: Tensor


def join_outputs(outputs: Sequence[FusionOutput]) -> FusionOutput:
    """The outputs of several batches as that of one."""
    tokens = torch.cat([output.tokens for output in outputs])
    if outputs[0].routing is None:
        return FusionOutput(tokens, None)
    return FusionOutput(tokens, Routing(*map(torch.cat, zip(*(output.routing for output in outputs), strict=True))))


def layer_norm(x: Tensor, eps: float = 1e-6) -> Tensor:
    """LN of (..., C): zero mean and unit variance over the last axis, no affine parameters, computed in fp32."""
    return F.layer_norm(x.float(), x.shape[-1:], eps=eps).to(x.dtype)


def energy_shares(weights: Tensor, eps: float = 1e-6) -> Tensor:
    """The factor of equation 4: weights (..., L) to w_k / sqrt(sum_k w_k^2 + eps) over the last axis, in fp32."""
    weights = weights.float()
    return weights / (weights.square().sum(-1, keepdim=True) + eps).sqrt()


def weighted_sum(shares: Tensor, experts: Tensor) -> Tensor:
    """The sum of equation 4: shares (B, N, L) times expert outputs (L, B, N, C), over the layers, (B, N, C)."""
    return torch.einsum("bnl,lbnc->bnc", shares.to(experts.dtype), experts)


def incremental_correction(base: Tensor, fused: Tensor, beta: float | Tensor, eps: float = 1e-6) -> Tensor:
    """Equation 5, (B, N, C): z_final = LN(z_base + beta (z_fuse - z_base)). beta = 0 keeps z_base, beta = 1 gives
    z_fuse; a tensor of strengths is broadcast to the tokens."""
    return layer_norm(base + beta * (fused - base), eps)


class LayerExperts(nn.Module):
    """Equation 2: h_k = LN(MLP_k(LN(z_k))), MLP = Linear(C, h) -> LayerNorm -> GELU -> Linear(h, C), one per layer.

    The L experts are stored stacked. A GPU runs them as one batched product, a CPU one after the other, whose hidden
    values then stay in its cache. The paper names neither activation nor biases:
    GELU after the hidden LayerNorm and biases follow the same author's HiRAE (arXiv 2609.37775, equation 7).
    """

    def __init__(self, num_layers: int, dim: int, hidden_size: int, eps: float = 1e-6):
        super().__init__()
        self.eps = eps
        self.weight_in = nn.Parameter(torch.empty(num_layers, dim, hidden_size))
        self.bias_in = nn.Parameter(torch.zeros(num_layers, 1, hidden_size))
        self.norm_weight = nn.Parameter(torch.ones(num_layers, 1, hidden_size))
        self.norm_bias = nn.Parameter(torch.zeros(num_layers, 1, hidden_size))
        self.weight_out = nn.Parameter(torch.empty(num_layers, hidden_size, dim))
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


class Fusion(nn.Module):
    """What all fusions share: LN of every layer, and one signature.

    Args:
        num_layers: L, layers of the encoder.
        eps: eps of every LN.
    """

    def __init__(self, num_layers: int, eps: float = 1e-6):
        super().__init__()
        self.num_layers, self.eps = num_layers, eps

    def normalize(self, layers: Sequence[Tensor]) -> Tensor:
        """LN(z_k) of L block outputs (B, N, C), stacked as (L, B, N, C).

        Raises:
            ValueError: a number of layers other than L.
        """
        if len(layers) != self.num_layers:
            raise ValueError(f"this fusion was built for {count_of(self.num_layers, 'layer')} and got {len(layers)}")
        return layer_norm(torch.stack(tuple(layers)), self.eps)

    def forward(
        self, layers: Sequence[Tensor], return_routing: bool = False, keep: Tensor | None = None
    ) -> FusionOutput:
        """L block outputs (B, N, C), not yet normalised, to one token map (B, N, C).

        Args:
            return_routing: also return how much each layer contributed.
            keep: (B, L) or (B, N, L), boolean; the other layers are left out and the rest is weighted anew.
        """
        raise NotImplementedError


class DepthRoutedFusion(Fusion):
    """The paper's fusion: layer experts, a linear router, energy-constrained aggregation, incremental correction.

    ::

        h_k     = LN(MLP_k(LN(z_k)))                              (2)
        w       = R [LN(z_1); ...; LN(z_L)]                       (3)  one Linear(L*C, L) per token, no activation
        z_fuse  = LN( sum_k w_k h_k / sqrt(sum_k w_k^2 + eps) )   (4)
        z_final = LN( z_base + beta (z_fuse - z_base) )           (5)  z_base = LN(z_L), beta = 0.2

    Defaults where the paper is silent: the router reads *normalised* layers (stated in HiRAE appendix D.2),
    eps = 1e-6, router weight ~ N(0, 0.02^2) and bias 1, so that training starts from near-equal positive weights.

    Args:
        num_layers: L, number of encoder layers, all of them are fused.
        dim: C, channels of a token.
        hidden_size: expert width h; 4 * C when omitted (3072 for DINOv2-B, 56.85M parameters in all).
        beta: strength of the correction, fixed, not learned.
        eps: used by every LN and by the energy normalisation.

    Raises:
        ValueError: ``beta`` outside [0, 1], ``hidden_size`` below 1, or a number of layers other than L at call time.
    """

    def __init__(self, num_layers: int, dim: int, hidden_size: int | None = None, beta: float = 0.2, eps: float = 1e-6):
        super().__init__(num_layers, eps)
        if hidden_size is not None and hidden_size < 1:
            raise ValueError(f"the experts' hidden width must be at least 1, not {hidden_size}")
        if not 0 <= beta <= 1:
            raise ValueError(f"beta must be between 0 (last layer only) and 1 (fused only), not {beta}")
        self.beta = beta
        self.experts = LayerExperts(num_layers, dim, 4 * dim if hidden_size is None else hidden_size, eps)
        self.gradient_checkpointing = False  # compute the experts again in the backward pass, to save memory
        self.router = nn.Linear(num_layers * dim, num_layers)
        nn.init.normal_(self.router.weight, std=0.02)
        nn.init.ones_(self.router.bias)

    def forward(
        self, layers: Sequence[Tensor], return_routing: bool = False, keep: Tensor | None = None
    ) -> FusionOutput:
        """Equations 2 to 5; arguments and result as of :meth:`Fusion.forward`."""
        z = self.normalize(layers)  # LN(z_k)
        h = self.expert_outputs(z)  # (2)
        w = self.router_weights(z)  # (3)
        w, shares = self.shares(w, keep)  # the factor of h_k in (4)
        fused = layer_norm(weighted_sum(shares, h), self.eps)  # (4)
        tokens = incremental_correction(z[-1], fused, self.beta, self.eps)  # (5)
        return FusionOutput(tokens, Routing(w, shares, z[-1], fused) if return_routing else None)

    def expert_outputs(self, z: Tensor) -> Tensor:
        """Equation 2: LN(z_k) to h_k, both (L, B, N, C)."""
        tokens = z.flatten(1, 2)
        if self.gradient_checkpointing and torch.is_grad_enabled():
            h = checkpoint(self.experts, tokens, use_reentrant=False)
        else:
            h = self.experts(tokens)
        return h.unflatten(1, z.shape[1:3])

    def router_weights(self, z: Tensor) -> Tensor:
        """Equation 3: LN(z_k), (L, B, N, C), to w, (B, N, L)."""
        return self.router(z.permute(1, 2, 0, 3).flatten(2))

    def shares(self, weights: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The weights that count and the factor of every layer in equation 4, both (B, N, L) fp32.

        ``keep`` as in :meth:`forward`; the energy of the layers that stay is normalised.
        """
        weights = weights.float()
        if keep is not None:
            weights = weights.masked_fill(~per_token(keep), 0)
        return weights, energy_shares(weights, self.eps)

    def read(self, layers: Sequence[Tensor]) -> LayerReadout:
        """Everything before the sum of equation 4, of L block outputs (B, N, C), to be mixed in several ways."""
        z = self.normalize(layers)
        return LayerReadout(z[-1], self.expert_outputs(z), self.router_weights(z))


class SoftmaxRoutedFusion(DepthRoutedFusion):
    """The paper's ablation (table 3): the router's output passes a softmax, and the sum is not divided."""

    def shares(self, weights: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The softmax of the weights (B, N, L), twice: it is the factor, too. See :meth:`DepthRoutedFusion.shares`."""
        weights = weights.float()
        if keep is not None:
            weights = weights.masked_fill(~per_token(keep), -torch.inf)
        weights = weights.softmax(-1)
        return weights, weights


class SomeLayersFusion(DepthRoutedFusion):
    """Experts and router for some layers alone (paper, table 9); the others have weight 0 and no expert.

    The energy of equation 4 is that of the chosen layers, and z_base stays LN(z_L), whether or not L is among them.

    Args:
        num_layers: L, layers of the encoder.
        layers: which are fused, indices 0..L-1, ascending.

    Raises:
        ValueError: no layer, or one that the encoder does not have; and what :class:`DepthRoutedFusion` raises.
    """

    def __init__(
        self,
        num_layers: int,
        layers: Sequence[int],
        dim: int,
        hidden_size: int | None = None,
        beta: float = 0.2,
        eps: float = 1e-6,
    ):
        if not layers or min(layers) < 0 or max(layers) >= num_layers:
            raise ValueError(f"between 1 and {num_layers} layers are fused, not {[layer + 1 for layer in layers]}")
        super().__init__(len(layers), dim, hidden_size, beta, eps)
        self.num_layers, self.layers = num_layers, list(layers)

    def expert_outputs(self, z: Tensor) -> Tensor:
        """Equation 2 of the chosen layers: LN(z_k) to h_k, both (L, B, N, C), 0 for the others."""
        h = super().expert_outputs(z[self.layers])
        return h.new_zeros(self.num_layers, *h.shape[1:]).index_copy(0, self._places(h.device), h)

    def router_weights(self, z: Tensor) -> Tensor:
        """Equation 3 from the chosen layers for themselves: LN(z_k), (L, B, N, C), to w, (B, N, L), else 0."""
        w = super().router_weights(z[self.layers])
        return w.new_zeros(*w.shape[:-1], self.num_layers).index_copy(-1, self._places(w.device), w)

    def _places(self, device: torch.device) -> Tensor:
        return torch.tensor(self.layers, device=device)


class CrossAttentionFusion(Fusion):
    """The paper's ablation (table 3): a token of the last layer attends to itself in all layers.

    ::

        z_fuse = LN( MultiheadAttention(query LN(z_L); keys, values LN(z_1), ..., LN(z_L)) )

    The paper says no more than "last layer as query, multi-head". Chosen here: each token looks at its own position
    alone, as the router does; heads of 64 channels, as in the encoder; projections with biases; no residual around the
    attention and no experts, since the row has neither of the paper's two steps.

    Args:
        num_layers: L, layers of the encoder.
        dim: C, channels of a token.
    """

    def __init__(self, num_layers: int, dim: int, eps: float = 1e-6):
        super().__init__(num_layers, eps)
        self.attention = nn.MultiheadAttention(dim, dim // 64 if dim % 64 == 0 else 1)

    def forward(
        self, layers: Sequence[Tensor], return_routing: bool = False, keep: Tensor | None = None
    ) -> FusionOutput:
        """L block outputs (B, N, C) to one token map (B, N, C). The routing has the attention weights, averaged over
        heads: none is negative, and they sum to 1.

        Raises:
            ValueError: ``keep`` leaves nothing of a token.
        """
        z = self.normalize(layers)
        tokens = z.flatten(1, 2)  # (L, B*N, C): one short sequence for every token
        hidden = None
        if keep is not None:
            hidden = ~per_token(keep).expand(*z.shape[1:3], -1).flatten(0, 1)
            if hidden.all(-1).any():
                raise ValueError("keep at least one layer of every token, since attention needs something to look at")
        attended, weights = self.attention(
            tokens[-1:], tokens, tokens, key_padding_mask=hidden, need_weights=return_routing
        )
        fused = layer_norm(attended[0], self.eps).unflatten(0, z.shape[1:3])
        if not return_routing:
            return FusionOutput(fused, None)
        weights = weights[:, 0].float().unflatten(0, z.shape[1:3])
        return FusionOutput(fused, Routing(weights, weights, z[-1], fused))


class MeanFusion(Fusion):
    """RAEv2's fixed fusion (arXiv 2605.18324): mean of the last K normalised layers. No parameters.

    Args:
        num_layers: L, layers of the encoder.
        last: K, how many of the deepest layers are averaged, 1..L.

    Raises:
        ValueError: ``last`` outside 1..L, or a number of layers other than L at call time.
    """

    def __init__(self, num_layers: int, last: int, eps: float = 1e-6):
        super().__init__(num_layers, eps)
        if not 1 <= last <= num_layers:
            raise ValueError(f"mean fusion takes between 1 and {num_layers} layers, not {last}")
        self.last = last

    def forward(
        self, layers: Sequence[Tensor], return_routing: bool = False, keep: Tensor | None = None
    ) -> FusionOutput:
        """L block outputs (B, N, C) to the mean of the last K after LN, (B, N, C).

        Args:
            return_routing: also return how much each layer contributed.
            keep: (B, L) or (B, N, L), boolean; the mean is taken of those of the last K that stay.

        Raises:
            ValueError: ``keep`` leaves nothing of the last K.
        """
        z = self.normalize(layers)
        weights = z.new_zeros(*z.shape[1:3], self.num_layers, dtype=torch.float32)
        weights[..., -self.last :] = 1
        if keep is not None:
            weights = weights * per_token(keep)
            if not weights.any(-1).all():
                raise ValueError(f"keep at least one of the last {self.last} layers, whose mean this fusion takes")
        weights = weights / weights.sum(-1, keepdim=True)
        mean = weighted_sum(weights, z)
        return FusionOutput(mean, Routing(weights, weights, z[-1], mean) if return_routing else None)


def per_token(keep: Tensor) -> Tensor:
    """A choice of layers, (B, L) or (B, N, L), with the axis of the tokens, (B, 1 or N, L)."""
    return keep if keep.ndim == 3 else keep[:, None]


FUSIONS = ("depth-routed", "depth-routed-softmax", "cross-attention", "mean")


def build_fusion(
    name: str | None,
    *,
    num_layers: int,
    dim: int,
    eps: float,
    hidden_size: int | None = None,
    beta: float = 0.2,
    mean_layers: int | None = None,
    layers: int | None = None,
) -> Fusion | None:
    """A fresh fusion for an encoder of ``num_layers`` layers and ``dim`` channels; ``None`` for RAE.

    Args:
        layers: how many of the deepest layers ``"depth-routed"`` fuses, all when ``None``.

    Raises:
        ValueError: an unknown name or impossible values.
    """
    if name is None:
        return None
    if name not in FUSIONS:
        raise ValueError(f"fusion is None or one of {', '.join(FUSIONS)}, not {name!r}")
    if layers is not None and name != "depth-routed":
        raise ValueError(f"a choice of the deepest {layers} layers is for the fusion 'depth-routed', not for {name!r}")
    if layers is not None and not 1 <= layers <= num_layers:
        raise ValueError(f"between 1 and {num_layers} of the deepest layers can be fused, not {layers}")
    if name == "mean":
        return MeanFusion(num_layers, num_layers if mean_layers is None else mean_layers, eps)
    if name == "cross-attention":
        return CrossAttentionFusion(num_layers, dim, eps)
    if layers is not None and layers < num_layers:
        return SomeLayersFusion(num_layers, range(num_layers - layers, num_layers), dim, hidden_size, beta, eps)
    routed = SoftmaxRoutedFusion if name == "depth-routed-softmax" else DepthRoutedFusion
    return routed(num_layers, dim, hidden_size, beta, eps)
