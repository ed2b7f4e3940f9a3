"""Times of two ways to do one thing, taken in turns, so that other work on the machine weighs on both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

Work = Callable[[], Any]
LEAST = 0.1  # seconds that one measurement takes at least: quicker work is repeated


class Contest(NamedTuple):
    """Two ways to do one thing.

    Attributes:
        name: as ``--only`` takes it.
        title: what is compared, for the table.
        ours, theirs: do the work once.
        aim: the ratio of times, ours over theirs, that is meant to be reached; ``None`` where nothing is promised.
        floating: the ratio of floating-point operations, where it was counted.
    """

    name: str
    title: str
    ours: Work
    theirs: Work
    aim: float | None = None
    floating: float | None = None


class Result(NamedTuple):
    """What a contest came to: seconds of each way (medians) and the ratio of times, ours over theirs.

    Attributes:
        low, high: quartiles of the ratio over the rounds.
    """

    name: str
    title: str
    ours: float
    theirs: float
    ratio: float
    low: float
    high: float
    aim: float | None
    floating: float | None


def time_in_turns(contest: Contest, rounds: int, device: torch.device) -> Result:
    """Both ways in turns, after one call of each that is not counted.

    Who comes first changes from round to round. The ratio is the median of the rounds' ratios.
    """
    repeats = [max(1, round(LEAST / max(seconds(work, 1, device), 1e-9))) for work in contest[2:4]]
    pairs = []
    for number in range(rounds):
        taken = [0.0, 0.0]
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            taken[which] = seconds(contest[2 + which], repeats[which], device)
        pairs.append(taken)
    ratios = [ours / theirs for ours, theirs in pairs]
    low, ratio, high = statistics.quantiles(ratios, n=4, method="inclusive") if rounds > 1 else ratios * 3
    ours, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
    return Result(contest.name, contest.title, ours, theirs, ratio, low, high, contest.aim, contest.floating)


@torch.inference_mode()
def seconds(work: Work, repeats: int, device: torch.device) -> float:
    """Wall time of one call, the mean of so many; a GPU is waited for."""
    wait(device)
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    wait(device)
    return (time.perf_counter() - started) / repeats


def wait(device: torch.device) -> None:
    """Return when the device has done what was asked of it."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
