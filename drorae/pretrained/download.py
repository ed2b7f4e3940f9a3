"""Fetching and checking a model while somebody watches, who may change their mind.

Another process does both (:mod:`drorae.pretrained.checking`), and whatever a model does to it, ends with it. This one
builds the model afterwards, from the very files that were checked, and asks no network.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import RLock, Thread
from typing import Any, BinaryIO, NamedTuple, TypeVar

from drorae.checkpoints import CheckpointError, stored_only
from drorae.model_files import State, States, check_unchanged

SPLITS = hasattr(os, "fork") and hasattr(socket, "send_fds")  # whether a process can split off others
SECONDS = 0.5  # between two looks at a running download
TOKENIZER, AUTOENCODER = "tokenizer", "autoencoder"  # what a model is loaded as

T = TypeVar("T")


class DownloadProgress(NamedTuple):
    """How far a model is: bytes on this disk and in all while it is fetched; both are 0 while it is checked."""

    done: int
    total: int

    @property
    def is_fetching(self) -> bool:
        """Whether the model is being fetched, and not checked."""
        return self.total > 0


def prepare(name: str, kind: str = TOKENIZER) -> Generator[DownloadProgress, None, States]:
    """Fetch a model, unless it is here already, and load it once in a process of its own, to see that it can be.

    Closing the iterator ends that process at once. What has arrived is kept by the Hub's library for the next attempt.

    Args:
        name: a folder, a bundled name, or a Hub id, as :func:`build_checked` is given it afterwards.
        kind: what it is to be loaded as, ``"tokenizer"`` or ``"autoencoder"``.

    Returns:
        The files that were read, as they were.

    Raises:
        CheckpointError: it cannot be reached, stored or loaded, in one sentence.
    """
    for attempt in range(2):
        states = yield from _prepare_once(name, kind, again=attempt > 0)
        if states is not None:
            return states
        end_server()  # it had ended, of idleness or for want of memory
    raise AssertionError("not reached")


def _prepare_once(name: str, kind: str, again: bool) -> Generator[DownloadProgress, None, States | None]:
    """:func:`prepare`, once; ``None`` where no process was split off for it, unless it is tried ``again``."""
    if not SPLITS:
        return (yield from _prepare_alone(name, kind))
    connection = _ask(name, kind, again)
    if connection is None:
        return None
    lines: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
    reader = Thread(target=_read_lines, args=(connection.makefile("rb"), lines), daemon=True)
    reader.start()
    child: list[int] = []
    try:
        return (yield from _watch(name, lines, child.append, again))
    finally:
        if child and reader.is_alive():  # so is the process, which holds the other end
            with suppress(ProcessLookupError):
                os.kill(child[0], signal.SIGKILL)
        with suppress(OSError):  # the other end has gone
            connection.shutdown(socket.SHUT_RDWR)  # what is not split off yet will find nobody
        reader.join()
        connection.close()
        running.difference_update(child)


def _prepare_alone(name: str, kind: str) -> Generator[DownloadProgress, None, States]:
    """:func:`prepare` where no process can be split off, as on Windows: one is started for each model, and imports
    everything anew."""
    try:
        child = subprocess.Popen(
            [sys.executable, "-m", "drorae.pretrained.checking", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        )
    except OSError as error:
        raise _no_process(name, error) from error
    heard, told = child.stdin, child.stdout
    assert heard is not None
    assert told is not None
    lines: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
    reader = Thread(target=_read_lines, args=(told, lines), daemon=True)
    reader.start()
    try:
        with suppress(OSError):  # it has ended, which is heard below
            heard.write(_wish(name, kind))
            heard.flush()
        states = yield from _watch(name, lines, lambda pid: None, again=True)
        assert states is not None, "it is not tried again"
        return states
    finally:
        child.kill()
        child.wait()
        reader.join()
        running.discard(child.pid)
        with suppress(OSError):  # what was not written
            heard.close()


def _no_process(name: str, error: OSError) -> CheckpointError:
    reason = error.strerror or type(error).__name__
    return CheckpointError(f"'{name}' needs a process of its own, which could not be started ({reason}).")


def _watch(
    name: str, lines: SimpleQueue[dict[str, Any] | None], begin: Callable[[int], Any], again: bool
) -> Generator[DownloadProgress, None, States | None]:
    """How far a model is, from what is said of it; the files in the end. ``None`` where nothing is ever said, unless
    it is tried ``again``.

    Args:
        begin: is told the number of the process.

    Raises:
        CheckpointError: what is said is that it cannot be loaded, or its process was ended.
    """
    begun, fetching = False, _Fetching()
    while True:
        try:
            said = lines.get(timeout=SECONDS)
        except Empty:
            yield fetching.progress()
            continue
        if said is None and not begun and not again:
            return None
        if said is None:
            raise CheckpointError(
                f"'{name}' could not be checked: the process that did it was ended; it may need more memory than there "
                "is."
            )
        if "pid" in said:
            begun = True
            running.add(said["pid"])
            begin(said["pid"])
        elif "sentence" in said:
            raise CheckpointError(said["sentence"])
        elif "states" in said:
            return {path: State(*state) for path, state in said["states"].items()}
        else:
            fetching.hear(said)
        yield fetching.progress()


def _wish(name: str, kind: str) -> bytes:
    return json.dumps({"name": name, "kind": kind}).encode() + b"\n"


def _environment() -> dict[str, str]:
    """The environment of a process that imports this package from where it was imported here."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUTF8": "1"}


