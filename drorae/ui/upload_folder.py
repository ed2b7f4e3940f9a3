"""The folder that uploads are kept in: one for each process, that goes with it, however it ends.

Gradio deletes an upload an hour after it came, at a time of its own, and not what arrived in part, nor what an earlier
process left. Here everything in the folder goes after an hour by a clock that nobody sets, a folder goes with its
process, and one whose process was killed goes when the next one starts, or within a quarter of an hour.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

VARIABLE = "GRADIO_TEMP_DIR"  # of the environment: where Gradio keeps uploads, and what it makes
KEPT = 3600  # seconds
EVERY = 900  # seconds between two sweeps
LOCK = ".lock"  # ending of a file beside a folder, held as long as its process lives


@contextmanager
def own_upload_folder(root: Path | None = None) -> Iterator[Path | None]:
    """While it is active, uploads are in a folder of this process, which is swept; afterwards it is gone.

    Args:
        root: where the folders of all processes are; a folder of this user below the one for temporary files when
            ``None``, or what the environment names.

    Yields:
        The folder; ``None``, once that was said, where none can be made: nothing can be uploaded then.
    """
    before = os.environ.get(VARIABLE)
    try:
        place = root or (Path(before) if before else Path(tempfile.gettempdir()) / f"drorae-uploads-{_user()}")
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        sweep_dead(place)
        lock = FileLock(place / f"{os.getpid()}-{os.urandom(4).hex()}{LOCK}")
        lock.acquire(timeout=0)
        folder = Path(lock.lock_file).with_suffix("")
        folder.mkdir(mode=0o700)
    except (OSError, Timeout) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        print(
            f"There is no place for uploads here ({reason}), so that visitors can look at examples only; set "
            f"{VARIABLE} to a folder that can be written to.",
            file=sys.stderr,
        )
        yield None
        return
    os.environ[VARIABLE] = str(folder)
    sweeper = Sweeper(folder)
    ended = threading.Event()
    thread = threading.Thread(target=sweep_often, args=(sweeper, ended), daemon=True)
    thread.start()
    try:
        yield folder
    finally:
        ended.set()
        thread.join()
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


@contextmanager
def ending_as_interrupted() -> Iterator[None]:
    """While it is active, SIGTERM ends this process as Ctrl-C does, so that it tidies up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "")


def sweep_dead(root: Path) -> None:
    """Remove the folders of processes that have ended: nobody holds the lock beside them."""
    for path in [*root.glob(f"*{LOCK}")]:
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            continue
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
        lock.release()
        path.unlink(missing_ok=True)


def sweep_often(sweeper: Sweeper, ended: threading.Event) -> None:
    """Sweep, and look for folders of processes that have ended, until an event is set."""
    while not ended.wait(EVERY):
        sweeper.sweep()
        sweep_dead(sweeper.folder.parent)


class Sweeper:
    """Removes files an hour after they were first seen, by a clock that only runs: whoever sets the other one forward
    or back does not shorten or lengthen their life.

    Args:
        folder: to be swept, with all that is in it.
        clock: seconds.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic):
        self.folder, self.clock = folder, clock
        self._seen: dict[tuple[str, int], float] = {}

    def sweep(self) -> None:
        """Remove what is old, and folders in this one that are empty then."""
        now, seen = self.clock(), {}
        for parent, _, names in os.walk(self.folder, topdown=False):
            for name in names:
                path = os.path.join(parent, name)
                with suppress(OSError):  # gone between two looks
                    key = (path, os.lstat(path).st_ino)
                    seen[key] = self._seen.get(key, now)
                    if now - seen[key] >= KEPT:
                        os.unlink(path)
                        if parent != str(self.folder):
                            with suppress(OSError):  # there are others in it
                                os.rmdir(parent)
        self._seen = seen
