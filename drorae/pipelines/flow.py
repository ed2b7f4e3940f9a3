"""Flow matching as RAE uses it: the time shift, the grid of times, and the one loop all sampling goes through.

t = 0 is data and t = 1 is noise, x_t = (1 - t) x_0 + t e, velocity = e - x_0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SchedulerMixin
from torch import Tensor

# Those of diffusers that end at t = 0 where the flow leads; others stop before, or draw noise of their own.
SCHEDULERS = (
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
)
BASE_DIMENSION = 4096  # of the latent that the time shift is relative to (RAE section 4.2)
LAST_TIME = 1 / 1000  # before the shift: RAE's grid runs from 1 to here

Velocity = Callable[[Tensor, Tensor], Tensor]


def time_shift(channels: int, height: int, width: int) -> float:
    """s = sqrt(C * H * W / 4096): larger latents need more noise to lose as much, so their times move towards 1."""
    return math.sqrt(channels * height * width / BASE_DIMENSION)


def shift_time(t: Tensor, shift: float) -> Tensor:
    """Times of any shape, t to s t / (1 + (s - 1) t), from [0, 1] onto [0, 1]."""
    return shift * t / (1 + (shift - 1) * t)


def build_scheduler(channels: int, height: int, width: int) -> FlowMatchEulerDiscreteScheduler:
    """diffusers' Euler scheduler with the time shift of a latent (C, h, w)."""
    return FlowMatchEulerDiscreteScheduler(shift=time_shift(channels, height, width))


def start(scheduler: SchedulerMixin, num_inference_steps: int, device: Any, begin: int = 0) -> SchedulerMixin:
    """A fresh scheduler of the same configuration, its times set, to be asked for its steps from ``begin`` on.

    The times of the Euler scheduler are RAE's: equally spaced from 1 to 1/1000, then shifted. Its own grid would shift
    the last of them twice. After them one more step leads to t = 0, which RAE's sampler leaves out. Other schedulers
    keep their own grids. Their steps are counted from 0: some would look a step up by its time, which rounding makes
    that of several steps.
    """
    fresh = type(scheduler).from_config(scheduler.config)
    if isinstance(fresh, FlowMatchEulerDiscreteScheduler):
        fresh.set_timesteps(device=device, sigmas=np.linspace(1.0, LAST_TIME, num_inference_steps).tolist())
    else:
        fresh.set_timesteps(num_inference_steps, device=device)
    fresh.set_begin_index(begin)
    return fresh


def times_of(scheduler: SchedulerMixin) -> list[float]:
    """The flow times between which its steps lead, one more than there are steps; 1 is noise, 0 is data."""
    # diffusers' sigma is the flow time; shifting may round the first one to a little more than 1
    return scheduler.sigmas.clamp(0, 1).tolist()


def first_step(scheduler: SchedulerMixin, time: float) -> int:
    """Number, from 0, of the step that starts closest to a flow time in (0, 1]."""
    starts = times_of(scheduler)[: len(scheduler.timesteps)]
    return min(range(len(starts)), key=lambda index: abs(starts[index] - time))


@dataclass(frozen=True)
class Step:
    """What one step of the loop has arrived at.

    Attributes:
        index, count: number of the step from 0, and how many there are.
        time: flow time the step started at; ``next_time`` where it ended.
        latents: (B, C, h, w) at ``next_time``.
        clean: (B, C, h, w), the estimate of x_0 that the step was made with, x_t - t * velocity.
    """

    index: int
    count: int
    time: float
    next_time: float
    latents: Tensor
    clean: Tensor


def sample(
    velocity: Velocity, latents: Tensor, scheduler: SchedulerMixin, begin: int = 0
) -> Generator[Step, Tensor | None, None]:
    """Follow the flow from noise to data. The loop stops computing as soon as its caller stops asking.

    Latents that are sent into the generator take the place of the step's.

    Args:
        velocity: (B, C, h, w) latents and (B,) times to velocities.
        latents: noise, (B, C, h, w), or what is at the time that step ``begin`` starts at.
        scheduler: what :func:`start` returned for the same ``begin``.
        begin: number of the first step to take.
    """
    count = len(scheduler.timesteps)
    times = times_of(scheduler)
    for index, timestep in list(enumerate(scheduler.timesteps))[begin:]:
        t = torch.full((len(latents),), times[index], device=latents.device)
        predicted = velocity(latents, t)
        clean = latents - times[index] * predicted
        latents = scheduler.step(predicted, timestep, latents, return_dict=False)[0]
        changed = yield Step(index, count, times[index], times[index + 1], latents, clean)
        latents = latents if changed is None else changed


@torch.random.fork_rng(devices=[])
def measure_error(scheduler: SchedulerMixin) -> tuple[float, float]:
    """How far a scheduler ends from where the flow leads, and how far two samplings from one noise end apart.

    The first is measured with the exact velocity of data that is one fixed picture, (x_t - data) / t, which every step
    to t = 0 reaches; the second with that of standard normal data. Both are greatest absolute differences, of 1, 2 and
    10 steps. Schedulers that draw noise of their own show in the second.
    """
    data = torch.linspace(-3, 3, 16, dtype=torch.float64).view(1, 1, 4, 4)
    noise = data.flip(-1) / 2

    def towards_data(latents: Tensor, t: Tensor) -> Tensor:
        return (latents - data) / t.double()[:, None, None, None]

    def towards_normal(latents: Tensor, t: Tensor) -> Tensor:
        t = t.double()[:, None, None, None]
        return latents * (2 * t - 1) / ((1 - t) ** 2 + t**2)

    def end(velocity: Velocity, steps: int) -> Tensor:
        *_, last = sample(velocity, noise, start(scheduler, steps, "cpu"))
        return last.latents

    error = max((end(towards_data, steps) - data).abs().max().item() for steps in (1, 2, 10))
    return error, (end(towards_normal, 10) - end(towards_normal, 10)).abs().max().item()


def draw_noise(generators: list[torch.Generator], shape: tuple[int, int, int], device: Any) -> Tensor:
    """Noise (B, C, h, w), one generator per picture, drawn where the generator is: on the CPU, neither the device nor
    the batch changes it."""
    return torch.stack([torch.randn(shape, generator=g, device=g.device).to(device) for g in generators])
