"""Names to checkpoint folders, and strict loading: whatever is missing or does not fit is an error, in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open

ASSETS = Path(__file__).resolve().parent.parent / "assets"
DEFAULT_MODEL = "assets/drorae-tiny"
CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used. The message names the file and what to do about it."""


def resolve(name: str | Path, revision: str | None = None) -> Path:
    """Checkpoint folder for a path, a bundled name (``drorae-tiny``, ``assets/drorae-tiny``) or a Hub id.

    Raises:
        CheckpointError: there is no such folder and no such repository, or the Hub cannot be reached.
    """
    for folder in (Path(name), ASSETS.parent / name, ASSETS / name):
        if folder.is_dir():
            return folder
    try:
        return Path(snapshot_download(str(name), revision=revision, allow_patterns=["*.json", "*.safetensors", "*.md"]))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"There is no checkpoint folder '{name}' and no Hub repository of that name could be fetched "
            f"({type(error).__name__}); check the name, or use '{DEFAULT_MODEL}'."
        ) from None


def check_files(folder: Path) -> None:
    """Config and weights exist and are whole.

    Raises:
        CheckpointError: naming the file and the fix.
    """
    fix = "restore it from the repository or save the model again"
    try:
        config = json.loads((folder / CONFIG).read_text())
    except FileNotFoundError:
        raise CheckpointError(f"'{folder / CONFIG}' is missing; {fix}.") from None
    except (ValueError, OSError):
        raise CheckpointError(f"'{folder / CONFIG}' is not readable JSON; {fix}.") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"'{folder / CONFIG}' is not a configuration; {fix}.")
    try:
        with safe_open(folder / WEIGHTS, framework="pt"):
            pass
    except FileNotFoundError:
        raise CheckpointError(f"'{folder / WEIGHTS}' is missing; {fix}.") from None
    except (SafetensorError, OSError):
        raise CheckpointError(f"'{folder / WEIGHTS}' is damaged or incomplete; {fix}.") from None


def load_strict(loader: Callable[..., Any], name: str | Path, **kwargs: Any) -> Any:
    """Load a diffusers model with ``loader`` (its ``from_pretrained``) and refuse anything but an exact fit.

    diffusers only warns about missing or unexpected weights, which leaves a model that runs and paints noise.

    Raises:
        CheckpointError: see :func:`resolve` and :func:`check_files`; or weights and configuration do not belong
            together (the first keys concerned are named).
    """
    folder = resolve(name, kwargs.pop("revision", None))
    check_files(folder)
    kwargs.setdefault("torch_dtype", torch.float32)
    # the low-memory path would leave weights that a damaged file lacks on the meta device
    kwargs.update(low_cpu_mem_usage=False, use_safetensors=True, output_loading_info=True, local_files_only=True)
    try:
        model, info = loader(str(folder), **kwargs)
    except (RuntimeError, ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise CheckpointError(f"The weights and '{CONFIG}' in '{folder}' do not fit: {reason}") from None
    problems = [f"{len(info[kind])} {kind.replace('_', ' ')} ({info[kind][0]}, ...)"
                for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") if info.get(kind)]
    if problems:
        raise CheckpointError(
            f"The weights and '{CONFIG}' in '{folder}' do not belong together: {'; '.join(problems)}."
        )
    return model.eval()
