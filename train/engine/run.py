"""The training loop every script shares: optimisers, EMA, checkpoints, resume, progress."""

from __future__ import annotations

import json
import math
import os
import pickle
import shutil
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers.training_utils import EMAModel
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from tqdm.auto import tqdm
from transformers import get_cosine_with_min_lr_schedule_with_warmup_lr_rate

from drorae.checkpoints import reason_of
from train.data.positions import Batch
from train.engine.legs import Leg, save_leg
from train.engine.muon import Muon
from train.errors import RunError, writing
from train.settings import Schedule

CHECK_EVERY = 50  # steps; on a GPU every look at a number waits for all that was queued before
STATE, CHECKPOINT, LOG, RECORD, DAMAGED = "state", "checkpoint", "log.jsonl", "run.json", "damaged.txt"
LOCK, LOCK_SECONDS = "lock", 2.0  # to wait for it: a killed run's last process may take a moment to end


class Task(Protocol):
    """What a script trains: it owns the losses, what is frozen, and what a checkpoint holds."""

    trainable: nn.Module
    adversary: nn.Module | None
    image_size: int

    def to(self, device: torch.device) -> Self:
        """The task itself, as ``nn.Module.to``."""

    def compile(self) -> None:
        """``torch.compile`` every network in place."""

    def use(self, trainable: nn.Module, discriminator: nn.Module | None) -> None:
        """Put the prepared (possibly distributed) trainable parts in their places."""

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """A batch to a scalar with the gradient of the loss, and the values of its parts."""

    def adversary_loss(self, step: int) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """The discriminator's loss on each micro-batch of this step, as :meth:`loss` saw them; nothing while it does
        not learn. Called after the step of what is trained."""

    def validate(self) -> dict[str, float]:
        """Numbers on held-out photos, with the weights now in place."""

    def pictures(self) -> Tensor | None:
        """A picture grid for the log, (n, 3, H, W) in [0, 1]."""

    def export(self, folder: Path) -> None:
        """Write the checkpoint folder, with the weights now in place."""


class TrainingData(Protocol):
    """What a task is trained on."""

    @property
    def sources(self) -> Sequence[Sized]:
        """Where the samples are from."""

    def batches(self, schedule: Schedule, start_step: int, rank: int, world: int) -> Iterable[Batch]:
        """The batches of process ``rank`` of ``world`` from ``start_step`` to the end."""


