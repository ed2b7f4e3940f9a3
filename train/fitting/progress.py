"""Where a fit is: what was timed, which phases have begun, and how the time that is left is shared out."""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch

from drorae import AutoencoderDRoRAE
from drorae.devices import best_device
from drorae.errors import count_of
from train.engine.run_folder import LOG, is_finished
from train.errors import RunError
from train.experiments.running import write_json
from train.fitting.job import Job, loss_words, weights_words
from train.fitting.plan import (
    SLACK,
    Clock,
    PhaseTime,
    checked_photos,
    duration,
    measured_photos,
    measuring_seconds,
    phase_seconds,
    share_out,
    time_phase,
)
from train.fitting.recipe import Length
from train.presets import PHASES
from train.publish import hours
from train.tasks.reconstruction import Reconstruction

PLAN = "plan.json"
TIMED_PHOTOS = 8  # held-out photos that are looked at while steps are timed


@dataclass
class Plan:
    """What was timed, and how the time is shared out.

    Attributes:
        before: seconds that were spent until training could begin.
        times: time of each phase.
        lengths: lengths of the phases that have begun.
    """

    before: float
    times: dict[str, PhaseTime]
    lengths: dict[str, Length]

    @property
    def photo(self) -> float:
        """Seconds that one held-out photo takes."""
        return max(time.photo for time in self.times.values())

    def photos_to_measure(self, job: Job) -> tuple[int, int]:
        """Photos that are measured in the end, and that the latent statistics are of."""
        counts = (len(job.photos.held_out), job.photos.train_count)
        return measured_photos(self.photo, *counts, job.args.minutes * 60)

    def photos_to_check(self, job: Job) -> int:
        """Held-out photos that are looked at with every state."""
        return checked_photos(self.photo, len(job.photos.held_out))

    def seconds(self, job: Job, phase: str) -> float:
        """Seconds that a phase took, or is planned to take where it has not come to its end."""
        if is_finished(job.folder / phase):
            return 3600 * hours(job.folder / phase / LOG)
        return phase_seconds(self.lengths[phase], self.times[phase], self.photos_to_check(job))

    def slowdown(self, job: Job) -> float:
        """How many times as long as planned the last phase took, at least 1: the next ones may, too."""
        if not self.lengths:
            return 1.0
        last = list(self.lengths)[-1]
        planned = phase_seconds(self.lengths[last], self.times[last], self.photos_to_check(job))
        return max(1.0, self.seconds(job, last) / planned) if planned > 0 else 1.0

    def to_come(self, job: Job, strict: bool) -> dict[str, Length]:
        """The lengths of the phases that have not begun, in the time that those before have left."""
        spent = sum(self.seconds(job, phase) for phase in self.lengths)
        end = measuring_seconds(self.times, *self.photos_to_measure(job))
        left = job.args.minutes * 60 * (1 - SLACK) - self.before - spent - end
        slower = self.slowdown(job)
        times = {
            phase: PhaseTime(*(slower * seconds for seconds in time))
            for phase, time in self.times.items()
            if phase not in self.lengths
        }
        return share_out(left, times, self.photos_to_check(job), strict) if times else {}

    def save(self, job: Job) -> None:
        """Write it beside the runs."""
        content = {"settings": job.settings, "before": self.before, "times": self.times, "lengths": self.lengths}
        write_json(job.folder / PLAN, content)


def read_plan(job: Job) -> Plan | None:
    """The plan that an earlier sitting made; ``None`` where there was none.

    Raises:
        RunError: it was made with other settings, or cannot be read.
    """
    file = job.folder / PLAN
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        times = {phase: PhaseTime(*content["times"][phase]) for phase in PHASES}
        lengths = {phase: Length(*content["lengths"][phase]) for phase in PHASES if phase in content["lengths"]}
        before, settings = float(content["before"]), dict(content["settings"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"'{file}' cannot be read; remove {job.folder} to start again.") from error
    for name, value in job.settings.items():
        if settings.get(name) != value:
            raise RunError(
                f"{job.folder} was started with other settings ({name} was {settings.get(name)} and is {value}); "
                "remove the folder to start again, give another --out, or go back to them to continue."
            )
    return Plan(before, times, lengths)


def make_plan(job: Job, started: float, clock: Clock) -> Plan:
    """Time a few steps of every phase, with random weights, which cost the same."""
    torch.manual_seed(0)
    network = AutoencoderDRoRAE(**job.model, finetuned_decoder=True)
    times = {}
    for phase in PHASES:
        row = job.row(phase, Length(1, 1))
        task = Reconstruction(network, row, job.args.networks, job.held_out(TIMED_PHOTOS))
        times[phase] = time_phase(task, job.positions(row.schedule.seed), job.precision, clock)
    return Plan(clock() - started, times, {})


def describe(job: Job, plan: Plan) -> str:
    """The plan for people."""
    facts, photos, model = job.facts, job.photos, job.model
    checked, (measured, summed) = plan.photos_to_check(job), plan.photos_to_measure(job)
    lengths = {**plan.lengths, **plan.to_come(job, strict=not plan.lengths)}
    how = "by its own validation split" if photos.own_split else "by their content"
    device = best_device()
    where = f"CPU, {count_of(torch.get_num_threads(), 'thread')}" if device.type == "cpu" else str(device)
    prefix = f" and {count_of(facts.prefix, 'other token')}" if facts.prefix else ""
    smaller = f" (timm: {facts.made_for})" if facts.made_for != facts.size else ""
    lines = [
        f"encoder   {facts.name}: {facts.layers} layers of {facts.dim} channels, {facts.grid} x {facts.grid} patches "
        f"of {facts.patch} px{prefix}, pictures of {facts.size} px{smaller}",
        f"weights   {weights_words(job)}",
        f"photos    '{photos.name}': {photos.train_count} to train on, {len(photos.held_out)} held out {how}",
        f"decoder   {model['decoder_num_layers']} layers of {model['decoder_hidden_size']} channels",
        f"loss      {loss_words(job)}",
        f"machine   {where}, {'fp32' if job.precision == 'no' else job.precision}",
        "",
        f"{'phase':10}{'s a step':>10}{'steps':>8}{'pictures':>10}{'time':>12}",
    ]
    total = plan.before
    for phase, length in lengths.items():
        begun = phase in plan.lengths
        seconds = plan.seconds(job, phase) if begun else phase_seconds(length, plan.times[phase], checked)
        total += seconds
        pictures = length.steps * job.sizes.batch
        lines.append(f"{phase:10}{plan.times[phase].step:10.2f}{length.steps:8}{pictures:10}{duration(seconds):>12}")
    end = measuring_seconds(plan.times, measured, summed)
    lines += [
        f"{'measuring':10}{'':18}{measured + summed:10}{duration(end):>12}",
        f"{'so far':10}{'':28}{duration(plan.before):>12}",
        f"{'all':10}{'':28}{duration(total + end):>12} of {job.args.minutes:g} min",
    ]
    return "\n".join(lines)
