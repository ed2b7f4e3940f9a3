"""Tab *Generate*: class-conditional samples, the steps that led to them, with and without guidance."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import NamedTuple

import gradio as gr
import torch

from drorae.autoencoder import AutoencoderDRoRAE
from drorae.checkpoints import CheckpointError
from drorae.class_pipeline import DRoRAEClassPipeline
from drorae.generate import MAX_PICTURES, MAX_STEPS, Generation, Request, class_names, generate
from drorae.rae_denoiser import imagenet_names, load_rae_pipeline
from drorae.ui.bundle import generation_value
from drorae.ui.components import Dial, GenerateViewer

STEPS, COUNT, SCALE = 25, 4, 2.0
GUIDANCE_CHOICES = [("none", "none"), ("classifier-free", "cfg"), ("AutoGuidance", "autoguidance")]
FIRST_CLASS = "golden retriever"
RAE_TITLE = "RAE DiT^DH-XL, ImageNet"
RAE_NEEDS = (
    "RAE's published DiT^DH-XL (1,000 ImageNet classes, 256 pixels) can be chosen here on a machine with a CUDA GPU: "
    "about 8 GB of GPU memory, and 6.5 GB to fetch at the first use."
)


class Generator:
    """A model the tab offers. It is loaded once, at the first use.

    Args:
        title: what it is called.
        build: loads it.
        names: of its classes by number, where they are known without loading it.
        guided: whether it has a guide, where that is known.
    """

    def __init__(
        self,
        title: str,
        build: Callable[[], DRoRAEClassPipeline],
        names: list[str] | None = None,
        guided: bool = False,
    ):
        self.title, self._build, self._names, self._guided = title, build, names, guided
        self._pipeline: DRoRAEClassPipeline | None = None
        self._lock = Lock()

    def is_loaded(self) -> bool:
        """Whether the next :meth:`load` is quick."""
        return self._pipeline is not None

    def load(self) -> DRoRAEClassPipeline:
        """The pipeline.

        Raises:
            CheckpointError: it cannot be had.
        """
        with self._lock:
            if self._pipeline is None:
                self._pipeline = self._build()
                self._pipeline.set_progress_bar_config(disable=True)
            return self._pipeline

    def names(self) -> list[str]:
        """Names of the classes by number."""
        return self._names if self._names is not None else list(class_names(self.load()))

    def has_guide(self) -> bool:
        """Whether AutoGuidance can be chosen."""
        return self._guided or (self._names is None and self.load().guide is not None)


def local_generator(name: str, autoencoder: AutoencoderDRoRAE) -> Generator:
    """The pipeline in a folder or on the Hub; its tokenizer is the page's where they belong together."""

    def build() -> DRoRAEClassPipeline:
        try:
            return DRoRAEClassPipeline.from_pretrained(name, autoencoder=autoencoder)
        except CheckpointError:
            return DRoRAEClassPipeline.from_pretrained(name)

    return Generator(name.removeprefix("assets/"), build)


def rae_generator() -> Generator:
    """RAE's published generator on the GPU."""
    return Generator(
        RAE_TITLE, lambda: load_rae_pipeline(torch_dtype=torch.bfloat16).to("cuda"), imagenet_names(), guided=True
    )


def available_generators(name: str | None, autoencoder: AutoencoderDRoRAE) -> list[Generator]:
    """What this machine can offer, the first being the one that is loaded with the page.

    Raises:
        CheckpointError: the named pipeline cannot be used.
    """
    generators = []
    if name is not None:
        generators.append(local_generator(name, autoencoder))
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
    request = Request(first_label(generator.names()), 0, COUNT, STEPS, guidance, SCALE)
    *_, result = generate(pipeline, request, generator.title)
    return result


def class_choices(names: list[str]) -> list[tuple[str, int]]:
    """Classes as the dropdown offers them: by number, since names may be those of several classes."""
    return [(name, number) for number, name in enumerate(names)]


def first_label(names: list[str]) -> int:
    """The class the tab starts with."""
    return names.index(FIRST_CLASS) if FIRST_CLASS in names else 0


def guidance_choices(generator: Generator) -> list[tuple[str, str]]:
    """Kinds of guidance that this generator has the parts for."""
    return [choice for choice in GUIDANCE_CHOICES if choice[1] != "autoguidance" or generator.has_guide()]


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
        names = generators[0].names()
        kinds = guidance_choices(generators[0])
        gr.Markdown(
            "A denoiser starts from noise and walks to a latent that the tokenizer can paint. Pick a class; every seed "
            "is one picture, the same on every machine.",
            elem_id="generate-introduction",
        )
        with gr.Row(elem_id="generate-controls"):
            with gr.Column(min_width=220):
                label = gr.Dropdown(
                    class_choices(names),
                    value=first_label(names),
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
                steps = Dial(1, MAX_STEPS, STEPS, step=1, label="Steps", elem_id="steps")
        with gr.Row():
            run = gr.Button("Generate", variant="primary", elem_id="generate-run")
            other_seeds = gr.Button("Other seeds", elem_id="other-seeds")
            stop = gr.Button("Stop", variant="stop", interactive=False, elem_id="generate-stop")
        status = gr.HTML(elem_id="generate-status")
        viewer = GenerateViewer(None if first is None else generation_value(first), elem_id="samples")
    return GenerateTab(
        tab, model, label, seed, count, steps, guidance, scale, compare, run, stop, other_seeds, status, viewer
    )
