"""Pictures that many processes write, and that may be killed while doing so."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from accelerate import PartialState
from PIL import Image, UnidentifiedImageError
from tqdm.auto import tqdm

from train.errors import RunError

RECORD = "settings.json"  # what the pictures of a folder were made with


def is_complete(file: Path) -> bool:
    """Whether a picture is there and was written to its end."""
    try:
        with Image.open(file) as picture:
            picture.load()
    except (OSError, UnidentifiedImageError):
        return False
    return True


def write(file: Path, content: bytes) -> None:
    """Write beside, then rename, so that a picture that is there is whole."""
    fresh = file.with_suffix(".new")
    fresh.write_bytes(content)
    os.replace(fresh, file)


def check_record(folder: Path, record: dict) -> None:
    """Refuse a folder that other settings were recorded in.

    Raises:
        RunError: it holds pictures made with those, or does not say with which.
    """
    found = read_record(folder)
    if found is not None and found != json.loads(json.dumps(record)):
        raise RunError(f"'{folder}' holds pictures made with other settings; remove it or choose another --out.")


def read_record(folder: Path) -> dict[str, Any] | None:
    """What the pictures of a folder were made with; ``None`` where it does not say.

    Raises:
        RunError: its record cannot be read.
    """
    file = folder / RECORD
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise RunError(f"'{file}' cannot be read; remove '{folder}' and make its pictures again.")
    return found


def write_record(folder: Path, record: dict) -> None:
    """Write the settings of a folder's pictures, as JSON."""
    write(folder / RECORD, (json.dumps(record, indent=2) + "\n").encode())


def missing_batches(
    count: int, place: Callable[[int], Path], batch_size: int, state: PartialState
) -> Iterator[list[int]]:
    """The numbers from 0 to ``count`` - 1 that are this process's and have no whole picture yet, a batch at a time.

    A bar shows how far it is.

    Args:
        place: from a number to the file of its picture.
    """
    mine = list(range(count)[state.process_index :: state.num_processes])
    todo = [number for number in mine if not is_complete(place(number))]
    bar = tqdm(total=len(mine), initial=len(mine) - len(todo), desc="pictures", disable=not state.is_main_process)
    with bar:
        for start in range(0, len(todo), batch_size):
            batch = todo[start : start + batch_size]
            yield batch
            bar.update(len(batch))
