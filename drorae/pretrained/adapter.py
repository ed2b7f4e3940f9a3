"""Fusion adapters: a trained fusion on its own, small, naming the published model and revision it belongs to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from drorae.checkpoints import CONFIG as MODEL_CONFIG
from drorae.checkpoints import (
    INDEX,
    CheckpointError,
    check_same,
    headers_of,
    read_config,
    read_weights,
    resolve,
)
from drorae.errors import reason_of
from drorae.model_files import read_json
from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.rules import check_settings, text

CONFIG, WEIGHTS = "fusion_config.json", "fusion.safetensors"
FUSION_KEYS = ("fusion", "fusion_hidden_size", "fusion_beta", "fusion_mean_layers")
LAYERS_KEY = "fusion_layers"  # adapters that are older than it fuse all layers
SETTINGS = {
    key: AutoencoderDRoRAE.SETTINGS[key] for key in (*FUSION_KEYS, LAYERS_KEY, "latent_statistics", "base_revision")
}
SETTINGS["base_model"] = text()


def save_fusion(model: AutoencoderDRoRAE, folder: str | Path) -> None:
    """Write the fusion of a model that came from :meth:`~drorae.AutoencoderDRoRAE.from_rae`, and its statistics.

    Raises:
        ValueError: the model has no fusion, or does not know which published model it came from.
    """
    if model.fusion_module is None:
        raise ValueError("this model has no fusion to save; put one in with set_fusion and train it")
    if model.config.base_model is None:
        raise ValueError("this model does not come from a published RAE; use save_pretrained for the whole model")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"fusion_module": model.fusion_module, "statistics": model.statistics}
    state = {
        f"{part}.{key}": value.contiguous().cpu()
        for part, module in parts.items()
        if module is not None
        for key, value in module.state_dict().items()
    }
    save_file(state, folder / WEIGHTS)
    keys = ("base_model", "base_revision", "latent_statistics", *FUSION_KEYS, LAYERS_KEY)
    config = {key: model.config[key] for key in keys}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_fusion(name: str | Path, revision: str | None = None, base: str | None = None) -> AutoencoderDRoRAE:
    """The published model an adapter names, with the adapter's fusion on it.

    Args:
        name: folder or Hub id of the adapter.
        revision: revision of the adapter on the Hub; its config names the revision of the base model.
        base: a local copy of the base model, to be used in its place.

    Raises:
        CheckpointError: adapter or base model are missing, damaged or do not belong together.
    """
    folder = resolve(name, revision)
    try:
        config: dict[str, Any] = read_json(folder / CONFIG)
        check_settings(config, SETTINGS, folder / CONFIG, needed=[*FUSION_KEYS, "base_model", "base_revision"])
        state = read_weights(folder / WEIGHTS)
        if config["fusion"] is None:
            raise CheckpointError(f"'{folder / CONFIG}' names no fusion.")
    except CheckpointError as error:
        raise CheckpointError(f"'{folder}' holds no readable fusion adapter: {error}") from error
    fusion: dict[str, Any] = {key.removeprefix("fusion_"): config.get(key) for key in (*FUSION_KEYS, LAYERS_KEY)}
    width = next((value.shape[-1] for key, value in state.items() if key == "fusion_module.experts.weight_in"), None)
    if fusion["fusion"].startswith("depth-routed") and fusion["hidden_size"] not in (
        None,
        width,
    ):  # before anything is built
        raise CheckpointError(
            f"'{folder / CONFIG}' says {fusion['hidden_size']} for 'fusion_hidden_size', and the weights are of "
            f"{width or 'no fusion of that kind'}; fetch it again."
        )
    base_model, base_revision = config["base_model"], config["base_revision"]
    try:
        model = AutoencoderDRoRAE.from_rae(base or base_model, revision=None if base else base_revision, **fusion)
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"The fusion in '{folder}' does not fit '{base or base_model}': {error}.") from error
    parts: dict[str, dict[str, Any]] = {"fusion_module": {}, "statistics": {}}
    try:
        for key, value in state.items():
            part, _, rest = key.partition(".")
            if part not in parts:
                raise CheckpointError(f"the weight '{key}' is unknown")
            parts[part][rest] = value.float()
        check_same(model.fusion_module.state_dict(), headers_of(parts["fusion_module"]), f"'{folder}'")
        model.fusion_module.load_state_dict(parts["fusion_module"], strict=True)
        if config.get("latent_statistics"):
            model.set_statistics(parts["statistics"]["std"], parts["statistics"].get("mean"))
    except (CheckpointError, RuntimeError, KeyError, ValueError) as error:
        reason = reason_of(error)
        raise CheckpointError(f"The fusion in '{folder}' does not fit '{base or base_model}': {reason}.") from error
    model.register_to_config(base_model=base_model, base_revision=base_revision)
    return model


def load_tokenizer(name: str | Path, variant: str | None = None) -> AutoencoderDRoRAE:
    """Any tokenizer, by what its folder holds: a checkpoint of this package, a published RAE, or an adapter.

    Args:
        name: folder or Hub id, the latter with an optional ``@revision``.
        variant: variant of a checkpoint of this package, as ``save_pretrained`` was given.

    Raises:
        CheckpointError: it is none of the three, or cannot be used.
    """
    folder = resolve(name)
    if (folder / CONFIG).is_file():
        return load_fusion(name)
    if not (folder / MODEL_CONFIG).is_file() and (folder / INDEX).is_file():
        raise CheckpointError(
            f"'{name}' is a whole pipeline, not a tokenizer; give the folder of its autoencoder, or sample with it."
        )
    if read_config(folder).get("_class_name") == "AutoencoderRAE":
        return AutoencoderDRoRAE.from_rae(str(name))
    return AutoencoderDRoRAE.from_pretrained(name, variant=variant)


def cast_weights(model: AutoencoderDRoRAE, dtype: torch.dtype) -> AutoencoderDRoRAE:
    """All weights in another precision, but for the latent statistics."""
    for part in (model.encoder, model.fusion_module, model.decoder, model.decoder_finetuned):
        if part is not None:
            part.to(dtype)
    return model
