"""Optimisers with their schedules, and the average of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_cosine_with_min_lr_schedule_with_warmup_lr_rate

from train.engine.muon import Muon
from train.settings import Schedule


class Optimisation:
    """A network's optimisers and their schedules (warm-up, cosine, floor).

    ``"adamw"`` is the paper's. ``"muon"`` takes :class:`~train.engine.muon.Muon` for the matrices (of a
    stack of matrices, such as the layer experts', each by itself) and AdamW for everything else.
    """

    def __init__(self, network: nn.Module, lr: float, schedule: Schedule, optimizer: str = "adamw", start: int = 0):
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        settings = {"lr": lr, "weight_decay": schedule.weight_decay}
        muon = optimizer == "muon"
        matrices = [p for p in self.parameters if muon and p.ndim == 2]
        # each matrix of a stack as a parameter of its own, in the same memory
        stacks = [p for p in self.parameters if muon and p.ndim == 3 and min(p.shape) > 1]
        self.stacks = [(stack, [nn.Parameter(matrix) for matrix in stack.detach().unbind()]) for stack in stacks]
        taken = {id(p) for p in (*matrices, *stacks)}
        others = [p for p in self.parameters if id(p) not in taken]
        matrices += [matrix for _, views in self.stacks for matrix in views]
        self.optimizers: list[torch.optim.Optimizer] = []
        if matrices:
            self.optimizers.append(Muon(matrices, **settings))
        if others:
            self.optimizers.append(torch.optim.AdamW(others, betas=schedule.betas, **settings))
        # Not prepared by accelerate: prepared schedulers advance once per process.
        self.schedulers: list[LRScheduler] = [
            get_cosine_with_min_lr_schedule_with_warmup_lr_rate(
                optimizer, schedule.warmup_steps, schedule.steps - start, min_lr_rate=schedule.lr_floor
            )
            for optimizer in self.optimizers
        ]

    def skip(self, steps: int) -> None:
        """Put the learning rates where they are after so many steps."""
        for optimizer, scheduler in zip(self.optimizers, self.schedulers, strict=True):
            scheduler.last_epoch = steps
            rates = zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
            scheduler._last_lr = [base * rate(steps) for base, rate in rates]
            for group, lr in zip(optimizer.param_groups, scheduler._last_lr, strict=True):
                group["lr"] = lr

    def prepare(self, network: nn.Module, accelerator: Accelerator) -> nn.Module:
        """The network as the accelerator wraps it; the optimisers are wrapped in place."""
        network, *self.optimizers = accelerator.prepare(network, *self.optimizers)
        return network

    def step(self) -> None:
        """One update, then clear the gradients and advance the schedules."""
        for stack, views in self.stacks:
            for view, gradient in zip(views, stack.grad, strict=True):
                view.grad = gradient
            stack.grad = None
        for optimizer, scheduler in zip(self.optimizers, self.schedulers, strict=True):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            scheduler.step()


class PlainEMA(EMAModel):
    """Average of the weights with one decay throughout, as RAE's, from the first weights on: diffusers' own would ramp
    the decay up, to at most (1 + t) / (10 + t) at step t."""

    def get_decay(self, optimization_step: int) -> float:
        """The decay of a step, 0..1."""
        return self.decay


@contextmanager
def ema_weights(ema: EMAModel, parameters: list[nn.Parameter]) -> Iterator[None]:
    """The averaged weights, in place of the trained ones for a while."""
    ema.store(parameters)
    ema.copy_to(parameters)
    try:
        yield
    finally:
        ema.restore(parameters)
