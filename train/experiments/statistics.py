"""Statistics over seeds: Student's t, Holm's correction, the straight line and its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from drorae.study.fits import Fit, least_squares

CONFIDENCE = 0.95
CONFIRMED, CONTRADICTED, UNDECIDED = "confirmed", "contradicted", "not decided at this scale"
RESAMPLES = 10_000


class Estimate(NamedTuple):
    """A mean over seeds with its interval of 95 %, and the p of its being 0. Interval and p are ``None`` where one
    value says nothing about the spread."""

    mean: float
    low: float | None
    high: float | None
    p: float | None
    seeds: int


def student(values: Sequence[float]) -> Estimate:
    """Student's t over seeds: at three, 4.30 standard errors to both sides.

    Raises:
        ValueError: no values.
    """
    if not len(values):
        raise ValueError("there is no value to take the mean of")
    numbers = np.asarray(values, dtype=np.float64)
    mean = float(numbers.mean())
    if len(numbers) < 2:
        return Estimate(mean, None, None, None, len(numbers))
    if not np.ptp(numbers):  # scipy's t would divide by 0
        return Estimate(mean, mean, mean, float(mean == 0), len(numbers))
    test = stats.ttest_1samp(numbers, 0)
    interval = test.confidence_interval(CONFIDENCE)
    return Estimate(mean, float(interval.low), float(interval.high), float(test.pvalue), len(numbers))


def paired_difference(one: Mapping[int, float], other: Mapping[int, float] | float) -> Estimate | None:
    """How much ``one`` is above ``other``, over the seeds that both have: equal seeds see the same pictures in the same
    order. ``other`` may be one number, of what was not trained. ``None`` where they share no seed."""
    if isinstance(other, Mapping):
        seeds = [seed for seed in one if seed in other]
        return student([one[seed] - other[seed] for seed in seeds]) if seeds else None
    return student([value - other for value in one.values()]) if one else None


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of p values, which holds the chance of any false alarm among them."""
    order = np.argsort(p, kind="stable")
    adjusted, running = [0.0] * len(p), 0.0
    for place, index in enumerate(order):
        running = max(running, min(1.0, (len(p) - place) * p[index]))
        adjusted[index] = running
    return adjusted


def verdict(low: float | None, high: float | None, sign: int) -> str:
    """What an interval says of a claim that the number has this ``sign`` (+1 or -1)."""
    if low is None or high is None or low <= 0 <= high:
        return UNDECIDED
    return CONFIRMED if (low > 0) == (sign > 0) else CONTRADICTED


class Line(NamedTuple):
    """A line through the means of rows.

    Attributes:
        fit: slope, intercept and R^2 by least squares.
        low, high: ends of the 95 % interval of the slope, by resampling seeds; ``None`` with one seed in each row.
        without: the slope with each row left out, in their order.
        residuals: residuals of the rows' means, in their order.
    """

    fit: Fit
    low: float | None
    high: float | None
    without: list[float]
    residuals: list[float]


def fit_line(x: Sequence[float], values: Sequence[Sequence[float]], resamples: int = RESAMPLES, seed: int = 0) -> Line:
    """Least squares through the means of rows at ``x``, each of ``values`` the seeds of one row.

    The interval is the percentiles of slopes of resampled data: of each row as many seeds as it has, with replacement,
    and the line fitted again. Resampled deviations of n seeds are widened by sqrt(n / (n - 1)), which a resample of
    few falls short by.

    Raises:
        ValueError: fewer than three rows, or all at one x.
    """
    xs = np.asarray(x, dtype=np.float64)
    if len(xs) < 3 or not np.ptp(xs):
        raise ValueError(f"a line with residuals needs three rows at different sizes, not {len(xs)}")
    means = np.array([np.mean(row) for row in values])
    fit = least_squares(xs, means)
    without = []
    for index in range(len(xs)):
        keep = np.arange(len(xs)) != index
        without.append(float(np.polyfit(xs[keep], means[keep], 1)[0]) if np.ptp(xs[keep]) else float("nan"))
    low = high = None
    if max(map(len, values)) > 1:
        rng = np.random.default_rng(seed)
        drawn = np.empty((resamples, len(xs)))
        for index, row in enumerate(values):
            numbers = np.asarray(row, dtype=np.float64)
            count = len(numbers)
            widen = np.sqrt(count / (count - 1)) if count > 1 else 1.0
            picks = numbers[rng.integers(0, count, (resamples, count))].mean(1)
            drawn[:, index] = means[index] + widen * (picks - means[index])
        centred = xs - xs.mean()
        slopes = drawn @ centred / (centred @ centred)
        low, high = (float(edge) for edge in np.percentile(slopes, [2.5, 97.5]))
    return Line(fit, low, high, without, (means - fit.at(xs)).tolist())


class RowSlope(NamedTuple):
    """Least squares through the means of rows, with the interval of 95 % of the slope, and the p of its being 0."""

    slope: float
    low: float
    high: float
    p: float
    r2: float


def row_slope(x: Sequence[float], y: Sequence[float]) -> RowSlope:
    """The line through rows at (x, y), with Student's t of n - 2 degrees of freedom from what they leave over. Unlike
    in :func:`fit_line`, whose interval is of the seeds alone, rows far from the line make the interval wide.

    Raises:
        ValueError: fewer than three rows, or all at one x.
    """
    if len(x) < 3 or not np.ptp(x):
        raise ValueError(f"a line with residuals needs three rows at different sizes, not {len(x)}")
    line = stats.linregress(x, y)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(x) - 2) * line.stderr)
    slope = float(line.slope)
    return RowSlope(slope, slope - half, slope + half, float(line.pvalue), float(line.rvalue**2))


def same_order(one: Sequence[float], other: Sequence[float]) -> float:
    """Kendall's tau of two rankings: 1 for the same order, -1 for the opposite one."""
    return float(stats.kendalltau(one, other).statistic)
