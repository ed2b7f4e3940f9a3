"""A visitor without a browser, who speaks to the server as the page's scripts do."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
from gradio_client.utils import apply_diff

Answer = dict[str, Any]


class RefusedError(Exception):
    """The page was busy, and said so in a sentence."""


class ToldError(Exception):
    """The page answered with a sentence about what was asked."""


class BrokenError(Exception):
    """Something that is neither a result nor a polite refusal."""


class PageClient:
    """One visitor: a browser session of one page.

    Args:
        url: of the page.
        address: the visitor's own, as a proxy would forward it; ``None`` where there is no proxy.
        patience: seconds after which an answer is not waited for any more.
    """

    def __init__(self, url: str, address: str | None = None, patience: float = 60.0):
        self.url, self.session, self.patience = url.rstrip("/"), uuid.uuid4().hex[:12], patience
        headers = {} if address is None else {"x-forwarded-for": address}
        limits = httpx.Limits(max_keepalive_connections=2, keepalive_expiry=1.0)  # before the server ends them
        self.http = httpx.AsyncClient(headers=headers, timeout=patience, limits=limits, trust_env=False)
        self.functions: dict[str, int] = {}  # by kind of question
        self._props: dict[str, Any] = {}  # of views
        self.places: dict[str, list[int]] = {}  # how many others were before a question, by its number
        self._answers: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        self._ended: set[str] = set()  # questions whose last message is here
        self._stream: asyncio.Task[None] | None = None
        self.connected = asyncio.Event()  # the server knows that somebody listens

    async def open(self) -> None:
        """Fetch the page, and what its questions are called."""
        page = await self.http.get(f"{self.url}/")
        config = (await self.http.get(f"{self.url}/config")).raise_for_status().json()
        page.raise_for_status()
        self._props = {each["props"].get("elem_id"): each["props"].get("props") for each in config["components"]}
        kinds = {
            each["id"]: each["props"]["props"]["kind"]
            for each in config["components"]
            if "kind" in (each["props"].get("props") or {})
        }
        for each in config["dependencies"]:
            for number, event in each["targets"]:
                if event == "ask" and each["outputs"] and number in kinds:
                    self.functions[kinds[number]] = each["id"]

    def prop(self, view: str, name: str) -> Any:
        """What the page gives a view."""
        return (self._props[view] or {})[name]

    async def cancel(self, kind: str, number: str) -> None:
        """End what is computed for a question."""
        body = {"session_hash": self.session, "fn_index": self.functions[kind], "event_id": number}
        await self.http.post(f"{self.url}/gradio_api/cancel", json=body)
        self._answers.pop(number, None)

    async def close(self) -> None:
        """Leave."""
        if self._stream is not None:
            self._stream.cancel()
            await asyncio.gather(self._stream, return_exceptions=True)
        await self.http.aclose()

    async def upload(self, content: bytes, name: str) -> str:
        """Send a file; its path on the server."""
        sent = await self.http.post(f"{self.url}/gradio_api/upload", files={"files": (name, content)})
        if sent.status_code in (413, 429):
            raise RefusedError(sent.text)
        return sent.raise_for_status().json()[0]

    async def ask(self, kind: str, wish: dict[str, Any]) -> Any:
        """The whole value of a question's answer.

        Raises:
            RefusedError, ToldError, BrokenError: there is none.
        """
        value: dict[str, Any] = {}
        async for answer in self.answers(kind, wish):
            value |= answer
        return value

    async def answers(self, kind: str, wish: dict[str, Any]) -> AsyncIterator[Any]:
        """The values of a question's answers, as they come."""
        async for answer in self.updates(await self.join(kind, wish)):
            if "error" in answer:
                raise (RefusedError if answer.get("busy") else ToldError)(answer["error"])
            yield answer["value"]

    async def join(self, kind: str, wish: dict[str, Any]) -> str:
        """Ask, and return the number of the question."""
        body = {"fn_index": self.functions[kind], "data": [wish], "session_hash": self.session}
        joined = await self.http.post(f"{self.url}/gradio_api/queue/join", json=body)
        if joined.status_code != 200:
            raise BrokenError(f"{joined.status_code}: {joined.text[:200]}")
        number = joined.json()["event_id"]
        self._answers.setdefault(number, asyncio.Queue())
        self.listen()
        return number

    def listen(self) -> None:
        """Open the stream of answers, unless it is open."""
        if self._stream is None or self._stream.done():
            self._stream = asyncio.create_task(self._listen())

    async def updates(self, number: str) -> AsyncIterator[Answer]:
        """What a channel is given of a question, until it ended."""
        data: Any = None
        while True:
            message = await self._next(number)
            if message["msg"] in ("process_generating", "process_completed"):
                if not message["success"]:
                    raise BrokenError(str(message["output"]))
                new = message["output"].get("data")
                if new:
                    diffs = data is not None and all(isinstance(each, list) for each in new)
                    data = [apply_diff(*pair) for pair in zip(data, new, strict=True)] if diffs else new
                    if not diffs or any(new):
                        answer = data[0]["props"]["answer"]
                        if "ahead" in answer:
                            self.places.setdefault(number, []).append(answer["ahead"])
                        else:
                            yield answer
            if message["msg"] == "process_completed":
                del self._answers[number]
                return
            if message["msg"] in ("unexpected_error", "broken"):
                raise BrokenError(message["message"])

    async def _next(self, number: str) -> dict[str, Any]:
        """The next message about a question."""
        try:
            return await asyncio.wait_for(self._answers[number].get(), self.patience)
        except TimeoutError:
            raise BrokenError(f"nothing was said of a question for {self.patience:g} seconds") from None

    async def _listen(self) -> None:
        """Hand every message to the question that it is about, while there are any. The server closes the stream when
        all is answered, and may not know yet of a question that was just asked."""
        url = f"{self.url}/gradio_api/queue/data"
        try:
            while True:
                last = ""
                async with self.http.stream("GET", url, params={"session_hash": self.session}) as stream:
                    self.connected.set()
                    async for line in stream.aiter_lines():
                        if line.startswith("data:"):
                            message = json.loads(line[5:])
                            last = message["msg"]
                            self._take(message)
                if last != "close_stream":
                    self._break(f"the stream of answers ended with {last or 'nothing'} (status {stream.status_code})")
                if last != "close_stream" or not set(self._answers) - self._ended:
                    return
        except (httpx.HTTPError, asyncio.CancelledError) as error:
            self._break(repr(error))
            raise

    def _take(self, message: dict[str, Any]) -> None:
        number = message.get("event_id")
        if number:
            if message["msg"] == "process_completed":
                self._ended.add(number)
            # an answer may be there before the reply that names the question
            self._answers.setdefault(number, asyncio.Queue()).put_nowait(message)
        elif message["msg"] == "unexpected_error":
            self._break(message["message"])

    def _break(self, reason: str) -> None:
        for answers in self._answers.values():
            answers.put_nowait({"msg": "broken", "message": reason})
