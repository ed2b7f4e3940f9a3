"""The training loop every script shares."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from tqdm.auto import tqdm

from train.engine.legs import Leg, save_leg
from train.engine.observation import DamagedPictures, PartSums, UncheckedSteps, log_numbers, was_logged
from train.engine.optimisation import Optimisation, PlainEMA, ema_weights
from train.engine.random_state import unchanged_random_state
from train.engine.run_folder import (
    CHECKPOINT,
    LOG,
    STATE,
    Counter,
    is_finished,
    load_state,
    recover_state,
    save_state,
    write_folder,
)
from train.engine.task import PeriodicMeasure, Task, TrainingData
from train.errors import RunError, writing
from train.settings import Schedule

CHECK_EVERY = 50  # steps; on a GPU every look at a number waits for all that was queued before


def fit(
    task: Task,
    positions: TrainingData,
    schedule: Schedule,
    folder: Path,
    accelerator: Accelerator,
    adversary_lr: float | None = None,
    adversary_start: int = 0,
    leg: Leg | None = None,
    periodic: PeriodicMeasure | None = None,
) -> None:
    """Train ``task`` on ``positions`` and leave its EMA weights in ``folder/checkpoint``.

    With every state the EMA weights are also written to ``folder/leg.safetensors``, in half precision. A run that has
    no state here goes on from such a ``leg`` of another machine: weights, step and log are taken over, optimisers and
    average start afresh.

    With ``periodic``, the run also saves every so many steps, and the main process then takes that measure of the EMA
    weights, without touching any random state. One that a kill interrupted is taken when the run goes on.

    The same call on the same folder continues after the last saved state: weights, EMA, optimisers, schedules and the
    position in the data are all restored, so that on a CPU the result is that of an uninterrupted run, bit for bit.

    Raises:
        RunError: the loss or its gradient is no longer finite, or the disk takes no more; the last good state stays. Or
            that state, or the checkpoint, is damaged.
    """
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        recover_state(folder)
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
    step, clock = Counter(0), Counter(0.0)  # steps done, and seconds spent in all sittings
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
        load_state(accelerator, folder)
        accelerator.print(f"{folder}: continuing after step {step.value} of {schedule.steps}.")
    ema.to(accelerator.device)  # after loading, which brings the averages back on the CPU

    batches = iter(positions.batches(schedule, step.value, accelerator.process_index, accelerator.num_processes))
    trainable.train()
    damaged = DamagedPictures(folder, accelerator)
    before, started = clock.value, time.monotonic()
    progress = tqdm(
        range(step.value, schedule.last_step),
        desc=folder.name,
        initial=step.value,
        total=schedule.last_step,
        disable=not accelerator.is_main_process,
    )

    @contextmanager
    def averages_in_place() -> Iterator[None]:
        """The task as it is exported, in the main process: averaged weights, unwrapped, since wrappers wait for the
        other processes. Compiling once more for a few batches would take longer than they do."""
        with ema_weights(ema, main.parameters), torch.compiler.set_stance("force_eager"):
            task.use(task.trainable, task.adversary)
            task.trainable.eval()
            with accelerator.autocast():
                yield
            task.trainable.train()
            task.use(trainable, discriminator)

    def measure_periodic(periodic: PeriodicMeasure) -> None:
        """Take the measure at this step and log it in a line of its own. Its time is not the training's."""
        nonlocal started
        began = time.monotonic()
        with averages_in_place(), unchanged_random_state():
            found = {f"validation_{name}": value for name, value in periodic.measure(task).items()}
        numbers = {"step": step.value, "seconds": round(clock.value, 1), **found}
        with writing(folder):
            log_numbers(accelerator, folder, numbers, None)
        progress.write(f"{folder.name} " + " ".join(f"{k}={v:.5g}" for k, v in numbers.items()))
        started += time.monotonic() - began

    if periodic is not None and step.value and is_due(step.value, periodic.every, schedule.last_step):
        if accelerator.is_main_process and not was_logged(folder, step.value, f"validation_{periodic.name}"):
            measure_periodic(periodic)
        accelerator.wait_for_everyone()
    unchecked = UncheckedSteps(folder, every=1 if accelerator.device.type == "cpu" else CHECK_EVERY)
    for number in progress:
        sums = PartSums(schedule.accumulation)
        for micro in range(schedule.accumulation):
            batch = next(batches).to(accelerator.device)
            damaged.note(batch.damaged)
            # gradients of the earlier micro-batches stay on their process; the last one exchanges the sum
            with _synchronisation(accelerator, trainable, micro + 1 == schedule.accumulation):
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
                with _synchronisation(accelerator, discriminator, micro + 1 == schedule.accumulation):
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
        due = periodic is not None and is_due(step.value, periodic.every, schedule.last_step)
        save = due or is_due(step.value, schedule.save_every, schedule.last_step)
        unchecked.add(number, sums.values, norm, opponent_norm)
        if values := unchecked.check(save):
            progress.set_postfix({name: f"{value:.4f}" for name, value in values.items()})

        if save:
            clock.value = before + time.monotonic() - started
            with writing(folder):
                save_state(accelerator, folder)
            if accelerator.is_main_process:
                numbers: dict[str, float] = {"step": step.value, "seconds": round(clock.value, 1)}
                numbers |= {"lr": main.schedulers[0].get_last_lr()[0], "damaged": len(damaged.notes), **values}
                with averages_in_place():
                    numbers |= {f"validation_{name}": value for name, value in task.validate().items()}
                    pictures = task.pictures()
                with writing(folder):
                    log_numbers(accelerator, folder, numbers, pictures)
                    with ema_weights(ema, main.parameters):
                        save_leg(folder, task, step.value, schedule.steps, clock.value)
                progress.write(f"{folder.name} " + " ".join(f"{k}={v:.5g}" for k, v in numbers.items()))
                if due and periodic is not None:
                    measure_periodic(periodic)
            accelerator.wait_for_everyone()

    # after the loop, so that a run stopped between its last state and its checkpoint still writes one
    if accelerator.is_main_process:
        task.use(task.trainable, task.adversary)
        with ema_weights(ema, main.parameters), writing(folder):
            write_folder(folder / CHECKPOINT, task.export)
    accelerator.wait_for_everyone()


def is_due(step: int, every: int, last: int) -> bool:
    """Whether something that happens every so many steps, and at the last, happens after ``step`` steps."""
    return step == last or step % every == 0


@contextmanager
def _synchronisation(accelerator: Accelerator, network: nn.Module, last: bool) -> Iterator[None]:
    """Gradients are exchanged between processes in the last micro-batch of a step only."""
    if last:
        yield
    else:
        with accelerator.no_sync(network):
            yield
