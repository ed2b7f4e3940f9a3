"""What a run says of itself: losses, damaged pictures, the log."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm.auto import tqdm

from train.engine.run_folder import DAMAGED, LOG
from train.errors import RunError, writing


class PartSums:
    """Values of the parts of a step's loss, averaged over its micro-batches."""

    def __init__(self, micro_batches: int):
        self.micro_batches = micro_batches
        self.values: dict[str, Tensor] = {}

    def add(self, parts: dict[str, Tensor]) -> None:
        """Take in the scalars of one micro-batch."""
        for name, value in parts.items():
            self.values[name] = self.values.get(name, 0) + value.detach().float() / self.micro_batches


class UncheckedSteps:
    """Losses and gradient norms that nobody has looked at yet: looking makes the host wait for the device."""

    def __init__(self, folder: Path, every: int):
        self.folder, self.every = folder, every
        self.steps: list[tuple[int, dict[str, Tensor]]] = []

    def add(self, number: int, values: dict[str, Tensor], norm: Tensor, opponent_norm: Tensor | None) -> None:
        """Keep the scalars of step ``number`` (from 0), on whatever device they are."""
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


class DamagedPictures:
    """Pictures that could not be read: each is named once, on screen and in ``damaged.txt``."""

    def __init__(self, folder: Path, accelerator: Accelerator):
        rank = accelerator.process_index
        self.file = folder / (DAMAGED if rank == 0 else DAMAGED.replace(".txt", f".{rank}.txt"))
        self.notes = set(self.file.read_text(encoding="utf-8").splitlines()) if self.file.is_file() else set()

    def note(self, notes: list[str]) -> None:
        """Say and write those of ``notes`` that are new.

        Raises:
            RunError: the file cannot be written.
        """
        for text in notes:
            line = " ".join(text.split())
            if line not in self.notes:
                self.notes.add(line)
                tqdm.write(f"skipped: {line}")
                with writing(self.file.parent), self.file.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")


def was_logged(folder: Path, step: int, name: str) -> bool:
    """Whether the log has a number of that name at a step."""
    log = folder / LOG
    rows = map(json.loads, log.read_text(encoding="utf-8").splitlines()) if log.is_file() else ()
    return any(row.get("step") == step and name in row for row in rows)


def log_numbers(accelerator: Accelerator, folder: Path, numbers: dict[str, float], pictures: Tensor | None) -> None:
    """One line of ``log.jsonl``, and the same numbers and the pictures to the trackers."""
    with (folder / LOG).open("a", encoding="utf-8") as log:
        log.write(json.dumps(numbers) + "\n")
    step = int(numbers["step"])
    accelerator.log({name: value for name, value in numbers.items() if name != "step"}, step=step)
    if pictures is not None:
        for tracker in accelerator.trackers:
            layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images({"validation": pictures.permute(0, 2, 3, 1).cpu().numpy()}, step=step, **layout)
