"""Intervals of 95 % over pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES, GROUPS = 2000, 10


class Interval(NamedTuple):
    """A number with its interval of 95 %; both ends are ``None`` where pictures say nothing about it."""

    value: float
    low: float | None = None
    high: float | None = None


def bootstrap_mean(values: ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Mean of values (M,), one per picture, and percentiles of the means of resampled pictures."""
    numbers = np.asarray(values, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(0, len(numbers), (resamples, len(numbers)), dtype=np.int32)
    low, high = np.quantile(numbers[picks].mean(1), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(numbers.mean()), float(low), float(high))


def grouped_jackknife(measure: Callable[[np.ndarray], Sequence[float]], groups: ArrayLike) -> list[Interval]:
    """Numbers of a set of pictures, and their intervals from leaving out one group of them after the other.

    For what resampled pictures would distort, since copies of a picture do not vary: covariances, Frechet distances.
    With G groups the variance is (G - 1) / G times the sum of squared deviations of the G numbers from their mean
    (Tukey, 1958), and the interval Student's t of G - 1 degrees of freedom.

    Args:
        measure: from the pictures that are there, boolean (M,), to the numbers.
        groups: the group of each picture, (M,).
    """
    numbers = np.asarray(groups)
    names = np.unique(numbers)
    values = np.asarray(measure(np.ones(len(numbers), dtype=bool)), dtype=np.float64)
    if len(names) < 2:
        return [Interval(float(value)) for value in values]
    without = np.array([measure(numbers != name) for name in names])
    count = len(names)
    errors = np.sqrt((count - 1) / count * np.square(without - without.mean(0)).sum(0))
    halves = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * errors
    return [Interval(float(v), float(v - half), float(v + half)) for v, half in zip(values, halves, strict=True)]


def class_groups(labels: Sequence[int], count: int = GROUPS) -> np.ndarray:
    """Groups (M,) for :func:`grouped_jackknife` that take about equally many pictures of every class: the j-th picture
    of a class belongs to group j mod ``count``."""
    seen: dict[int, int] = {}
    groups = []
    for label in labels:
        groups.append(seen.get(label, 0) % count)
        seen[label] = seen.get(label, 0) + 1
    return np.array(groups)
