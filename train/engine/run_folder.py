"""The folder of a run: who holds it, its state, its checkpoint. A kill at any moment leaves whole ones behind."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import torch
from accelerate import Accelerator
from filelock import FileLock, Timeout
from safetensors import SafetensorError

from drorae.errors import reason_of
from train.errors import RunError, writing

STATE, CHECKPOINT, LOG, RECORD, DAMAGED = "state", "checkpoint", "log.jsonl", "run.json", "damaged.txt"
LOCK, LOCK_SECONDS = "lock", 2.0  # to wait for it: a killed run's last process may take a moment to end


def is_finished(folder: Path) -> bool:
    """Whether a run has left its checkpoint.

    Raises:
        RunError: there is a checkpoint without weights, which no run leaves.
    """
    checkpoint = folder / CHECKPOINT
    if not checkpoint.is_dir():
        return False
    if next(checkpoint.rglob("*.safetensors"), None) is None:
        raise RunError(f"'{checkpoint}' holds no weights; remove that folder, then run the same command again.")
    return True


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """The folder of a run for this process alone. It is free again when the process ends, however it ends.

    Raises:
        RunError: another training has it, or nothing can be written there.
    """
    lock, taken = FileLock(folder / LOCK), False
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except Timeout:
            taken = True
    if taken:
        raise RunError(
            f"{folder} is in use by another training; wait for its end, or give another --out. (If there is none, "
            f"remove '{folder / LOCK}'.)"
        )
    try:
        yield
    finally:
        lock.release()


def save_state(accelerator: Accelerator, folder: Path) -> None:
    """Save to a new folder, then swap, so that a kill at any moment leaves one whole state behind."""
    fresh, old = folder / f"{STATE}.new", folder / f"{STATE}.old"
    if accelerator.is_main_process:
        shutil.rmtree(fresh, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(fresh))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if (folder / STATE).is_dir():
            shutil.rmtree(old, ignore_errors=True)
            (folder / STATE).rename(old)
        fresh.rename(folder / STATE)
        shutil.rmtree(old, ignore_errors=True)


def load_state(accelerator: Accelerator, folder: Path) -> None:
    """Put the last saved state in its places.

    Raises:
        RunError: a part of it is missing, cut off or of another run.
    """
    state = folder / STATE
    random = state / f"random_states_{accelerator.process_index}.pkl"
    try:
        if not zipfile.is_zipfile(random):  # accelerate would go on without, to another result
            raise OSError(f"'{random.name}' is missing or damaged")
        accelerator.load_state(str(state))
    except torch.OutOfMemoryError:
        raise
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError, SafetensorError) as error:
        raise RunError(
            f"The state in '{state}' is damaged ({reason_of(error)[:120]}); remove {folder} to start this run again."
        ) from error


def recover_state(folder: Path) -> None:
    """Undo a swap that was interrupted between its two renames."""
    if not (folder / STATE).is_dir() and (folder / f"{STATE}.old").is_dir():
        (folder / f"{STATE}.old").rename(folder / STATE)


def write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """``write(partial)`` and rename, so that a folder that exists is whole."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    os.replace(partial, folder)


Number = TypeVar("Number", int, float)


class Counter(Generic[Number]):
    """A number that accelerate can checkpoint."""

    def __init__(self, value: Number):
        self.value: Number = value

    def state_dict(self) -> dict[str, Number]:
        """The numbers, by name."""
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Number]) -> None:
        """Take the numbers of :meth:`state_dict`."""
        self.value = state["value"]
