"""Stand-ins wait here until the test lets them go on, so that no test depends on how long something takes.

What would never come is a failure with a sentence: every wait ends after ``PATIENCE``, which nothing is meant to take.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from subprocess import Popen
from threading import Condition, Event, Thread
from typing import IO, Any

import httpx

PATIENCE = 60  # seconds after which a wait that hangs ends
VISIT = 5 * PATIENCE  # the same, of all that a visitor does


def in_thread(function: Callable[..., Any], *args: Any) -> Future[Any]:
    """What a function is going to return, in a thread of its own; one that hangs is left behind when the tests end."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future


def result_of(future: Future[Any], patience: float = PATIENCE) -> Any:
    """What a function returned in its thread."""
    try:
        return future.result(patience)
    except TimeoutError:
        assert future.done(), f"a thread did not end within {patience} seconds"
        raise


def finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns. It runs in a thread of its own: the browser tests leave an event loop running in this
    one."""
    return result_of(in_thread(asyncio.run, within(coroutine, "the visit ended", VISIT)), VISIT + 2 * PATIENCE)


async def within(waited: Awaitable[Any], what: str, patience: float = PATIENCE) -> Any:
    """What is waited for; ``what`` says that it came."""
    task = asyncio.ensure_future(waited)
    done, _ = await asyncio.wait([task], timeout=patience)
    if not done:
        task.cancel()
    assert done, f"it did not come to this within {patience} seconds: {what}"
    return task.result()


def come_to(event: Event, what: str) -> None:
    """Wait until an event is set; ``what`` says that it is."""
    assert event.wait(PATIENCE), f"it did not come to this within {PATIENCE} seconds: {what}"


def until(condition: Callable[[], Any], step: Callable[[], Any], what: str) -> None:
    """Make steps until a condition holds; ``what`` says that it does."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"it did not come to this within {PATIENCE} seconds: {what}"
        step()


def first_line(stream: IO[str]) -> str:
    """The first line that a process writes."""
    return result_of(in_thread(stream.readline))


def answers(address: str, process: Popen) -> bool:
    """Whether the page of a process answers; ``False`` if the process ended before."""
    while process.poll() is None:
        try:
            httpx.get(address, timeout=PATIENCE).raise_for_status()
            return True
        except httpx.ConnectError:
            time.sleep(0.1)
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
