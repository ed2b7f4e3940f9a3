"""Text-to-image sampling as a diffusers pipeline."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import ImagePipelineOutput, SchedulerMixin
from diffusers.utils import logging
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from drorae.checkpoints import CheckpointError
from drorae.errors import count_of
from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.models.denoiser import DiTDH
from drorae.pipelines import flow
from drorae.pipelines.base import (
    MAX_PICTURES,
    DRoRAEPipeline,
    SamplerSettings,
    SamplingError,
    component,
    optional_component,
)
from drorae.pipelines.guidance import INTERVAL, Condition
from drorae.pipelines.text_encoding import encode, load_text_encoder, token_width
from drorae.rules import Rules, maybe, text, whole_number

logger = logging.get_logger(__name__)

MAX_CHARACTERS = 10_000


class DRoRAETextPipeline(DRoRAEPipeline):
    """Pictures of a text (paper section 4.3). Arguments as of :class:`~drorae.pipelines.base.DRoRAEPipeline`, and:

    Args:
        tokenizer, text_encoder: parts of transformers, see :func:`drorae.pipelines.text_encoding.load_text_encoder`.
        max_tokens: longer prompts are cut, with a warning that says how much was lost.
        text_encoder_name: id or ``id@revision`` of a published encoder that :meth:`from_pretrained` fetches when the
            pipeline's folder has none of its own.

    Raises:
        CheckpointError: the parts do not belong together.
    """

    SETTINGS: ClassVar[Rules] = {
        **DRoRAEPipeline.SETTINGS,
        "tokenizer": optional_component(component("transformers")),
        "text_encoder": optional_component(component("transformers")),
        "max_tokens": whole_number(3, 100_000),
        "text_encoder_name": maybe(text()),
    }
    USUAL_GUIDANCE: ClassVar[tuple[str, float]] = ("cfg", 6.0)
    model_cpu_offload_seq = "text_encoder->guide->denoiser->autoencoder"
    _optional_components: ClassVar = ["autoencoder", "guide", "tokenizer", "text_encoder"]

    def __init__(
        self,
        autoencoder: AutoencoderDRoRAE | None,
        denoiser: DiTDH,
        scheduler: SchedulerMixin,
        tokenizer: PreTrainedTokenizerBase | None,
        text_encoder: PreTrainedModel | None,
        guide: DiTDH | None = None,
        max_tokens: int = 256,
        autoencoder_name: str | None = None,
        text_encoder_name: str | None = None,
        guidance: str | None = None,
        guidance_scale: float | None = None,
    ):
        super().__init__(autoencoder, denoiser, scheduler, guide, autoencoder_name, guidance, guidance_scale)
        if text_encoder is not None:
            for name, network in (("denoiser", denoiser), ("guide", guide)):
                width = token_width(text_encoder)
                if network is not None and network.config.text_dim != width:
                    raise CheckpointError(
                        f"The {name} reads text tokens of {network.config.text_dim} channels and the text encoder "
                        f"gives {width}; use the text encoder it was trained with."
                    )
        self.register_modules(tokenizer=tokenizer, text_encoder=text_encoder)
        self.register_to_config(max_tokens=max_tokens, text_encoder_name=text_encoder_name)

    @classmethod
    def load_own_parts(
        cls, folder: Path, index: dict[str, Any], torch_dtype: torch.dtype, variant: str | None
    ) -> dict[str, Any]:
        """The text encoder, which is saved or named, and its tokenizer.

        Raises:
            CheckpointError: what is missing, damaged or could not be fetched.
        """
        named = index.get("text_encoder_name")
        if (folder / "text_encoder").is_dir():
            tokenizer, text_encoder = load_text_encoder(
                folder / "text_encoder", torch_dtype, folder / "tokenizer", variant
            )
        elif named:
            tokenizer, text_encoder = load_text_encoder(named, torch_dtype)
        else:
            raise CheckpointError(f"'{folder}' has no text encoder and names none; save it again.")
        return {
            "tokenizer": tokenizer,
            "text_encoder": text_encoder,
            "max_tokens": index.get("max_tokens", 256),
            "text_encoder_name": named,
        }

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        num_inference_steps: int = 50,
        guidance: str | None = None,
        guidance_scale: float | None = None,
        guidance_interval: tuple[float, float] = INTERVAL,
        negative_prompt: str | Sequence[str] | None = None,
        num_images_per_prompt: int = 1,
        seed: int | Sequence[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        prompt_attention_mask: Tensor | None = None,
        decoder: str | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict[str, Tensor] | None] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> ImagePipelineOutput | tuple:
        """Sample pictures of prompts.

        Args:
            prompt: one or several; the empty prompt means no text.
            guidance: ``"none"``, ``"cfg"`` (classifier-free) or ``"autoguidance"``, which needs a guide; what is saved
                with the pipeline when ``None``, else ``"cfg"``.
            guidance_scale: 1 is none; what is saved with the pipeline when ``None``, else the 6 of the paper's
                successors.
            negative_prompt: what classifier-free guidance leads away from, instead of no text; one or one per prompt.
            num_images_per_prompt: pictures of each prompt, in a row.
            prompt_embeds, prompt_attention_mask: (B, T, D) and (B, T), instead of prompts.

        Everything else is as of :class:`~drorae.DRoRAEClassPipeline`.

        Raises:
            SamplingError: a value that cannot be used; nothing has been computed then.
        """
        loop = self.steps(
            prompt,
            SamplerSettings(
                num_inference_steps, *self.choose_guidance(guidance, guidance_scale), guidance_interval, decoder
            ),
            negative_prompt=negative_prompt,
            num_images_per_prompt=num_images_per_prompt,
            seed=seed,
            generator=generator,
            latents=latents,
            prompt_embeds=prompt_embeds,
            prompt_attention_mask=prompt_attention_mask,
        )
        return self.finish(
            loop, decoder, output_type, return_dict, callback_on_step_end, callback_on_step_end_tensor_inputs
        )

    @torch.no_grad()
    def steps(
        self,
        prompt: str | Sequence[str] | None = None,
        settings: SamplerSettings | None = None,
        *,
        negative_prompt: str | Sequence[str] | None = None,
        num_images_per_prompt: int = 1,
        seed: int | Sequence[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        prompt_attention_mask: Tensor | None = None,
    ) -> Generator[flow.Step, Tensor | None, None]:
        """The steps of a sampling, one after the other; see :meth:`drorae.DRoRAEClassPipeline.steps`."""
        settings = settings or SamplerSettings(50, *self.choose_guidance())
        self.check(settings)
        each = num_images_per_prompt
        if not isinstance(each, int) or isinstance(each, bool) or each < 1:
            raise SamplingError(f"num_images_per_prompt is a whole number from 1, not {each!r}.")
        prompts: list[str] | None = None
        if prompt is not None and prompt_embeds is None:
            prompts = check_prompts(prompt, "prompt")
            count = len(prompts)
        elif prompt is None and prompt_embeds is not None:
            count = len(prompt_embeds)
        else:
            raise SamplingError("Give a prompt or prompt_embeds, one of them.")
        if not 1 <= count * each <= MAX_PICTURES:
            raise SamplingError(f"{count * each} pictures at once; ask for 1 to {MAX_PICTURES}.")
        negative = check_prompts(negative_prompt or "", "negative_prompt")
        if len(negative) not in (1, count):
            given, wanted = count_of(len(negative), "negative prompt"), count_of(count, "prompt")
            raise SamplingError(f"{given} for {wanted}; give one, or one for each.")
        if any(negative) and settings.guidance != "cfg":
            raise SamplingError(f"A negative prompt needs guidance 'cfg', not {settings.guidance!r}.")
        noise = self.noise(count * each, seed, generator, latents)
        if prompts is not None:
            condition = self.encode_prompts(prompts)
        else:
            condition = self.given_features(prompt_embeds, prompt_attention_mask)
        condition, unconditional = (
            {key: value.repeat_interleave(each, 0) for key, value in which.items()}
            for which in same_length(condition, self.encode_prompts(negative * (count // len(negative))))
        )
        yield from self.follow(condition, unconditional, noise, settings)

    def encode_prompts(self, prompts: list[str]) -> Condition:
        """Prompts to the denoiser's condition; a warning says how much of a long prompt was lost, and not what: it may
        go to a log."""
        features = encode(self.tokenizer, self.text_encoder, prompts, self.config.max_tokens)
        for lost in filter(None, features.lost):
            lost_letters = count_of(len(lost), "character")
            logger.warning(f"A prompt is cut after {self.config.max_tokens} tokens; its last {lost_letters} are lost.")
        return {"encoder_hidden_states": features.tokens, "encoder_attention_mask": features.mask}

    def given_features(self, embeds: Tensor, mask: Tensor | None) -> Condition:
        """Text tokens (B, T, D) made elsewhere, and which of them count (B, T), as the denoiser's condition.

        Raises:
            SamplingError: another shape.
        """
        width = self.denoiser.config.text_dim
        if embeds.ndim != 3 or embeds.shape[2] != width:
            raise SamplingError(f"prompt_embeds must have the shape (B, T, {width}), not {tuple(embeds.shape)}.")
        mask = torch.ones(embeds.shape[:2]) if mask is None else mask
        if mask.shape != embeds.shape[:2]:
            raise SamplingError(
                f"prompt_attention_mask must have the shape {tuple(embeds.shape[:2])}, not {tuple(mask.shape)}."
            )
        device = self._execution_device
        return {"encoder_hidden_states": embeds.to(device), "encoder_attention_mask": mask.to(device).bool()}


def check_prompts(value: object, name: str) -> list[str]:
    """Prompts as a list.

    Raises:
        SamplingError: there is none, or one is not a text, holds half a character, or has more than 10,000 characters.
    """
    prompts = [value] if isinstance(value, str) else list(value) if isinstance(value, (list, tuple)) else []
    if not prompts or not all(isinstance(prompt, str) for prompt in prompts):
        raise SamplingError(f"{name} is a text or a list of texts, not {value!r:.80}.")
    for prompt in prompts:
        if len(prompt) > MAX_CHARACTERS:
            raise SamplingError(f"A {name} of {len(prompt)} characters is too long; use at most {MAX_CHARACTERS}.")
        half = next((place for place, letter in enumerate(prompt) if "\ud800" <= letter <= "\udfff"), None)
        if half is not None:  # a lone surrogate, which no tokenizer takes
            raise SamplingError(
                f"Character {half + 1} of the {name} is half a character (U+{ord(prompt[half]):X}); type it again."
            )
    return prompts


def same_length(*conditions: Condition) -> list[Condition]:
    """Conditions padded to one number of tokens, so that they can share a batch."""
    length = max(condition["encoder_attention_mask"].shape[1] for condition in conditions)
    padded: list[Condition] = []
    for condition in conditions:
        tokens, mask = condition["encoder_hidden_states"], condition["encoder_attention_mask"]
        more = length - mask.shape[1]
        padded.append(
            {
                "encoder_hidden_states": torch.nn.functional.pad(tokens, (0, 0, 0, more)),
                "encoder_attention_mask": torch.nn.functional.pad(mask, (0, more)),
            }
        )
    return padded
