"""What a set of latents says of how well they can be generated, with intervals over pictures."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from train.measure.intervals import GROUPS, Interval, bootstrap_mean, class_groups, grouped_jackknife
from train.measure.latent_metrics import (
    high_frequency_energy,
    same_class_shares,
    spatial_effective_rank,
    spectral_energy,
)
from train.measure.probe import LabelledLatents
from train.measure.viv import (
    Diffusability,
    fewest_pictures,
    large_classes,
    normalize_channels,
    velocity_irreducible_variance,
)

TITLES = {
    "viv": "VIV / d",
    "variance_within": "variance within classes / d",
    "covariance_rank": "rank within classes",
    "same_class_5": "same class, 5 neighbours",
    "same_class": "same class, 10 neighbours",
    "energy_25": "energy above 1/4",
    "energy_50": "energy above 1/2",
    "high_frequency": "high-frequency energy",
    "effective_rank": "spatial effective rank",
    "probe": "probe's loss",
}
PER_CLASSES = ("viv", "variance_within", "covariance_rank")
BATCH = 64


def measure_latents(found: LabelledLatents, intervals: bool = True, groups: int = GROUPS) -> dict[str, Interval]:
    """All of :data:`TITLES` but the probe.

    VIV, its companions and the energies above a frequency are of latents normalised per channel; neighbours, the
    high-frequency energy and the spatial rank of latents as they are, as :mod:`train.evaluate` has them. Intervals are
    a jackknife over groups of pictures for the first three, a bootstrap over pictures for the others, whose numbers
    are means over pictures (neighbours stay who they are). The first three are of :func:`chosen_classes`.

    Args:
        groups: groups of the jackknife.

    Raises:
        DataError: too few pictures, or latents that do not vary.
    """
    numbers = dict(zip(PER_CLASSES, _within_classes(found, groups, intervals), strict=True))
    values = picture_values(found)
    for name, each in values.items():
        numbers[name] = bootstrap_mean(each) if intervals else Interval(each.double().mean().item())
    return {name: numbers[name] for name in TITLES if name in numbers}


def chosen_classes(found: LabelledLatents, groups: int = GROUPS) -> list[int]:
    """The classes that have enough pictures for VIV also without a group; where there are none, those that have enough
    with all of them, and the jackknife has to do without an interval."""
    latents, labels = found
    needed = fewest_pictures(latents.shape[1], latents[0, 0].numel())
    return large_classes(labels, needed, groups) or large_classes(labels, needed)


def _within_classes(found: LabelledLatents, groups: int, intervals: bool) -> list[Interval]:
    latents, labels = found
    needed = fewest_pictures(latents.shape[1], latents[0, 0].numel())
    chosen, enough = chosen_classes(found, groups), bool(large_classes(labels, needed, groups))

    def measure(there: np.ndarray) -> tuple[float, float, float]:
        some = torch.from_numpy(there)
        result: Diffusability = velocity_irreducible_variance(latents[some], labels[some], chosen)
        return result.viv, result.variance, result.rank

    return grouped_jackknife(measure, class_groups(labels.tolist(), groups if enough and intervals else 1))


def picture_values(found: LabelledLatents) -> dict[str, Tensor]:
    """What is a mean over pictures, for each of them, (M,)."""
    latents, labels = found
    normalized, pooled = normalize_channels(latents), latents.mean((2, 3))
    grid, parts = (latents.shape[2], latents.shape[3]), latents.split(BATCH)
    values = {}
    for name, k in (("same_class_5", 5), ("same_class", 10)):
        if len(labels) > k:
            values[name] = same_class_shares(pooled, labels, k)
    for name, share in (("energy_25", 0.25), ("energy_50", 0.5)):
        values[name] = torch.cat([spectral_energy(part, share) for part in normalized.split(BATCH)])
    values["high_frequency"] = torch.cat([high_frequency_energy(part.flatten(2).mT, grid) for part in parts])
    values["effective_rank"] = torch.cat([spatial_effective_rank(part.flatten(2).mT) for part in parts])
    return values
