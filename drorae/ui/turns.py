"""Turns: long jobs give way after every step, so that a short one waits for a step and not for a job."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition
from typing import Any, TypeVar

Item = TypeVar("Item")


class Turns:
    """One at a time, in the order in which they came. Who takes turn after turn goes to the end each time."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._line: deque[object] = deque()

    @contextmanager
    def turn(self, ahead: bool = False) -> Iterator[None]:
        """Wait for a turn, and keep it until the block ends.

        Args:
            ahead: have the next one. Who does is one at a time elsewhere, so others come between two of these.
        """
        ticket = object()
        with self._changed:
            self._line.insert(1 if ahead else len(self._line), ticket)
            self._changed.notify_all()
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._line[0] is ticket)
            yield
        finally:
            with self._changed:
                self._line.remove(ticket)
                self._changed.notify_all()

    def __len__(self) -> int:
        """How many wait, with the one whose turn it is."""
        return len(self._line)

    def step_by_step(self, steps: Iterator[Item], goes_on: Callable[[], bool] = lambda: True) -> Iterator[Item]:
        """The steps of an iterator, each in a turn of its own.

        Args:
            steps: what a long job makes.
            goes_on: asked at the beginning of every turn; once it says no, nothing more is made.
        """
        while True:
            with self.turn():
                if not goes_on():
                    return
                try:
                    step = next(steps)
                except StopIteration:
                    return
            yield step

    def at_once(self, function: Callable[..., Iterator[Item]], ahead: bool = False) -> Callable[..., Item]:
        """A function of one step that is made in a turn, from one that yields it; ``ahead`` as in :meth:`turn`."""

        def call(*arguments: Any) -> Item:
            with self.turn(ahead):
                return next(function(*arguments))

        return call


BATCHES = Turns()  # of those who have many photos read, by the page or by programs
