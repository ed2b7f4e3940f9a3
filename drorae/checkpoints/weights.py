"""The files of a checkpoint: which there are, and what they hold, read without anything that could run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from drorae.model_files import (
    FIX,
    FLOATS,
    NAME_LETTERS,
    CheckpointError,
    Stored,
    read_file,
    read_header,
    read_json,
)

CONFIG = "config.json"
INDEX = "model_index.json"  # of a pipeline, which has its models in folders of their own
WEIGHTS = "diffusion_pytorch_model.safetensors"
DISCRIMINATOR = "discriminator.safetensors"  # what training keeps beside the weights; no part of the model


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a checkpoint, without anything that would fetch or run code, or load weights in another way.

    Raises:
        CheckpointError: it is missing or cannot be read, or asks for such a thing.
    """
    config = read_json(folder / CONFIG)
    check_plain(config, folder / CONFIG)
    return config


def check_plain(config: Mapping[str, Any], file: Path) -> None:
    """Check that a configuration names neither code of its own nor another way of loading weights.

    Raises:
        CheckpointError: it does.
    """
    for key in ("auto_map", "quantization_config"):
        if config.get(key) is not None:
            raise CheckpointError(f"'{file}' has '{key}', which is never followed here; use a model without it.")


def find_variant(folder: Path, weights: str = WEIGHTS) -> str | None:
    """The variant a folder's weights are saved as (``save_pretrained(variant="fp16")``): ``None`` where they are saved
    without, too, and where there are none or several."""
    stem, _, suffix = weights.rpartition(".")
    if (folder / weights).is_file() or (folder / f"{weights}.index.json").is_file():
        return None
    names = {file.name.removeprefix(f"{stem}.") for file in folder.glob(f"{stem}.*.{suffix}")}
    names = {name.removesuffix(f".{suffix}") for name in names}
    found = {name for name in names if "-of-" not in name}
    places = {file.name for file in folder.glob(f"{weights}.index.*.json")}
    found |= {name.removeprefix(f"{weights}.index.").removesuffix(".json") for name in places}
    return found.pop() if len(found) == 1 else None


def weight_files(folder: Path, variant: str | None = None, weights: str = WEIGHTS) -> list[Path]:
    """The files that hold a checkpoint's weights: one, or the shards that its index lists. They may be missing.

    Args:
        variant: as diffusers' ``save_pretrained`` was given; the only one there is when ``None`` and all are saved so.
        weights: what the file is called where there is one, without a variant.

    Raises:
        CheckpointError: an index that cannot be read.
    """
    variant = variant or find_variant(folder, weights)
    named = "" if variant is None else f".{variant}"
    index = folder / f"{weights}.index{named}.json"
    stem, _, suffix = weights.rpartition(".")
    if not index.is_file():
        return [folder / f"{stem}{named}.{suffix}"]
    try:
        names = sorted(set(read_json(index, "an index of weights")["weight_map"].values()))
        inside = bool(names) and all(
            PurePath(name).name == name and name.endswith(suffix) and len(name) < NAME_LETTERS for name in names
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"'{index}' is not a readable index of weights; {FIX}.") from error
    if not inside:
        raise CheckpointError(f"'{index}' lists files that are not beside it; {FIX}.")
    return [folder / name for name in names]


def check_files(folder: Path, variant: str | None = None) -> dict[Path, dict[str, Stored]]:
    """What each file of a checkpoint's weights holds, once these and the config are known to exist and to be whole.

    Args:
        variant: see :func:`weight_files`.

    Raises:
        CheckpointError: naming the file and the fix.
    """
    read_config(folder)
    return {file: read_header(file) for file in weight_files(folder, variant)}


def load_weights(folder: Path) -> dict[str, Tensor]:
    """All weights of a checkpoint by name, of one file or of shards.

    Raises:
        CheckpointError: see :func:`check_files`.
    """
    state: dict[str, Tensor] = {}
    for file in check_files(folder):
        state |= read_weights(file)
    return state


def read_weights(file: Path, only_floats: bool = True) -> dict[str, Tensor]:
    """The weights in one file by name, in memory of their own.

    Args:
        only_floats: whether others are refused.

    Raises:
        CheckpointError: it is missing or damaged, or one of them is not finite, or not a floating-point number.
    """
    for name, stored in read_header(file).items():
        if only_floats and stored.type not in FLOATS:
            raise CheckpointError(f"The weight '{name}' in '{file}' is of the type {stored.type}, not a float; {FIX}.")
    try:
        state = load(read_file(file))
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"'{file}' is damaged or incomplete; {FIX}.") from error
    check_finite(state, str(file))
    return state


def check_finite(state: Mapping[str, Tensor], where: str) -> None:
    """Check that all weights are finite numbers.

    Raises:
        CheckpointError: the first one that is not is named.
    """
    for name, value in state.items():
        if value.is_complex() or (value.is_floating_point() and value.numel() and not _is_finite(value)):
            what = "is complex" if value.is_complex() else "holds values that are not finite"
            raise CheckpointError(f"The weight '{name}' in '{where}' {what}; {FIX}.")


def _is_finite(value: Tensor) -> bool:
    low, high = value.detach().aminmax()  # NaN, if there is any
    return bool(low.isfinite() and high.isfinite())
