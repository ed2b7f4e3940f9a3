"""Strict loading: whatever is missing or does not fit is an error, in one sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from drorae.building import UnfilledMeta, on_meta
from drorae.checkpoints.folders import resolve
from drorae.checkpoints.weights import CONFIG, check_files, check_finite, find_variant, read_config
from drorae.errors import count_of, reason_of
from drorae.model_files import FIX, FLOATS, CheckpointError, Stored, check_unchanged, noted_files
from drorae.rules import check_settings, rules_of

if TYPE_CHECKING:
    from diffusers import ModelMixin  # which is loaded when a model is

TYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def load_strict(model_class: type[ModelMixin], loader: Callable[..., Any], name: str | Path, **kwargs: Any) -> Any:
    """Load a diffusers model with ``loader`` (its ``from_pretrained``) and refuse anything but an exact fit.

    Arguments are those of diffusers. ``low_cpu_mem_usage=False`` changes nothing: weights that stay in fp32 beside
    others are loaded in one way alone.

    Raises:
        CheckpointError: see :func:`resolve`, :func:`check_files` and :func:`check_fit`.
    """
    folder = resolve(name, kwargs.pop("revision", None)) / (kwargs.pop("subfolder", None) or "")
    kwargs["variant"] = kwargs.get("variant") or find_variant(folder)
    kwargs.setdefault("torch_dtype", torch.float32)
    if not kwargs.get("low_cpu_mem_usage", True):
        del kwargs["low_cpu_mem_usage"]
    loaded = load_checked(model_class, loader, folder, **kwargs)
    if isinstance(loaded, tuple):  # with output_loading_info
        return loaded[0].eval(), *loaded[1:]
    return loaded.eval()


def load_checked(model_class: type[ModelMixin], loader: Callable[..., Any], folder: Path, **kwargs: Any) -> Any:
    """What ``loader`` makes of a folder whose files were checked, and are the same ones afterwards.

    Args:
        kwargs: arguments of ``loader``; ``variant`` must be among them.

    Raises:
        CheckpointError: see :func:`check_files` and :func:`check_fit`; weights that are not finite; files that changed.
    """
    with noted_files() as states:
        check_fit(folder, model_class, check_files(folder, kwargs["variant"]))
    try:
        with UnfilledMeta():
            # into memory: a mapped file that somebody cuts short would end this process
            loaded = loader(str(folder), use_safetensors=True, local_files_only=True, disable_mmap=True, **kwargs)
    except Exception as error:  # config and weights are somebody's files: many types, one thing to say
        check_unchanged(states, folder.name)
        raise CheckpointError(f"The model in '{folder}' could not be loaded: {reason_of(error)}.") from error
    check_unchanged(states, folder.name)
    model = loaded[0] if isinstance(loaded, tuple) else loaded
    check_finite(model.state_dict(), str(folder))
    check_values(model, f"'{folder}'")
    return loaded


def build_strict(model_class: type, arguments: dict[str, Any], state: Mapping[str, Tensor], source: Path) -> Any:
    """A model of ``arguments`` with exactly the weights ``state``, in fp32.

    Raises:
        CheckpointError: weights that are missing, unknown or of another shape; the first are named.
    """
    found = headers_of(state)
    try:
        with on_meta(len(found)):
            model = model_class(**arguments)
    except Exception as error:  # of somebody's numbers
        raise CheckpointError(f"'{source}' describes no model that can be built: {reason_of(error)}.") from error
    check_same(model.state_dict(), found, f"'{source}'")
    check_finite(state, str(source))
    model = model_class(**arguments)  # once more: buffers that are not saved need their values
    model.load_state_dict({name: value.float() for name, value in state.items()}, strict=True)
    check_values(model, f"'{source}'")
    return model


def check_fit(folder: Path, model_class: type[ModelMixin], files: Mapping[Path, Mapping[str, Stored]]) -> None:
    """Check that weights and configuration belong together: every weight is there, none is unknown, all types and
    shapes fit.

    Settings are checked one by one, and against the headers of the weights, before anything is built; then a network
    without values is, with as many parts as there are weights for.

    diffusers only warns about missing or unexpected weights, which leaves a model that runs and paints noise.

    Args:
        files: what :func:`check_files` returned.

    Raises:
        CheckpointError: the setting, or the first weights concerned, are named.
    """
    config = read_config(folder)
    kind = config.get("_class_name")
    if kind not in [None, *(base.__name__ for base in model_class.__mro__)]:
        raise CheckpointError(f"'{folder}' holds a model of the kind {kind!r:.80}, not {model_class.__name__!r}.")
    found = {name: stored for part in files.values() for name, stored in part.items()}
    rules = getattr(model_class, "SETTINGS", None)
    if rules is None:  # a library's class, whose newer versions may have more of them
        rules = rules_of(model_class)
        check_settings({name: value for name, value in config.items() if name in rules}, rules, folder / CONFIG)
    else:
        check_settings(config, rules, folder / CONFIG)
    check_stacks(config, getattr(model_class, "STACKS", {}), found, folder / CONFIG)
    try:
        with on_meta(len(found)):
            model = model_class.from_config(config)
    except Exception as error:  # a configuration is somebody's text: anything may be wrong in it
        raise CheckpointError(
            f"'{folder / CONFIG}' describes no model that can be built: {reason_of(error)}."
        ) from error
    check_same(model.state_dict(), found, f"'{folder}'")


def check_stacks(config: Mapping[str, Any], stacks: Mapping[str, str], found: Mapping[str, Any], file: Path) -> None:
    """Check that the numbers of layers in a configuration are those of the weights.

    Args:
        stacks: what the names of a stack's weights begin with, before the number of the layer, by setting; a setting in
            another one, or in a list, is written ``encoder_args.depth``, ``depth.0``.
        found: the weights, by name.
        file: the configuration's.

    Raises:
        CheckpointError: a setting says another number.
    """
    for setting, prefix in stacks.items():
        stated: Any = config
        for part in setting.split("."):
            where = int(part) if part.isdecimal() else part
            stated = stated.get(where) if isinstance(stated, dict) else stated[where] if stated else None
        numbers = {match[1] for name in found if (match := re.match(rf"{re.escape(prefix)}\.(\d+)\.", name))}
        if stated is not None and stated != len(numbers):
            raise CheckpointError(
                f"'{file}' describes no model that can be built: '{setting}' is {stated}, and the weights hold "
                f"{count_of(len(numbers), 'such layer')}."
            )


def check_same(wanted: Mapping[str, Tensor], found: Mapping[str, Stored], where: str) -> None:
    """Check that a model's weights and those that were found have the same names, shapes and floating-point types.

    Args:
        where: they were found.

    Raises:
        CheckpointError: they do not; the first ones are named.
    """
    both = [name for name in wanted if name in found]
    shapes = [name for name in both if tuple(wanted[name].shape) != found[name].shape]
    types = [name for name in both if wanted[name].is_floating_point() != (found[name].type in FLOATS)]
    differences = {
        "missing": [name for name in wanted if name not in found],
        "unknown": [name for name in found if name not in wanted],
        "of another shape": shapes,
        "of another type": types,
    }
    problems = [f"{len(names)} {kind} (first: {names[0]:.120})" for kind, names in differences.items() if names]
    if problems:
        raise CheckpointError(
            f"The weights and '{CONFIG}' in {where} do not belong together: weights {', '.join(problems)}; "
            "restore both from one source."
        )


def check_values(model: nn.Module, where: str) -> None:
    """Check that the weights of a model have the values that its own ``check_values``, if it has one, asks for.

    Raises:
        CheckpointError: they do not.
    """
    try:
        getattr(model, "check_values", lambda: None)()
    except ValueError as error:
        raise CheckpointError(f"The weights in {where} cannot be used: {error}; {FIX}.") from error


def headers_of(state: Mapping[str, Tensor]) -> dict[str, Stored]:
    """What a header would say of weights."""
    return {name: Stored(tuple(value.shape), TYPES.get(value.dtype, "")) for name, value in state.items()}
