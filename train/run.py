"""The training loop every script shares: optimisers, EMA, checkpoints, resume, progress."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from tqdm.auto import tqdm
from transformers import get_cosine_with_min_lr_schedule_with_warmup

from train.data import Batch, TrainingPositions, TrainingStream
from train.muon import Muon
from train.settings import Schedule

STATE, CHECKPOINT, LOG, RECORD, DAMAGED = "state", "checkpoint", "log.jsonl", "run.json", "damaged.txt"
WRITE_ERRORS = (OSError, SafetensorError, RuntimeError)  # torch.save reports a full disk as a RuntimeError


class RunError(RuntimeError):
    """A run that has to stop. The message says why and what to do."""


class Task(Protocol):
    """What a script trains: it owns the losses, what is frozen, and what a checkpoint holds."""

    trainable: nn.Module
    adversary: nn.Module | None
    image_size: int

    def compile(self) -> None:
        """``torch.compile`` every network in place."""

    def use(self, trainable: nn.Module, discriminator: nn.Module | None) -> None:
        """Put the prepared (possibly distributed) trainable parts in their places."""

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """A batch to a scalar with the gradient of the loss, and the values of its parts."""

    def adversary_loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]] | None:
        """The discriminator's loss on what :meth:`loss` just saw; ``None`` while it does not learn."""

    def validate(self) -> dict[str, float]:
        """Numbers on held-out photos, with the weights now in place."""

    def pictures(self) -> Tensor | None:
        """A picture grid for the log, (n, 3, H, W) in [0, 1]."""

    def export(self, folder: Path) -> None:
        """Write the checkpoint folder, with the weights now in place."""


class Optimisation:
    """A network's optimisers and their schedules (warm-up, cosine, floor).

    ``"adamw"`` is the paper's. ``"muon"`` takes :class:`~train.muon.Muon` for the matrices (of a
    stack of matrices, such as the layer experts', each by itself) and AdamW for everything else.
    """

    def __init__(self, network: nn.Module, lr: float, schedule: Schedule, optimizer: str = "adamw", start: int = 0):
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        settings = {"lr": lr, "weight_decay": schedule.weight_decay}
        muon = optimizer == "muon"
        matrices = [p for p in self.parameters if muon and p.ndim == 2]
        # each matrix of a stack as a parameter of its own, in the same memory
        stacks = [p for p in self.parameters if muon and p.ndim == 3 and min(p.shape) > 1]
        self.stacks = [(stack, [nn.Parameter(matrix) for matrix in stack.detach().unbind()]) for stack in stacks]
        taken = {id(p) for p in (*matrices, *stacks)}
        others = [p for p in self.parameters if id(p) not in taken]
        matrices += [matrix for _, views in self.stacks for matrix in views]
        self.optimizers: list[torch.optim.Optimizer] = []
        if matrices:
            self.optimizers.append(Muon(matrices, **settings))
        if others:
            self.optimizers.append(torch.optim.AdamW(others, betas=schedule.betas, **settings))
        # Not prepared by accelerate: prepared schedulers advance once per process.
        self.schedulers: list[LRScheduler] = [
            get_cosine_with_min_lr_schedule_with_warmup(
                optimizer, schedule.warmup_steps, schedule.steps - start, min_lr_rate=schedule.lr_floor
            )
            for optimizer in self.optimizers
        ]

    def prepare(self, network: nn.Module, accelerator: Accelerator) -> nn.Module:
        """The network as the accelerator wraps it; the optimisers are wrapped in place."""
        network, *self.optimizers = accelerator.prepare(network, *self.optimizers)
        return network

    def step(self) -> None:
        """One update, then clear the gradients and advance the schedules."""
        for stack, views in self.stacks:
            for view, gradient in zip(views, stack.grad, strict=True):
                view.grad = gradient
            stack.grad = None
        for optimizer, scheduler in zip(self.optimizers, self.schedulers, strict=True):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            scheduler.step()


