"""Who still listens: visitors by the streams that they hold open. Nothing is computed for who does not.

Gradio notices that somebody left where a stream of answers breaks off, and not where none was ever opened. A browser
holds one open as long as it shows the page, and another while it waits; programs open one when they have asked.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Receive, Scope, Send

from drorae.ui.addresses import route_path

PATIENCE = 60.0  # seconds: programs ask and listen in two steps, and people may type them
NOTED = "drorae.listeners"  # in the scope of a request: streams of this application are noted
ANSWERS, PAGE, CALL = "/gradio_api/queue/data", "/gradio_api/heartbeat/", "/gradio_api/call/"


class Listeners:
    """Visitors with an open stream, by name. All is called on the event loop of the server.

    Args:
        leave: what becomes of who has not listened for a while.
        patience: how long that is, seconds.
    """

    def __init__(self, leave: Callable[[str], Coroutine[Any, Any, None]], patience: float = PATIENCE):
        self.patience = patience
        self._leave = leave
        self._streams: Counter[str] = Counter()
        self._leaving: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._streams

    @contextmanager
    def stream(self, *names: str) -> Iterator[None]:
        """A stream that is open until the block ends, of a visitor who may have several names."""
        for name in names:
            self._streams[name] += 1
            if timer := self._leaving.pop(name, None):
                timer.cancel()
        try:
            yield
        finally:
            for name in names:
                self._streams[name] -= 1
                if not self._streams[name]:
                    del self._streams[name]
                    self.expect(name)

    def expect(self, name: str) -> None:
        """Let somebody be gone, unless they listen before one has waited long enough."""
        if name not in self and name not in self._leaving:
            self._leaving[name] = asyncio.get_running_loop().call_later(self.patience, self._give_up, name)

    def _give_up(self, name: str) -> None:
        del self._leaving[name]
        task = asyncio.get_running_loop().create_task(self._leave(name))
        self._tasks.add(task)  # the loop itself would forget it
        task.add_done_callback(self._tasks.discard)


class NotedStreams:
    """Tells the page's queue which streams are open."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        blocks = getattr(scope.get("app"), "get_blocks", None) if scope["type"] == "http" else None
        queue: Any = blocks()._queue if blocks else None  # none below an application that is not Gradio's
        listeners: Listeners | None = getattr(queue, "listeners", None)
        if listeners is None:  # another page than ours
            await self.app(scope, receive, send)
            return
        scope[NOTED] = True
        with listeners.stream(*stream_names(scope, queue.names_of)):
            await self.app(scope, receive, send)


def stream_names(scope: Scope, names_of: Callable[[str], tuple[str, ...]]) -> tuple[str, ...]:
    """Who opens a stream with a request; nobody where it is something else.

    Args:
        names_of: who asked, by the number of the question.
    """
    path = route_path(scope)
    if scope["method"] != "GET":
        return ()
    if path == ANSWERS:
        return tuple(parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [])[:1])
    if path.startswith(PAGE):
        return (path.removeprefix(PAGE),)
    if path.startswith(CALL):
        return names_of(path.rpartition("/")[2])
    return ()
