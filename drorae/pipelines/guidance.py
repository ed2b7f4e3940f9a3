"""Guidance: what turns one or two networks into the velocity that sampling follows.

Both kinds are ``weak + scale * (strong - weak)``, and scale 1 is exactly the strong network alone, in one call.
Classifier-free guidance (arXiv 2207.12598) takes the same network without its condition as the weak one, AutoGuidance
(arXiv 2406.02507) a smaller, less trained network with the same condition.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

Condition = Mapping[str, Tensor]  # keyword arguments of the network, first dimension B
INTERVAL = (0.0, 1.0)


class Unguided:
    """The network as it is."""

    def __init__(self, denoiser: nn.Module, condition: Condition):
        self.denoiser, self.condition = denoiser, condition

    def __call__(self, latents: Tensor, t: Tensor) -> Tensor:
        """Latents (B, C, h, w) and times (B,), all equal, to the velocity (B, C, h, w)."""
        return predict(self.denoiser, latents, t, self.condition)


class ClassifierFreeGuidance:
    """The network's velocity, led away from what it predicts without its condition.

    Args:
        unconditional: what ``condition`` is without a class or text.
        scale: 1 is none.
        interval: flow times between which guidance acts, both included (arXiv 2404.07724).
        batched: both predictions in one call of twice the batch; two calls need less memory.
    """

    def __init__(
        self,
        denoiser: nn.Module,
        condition: Condition,
        unconditional: Condition,
        scale: float,
        interval: tuple[float, float] = INTERVAL,
        batched: bool = True,
    ):
        self.denoiser, self.condition, self.unconditional = denoiser, condition, unconditional
        self.scale, self.interval, self.batched = scale, interval, batched

    def __call__(self, latents: Tensor, t: Tensor) -> Tensor:
        if not acts(self.scale, self.interval, t):
            return predict(self.denoiser, latents, t, self.condition)
        if self.batched:
            both = {key: torch.cat([value, self.unconditional[key]]) for key, value in self.condition.items()}
            strong, weak = predict(self.denoiser, torch.cat([latents] * 2), torch.cat([t] * 2), both).chunk(2)
        else:
            strong = predict(self.denoiser, latents, t, self.condition)
            weak = predict(self.denoiser, latents, t, self.unconditional)
        return extrapolate(strong, weak, self.scale)


class AutoGuidance:
    """The network's velocity, led away from what a weaker one predicts; see :class:`ClassifierFreeGuidance`."""

    def __init__(
        self,
        denoiser: nn.Module,
        guide: nn.Module,
        condition: Condition,
        scale: float,
        interval: tuple[float, float] = INTERVAL,
    ):
        self.denoiser, self.guide, self.condition = denoiser, guide, condition
        self.scale, self.interval = scale, interval

    def __call__(self, latents: Tensor, t: Tensor) -> Tensor:
        strong = predict(self.denoiser, latents, t, self.condition)
        if not acts(self.scale, self.interval, t):
            return strong
        return extrapolate(strong, predict(self.guide, latents, t, self.condition), self.scale)


def acts(scale: float, interval: tuple[float, float], t: Tensor) -> bool:
    """Whether guidance changes anything at time t (B,), which is one time for the whole batch."""
    low, high = interval
    return scale != 1 and low <= float(t[0]) <= high


def extrapolate(strong: Tensor, weak: Tensor, scale: float) -> Tensor:
    """``weak + scale * (strong - weak)``, velocities (B, C, h, w), in fp32."""
    return weak + scale * (strong - weak)


def predict(network: Any, latents: Tensor, t: Tensor, condition: Condition) -> Tensor:
    """The network's velocity in fp32, (B, C, h, w), whatever precision it computes in."""
    dtype = next(network.parameters()).dtype
    return network(latents.to(dtype), t, **condition, return_dict=False)[0].float()
