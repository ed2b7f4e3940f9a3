"""The training loop every script shares: optimiser, EMA, checkpoints, resume, progress."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm
from transformers import get_cosine_with_min_lr_schedule_with_warmup

from train.presets import Schedule

STATE, CHECKPOINT, LOG, RECORD = "state", "checkpoint", "log.jsonl", "run.json"


class RunError(RuntimeError):
    """A run that has to stop. The message says why and what to do."""


class Task(Protocol):
    """What a script trains: it owns the losses, what is frozen, and what a checkpoint holds."""

    trainable: nn.Module

    def compile(self) -> None:
        """``torch.compile`` every network in place."""

    def use(self, wrapped: nn.Module) -> None:
        """Put the prepared (possibly distributed) trainable part in its place."""

    def loss(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Images (B, 3, H, W) in [0, 1] to the loss and its parts."""

    def validate(self) -> dict[str, float]:
        """Numbers on held-out photos, with the weights now in place."""

    def export(self, folder: Path) -> None:
        """Write the checkpoint folder, with the weights now in place."""


def fit(task: Task, positions: Dataset, schedule: Schedule, folder: Path, accelerator: Accelerator) -> None:
    """Train ``task`` on ``positions`` and leave its EMA weights in ``folder/checkpoint``.

    The same call on the same folder continues after the last saved state: weights, EMA, optimiser, schedule, random
    states and the position in the data are all restored.

    Raises:
        RunError: the loss or its gradient is no longer finite; the last good state stays in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _recover_state(folder)
    if (folder / CHECKPOINT).is_dir():
        accelerator.print(f"{folder}: finished before; remove the folder to train again.")
        return
    set_seed(schedule.seed)
    parameters = [p for p in task.trainable.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=schedule.lr, betas=schedule.betas, weight_decay=schedule.weight_decay)
    # Not prepared by accelerate: prepared schedulers advance once per process.
    scheduler = get_cosine_with_min_lr_schedule_with_warmup(
        optimizer, schedule.warmup_steps, schedule.steps, min_lr_rate=schedule.lr_floor
    )
    ema = EMAModel(parameters, decay=schedule.ema_decay)
    step, clock = _Counter(), _Counter()  # steps done, and seconds spent in all sittings

    processes = accelerator.num_processes
    if schedule.batch_size % processes:
        raise RunError(f"the batch size {schedule.batch_size} does not divide over {processes} processes")
    if schedule.compile:
        task.compile()
    trainable, optimizer = accelerator.prepare(task.trainable, optimizer)
    task.use(trainable)
    accelerator.register_for_checkpointing(scheduler, ema, step, clock)
    if (folder / STATE).is_dir():
        accelerator.load_state(str(folder / STATE))
        accelerator.print(f"{folder}: continuing after step {step.value} of {schedule.steps}.")
    ema.to(accelerator.device)  # after loading, which brings the averages back on the CPU

    loader = accelerator.prepare(
        DataLoader(
            positions,
            batch_size=schedule.batch_size // processes,
            sampler=range(step.value * schedule.batch_size, schedule.steps * schedule.batch_size),
            num_workers=schedule.workers,
            drop_last=True,
            # starting workers draws a seed; drawn from here, it leaves the random states of the run alone
            generator=torch.Generator().manual_seed(schedule.seed),
        )
    )
    trainable.train()
    before, started = clock.value, time.monotonic()
    progress = tqdm(
        loader, desc=folder.name, initial=step.value, total=schedule.steps, disable=not accelerator.is_main_process
    )
    for images in progress:
        with accelerator.autocast():
            loss, parts = task.loss(images)
        accelerator.backward(loss)
        norm = float(accelerator.clip_grad_norm_(parameters, schedule.max_grad_norm))
        if not (math.isfinite(loss.item()) and math.isfinite(norm)):
            raise RunError(
                f"{folder}: loss {loss.item()} and gradient norm {norm} at step {step.value + 1}; the last saved state "
                "is kept. Lower the learning rate or use precision 'no', then run again."
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        scheduler.step()
        ema.step(parameters)
        step.value += 1

        progress.set_postfix({name: f"{value.item():.4f}" for name, value in parts.items()})
        if step.value == schedule.steps or step.value % schedule.save_every == 0:
            clock.value = before + time.monotonic() - started
            _save_state(accelerator, folder)
            if accelerator.is_main_process:
                numbers = {"step": step.value, "seconds": round(clock.value, 1), "grad_norm": norm}
                numbers |= {name: value.item() for name, value in parts.items()}
                # compiling once more for these few batches would take longer than they do
                with _ema_weights(ema, parameters), torch.compiler.set_stance("force_eager"), accelerator.autocast():
                    task.use(task.trainable)  # without its wrapper, which waits for the other processes
                    task.trainable.eval()
                    numbers |= {f"validation_{name}": value for name, value in task.validate().items()}
                    task.trainable.train()
                    task.use(trainable)
                with (folder / LOG).open("a") as log:
                    log.write(json.dumps(numbers) + "\n")
                progress.write(f"{folder.name} " + " ".join(f"{k}={v:.5g}" for k, v in numbers.items()))
            accelerator.wait_for_everyone()

    # after the loop, so that a run stopped between its last state and its checkpoint still writes one
    if accelerator.is_main_process:
        task.use(task.trainable)
        with _ema_weights(ema, parameters):
            _write_folder(folder / CHECKPOINT, task.export)
    accelerator.wait_for_everyone()


@contextmanager
def _ema_weights(ema: EMAModel, parameters: list[nn.Parameter]) -> Iterator[None]:
    """The averaged weights, in place of the trained ones for a while."""
    ema.store(parameters)
    ema.copy_to(parameters)
    try:
        yield
    finally:
        ema.restore(parameters)


class _Counter:
    """A number that accelerate can checkpoint."""

    def __init__(self) -> None:
        self.value: float = 0

    def state_dict(self) -> dict[str, float]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.value = state["value"]


def _save_state(accelerator: Accelerator, folder: Path) -> None:
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


def _recover_state(folder: Path) -> None:
    """Undo a swap that was interrupted between its two renames."""
    if not (folder / STATE).is_dir() and (folder / f"{STATE}.old").is_dir():
        (folder / f"{STATE}.old").rename(folder / STATE)


def _write_folder(folder: Path, write) -> None:
    """``write(partial)`` and rename, so that a folder that exists is whole."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    os.replace(partial, folder)
