"""Everything the explorer shows of a sampling, step by step and as plain arrays."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from drorae.autoencoder import DECODERS, AutoencoderDRoRAE
from drorae.class_pipeline import DRoRAEClassPipeline
from drorae.flow import Step
from drorae.images import to_uint8
from drorae.pipeline import SamplingError, picture_seeds

MAX_PICTURES = 8
MAX_STEPS = 100
FRAMES = 8  # of the filmstrip
PREVIEWS = 10  # at most, while it runs


@dataclass(frozen=True)
class Request:
    """What to sample: pictures of one class from consecutive seeds.

    Attributes:
        compare: also sample the same seeds without guidance.
    """

    label: int | str
    seed: int = 0
    count: int = 4
    steps: int = 25
    guidance: str = "none"
    scale: float = 1.5
    compare: bool = True


@dataclass(frozen=True)
class Progress:
    """What the running steps would end at.

    Attributes:
        step, count: steps done and in all.
        previews: row name to the clean estimates, (B, H, W, 3) uint8 each; empty between previews.
        time: flow time reached, 1 is noise.
    """

    step: int
    count: int
    previews: dict[str, np.ndarray]
    time: float


@dataclass(frozen=True)
class Row:
    """The same seeds under one setting.

    Attributes:
        name: ``"guided"`` or ``"unguided"``.
        settings: one dictionary per picture, enough to make it again.
        pictures: decoder name to (B, H, W, 3) uint8.
        film: (FRAMES, B, H, W, 3) uint8, clean estimates at ``times``, the last one the picture itself.
        times: flow times of the film.
    """

    name: str
    settings: list[dict]
    pictures: dict[str, np.ndarray]
    film: np.ndarray
    times: list[float]


@dataclass(frozen=True)
class Generation:
    """A finished sampling.

    Attributes:
        label: name of the class.
        seeds: one per picture.
        rows: ``guided`` first, where there is guidance.
        seconds: computing time.
    """

    label: str
    seeds: list[int]
    rows: list[Row]
    seconds: float


def generate(pipeline: DRoRAEClassPipeline, request: Request, name: str) -> Iterator[Progress | Generation]:
    """Sample, yielding a :class:`Progress` after every step and the :class:`Generation` at the end.

    Nothing is computed that is not asked for: closing the iterator ends the sampling.

    Args:
        name: of the model, for the settings kept with every picture.

    Raises:
        SamplingError: a value that cannot be sampled, before anything is computed.
    """
    started = time.perf_counter()
    if not isinstance(request.seed, int):
        raise SamplingError(f"The first seed is a whole number from 0, not {str(request.seed)[:20]}.")
    if isinstance(request.steps, int) and request.steps > MAX_STEPS:
        raise SamplingError(f"{request.steps} steps are too many for this page; use at most {MAX_STEPS}.")
    if not isinstance(request.count, int) or isinstance(request.count, bool) or not 1 <= request.count <= MAX_PICTURES:
        raise SamplingError(
            f"{request.count} pictures at once; ask for 1 to {MAX_PICTURES} (python -m train.generate makes more)."
        )
    pipeline.check(request.steps, request.guidance, request.scale)
    (label,) = pipeline.label_numbers([request.label])
    seeds = picture_seeds(request.seed, request.count)
    guided = request.guidance != "none" and request.scale != 1
    kinds = {"guided": request.guidance} if guided else {}
    if not guided or request.compare:
        kinds["unguided"] = "none"
    loops = {
        row: pipeline.steps([label] * request.count, request.steps, guidance, request.scale, seed=seeds)
        for row, guidance in kinds.items()
    }
    frames: dict[str, list[tuple[float, Tensor]]] = {row: [] for row in kinds}
    last: dict[str, Step] = {}
    while True:
        for row, loop in loops.items():
            last[row] = next(loop)
        step = last[next(iter(loops))]
        done, count = step.index + 1, step.count
        if done in kept_steps(count, FRAMES) and done < count:
            for row, reached in last.items():
                frames[row].append((reached.next_time, reached.clean))
        if done == count:
            break
        previews = {}
        if done in kept_steps(count, PREVIEWS):
            previews = {row: to_arrays(pipeline, reached.clean) for row, reached in last.items()}
        yield Progress(done, count, previews, step.next_time)

    decoders = decoder_names(pipeline.autoencoder)
    rows = []
    for row, reached in last.items():
        settings = {"steps": request.steps, "guidance": kinds[row]}
        settings |= {"scale": request.scale} if kinds[row] != "none" else {}
        pictures = {decoder: to_arrays(pipeline, reached.latents, decoder) for decoder in decoders}
        film = [to_arrays(pipeline, clean) for _, clean in frames[row]] + [pictures[decoders[-1]]]
        times = [t for t, _ in frames[row]] + [reached.next_time]
        each = [{"model": name, "class": class_name(pipeline, label), "seed": seed, **settings} for seed in seeds]
        rows.append(Row(row, each, pictures, np.stack(film), times))
    yield Generation(class_name(pipeline, label), seeds, rows, time.perf_counter() - started)


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


def to_arrays(pipeline: DRoRAEClassPipeline, latents: Tensor, decoder: str | None = None) -> np.ndarray:
    """Latents (B, C, h, w) to pictures (B, H, W, 3) uint8."""
    images = pipeline.decode(latents, decoder, output_type="pt")
    return to_uint8(images).permute(0, 2, 3, 1).cpu().numpy()
