"""What the view Generate asks for: plain functions of a wish, whose values come one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from drorae.checkpoints import CheckpointError
from drorae.errors import reason_of
from drorae.explorer.journeys import (
    MAX_SCALES,
    WALK,
    PhotoJourney,
    morph,
    sample_from_photo,
    sample_grid,
    sample_walk,
)
from drorae.explorer.sampling import Request, SamplingProgress, check_request, sample_with_progress
from drorae.images import ImageError, square
from drorae.pipelines.base import SamplingError
from drorae.ui import gpu
from drorae.ui.durations import READING, sampling_seconds
from drorae.ui.generators import CLASS, RAE_NEEDS, RAE_TITLE, TEXT, Generator
from drorae.ui.models import Shelf
from drorae.ui.parsing import as_int
from drorae.ui.photo import Wish, photo_path
from drorae.ui.uploads import open_upload
from drorae.viewers.journeys import journey_value, morph_value, photo_journey_value
from drorae.viewers.values import generation_value, progress_value

STEPS, COUNT = 25, 3
GUIDANCE = {"none": "no guidance", "cfg": "classifier-free guidance", "autoguidance": "AutoGuidance"}
EMBEDDED = ("drorae-tiny-class", "drorae-tiny-text")
WEAK = "A weak generator: colours and settings come out, objects seldom."
STRONG = "RAE's published generator, on the GPU of this machine."
OTHER = "A generator of yours. Every seed is one picture, the same on every machine."
NO_GENERATOR = (
    "There is no generator for this model here. Train one (python -m train.stage2) and open it with "
    f"python app.py --generator FOLDER. {RAE_NEEDS}"
)
FIRST_CLASS = "golden retriever"
PROMPTS = (
    "two dogs run on the grass",
    "a child plays in the snow",
    "a boy jumps into a pool",
    "a photo of a golden retriever",
    "a photo of a church",
    "a photo of a golf ball",
)
EMPTY = "Say what to make first."
KNOWN = (CheckpointError, ImageError, SamplingError, gpu.GPUError)
UNFORESEEN = "This could not be made here. Try again, or with other settings."


def page_config(generators: list[Generator]) -> dict[str, Any]:
    """What the view knows before anything is asked: the generators and what each can be told."""
    return {
        "generators": [generator_config(generator) for generator in generators],
        "none": NO_GENERATOR,
        "needs": None if any(generator.title == RAE_TITLE for generator in generators) else RAE_NEEDS,
        "guidance": GUIDANCE,
    }


def generator_config(generator: Generator) -> dict[str, Any]:
    """One generator as the view knows it; ``chosen`` are seeds by class or prompt, and how many were looked at."""
    names = [name.split(",")[0] for name in generator.names()]
    kinds = [kind for kind in GUIDANCE if kind != "autoguidance" or generator.has_guide()]
    guidance, scale = generator.usual_guidance()
    return {
        "title": generator.title,
        "kind": generator.kind,
        "names": names,
        "suggestions": list(PROMPTS) if generator.kind == TEXT else [],
        "start": first_subject(names) if generator.kind == CLASS else PROMPTS[0],
        "guidance": kinds,
        "settings": {"steps": STEPS, "guidance": guidance, "scale": scale, "count": COUNT},
        "note": WEAK if generator.title in EMBEDDED else STRONG if generator.title == RAE_TITLE else OTHER,
        "chosen": generator.chosen(),
        "first": generator.has_first(),
    }


def first_subject(names: list[str]) -> str:
    """The class that the view starts with."""
    return FIRST_CLASS if FIRST_CLASS in names else names[0]


def answer(shelf: Shelf, generators: list[Generator], wish: Wish) -> Iterator[dict[str, Any]]:
    """Answers to a wish, each an update of the channel: ``key`` and ``value`` or ``error``; the last one is the result.

    Args:
        wish: ``key``, ``what`` (a name of :data:`ANSWERS`), ``generator`` (its title), and what that takes.
    """
    key = wish.get("key")
    try:
        make = ANSWERS.get(str(wish.get("what")))
        if make is None:
            raise SamplingError(f"The page cannot make '{str(wish.get('what'))[:20]}'.")
        for value in make(shelf, generators, wish):
            yield gr.update(answer={"key": key, "value": value})
    except KNOWN as error:
        yield gr.update(answer={"key": key, "error": str(error)})
    except RuntimeError as error:  # of the device: out of memory, or lost
        title = str(wish.get("generator"))[:80]
        yield gr.update(answer={"key": key, "error": f"{title} could not run here: {reason_of(error)}"})


def failure_answer(wish: Wish) -> dict[str, Any]:
    """The answer to a wish that broke off: it was stopped, or nobody foresaw what happened."""
    return gr.update(answer={"key": wish.get("key"), "error": UNFORESEEN})


def generator_of(generators: list[Generator], wish: Wish) -> Generator:
    """The generator that a wish names.

    Raises:
        SamplingError: there is none of that title.
    """
    found = [generator for generator in generators if generator.title == wish.get("generator")]
    if not found:
        raise SamplingError(f"There is no generator '{str(wish.get('generator'))[:60]}' on this page.")
    return found[0]


def request_of(generator: Generator, wish: Wish) -> Request:
    """The sampling that a wish asks for, already checked as far as no model is needed for it.

    Raises:
        SamplingError: nothing is asked for, or a value that cannot be sampled.
    """
    subject = wish.get("subject")
    if subject is None or (isinstance(subject, str) and not subject.strip()):
        raise SamplingError(EMPTY)
    seeds = wish.get("seeds")
    if not isinstance(seeds, list) or not seeds:
        raise SamplingError("Give at least one seed.")
    text = generator.kind == TEXT
    request = Request(
        subject=subject if text else as_int(subject),
        seed=0,
        steps=as_int(wish.get("steps", STEPS)),
        guidance=str(wish.get("guidance", "none")),
        scale=wish.get("scale", 1.0),
        compare=False,
        negative=str(wish.get("negative") or "") if text else "",
        other=str(wish.get("other") or "") if text else "",
        seeds=tuple(as_int(seed) for seed in seeds),
    )
    check_request(request)
    return request


def make_first(_shelf: Shelf, generators: list[Generator], wish: Wish) -> Iterator[dict[str, Any]]:
    """The pictures that ship with a generator, ``None`` where none belong to it."""
    yield {"first": generator_of(generators, wish).first()}


def make_pictures(_shelf: Shelf, generators: list[Generator], wish: Wish) -> Iterator[dict[str, Any]]:
    """Pictures of a class or a text, with what each step would end at."""
    generator = generator_of(generators, wish)
    request = request_of(generator, wish)
    yield from announce_loading(generator)
    given = (generator.load(), request, generator.title)
    for state in gpu.stream(sample_with_progress, *given, seconds=sampling_seconds(request)):
        yield progress_value(state) if isinstance(state, SamplingProgress) else generation_value(state)


def make_grid(_shelf: Shelf, generators: list[Generator], wish: Wish) -> Iterator[dict[str, Any]]:
    """Seeds against guidance scales."""
    generator = generator_of(generators, wish)
    request = request_of(generator, wish)
    yield from announce_loading(generator)
    scales = wish.get("scales")
    rows = min(len(scales), MAX_SCALES) if isinstance(scales, list) else 1
    given = (generator.load(), request, scales)
    yield from map(journey_value, gpu.stream(sample_grid, *given, seconds=sampling_seconds(request, rows=rows)))


def make_walk(_shelf: Shelf, generators: list[Generator], wish: Wish) -> Iterator[dict[str, Any]]:
    """A walk from one seed and subject to another."""
    generator = generator_of(generators, wish)
    request, end = request_of(generator, wish), request_of(generator, {**wish, "subject": wish.get("end")})
    if len(request.seeds) != 2:
        raise SamplingError("A walk leads from one seed to another; give two.")
    yield from announce_loading(generator)
    given = (generator.load(), request, request.seeds[1], end.subject)
    yield from map(journey_value, gpu.stream(sample_walk, *given, seconds=sampling_seconds(request, WALK, 1)))


def make_from_photo(_shelf: Shelf, generators: list[Generator], wish: Wish) -> Iterator[dict[str, Any]]:
    """A photo with noise, denoised as a class or a text."""
    generator = generator_of(generators, wish)
    request = request_of(generator, wish)
    picture = open_upload(photo_path(photos_of(wish, 1)[0]))
    yield from announce_loading(generator)
    pipeline = generator.load()
    given = (pipeline, request, square(picture, pipeline.autoencoder.image_size), wish.get("time"))
    for state in gpu.stream(sample_from_photo, *given, seconds=sampling_seconds(request, rows=1)):
        yield photo_journey_value(state) if isinstance(state, PhotoJourney) else journey_value(state)


def make_morph(shelf: Shelf, _generators: list[Generator], wish: Wish) -> Iterator[dict[str, Any]]:
    """Between two photos, along their latents."""
    model = shelf.get(wish.get("model") or shelf.first)
    ends = [square(open_upload(photo_path(photo)), model.image_size) for photo in photos_of(wish, 2)]
    yield morph_value(gpu.run(morph, model, *ends, seconds=READING + WALK))


ANSWERS = {
    "first": make_first,
    "pictures": make_pictures,
    "grid": make_grid,
    "walk": make_walk,
    "photo": make_from_photo,
    "morph": make_morph,
}


def announce_loading(generator: Generator) -> Iterator[dict[str, Any]]:
    """Say that a generator is loaded, where that takes a while."""
    if not generator.is_loaded():
        yield {"running": True, "loading": generator.title}


def photos_of(wish: Wish, count: int) -> list[dict[str, Any]]:
    """The photos that a wish names.

    Raises:
        ImageError: another number of them.
    """
    photos = wish.get("photos")
    if not isinstance(photos, list) or len(photos) != count or not all(isinstance(photo, dict) for photo in photos):
        raise ImageError(f"Choose {'a photo' if count == 1 else 'two photos'} first.")
    return photos
