"""Names to folders: a path, what is bundled, or a repository of the Hub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from huggingface_hub import hf_hub_download, snapshot_download

from drorae.bundled import DEFAULT_MODEL, bundled_path
from drorae.model_files import CheckpointError

PATTERNS = ["*.json", "*.safetensors", "*.md"]  # of a Hub repository: nothing that could run
# Commits of published models that were tried by others; the Hub is asked for these unless somebody names a revision.
# What else is published there is not pinned: its newest files are taken.
REVISIONS = {
    "nyu-visionx/RAE-dinov2-wReg-base-ViTXL-n08": "eb1744fb3fc4269bb37a804a1afeed1194bc105c",
    "nyu-visionx/RAE-siglip2-base-p16-i256-ViTXL-n08": "9ed221bb479c83f610d3b3924f8a4a2f9a763b05",
    "nyu-visionx/RAE-mae-base-p16-ViTXL-n08": "2dc45f481873a1c7159e7b94d7b85c7e33b7f2d9",
}
_stored_only: ContextVar[bool] = ContextVar("stored_only", default=False)


@contextmanager
def stored_only() -> Iterator[None]:
    """While it is active, names stand for what is on this disk already; the network is not asked."""
    token = _stored_only.set(True)
    try:
        yield
    finally:
        _stored_only.reset(token)


def split_revision(name: str | Path) -> tuple[str, str | None]:
    """Hub id and revision of ``id@revision``, or the pinned one (:data:`REVISIONS`); a folder on this disk is itself,
    also with an ``@`` in its path."""
    if local_folder(name) is not None:
        return str(name), None
    repository, _, revision = str(name).partition("@")
    return repository, revision or REVISIONS.get(repository)


def local_folder(name: str | Path) -> Path | None:
    """The folder of a path or a bundled name (``drorae-tiny``, ``assets/drorae-tiny``), if there is one.

    No name at all is none; as a path it would be the folder that one happens to be in.
    """
    if not str(name):
        return None
    try:
        return next((place for place in (Path(name), bundled_path(name)) if place is not None and place.is_dir()), None)
    except (OSError, ValueError):  # a name that no folder can have: too long, or with a null character
        return None


def _is_file(name: str | Path) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def resolve(name: str | Path, revision: str | None = None, patterns: Sequence[str] = PATTERNS) -> Path:
    """Checkpoint folder for a path, a bundled name (``drorae-tiny``, ``assets/drorae-tiny``) or a Hub id.

    Args:
        name: a Hub id may be ``id@revision``.
        revision: the same, apart; it wins.
        patterns: patterns of the files of a Hub repository that are fetched.

    Raises:
        CheckpointError: there is no such folder and no such repository, or the Hub cannot be reached.
    """
    folder = local_folder(name)
    if folder is not None:
        return folder
    if not str(name):
        raise CheckpointError(f"The name of the model is empty; give a folder or a Hub id, such as '{DEFAULT_MODEL}'.")
    if _is_file(name):
        raise CheckpointError(f"'{name}' is a file; give the folder of the model, which holds its configuration, too.")
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


def commit(folder: Path) -> str | None:
    """The commit of a folder in the Hub's cache (``.../snapshots/<commit>``); ``None`` for any other folder."""
    return folder.name if folder.parent.name == "snapshots" else None
