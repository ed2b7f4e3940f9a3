"""The study's statistics against closed forms, scipy, and planted effects."""

import numpy as np
import pytest
from scipy import stats

from train.experiments.statistics import (
    CONFIRMED,
    CONTRADICTED,
    UNDECIDED,
    fit_line,
    holm,
    paired_difference,
    row_slope,
    same_order,
    student,
    verdict,
)


def test_three_seeds_take_430_standard_errors():
    one = student([1.0, 2.0, 6.0])
    error = np.std([1, 2, 6], ddof=1) / np.sqrt(3)
    assert one.mean == 3
    assert (one.high - 3) / error == pytest.approx(4.3027, abs=1e-4)
    assert (3 - one.low) / error == pytest.approx(4.3027, abs=1e-4)
    assert one.p == pytest.approx(2 * stats.t.sf(3 / error, 2))


def test_one_seed_has_no_interval_and_equal_seeds_no_width():
    assert student([4.0]) == (4.0, None, None, None, 1)
    assert student([4.0, 4.0]) == (4.0, 4.0, 4.0, 0.0, 2)
    assert student([0.0, 0.0]).p == 1
    with pytest.raises(ValueError, match="no value"):
        student([])


def test_differences_are_taken_seed_by_seed():
    """What all rows of a seed share falls out; a seed that one of them lacks is left out."""
    shared = {0: 100.0, 1: -50.0, 2: 7.0}
    effect = {0: 1.0, 1: 1.2, 2: 1.1}
    found = paired_difference({seed: shared[seed] + effect[seed] for seed in shared}, {**shared, 5: 3.0})
    expected = stats.ttest_1samp(list(effect.values()), 0)
    assert found.mean == pytest.approx(1.1)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.p == pytest.approx(expected.pvalue)
    assert paired_difference({0: 5.0, 1: 7.0}, 2.0).mean == 4
    assert paired_difference({0: 5.0}, {1: 2.0}) is None


def test_holm_by_hand_and_above_bonferroni():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    p = np.random.default_rng(0).uniform(size=9).tolist()
    adjusted = holm(p)
    assert all(one <= min(1, 9 * raw) and one >= raw for one, raw in zip(adjusted, p, strict=True))
    assert np.all(np.diff(np.array(adjusted)[np.argsort(p)]) >= 0)  # a smaller p is never adjusted above a larger one


@pytest.mark.parametrize(
    ("low", "high", "sign", "said"),
    [
        (0.1, 0.5, 1, CONFIRMED),
        (0.1, 0.5, -1, CONTRADICTED),
        (-0.5, -0.1, -1, CONFIRMED),
        (-0.5, -0.1, 1, CONTRADICTED),
        (-0.1, 0.5, 1, UNDECIDED),
        (0.0, 0.5, 1, UNDECIDED),
        (None, None, 1, UNDECIDED),
    ],
)
def test_verdicts(low, high, sign, said):
    assert verdict(low, high, sign) == said


X = np.log10([1e5, 2e5, 4e5, 8e5, 1.6e6, 3.2e6, 6.4e6])


def test_the_interval_of_a_slope_covers_the_planted_one():
    """Near to 95 of 100 times: of 300, between 270 and 297, and it is no wider than it has to be."""
    rng = np.random.default_rng(0)
    covered, widths = 0, []
    for trial in range(300):
        values = [(5 - 2 * x + 0.3 * rng.standard_normal(3)).tolist() for x in X]
        line = fit_line(X, values, resamples=400, seed=trial)
        covered += line.low <= -2 <= line.high
        widths.append(line.high - line.low)
    assert 270 <= covered <= 297
    error = 0.3 / np.sqrt(3) / np.sqrt(((X - X.mean()) ** 2).sum())
    assert np.mean(widths) == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_a_line_is_that_of_the_means():
    bumps = [0.1, 0.3, 0.2, 0.5, 0.1, 0.2, 0.3]
    values = [[5 - 2 * x + bump, 5 - 2 * x - bump] for x, bump in zip(X, bumps, strict=True)]
    line = fit_line(X, values, resamples=200)
    assert line.fit == pytest.approx((-2, 5, 1))
    assert line.residuals == pytest.approx([0] * 7, abs=1e-9)
    assert line.without == pytest.approx([-2] * 7)
    assert fit_line(X, values, resamples=200) == line  # nothing is left to chance


def test_a_row_left_out_shows_who_makes_the_slope():
    values = [[0.0], [0.0], [0.0], [3.0]]
    line = fit_line([0, 1, 2, 3], values)
    assert (line.low, line.high) == (None, None)
    assert line.without[3] == pytest.approx(0)
    assert line.without[0] == pytest.approx(stats.linregress([1, 2, 3], [0, 0, 3]).slope)
    assert sum(line.residuals) == pytest.approx(0)


@pytest.mark.parametrize("x", [[1, 2], [3, 3, 3]])
def test_a_line_needs_three_sizes(x):
    with pytest.raises(ValueError, match="three rows"):
        fit_line(x, [[1.0]] * len(x))


def test_order():
    assert same_order([1, 2, 3, 4], [10, 20, 30, 40]) == 1
    assert same_order([1, 2, 3, 4], [40, 30, 20, 10]) == -1


def test_a_slope_through_rows_has_the_interval_of_what_they_leave_over():
    x, y = np.array([1.0, 2, 4, 5, 7]), np.array([3.0, 1, 4, 2, 6])
    found = row_slope(x, y)
    slope, intercept = np.polyfit(x, y, 1)
    left = y - slope * x - intercept
    error = np.sqrt((left**2).sum() / 3 / ((x - x.mean()) ** 2).sum())
    half = stats.t.ppf(0.975, 3) * error
    assert found[:3] == pytest.approx((slope, slope - half, slope + half))
    assert found.p == pytest.approx(2 * stats.t.sf(slope / error, 3))
    assert found.r2 == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2)
    for few in ([1.0, 2.0], [3.0, 3.0, 3.0]):
        with pytest.raises(ValueError, match="three rows at different sizes"):
            row_slope(few, few)
