"""Files of a model as they are: text that may say anything, and weights whose header may lie.

Every file is opened here, once, as an ordinary file, and never mapped into memory: a mapped file that somebody cuts
short ends the process that reads it.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

from drorae.errors import DRoRAEError

FIX = "restore it from the repository or save the model again"
JSON_BYTES = 32_000_000  # RAE's configurations hold the statistics of their latents, 5 MB as text
KEYS = 1000  # of a configuration
HEADER_BYTES = 100_000_000  # as the library of the format has it
NAME_LETTERS, AXES = 500, 8  # of a tensor
TENSORS = 20_000  # of a file
LARGEST = 2**53  # whole numbers beyond are not exact everywhere, and none is meant
BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8}
FLOATS = ("F64", "F32", "F16", "BF16")


class CheckpointError(DRoRAEError, RuntimeError):
    """A checkpoint that cannot be used. The message names the file and what to do about it."""


class State(NamedTuple):
    """What changes when a file does, or another takes its place."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


class Stored(NamedTuple):
    """A tensor in a file of weights: shape, and type as the format names it (``"F16"``)."""

    shape: tuple[int, ...]
    type: str


States = dict[str, State]
_seen: ContextVar[States | None] = ContextVar("states", default=None)


@contextmanager
def noted_files() -> Iterator[States]:
    """While it is active, the states of all files that are opened here, by path."""
    states: States = {}
    outer = _seen.get()
    token = _seen.set(states)
    try:
        yield states
    finally:
        _seen.reset(token)
        if outer is not None:
            outer |= states


def check_unchanged(states: Mapping[str, State], name: str) -> None:
    """Check that files are as they were.

    Raises:
        CheckpointError: they are not, or are gone.
    """
    for path, state in states.items():
        try:
            now = state_of(os.stat(path))
        except OSError:
            now = None
        if now != state:
            raise CheckpointError(
                f"'{Path(path).name}' of '{name}' changed while the model was being loaded; load it again."
            )


def state_of(result: os.stat_result) -> State:
    """The state in what ``os.stat`` says."""
    return State(result.st_dev, result.st_ino, result.st_size, result.st_mtime_ns, result.st_ctime_ns)


def read_file(path: Path, limit: int | None = None) -> bytes:
    """What is in an ordinary file.

    Args:
        limit: bytes from its start; all when ``None``.

    Raises:
        CheckpointError: it is missing, is not a file, or cannot be read.
    """
    try:
        # a pipe without a writer would be waited for
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            result = os.fstat(file.fileno())
            if not stat.S_ISREG(result.st_mode):
                raise CheckpointError(f"'{path}' is not an ordinary file; {FIX}.")
            states = _seen.get()
            if states is not None:
                states[str(path)] = state_of(result)
            return file.read(-1 if limit is None else limit)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError(f"'{path}' is missing; {FIX}.") from error
    except IsADirectoryError as error:
        raise CheckpointError(f"'{path}' is not an ordinary file; {FIX}.") from error
    except (OSError, ValueError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise CheckpointError(f"'{path}' is damaged or cannot be read ({reason}); {FIX}.") from error


def read_json(path: Path, what: str = "a configuration", unbounded: Collection[str] = ()) -> dict[str, Any]:
    """The object in a file of JSON, without numbers that JSON does not have or that are out of any sensible range.

    Args:
        what: it is, in sentences.
        unbounded: keys whose numbers may be anything.

    Raises:
        CheckpointError: it is missing, is not readable, or holds such a number, which is named.
    """
    content = read_file(path, JSON_BYTES + 1)
    if len(content) > JSON_BYTES:
        raise CheckpointError(f"'{path}' is larger than the {JSON_BYTES // 1_000_000} MB of {what}; {FIX}.")
    try:
        found = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"'{path}' is not readable JSON; {FIX}.") from error
    if not isinstance(found, dict) or len(found) > KEYS:
        raise CheckpointError(f"'{path}' is not {what}; {FIX}.")
    for key, value in found.items():
        wrong = next((number for number in _numbers(value) if not _is_meant(number)), None)
        if wrong is not None and key not in unbounded:
            raise CheckpointError(f"'{path}' says {wrong!r:.30} for '{key:.60}', which is not a usable number; {FIX}.")
    return found


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, (int, float)):
        yield value
    elif isinstance(value, (list, dict)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _numbers(each)


def _is_meant(number: float) -> bool:
    return abs(number) <= LARGEST if isinstance(number, int) else math.isfinite(number)


def read_header(path: Path) -> dict[str, Stored]:
    """The tensors that a safetensors file holds, by name; the file is as long as they are.

    Raises:
        CheckpointError: it is missing, damaged, or holds tensors of a type that no weights have.
    """
    damaged = CheckpointError(f"'{path}' is damaged or incomplete; {FIX}.")
    start = read_file(path, 8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or not 2 <= length <= HEADER_BYTES:
        raise damaged
    content = read_file(path, 8 + length)[8:]
    try:
        header = json.loads(content)
        header.pop("__metadata__", None)
        if len(header) > TENSORS:
            raise damaged
        tensors, places = {}, []
        for name, entry in header.items():
            shape, kind, (begin, end) = tuple(entry["shape"]), entry["dtype"], entry["data_offsets"]
            if len(name) > NAME_LETTERS or len(shape) > AXES:
                raise damaged
            if not all(type(value) is int and value >= 0 for value in (*shape, begin, end)):
                raise damaged
            if kind not in BITS:
                raise CheckpointError(
                    f"'{name:.120}' in '{path}' is of the type {kind!r:.20}; weights are floating-point numbers. "
                    "Save the model again."
                )
            if (end - begin) * 8 != math.prod(shape) * BITS[kind]:
                raise damaged
            tensors[name] = Stored(shape, kind)
            places.append((begin, end))
        size = path.stat().st_size - 8 - length
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OSError) as error:
        raise damaged from error
    places.sort()
    ends = [0, *(end for _, end in places)]
    if [begin for begin, _ in places] != ends[:-1] or ends[-1] != size:
        raise damaged  # gaps, tensors on top of each other, or a file that was cut off
    return tensors
