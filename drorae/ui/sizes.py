"""How much a visitor may send: bytes and files of one request, and of an hour. Counted while it arrives, since nobody
need say beforehand how much it is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from drorae.ui.addresses import route_path
from drorae.ui.limits import MB, Limits
from drorae.ui.reach import UPLOAD
from drorae.ui.visitors import address_of

HOUR, MINUTE = 3600.0, 60.0
QUESTION = "A request without files may have {} MB here; send pictures as files."
TOO_LARGE = "A request may bring {} MB of files here; send fewer at a time, or smaller ones."
TOO_MANY = "A request may bring {} files here; send the others after them."
ENOUGH = "Your address has sent {} within an hour, and this page takes no more. Try again later."
CLOSED = "This page has no use for that.\n"
# what Gradio serves for other pages than this one: some of it computes, without waiting in any lane
UNUSED = (
    "/gradio_api/component_server",
    "/gradio_api/process_recording",
    "/gradio_api/vibe-",
    "/gradio_api/undo-vibe-",
    "/gradio_api/proxy=",
)


class Closed:
    """Refuses what Gradio serves for other pages than this one."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        app: ASGIApp = self.app
        if scope["type"] == "http" and route_path(scope).startswith(UNUSED):
            app = PlainTextResponse(CLOSED, 404)
        await app(scope, receive, send)


class Sent:
    """What addresses have sent within the last hour.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._parts: dict[tuple[int, str], list[int]] = {}  # bytes and files by minute and address, oldest first
        self.size: Counter[str] = Counter()  # bytes by address
        self.files: Counter[str] = Counter()

    def add(self, address: str, size: int, files: int) -> None:
        """Count what an address has sent now."""
        self.forget()
        part = self._parts.setdefault((int(self._clock() // MINUTE), address), [0, 0])
        part[0] += size
        part[1] += files
        self.size[address] += size
        self.files[address] += files

    def forget(self) -> None:
        """Drop what is more than an hour old."""
        oldest = (self._clock() - HOUR) // MINUTE
        while self._parts and next(iter(self._parts))[0] <= oldest:
            place = next(iter(self._parts))
            for counter, number in zip((self.size, self.files), self._parts.pop(place), strict=True):
                counter[place[1]] -= number
                if not counter[place[1]]:
                    del counter[place[1]]


class RequestSizes:
    """Refuses requests that bring too much, and those of addresses that have brought too much."""

    def __init__(self, app: ASGIApp, limits: Limits, sent: Sent, refused: Callable[[str], None] = lambda reason: None):
        self.app, self.limits, self.sent, self.refused = app, limits, sent, refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
            return
        body = Body(scope, receive, send, self.limits, self.sent)
        if body.excess(body.announced):
            await body.refuse()
        else:
            await body.serve(self.app)
        if body.refusal is not None:
            self.refused(body.refusal.reason)


@dataclass(frozen=True)
class Excess:
    """Too much of something: what the host is told, and the visitor."""

    reason: str
    status: int
    sentence: str


class Body:
    """The body of one request, counted as it arrives."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, limits: Limits, sent: Sent):
        self.scope, self._receive, self._send = scope, receive, send
        self.limits, self.sent = limits, sent
        self.address = address_of(HTTPConnection(scope))
        self.upload = route_path(scope).rstrip("/") == UPLOAD
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        self.announced = int(length) if length.isascii() and length.isdigit() else 0
        _, options = parse_options_header(headers.get("content-type"))
        self.boundary = b"--" + options.get(b"boundary", b"") if options.get(b"boundary") else b""
        self.size, self.delimiters, self._end = 0, 0, b""
        self.refusal: Excess | None = None
        self.started = False

    @property
    def files(self) -> int:
        """Parts that have begun; the last delimiter begins none."""
        return max(0, self.delimiters - 1)

    def excess(self, more: int = 0) -> Excess | None:
        """What this request has too much of, were there so many more bytes; ``None`` where nothing."""
        limits, size = self.limits, self.size + more
        self.sent.forget()
        if not self.upload:
            if size > limits.body:
                self.refusal = Excess("body", 413, QUESTION.format(limits.body // MB))
        elif size > limits.upload:
            self.refusal = Excess("upload", 413, TOO_LARGE.format(limits.upload // MB))
        elif self.files > limits.upload_files:
            self.refusal = Excess("files", 413, TOO_MANY.format(limits.upload_files))
        elif self.sent.size[self.address] + more > limits.visitor:
            self.refusal = Excess("visitor", 429, ENOUGH.format(f"{limits.visitor // MB} MB of files"))
        elif self.sent.files[self.address] > limits.visitor_files:
            self.refusal = Excess("visitor", 429, ENOUGH.format(f"{limits.visitor_files} files"))
        return self.refusal

    async def serve(self, app: ASGIApp) -> None:
        """Let the request be answered, unless it turns out to bring too much."""
        try:
            await app(self.scope, self.receive, self.send)
        except Exception:
            if self.refusal is None:
                raise
        if self.refusal is not None and not self.started:
            await self.refuse()

    async def receive(self) -> Message:
        """The next message, counted.

        Raises:
            MultiPartException: there is too much, for which Gradio removes what it has written of the files.
        """
        message = await self._receive()
        if message["type"] == "http.request":
            self.count(message.get("body", b""))
            if self.excess():
                raise MultiPartException("too much")
        return message

    def count(self, chunk: bytes) -> None:
        """Count bytes and delimiters of files; one may lie across two chunks."""
        self.size += len(chunk)
        if not self.upload:
            return
        before = self.files
        if self.boundary:
            seen = self._end + chunk
            self.delimiters += seen.count(self.boundary)
            self._end = seen[len(seen) - len(self.boundary) + 1 :]
        self.sent.add(self.address, len(chunk), self.files - before)

    async def send(self, message: Message) -> None:
        """Pass an answer on, unless it is about a request that was refused."""
        if self.refusal is None or self.started:
            self.started = True
            await self._send(message)

    async def refuse(self) -> None:
        """Answer with the reason. The connection ends with it, since the rest of the body is not read."""
        assert self.refusal is not None
        headers = {"connection": "close"} | ({"retry-after": "3600"} if self.refusal.status == 429 else {})
        answer = PlainTextResponse(self.refusal.sentence + "\n", self.refusal.status, headers)
        await answer(self.scope, self._receive, self._send)
