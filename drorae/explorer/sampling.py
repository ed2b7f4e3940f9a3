"""Everything the explorer shows of a sampling, step by step and as plain arrays."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drorae.choices import DECODERS
from drorae.images import to_uint8
from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.pipelines.base import DRoRAEPipeline, SamplerSettings, SamplingError, picture_seeds
from drorae.pipelines.class_to_image import DRoRAEClassPipeline
from drorae.pipelines.flow import Step
from drorae.pipelines.text_to_image import DRoRAETextPipeline, check_prompts

PAGE_PICTURES = 8  # at most, of one request of the page
PAGE_STEPS = 100  # at most
FRAMES = 8  # of the filmstrip
PREVIEWS = 10  # at most, while it runs


@dataclass(frozen=True)
class Request:
    """What to sample: pictures of one class or prompt from consecutive seeds.

    Attributes:
        subject: a class, by name or number, or a prompt, as the pipeline asks for.
        compare: also sample the same seeds without guidance.
        seeds: one per picture, in place of ``count`` of them from ``seed`` on.
        negative: what classifier-free guidance leads away from (text only).
        other: a second prompt for the same seeds (text only).
    """

    subject: int | str
    seed: int = 0
    count: int = 4
    steps: int = 25
    guidance: str = "none"
    scale: float = 1.5
    compare: bool = True
    negative: str = ""
    other: str = ""
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class SamplingProgress:
    """Where the steps that are still to come would end.

    Attributes:
        step, count: steps done and in all.
        previews: row name to the clean estimates, (B, H, W, 3) uint8 each; empty between previews.
        time: flow time reached, 1 is noise.
        label: name of the class, or the prompt.
        seeds: one per picture.
    """

    step: int
    count: int
    previews: dict[str, np.ndarray]
    time: float
    label: str
    seeds: list[int]


@dataclass(frozen=True)
class SampledRow:
    """The same seeds under one setting.

    Attributes:
        name: ``"guided"``, ``"unguided"`` or ``"other"``.
        settings: one dictionary per picture, enough to make it again.
        pictures: decoder name to (B, H, W, 3) uint8.
        film: (FRAMES, B, H, W, 3) uint8, clean estimates at ``times``, the last one the picture itself.
        times: flow times of the film.
        lengths: (B, h, w), length of the finished latent at every place.
    """

    name: str
    settings: list[dict]
    pictures: dict[str, np.ndarray]
    film: np.ndarray
    times: list[float]
    lengths: np.ndarray


@dataclass(frozen=True)
class Generation:
    """A finished sampling.

    Attributes:
        label: name of the class, or the prompt.
        seeds: one per picture.
        rows: ``guided`` first, where there is guidance.
        seconds: computing time.
    """

    label: str
    seeds: list[int]
    rows: list[SampledRow]
    seconds: float


@dataclass(frozen=True)
class _Plan:
    """One row to be sampled: its settings, and its steps."""

    name: str
    settings: dict[str, Any]
    loop: Generator[Step, Tensor | None, None]


def sample_with_progress(
    pipeline: DRoRAEPipeline, request: Request, name: str
) -> Iterator[SamplingProgress | Generation]:
    """Sample, yielding a :class:`SamplingProgress` after every step and the :class:`Generation` at the end.

    Nothing is computed that is not asked for: closing the iterator ends the sampling.

    Args:
        name: name of the model, for the settings kept with every picture.

    Raises:
        SamplingError: a value that cannot be sampled, before anything is computed.
    """
    started = time.perf_counter()
    check_request(request)
    pipeline.check(SamplerSettings(request.steps, request.guidance, request.scale))
    seeds = seeds_of(request)
    label, plans = (text_plans if isinstance(pipeline, DRoRAETextPipeline) else class_plans)(pipeline, request, seeds)
    frames: dict[str, list[tuple[float, Tensor]]] = {plan.name: [] for plan in plans}
    last: dict[str, Step] = {}
    while True:
        for plan in plans:
            last[plan.name] = next(plan.loop)
        step = last[plans[0].name]
        done, count = step.index + 1, step.count
        if done in kept_steps(count, FRAMES) and done < count:
            for row, reached in last.items():
                frames[row].append((reached.next_time, reached.clean))
        if done == count:
            break
        previews = {}
        if done in kept_steps(count, PREVIEWS):
            previews = {row: to_arrays(pipeline, reached.clean) for row, reached in last.items()}
        yield SamplingProgress(done, count, previews, step.next_time, label, seeds)

    decoders = decoder_names(pipeline.autoencoder)
    rows = []
    for plan in plans:
        reached = last[plan.name]
        pictures = {decoder: to_arrays(pipeline, reached.latents, decoder) for decoder in decoders}
        film = [to_arrays(pipeline, clean) for _, clean in frames[plan.name]] + [pictures[decoders[-1]]]
        times = [t for t, _ in frames[plan.name]] + [reached.next_time]
        each = [{"model": name, **plan.settings, "seed": seed} for seed in seeds]
        lengths = reached.latents.float().norm(dim=1).cpu().numpy()
        rows.append(SampledRow(plan.name, each, pictures, np.stack(film), times, lengths))
    yield Generation(label, seeds, rows, time.perf_counter() - started)


def sample_to_end(pipeline: DRoRAEPipeline, request: Request, name: str) -> Generation:
    """What :func:`sample_with_progress` ends with; the same arguments and errors."""
    *_, last = sample_with_progress(pipeline, request, name)
    assert isinstance(last, Generation)
    return last


def check_request(request: Request) -> None:
    """Refuse more pictures or steps than one request of the page may ask for.

    Raises:
        SamplingError: naming the value and what to use.
    """
    if not isinstance(request.seed, int):
        raise SamplingError(f"The first seed is a whole number from 0, not {str(request.seed)[:20]}.")
    if isinstance(request.steps, int) and request.steps > PAGE_STEPS:
        raise SamplingError(f"{request.steps} steps are too many for this page; use at most {PAGE_STEPS}.")
    count = len(request.seeds) or request.count
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= PAGE_PICTURES:
        raise SamplingError(
            f"{count} pictures at once; ask for 1 to {PAGE_PICTURES} (python -m train.generate makes more)."
        )


def seeds_of(request: Request) -> list[int]:
    """The seed of every picture that is asked for.

    Raises:
        SamplingError: a value that is not a seed.
    """
    return picture_seeds(request.seeds or request.seed, len(request.seeds) or request.count)


def slerp(start: Tensor, end: Tensor, weights: Sequence[float]) -> Tensor:
    """Points on the great circle from one noise (C, h, w) to another, (n, C, h, w): 0 is the start, 1 the end.

    On the straight line between two noises the middle is shorter than both, by a factor of about sqrt(2), and a
    denoiser has never seen such noise. Where the two point the same way, or opposite ways, no great circle is the
    shortest one and the straight line is taken.
    """
    a, b = start.double().flatten(), end.double().flatten()
    angle = torch.arccos((a @ b / (a.norm() * b.norm())).clamp(-1, 1))
    share = torch.tensor(weights, dtype=torch.float64, device=start.device)[:, None]
    if angle.sin() < 1e-6:
        points = (1 - share) * a + share * b
    else:
        points = (((1 - share) * angle).sin() * a + (share * angle).sin() * b) / angle.sin()
    return points.view(-1, *start.shape).to(start.dtype)


def class_plans(pipeline: DRoRAEClassPipeline, request: Request, seeds: list[int]) -> tuple[str, list[_Plan]]:
    """The class by name, and its rows: guided, unguided."""
    (number,) = pipeline.label_numbers([request.subject])
    label = class_name(pipeline, number)
    plans = []
    for row, guidance in guidance_rows(request).items():
        settings = SamplerSettings(request.steps, guidance, request.scale)
        loop = pipeline.steps([number] * len(seeds), settings, seed=seeds)
        plans.append(_Plan(row, {"class": label, **sampler_settings(request, guidance)}, loop))
    return label, plans


def text_plans(pipeline: DRoRAETextPipeline, request: Request, seeds: list[int]) -> tuple[str, list[_Plan]]:
    """The prompt, and its rows: guided, unguided, and the other prompt."""
    (prompt,), (other,) = check_prompts(request.subject, "prompt"), check_prompts(request.other, "second prompt")
    rows = [(row, guidance, prompt) for row, guidance in guidance_rows(request).items()]
    if other.strip():
        rows.append(("other", rows[0][1], other))
    plans = []
    for row, guidance, text in rows:
        settings = {"prompt": text, **sampler_settings(request, guidance)}
        negative = request.negative if guidance == "cfg" else ""
        settings |= {"negative": negative} if negative else {}
        loop = pipeline.steps(
            text,
            SamplerSettings(request.steps, guidance, request.scale),
            negative_prompt=negative,
            num_images_per_prompt=len(seeds),
            seed=seeds,
        )
        plans.append(_Plan(row, settings, loop))
    return prompt, plans


def usual_guidance(pipeline: DRoRAEPipeline) -> tuple[str, float]:
    """Guidance and scale where nothing is asked for: those saved with the pipeline, else what suits its parts."""
    guidance = "autoguidance" if pipeline.guide is not None else "cfg"
    scale = 3.0 if isinstance(pipeline, DRoRAETextPipeline) else 1.5
    saved = pipeline.config.guidance, pipeline.config.guidance_scale
    return saved[0] or guidance, scale if saved[1] is None else saved[1]


def guidance_rows(request: Request) -> dict[str, str]:
    """Rows by name, with their kind of guidance."""
    guided = request.guidance != "none" and request.scale != 1
    rows = {"guided": request.guidance} if guided else {}
    return rows if guided and not request.compare else rows | {"unguided": "none"}


def sampler_settings(request: Request, guidance: str) -> dict[str, Any]:
    """What a picture has to remember of its sampling."""
    return {"steps": request.steps, "guidance": guidance} | ({"scale": request.scale} if guidance != "none" else {})


def kept_steps(count: int, wanted: int) -> set[int]:
    """At most ``wanted`` of the steps 1..count, evenly spread, the last one among them."""
    return {round(number) for number in np.linspace(count / wanted, count, wanted) if round(number) >= 1}


def decoder_names(autoencoder: AutoencoderDRoRAE) -> list[str]:
    """Decoders there are, the one that is used without being asked for last."""
    return list(DECODERS) if autoencoder.decoder_finetuned is not None else list(DECODERS[:1])


def class_names(pipeline: DRoRAEClassPipeline) -> Sequence[str]:
    """Names of the classes by number; the numbers themselves where there are no names."""
    return pipeline.config.labels or [str(number) for number in range(pipeline.denoiser.config.num_classes)]


def class_name(pipeline: DRoRAEClassPipeline, label: int) -> str:
    """Name of a class, its first synonym."""
    return class_names(pipeline)[label].split(",")[0]


def to_arrays(pipeline: DRoRAEPipeline, latents: Tensor, decoder: str | None = None) -> np.ndarray:
    """Latents (B, C, h, w) to pictures (B, H, W, 3) uint8."""
    images = pipeline.decode(latents, decoder, output_type="pt")
    return to_uint8(images).permute(0, 2, 3, 1).cpu().numpy()
