"""Where networks run: here, or on a Space with ZeroGPU in a process of their own that has the GPU for a while.

ZeroGPU lends a GPU to a fork of this process. What is asked goes there pickled, and so do the answers come back. A fork
has the networks, on the GPU; in this process their weights are not to be read once the page is served. What a fork
writes to globals, this process never sees. So everything that runs networks for a visitor is a plain function, called
by :func:`run` or :func:`stream`; decoding, caches, queues and the words of answers stay on this side.

This is the only module that imports ``spaces``, and it is imported before anything that could touch CUDA. Without that
package, or elsewhere than on ZeroGPU, the functions are called where they are.
"""

from __future__ import annotations

import os

try:
    import spaces
except ImportError:
    spaces = None

import re
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import gradio as gr
from diffusers import DiffusionPipeline
from torch import nn

from drorae.errors import DRoRAEError
from drorae.explorer.recent import RecentReadings
from drorae.ui.tokenizers import Tokenizers

ON_ZEROGPU = spaces is not None and os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
HERE = os.getpid()
LONGEST = 120  # seconds that are asked for at most; a visitor without an account has as many for a day
START = 5  # seconds for a fork to start and to move the weights to its GPU
STAYING = (nn.Module, DiffusionPipeline, RecentReadings, Tokenizers)  # never pickled: both processes have them
TAG = re.compile(r"<[^>]*>")


class GPUError(DRoRAEError):
    """There is no GPU for this visitor at the moment; the message says why."""


class Place(NamedTuple):
    """Stands for an object that both processes have."""

    number: int


class Raised(NamedTuple):
    """Stands for an error, which would lose its sentence on the way."""

    error: Exception


_kept: WeakValueDictionary[int, Any] = WeakValueDictionary()


def keep(*objects: Any) -> None:
    """Let functions be given these objects without pickling them. Whatever a fork is to know is kept before it."""
    for each in objects:
        _kept[id(each)] = each


def run(function: Callable[..., Any], *args: Any, seconds: float) -> Any:
    """What a plain function answers, computed where the networks are.

    Args:
        function: at the top of its module.
        args: plain values, or objects of :data:`STAYING`.
        seconds: that it takes on a GPU at most.

    Raises:
        GPUError: there is no GPU for this visitor.
        DRoRAEError: whatever the function raises.
        RuntimeError: the device could not compute it.
    """
    *_, value = stream(function, *args, seconds=seconds)
    return value


def stream(function: Callable[..., Any], *args: Any, seconds: float) -> Generator[Any, None, None]:
    """What a plain function yields, see :func:`run`; closing the iterator ends the computing."""
    places = [_place(value) for value in args]
    try:
        with closing(_compute(min(LONGEST, START + seconds), function, *places)) as values:
            for value in values:
                if isinstance(value, Raised):
                    raise value.error
                yield value
    except gr.Error as error:
        if not ON_ZEROGPU:
            raise
        raise GPUError(TAG.sub("", str(error.message))) from None


def _duration(seconds: float, *_: Any) -> int:
    """The duration that ZeroGPU is asked for."""
    return round(seconds)


def _task(seconds: float, function: Callable[..., Any], *args: Any) -> Generator[Any, None, None]:
    """What a function answers or yields, and its error as a last value."""
    try:
        found = function(*(_object(value) for value in args))
        if isinstance(found, Iterator):
            yield from found
        else:
            yield found
    except DRoRAEError as error:
        yield Raised(error)
    except RuntimeError as error:
        if os.getpid() == HERE:
            raise
        traceback.print_exc()
        yield Raised(RuntimeError(str(error)))  # of torch's own kinds not all can be pickled


_compute: Callable[..., Generator[Any, None, None]] = _task
if spaces is not None:
    spaces.disable_gradio_auto_wrap()  # or Gradio may let every event's function be a fork's
    _compute = spaces.GPU(_task, duration=_duration)


def _place(value: Any) -> Any:
    if isinstance(value, STAYING):
        keep(value)
        return Place(id(value))
    return value


def _object(value: Any) -> Any:
    return _kept[value.number] if isinstance(value, Place) else value
