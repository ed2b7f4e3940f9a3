"""Tab *Generate*: class-conditional samples, the steps that led to them, with and without guidance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import gradio as gr
import torch

from drorae.autoencoder import AutoencoderDRoRAE
from drorae.checkpoints import CheckpointError
from drorae.class_pipeline import DRoRAEClassPipeline
from drorae.generate import MAX_PICTURES, Generation, Request, class_names, generate
from drorae.rae_denoiser import load_rae_pipeline
from drorae.ui.bundle import generation_value
from drorae.ui.components import Dial, GenerateViewer

STEPS, COUNT, SCALE = 25, 4, 2.0
GUIDANCE_CHOICES = [("none", "none"), ("classifier-free", "cfg"), ("AutoGuidance", "autoguidance")]
RAE_TITLE = "RAE DiT^DH-XL, ImageNet"
RAE_NEEDS = (
    "RAE's published DiT^DH-XL (1,000 ImageNet classes, 256 pixels) can be chosen here on a machine with a CUDA GPU: "
    "about 8 GB of GPU memory, and 6.5 GB to fetch at the first use."
)


@dataclass(frozen=True)
class Generator:
    """A model the tab offers: its title, and how it is loaded at the first use."""

    title: str
    load: Callable[[], DRoRAEClassPipeline]


def embedded_generator(name: str, autoencoder: AutoencoderDRoRAE) -> Generator:
    """The pipeline in a folder or on the Hub; its tokenizer is the page's where they belong together."""

    @cache
    def load() -> DRoRAEClassPipeline:
        try:
            pipeline = DRoRAEClassPipeline.from_pretrained(name, autoencoder=autoencoder)
        except CheckpointError:
            pipeline = DRoRAEClassPipeline.from_pretrained(name)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return Generator(name.removeprefix("assets/"), load)


def rae_generator() -> Generator:
    """RAE's published generator on the GPU."""

    @cache
    def load() -> DRoRAEClassPipeline:
        pipeline = load_rae_pipeline(torch_dtype=torch.bfloat16).to("cuda")
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return Generator(RAE_TITLE, load)


def available_generators(name: str | None, autoencoder: AutoencoderDRoRAE) -> list[Generator]:
    """What this machine can offer, the first being the one that is loaded with the page.

    Raises:
        CheckpointError: the named pipeline cannot be used.
    """
    generators = []
    if name is not None:
        generators.append(embedded_generator(name, autoencoder))
        generators[0].load()
    if torch.cuda.is_available():
        generators.append(rae_generator())
    return generators


class GenerateTab(NamedTuple):
    """Inputs, buttons and outputs of the tab."""

    tab: gr.Tab
    model: gr.Dropdown
    label: gr.Dropdown
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
    pipeline = generator.load()
    guidance = "autoguidance" if pipeline.guide is not None else "cfg"
    request = Request(first_label(pipeline), 0, COUNT, STEPS, guidance, SCALE)
    *_, result = generate(pipeline, request, generator.title)
    return result


def first_label(pipeline: DRoRAEClassPipeline) -> str:
    """The class the tab starts with."""
    names = class_names(pipeline)
    return next((name for name in names if name == "golden retriever"), names[0])


def guidance_choices(pipeline: DRoRAEClassPipeline) -> list[tuple[str, str]]:
    """Kinds of guidance that this pipeline has the parts for."""
    return [choice for choice in GUIDANCE_CHOICES if choice[1] != "autoguidance" or pipeline.guide is not None]


def generate_tab(generators: list[Generator], first: Generation | None) -> GenerateTab | None:
    """Build the tab around a finished sampling; without a generator it says how to get one."""
    with gr.Tab("Generate", id="generate") as tab:
        if not generators:
            gr.Markdown(
                "There is no generator for this model here. Train one (`python -m train.stage2`) and open it with "
                f"`python app.py --generator FOLDER`. {RAE_NEEDS}",
                elem_id="no-generator",
            )
            return None
        pipeline = generators[0].load() if first is not None else None
        names = list(class_names(pipeline)) if pipeline else []
        kinds = guidance_choices(pipeline) if pipeline else GUIDANCE_CHOICES
        gr.Markdown(
            "A denoiser starts from noise and walks to a latent that the tokenizer can paint. Pick a class; every seed "
            "is one picture, the same on every machine.",
            elem_id="generate-introduction",
        )
        with gr.Row(elem_id="generate-controls"):
            with gr.Column(min_width=220):
                label = gr.Dropdown(
                    names,
                    value=first.label if first else None,
                    label="Class",
                    info="Type to search.",
                    filterable=True,
                    allow_custom_value=True,  # so that an unknown one is answered in a sentence
                    elem_id="class",
                )
                model = gr.Dropdown(
                    [generator.title for generator in generators],
                    value=generators[0].title,
                    label="Model",
                    info=None if torch.cuda.is_available() else RAE_NEEDS,
                    elem_id="generator",
                )
            with gr.Column(min_width=220):
                guidance = gr.Radio(kinds, value=kinds[-1][1], label="Guidance", elem_id="guidance")
                scale = Dial(1, 5, SCALE, step=0.1, label="Guidance scale", info="1 is none.", elem_id="scale")
                compare = gr.Checkbox(True, label="Also the same seeds unguided", elem_id="compare-unguided")
            with gr.Column(min_width=220):
                seed = gr.Number(0, label="First seed", elem_id="seed")
                count = Dial(1, MAX_PICTURES, COUNT, step=1, label="Pictures", elem_id="count")
                steps = Dial(1, 100, STEPS, step=1, label="Steps", elem_id="steps")
        with gr.Row():
            run = gr.Button("Generate", variant="primary", elem_id="generate-run")
            other_seeds = gr.Button("Other seeds", elem_id="other-seeds")
            stop = gr.Button("Stop", variant="stop", interactive=False, elem_id="generate-stop")
        status = gr.HTML(elem_id="generate-status")
        viewer = GenerateViewer(None if first is None else generation_value(first), elem_id="samples")
    return GenerateTab(
        tab, model, label, seed, count, steps, guidance, scale, compare, run, stop, other_seeds, status, viewer
    )
