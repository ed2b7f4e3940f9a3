"""How many steps fit into the minutes that a person has: a few real ones are timed, and the rest is shared out."""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from accelerate import Accelerator

from drorae.errors import count_of
from train.data.batches import Batch
from train.engine.run import fit
from train.engine.task import TrainingData
from train.errors import RunError
from train.fitting.recipe import Length
from train.settings import Schedule
from train.tasks.reconstruction import Reconstruction

Clock = Callable[[], float]
SHARES = {"decoder": 0.4, "fusion": 0.25, "finetune": 0.35}  # of the time for training
TIMED = 5  # steps; the first one, in which memory is taken and networks warm up, does not count
SAVE_SECONDS = 300.0  # of training between two saved states
CHECK_SHARE = 0.05  # of that time, at most, goes into looking at held-out photos
FEWEST_CHECKED, MOST_CHECKED = 8, 128  # held-out photos that are looked at with every state
PASSES = 4  # through networks to measure a held-out photo: three routes, and about one more for the judges
MEASURING_SHARE = 0.08  # of all minutes, at most, for each of measuring and statistics
MOST_MEASURED, FEWEST_SUMMED, MOST_SUMMED = 256, 32, 512  # photos
SLACK = 0.05  # of all minutes: loading and what nobody timed
FEWEST = 10  # steps of a phase


class PhaseTime(NamedTuple):
    """Seconds that a phase takes on this machine: a step, saving a state, and looking at one held-out photo."""

    step: float
    save: float
    photo: float


class Stamped:
    """Training data that notes when each batch is handed over."""

    def __init__(self, positions: TrainingData, clock: Clock):
        self.positions, self.clock = positions, clock
        self.stamps: list[float] = []

    @property
    def sources(self) -> Sequence[Sized]:
        return self.positions.sources

    def batches(self, schedule: Schedule, start_step: int, rank: int, world: int) -> Iterator[Batch]:
        """The same batches."""
        for batch in self.positions.batches(schedule, start_step, rank, world):
            self.stamps.append(self.clock())
            yield batch


def time_phase(task: Reconstruction, positions: TrainingData, precision: str, clock: Clock) -> PhaseTime:
    """Train a task for a few steps by the real loop, in a folder that is gone afterwards, and time it.

    A step is the median from one batch to the next, so that waiting for pictures counts and one interruption does not.
    """
    schedule = replace(task.preset.schedule, steps=TIMED, save_every=TIMED, warmup_steps=1)
    stamped = Stamped(positions, clock)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        accelerator = Accelerator(mixed_precision=precision)
        fit(task.to(accelerator.device), stamped, schedule, Path(folder) / f"timing {task.preset.phase}", accelerator)
        ended = clock()
    started = clock()
    task.validate()
    photos = clock() - started
    step = statistics.median(later - earlier for earlier, later in itertools.pairwise(stamped.stamps[1:]))
    save = max(0.0, ended - stamped.stamps[-1] - step - photos)
    return PhaseTime(step, save, photos / len(task.held_out))


def checked_photos(photo: float, held_out: int) -> int:
    """Held-out photos that are looked at with every state, of so many; ``photo`` is the seconds one takes."""
    affordable = int(CHECK_SHARE * SAVE_SECONDS / photo) if photo > 0 else MOST_CHECKED
    return min(held_out, MOST_CHECKED, max(FEWEST_CHECKED, affordable))


def measured_photos(photo: float, held_out: int, train: int, seconds: float) -> tuple[int, int]:
    """Held-out photos that are measured in the end, and photos that the latent statistics are of: all, up to a number
    that is enough, or as many as a share of all ``seconds`` allows. ``photo`` is the seconds one takes."""
    affordable = MEASURING_SHARE * seconds / photo if photo > 0 else math.inf
    measured = min(held_out, MOST_MEASURED, max(FEWEST_CHECKED, affordable / PASSES))
    return int(measured), int(min(train, MOST_SUMMED, max(FEWEST_SUMMED, affordable / 2)))


def measuring_seconds(times: Mapping[str, PhaseTime], measured: int, summed: int) -> float:
    """Seconds for measuring so many held-out photos, and for the latent statistics of so many others, each once as it
    is and once mirrored."""
    photo = max(time.photo for time in times.values())
    return photo * (PASSES * measured + 2 * summed)


def share_out(seconds: float, times: Mapping[str, PhaseTime], checked: int, strict: bool = True) -> dict[str, Length]:
    """The lengths of the phases that are still to come, in this time.

    Args:
        checked: held-out photos that are looked at with every state.
        strict: refuse a time that is too short; else the phases get the fewest steps that there may be.

    Raises:
        RunError: it is too short for one of them.
    """
    total = sum(SHARES[phase] for phase in times)
    lengths, needed = {}, 0.0
    for phase, time in times.items():
        share = SHARES[phase] / total
        saves = max(1, math.ceil(seconds * share / SAVE_SECONDS))
        pause = time.save + checked * time.photo
        steps = int((seconds * share - saves * pause) / max(time.step, 1e-9))
        needed = max(needed, (FEWEST * time.step + pause) / share)
        lengths[phase] = Length(max(FEWEST, steps), math.ceil(max(FEWEST, steps) / saves))
    if strict and needed > seconds:
        slowest = max(time.step for time in times.values())
        raise RunError(
            f"--minutes: the time is too short, since a step takes up to {slowest:.2g} s here; give "
            f"{count_of(math.ceil((needed - seconds) / 60), 'minute')} more, or take a smaller encoder or --size."
        )
    return lengths


def phase_seconds(length: Length, time: PhaseTime, checked: int) -> float:
    """Seconds that a phase will take."""
    return length.steps * time.step + math.ceil(length.steps / length.save_every) * (time.save + checked * time.photo)


def duration(seconds: float) -> str:
    """A time for people: ``45 s``, ``12 min``, ``2 h 5 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
