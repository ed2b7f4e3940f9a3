"""What the training loop asks of a task and of its data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from train.data.batches import Batch
from train.settings import Schedule


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


class PeriodicMeasure(Protocol):
    """What is measured now and then while a task trains, beside :meth:`Task.validate`, since it takes long.

    Attributes:
        name: name of its number in the log, after ``validation_``.
        every: steps between two measurements. The last step is always measured.
    """

    name: str
    every: int

    def measure(self, task: Any) -> dict[str, float]:
        """Numbers of the task with the weights now in place, the one called ``name`` among them."""


class TrainingData(Protocol):
    """What a task is trained on."""

    @property
    def sources(self) -> Sequence[Sized]:
        """Where the samples are from."""

    def batches(self, schedule: Schedule, start_step: int, rank: int, world: int) -> Iterable[Batch]:
        """The batches of process ``rank`` of ``world`` from ``start_step`` to the end."""