def fit(
    task: Task,
    positions: TrainingPositions | TrainingStream,
    schedule: Schedule,
    folder: Path,
    accelerator: Accelerator,
    adversary_lr: float | None = None,
    adversary_start: int = 0,
) -> None:
    """Train ``task`` on ``positions`` and leave its EMA weights in ``folder/checkpoint``.

    The same call on the same folder continues after the last saved state: weights, EMA, optimisers, schedules and the
    position in the data are all restored, so that on a CPU the result is that of an uninterrupted run, bit for bit.

    Raises:
        RunError: the loss or its gradient is no longer finite, or the disk takes no more; the last good state stays.
    """
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        _recover_state(folder)
    accelerator.wait_for_everyone()
    if (folder / CHECKPOINT).is_dir():
        accelerator.print(f"{folder}: finished before; remove the folder to train again.")
        return
    try:
        schedule.micro_batch(accelerator.num_processes)
    except ValueError as error:
        raise RunError(str(error)) from None
    set_seed(schedule.seed)
    main = Optimisation(task.trainable, schedule.lr, schedule, schedule.optimizer)
    ema = EMAModel(main.parameters, decay=schedule.ema_decay)
    step, clock = _Counter(), _Counter()  # steps done, and seconds spent in all sittings
    kept = [*main.schedulers, ema, step, clock]

    if schedule.compile:
        task.compile()
    trainable = main.prepare(task.trainable, accelerator)
    opponent = discriminator = None
    if task.adversary is not None:
        opponent = Optimisation(task.adversary, adversary_lr or schedule.lr, schedule, start=adversary_start)
        discriminator = opponent.prepare(task.adversary, accelerator)
        kept += opponent.schedulers
    task.use(trainable, discriminator)
    accelerator.register_for_checkpointing(*kept)
    if (folder / STATE).is_dir():
        accelerator.load_state(str(folder / STATE))
        accelerator.print(f"{folder}: continuing after step {step.value} of {schedule.steps}.")
    ema.to(accelerator.device)  # after loading, which brings the averages back on the CPU

    batches = iter(positions.batches(schedule, step.value, accelerator.process_index, accelerator.num_processes))
    trainable.train()
    damaged = _Damaged(folder, accelerator)
    before, started = clock.value, time.monotonic()
    progress = tqdm(
        range(step.value, schedule.steps),
        desc=folder.name,
        initial=step.value,
        total=schedule.steps,
        disable=not accelerator.is_main_process,
    )
    networks = [trainable] if discriminator is None else [trainable, discriminator]
    for number in progress:
        totals: dict[str, Tensor] = {}
        for micro in range(schedule.accumulation):
            batch = next(batches).to(accelerator.device)
            damaged.note(batch.damaged)
            # gradients of the earlier micro-batches stay on their process; the last one exchanges the sum
            with _synchronised(accelerator, networks, micro + 1 == schedule.accumulation):
                with accelerator.autocast():
                    loss, parts = task.loss(batch, number)
                accelerator.backward(loss / schedule.accumulation)
                with accelerator.autocast():
                    against = task.adversary_loss(number)
                if against is not None:
                    accelerator.backward(against[0] / schedule.accumulation)
                    parts = parts | against[1]
            for name, value in parts.items():
                totals[name] = totals.get(name, 0) + value.float() / schedule.accumulation
        norm = float(accelerator.clip_grad_norm_(main.parameters, schedule.max_grad_norm or math.inf))
        opponent_norm = 0.0
        if against is not None:
            opponent_norm = float(torch.nn.utils.get_total_norm([p.grad for p in opponent.parameters]))
        values = {name: value.item() for name, value in totals.items()}
        if not all(map(math.isfinite, (norm, opponent_norm, *values.values()))):
            listed = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            raise RunError(
                f"{folder}: {listed} and gradient norms {norm:.4g}, {opponent_norm:.4g} at step {number + 1} are not "
                "all finite; the last saved state is kept. Change the preset (a lower learning rate, precision 'no') "
                "and start again in another --out."
            )
        main.step()
        if against is not None:
            opponent.step()
        ema.step(main.parameters)
        step.value += 1

        progress.set_postfix({name: f"{value:.4f}" for name, value in values.items()})
        if step.value == schedule.steps or step.value % schedule.save_every == 0:
            clock.value = before + time.monotonic() - started
            with writing(folder):
                _save_state(accelerator, folder)
            if accelerator.is_main_process:
                numbers = {"step": step.value, "seconds": round(clock.value, 1), "grad_norm": norm}
                numbers |= {"lr": main.schedulers[0].get_last_lr()[0], "damaged": len(damaged.notes), **values}
                # compiling once more for these few batches would take longer than they do
                with _ema_weights(ema, main.parameters), torch.compiler.set_stance("force_eager"):
                    task.use(task.trainable, task.adversary)  # unwrapped: wrappers wait for the other processes
                    task.trainable.eval()
                    with accelerator.autocast():
                        numbers |= {f"validation_{name}": value for name, value in task.validate().items()}
                        pictures = task.pictures()
                    task.trainable.train()
                    task.use(trainable, discriminator)
                with writing(folder):
                    _log(accelerator, folder, numbers, pictures)
                progress.write(f"{folder.name} " + " ".join(f"{k}={v:.5g}" for k, v in numbers.items()))
            accelerator.wait_for_everyone()

    # after the loop, so that a run stopped between its last state and its checkpoint still writes one
    if accelerator.is_main_process:
        task.use(task.trainable, task.adversary)
        with _ema_weights(ema, main.parameters), writing(folder):
            _write_folder(folder / CHECKPOINT, task.export)
    accelerator.wait_for_everyone()


