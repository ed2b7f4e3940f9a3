"""Decoding within limits: at most 0.3 GB, and ten times the processor time of a 12-megapixel photo.

What bounds what:

* :func:`drorae.decoding_cost.is_cheap` counts, in the file, what decoding can take at most. Ordinary photos are far
  below the limits, and are decoded where they are, at no further cost.
* All others are decoded in a process of their own, here. The system ends it when its processor time is spent
  (``ITIMER_PROF``), and gives it no memory beyond the limit (``RLIMIT_DATA``, on Linux). Where the system has neither,
  on Windows, a time-out ends it, and memory is bounded by the number of pixels alone.

The child runs :func:`drorae.images.open_photo` and writes one line of JSON and then the rows of the picture.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from drorae.decoding_cost import MEMORY

REFERENCE = (4000, 3000)  # pixels of the photo whose decoding is the measure of time
TIMES = 10  # as much as that may any picture take
PATIENCE = 10  # seconds of the clock for each second of the processor, on a busy machine
START = 30  # seconds of the clock for the child to start
ROWS = 256  # of a picture that are sent together
SIGPROF = getattr(signal, "SIGPROF", 0)  # Windows has neither it nor the timer that sends it
NAME = "\N{OBJECT REPLACEMENT CHARACTER}"  # what the child calls the picture, whose name is not its business
CHILDREN = 2  # at the same time: each may take as much memory as is allowed
SENTENCE = "sentence"  # key of the line that says why there is no picture
TOO_LONG = "takes too long to decode; save it again as an ordinary JPEG or PNG and retry."
BUSY = "has to wait too long for others that take long to decode; try again in a minute."
TOO_MUCH = (
    "is damaged or cut off, or takes too much memory to decode; save it again as an ordinary JPEG or PNG and retry."
)


_places = threading.BoundedSemaphore(CHILDREN)


class DecodingError(Exception):
    """Why a picture was not decoded: a ``whole`` sentence, or the rest of one, after the picture's name."""

    def __init__(self, message: str, whole: bool = False) -> None:
        super().__init__(message)
        self.whole = whole

    def sentence(self, name: str) -> str:
        """The message as one sentence about the picture ``name``."""
        return str(self) if self.whole else f"'{name}' {self}"


@cache
def seconds_allowed() -> float:
    """Processor time that decoding one picture may take on this machine: measured when first asked for, by decoding
    a quarter of the reference photo, detailed and in full colour, at quality 95."""
    width, height = (side // 2 for side in REFERENCE)
    noise = np.random.default_rng(0).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    stream = io.BytesIO()
    smooth = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    smooth.save(stream, "JPEG", quality=95, subsampling=0)
    start = time.thread_time()
    with Image.open(stream, formats=("JPEG",)) as picture:
        picture.convert("RGB")
    return TIMES * 4 * (time.thread_time() - start)


def decode_in_child(stream: BinaryIO, name: str) -> tuple[Image.Image, int, int, bool]:
    """Picture, width and height of its file, and whether it was transparent, as
    :func:`drorae.images.open_photo` finds them in a process with limits.

    Args:
        stream: stream of the file; one that is not on disk is copied to an unnamed temporary file.
        name: in sentences.

    Raises:
        DecodingError: the picture cannot be used, or a limit was reached.
    """
    limit = seconds_allowed()
    patience = START + PATIENCE * limit
    if not _places.acquire(timeout=patience):
        raise DecodingError(BUSY)
    try:
        return _decode(stream, name, limit, patience)
    finally:
        _places.release()


def _decode(stream: BinaryIO, name: str, limit: float, patience: float) -> tuple[Image.Image, int, int, bool]:
    paths = os.pathsep.join(filter(None, sys.path))
    settings = {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
    try:
        with _on_disk(stream) as file:
            child = subprocess.Popen(
                [sys.executable, "-m", "drorae.decoding", repr(limit)],  # anyone here sees these: no name
                stdin=file,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | settings,
            )
    except (OSError, ValueError) as error:  # no processes, no temporary files
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise DecodingError(
            f"needs a process of its own to decode, which could not be started ({reason}); save it again as an "
            "ordinary JPEG and retry."
        ) from error
    spent = threading.Event()

    def stop() -> None:
        spent.set()
        child.kill()

    timer = threading.Timer(patience, stop)
    timer.start()
    try:
        answer = _receive(child.stdout, name)
        child.wait()
    finally:
        timer.cancel()
        child.kill()
        child.wait()
    if answer is None:
        raise DecodingError(TOO_LONG if spent.is_set() or child.returncode == -SIGPROF else TOO_MUCH)
    return answer


def _on_disk(stream: BinaryIO) -> BinaryIO:
    """A file of its own with the same bytes, read from the start."""
    stream.seek(0)
    try:
        return os.fdopen(os.dup(stream.fileno()), "rb")
    except OSError:  # it is in memory
        file = tempfile.TemporaryFile()  # noqa: SIM115  the caller closes it
        file.write(stream.read())
        file.seek(0)
        return file


def _receive(pipe: Any, name: str) -> tuple[Image.Image, int, int, bool] | None:
    """What the child sent; ``None`` where it ended before that.

    Raises:
        DecodingError: with the child's sentence.
    """
    line = pipe.readline()
    if not line.endswith(b"\n"):
        return None
    said = json.loads(line)
    if SENTENCE in said:
        raise DecodingError(said[SENTENCE].replace(NAME, name), whole=True)
    width, height = said["size"]
    picture = Image.new("RGB", (width, height))
    for top in range(0, height, ROWS):
        rows = min(ROWS, height - top)
        data = pipe.read(3 * width * rows)
        if len(data) < 3 * width * rows:
            return None
        picture.paste(Image.frombytes("RGB", (width, rows), data), (0, top))
    return picture, said["width"], said["height"], said["flattened"]


def _main(seconds: float) -> None:
    """Decode what comes in, within the limits, and send it."""
    from drorae.images import ImageError, decode

    _limit_resources(seconds)
    try:
        photo = decode(sys.stdin.buffer, NAME, limited=True)
    except ImageError as error:
        _send({SENTENCE: str(error)})
        return
    picture = photo.picture
    _send({"size": picture.size, "width": photo.width, "height": photo.height, "flattened": photo.flattened})
    for top in range(0, picture.height, ROWS):
        band = picture.crop((0, top, picture.width, min(picture.height, top + ROWS)))
        sys.stdout.buffer.write(band.tobytes())
    sys.stdout.buffer.flush()


def _send(line: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(line).encode() + b"\n")


def _limit_resources(seconds: float) -> None:
    """Give this process so much processor time from now on, and :data:`MEMORY` on top of what it holds."""
    if find_spec("PIL.AvifImagePlugin"):  # since Pillow 11.3
        from PIL import AvifImagePlugin

        AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # each takes memory of its own
    try:
        import resource
    except ImportError:  # Windows; the parent's time-out remains
        return
    signal.signal(SIGPROF, signal.SIG_DFL)  # which ends the process, also within a library
    signal.setitimer(signal.ITIMER_PROF, seconds)
    statistics = Path("/proc/self/statm")
    if statistics.exists():  # elsewhere the system does not enforce it
        held = int(statistics.read_text(encoding="ascii").split()[5]) * resource.getpagesize()
        _, hardest = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (held + MEMORY, hardest))


if __name__ == "__main__":
    _main(float(sys.argv[1]))
