"""Prompts to text tokens, through any frozen text encoder of transformers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForTextEncoding,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from drorae import checkpoints
from drorae.building import on_meta
from drorae.checkpoints import CONFIG, CheckpointError, check_plain, read_config, read_weights, resolve
from drorae.errors import count_of, reason_of
from drorae.model_files import FLOATS, read_header, read_json

WEIGHTS = "model.safetensors"  # of transformers
PATTERNS = [*checkpoints.PATTERNS, "*.txt", "*.model"]  # of a repository: vocabularies, too
ATTENTION = "eager"  # the same for everybody, and what ours was trained with; not what a configuration asks for
# Kinds of transformers' models that read text. No other class is looked up.
KINDS = frozenset(
    {
        *("albert", "bert", "big_bird", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "ernie"),
        *("mobilebert", "modernbert", "mpnet", "nomic_bert", "roberta", "xlm-roberta", "xlm-roberta-xl"),
        *("clip", "clip_text_model", "siglip", "siglip_text_model", "siglip2", "siglip2_text_model"),
        *("mt5", "t5", "t5gemma", "umt5"),
        *("gemma", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "llama", "mistral", "olmo", "olmo2", "opt", "phi"),
        *("phi3", "qwen2", "qwen3", "smollm3", "stablelm"),
    }
)
LARGEST, UNSET = 10_000_000, -1  # of the numbers in a configuration


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
    try:
        folder = resolve(name, patterns=PATTERNS)
        config = read_text_config(folder)
        kind, state = read_text_weights(folder, config, variant)
        tokenizer = read_tokenizer(tokenizer_folder or folder)
        model, report = kind.from_pretrained(
            None,
            config=config,
            state_dict=state,
            dtype=torch_dtype,
            trust_remote_code=False,
            attn_implementation=ATTENTION,
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
    return tokenizer, model.eval()


def read_text_config(folder: Path) -> PreTrainedConfig:
    """The configuration of a text encoder, without what it says about attention.

    Raises:
        CheckpointError: it is not readable, not of a known kind, or names code or unusable sizes.
    """
    found = read_config(folder)
    kind = found.pop("model_type", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise CheckpointError(f"'{folder / CONFIG}' is of the kind {kind!r:.60}, which is not a known text encoder")
    for key, value in found.items():
        for size in value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]:
            number = isinstance(size, (int, float))
            if number and (size > LARGEST or (size < 0 and size != UNSET)):
                raise CheckpointError(f"'{folder / CONFIG}' says {size!r:.40} for '{key}', which is not a usable size")
    return AutoConfig.for_model(kind, **without_attention(found))


def without_attention(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings, also those within others, but for the ones that choose an implementation of attention."""
    return {
        key: without_attention(value) if isinstance(value, dict) else value
        for key, value in settings.items()
        if "attn_implementation" not in key and key != "experts_implementation"
    }


def read_text_weights(
    folder: Path, config: PreTrainedConfig, variant: str | None
) -> tuple[type[PreTrainedModel], dict[str, Tensor]]:
    """The class and the weights of a text encoder, once a network without values was built that they could fill.

    Raises:
        CheckpointError: they are missing, damaged, of other shapes, or far fewer than the configuration asks for.
    """
    files = checkpoints.weight_files(folder, variant, WEIGHTS)
    stored = {name: tensor for file in files for name, tensor in read_header(file).items()}
    with on_meta(len(stored)):
        reads_text = type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING  # else all of it, of which that part is taken
        auto = AutoModelForTextEncoding if reads_text else AutoModel
        wanted = auto.from_config(config, attn_implementation=ATTENTION)
    most = 2 * sum(math.prod(tensor.shape) for tensor in stored.values()) + LARGEST
    if sum(tensor.numel() for tensor in (*wanted.parameters(), *wanted.buffers())) > most:
        raise CheckpointError(f"'{folder / CONFIG}' describes a much larger network than its weights are for")
    for name, tensor in wanted.state_dict().items():
        if name in stored and stored[name].shape != tuple(tensor.shape):
            raise CheckpointError(f"The weight '{name}' in '{folder}' is of another shape than '{CONFIG}' says")
        if name in stored and tensor.is_floating_point() != (stored[name].type in FLOATS):
            raise CheckpointError(f"The weight '{name}' in '{folder}' is of the type {stored[name].type}")
    return type(wanted), {name: value for file in files for name, value in read_weights(file, False).items()}


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in a folder, which names no code of its own.

    Raises:
        CheckpointError: it does, or cannot be used.
    """
    for file in (folder / "tokenizer_config.json", folder / CONFIG):
        if file.is_file():
            check_plain(read_json(file, unbounded=("model_max_length",)), file)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if not isinstance(tokenizer.model_max_length, (int, float)):
        raise CheckpointError(f"The 'model_max_length' in '{folder}' is not a number")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise CheckpointError(f"The tokenizer in '{folder}' has no token to pad with")
    tokenizer(["two words", ""], padding=True)  # some can be read, and cannot be used
    return tokenizer


def token_width(model: PreTrainedModel) -> int:
    """Channels D of the tokens."""
    config = model.config.get_text_config()
    return getattr(config, "hidden_size", None) or config.d_model


@torch.no_grad()
def encode(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, prompts: list[str], max_tokens: int
) -> TextFeatures:
    """Prompts to tokens. The empty prompt is the null prompt: its mask is all False.

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