def _ask(name: str, kind: str, again: bool) -> socket.socket | None:
    """The line to a process that is going to be split off for a model; ``None`` where it cannot be asked for.

    Raises:
        CheckpointError: it could not be started, ``again``.
    """
    here, there = socket.socketpair()
    try:
        with _lock, there:
            here.sendall(_wish(name, kind))
            socket.send_fds(_server(), [b"."], [there.fileno()])
    except OSError as error:
        here.close()
        if not again:
            return None
        raise _no_process(name, error) from error
    return here


def _server() -> socket.socket:
    """The line to the process that has imported everything, which takes seconds, and splits off another for each model.
    It is started when it is first needed."""
    global _started
    if _started is None:
        here, there = socket.socketpair()
        with there:
            child = subprocess.Popen(
                [sys.executable, "-m", "drorae.pretrained.checking", str(there.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[there.fileno()],
                env=_environment(),
            )
        _started = _Server(here, child)
    return _started.line


def end_server() -> None:
    """End the process that splits off others; the next model starts a new one."""
    global _started
    with _lock:
        if _started is not None:
            _started.line.close()
            _started.process.kill()
            _started.process.wait()
            _started = None


class _Server(NamedTuple):
    line: socket.socket
    process: subprocess.Popen[bytes]


_lock = RLock()
_started: _Server | None = None
running: set[int] = set()  # numbers of the processes that fetch and check


class _Fetching:
    """The bytes that have arrived, by what the child said before it began to fetch."""

    def __init__(self) -> None:
        self.here = self.total = self.before = 0
        self.blobs: Path | None = None

    def hear(self, said: Mapping[str, Any]) -> None:
        self.here, self.total = said["here"], said["total"]
        self.blobs = Path(said["blobs"]) if self.total else None
        self.before = said["before"]

    def progress(self) -> DownloadProgress:
        if self.blobs is None:
            return DownloadProgress(0, 0)
        return DownloadProgress(min(self.here + max(size_of(self.blobs) - self.before, 0), self.total), self.total)


def _read_lines(file: BinaryIO, lines: SimpleQueue[dict[str, Any] | None]) -> None:
    try:
        with file:
            for said in file:
                lines.put(json.loads(said))
    except (OSError, ValueError):  # it was ended in the middle of one
        pass
    finally:
        lines.put(None)


def build_checked(load: Callable[[str], T], name: str, states: Mapping[str, State]) -> T:
    """What ``load`` makes of ``name``, from the files that :func:`prepare` saw; the network is not asked.

    Raises:
        CheckpointError: they changed, or what ``load`` raises.
    """
    check_unchanged(states, name)
    with stored_only():
        loaded = load(name)
    check_unchanged(states, name)
    return loaded


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder, which may be changing."""
    total = 0
    for path in folder.glob("*"):
        try:
            total += path.stat().st_size
        except OSError:  # renamed or removed between two looks
            continue
    return total
