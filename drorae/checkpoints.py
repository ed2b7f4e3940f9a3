"""Names to checkpoint folders, and strict loading: whatever is missing or does not fit is an error, in one sentence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download, snapshot_download
from safetensors import SafetensorError, safe_open
from torch import Tensor

from drorae.bundled import DEFAULT_MODEL, bundled
from drorae.errors import DRoRAEError

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
DISCRIMINATOR = "discriminator.safetensors"  # what training keeps beside the weights; no part of the model
PATTERNS = ["*.json", "*.safetensors", "*.md"]  # of a Hub repository: nothing that could run


class CheckpointError(DRoRAEError, RuntimeError):
    """A checkpoint that cannot be used. The message names the file and what to do about it."""


def reason_of(error: BaseException) -> str:
    """The first line of an error's message, for a sentence that quotes it; its type's name where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def split_revision(name: str | Path) -> tuple[str, str | None]:
    """Hub id and revision of ``id@revision``; a folder on this disk is itself, also with an ``@`` in its path."""
    if local_folder(name) is not None:
        return str(name), None
    repository, _, revision = str(name).partition("@")
    return repository, revision or None


def local_folder(name: str | Path) -> Path | None:
    """The folder of a path or a bundled name (``drorae-tiny``, ``assets/drorae-tiny``), if there is one."""
    return next((place for place in (Path(name), bundled(name)) if place is not None and place.is_dir()), None)


def resolve(name: str | Path, revision: str | None = None) -> Path:
    """Checkpoint folder for a path, a bundled name (``drorae-tiny``, ``assets/drorae-tiny``) or a Hub id.

    Args:
        name: a Hub id may be ``id@revision``.
        revision: the same, apart; it wins.

    Raises:
        CheckpointError: there is no such folder and no such repository, or the Hub cannot be reached.
    """
    folder = local_folder(name)
    if folder is not None:
        return folder
    repository, named = split_revision(name)
    try:
        return Path(snapshot_download(repository, revision=revision or named, allow_patterns=PATTERNS))
    except Exception as error:  # no network, no such repository, a proxy's refusal: many types, one thing to do
        raise CheckpointError(
            f"There is no checkpoint folder '{name}' and no Hub repository of that name could be fetched "
            f"({type(error).__name__}); check the name, or use '{DEFAULT_MODEL}'."
        ) from error


def stored_folder(name: str) -> Path | None:
    """The folder of a checkpoint that is on this disk, also in the Hub's cache; the network is not asked.

    Args:
        name: path, bundled name, or Hub id with an optional ``@revision``.
    """
    folder = local_folder(name)
    if folder is not None:
        return folder
    repository, revision = split_revision(name)
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=PATTERNS, local_files_only=True))
    except (OSError, ValueError):  # not there, or no name of a repository
        return None


def weights_hash(folder: Path) -> str | None:
    """First 16 hexadecimal digits of the SHA-256 of a checkpoint's weight files, which name a model in reports and
    cards; ``None`` where there are no such files."""
    files = [file for file in sorted(folder.glob("*.safetensors")) if file.name != DISCRIMINATOR]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16] if files else None


def fetch_file(repository: str, file: str, revision: str | None = None) -> Path:
    """One file of a folder or of a Hub repository.

    Raises:
        CheckpointError: it is not there or cannot be fetched.
    """
    if Path(repository).is_dir():
        if not (Path(repository) / file).is_file():
            raise CheckpointError(f"'{Path(repository) / file}' is missing; check the folder.")
        return Path(repository) / file
    try:
        return Path(hf_hub_download(repository, file, revision=revision))
    except Exception as error:  # no network, no such file, a refusal: many types, one thing to do
        raise CheckpointError(
            f"'{file}' of '{repository}' could not be fetched from the Hub ({type(error).__name__}); check the name."
        ) from error


