"""Prompts to text tokens, through any frozen text encoder of transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import (
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForTextEncoding,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from drorae.checkpoints import CheckpointError, find_variant, reason_of, split_revision
from drorae.errors import count_of

WEIGHTS = "model.safetensors"  # of transformers


@dataclass(frozen=True)
class TextFeatures:
    """Encoded prompts.

    Attributes:
        tokens: (B, T, D), last hidden state of the encoder.
        mask: (B, T) boolean, which tokens count.
        lost: per prompt, the end that did not fit; empty where nothing was lost.
    """

    tokens: Tensor
    mask: Tensor
    lost: list[str]


def load_text_encoder(
    name: str | Path,
    torch_dtype: torch.dtype = torch.float32,
    tokenizer_folder: Path | None = None,
    variant: str | None = None,
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Tokenizer and encoder from a folder or the Hub (``id`` or ``id@revision``); safetensors only, in eval mode.

    ``tokenizer_folder`` is where the tokenizer is, if not with the encoder; ``variant`` is what the weights of a folder
    are saved as, the only one there is when ``None`` and all are saved so.

    Of models that can do more, the part that reads text is taken: CLIP's text tower, the encoder of T5.

    Raises:
        CheckpointError: it is not there, cannot be read, or lacks weights.
    """
    source, revision = split_revision(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder or source, revision=revision or "main")
        config = AutoConfig.from_pretrained(source, revision=revision or "main", trust_remote_code=False)
        auto = AutoModelForTextEncoding if type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING else AutoModel
        model, report = auto.from_pretrained(
            source,
            revision=revision or "main",
            dtype=torch_dtype,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation="eager",  # the same for everybody, and what it was trained with here
            variant=variant or find_variant(Path(source), WEIGHTS),
            output_loading_info=True,
        )
    except Exception as error:  # no such folder, no network, other files: many types, one thing to do
        reason = reason_of(error)
        raise CheckpointError(f"The text encoder '{name}' could not be loaded ({reason}); check the name.") from error
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)  # whose output is not used
    if missing:  # transformers only warns, and computes with random weights
        raise CheckpointError(
            f"The text encoder '{name}' lacks {count_of(len(missing), 'weight')} (first: {missing[0]})."
        )
    model = getattr(model, "text_model", model)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, model.eval()


def token_width(model: PreTrainedModel) -> int:
    """Channels D of the tokens."""
    config = model.config.get_text_config()
    return getattr(config, "hidden_size", None) or config.d_model


@torch.no_grad()
def encode(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, prompts: list[str], max_tokens: int
) -> TextFeatures:
    """Prompts to tokens. The empty prompt has no tokens that count: it is the null prompt.

    Args:
        max_tokens: longer prompts are cut; :attr:`TextFeatures.lost` says what was.
    """
    words = tokenizer(prompts, truncation=False, add_special_tokens=False)["input_ids"]
    room = max_tokens - tokenizer.num_special_tokens_to_add()
    lost = [tokenizer.decode(ids[room:]).strip() for ids in words]
    batch = tokenizer(prompts, truncation=True, max_length=max_tokens, padding=True, return_tensors="pt")
    batch = {key: batch[key].to(model.device) for key in ("input_ids", "attention_mask")}
    tokens = model(**batch).last_hidden_state
    written = torch.tensor([bool(prompt.strip()) for prompt in prompts], device=model.device)
    return TextFeatures(tokens, batch["attention_mask"].bool() & written[:, None], lost)
