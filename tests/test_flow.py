"""The flow's times against independent formulas, and the sampling loop on flows whose solution is known."""

import inspect
import math

import diffusers
import numpy as np
import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    UniPCMultistepScheduler,
)

from drorae import CheckpointError
from drorae.pipelines import flow
from drorae.pipelines.base import check_scheduler
from drorae.pipelines.guidance import acts


def test_time_shift_of_published_latents():
    assert flow.time_shift(768, 16, 16) == pytest.approx(math.sqrt(48))
    assert flow.time_shift(768, 32, 32) == pytest.approx(13.856, abs=1e-3)
    assert flow.time_shift(16, 16, 16) == 1


def test_shifted_times_keep_their_ends_and_order():
    t = torch.linspace(0, 1, 101)
    shifted = flow.shift_time(t, 6.93)
    assert shifted[0] == 0
    assert shifted[-1] == pytest.approx(1)
    assert (shifted.diff() > 0).all()
    assert shifted[50] == pytest.approx(6.93 * 0.5 / (1 + 5.93 * 0.5), rel=1e-6)


def test_the_grid_is_raes_and_ends_at_zero():
    """RAE: t = 1 - linspace(0, 0.999, N), then shifted; diffusers alone would shift the end twice."""
    shift = math.sqrt(48)
    t = 1 - np.linspace(0, 0.999, 50)
    expected = shift * t / (1 + (shift - 1) * t)
    scheduler = flow.start(flow.build_scheduler(768, 16, 16), 50, "cpu")
    np.testing.assert_allclose(scheduler.sigmas[:50], expected, atol=2e-7)
    assert scheduler.sigmas[50] == 0
    assert len(scheduler.timesteps) == 50
    assert scheduler.sigmas[49] == pytest.approx(0.00689, abs=1e-5)
    alone = FlowMatchEulerDiscreteScheduler(shift=shift)
    alone.set_timesteps(50)
    assert alone.sigmas[49] == pytest.approx(0.0458, abs=1e-4)


def straight(data: torch.Tensor):
    """The flow towards one fixed picture: x_0 is data whatever the noise, so v = (x_t - data) / t."""
    return lambda latents, t: (latents - data) / t[:, None, None, None]


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_one_fixed_picture_is_reached_exactly(steps):
    data = torch.randn(2, 3, 4, 4)
    scheduler = flow.start(FlowMatchEulerDiscreteScheduler(shift=3.0), steps, "cpu")
    seen = list(flow.sample(straight(data), torch.randn(2, 3, 4, 4), scheduler))
    assert len(seen) == steps
    assert seen[0].time == 1
    assert seen[-1].next_time == 0
    assert [step.index for step in seen] == list(range(steps))
    assert seen[0].count == steps
    for step in seen:
        torch.testing.assert_close(step.clean, data, atol=1e-4, rtol=0)
    torch.testing.assert_close(seen[-1].latents, data, atol=1e-4, rtol=0)


def gaussian(std: float):
    """The exact velocity for data ~ N(0, std^2): E[e - x_0 | x_t] = x_t (t - (1 - t) std^2) / var_t."""

    def velocity(latents, t):
        t = t[:, None, None, None]
        return latents * (t - (1 - t) * std**2) / ((1 - t) ** 2 * std**2 + t**2)

    return velocity


@pytest.mark.parametrize(
    "scheduler",
    [
        FlowMatchEulerDiscreteScheduler(shift=2.0),
        FlowMatchHeunDiscreteScheduler(shift=2.0),
        UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=2.0),
    ],
    ids=["euler", "heun", "unipc"],
)
def test_any_flow_scheduler_carries_noise_to_the_data(scheduler):
    """The flow of a Gaussian only scales: noise e ends at std * e."""
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    *_, last = flow.sample(gaussian(0.5), noise, flow.start(scheduler, 200, "cpu"))
    torch.testing.assert_close(last.latents, 0.5 * noise, atol=0.03, rtol=0.02)


def flow_schedulers() -> dict[str, object]:
    """Every scheduler of diffusers that can be set to flow matching, by its name."""
    made = {}
    for name in dir(diffusers):
        kind = getattr(diffusers, name) if name.endswith("Scheduler") else None
        options = inspect.signature(kind.__init__).parameters if isinstance(kind, type) else {}
        if name.startswith("FlowMatch"):
            made[name] = kind()
        elif "use_flow_sigmas" in options:
            prediction = {"prediction_type": "flow_prediction"} if "prediction_type" in options else {}
            made[name] = kind(use_flow_sigmas=True, **prediction)
    return made


SAMPLES = {
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
}


