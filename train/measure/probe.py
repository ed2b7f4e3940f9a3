"""How hard is a latent to learn? The loss of a small denoiser on held-out latents, as in the paper's table 3."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from drorae import DiTDH, LatentStatistics
from train.data.batches import Batch
from train.data.positions import Positions
from train.engine.optimisation import Optimisation, PlainEMA, ema_weights
from train.errors import DataError
from train.settings import Stage2Preset
from train.tasks.conditions import ClassCondition
from train.tasks.generation import VALIDATION_BATCH, LatentFlow


class LabelledLatents(NamedTuple):
    """Latents (M, C, h, w) in fp32, before any normalisation, and the classes of their pictures, (M,)."""

    latents: Tensor
    labels: Tensor


def position_statistics(latents: Tensor) -> LatentStatistics:
    """Mean and standard deviation per channel and position of latents (M, C, h, w), as denoisers are trained with.

    Raises:
        DataError: a value is the same in all of them.
    """
    std, mean = torch.std_mean(latents, dim=0, correction=0)
    if not std.min() > 0:
        raise DataError("the probe's training pictures have equal latents somewhere; use more or different ones.")
    return LatentStatistics.of((latents.shape[1], latents.shape[2], latents.shape[3]), std, mean)


def probe_errors(
    training: LabelledLatents,
    held_out: LabelledLatents,
    row: Stage2Preset,
    device: torch.device | str = "cpu",
    name: str = "probe",
) -> Tensor:
    """Flow-matching loss of a fresh denoiser, trained by ``row`` on some latents, on each of the held-out ones, (M,).

    Both are normalised with the statistics of the training latents, so that the loss is 2 before anything is learned,
    whatever the tokenizer. Start, order, times and noise follow from the seed of the row alone: latents of one size are
    compared on equal terms. The weights are averaged as in any training; times and noise of held-out latents are fixed.

    Raises:
        DataError: latents of pictures that are not square, or what :func:`position_statistics` raises.
    """
    schedule, (channels, height, width) = row.schedule, training.latents.shape[1:]
    if height != width:
        raise DataError(f"the probe learns square latents, not {height} x {width}.")
    statistics = position_statistics(training.latents)
    names = [str(number) for number in range(int(training.labels.max()) + 1)]
    with torch.random.fork_rng([]):
        torch.manual_seed(schedule.seed)
        denoiser = DiTDH(sample_size=height, in_channels=channels, num_classes=len(names), **row.denoiser)
    task = LatentFlow(ClassCondition(denoiser, names), row, statistics, (channels, height, width)).to(device)
    optimisation = Optimisation(denoiser, schedule.lr, schedule, schedule.optimizer)
    ema = PlainEMA(optimisation.parameters, decay=schedule.ema_decay, foreach=True)
    positions = Positions([len(training.latents)], schedule.seed)
    denoiser.train()
    for step in tqdm(range(schedule.steps), desc=name, leave=False):
        where = range(step * schedule.batch_size, (step + 1) * schedule.batch_size)
        batch = _batch(training, torch.tensor([positions.index(position) for position in where]), torch.tensor(where))
        task.loss(batch.to(torch.device(device)), step)[0].backward()
        torch.nn.utils.clip_grad_norm_(optimisation.parameters, schedule.max_grad_norm or math.inf)
        optimisation.step()
        ema.step(optimisation.parameters)
    denoiser.eval()
    errors = []
    with torch.no_grad(), ema_weights(ema, optimisation.parameters):
        for rows in torch.arange(len(held_out.latents)).split(VALIDATION_BATCH):
            errors.append(task.errors_by_time(_batch(held_out, rows, rows).to(torch.device(device))).mean(0).cpu())
    return torch.cat(errors)


def _batch(of: LabelledLatents, rows: Tensor, positions: Tensor) -> Batch:
    return Batch(None, positions, [], of.labels[rows], of.latents[rows])
