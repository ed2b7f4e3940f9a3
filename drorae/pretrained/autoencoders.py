"""Any autoencoder of pictures by folder or Hub id: diffusers' classes, TAEF2, and every tokenizer of this package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
import torch
from diffusers.models.modeling_utils import ModelMixin
from huggingface_hub import metadata_load
from torch import nn

from drorae.checkpoints import (
    CONFIG,
    INDEX,
    WEIGHTS,
    CheckpointError,
    find_variant,
    load_checked,
    local_folder,
    read_config,
    resolve,
    stored_folder,
)
from drorae.pretrained import adapter
from drorae.pretrained.taef2 import AutoencoderTAEF2

CARD = "README.md"
OURS = ("AutoencoderDRoRAE", "AutoencoderRAE")
STEM = WEIGHTS.partition(".")[0]
# diffusers' autoencoders of pictures, and of clips, which pictures are the shortest of. No other class is looked up.
KINDS = frozenset(
    {
        "AsymmetricAutoencoderKL",
        "AutoencoderDC",
        "AutoencoderKL",
        "AutoencoderKLAllegro",
        "AutoencoderKLCogVideoX",
        "AutoencoderKLCosmos",
        "AutoencoderKLFlux2",
        "AutoencoderKLHunyuanImage",
        "AutoencoderKLHunyuanImageRefiner",
        "AutoencoderKLHunyuanVideo",
        "AutoencoderKLHunyuanVideo15",
        "AutoencoderKLKVAE",
        "AutoencoderKLKVAEVideo",
        "AutoencoderKLLTX2Video",
        "AutoencoderKLLTXVideo",
        "AutoencoderKLMagvit",
        "AutoencoderKLMiniMaxH3",
        "AutoencoderKLMochi",
        "AutoencoderKLQwenImage",
        "AutoencoderKLQwenImage21",
        "AutoencoderKLTemporalDecoder",
        "AutoencoderKLWan",
        "AutoencoderTiny",
        "AutoencoderVidTok",
        "ConsistencyDecoderVAE",
        "VQModel",
    }
)


class Autoencoder(NamedTuple):
    """An autoencoder in eval mode and fp32, and the licence that its model card states, if it does."""

    model: nn.Module
    licence: str | None


def load_autoencoder(
    name: str | Path, fetch: Callable[[str, Sequence[str]], Path] = lambda name, patterns: resolve(name, None, patterns)
) -> Autoencoder:
    """An autoencoder of pictures, by what its folder holds.

    Args:
        name: a folder, a bundled name (``taef2``), or a Hub id; the latter may be ``id@revision``, and ``:subfolder``
            after either names a folder in it (``id:vae``).
        fetch: from a folder or Hub id and the patterns of the files that are wanted to the folder that has them.

    Raises:
        CheckpointError: it cannot be reached, is not an autoencoder, or its weights are missing or do not fit; in one
            sentence that says ``name`` instead of a place in a cache.
    """
    name = str(name)
    place, subfolder = split_subfolder(name)
    prefix = f"{subfolder}/" if subfolder else ""
    small = [f"{prefix}{file}" for file in (CONFIG, adapter.CONFIG, INDEX, CARD)]
    root = fetch(place, [*small, CARD])
    folder = root / subfolder if subfolder else root
    try:
        kind = _class_in(folder, name)
        large = [f"{prefix}{file}" for file in (f"{STEM}*.safetensors", f"{STEM}*.json", adapter.WEIGHTS)]
        fetch(place, [*small, CARD, *large])
        model = adapter.load_tokenizer(folder) if kind is None else _load(kind, folder)
    except CheckpointError as error:
        raise CheckpointError(str(error).replace(str(folder), name)) from error
    return Autoencoder(model, licence_in(folder) or licence_in(root))


def licence_of(name: str | Path) -> str | None:
    """The licence that the card of a model on this disk states; ``None`` where there is none. The network is not
    asked."""
    folder = stored_folder(str(name))
    return None if folder is None else licence_in(folder)


def split_subfolder(name: str) -> tuple[str, str]:
    """Folder or Hub id, and the folder in it, of ``id:subfolder``; a folder on this disk is itself, also with a colon
    in its path."""
    if local_folder(name) is not None:
        return name, ""
    place, colon, subfolder = name.rpartition(":")
    return (place, subfolder.strip("/")) if colon and place else (name, "")


def licence_in(folder: Path) -> str | None:
    """The licence that the model card in a folder states in its head, in the Hub's words (``"mit"``); ``None`` where
    it states none."""
    try:
        head: dict[str, Any] = metadata_load(folder / CARD) or {}
    except Exception:  # a card is somebody's text: anything may be wrong in it
        return None
    licence = head.get("license_name") or head.get("license")
    return ", ".join(map(str, licence)) if isinstance(licence, list) else licence and str(licence)


def _class_in(folder: Path, name: str) -> type[ModelMixin] | None:
    """The class of the autoencoder in a folder; ``None`` for this package's own tokenizers.

    Raises:
        CheckpointError: the folder holds no autoencoder.
    """
    if (folder / adapter.CONFIG).is_file():
        return None
    if (folder / INDEX).is_file() and not (folder / CONFIG).is_file():
        raise CheckpointError(f"'{name}' is a whole pipeline; name the folder of its autoencoder, as in '{name}:vae'.")
    kind = read_config(folder).get("_class_name")
    if isinstance(kind, str) and kind in OURS:
        return None
    if kind == AutoencoderTAEF2.__name__:
        return AutoencoderTAEF2
    found = getattr(diffusers, kind, None) if isinstance(kind, str) and kind in KINDS else None
    if found is None:  # also where the installed diffusers is older than the kind
        what = f" (it is of the kind {kind:.80})" if isinstance(kind, str) else ""
        raise CheckpointError(
            f"'{name}' is not an autoencoder of pictures that diffusers knows{what}; name another model."
        )
    return found


def _load(kind: type[ModelMixin], folder: Path) -> nn.Module:
    """An autoencoder of diffusers, strictly: diffusers alone would go on with random weights for missing ones."""
    if kind is AutoencoderTAEF2:
        return AutoencoderTAEF2.from_pretrained(folder)
    return load_checked(
        kind, kind.from_pretrained, folder, torch_dtype=torch.float32, variant=find_variant(folder)
    ).eval()