class Optimisation:
    """A network's optimisers and their schedules (warm-up, cosine, floor).

    ``"adamw"`` is the paper's. ``"muon"`` takes :class:`~train.engine.muon.Muon` for the matrices (of a
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
            get_cosine_with_min_lr_schedule_with_warmup_lr_rate(
                optimizer, schedule.warmup_steps, schedule.steps - start, min_lr_rate=schedule.lr_floor
            )
            for optimizer in self.optimizers
        ]

    def skip(self, steps: int) -> None:
        """Put the learning rates where they are after so many steps."""
        for optimizer, scheduler in zip(self.optimizers, self.schedulers, strict=True):
            scheduler.last_epoch = steps
            rates = zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
            scheduler._last_lr = [base * rate(steps) for base, rate in rates]
            for group, lr in zip(optimizer.param_groups, scheduler._last_lr, strict=True):
                group["lr"] = lr

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
    positions: TrainingData,
    schedule: Schedule,
    folder: Path,
    accelerator: Accelerator,
    adversary_lr: float | None = None,
    adversary_start: int = 0,
    leg: Leg | None = None,
) -> None:
    """Train ``task`` on ``positions`` and leave its EMA weights in ``folder/checkpoint``.

    With every state the EMA weights are also written to ``folder/leg.safetensors``, in half precision. A run that has
    no state here goes on from such a ``leg`` of another machine: weights, step and log are taken over, optimisers and
    average start afresh.

    The same call on the same folder continues after the last saved state: weights, EMA, optimisers, schedules and the
    position in the data are all restored, so that on a CPU the result is that of an uninterrupted run, bit for bit.

    Raises:
        RunError: the loss or its gradient is no longer finite, or the disk takes no more; the last good state stays. Or
            that state, or the checkpoint, is damaged.
    """
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        _recover_state(folder)
    accelerator.wait_for_everyone()
    if is_finished(folder):
        accelerator.print(f"{folder}: finished before; remove the folder to train again.")
        return
    try:
        schedule.micro_batch(accelerator.num_processes)
    except ValueError as error:
        raise RunError(str(error)) from error
    set_seed(schedule.seed)
    main = Optimisation(task.trainable, schedule.lr, schedule, schedule.optimizer)
    step, clock = _Counter(0), _Counter(0.0)  # steps done, and seconds spent in all sittings
    if (folder / STATE).is_dir():
        leg = None  # the state is ahead of it
    if leg is not None:
        leg.load_into(task)
        step.value, clock.value = leg.step, leg.seconds
        main.skip(leg.step)
        if accelerator.is_main_process:
            (folder / LOG).write_text(leg.log, encoding="utf-8")
        accelerator.print(f"{folder}: going on from {leg.file} after step {leg.step} of {schedule.steps}.")
    ema = PlainEMA(main.parameters, decay=schedule.ema_decay, foreach=True)
    kept = [*main.schedulers, ema, step, clock]

    if schedule.compile:
        task.compile()
    trainable = main.prepare(task.trainable, accelerator)
    opponent = discriminator = None
    if task.adversary is not None:
        opponent = Optimisation(task.adversary, adversary_lr or schedule.lr, schedule, start=adversary_start)
        if leg is not None:
            opponent.skip(max(0, leg.step - adversary_start))
        discriminator = opponent.prepare(task.adversary, accelerator)
        kept += opponent.schedulers
    task.use(trainable, discriminator)
    accelerator.register_for_checkpointing(*kept)
    if (folder / STATE).is_dir():
        _load_state(accelerator, folder)
        accelerator.print(f"{folder}: continuing after step {step.value} of {schedule.steps}.")
    ema.to(accelerator.device)  # after loading, which brings the averages back on the CPU

    batches = iter(positions.batches(schedule, step.value, accelerator.process_index, accelerator.num_processes))
    trainable.train()
    damaged = _Damaged(folder, accelerator)
    before, started = clock.value, time.monotonic()
    progress = tqdm(
        range(step.value, schedule.last_step),
        desc=folder.name,
        initial=step.value,
        total=schedule.last_step,
        disable=not accelerator.is_main_process,
    )
    unchecked = _Unchecked(folder, every=1 if accelerator.device.type == "cpu" else CHECK_EVERY)
    for number in progress:
        sums = _Sums(schedule.accumulation)
        for micro in range(schedule.accumulation):
            batch = next(batches).to(accelerator.device)
            damaged.note(batch.damaged)
            # gradients of the earlier micro-batches stay on their process; the last one exchanges the sum
            with _synchronised(accelerator, trainable, micro + 1 == schedule.accumulation):
                with accelerator.autocast():
                    loss, parts = task.loss(batch, number)
                accelerator.backward(loss / schedule.accumulation)
            sums.add(parts)
        norm = accelerator.clip_grad_norm_(main.parameters, schedule.max_grad_norm or math.inf)
        main.step()
        ema.step(main.parameters)

        opponent_norm = None
        if opponent is not None:
            losses = task.adversary_loss(number)
            for micro in range(schedule.accumulation):
                with _synchronised(accelerator, discriminator, micro + 1 == schedule.accumulation):
                    with accelerator.autocast():
                        against = next(losses, None)
                    if against is None:
                        break
                    accelerator.backward(against[0] / schedule.accumulation)
                sums.add(against[1])
            else:
                opponent_norm = torch.nn.utils.get_total_norm([p.grad for p in opponent.parameters])
                opponent.step()
        step.value += 1
        save = step.value == schedule.last_step or step.value % schedule.save_every == 0
        unchecked.add(number, sums.values, norm, opponent_norm)
        if values := unchecked.check(save):
            progress.set_postfix({name: f"{value:.4f}" for name, value in values.items()})

        if save:
            clock.value = before + time.monotonic() - started
            with writing(folder):
                _save_state(accelerator, folder)
            if accelerator.is_main_process:
                numbers: dict[str, float] = {"step": step.value, "seconds": round(clock.value, 1)}
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
                    with _ema_weights(ema, main.parameters):
                        save_leg(folder, task, step.value, schedule.steps, clock.value)
                progress.write(f"{folder.name} " + " ".join(f"{k}={v:.5g}" for k, v in numbers.items()))
            accelerator.wait_for_everyone()

    # after the loop, so that a run stopped between its last state and its checkpoint still writes one
    if accelerator.is_main_process:
        task.use(task.trainable, task.adversary)
        with _ema_weights(ema, main.parameters), writing(folder):
            _write_folder(folder / CHECKPOINT, task.export)
    accelerator.wait_for_everyone()


def is_finished(folder: Path) -> bool:
    """Whether a run has left its checkpoint.

    Raises:
        RunError: there is a checkpoint without weights, which no run leaves.
    """
    checkpoint = folder / CHECKPOINT
    if not checkpoint.is_dir():
        return False
    if next(checkpoint.rglob("*.safetensors"), None) is None:
        raise RunError(f"'{checkpoint}' holds no weights; remove that folder, then run the same command again.")
    return True


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """The folder of a run for this process alone. It is free again when the process ends, however it ends.

    Raises:
        RunError: another training has it, or nothing can be written there.
    """
    lock, taken = FileLock(folder / LOCK), False
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except Timeout:
            taken = True
    if taken:
        raise RunError(
            f"{folder} is in use by another training; wait for its end, or give another --out. (If there is none, "
            f"remove '{folder / LOCK}'.)"
        )
    try:
        yield
    finally:
        lock.release()


class PlainEMA(EMAModel):
    """Average of the weights with one decay throughout, as RAE's, from the first weights on: diffusers' own would ramp
    the decay up, to at most (1 + t) / (10 + t) at step t."""

    def get_decay(self, optimization_step: int) -> float:
        return self.decay


class _Sums:
    """Values of the parts of a step's loss, averaged over its micro-batches."""

    def __init__(self, micro_batches: int):
        self.micro_batches = micro_batches
        self.values: dict[str, Tensor] = {}

    def add(self, parts: dict[str, Tensor]) -> None:
        for name, value in parts.items():
            self.values[name] = self.values.get(name, 0) + value.detach().float() / self.micro_batches