@contextmanager
def _synchronised(accelerator: Accelerator, networks: list[nn.Module], last: bool) -> Iterator[None]:
    """Gradients are exchanged between processes in the last micro-batch of a step only."""
    if last:
        yield
        return
    with accelerator.no_sync(networks[0]):
        if len(networks) == 1:
            yield
        else:
            with accelerator.no_sync(networks[1]):
                yield


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


class _Damaged:
    """Pictures that could not be read: each is named once, on screen and in ``damaged.txt``."""

    def __init__(self, folder: Path, accelerator: Accelerator):
        rank = accelerator.process_index
        self.file = folder / (DAMAGED if rank == 0 else DAMAGED.replace(".txt", f".{rank}.txt"))
        self.notes = set(self.file.read_text().splitlines()) if self.file.is_file() else set()

    def note(self, notes: list[str]) -> None:
        for text in notes:
            line = " ".join(text.split())
            if line not in self.notes:
                self.notes.add(line)
                tqdm.write(f"skipped: {line}")
                with writing(self.file.parent), self.file.open("a") as file:
                    file.write(line + "\n")


def _log(accelerator: Accelerator, folder: Path, numbers: dict[str, float], pictures: Tensor | None) -> None:
    """One line of ``log.jsonl``, and the same numbers and the pictures to the trackers."""
    with (folder / LOG).open("a") as log:
        log.write(json.dumps(numbers) + "\n")
    step = int(numbers["step"])
    accelerator.log({name: value for name, value in numbers.items() if name != "step"}, step=step)
    if pictures is not None:
        for tracker in accelerator.trackers:
            layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images({"validation": pictures.permute(0, 2, 3, 1).cpu().numpy()}, step=step, **layout)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what a full or broken disk raises into one sentence."""
    try:
        yield
    except WRITE_ERRORS as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunError(
            f"{folder}: could not write ({reason}); the last saved state is kept. Make room or mend the disk, then run "
            "the same command again."
        ) from error


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


def _write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """``write(partial)`` and rename, so that a folder that exists is whole."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    os.replace(partial, folder)
