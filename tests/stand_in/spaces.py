"""Stands for the package ``spaces`` where a GPU is lent: what is decorated runs in a fork that is kept, as on ZeroGPU.

It is stricter. Arguments and answers are pickled, and a tensor among them is an error. Once :func:`pack` was called,
the weights in this process are not numbers any more; the fork has them. The fork starts no processes.
"""

from __future__ import annotations

import gc
import inspect
import io
import multiprocessing
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

TORCH_WAS_HERE = "torch" in sys.modules
PATIENCE = 300  # seconds after which a process that hangs is a failure
FORK = multiprocessing.get_context("fork")

decorated: list[Callable] = []
calls: list[tuple[float, tuple]] = []  # duration that was asked for, and arguments
refusals: list[str] = []  # sentences of the next calls' errors
_weights: list[tuple[Any, Any]] = []
_workers: dict[Callable, tuple[Any, Any]] = {}


_auto_wrap = True


def disable_gradio_auto_wrap() -> None:
    """Events stay in this process."""
    global _auto_wrap
    _auto_wrap = False


def gradio_auto_wrap(task: Any) -> Any:
    """Gradio passes the function of every event through this on a Space."""
    assert not _auto_wrap, "an event's function would run in a fork"
    return task


class Strict(pickle.Pickler):
    """Refuses tensors, which may be on a GPU that is taken away."""

    def reducer_override(self, value: Any) -> Any:
        if type(value).__module__.split(".")[0] == "torch":
            raise pickle.PicklingError(f"{type(value)} must not leave the process that has the GPU")
        return NotImplemented


def packed(value: Any) -> bytes:
    stream = io.BytesIO()
    Strict(stream).dump(value)
    return stream.getvalue()


def pack() -> None:
    """Take the weights of all networks out of this process, as ZeroGPU does when a page is launched."""
    import torch

    stop()
    seen = set()
    for module in [each for each in gc.get_objects() if issubclass(type(each), torch.nn.Module)]:
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if tensor.is_floating_point() and id(tensor) not in seen:
                seen.add(id(tensor))
                _weights.append((tensor, tensor.data))
    for tensor, _ in _weights:
        tensor.data = torch.full_like(tensor.data, torch.nan)


def unpack() -> None:
    """Put them back."""
    stop()
    for tensor, data in _weights:
        tensor.data = data
    _weights.clear()


def stop() -> None:
    """End the forks."""
    for process, connection in _workers.values():
        connection.close()
        process.join(PATIENCE)
        assert process.exitcode is not None, f"a fork did not end within {PATIENCE} seconds"
    _workers.clear()


def GPU(task: Callable, *, duration: Any = 60) -> Callable:  # noqa: N802 (its name there)
    """The decorator, for generator functions."""
    assert inspect.isgeneratorfunction(task)

    @wraps(task)
    def call(*args: Any) -> Iterator[Any]:
        calls.append((duration(*args) if callable(duration) else duration, args))
        if refusals:
            import gradio as gr

            raise gr.Error(refusals.pop())
        _, connection = _worker(task)
        connection.send_bytes(packed(args))
        while True:
            kind, value = pickle.loads(_received(connection))
            if kind == "end":
                return
            assert kind == "value", value
            try:
                yield value
            except GeneratorExit:
                connection.send_bytes(b"stop")
                assert pickle.loads(_received(connection))[0] == "end"
                raise
            connection.send_bytes(b"more")

    decorated.append(call)
    return call


def _received(connection: Any) -> bytes:
    assert connection.poll(PATIENCE), f"the fork said nothing for {PATIENCE} seconds"
    return connection.recv_bytes()


def _worker(task: Callable) -> tuple[Any, Any]:
    if task not in _workers:
        here, there = FORK.Pipe()
        process = FORK.Process(target=_serve, args=(task, there, here), daemon=True)
        process.start()
        there.close()
        _workers[task] = process, here
    return _workers[task]


def _serve(task: Callable, connection: Any, other_end: Any) -> None:
    import torch

    other_end.close()
    torch.set_num_threads(1)
    for tensor, data in _weights:
        tensor.data = data
    subprocess.Popen = _no_process
    while True:
        try:
            args = pickle.loads(connection.recv_bytes())
        except EOFError:
            return
        try:
            values = task(*args)
            for value in values:
                connection.send_bytes(packed(("value", value)))
                if connection.recv_bytes() == b"stop":
                    values.close()
                    break
            connection.send_bytes(packed(("end", None)))
        except Exception:
            connection.send_bytes(packed(("error", traceback.format_exc())))


def _no_process(*args: Any, **kwargs: Any) -> None:
    raise AssertionError(f"a process was started beside the GPU: {args}")