def check_files(folder: Path) -> None:
    """Config and weights exist and are whole.

    Raises:
        CheckpointError: naming the file and the fix.
    """
    fix = "restore it from the repository or save the model again"
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"'{folder / CONFIG}' is missing; {fix}.") from error
    except (ValueError, OSError) as error:
        raise CheckpointError(f"'{folder / CONFIG}' is not readable JSON; {fix}.") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"'{folder / CONFIG}' is not a configuration; {fix}.")
    try:
        with safe_open(folder / WEIGHTS, framework="pt"):
            pass
    except FileNotFoundError as error:
        raise CheckpointError(f"'{folder / WEIGHTS}' is missing; {fix}.") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"'{folder / WEIGHTS}' is damaged or incomplete; {fix}.") from error


def check_fit(folder: Path, model_class: type) -> None:
    """Weights and configuration belong together: every weight is there, none is unknown, all shapes fit.

    diffusers only warns about missing or unexpected weights, which leaves a model that runs and paints noise.

    Raises:
        CheckpointError: the first weights concerned are named.
    """
    try:
        with torch.device("meta"):
            model = model_class.from_config(model_class.load_config(str(folder), local_files_only=True))
    except Exception as error:  # a configuration is somebody's text: anything may be wrong in it
        raise CheckpointError(
            f"'{folder / CONFIG}' describes no model that can be built: {reason_of(error)}"
        ) from error
    wanted = {name: list(value.shape) for name, value in model.state_dict().items()}
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    _compare(wanted, found, f"'{folder}'")


def load_strict(model_class: type, loader: Callable[..., Any], name: str | Path, **kwargs: Any) -> Any:
    """Load a diffusers model with ``loader`` (its ``from_pretrained``) and refuse anything but an exact fit.

    Raises:
        CheckpointError: see :func:`resolve`, :func:`check_files` and :func:`check_fit`.
    """
    folder = resolve(name, kwargs.pop("revision", None)) / (kwargs.pop("subfolder", None) or "")
    check_files(folder)
    check_fit(folder, model_class)
    kwargs.setdefault("torch_dtype", torch.float32)
    kwargs.update(use_safetensors=True, local_files_only=True)
    try:
        return loader(str(folder), **kwargs).eval()
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        raise CheckpointError(f"The model in '{folder}' could not be loaded: {reason_of(error)}") from error


def build_strict(model_class: type, arguments: dict[str, Any], state: Mapping[str, Tensor], source: Path) -> Any:
    """A model of ``arguments`` with exactly the weights ``state``, in fp32.

    Raises:
        CheckpointError: weights that are missing, unknown or of another shape; the first are named.
    """
    try:
        with torch.device("meta"):
            model = model_class(**arguments)
    except ValueError as error:
        raise CheckpointError(f"'{source}' describes no model that can be built: {reason_of(error)}") from error
    wanted = {name: list(value.shape) for name, value in model.state_dict().items()}
    _compare(wanted, {name: list(value.shape) for name, value in state.items()}, f"'{source}'")
    model = model_class(**arguments)  # once more: buffers that are not saved need their values
    model.load_state_dict({name: value.float() for name, value in state.items()}, strict=True)
    return model


def commit(folder: Path) -> str | None:
    """The commit of a folder in the Hub's cache (``.../snapshots/<commit>``); ``None`` for any other folder."""
    return folder.name if folder.parent.name == "snapshots" else None


def _compare(wanted: dict[str, list[int]], found: dict[str, list[int]], where: str) -> None:
    differences = {
        "missing": [name for name in wanted if name not in found],
        "unknown": [name for name in found if name not in wanted],
        "of another shape": [name for name in wanted if name in found and wanted[name] != found[name]],
    }
    problems = [f"{len(names)} {kind} (first: {names[0]})" for kind, names in differences.items() if names]
    if problems:
        raise CheckpointError(
            f"The weights and '{CONFIG}' in {where} do not belong together: weights {', '.join(problems)}; "
            "restore both from one source."
        )
