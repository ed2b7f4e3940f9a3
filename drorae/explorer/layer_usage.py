"""What each layer is worth over held-out photos: without it, and with it alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from drorae.checkpoints import CheckpointError
from drorae.explorer.evidence import read_evidence

USAGE = "interventions.json"  # beside the weights, written by train.interventions


class Distribution(NamedTuple):
    """How a number varies over photos: mean, ends of its 95 % interval, and the quantiles of 10 % and 90 %, dB."""

    mean: float
    low: float
    high: float
    q10: float
    q90: float


class Effect(NamedTuple):
    """What an intervention does: its PSNR, and how much that is above the PSNR of the same photo as trained, dB."""

    psnr: Distribution
    change: Distribution


class LayerUsage(NamedTuple):
    """What interventions do to PSNR over held-out photos.

    Attributes:
        size: side of the photos, pixels.
        photos: how many there are.
        data: which these are.
        trained: PSNR as trained.
        betas: strengths, without the trained one; ``strengths`` are their effects.
        removed, alone: effect of leaving out each layer, and of keeping it as the only one, (L,).
    """

    size: int
    photos: int
    data: str
    trained: Distribution
    betas: list[float]
    strengths: list[Effect]
    removed: list[Effect]
    alone: list[Effect]


def read_layer_usage(folder: Path) -> LayerUsage | None:
    """What ``train.interventions`` measured of the weights in a folder; ``None`` where it did not measure these.

    Raises:
        CheckpointError: a file that is damaged.
    """
    content = read_evidence(folder, USAGE)
    if content is None:
        return None
    try:
        return LayerUsage(
            int(content["size"]),
            int(content["photos"]),
            str(content["data"]),
            Distribution(**content["trained"]),
            [float(row["beta"]) for row in content["strengths"]],
            *([_effect(row) for row in content[kind]] for kind in ("strengths", "removed", "alone")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"'{folder / USAGE}' does not say what layers are worth; run python -m train.interventions again."
        ) from error


def _effect(row: dict[str, Any]) -> Effect:
    return Effect(Distribution(**row["psnr"]), Distribution(**row["change"]))
