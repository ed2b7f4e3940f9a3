"""What the page Generate can sample with: models on this machine, and RAE's published one where there is a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from drorae.checkpoints import CheckpointError, stored_folder
from drorae.devices import best_device
from drorae.explorer.chosen import CHOSEN, FIRST, read_beside, weights_of
from drorae.explorer.sampling import class_names, usual_guidance
from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.pipelines.base import DRoRAEPipeline
from drorae.pipelines.class_to_image import DRoRAEClassPipeline
from drorae.pipelines.rae_generator import imagenet_names, load_rae_pipeline
from drorae.pipelines.text_to_image import DRoRAETextPipeline
from drorae.ui import gpu

RAE_TITLE = "RAE DiT^DH-XL, ImageNet"
RAE_NEEDS = (
    "RAE's published DiT^DH-XL (1,000 ImageNet classes, 256 pixels) can be chosen on a machine with a CUDA GPU. Its "
    "weights and those of its guide and decoder are 6.1 GB to fetch at the first use and 3.1 GB of GPU memory in bf16."
)
RAE_SCALE = 1.5  # of its guidance
CLASS, TEXT = "class", "text"


class Generator:
    """A model that Generate offers. It is loaded once, at the first use.

    Args:
        title: what it is called.
        kind: what it is told, ``CLASS`` or ``TEXT``.
        build: loads it.
        names: of its classes by number, where they are known without loading it.
        guided: whether it has a guide, where that is known.
        folder: where it is stored, and beside it what was chosen of its pictures.
    """

    def __init__(
        self,
        title: str,
        kind: str,
        build: Callable[[], DRoRAEPipeline],
        names: list[str] | None = None,
        guided: bool = False,
        folder: Path | None = None,
    ):
        self._folder, self._weights = folder, ""
        self.title, self.kind, self._build, self._names, self._guided = title, kind, build, names, guided
        self._pipeline: DRoRAEPipeline | None = None
        self._lock = Lock()

    def is_loaded(self) -> bool:
        """Whether the next :meth:`load` is quick."""
        return self._pipeline is not None

    def load(self) -> DRoRAEPipeline:
        """The pipeline.

        Raises:
            CheckpointError: it could not be loaded.
        """
        with self._lock:
            if self._pipeline is None:
                self._pipeline = self._build()
                self._pipeline.set_progress_bar_config(disable=True)
                gpu.keep(self._pipeline)
                if self._has(CHOSEN) or self._has(FIRST):  # later the weights may be where nobody can read them
                    self._weights = weights_of(self._pipeline)
            return self._pipeline

    def names(self) -> list[str]:
        """Names of the classes by number, none for a text."""
        if self.kind == TEXT:
            return []
        return self._names if self._names is not None else list(class_names(self.load()))

    def has_guide(self) -> bool:
        """Whether AutoGuidance can be chosen."""
        return self._guided or (self._names is None and self.load().guide is not None)

    def usual_guidance(self) -> tuple[str, float]:
        """Guidance and scale to begin with: those saved with it."""
        if self._names is not None:  # RAE's, which saves none
            return ("autoguidance" if self._guided else "cfg"), RAE_SCALE
        return usual_guidance(self.load())

    def chosen(self) -> dict[str, Any] | None:
        """Seeds that somebody chose by looking: ``looked_at`` (how many seeds), ``settings`` they were sampled with,
        and ``seeds`` by class or prompt; ``None`` where there is no such file, or one for other weights."""
        return self._read_beside(CHOSEN)

    def has_first(self) -> bool:
        """Whether :meth:`first` has pictures."""
        return self._has(FIRST)

    def first(self) -> dict[str, Any] | None:
        """Finished pictures that ship with the generator; ``None`` where there are none, or of other weights."""
        return self._read_beside(FIRST)

    def _has(self, name: str) -> bool:
        return self._folder is not None and (self._folder / name).is_file()

    def _read_beside(self, name: str) -> dict[str, Any] | None:
        if not self._has(name):
            return None  # without loading it
        pipeline = self.load()
        self._weights = self._weights or weights_of(pipeline)  # of a file that was not there yet
        return read_beside(self._folder, name, self._weights)


def local_generator(name: str, kind: str, autoencoder: AutoencoderDRoRAE) -> Generator:
    """The pipeline in a folder or on the Hub, in the precision of the page's tokenizer, which is its own where they
    belong together."""
    pipeline_class = DRoRAEClassPipeline if kind == CLASS else DRoRAETextPipeline

    def build() -> DRoRAEPipeline:
        try:
            pipeline = pipeline_class.from_pretrained(name, torch_dtype=autoencoder.dtype, autoencoder=autoencoder)
        except CheckpointError:
            pipeline = pipeline_class.from_pretrained(name, torch_dtype=autoencoder.dtype)
        return pipeline.to(best_device())

    return Generator(name.removeprefix("assets/"), kind, build, folder=stored_folder(name))


def rae_generator() -> Generator:
    """RAE's published generator on the GPU."""

    def build() -> DRoRAEPipeline:
        return load_rae_pipeline(torch_dtype=torch.bfloat16).to("cuda")

    return Generator(RAE_TITLE, CLASS, build, imagenet_names(), guided=True)


def available_generators(
    class_name: str | None, text_name: str | None, autoencoder: AutoencoderDRoRAE
) -> list[Generator]:
    """What this machine can offer; those that were named are loaded with the page.

    RAE's generator is loaded when somebody chooses it, which ZeroGPU does not allow: a fork would lose it again.

    Raises:
        CheckpointError: a named pipeline cannot be used.
    """
    named = {CLASS: class_name, TEXT: text_name}
    generators = [local_generator(name, kind, autoencoder) for kind, name in named.items() if name is not None]
    for generator in generators:
        generator.load()
    if torch.cuda.is_available() and not gpu.ON_ZEROGPU:
        generators.append(rae_generator())
    return generators
