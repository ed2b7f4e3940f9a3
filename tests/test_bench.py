"""The benchmark: what it says of work whose times are known, and that both sides of every contest do the same."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import TINY

from drorae.bench import contests, timing
from drorae.bench.contests import BUILDERS, BenchError, Contest, counting_contest, matching_contest
from drorae.bench.report import find_device, table
from drorae.bench.timing import time_in_turns
from drorae.choices import CONTESTS
from drorae.cli import main

CPU = torch.device("cpu")


class Clock:
    """A clock that only work moves."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def perf_counter(self) -> float:
        return self.now

    def work(self, name: str, *seconds: float):
        """Work that takes these seconds, call by call; the last of them from then on."""
        left = list(seconds)

        def call() -> None:
            self.calls.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def test_ratios_of_work_whose_times_are_known(clock):
    """Ours takes 3 seconds, then 6, then 1, theirs 4; the first call of each warms up and does not count."""
    ours, theirs = clock.work("ours", 50, 3, 6, 1), clock.work("theirs", 90, 4)
    result = time_in_turns(Contest("x", "x", ours, theirs, 0.8), 3, CPU)
    assert clock.calls == ["ours", "theirs", *("ours", "theirs"), *("theirs", "ours"), *("ours", "theirs")]
    assert (result.ratio, result.ours, result.theirs) == (0.75, 3, 4)
    assert (result.low, result.high) == (0.5, 1.125)  # of 0.25, 0.75 and 1.5
    assert list(table(iter([result])))[2] == "| x | 0.75 | 0.50 to 1.12 |  | 0.80 | 3.00 s | 4.00 s |"


def test_quick_work_is_repeated_until_it_can_be_timed(clock):
    result = time_in_turns(Contest("x", "x", clock.work("ours", 0.01), clock.work("theirs", 0.2)), 1, CPU)
    assert clock.calls == ["ours", "theirs", *["ours"] * 10, "theirs"]
    assert result.ours == pytest.approx(0.01)
    assert (result.ratio, result.low, result.high) == pytest.approx((0.05, 0.05, 0.05))


def test_operations_are_counted():
    square, long = torch.rand(8, 8), torch.rand(8, 24)
    found = counting_contest("x", "x", lambda: square @ square, lambda: square @ long)
    assert found.floating == 8 / 24
    assert counting_contest("x", "x", lambda: None, lambda: None).floating is None


def test_two_ways_that_differ_are_not_timed():
    with pytest.raises(BenchError, match=r"The two sides of 'x' differ by 0\.1 of their size"):
        matching_contest("x", "x", lambda: torch.full((4,), 1.1), lambda: torch.ones(4))
    with pytest.raises(BenchError, match="differ"):
        matching_contest("x", "x", lambda: torch.tensor([torch.nan]), lambda: torch.ones(1))


@pytest.fixture
def small(monkeypatch, tiny):
    """The contests with networks that take no time."""
    decoder = {name: value for name, value in TINY.items() if name.startswith("decoder_")}
    encoder = {"encoder_args": {"depth": 2}, "encoder_input_size": 28}
    monkeypatch.setattr(contests, "SMALL", contests.SMALL | encoder | decoder | {"decoder_patch_size": 14})
    monkeypatch.setattr(contests, "PAPER", contests.SMALL)
    monkeypatch.setattr(contests, "embedded_model", lambda device: tiny)
    monkeypatch.setattr(contests, "multiplies_bf16", lambda device: True)
    return tiny


@pytest.mark.parametrize(
    ("name", "low", "high"), [("rae", 1, 1), ("fused", 1.01, 3), ("experts", 1, 1), ("bundle", 0, 1), ("bf16", 1, 1)]
)
def test_both_sides_do_the_same_with_the_operations_one_expects(small, name, low, high):
    contest = BUILDERS[name](CPU)
    assert contest.name == name
    assert low <= contest.floating <= high


def test_autoguidance_takes_half_of_the_operations_on_the_doubled_batch(monkeypatch, pipeline):
    monkeypatch.setattr(contests.DRoRAEClassPipeline, "from_pretrained", lambda name: pipeline)
    assert BUILDERS["guidance"](CPU).floating == 0.5


def test_what_cannot_be_measured_here_is_said(monkeypatch, capsys):
    monkeypatch.setattr(contests, "multiplies_bf16", lambda device: False)
    assert main(["bench", "--only", "bf16"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "bf16 is left out: this processor only emulates it\n"
    assert captured.out.startswith("cpu (")


def test_the_command_prints_numbers_that_programs_read(capsys):
    assert main(["bench", "--only", "import", "--rounds", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["name"] == "import"
    assert result["ratio"] == result["ours"] / result["theirs"] > 0
    assert result["machine"].startswith(("cpu", "cuda", "mps"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--device", "abacus"], "--device 'abacus' is not a device of this machine"),
        (["--rounds", "0"], "--rounds must be at least 1, not 0"),
    ],
)
def test_mistakes_are_one_sentence(capsys, arguments, sentence):
    assert main(["bench", "--only", "import", *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_every_contest_has_a_builder_and_the_device_is_found():
    assert tuple(BUILDERS) == CONTESTS
    assert find_device("cpu") == CPU
