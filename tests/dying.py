"""Training in a process of its own that dies, or finds the disk full, at a chosen moment, or in two at once.

The processes are forked from one that has imported everything once, which takes far longer than the few steps.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import accelerate.checkpointing
import pytest
import torch
from torch import Tensor, nn

import train.engine.run
from train import stage1
from train.engine.session import main_guard
from train.measure import inception
from train.tasks.reconstruction import Reconstruction

SECONDS = 120


def in_a_process(target: Callable[..., None], *args: Any) -> int:
    """Exit code of ``target(*args)`` in a process of its own; that of a killed one is minus the signal."""
    return _ended(_started(target, *args))


def in_two_processes(target: Callable[..., None], *args: Any) -> list[int]:
    """Exit codes of ``target(*args)`` in two processes that find each other as those of torchrun do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [_ended(process) for process in [_started(_as_rank, rank, port, target, *args) for rank in range(2)]]


def _started(target: Callable[..., None], *args: Any) -> BaseProcess:
    if sys.platform == "win32":
        pytest.skip("Windows has neither fork nor SIGKILL")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with pytest.MonkeyPatch.context() as patch:  # before Python 3.13 the server does not get sys.path
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        forkserver.ensure_running()
    process = context.Process(target=target, args=args)
    process.start()
    return process


def _ended(process: BaseProcess) -> int:
    process.join(SECONDS)
    assert process.exitcode is not None, f"still running after {SECONDS} s"
    return process.exitcode


def _as_rank(rank: int, port: int, target: Callable[..., None], *args: Any) -> None:
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in places.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    target(*args)


def killed(moment: str, number: int, arguments: list[str]) -> None:
    """Train a phase and be killed, as nothing could be tidied up, at the ``number``-th such moment."""
    if moment == "step":
        Reconstruction.loss = _dying(Reconstruction.loss, number)
    elif moment == "half a state":  # the model is written, the optimiser not
        accelerate.checkpointing.save = _dying(accelerate.checkpointing.save, number)
    elif moment == "between renames":
        Path.rename = _dying(Path.rename, number, after=lambda path, target: str(target).endswith("state.old"))
    elif moment == "half a checkpoint":
        Reconstruction.export = _dying(Reconstruction.export, number, after=lambda *args: True)
    else:
        raise ValueError(moment)
    stage1.main(arguments)


class TwoNumbers(nn.Module):
    """Mean and spread of a picture in the place of Inception's 2,048 features; it takes bytes, as Inception does."""

    def forward(self, images: Tensor) -> Tensor:
        assert images.dtype == torch.uint8
        values = images.double() / 255
        return torch.stack([values.mean((1, 2, 3)), values.std((1, 2, 3))], 1)


def measured(arguments: list[str]) -> None:
    """Train a phase that measures rFID in two features."""
    inception.load_inception = lambda folder=None: TwoNumbers()
    inception.NUM_FEATURES = 2
    stage1.main(arguments)


def without_space(arguments: list[str], errors: str) -> None:
    """Train a phase, and find no more space once a first state was saved; what is said goes to the file ``errors``."""
    import resource  # which Windows does not have

    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT), 2)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    save, calls = train.engine.run.save_state, []

    def save_then_fill(*args: Any) -> None:
        calls.append(1)
        if len(calls) == 2:  # files may not grow beyond a part of what the first state took
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        save(*args)

    train.engine.run.save_state = save_then_fill
    main_guard(lambda: stage1.main(arguments))


def _dying(original: Callable, number: int, after: Callable[..., bool] | None = None) -> Callable:
    """``original``, whose ``number``-th call kills this process: before it is made, or after those for which ``after``
    holds."""
    calls = []

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        counts = after is None or after(*args)
        calls.extend([1] * counts)
        if after is None and len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if after is not None and counts and len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return wrapped
