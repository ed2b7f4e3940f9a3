"""Fetching a model from the Hub while somebody watches, who may change their mind."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import constants, snapshot_download
from huggingface_hub.file_download import repo_folder_name

from drorae.checkpoints import PATTERNS, CheckpointError, local_folder, split_revision

SECONDS = 0.5  # between two looks at a running download
SCRIPT = (
    "import json, sys; from huggingface_hub import snapshot_download; "
    "snapshot_download(sys.argv[1], **json.loads(sys.argv[2]))"
)


class Fetched(NamedTuple):
    """Bytes on this disk and in all."""

    done: int
    total: int


def fetch(name: str) -> Iterator[Fetched]:
    """Bytes on this disk, again and again, while a model (``id`` or ``id@revision``) is downloaded.

    Nothing is done for a folder, a bundled model, or one that is already here.

    Another process downloads, and ends with this iterator: closing it stops the download at once. What has arrived is
    kept by the Hub's library for the next attempt.

    Raises:
        CheckpointError: there is no such repository, or it cannot be reached or stored.
    """
    if local_folder(name) is not None:
        return
    repository, revision = split_revision(name)
    wanted = {"revision": revision, "allow_patterns": PATTERNS}
    try:
        files = snapshot_download(repository, **wanted, dry_run=True)
    except Exception:  # no network, no such repository, a proxy's refusal: many types, one thing to do
        try:
            snapshot_download(repository, **wanted, local_files_only=True)
            return
        except Exception as error:
            raise CheckpointError(
                f"There is no folder '{name}', and no Hub repository of that name could be reached "
                f"({type(error).__name__}); check the name and the network."
            ) from error
    total, missing = sum(file.file_size or 0 for file in files), [file for file in files if file.will_download]
    if not missing:
        return
    here = total - sum(file.file_size or 0 for file in missing)
    blobs = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model") / "blobs"
    before = size_of(blobs)
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, repository, json.dumps(wanted)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert child.stderr is not None  # it is a pipe
    try:
        while child.poll() is None:
            yield Fetched(min(here + max(size_of(blobs) - before, 0), total), total)
            time.sleep(SECONDS)
        if child.returncode:
            lines = child.stderr.read().decode(errors="replace").strip().splitlines()
            raise CheckpointError(f"'{name}' could not be fetched: {lines[-1] if lines else 'the download stopped.'}")
        yield Fetched(total, total)
    finally:
        child.kill()
        child.wait()
        child.stderr.close()


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder, which may be changing."""
    total = 0
    for path in folder.glob("*"):
        try:
            total += path.stat().st_size
        except OSError:  # renamed or removed between two looks
            continue
    return total
