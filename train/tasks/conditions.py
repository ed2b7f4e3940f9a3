"""What a denoiser is told: the class of a picture, or its caption. Each turns a batch into arguments of the network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from diffusers import SchedulerMixin
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from drorae import DiTDH, DRoRAEClassPipeline, DRoRAETextPipeline
from drorae.pipelines.text_encoding import encode
from train.data.batches import Batch
from train.data.text_cache import CachedText


class ConditionKind(Protocol):
    """How a kind of condition is trained, shown and saved."""

    network: nn.Module
    denoiser: DiTDH
    wants_captions: bool

    def arguments(self, batch: Batch, dropped: Tensor) -> dict[str, Tensor]:
        """Keyword arguments of the network for a batch, without the condition where ``dropped`` (B,) is set."""

    def examples(self, count: int) -> dict[str, Tensor]:
        """The :meth:`arguments` of ``count`` samples for the grid in the log."""

    def turns(self, numbers: Sequence[int], texts: Sequence[str] | None) -> dict[str, Tensor]:
        """The same for many samples by their numbers from 0: classes, or ``texts``, take turns."""

    def export(self, scheduler: SchedulerMixin, autoencoder_name: str, folder: Path) -> None:
        """Write the folder of a pipeline."""


class ClassCondition:
    """The class label; dropped ones and those that are none of the classes become the null label.

    Args:
        names: names of the classes, by number.
    """

    wants_captions = False

    def __init__(self, denoiser: DiTDH, names: Sequence[str]):
        self.network, self.denoiser, self.names = denoiser, denoiser, list(names)

    def arguments(self, batch: Batch, dropped: Tensor) -> dict[str, Tensor]:
        """See :meth:`ConditionKind.arguments`."""
        labels = batch.labels
        assert labels is not None, "batches come with labels, -1 where the data has none"
        known = (labels >= 0) & (labels < len(self.names)) & ~dropped
        return {"class_labels": torch.where(known, labels, len(self.names))}

    def examples(self, count: int) -> dict[str, Tensor]:
        """See :meth:`ConditionKind.examples`."""
        return self.turns(range(min(count, len(self.names))), None)

    def turns(self, numbers: Sequence[int], texts: Sequence[str] | None) -> dict[str, Tensor]:
        """See :meth:`ConditionKind.turns`."""
        return {"class_labels": torch.tensor(list(numbers), device=self.denoiser.device) % len(self.names)}

    def export(self, scheduler: SchedulerMixin, autoencoder_name: str, folder: Path) -> None:
        """See :meth:`ConditionKind.export`."""
        pipeline = DRoRAEClassPipeline(None, self.denoiser, scheduler, None, self.names, autoencoder_name)
        pipeline.save_pretrained(folder)


class CaptionedDenoiser(nn.Module):
    """A denoiser and the text encoder that is trained with it, as one network."""

    def __init__(self, denoiser: DiTDH, text_encoder: PreTrainedModel):
        super().__init__()
        self.denoiser, self.text_encoder = denoiser, text_encoder

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        input_ids: Tensor,
        padding_mask: Tensor,
        encoder_attention_mask: Tensor,
        return_dict: bool = False,
    ):
        """As :meth:`drorae.DiTDH.forward`, from token ids (B, T); ``padding_mask`` is the text encoder's."""
        tokens = self.text_encoder(input_ids=input_ids, attention_mask=padding_mask).last_hidden_state
        return self.denoiser(
            hidden_states,
            timestep,
            encoder_hidden_states=tokens,
            encoder_attention_mask=encoder_attention_mask,
            return_dict=return_dict,
        )


class TextCondition:
    """The caption, through a text encoder that is trained along or frozen.

    Args:
        text_encoder_name: name of a published, frozen encoder, which is then named and not saved.
        examples: prompts of the grid in the log.
        trained: whether the encoder is trained along; ``None``: unless it is a published one.
    """

    wants_captions = True

    def __init__(
        self,
        denoiser: DiTDH,
        tokenizer: PreTrainedTokenizerBase,
        text_encoder: PreTrainedModel,
        max_tokens: int,
        text_encoder_name: str | None,
        examples: Sequence[str],
        trained: bool | None = None,
    ):
        self.denoiser, self.tokenizer, self.text_encoder = denoiser, tokenizer, text_encoder
        self.max_tokens, self.text_encoder_name, self.prompts = max_tokens, text_encoder_name, list(examples)
        self.trained = text_encoder_name is None if trained is None else trained
        self.features: CachedText | None = None  # of a frozen encoder, where they were computed before
        self.network = CaptionedDenoiser(denoiser, text_encoder) if self.trained else denoiser

    def arguments(self, batch: Batch, dropped: Tensor) -> dict[str, Tensor]:
        """See :meth:`ConditionKind.arguments`."""
        assert batch.captions is not None, "batches come with the captions that this condition wants"
        return self.of(batch.captions, ~dropped)

    def examples(self, count: int) -> dict[str, Tensor]:
        """See :meth:`ConditionKind.examples`."""
        prompts = self.prompts[:count]
        return self.turns(range(len(prompts)), prompts)

    def turns(self, numbers: Sequence[int], texts: Sequence[str] | None) -> dict[str, Tensor]:
        assert texts is not None, "samples of a text need one"
        prompts = [texts[number % len(texts)] for number in numbers]
        return self.of(prompts, torch.ones(len(prompts), dtype=torch.bool, device=self.denoiser.device))

    def of(self, prompts: list[str], kept: Tensor) -> dict[str, Tensor]:
        """Arguments for prompts; the mask of those that are not ``kept`` (B,) is all False."""
        device = self.denoiser.device
        if self.features is not None and all(prompt in self.features.places for prompt in prompts):
            tokens, mask = self.features.get(prompts)
            mask = mask.to(device) & kept[:, None]
            return {"encoder_hidden_states": tokens.to(device), "encoder_attention_mask": mask}
        if not self.trained:
            features = encode(self.tokenizer, self.text_encoder, prompts, self.max_tokens)
            mask = features.mask.to(device) & kept[:, None]
            return {"encoder_hidden_states": features.tokens.to(device), "encoder_attention_mask": mask}
        batch = self.tokenizer(
            prompts, truncation=True, max_length=self.max_tokens, padding="max_length", return_tensors="pt"
        )
        padding = batch["attention_mask"].to(device)
        return {
            "input_ids": batch["input_ids"].to(device),
            "padding_mask": padding,
            "encoder_attention_mask": padding.bool() & kept[:, None],
        }

    def export(self, scheduler: SchedulerMixin, autoencoder_name: str, folder: Path) -> None:
        """See :meth:`ConditionKind.export`."""
        own = self.text_encoder_name is None
        DRoRAETextPipeline(
            None,
            self.denoiser,
            scheduler,
            self.tokenizer if own else None,
            self.text_encoder if own else None,
            max_tokens=self.max_tokens,
            autoencoder_name=autoencoder_name,
            text_encoder_name=self.text_encoder_name,
        ).save_pretrained(folder)