class _Unchecked:
    """Losses and gradient norms that nobody has looked at yet: looking makes the host wait for the device."""

    def __init__(self, folder: Path, every: int):
        self.folder, self.every = folder, every
        self.steps: list[tuple[int, dict[str, Tensor]]] = []

    def add(self, number: int, values: dict[str, Tensor], norm: Tensor, opponent_norm: Tensor | None) -> None:
        norms = {"grad_norm": norm} | ({} if opponent_norm is None else {"discriminator_grad_norm": opponent_norm})
        self.steps.append((number, values | norms))

    def check(self, now: bool) -> dict[str, float]:
        """The numbers of the last step; none where it is not yet time to look at them.

        Raises:
            RunError: one of the steps had a number that is not finite.
        """
        if not now and len(self.steps) < self.every:
            return {}
        for number, step in self.steps:
            values = dict(zip(step, torch.stack([value.double() for value in step.values()]).tolist(), strict=True))
            if not all(map(math.isfinite, values.values())):
                listed = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
                raise RunError(
                    f"{self.folder}: {listed} at step {number + 1} are not all finite; the last saved state is kept. "
                    "Change the preset (a lower learning rate, precision 'no') and start again in another --out."
                )
        self.steps = []
        return values


@contextmanager
def _synchronised(accelerator: Accelerator, network: nn.Module, last: bool) -> Iterator[None]:
    """Gradients are exchanged between processes in the last micro-batch of a step only."""
    if last:
        yield
    else:
        with accelerator.no_sync(network):
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


Number = TypeVar("Number", int, float)


class _Counter(Generic[Number]):
    """A number that accelerate can checkpoint."""

    def __init__(self, value: Number):
        self.value: Number = value

    def state_dict(self) -> dict[str, Number]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Number]) -> None:
        self.value = state["value"]


class _Damaged:
    """Pictures that could not be read: each is named once, on screen and in ``damaged.txt``."""

    def __init__(self, folder: Path, accelerator: Accelerator):
        rank = accelerator.process_index
        self.file = folder / (DAMAGED if rank == 0 else DAMAGED.replace(".txt", f".{rank}.txt"))
        self.notes = set(self.file.read_text(encoding="utf-8").splitlines()) if self.file.is_file() else set()

    def note(self, notes: list[str]) -> None:
        for text in notes:
            line = " ".join(text.split())
            if line not in self.notes:
                self.notes.add(line)
                tqdm.write(f"skipped: {line}")
                with writing(self.file.parent), self.file.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")


def _log(accelerator: Accelerator, folder: Path, numbers: dict[str, float], pictures: Tensor | None) -> None:
    """One line of ``log.jsonl``, and the same numbers and the pictures to the trackers."""
    with (folder / LOG).open("a", encoding="utf-8") as log:
        log.write(json.dumps(numbers) + "\n")
    step = int(numbers["step"])
    accelerator.log({name: value for name, value in numbers.items() if name != "step"}, step=step)
    if pictures is not None:
        for tracker in accelerator.trackers:
            layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images({"validation": pictures.permute(0, 2, 3, 1).cpu().numpy()}, step=step, **layout)


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


def _load_state(accelerator: Accelerator, folder: Path) -> None:
    """Put the last saved state in its places.

    Raises:
        RunError: a part of it is missing, cut off or of another run.
    """
    state = folder / STATE
    random = state / f"random_states_{accelerator.process_index}.pkl"
    try:
        if not zipfile.is_zipfile(random):  # accelerate would go on without, to another result
            raise OSError(f"'{random.name}' is missing or damaged")
        accelerator.load_state(str(state))
    except torch.OutOfMemoryError:
        raise
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError, SafetensorError) as error:
        raise RunError(
            f"The state in '{state}' is damaged ({reason_of(error)[:120]}); remove {folder} to start this run again."
        ) from error


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
