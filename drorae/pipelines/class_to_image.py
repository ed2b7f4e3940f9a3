"""Class-conditional sampling as a diffusers pipeline."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import ImagePipelineOutput, SchedulerMixin
from torch import Tensor

from drorae.checkpoints import CheckpointError
from drorae.errors import count_of
from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.models.denoiser import DiTDH
from drorae.pipelines import flow
from drorae.pipelines.base import MAX_PICTURES, DRoRAEPipeline, SamplerSettings, SamplingError
from drorae.pipelines.guidance import INTERVAL
from drorae.rules import Rules, maybe, several, text


class DRoRAEClassPipeline(DRoRAEPipeline):
    """Pictures of a class. Arguments as of :class:`~drorae.pipelines.base.DRoRAEPipeline`, and:

    Args:
        labels: names of the classes, by number.

    Raises:
        CheckpointError: the parts do not belong together.
    """

    SETTINGS: ClassVar[Rules] = {**DRoRAEPipeline.SETTINGS, "labels": maybe(several(text(1000)))}

    def __init__(
        self,
        autoencoder: AutoencoderDRoRAE | None,
        denoiser: DiTDH,
        scheduler: SchedulerMixin,
        guide: DiTDH | None = None,
        labels: Sequence[str] | None = None,
        autoencoder_name: str | None = None,
        guidance: str | None = None,
        guidance_scale: float | None = None,
    ):
        super().__init__(autoencoder, denoiser, scheduler, guide, autoencoder_name, guidance, guidance_scale)
        if labels is not None and len(labels) != denoiser.config.num_classes:
            names, classes = count_of(len(labels), "class name"), denoiser.config.num_classes
            raise CheckpointError(f"{names} for a denoiser of {classes} classes; name each of them.")
        if guide is not None and guide.config.num_classes != denoiser.config.num_classes:
            raise CheckpointError(
                f"The guide knows {guide.config.num_classes} classes and the denoiser {denoiser.config.num_classes}; "
                "use a guide that was trained on the same classes."
            )
        self.register_to_config(labels=None if labels is None else list(labels))

    @classmethod
    def load_own_parts(
        cls, folder: Path, index: dict[str, Any], torch_dtype: torch.dtype, variant: str | None
    ) -> dict[str, Any]:
        """The names of the classes."""
        return {"labels": index.get("labels")}

    @torch.no_grad()
    def __call__(
        self,
        class_labels: int | str | Sequence[int | str],
        num_inference_steps: int = 50,
        guidance: str | None = None,
        guidance_scale: float | None = None,
        guidance_interval: tuple[float, float] = INTERVAL,
        seed: int | Sequence[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,
        decoder: str | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict[str, Tensor] | None] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> ImagePipelineOutput | tuple:
        """Sample one picture per class label.

        Args:
            class_labels: numbers or names, one or several.
            num_inference_steps: calls of the denoiser, with most schedulers; RAE uses 50.
            guidance: ``"none"``, ``"cfg"`` (classifier-free) or ``"autoguidance"``, which needs a guide; what is saved
                with the pipeline when ``None``, else ``"none"``.
            guidance_scale: 1 is none; what is saved with the pipeline when ``None``, else the paper's 1.5.
            guidance_interval: flow times between which guidance acts; 1 is noise.
            seed: seed of every picture, or of the first one, the others counting up. The same seed is the same picture
                alone or in a batch, on every device, up to rounding.
            generator: instead of seeds; one for all pictures or one for each.
            latents: noise (B, C, h, w) to start from, instead of drawing it.
            decoder: ``"original"`` or ``"finetuned"``; the finetuned one, where there is one, when ``None``.
            output_type: ``"pil"``, ``"np"`` (B, H, W, 3) or ``"pt"`` (B, 3, H, W) in [0, 1], or ``"latent"``.
            callback_on_step_end: ``callback(pipeline, step, timestep, {"latents": ...})``, as in diffusers; it may
                return other latents, and set ``pipeline._interrupt`` to stop with what has been reached.

        Raises:
            SamplingError: a value that cannot be used; nothing has been computed then.
        """
        settings = SamplerSettings(
            num_inference_steps, *self.choose_guidance(guidance, guidance_scale), guidance_interval, decoder
        )
        loop = self.steps(class_labels, settings, seed=seed, generator=generator, latents=latents)
        return self.finish(
            loop, decoder, output_type, return_dict, callback_on_step_end, callback_on_step_end_tensor_inputs
        )

    @torch.no_grad()
    def steps(
        self,
        class_labels: int | str | Sequence[int | str],
        settings: SamplerSettings | None = None,
        *,
        seed: int | Sequence[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,
    ) -> Generator[flow.Step, Tensor | None, None]:
        """The steps of a sampling, one after the other, to look at each of them or to stop early.

        Arguments are those of a call. :meth:`decode` turns latents (B, C, h, w) into pictures.

        Raises:
            SamplingError: as a call does, when the first step is asked for.
        """
        settings = settings or SamplerSettings(50, *self.choose_guidance())
        labels = self.label_numbers(class_labels)
        if not 1 <= len(labels) <= MAX_PICTURES:
            raise SamplingError(
                f"{len(labels)} pictures at once; ask for 1 to {MAX_PICTURES} (python -m train.generate makes more)."
            )
        self.check(settings)
        noise = self.noise(len(labels), seed, generator, latents)
        numbers = torch.tensor(labels, device=self._execution_device)
        unconditional = {"class_labels": torch.full_like(numbers, self.denoiser.null_label)}
        yield from self.follow({"class_labels": numbers}, unconditional, noise, settings)

    def label_numbers(self, class_labels: int | str | Sequence[int | str]) -> list[int]:
        """Classes by number, in a list. A name may be the whole name or one of its synonyms between commas.

        Raises:
            SamplingError: one that the denoiser does not know.
        """
        if isinstance(class_labels, (int, str, np.integer)) or not isinstance(class_labels, Iterable):
            class_labels = [class_labels]
        return [self._label_number(value) for value in class_labels]

    def _label_number(self, value: int | str) -> int:
        count, names = self.denoiser.config.num_classes, self.config.labels or ()
        if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
            if 0 <= value < count:
                return int(value)
            raise SamplingError(f"There is no class {str(value)[:20]}; classes are numbered 0 to {count - 1}.")
        text = str(value).strip().lower()
        # whole names before synonyms: in ImageNet, some class's synonym is another's name
        for called in (str.lower, lambda name: name.lower().split(",")[0], None):
            for number, name in enumerate(names):
                synonyms = [part.strip() for part in name.lower().split(",")] if called is None else [called(name)]
                if text and text in synonyms:
                    return number
        if text.isdecimal() and len(text) < 10 and int(text) < count:
            return int(text)
        close = difflib.get_close_matches(text[:60], [name.lower() for name in names], n=3, cutoff=0.4)
        known = [name for name in names if name.lower() in close] or list(names[:3])
        hint = f"for example {', '.join(repr(name) for name in known)}" if known else f"a number from 0 to {count - 1}"
        raise SamplingError(f"There is no class '{str(value)[:60]}'; use {hint}.")
