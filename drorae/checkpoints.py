"""Names to checkpoint folders, and strict loading: whatever is missing or does not fit is an error, in one sentence."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import hf_hub_download, snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from drorae.building import UnfilledMeta, on_meta
from drorae.bundled import DEFAULT_MODEL, bundled
from drorae.errors import count_of
from drorae.model_files import (
    FIX,
    FLOATS,
    NAME_LETTERS,
    CheckpointError,
    Stored,
    check_unchanged,
    noted_files,
    read_file,
    read_header,
    read_json,
)
from drorae.rules import check_settings, rules_of

if TYPE_CHECKING:
    from diffusers import ModelMixin  # which is loaded when a model is

CONFIG = "config.json"
QUOTED = 1000  # letters, at most, of an error that a sentence quotes
WEIGHTS = "diffusion_pytorch_model.safetensors"
DISCRIMINATOR = "discriminator.safetensors"  # what training keeps beside the weights; no part of the model
PATTERNS = ["*.json", "*.safetensors", "*.md"]  # of a Hub repository: nothing that could run
# Commits of published models that were tried by others; the Hub is asked for these unless somebody names a revision.
# What else is published there is not pinned: its newest files are taken.
REVISIONS = {
    "nyu-visionx/RAE-dinov2-wReg-base-ViTXL-n08": "eb1744fb3fc4269bb37a804a1afeed1194bc105c",
    "nyu-visionx/RAE-siglip2-base-p16-i256-ViTXL-n08": "9ed221bb479c83f610d3b3924f8a4a2f9a763b05",
    "nyu-visionx/RAE-mae-base-p16-ViTXL-n08": "2dc45f481873a1c7159e7b94d7b85c7e33b7f2d9",
}
TYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_stored_only: ContextVar[bool] = ContextVar("stored_only", default=False)


@contextmanager
def stored_only() -> Iterator[None]:
    """While it is active, names stand for what is on this disk already; the network is not asked."""
    token = _stored_only.set(True)
    try:
        yield
    finally:
        _stored_only.reset(token)


def reason_of(error: BaseException) -> str:
    """The first line of an error's message without a full stop, for a sentence that quotes it; its type's name where it
    has none."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return (line if len(line) <= QUOTED else f"{line[:QUOTED]} ...").removesuffix(".")


def split_revision(name: str | Path) -> tuple[str, str | None]:
    """Hub id and revision of ``id@revision``, or the pinned one (:data:`REVISIONS`); a folder on this disk is itself,
    also with an ``@`` in its path."""
    if local_folder(name) is not None:
        return str(name), None
    repository, _, revision = str(name).partition("@")
    return repository, revision or REVISIONS.get(repository)


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
        wanted = {"revision": revision or named, "allow_patterns": list(patterns)}
        return Path(snapshot_download(repository, **wanted, local_files_only=_stored_only.get()))
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
        return Path(hf_hub_download(repository, file, revision=revision, local_files_only=_stored_only.get()))
    except Exception as error:  # no network, no such file, a refusal: many types, one thing to do
        raise CheckpointError(
            f"'{file}' of '{repository}' could not be fetched from the Hub ({type(error).__name__}); check the name."
        ) from error


def check_files(folder: Path, variant: str | None = None) -> dict[Path, dict[str, Stored]]:
    """What each file of a checkpoint's weights holds, once these and the config are known to exist and to be whole.

    Args:
        variant: see :func:`weight_files`.

    Raises:
        CheckpointError: naming the file and the fix.
    """
    read_config(folder)
    return {file: read_header(file) for file in weight_files(folder, variant)}


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
    """All weights are finite numbers.

    Raises:
        CheckpointError: the first one that is not is named.
    """
    for name, value in state.items():
        if value.is_complex() or (value.is_floating_point() and value.numel() and not _is_finite(value)):
            what = "is complex" if value.is_complex() else "holds values that are not finite"
            raise CheckpointError(f"The weight '{name}' in '{where}' {what}; {FIX}.")


def check_values(model: nn.Module, where: str) -> None:
    """The weights of a model have the values that its own ``check_values``, if it has one, asks for.

    Raises:
        CheckpointError: they do not.
    """
    try:
        getattr(model, "check_values", lambda: None)()
    except ValueError as error:
        raise CheckpointError(f"The weights in {where} cannot be used: {error}; {FIX}.") from error


def _is_finite(value: Tensor) -> bool:
    low, high = value.detach().aminmax()  # NaN, if there is any
    return bool(low.isfinite() and high.isfinite())


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a checkpoint, without anything that would fetch or run code, or load weights in another way.

    Raises:
        CheckpointError: it is missing or cannot be read, or asks for such a thing.
    """
    config = read_json(folder / CONFIG)
    check_plain(config, folder / CONFIG)
    return config


def check_plain(config: Mapping[str, Any], file: Path) -> None:
    """A configuration names no code of its own, and no other way of loading weights.

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


def load_weights(folder: Path) -> dict[str, Tensor]:
    """All weights of a checkpoint by name, of one file or of shards.

    Raises:
        CheckpointError: see :func:`check_files`.
    """
    state: dict[str, Tensor] = {}
    for file in check_files(folder):
        state |= read_weights(file)
    return state


def check_fit(folder: Path, model_class: type[ModelMixin], files: Mapping[Path, Mapping[str, Stored]]) -> None:
    """Weights and configuration belong together: every weight is there, none is unknown, all shapes and types fit.

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
        raise CheckpointError(f"'{folder}' holds a model of the kind {kind!r:.80}, not a {model_class.__name__}.")
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
    """The numbers of layers in a configuration are those of the weights.

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
        kwargs: of ``loader``; ``variant`` must be among them.

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
    found = stored_as(state)
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


def stored_as(state: Mapping[str, Tensor]) -> dict[str, Stored]:
    """What a header would say of weights."""
    return {name: Stored(tuple(value.shape), TYPES.get(value.dtype, "")) for name, value in state.items()}


def commit(folder: Path) -> str | None:
    """The commit of a folder in the Hub's cache (``.../snapshots/<commit>``); ``None`` for any other folder."""
    return folder.name if folder.parent.name == "snapshots" else None


def check_same(wanted: Mapping[str, Tensor], found: Mapping[str, Stored], where: str) -> None:
    """Weights that a model has and those that were found have the same names, shapes, and floating-point types.

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
