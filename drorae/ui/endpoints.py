"""The public endpoints: what programs and agents call, by HTTP or MCP. They are the functions behind the page."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import wraps
from types import MethodType
from typing import Any

import gradio as gr
from PIL import Image

from drorae.checkpoints import CheckpointError
from drorae.choices import LARGEST
from drorae.explorer import explore
from drorae.explorer.answers import batch_answer, intervention_answer, reconstruction_answer, routing_answer
from drorae.explorer.interventions import InterventionError
from drorae.explorer.reading import Cut, cut_photo
from drorae.explorer.sampling import Generation, Request, sample_with_progress
from drorae.images import ImageError, Photo
from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.pipelines.base import SamplingError
from drorae.ui import durations, gpu
from drorae.ui.components import PictureInput, hide
from drorae.ui.generators import CLASS, TEXT, Generator
from drorae.ui.lanes import IN_EXPLORE, IN_GENERATE, IN_PHOTOS, goes_on
from drorae.ui.many_photos import MAX_PHOTOS, explore_files
from drorae.ui.parsing import as_int, intervention_of
from drorae.ui.turns import BATCHES
from drorae.ui.uploads import as_unicode, open_upload, upload_names

KNOWN = (CheckpointError, ImageError, InterventionError, SamplingError, gpu.GPUError)


def add_endpoints(model: AutoencoderDRoRAE, generators: list[Generator]) -> None:
    """Endpoints ``reconstruct``, ``routing``, ``intervene``, ``batch``, and with a generator of that kind
    ``sample_class`` and ``sample_text``."""
    with gr.Column(visible=False) as column:
        picture, image, numbers = PictureInput(label="picture"), gr.Image(format="png"), gr.JSON()
        layers, tokens = gr.JSON(None, label="layers"), gr.JSON(None, label="tokens")
        beta, files = gr.Number(None, label="beta"), gr.File(file_count="multiple", label="pictures")
        frame = [gr.Number(None, label="size"), gr.Checkbox(False, label="whole")]
        label, prompt = gr.Textbox(label="label"), gr.Textbox(label="prompt")
        negative = gr.Textbox("", label="negative_prompt")
        seed, steps = gr.Number(0, label="seed"), gr.Number(25, label="steps")
        guidance, scale = gr.Textbox("none", label="guidance"), gr.Number(1.0, label="scale")
        button = gr.Button()
    hide(column)

    both, sampler = [image, numbers], [seed, steps, guidance, scale]
    kinds = {generator.kind for generator in generators}
    calls = [
        (IN_EXPLORE, MethodType(reconstruct, model), [picture, *frame], both),
        (IN_EXPLORE, MethodType(routing, model), [picture, *frame], numbers),
        (IN_EXPLORE, MethodType(intervene, model), [picture, layers, beta, tokens, *frame], both),
        (IN_PHOTOS, MethodType(batch, model), [files, *frame], numbers),
    ]
    if CLASS in kinds:
        calls.append((IN_GENERATE, MethodType(sample_class, generators), [label, *sampler], both))
    if TEXT in kinds:
        calls.append((IN_GENERATE, MethodType(sample_text, generators), [prompt, negative, *sampler], both))
    for lane, call, inputs, outputs in calls:
        button.click(errors_as_sentences(call), inputs, outputs, api_name=call.__name__, **lane)


def read_picture(path: str | None) -> Image.Image:
    """The picture in a file that was sent.

    Raises:
        ImageError: there is none, or it cannot be read.
    """
    if path is None:
        raise ImageError("There is no picture; send one.")
    return open_upload(path)


def cut_of(model: AutoencoderDRoRAE, picture: str | None, size: int | None, whole: bool) -> Cut:
    """The part of a picture that was sent which the model reads.

    Raises:
        ImageError: as :func:`read_picture`, :func:`side_of` and the model do.
    """
    return cut_photo(Photo.of(read_picture(picture)), model, side_of(size), whole)


def explore_cut(model: AutoencoderDRoRAE, cut: Cut) -> explore.Exploration:
    """A part of a picture through every route, where networks run."""
    return gpu.run(explore.explore, cut, model, False, seconds=durations.painting_seconds(cut))


def side_of(size: float | None) -> Any:
    """The side in pixels that was asked for, which the model checks; ``None`` is its usual one.

    Raises:
        ImageError: one that would keep others waiting.
    """
    if size is not None and size > LARGEST:
        raise ImageError(f"This page works at up to {LARGEST} pixels, not at {size:g}; the command line has no limit.")
    if size is not None and not isinstance(as_int(size), int):
        raise ImageError(f"The side is a whole number of pixels, not {size:g}.")
    return as_int(size)


def reconstruct(
    model: AutoencoderDRoRAE, picture: str | None, size: int | None = None, whole: bool = False
) -> tuple[Image.Image, dict[str, Any]]:
    """Rebuild a picture from the encoder's last layer (rae), from all layers with the same decoder (phase2) and with
    the finetuned decoder (drorae). Returns the best one, the metrics of all, and the size they were measured at.

    Args:
        picture: PNG, JPEG, WebP, AVIF, BMP, TIFF or a still GIF; its central square is used.
        size: side of that square in pixels, a multiple of the model's patch; null for the usual one.
        whole: take all of the picture, with about as many pixels, instead of the square.
    """
    result = explore_cut(model, cut_of(model, picture, size, whole))
    return Image.fromarray(list(result.pictures.values())[-1]), reconstruction_answer(result)


def routing(
    model: AutoencoderDRoRAE, picture: str | None, size: int | None = None, whole: bool = False
) -> dict[str, Any]:
    """Signed weight and share of every encoder layer at every token of a picture. Returns one row per token, in
    row-major order of the grid, with one number per layer; the mean shares; and how the shares go with texture.

    Args:
        picture: PNG, JPEG, WebP, AVIF, BMP, TIFF or a still GIF; its central square is used.
        size: side of that square in pixels, a multiple of the model's patch; null for the usual one.
        whole: take all of the picture, with about as many pixels, instead of the square.
    """
    result = explore_cut(model, cut_of(model, picture, size, whole))
    if result.weights is None:
        raise InterventionError("This model has no fusion, so there is no routing.")
    return routing_answer(result)


def intervene(
    model: AutoencoderDRoRAE,
    picture: str | None,
    layers: list[int] | None = None,
    beta: float | None = None,
    tokens: list[int] | None = None,
    size: int | None = None,
    whole: bool = False,
) -> tuple[Image.Image, dict[str, Any]]:
    """Rebuild a picture with other layers or another strength, everywhere or at some tokens. Returns the rebuilt
    picture, its metrics, and how far its latent is from what the decoder was trained on.

    Args:
        picture: PNG, JPEG, WebP, AVIF, BMP, TIFF or a still GIF; its central square is used.
        layers: numbers, from 1, of the layers that stay in the sum; null for all.
        beta: strength of the correction, 0 (last layer only) to 1 (fused only); null for the trained one.
        tokens: row-major numbers, from 0, of the tokens to change; null for all.
        size: side of that square in pixels, a multiple of the model's patch; null for the usual one.
        whole: take all of the picture, with about as many pixels, instead of the square.
    """
    intervention = intervention_of({"layers": layers, "beta": beta, "tokens": tokens})
    cut = cut_of(model, picture, size, whole)
    frame = gpu.run(explore.intervene, cut, model, intervention, seconds=durations.painting_seconds(cut))
    return Image.fromarray(frame.picture), intervention_answer(frame)


def batch(
    model: AutoencoderDRoRAE, pictures: list[str] | None, size: int | None = None, whole: bool = False
) -> list[dict[str, Any]]:
    """Metrics, gain, harmed share and dominant layer of many pictures. Returns one row per picture, in their order;
    bad files are named in their rows.

    Args:
        pictures: up to 500 pictures; their central squares are used.
        size: side of those squares in pixels, a multiple of the model's patch; null for the usual one.
        whole: take all of every picture, with about as many pixels, instead of the square.
    """
    if not pictures or len(pictures) > MAX_PHOTOS:
        raise ImageError(f"Send between 1 and {MAX_PHOTOS} pictures, not {len(pictures or ())}.")
    rows = explore_files(pictures, model, upload_names(pictures), open_upload, side_of(size), whole)
    return [batch_answer(row) for row in BATCHES.step_by_step(rows, goes_on)]


def sample_class(
    generators: list[Generator], label: str, seed: float, steps: float, guidance: str, scale: float
) -> tuple[Image.Image, dict[str, Any]]:
    """Sample one picture of a class.

    Args:
        label: the class by name or number.
        seed: whole number that chooses the noise; equal seeds give equal pictures.
        steps: number of steps of the sampler.
        guidance: none, cfg or autoguidance.
        scale: strength of the guidance, 1 is none.
    """
    return sample_one(generators, CLASS, Request(label, as_int(seed), 1, as_int(steps), guidance, scale, compare=False))


def sample_text(
    generators: list[Generator],
    prompt: str,
    negative_prompt: str,
    seed: float,
    steps: float,
    guidance: str,
    scale: float,
) -> tuple[Image.Image, dict[str, Any]]:
    """Sample one picture of a text.

    Args:
        prompt: what to show.
        negative_prompt: what classifier-free guidance leads away from.
        seed: whole number that chooses the noise; equal seeds give equal pictures.
        steps: number of steps of the sampler.
        guidance: none or cfg.
        scale: strength of the guidance, 1 is none.
    """
    settings = (as_int(seed), 1, as_int(steps), guidance, scale)
    return sample_one(generators, TEXT, Request(prompt, *settings, compare=False, negative=negative_prompt))


def sample_one(generators: list[Generator], kind: str, request: Request) -> tuple[Image.Image, dict[str, Any]]:
    """The picture of a request and its settings, from the first generator of a kind."""
    generator = next(generator for generator in generators if generator.kind == kind)
    given = generator.load(), request, generator.title
    with closing(gpu.stream(sample_with_progress, *given, seconds=durations.sampling_seconds(request))) as states:
        for state in states:
            if isinstance(state, Generation):
                return picture_and_settings(state)
            if not goes_on():
                break
    raise SamplingError("Whoever asked for this picture has left.")


def picture_and_settings(made: Generation) -> tuple[Image.Image, dict[str, Any]]:
    """The picture of the decoder that was trained last, and its settings."""
    row = made.rows[0]
    *_, pictures = row.pictures.values()
    return Image.fromarray(pictures[0]), row.settings[0]


def errors_as_sentences(function: Callable) -> Callable:
    """The function with known errors turned into ``gr.Error`` of one sentence, without a traceback."""

    @wraps(function)
    def call(*args: Any) -> Any:
        try:
            return function(*args)
        except KNOWN as error:
            raise gr.Error(as_unicode(str(error)), print_exception=False) from None

    return call
