"""Names to checkpoint folders, and strict loading: whatever is missing or does not fit is an error, in one sentence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import hf_hub_download, snapshot_download
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from drorae.bundled import DEFAULT_MODEL, bundled
from drorae.errors import DRoRAEError

if TYPE_CHECKING:
    from diffusers import ModelMixin  # which is loaded when a model is

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
DISCRIMINATOR = "discriminator.safetensors"  # what training keeps beside the weights; no part of the model
FIX = "restore it from the repository or save the model again"
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
    try:
        return next((place for place in (Path(name), bundled(name)) if place is not None and place.is_dir()), None)
    except (OSError, ValueError):  # a name that no folder can have: too long, or with a null character
        return None


def resolve(name: str | Path, revision: str | None = None, patterns: Sequence[str] = PATTERNS) -> Path:
    """Checkpoint folder for a path, a bundled name (``drorae-tiny``, ``assets/drorae-tiny``) or a Hub id.

    Args:
        name: a Hub id may be ``id@revision``.
        revision: the same, apart; it wins.
        patterns: of the files of a Hub repository that are fetched.

    Raises:
        CheckpointError: there is no such folder and no such repository, or the Hub cannot be reached.
    """
    folder = local_folder(name)
    if folder is not None:
        return folder
    repository, named = split_revision(name)
    try:
        return Path(snapshot_download(repository, revision=revision or named, allow_patterns=list(patterns)))
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


def module_hash(module: nn.Module, digest: Any = None) -> str:
    """A hash of all weights of a module, in half precision, so that a copy in fp16 has the same."""
    digest = digest or hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().half().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


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


def check_files(folder: Path, variant: str | None = None) -> list[Path]:
    """The files of a checkpoint's weights, once these and the config are known to exist and to be whole.

    Args:
        variant: see :func:`weight_files`.

    Raises:
        CheckpointError: naming the file and the fix.
    """
    read_config(folder)
    files = weight_files(folder, variant)
    for file in files:
        with _reading(file), safe_open(file, framework="pt"):
            pass
    return files


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Turn what a missing or damaged file of weights raises into one sentence."""
    try:
        yield
    except FileNotFoundError as error:
        raise CheckpointError(f"'{file}' is missing; {FIX}.") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"'{file}' is damaged or incomplete; {FIX}.") from error


def read_weights(file: Path) -> dict[str, Tensor]:
    """The weights in one file by name.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    with _reading(file):
        return load_file(file)


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a checkpoint.

    Raises:
        CheckpointError: it is missing or cannot be read.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"'{folder / CONFIG}' is missing; {FIX}.") from error
    except (ValueError, OSError) as error:
        raise CheckpointError(f"'{folder / CONFIG}' is not readable JSON; {FIX}.") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"'{folder / CONFIG}' is not a configuration; {FIX}.")
    return config


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


def weight_files(folder: Path, variant: str | None = None) -> list[Path]:
    """The files that hold a checkpoint's weights: one, or the shards that its index lists. They may be missing.

    Args:
        variant: as diffusers' ``save_pretrained`` was given; the only one there is when ``None`` and all are saved so.

    Raises:
        CheckpointError: an index that cannot be read.
    """
    variant = variant or find_variant(folder)
    named = "" if variant is None else f".{variant}"
    index = folder / f"{WEIGHTS}.index{named}.json"
    stem, _, suffix = WEIGHTS.rpartition(".")
    if not index.is_file():
        return [folder / f"{stem}{named}.{suffix}"]
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        inside = bool(names) and all(Path(name).name == name for name in names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"'{index}' is not a readable index of weights; {FIX}.") from error
    if not inside:
        raise CheckpointError(f"'{index}' lists files that are not beside it; {FIX}.")
    return [folder / name for name in names]


def load_weights(folder: Path) -> dict[str, Tensor]:
    """All weights of a checkpoint by name, of one file or of shards.

    Raises:
        CheckpointError: see :func:`check_files`.
    """
    state: dict[str, Tensor] = {}
    for file in check_files(folder):
        state |= read_weights(file)
    return state


class UnfilledMeta(TorchFunctionMode):
    """While it is active, what would fill tensors on the meta device does nothing.

    They have no values, and yet the initialisation of a vision transformer there takes half of the time of loading it.
    """

    FILLING = frozenset({Tensor.uniform_, Tensor.normal_, Tensor.erfinv_, Tensor.mul_, Tensor.add_, Tensor.clamp_})

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in self.FILLING and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


def check_fit(folder: Path, model_class: type[ModelMixin], files: list[Path]) -> None:
    """Weights and configuration belong together: every weight is there, none is unknown, all shapes fit.

    diffusers only warns about missing or unexpected weights, which leaves a model that runs and paints noise.

    Raises:
        CheckpointError: the first weights concerned are named.
    """
    kind = read_config(folder).get("_class_name")
    if kind not in [None, *(base.__name__ for base in model_class.__mro__)]:
        raise CheckpointError(f"'{folder}' holds a model of the kind {kind!r:.80}, not a {model_class.__name__}.")
    try:
        with UnfilledMeta(), torch.device("meta"):
            model = model_class.from_config(model_class.load_config(str(folder), local_files_only=True))
    except Exception as error:  # a configuration is somebody's text: anything may be wrong in it
        raise CheckpointError(
            f"'{folder / CONFIG}' describes no model that can be built: {reason_of(error)}"
        ) from error
    wanted = {name: list(value.shape) for name, value in model.state_dict().items()}
    found: dict[str, list[int]] = {}
    for part in files:
        with safe_open(part, framework="pt") as file:
            found |= {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 (no dictionary)
    _compare(wanted, found, f"'{folder}'")


def load_strict(model_class: type[ModelMixin], loader: Callable[..., Any], name: str | Path, **kwargs: Any) -> Any:
    """Load a diffusers model with ``loader`` (its ``from_pretrained``) and refuse anything but an exact fit.

    Arguments are those of diffusers. ``low_cpu_mem_usage=False`` changes nothing: weights that stay in fp32 beside
    others are loaded in one way alone.

    Raises:
        CheckpointError: see :func:`resolve`, :func:`check_files` and :func:`check_fit`.
    """
    folder = resolve(name, kwargs.pop("revision", None)) / (kwargs.pop("subfolder", None) or "")
    kwargs["variant"] = kwargs.get("variant") or find_variant(folder)
    check_fit(folder, model_class, check_files(folder, kwargs["variant"]))
    kwargs.setdefault("torch_dtype", torch.float32)
    kwargs.update(use_safetensors=True, local_files_only=True)
    if not kwargs.get("low_cpu_mem_usage", True):
        del kwargs["low_cpu_mem_usage"]
    try:
        with UnfilledMeta():
            loaded = loader(str(folder), **kwargs)
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        raise CheckpointError(f"The model in '{folder}' could not be loaded: {reason_of(error)}") from error
    if isinstance(loaded, tuple):  # with output_loading_info
        return loaded[0].eval(), *loaded[1:]
    return loaded.eval()


def build_strict(model_class: type, arguments: dict[str, Any], state: Mapping[str, Tensor], source: Path) -> Any:
    """A model of ``arguments`` with exactly the weights ``state``, in fp32.

    Raises:
        CheckpointError: weights that are missing, unknown or of another shape; the first are named.
    """
    try:
        with UnfilledMeta(), torch.device("meta"):
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
