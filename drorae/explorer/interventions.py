"""What if: other strengths, fewer layers, in the whole picture or in a region, from one pass through the encoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from drorae.errors import DRoRAEError
from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.models.fusion import DepthRoutedFusion, incremental_correction, layer_norm, weighted_sum


class InterventionError(DRoRAEError, ValueError):
    """An intervention that cannot be made. The message names the value and what is possible."""


@dataclass(frozen=True)
class Intervention:
    """A change to the fusion of a picture.

    Attributes:
        layers: numbers, from 1, of the layers that stay in the sum of equation 4; ``None`` for all.
        beta: strength of the correction of equation 5 in [0, 1]; ``None`` for the one that was trained.
        tokens: row-major numbers, from 0, of the tokens that are changed; all when ``None``. The others are fused as
            usual.
    """

    layers: tuple[int, ...] | None = None
    beta: float | None = None
    tokens: tuple[int, ...] | None = None

    def check(self, num_layers: int, num_tokens: int | None = None) -> None:
        """Refuse what makes no sense for a model of so many layers and a picture of so many tokens, where it is known.

        Raises:
            InterventionError: what is wrong and what is possible.
        """
        if self.layers is not None:
            for layer in self.layers:
                if not _is_int(layer) or not 1 <= layer <= num_layers:
                    raise InterventionError(f"There is no layer {layer!r}; layers are numbered 1 to {num_layers}.")
            if not self.layers:
                raise InterventionError("Keep at least one layer; a strength of 0 shows the last layer alone.")
        number = isinstance(self.beta, (int, float)) and not isinstance(self.beta, bool)
        if self.beta is not None and not (number and 0 <= self.beta <= 1):
            raise InterventionError(
                f"The strength must be between 0 (last layer only) and 1 (fused only), not {self.beta!r}."
            )
        if self.tokens is not None and num_tokens is not None:
            for token in self.tokens:
                if not _is_int(token) or not 0 <= token < num_tokens:
                    raise InterventionError(f"There is no token {token!r}; tokens are numbered 0 to {num_tokens - 1}.")
            if not self.tokens:
                raise InterventionError("No token is painted; paint some, or leave the region out.")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class FusionParts:
    """A picture read once: every layer's expert output and routing weight, to be mixed in any way.

    Args:
        model: one whose fusion has a router.
        layers: its encoder's outputs for one picture, (1, N, C) each.
        grid_size: rows and columns of the N tokens.

    Raises:
        InterventionError: the model mixes its layers without a router, or not at all.
    """

    def __init__(self, model: AutoencoderDRoRAE, layers: Sequence[Tensor], grid_size: tuple[int, int]):
        fusion = model.fusion_module
        if not isinstance(fusion, DepthRoutedFusion):
            raise InterventionError(
                "This model has no router, so there are no layers to switch and no strength to set."
            )
        self.model, self.fusion, self.grid_size = model, fusion, grid_size
        self.readout = self.fusion.read(layers)
        self.num_tokens, self.num_layers = self.readout.weights.shape[1:]

    def mix(self, interventions: Sequence[Intervention]) -> Tensor:
        """One fused token map per intervention, (B, N, C): equations 4 and 5 with other layers and strengths.

        Raises:
            InterventionError: one that cannot be made, before anything is computed.
        """
        for intervention in interventions:
            intervention.check(self.num_layers, self.num_tokens)
        shape = (len(interventions), self.num_tokens, self.num_layers)
        keep = torch.ones(shape, dtype=torch.bool)
        beta = torch.full((*shape[:2], 1), self.fusion.beta)
        for i, intervention in enumerate(interventions):
            where = slice(None) if intervention.tokens is None else list(intervention.tokens)
            if intervention.layers is not None:
                kept = torch.zeros(self.num_layers, dtype=torch.bool)
                kept[[layer - 1 for layer in intervention.layers]] = True
                keep[i, where] = kept
            if intervention.beta is not None:
                beta[i, where] = intervention.beta
        base, experts, weights = self.readout
        fusion, many = self.fusion, (-1, len(interventions), -1, -1)  # the one picture, once per intervention
        _, shares = fusion.shares(weights, keep.to(base.device))
        fused = layer_norm(weighted_sum(shares, experts.expand(many)), fusion.eps)
        return incremental_correction(base, fused, beta.to(base), fusion.eps)

    def experts(self) -> Tensor:
        """What every layer says by itself: z_fuse = h_k, with the trained correction, (L, N, C).

        Unlike an intervention that keeps one layer, which takes the sign of its weight along, nothing is suppressed.
        """
        return incremental_correction(self.readout.base, self.readout.experts[:, 0], self.fusion.beta, self.fusion.eps)

    @cached_property
    def trained(self) -> Tensor:
        """The picture as trained, (1, 3, H, W) around [0, 1], which interventions are compared with."""
        return self.paint(self.mix([Intervention()]))

    def paint(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, C) to pictures (B, 3, H, W) around [0, 1], by the decoder that was trained last."""
        return self.model.decode(self.model.tokens_to_latent(tokens, self.grid_size)).sample


def can_intervene(model: AutoencoderDRoRAE) -> bool:
    """Whether the model has a router."""
    return isinstance(model.fusion_module, DepthRoutedFusion)


def standard_interventions(num_layers: int, trained: float) -> dict[str, list[Intervention]]:
    """What everybody asks for: other ``strengths`` than the trained one, every layer ``removed``, every layer
    ``alone``."""
    numbers = range(1, num_layers + 1)
    return {
        "strengths": [Intervention(beta=beta) for beta in strengths(trained) if beta != trained],
        "removed": [Intervention(layers=tuple(n for n in numbers if n != layer)) for layer in numbers],
        "alone": [Intervention(layers=(layer,)) for layer in numbers],
    }


def strengths(trained: float) -> tuple[float, ...]:
    """Eleven strengths from 0 to 1, and the trained one where it is none of them."""
    values = [round(0.1 * i, 1) for i in range(11)]
    if not any(math.isclose(trained, value, abs_tol=1e-6) for value in values):
        values = sorted([*values, trained])
    return tuple(trained if math.isclose(trained, value, abs_tol=1e-6) else value for value in values)
