"""Nothing is computed for who does not listen for the answer, and nobody waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

import gradio as gr
import httpx
import pytest
from conftest import ROOT, served
from gate import PATIENCE, Gate, come_to, finish, within
from page_client import PageClient
from test_lanes import tell_of_leaving

from drorae.ui.jobs import LEFT
from drorae.ui.listeners import PATIENCE as LONG
from drorae.ui.listeners import Listeners, stream_names
from drorae.ui.page import build_demo
from drorae.ui.photo import Photos

CAT_FILE = ROOT / "assets" / "examples" / "cat.jpg"


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """The photos that were read."""
    keys: list[str] = []

    def routes(photos, wish):
        keys.append(wish["key"])
        return {"read": wish["key"]}

    monkeypatch.setattr(Photos, "routes", routes)
    return keys


@contextmanager
def page(tiny) -> Iterator[tuple[str, gr.Blocks]]:
    """A page, once its functions are those of the test."""
    demo = build_demo(tiny, "tiny")
    with served(demo) as url:
        yield url, demo


def photo(key: str) -> dict:
    return {"key": key, "example": "cat"}


class Raw:
    """A program that asks, and does nothing else unless it is told to."""

    def __init__(self, url: str, session: str, functions: dict[str, int]):
        self.http = httpx.AsyncClient(base_url=url, timeout=PATIENCE, trust_env=False)
        self.session, self.functions = session, functions

    async def join(self, key: str, kind: str = "routes") -> str:
        body = {"fn_index": self.functions[kind], "data": [photo(key)], "session_hash": self.session}
        return (await self.http.post("gradio_api/queue/join", json=body)).raise_for_status().json()["event_id"]

    def stream(self, path: str = "gradio_api/queue/data"):
        named = {} if self.session in path else {"session_hash": self.session}
        return self.http.stream("GET", path, params=named)


async def opened(url: str) -> PageClient:
    client = PageClient(url)
    await client.open()
    return client


def noted(demo: gr.Blocks, outcome: str) -> Event:
    """Is set once a job ended so."""
    seen, note = Event(), demo._queue.jobs.note

    def look(job):
        note(job)
        if job.outcome == outcome:
            seen.set()

    demo._queue.jobs.note = look
    return seen


def test_who_never_listens_holds_up_nobody_and_is_not_computed_for(tiny, read):
    async def visit(url, demo):
        client = await opened(url)
        raw = Raw(url, "raw", client.functions)
        await raw.join("never")
        assert await client.ask("routes", photo("other")) == {"read": "other"}
        assert read == ["other"]
        assert len(demo._queue.waiting("explore")) == 1  # for a while: who asked may be slow
        async with raw.stream() as stream:  # and is answered then
            async for line in stream.aiter_lines():
                if "process_completed" in line:
                    break
        assert read == ["other", "never"]
        await raw.http.aclose()
        await client.close()

    with page(tiny) as (url, demo):
        finish(visit(url, demo))


def test_who_does_not_listen_for_long_has_left(tiny, read):
    async def visit(url, demo):
        client, left = await opened(url), noted(demo, LEFT)
        raw = Raw(url, "raw", client.functions)
        demo._queue.listeners.patience = 0
        await raw.join("never")
        demo._queue.listeners.patience = LONG
        await raw.http.aclose()
        await asyncio.to_thread(come_to, left, "the page noticed that nobody listens")
        assert await client.ask("routes", photo("other")) == {"read": "other"}
        await client.close()

    with page(tiny) as (url, demo):
        finish(visit(url, demo))
    assert read == ["other"]
    assert demo._queue.waiting("explore") == []
    assert demo._queue.jobs.outcomes["explore", LEFT] == 1
    assert "raw" not in demo._queue.pending_messages_per_session
    assert "raw" not in demo._queue.pending_event_ids_session


def test_who_disconnects_at_once_is_not_computed_for(tiny, read, monkeypatch):
    gate, routes, gone = Gate(), Photos.routes, Event()

    def hold(photos, wish):
        if wish["key"] == "first":
            gate.enter()
        return routes(photos, wish)

    monkeypatch.setattr(Photos, "routes", hold)

    async def visit(url):
        client = await opened(url)
        first = await client.join("routes", photo("first"))
        await asyncio.to_thread(gate.wait_for, 1)
        raw = Raw(url, "raw", client.functions)
        await raw.join("gone")
        async with raw.stream():
            pass
        await raw.http.aclose()
        await asyncio.to_thread(come_to, gone, "the page noticed that the program left")
        gate.open()
        async for _ in client.updates(first):
            pass
        assert await client.ask("routes", photo("last")) == {"read": "last"}
        await client.close()

    with page(tiny) as (url, demo):
        tell_of_leaving(demo, gone)
        finish(visit(url))
    assert read == ["first", "last"]


def test_a_job_ends_when_whoever_showed_the_page_leaves_before_the_answers_are_listened_to(tiny, monkeypatch):
    """A browser has a stream of its own as long as the page is there, and opens another when it has asked."""
    gate, ended, left = Gate(), Event(), Event()

    def frames(photos, wish):
        try:
            for number in range(100):
                gate.enter()
                yield {"done": number, "total": 100}
        finally:
            ended.set()

    monkeypatch.setattr(Photos, "frames", frames)

    async def visit(url):
        client = await opened(url)
        raw = Raw(url, "raw", client.functions)
        async with raw.stream("gradio_api/heartbeat/raw"):
            await raw.join("x", "frames")
            await asyncio.to_thread(gate.wait_for, 1)  # it is computed: the page is there
        await raw.http.aclose()
        await asyncio.to_thread(come_to, left, "the page noticed that nobody listens")
        gate.let(1)
        await asyncio.to_thread(come_to, ended, "the job ended")
        await client.close()

    with page(tiny) as (url, demo):
        tell_of_leaving(demo, left)
        demo._queue.listeners.patience = 0
        finish(visit(url))
    assert gate.arrived == 1


def test_a_program_that_asks_and_listens_in_two_steps_is_answered_when_it_listens(tiny, read):
    async def visit(url, demo):
        client = await opened(url)
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, trust_env=False) as http:
            uploaded = await client.upload(CAT_FILE.read_bytes(), "cat.jpg")
            body = {"data": [{"path": uploaded, "meta": {"_type": "gradio.FileData"}}, None, False]}
            numbers = [(await http.post("gradio_api/call/routing", json=body)).json()["event_id"] for _ in range(2)]
            assert await client.ask("routes", photo("other")) == {"read": "other"}
            assert len(demo._queue.waiting("explore")) == 2
            for number in numbers:
                answer = await http.get(f"gradio_api/call/routing/{number}")
                assert "event: complete" in answer.text
        await client.close()

    with page(tiny) as (url, demo):
        finish(visit(url, demo))


def test_who_listens_by_one_of_two_names_has_not_left(tiny, read, monkeypatch):
    """Programs that name no session are known by their question and by their address."""
    gate, routes = Gate(), Photos.routes

    def hold(photos, wish):
        gate.enter()
        return routes(photos, wish)

    monkeypatch.setattr(Photos, "routes", hold)

    async def visit(url, demo):
        client = await opened(url)
        first = await client.join("routes", photo("first"))
        await asyncio.to_thread(gate.wait_for, 1)
        body = {"data": [{"path": await client.upload(CAT_FILE.read_bytes(), "cat.jpg")}, None, False]}
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, trust_env=False) as http:
            number = (await http.post("gradio_api/call/routing", json=body)).json()["event_id"]
        queue = demo._queue
        name, other = queue.names_of(number)
        assert other == "none at 127.0.0.1"
        with queue.listeners.stream(other):
            await queue.leave(name)
            assert [event._id for event in queue.waiting("explore")] == [number]
        await queue.leave(name)
        assert queue.waiting("explore") == []
        gate.open()
        async for _ in client.updates(first):
            pass
        await client.close()

    with page(tiny) as (url, demo):
        finish(visit(url, demo))
    assert read == ["first"]


def test_somebody_is_there_as_long_as_one_stream_is_open():
    async def streams():
        gone = asyncio.Queue()
        listeners = Listeners(gone.put, patience=0)
        with listeners.stream("a", "b"):
            with listeners.stream("a"):
                assert "a" in listeners
            listeners.expect("a")  # is there, so nobody waits for that
            assert "a" in listeners
            assert "c" not in listeners
        assert "a" not in listeners
        assert {await within(gone.get(), "somebody left") for _ in range(2)} == {"a", "b"}
        listeners.expect("c")
        listeners.expect("c")
        with listeners.stream("c"):  # comes in time
            await asyncio.sleep(0)
        assert await within(gone.get(), "somebody left") == "c"
        assert gone.empty()
        assert not listeners._leaving
        assert not listeners._streams

    finish(streams())


@pytest.mark.parametrize(
    ("method", "path", "query", "names"),
    [
        ("GET", "/gradio_api/queue/data", "session_hash=a%20b", ("a b",)),
        ("GET", "/gradio_api/queue/data", "", ()),
        ("GET", "/below/gradio_api/queue/data", "session_hash=s", ("s",)),
        ("GET", "/gradio_api/heartbeat/s", "", ("s",)),
        ("GET", "/gradio_api/call/routing/7", "", ("who asked 7",)),
        ("GET", "/gradio_api/call/v2/routing/7", "", ("who asked 7",)),
        ("POST", "/gradio_api/call/routing", "", ()),
        ("POST", "/gradio_api/queue/join", "session_hash=s", ()),
        ("GET", "/", "session_hash=s", ()),
    ],
)
def test_streams_by_their_addresses(method, path, query, names):
    scope = {"method": method, "path": path, "query_string": query.encode(), "root_path": "/below"}
    assert stream_names(scope, lambda number: (f"who asked {number}",)) == names
