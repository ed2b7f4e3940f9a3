"""Stand-ins wait here until the test lets them go on, so that no test depends on how long something takes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from subprocess import Popen
from threading import Condition
from time import sleep
from typing import Any

import httpx

PATIENCE = 60  # seconds after which a test that hangs ends; nothing is meant to take as long


def finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns. It runs in a thread of its own: the browser tests leave an event loop running in this
    one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def answers(address: str, process: Popen) -> bool:
    """Whether the page of a process answers; ``False`` if the process ended before."""
    while process.poll() is None:
        try:
            httpx.get(address, timeout=PATIENCE).raise_for_status()
            return True
        except httpx.ConnectError:
            sleep(0.1)
    return False


class Gate:
    """A closed gate: threads that come to it wait until they are let through, in the order they came."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._arrived, self._allowed = 0, 0.0

    @property
    def arrived(self) -> int:
        """How many have come so far, whether they went through or still wait."""
        return self._arrived

    def enter(self) -> None:
        """Wait to be let through."""
        with self._changed:
            self._arrived += 1
            number = self._arrived
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._allowed >= number, PATIENCE), "nobody opened the gate"

    def let(self, more: int) -> None:
        """Let that many more through."""
        with self._changed:
            self._allowed += more
            self._changed.notify_all()

    def open(self) -> None:
        """Let everybody through from now on."""
        self.let(float("inf"))

    def wait_for(self, count: int) -> None:
        """Wait until so many have come in all."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._arrived >= count, PATIENCE), f"{self._arrived} of {count} came"
