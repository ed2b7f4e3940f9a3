"""Many pictures in one look: seeds against guidance scales, the walk between two, and a photo as the start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from drorae.explorer.reading import open_picture
from drorae.explorer.sampling import (
    PREVIEWS,
    Request,
    check_request,
    class_plans,
    kept_steps,
    seeds_of,
    slerp,
    text_plans,
    to_arrays,
)
from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.pipelines import flow
from drorae.pipelines.base import DRoRAEPipeline, SamplerSettings, SamplingError
from drorae.pipelines.class_to_image import DRoRAEClassPipeline
from drorae.pipelines.guidance import Condition
from drorae.pipelines.text_to_image import DRoRAETextPipeline, check_prompts, same_length

MAX_SCALES = 6
WALK = 8  # pictures of a walk and of a morph, both ends among them


@dataclass(frozen=True)
class Journey:
    """Pictures on the way, as far as they have come.

    Attributes:
        done, total: steps.
        pictures: (n, H, W, 3) uint8: the finished rows of a grid one after the other; where the steps so far of a walk
            or from a photo would end; empty where there is nothing new to see.
    """

    done: int
    total: int
    pictures: np.ndarray


NOTHING: np.ndarray = np.zeros((0, 0, 0, 3), np.uint8)


@torch.no_grad()
def sample_grid(pipeline: DRoRAEPipeline, request: Request, scales: Sequence[float]) -> Iterator[Journey]:
    """The seeds of a request at several guidance scales, a row of pictures for each; its own scale is not used.

    Raises:
        SamplingError: a value that cannot be sampled, before anything is computed.
    """
    check_request(request)
    if not isinstance(scales, (list, tuple)) or not 1 <= len(scales) <= MAX_SCALES:
        raise SamplingError(f"Give 1 to {MAX_SCALES} guidance scales, not {str(scales)[:40]!r}.")
    if request.guidance == "none":
        raise SamplingError("Without guidance there are no scales; choose a kind of guidance in the settings.")
    for scale in scales:
        pipeline.check(SamplerSettings(request.steps, request.guidance, scale))
    seeds = seeds_of(request)
    make_plans = text_plans if isinstance(pipeline, DRoRAETextPipeline) else class_plans
    total, rows = len(scales) * request.steps, []
    for number, scale in enumerate(scales):
        _, (plan, *_) = make_plans(pipeline, replace(request, scale=scale, compare=False, other=""), seeds)
        for step in plan.loop:
            done = number * request.steps + step.index + 1
            if step.index + 1 == step.count:
                rows.append(to_arrays(pipeline, step.latents))
            yield Journey(done, total, np.concatenate(rows) if step.index + 1 == step.count else NOTHING)


@torch.no_grad()
def sample_walk(
    pipeline: DRoRAEPipeline, start: Request, end_seed: int, end_subject: int | str | None = None
) -> Iterator[Journey]:
    """``WALK`` pictures from one seed and subject to another: the noise on a great circle, the condition on a line.

    Args:
        start: the first picture; of its seeds only the first counts.
        end_seed: seed of the last picture.
        end_subject: class or prompt of the last picture, that of ``start`` when ``None``.

    Raises:
        SamplingError: a value that cannot be sampled, before anything is computed.
    """
    start = replace(start, seeds=(seeds_of(replace(start, count=1, seeds=start.seeds[:1]))[0], end_seed))
    check_request(start)
    ends = pipeline.noise(2, seeds_of(start), None, None)
    weights = np.linspace(0, 1, WALK).tolist()
    subjects = [start.subject, start.subject if end_subject is None else end_subject]
    condition, without = conditions(pipeline, subjects, start)
    mixed = {name: mix(values, weights) for name, values in condition.items()}
    if "encoder_attention_mask" in mixed:  # the tokens of both texts count on the way
        mixed["encoder_attention_mask"] = mixed["encoder_attention_mask"] > 0
    nothing = {name: values[:1].expand(WALK, *values.shape[1:]) for name, values in without.items()}
    noise = slerp(ends[0], ends[1], weights)
    yield from follow(pipeline, start, mixed, nothing, noise)


@torch.no_grad()
def sample_from_photo(
    pipeline: DRoRAEPipeline, request: Request, picture: Image.Image, time: float
) -> Iterator[PhotoJourney | Journey]:
    """A photo's latent with noise up to a flow time, denoised under the request's class or prompt.

    First comes what the steps start from, a :class:`PhotoJourney`, then one :class:`Journey` per step.

    Args:
        picture: RGB, of any size; its central square is used.
        time: in (0, 1]; 1 is noise alone. The closest start of a step is taken.

    Raises:
        SamplingError: a value that cannot be sampled, before anything is computed.
    """
    check_request(request)
    if not isinstance(time, (int, float)) or isinstance(time, bool) or not 0 < time <= 1:
        raise SamplingError(f"The share of noise is above 0 and at most 1, not {str(time)[:20]}.")
    seeds = seeds_of(request)
    condition, without = conditions(pipeline, [request.subject], request)
    pipeline.check(SamplerSettings(request.steps, request.guidance, request.scale))
    model = pipeline.autoencoder
    latent = model.encode(open_picture(picture, model, model.image_size)).latent.float()
    noise = pipeline.noise(len(seeds), seeds, None, None)
    grid = flow.start(pipeline.scheduler, request.steps, noise.device)
    begin = flow.first_step(grid, time)
    reached = flow.times_of(grid)[begin]
    noisy = (1 - reached) * latent + reached * noise
    pictures = to_arrays(pipeline, torch.cat([latent, noisy[:1]]))
    yield PhotoJourney(reached, request.steps - begin, pictures[0], pictures[1])
    guided, unguided = (
        {name: values.expand(len(seeds), *values.shape[1:]) for name, values in each.items()}
        for each in (condition, without)
    )
    yield from follow(pipeline, request, guided, unguided, noisy, begin)


@dataclass(frozen=True)
class PhotoJourney:
    """What denoising a photo starts from.

    Attributes:
        time: flow time of the noisy latent.
        steps: how many there are from there.
        rebuilt, noisy: (H, W, 3) uint8, its latent decoded without noise and with it.
    """

    time: float
    steps: int
    rebuilt: np.ndarray
    noisy: np.ndarray


@dataclass(frozen=True)
class Morph:
    """Latents between two photos, decoded.

    Attributes:
        last, fused: (WALK, H, W, 3) uint8, from the last layer's latents and from those of all layers; ``fused`` is
            ``None`` without fusion.
    """

    last: np.ndarray
    fused: np.ndarray | None


@torch.inference_mode()
def morph(model: AutoencoderDRoRAE, start: Image.Image, end: Image.Image) -> Morph:
    """The straight line between the latents of two photos, at the size that latents are generated at.

    Each kind of latent is painted by the decoder that was trained on it.
    """
    images = torch.cat([open_picture(picture, model, model.image_size) for picture in (start, end)])
    weights = np.linspace(0, 1, WALK).tolist()

    def painted(fusion: bool) -> np.ndarray:
        latents = mix(model.encode(images, fusion=fusion).latent, weights).to(model.dtype)
        pictures = model.decode(latents, decoder=None if fusion else "original").sample
        return (pictures.float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()

    return Morph(painted(False), painted(True) if model.fusion_module is not None else None)


def follow(
    pipeline: DRoRAEPipeline,
    request: Request,
    condition: Condition,
    without: Condition,
    latents: Tensor,
    begin: int = 0,
) -> Iterator[Journey]:
    """The steps from latents (B, C, h, w) on, with previews; the last one has the pictures."""
    settings = SamplerSettings(request.steps, request.guidance, request.scale)
    pipeline.check(settings)
    total = request.steps - begin
    for step in pipeline.follow(condition, without, latents, settings, begin):
        done = step.index + 1 - begin
        if step.index + 1 == step.count:
            pictures = to_arrays(pipeline, step.latents)
        elif done in kept_steps(total, PREVIEWS):
            pictures = to_arrays(pipeline, step.clean)
        else:
            pictures = NOTHING
        yield Journey(done, total, pictures)


def conditions(
    pipeline: DRoRAEPipeline, subjects: Sequence[int | str], request: Request
) -> tuple[Condition, Condition]:
    """The condition of every class or prompt, and what classifier-free guidance leads away from. Classes are weights of
    all classes, so that they can be mixed.

    Raises:
        SamplingError: an unknown class, or something that is not a text.
    """
    if isinstance(pipeline, DRoRAEClassPipeline):
        numbers = torch.tensor(pipeline.label_numbers(list(subjects)))
        nothing = torch.full_like(numbers, pipeline.denoiser.null_label)
        one_hot = torch.nn.functional.one_hot(torch.stack([numbers, nothing]), pipeline.denoiser.null_label + 1)
        known, none = one_hot.float().to(pipeline._execution_device)
        return {"class_labels": known}, {"class_labels": none}
    assert isinstance(pipeline, DRoRAETextPipeline)
    prompts = check_prompts(list(subjects), "prompt")
    negative = check_prompts(request.negative if request.guidance == "cfg" else "", "negative text") * len(prompts)
    known, none = same_length(pipeline.encode_prompts(prompts), pipeline.encode_prompts(negative))
    return without_padding(known), without_padding(none)


def without_padding(condition: Condition) -> Condition:
    """Text tokens with zeros for those that do not count, which add nothing where texts are mixed."""
    tokens, mask = condition["encoder_hidden_states"], condition["encoder_attention_mask"]
    return {"encoder_hidden_states": tokens * mask[..., None], "encoder_attention_mask": mask}


def mix(ends: Tensor, weights: Sequence[float]) -> Tensor:
    """Points on the line from ``ends[0]`` to ``ends[1]``, (2, ...) to (n, ...): 0 is the start, 1 the end."""
    share = torch.tensor(weights, dtype=torch.float32, device=ends.device).view(-1, *[1] * (ends.ndim - 1))
    return (1 - share) * ends[0].float() + share * ends[1].float()
