"""Tab *Generate*: samples of a class or a text, the steps that led to them, with and without guidance."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import gradio as gr
import torch

from drorae.checkpoints import CheckpointError, reason_of
from drorae.explorer.sampling import (
    MAX_PICTURES,
    MAX_STEPS,
    Generation,
    Progress,
    Request,
    sample_to_end,
    sample_with_progress,
)
from drorae.images import ImageError, load_image
from drorae.pipelines.base import SamplingError
from drorae.ui.about_tab import NO_CARD, model_card
from drorae.ui.components import Dial, GenerateViewer
from drorae.ui.generators import CLASS, RAE_NEEDS, TEXT, Generator
from drorae.ui.parsing import as_int, payload_of
from drorae.ui.status import status_line
from drorae.viewers.values import generation_value, progress_value

PNG_PREFIX = "data:image/png;base64,"
MAX_SEED_DRAWN = 10_000  # short enough to be written down
STEPS, COUNT = 25, 4
SCALES = {CLASS: 1.5, TEXT: 3.0}
GUIDANCE_CHOICES = [("none", "none"), ("classifier-free", "cfg"), ("AutoGuidance", "autoguidance")]
KIND_CHOICES = [("a class", CLASS), ("a text", TEXT)]
EMBEDDED = ("drorae-tiny-class", "drorae-tiny-text")
EMBEDDED_NOTE = (
    "{names} trained for hours on two CPU cores, where others take days on many GPUs: expect the colours and settings "
    "of a {subjects}, seldom objects."
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


class GenerateTab(NamedTuple):
    """Inputs, buttons and outputs of the tab."""

    kind: gr.Radio
    model: gr.Dropdown
    label: gr.Dropdown
    prompt: gr.Textbox
    negative: gr.Textbox
    other: gr.Textbox
    examples: gr.Dataset
    seed: gr.Number
    count: Dial
    steps: Dial
    guidance: gr.Radio
    scale: Dial
    compare: gr.Checkbox
    run: gr.Button
    stop: gr.Button
    other_seeds: gr.Button
    status: gr.HTML
    viewer: GenerateViewer


def first_generation(generator: Generator) -> Generation:
    """What the tab shows before anybody asked for anything."""
    guidance = guidance_choices(generator)[-1][1]
    label = first_label(generator.names())
    subject = PROMPTS[0] if label is None else label  # a generator of texts has no classes
    request = Request(subject, 0, COUNT, STEPS, guidance, SCALES[generator.kind])
    return sample_to_end(generator.load(), request, generator.title)


def class_choices(names: list[str]) -> list[tuple[str, int]]:
    """Classes as the dropdown offers them: by number, since names may be those of several classes."""
    return [(name, number) for number, name in enumerate(names)]


def first_label(names: list[str]) -> int | None:
    """The class the tab starts with."""
    return names.index(FIRST_CLASS) if FIRST_CLASS in names else (0 if names else None)


def guidance_choices(generator: Generator) -> list[tuple[str, str]]:
    """Kinds of guidance that this generator has the parts for, the one to start with last."""
    return [choice for choice in GUIDANCE_CHOICES if choice[1] != "autoguidance" or generator.has_guide()]


def embedded_note(generators: list[Generator]) -> str:
    """What to expect of those of the shipped generators that are there."""
    names = " and ".join(f"`{generator.title}`" for generator in generators)
    verb = "was" if len(generators) == 1 else "were"
    subjects = " or ".join(generator.kind for generator in generators)
    return EMBEDDED_NOTE.format(names=f"{names} {verb}", subjects=subjects)


def models_note(kind: str) -> str | None:
    """What the choice of generators says where the published one, of classes, cannot be chosen."""
    return RAE_NEEDS if kind == CLASS and not torch.cuda.is_available() else None


def controls_for(generator: Generator) -> dict[str, dict[str, Any]]:
    """What the controls show for a generator, by their names in :class:`GenerateTab`."""
    names, kinds, text = generator.names(), guidance_choices(generator), generator.kind == TEXT
    return {
        "label": {"choices": class_choices(names), "value": first_label(names), "visible": not text},
        "prompt": {"visible": text},
        "negative": {"visible": text},
        "other": {"visible": text},
        "examples": {"visible": text},
        "guidance": {"choices": kinds, "value": kinds[-1][1]},
        "scale": {"value": SCALES[generator.kind]},
    }


def build(generators: list[Generator], first: Generation | None) -> GenerateTab | None:
    """Build the tab around a finished sampling; without a generator it says how to get one."""
    with gr.Tab("Generate", id="generate"):
        if not generators:
            gr.Markdown(
                "There is no generator for this model here. Train one (`python -m train.stage2`) and open it with "
                f"`python app.py --generator FOLDER`. {RAE_NEEDS}",
                elem_id="no-generator",
            )
            return None
        start = generators[0]
        shown = controls_for(start)
        there = {generator.kind for generator in generators}
        gr.Markdown(
            "A denoiser starts from noise and walks to a latent that the tokenizer can paint. Every seed is one "
            "picture, the same on every machine.",
            elem_id="generate-introduction",
        )
        embedded = [generator for generator in generators if generator.title in EMBEDDED]
        if embedded:
            gr.Markdown(embedded_note(embedded), elem_id="embedded-note")
        with gr.Row(elem_id="generate-controls"):
            with gr.Column(min_width=220):
                kind = gr.Radio(
                    [choice for choice in KIND_CHOICES if choice[1] in there],
                    value=start.kind,
                    label="Pictures of",
                    visible=len(there) > 1,
                    elem_id="kind",
                )
                label = gr.Dropdown(
                    label="Class",
                    info="Type to search.",
                    filterable=True,
                    allow_custom_value=True,  # so that an unknown one is answered in a sentence
                    elem_id="class",
                    **shown["label"],
                )
                prompt = gr.Textbox(PROMPTS[0], label="Text", lines=2, elem_id="prompt", **shown["prompt"])
                examples = gr.Dataset(
                    components=[prompt],
                    samples=[[text] for text in PROMPTS],
                    label="Such as",
                    elem_id="prompts",
                    **shown["examples"],
                )
                model = gr.Dropdown(
                    [generator.title for generator in generators if generator.kind == start.kind],
                    value=start.title,
                    label="Model",
                    info=models_note(start.kind),
                    elem_id="generator",
                )
            with gr.Column(min_width=220):
                guidance = gr.Radio(label="Guidance", elem_id="guidance", **shown["guidance"])
                scale = Dial(
                    1, 10, step=0.1, label="Guidance scale", info="1 is none.", elem_id="scale", **shown["scale"]
                )
                compare = gr.Checkbox(True, label="Also the same seeds unguided", elem_id="compare-unguided")
                negative = gr.Textbox(
                    label="Away from (negative text)",
                    info="With classifier-free guidance.",
                    elem_id="negative",
                    **shown["negative"],
                )
                other = gr.Textbox(
                    label="Compare with another text", info="The same seeds.", elem_id="other", **shown["other"]
                )
            with gr.Column(min_width=220):
                seed = gr.Number(0, label="First seed", elem_id="seed")
                count = Dial(1, MAX_PICTURES, COUNT, step=1, label="Pictures", elem_id="count")
                steps = Dial(1, MAX_STEPS, STEPS, step=1, label="Steps", elem_id="steps")
        with gr.Row():
            run = gr.Button("Generate", variant="primary", elem_id="generate-run")
            other_seeds = gr.Button("Other seeds", elem_id="other-seeds")
            stop = gr.Button("Stop", variant="stop", interactive=False, elem_id="generate-stop")
        status = gr.HTML(elem_id="generate-status")
        viewer = GenerateViewer(None if first is None else generation_value(first), elem_id="samples")
        for generator in generators:
            card = model_card(generator.title)
            if card != NO_CARD:
                with gr.Accordion(f"Card of {generator.title}", open=False):
                    gr.Markdown(card, elem_classes="card")
    return GenerateTab(
        kind=kind,
        model=model,
        label=label,
        prompt=prompt,
        negative=negative,
        other=other,
        examples=examples,
        seed=seed,
        count=count,
        steps=steps,
        guidance=guidance,
        scale=scale,
        compare=compare,
        run=run,
        stop=stop,
        other_seeds=other_seeds,
        status=status,
        viewer=viewer,
    )


def button_states(running: bool) -> list[gr.Button]:
    """Which of the buttons *Generate*, *Other seeds* and *Stop* can be pressed."""
    return [gr.Button(interactive=not running), gr.Button(interactive=not running), gr.Button(interactive=running)]


def sample(
    generators: list[Generator],
    title: str,
    label: int | str,
    prompt: str,
    negative: str,
    other: str,
    seed: float,
    count: float,
    steps: float,
    guidance: str,
    scale: float,
    compare: bool,
) -> Iterator[tuple[Any, ...]]:
    """Sample pictures of a class or of a text, yielding status line, viewer and the three buttons; the last value is
    the finished one.

    Args:
        generators: those that the tab offers.
        title: which generator.
        label: a class by name or number, for a generator of classes.
        prompt: a text, for a generator of texts.
        negative: a text that classifier-free guidance leads away from.
        other: a second text for the same seeds.
        seed: of the first picture; the others count up.
        count: pictures.
        steps: of the sampler.
        guidance: none, cfg or autoguidance.
        scale: of guidance, 1 is none.
        compare: also the same seeds unguided.
    """
    generator = generator_of(generators, title)
    settings = (as_int(seed), as_int(count), as_int(steps), guidance, scale, compare)
    if generator.kind == TEXT:
        request = Request(prompt, *settings, negative=negative or "", other=other or "")
    else:
        request = Request(label, *settings)
    try:
        if not generator.is_loaded():
            yield (status_line(f"Loading {title} ..."), gr.skip(), *button_states(True))
        for state in sample_with_progress(generator.load(), request, title):
            if isinstance(state, Progress):
                yield (status_line(""), progress_value(state), *button_states(True))
            else:
                yield (status_line(""), generation_value(state), *button_states(False))
    except (CheckpointError, SamplingError) as error:
        yield (status_line(str(error), error=True), gr.skip(), *button_states(False))
    except RuntimeError as error:  # of the device: out of memory, or lost
        text = f"{title} could not run here: {reason_of(error)}"
        yield (status_line(text, error=True), gr.skip(), *button_states(False))


def stop() -> tuple[Any, ...]:
    """Status line, viewer and buttons of a sampling that was stopped; the viewer keeps what it shows."""
    return (status_line("Stopped."), {"stopped": True}, *button_states(False))


def random_seed() -> int:
    """A seed for other pictures."""
    return random.randrange(MAX_SEED_DRAWN)


def generator_of(generators: list[Generator], title: str) -> Generator:
    """The generator of a title that the tab offers."""
    return {generator.title: generator for generator in generators}[title]


def choose_kind(generators: list[Generator], kind: str) -> list[Any]:
    """The generators of a kind to choose from, and the controls of the first of them."""
    titles = [generator.title for generator in generators if generator.kind == kind]
    offer = gr.Dropdown(choices=titles, value=titles[0], info=models_note(kind))
    return [offer, *choose_generator(generators, titles[0])]


def choose_generator(generators: list[Generator], title: str) -> list[dict[str, Any]]:
    """The controls of a generator, in the order of :func:`controls_for`."""
    return [gr.update(**values) for values in controls_for(generator_of(generators, title)).values()]


def choose_prompt(sample: list[str]) -> str:
    """The text of the example that was clicked, a row of one cell."""
    return sample[0]


def open_sample(event: gr.EventData) -> tuple[Any, ...]:
    """Make a sample the page's picture: status line, the picture, and the tab to open.

    Args:
        event: brings the ``picture``, a PNG as a data URL.
    """
    text = payload_of(event).get("picture")
    try:
        if not isinstance(text, str) or not text.startswith(PNG_PREFIX):
            raise ImageError("That is not a picture of this tab.")
        content = base64.b64decode(text.removeprefix(PNG_PREFIX), validate=True)
        return (status_line(""), load_image(content, name="sample.png"), gr.Tabs(selected="compare"))
    except (ImageError, ValueError) as error:  # ValueError: not base64
        return (status_line(str(error), error=True), gr.skip(), gr.skip())
