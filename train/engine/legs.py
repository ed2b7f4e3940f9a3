"""A part of a run that another machine goes on from: averaged weights in half precision, and how far they came.

No optimizer state, no frozen part: some megabytes of safetensors. Every run keeps its newest one beside its state, as
``leg.safetensors``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from drorae.checkpoints import CheckpointError
from train.engine.run_folder import LOG

LEG, RECORD_KEY = "leg.safetensors", "drorae"
TRAINED, ADVERSARY = "trained.", "adversary."


@dataclass(frozen=True)
class Leg:
    """What :func:`save_leg` wrote.

    Attributes:
        weights: trained part, by its own names.
        adversary: the discriminator's heads, where there are any.
        step, steps: how many were done, of how many.
        seconds: training time so far.
        log: the lines of the run's log so far.
    """

    file: Path
    weights: dict[str, Tensor]
    adversary: dict[str, Tensor]
    step: int
    steps: int
    seconds: float
    log: str

    def load_into(self, task: Any) -> None:
        """Put the weights in their places, strictly.

        Raises:
            CheckpointError: they do not fit.
        """
        load_strictly(task.trainable, self.weights, self.file)
        if task.adversary is not None and self.adversary:
            load_strictly(task.adversary, self.adversary, self.file)


def load_strictly(network: nn.Module, weights: dict[str, Tensor], file: Path) -> None:
    """Load weights strictly.

    Raises:
        CheckpointError: they do not fit the network.
    """
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"'{file}' does not fit this preset ({reason}); use the leg of the same run.") from error


def save_leg(folder: Path, task: Any, step: int, steps: int, seconds: float) -> None:
    """Write ``folder/leg.safetensors`` with the weights now in place, by way of a file beside it."""
    state = {f"{TRAINED}{name}": value for name, value in task.trainable.state_dict().items()}
    if task.adversary is not None:
        state |= {f"{ADVERSARY}{name}": value for name, value in task.adversary.state_dict().items()}
    half = {
        name: value.detach().cpu().to(torch.float16 if value.is_floating_point() else value.dtype).contiguous()
        for name, value in state.items()
    }
    log = folder / LOG
    record: dict[str, float | str] = {"step": step, "steps": steps, "seconds": round(seconds, 1)}
    record["log"] = log.read_text(encoding="utf-8") if log.is_file() else ""
    fresh = folder / f"{LEG}.new"
    save_file(half, fresh, metadata={RECORD_KEY: json.dumps(record)})
    fresh.replace(folder / LEG)


def read_leg(file: Path) -> Leg:
    """A leg in single precision.

    Raises:
        CheckpointError: no such file, or it is not a leg.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            record = json.loads(opened.metadata()[RECORD_KEY])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a mapping)
        step, steps, seconds, log = (record[name] for name in ("step", "steps", "seconds", "log"))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"'{file}' is not a leg of a run ({error}); copy a run's {LEG}.") from error
    floats = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    weights, adversary = (
        {name.removeprefix(prefix): value for name, value in floats.items() if name.startswith(prefix)}
        for prefix in (TRAINED, ADVERSARY)
    )
    return Leg(file, weights, adversary, int(step), int(steps), float(seconds), str(log))


def find_leg(folder: Path | None, preset: str, run: str) -> Leg | None:
    """The leg of a run in a folder of legs, ``{preset}-{run}.safetensors``; ``None`` where there is none.

    Raises:
        CheckpointError: it cannot be read.
    """
    file = None if folder is None else folder / f"{preset}-{run}.safetensors"
    return read_leg(file) if file is not None and file.is_file() else None
