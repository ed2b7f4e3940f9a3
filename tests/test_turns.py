"""Turns: one at a time, in order, and a long job gives way after every step."""

from __future__ import annotations

from threading import Event

import pytest
from gate import PATIENCE, Gate, come_to, in_thread, result_of

from drorae.ui.turns import Turns


def wait_for(turns: Turns, count: int) -> None:
    """Wait until so many are in line."""
    with turns._changed:
        there = turns._changed.wait_for(lambda: len(turns) == count, PATIENCE)
        assert there, f"{len(turns)} are in line, not {count}"


def test_a_long_job_waits_for_others_after_every_step():
    turns, gate, made = Turns(), Gate(), []

    def steps(name, count):
        for number in range(count):
            gate.enter()
            made.append(f"{name}{number}")
            yield number

    long = in_thread(lambda: list(turns.step_by_step(steps("a", 3))))
    gate.wait_for(1)
    short = in_thread(lambda: list(turns.step_by_step(steps("b", 1))))
    wait_for(turns, 2)
    gate.open()
    assert result_of(long) == [0, 1, 2]
    assert result_of(short) == [0]
    assert made == ["a0", "b0", "a1", "a2"]
    assert len(turns) == 0


def test_nobody_else_computes_during_a_turn():
    turns, started, goes_on = Turns(), Event(), Event()
    computing = []

    def compute(name):
        computing.append(name)
        started.set()
        come_to(goes_on, "the test went on")
        computing.remove(name)
        yield len(computing)

    call = turns.at_once(compute)
    both = [in_thread(call, name) for name in "ab"]
    come_to(started, "one of them computes")
    assert len(computing) == 1
    goes_on.set()
    assert [result_of(each) for each in both] == [0, 0]


def test_a_job_that_nobody_waits_for_makes_no_further_step():
    turns, there, made = Turns(), [True, True, False], []
    steps = (made.append(number) or number for number in range(9))
    assert list(turns.step_by_step(steps, lambda: there.pop(0))) == [0, 1]
    assert made == [0, 1]


def test_a_step_that_fails_gives_its_turn_back():
    turns = Turns()

    def fail():
        yield 1 / 0

    for call in (turns.at_once(fail), lambda: list(turns.step_by_step(fail()))):
        with pytest.raises(ZeroDivisionError):
            call()
        assert len(turns) == 0
    with turns.turn():
        assert len(turns) == 1


def test_what_somebody_waits_for_has_the_next_turn():
    turns, made = Turns(), []

    def step(name):
        made.append(name)
        yield name

    with turns.turn():
        running = []
        for count, name in enumerate("abc", 2):
            running.append(in_thread(turns.at_once(step, ahead=name == "c"), name))
            wait_for(turns, count)
    assert [result_of(each) for each in running] == ["a", "b", "c"]
    assert made == ["c", "a", "b"]
