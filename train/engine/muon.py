"""Muon for CPUs and GPUs: torch's rounds to bf16 wherever it runs and takes the matrices one by one."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from drorae.devices import multiplies_bf16


class Muon(torch.optim.Muon):
    """Muon (arXiv 2502.16982), its steps as large as AdamW's. Arguments and state are those of ``torch.optim.Muon``.

    Matrices of one shape are orthogonalised together, in bf16 where the device multiplies it fast and in the
    parameters' own precision elsewhere, where it would be emulated.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, weight_decay: float):
        super().__init__(params, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in by_shape.items():
                gradients = [parameter.grad for parameter in parameters]
                momenta = [self.state[p].setdefault("momentum_buffer", torch.zeros_like(p.grad)) for p in parameters]
                torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
                nesterov = torch.stack(torch._foreach_lerp(gradients, momenta, group["momentum"]))
                precision = torch.bfloat16 if multiplies_bf16(nesterov.device) else nesterov.dtype
                updates = orthogonalise(
                    nesterov.to(precision), group["ns_coefficients"], group["ns_steps"], group["eps"]
                ).to(nesterov.dtype)
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(
                    parameters, list(updates.unbind()), alpha=-group["lr"] * 0.2 * math.sqrt(max(shape))
                )


def orthogonalise(matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Newton-Schulz iteration of matrices (..., m, n): singular vectors stay, singular values move to between about 0.7
    and 1.2."""
    a, b, c = coefficients
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.mT if tall else x