def test_every_scheduler_follows_the_exact_velocity_or_is_refused_by_name():
    """The point that all data is, in float64; DEIS and others stop before t = 0, LCM and SA-Solver draw noise."""
    schedulers = flow_schedulers()
    assert set(flow.SCHEDULERS) == SAMPLES
    assert schedulers.keys() >= SAMPLES | {"DEISMultistepScheduler", "FlowMatchLCMScheduler", "SASolverScheduler"}
    data, noise = torch.randn(2, 1, 3, 4, 4, dtype=torch.float64)
    for name, scheduler in schedulers.items():
        if name not in SAMPLES:
            with pytest.raises(CheckpointError, match=f"{name} .*; use FlowMatchEulerDiscreteScheduler"):
                check_scheduler(scheduler)
            with pytest.MonkeyPatch.context() as patch:  # not because of its name alone: it is measured
                patch.setattr(flow, "SCHEDULERS", (name,))
                with pytest.raises(CheckpointError, match=f"{name} .*; use FlowMatchEulerDiscreteScheduler"):
                    check_scheduler(scheduler)
            continue
        check_scheduler(scheduler)
        for steps in (1, 3, 25):
            *_, last = flow.sample(straight(data), noise, flow.start(scheduler, steps, "cpu"))
            assert (last.latents - data).abs().max() < 1e-4, name


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (FlowMatchEulerDiscreteScheduler, {"invert_sigmas": True}, "does not lead to t = 0: it misses known data by"),
        (FlowMatchEulerDiscreteScheduler, {"shift_terminal": 0.1}, "does not lead to t = 0"),  # in a single step
        (FlowMatchEulerDiscreteScheduler, {"stochastic_sampling": True}, "adds noise, so that a seed is not one"),
        (UniPCMultistepScheduler, {"final_sigmas_type": "sigma_min"}, "does not lead to t = 0"),
        (UniPCMultistepScheduler, {"thresholding": True}, "does not lead to t = 0"),
        (UniPCMultistepScheduler, {"prediction_type": "epsilon"}, "does not lead to t = 0"),
    ],
)
def test_settings_that_lead_elsewhere_are_refused(kind, settings, message):
    flows = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"} if kind is UniPCMultistepScheduler else {}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    with pytest.raises(CheckpointError, match=f"{kind.__name__} {message}"):
        check_scheduler(kind(**flows | settings))
    assert torch.equal(torch.get_rng_state(), state)  # what is measured draws from nobody's seed


def test_times_that_round_to_the_same_number_are_all_used():
    """Of 200 strongly shifted times, the first few are 999 in whole thousandths."""
    scheduler = UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=6.93)
    noise = torch.randn(1, 4, 8, 8, dtype=torch.float64)
    steps = list(flow.sample(gaussian(0.5), noise, flow.start(scheduler, 200, "cpu")))
    assert len(steps) == 200
    torch.testing.assert_close(steps[-1].latents, 0.5 * noise, atol=1e-3, rtol=0)


def test_the_given_scheduler_is_not_used_up():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    before = scheduler.timesteps.clone()
    list(flow.sample(gaussian(1.0), torch.randn(1, 1, 2, 2), flow.start(scheduler, 3, "cpu")))
    assert torch.equal(scheduler.timesteps, before)
    assert scheduler.step_index is None


def test_the_loop_computes_nothing_that_is_not_asked_for():
    calls = []

    def velocity(latents, t):
        calls.append(float(t[0]))
        return torch.zeros_like(latents)

    loop = flow.sample(velocity, torch.randn(1, 1, 2, 2), flow.start(FlowMatchEulerDiscreteScheduler(), 9, "cpu"))
    next(loop), next(loop)
    loop.close()
    assert len(calls) == 2


def test_latents_sent_in_replace_the_steps():
    loop = flow.sample(gaussian(1.0), torch.randn(1, 1, 2, 2), flow.start(FlowMatchEulerDiscreteScheduler(), 2, "cpu"))
    next(loop)
    given = torch.full((1, 1, 2, 2), 3.0)
    second = loop.send(given)
    expected = given + (second.next_time - second.time) * gaussian(1.0)(given, torch.tensor([second.time]))
    torch.testing.assert_close(second.latents, expected)


def test_noise_does_not_depend_on_the_batch():
    def draw(seeds):
        return flow.draw_noise([torch.Generator().manual_seed(s) for s in seeds], (3, 4, 4), "cpu")

    batch = draw([5, 6, 7])
    assert torch.equal(draw([6])[0], batch[1])
    assert not torch.equal(batch[0], batch[1])


@pytest.mark.parametrize(
    ("channels", "side"), [(384, 16), (384, 8), (96, 16), (96, 18), (1536, 8), (768, 16), (192, 16)]
)
def test_guidance_acts_at_the_first_step(channels, side):
    """Shifting rounds some first times to a little more than 1."""
    seen = []

    def velocity(latents, t):
        seen.append(acts(2.0, (0.0, 1.0), t))
        return torch.zeros_like(latents)

    scheduler = flow.start(flow.build_scheduler(channels, side, side), 7, "cpu")
    list(flow.sample(velocity, torch.zeros(1, 1, 2, 2), scheduler))
    assert seen == [True] * 7
