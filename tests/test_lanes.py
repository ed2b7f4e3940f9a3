"""Who waits where: sizes of lanes, shares of visitors, sentences of the page's own, and nobody who left is served."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import gradio as gr
import httpx
import pytest
from conftest import ROOT, served
from gate import PATIENCE, Gate, come_to, finish, in_thread, result_of, within
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from page_client import PageClient, RefusedError, ToldError
from test_turns import wait_for

import drorae.explorer.batch
import drorae.ui.endpoints
from drorae.ui.lanes import LaneQueue
from drorae.ui.limits import LANES, SHARED, SHARES, SIZES, Limits
from drorae.ui.page import build_demo
from drorae.ui.photo import Photos
from drorae.ui.turns import Turns
from drorae.ui.visitors import Visitor

CAT = {"key": "cat", "example": "cat"}
CAT_FILE = str(ROOT / "assets" / "examples" / "cat.jpg")
WAYS = ("gradio_api/run/{}", "gradio_api/api/{}", "gradio_api/run/{}/")


@pytest.fixture
def gate(monkeypatch) -> Iterator[Gate]:
    """Where every photo that the lane *explore* reads waits; what is read is a sign that it was."""
    closed = Gate()

    def routes(photos, wish):
        closed.enter()
        return {"read": wish["key"]}

    monkeypatch.setattr(Photos, "routes", routes)
    yield closed
    closed.open()


@contextmanager
def page(tiny, monkeypatch, sizes=None, shares=None, proxies="") -> Iterator[tuple[str, gr.Blocks]]:
    """A page with other limits."""
    monkeypatch.setenv("DRORAE_PROXIES", proxies)
    demo = build_demo(tiny, "tiny", limits=Limits({**SIZES, **(sizes or {})}, {**SHARES, **(shares or {})}))
    with served(demo) as address:
        yield address, demo


def tell_of_leaving(demo: gr.Blocks, noticed: Event) -> None:
    """Let an event be set once the page has noticed that a visitor left."""
    clean = demo._queue.clean_events

    async def clean_events(**whose):
        await clean(**whose)
        noticed.set()

    demo._queue.clean_events = clean_events


async def refusal_of(client: PageClient, kind: str = "routes", wish: dict | None = None) -> str:
    with pytest.raises(RefusedError) as raised:
        await client.ask(kind, wish or CAT)
    return str(raised.value)


async def opened(*clients: PageClient) -> None:
    for client in clients:
        await client.open()


async def settle(client: PageClient, *numbers: str) -> list:
    """The answers of questions that were asked."""
    return [[each async for each in client.updates(number)][-1]["value"] for number in numbers]


def test_a_full_lane_says_so_in_a_sentence_with_the_place_in_line_and_others_are_open(tiny, monkeypatch, gate):
    async def visit(url):
        busy, late = PageClient(url), PageClient(url)
        await opened(busy, late)
        first = await busy.join("routes", {**CAT, "key": "0"})
        await asyncio.to_thread(gate.wait_for, 1)
        waiting = [await busy.join("routes", {**CAT, "key": key}) for key in "12"]
        sentence = await refusal_of(late)
        assert "2 questions about photos are in line before this one" in sentence
        assert sentence.endswith(".")
        # sampling has a lane of its own: it is answered while exploring stands still
        with pytest.raises(ToldError, match="There is no generator"):
            await late.ask("generate", {"key": "g", "what": "pictures", "generator": "none"})
        rows = await late.ask("photos", {"id": 1, "files": [{"example": "cat"}], "names": ["cat"]})
        assert rows["done"] == 1
        gate.open()
        assert await settle(busy, first, *waiting) == [{"read": key} for key in "012"]
        assert await late.ask("routes", CAT) == {"read": "cat"}  # there is room again
        await busy.close()
        await late.close()

    with page(tiny, monkeypatch, sizes={"explore": 2}) as (url, demo):
        finish(visit(url))
        assert demo._queue.jobs.reasons == {("explore", "full"): 1}


def test_a_visitor_has_a_share_of_a_lane_and_loses_nothing_by_asking_for_more(tiny, monkeypatch, gate):
    async def visit(url):
        greedy, other = PageClient(url), PageClient(url)
        await opened(greedy, other)
        first = await greedy.join("routes", {**CAT, "key": "0"})
        await asyncio.to_thread(gate.wait_for, 1)
        second = await greedy.join("routes", {**CAT, "key": "1"})
        assert "already wait for 2 answers" in await refusal_of(greedy)
        third = await other.join("routes", {**CAT, "key": "2"})
        # the share is one of each lane
        await greedy.ask("photos", {"id": 1, "files": [{"example": "cat"}], "names": ["cat"]})
        gate.open()
        assert await settle(greedy, first, second) == [{"read": "0"}, {"read": "1"}]
        assert await settle(other, third) == [{"read": "2"}]
        assert await greedy.ask("routes", CAT) == {"read": "cat"}
        await greedy.close()
        await other.close()

    with page(tiny, monkeypatch, shares={"explore": 2}) as (url, _):
        finish(visit(url))


@pytest.mark.parametrize("proxies", ["127.0.0.1", "192.0.2.9"])
def test_an_address_has_thirty_shares_and_is_forwarded_by_a_configured_proxy_only(tiny, monkeypatch, gate, proxies):
    async def visit(url):
        crowd = [PageClient(url, "203.0.113.5") for _ in range(SHARED)]
        known, alone = PageClient(url, "203.0.113.5"), PageClient(url, "203.0.113.6")
        await opened(crowd[0], alone)
        for client in (*crowd[1:], known):
            client.functions = crowd[0].functions
        asked = [await crowd[0].join("routes", CAT)]
        await asyncio.to_thread(gate.wait_for, 1)
        asked += [await client.join("routes", CAT) for client in crowd[1:]]
        sentence = await refusal_of(known)
        assert f"Too many people at your address ask at once: {SHARED} questions" in sentence
        if proxies == "127.0.0.1":
            number = await alone.join("routes", CAT)
            gate.open()
            await settle(alone, number)
        else:  # nobody vouches for the addresses, so all are one
            assert await refusal_of(alone) == sentence
            gate.open()
        for client, number in zip(crowd, asked, strict=True):
            assert await settle(client, number) == [{"read": "cat"}]
        for client in (*crowd, known, alone):
            await client.close()

    with page(tiny, monkeypatch, shares={"explore": 1}, proxies=proxies) as (url, _):
        finish(visit(url))


def test_programs_that_name_no_session_are_one_visitor_and_get_the_sentence_as_an_error(tiny, monkeypatch, gate):
    async def visit(url):
        client = PageClient(url)
        await client.open()
        number = await client.join("routes", CAT)
        await asyncio.to_thread(gate.wait_for, 1)
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as http:
            uploaded = await client.upload(Path(CAT_FILE).read_bytes(), "cat.jpg")
            picture = {"path": uploaded, "meta": {"_type": "gradio.FileData"}}
            body = {"data": [picture, None, False]}
            first = (await http.post("gradio_api/call/reconstruct", json=body)).json()["event_id"]
            second = (await http.post("gradio_api/call/reconstruct", json=body)).json()["event_id"]
            refused = await http.get(f"gradio_api/call/reconstruct/{second}")
            assert "event: error" in refused.text
            assert "You already wait for 1 answer here." in refused.text
            gate.open()
            answered = await http.get(f"gradio_api/call/reconstruct/{first}")
            assert "event: complete" in answered.text
        await settle(client, number)
        await client.close()

    with page(tiny, monkeypatch, shares={"explore": 1}) as (url, _):
        finish(visit(url))


def test_the_python_client_is_told_the_sentence(tiny, monkeypatch, gate):
    with page(tiny, monkeypatch, sizes={"explore": 1}) as (url, _):
        client = Client(url, verbose=False)
        visitor = Client(url, verbose=False)

        async def fill():
            page = PageClient(url)
            await page.open()
            asked = [await page.join("routes", CAT)]
            await asyncio.to_thread(gate.wait_for, 1)
            asked.append(await page.join("routes", CAT))
            with pytest.raises(AppError, match="Too many people are here right now: 1 "):
                await asyncio.to_thread(visitor.predict, handle_file(CAT_FILE), api_name="/routing")
            gate.open()
            await settle(page, *asked)
            await page.close()

        finish(fill())
        assert client.predict(handle_file(CAT_FILE), api_name="/routing")["layers"]


def test_who_waits_is_told_how_many_others_are_before_them(tiny, monkeypatch, gate):
    async def visit(url):
        first, second, third, late = crowd = [PageClient(url) for _ in range(4)]
        await opened(*crowd)
        asked = [await first.join("routes", {**CAT, "key": "0"})]
        await asyncio.to_thread(gate.wait_for, 1)
        asked += [await client.join("routes", CAT) for client in (second, third)]
        own = await second.join("routes", {**CAT, "key": "own"})  # after another of its own
        last = await late.join("routes", {**CAT, "key": "last"})
        await third.cancel("routes", asked[2])  # the line moves
        gate.open()
        assert await settle(late, last) == [{"read": "last"}]
        assert await settle(second, asked[1], own) == [{"read": "cat"}, {"read": "own"}]
        assert late.places[last] == [3, 2, 1, 0]
        assert second.places[asked[1]] == [1, 0]
        assert second.places[own] == [2, 1, 0]
        assert first.places == {}
        for client in crowd:
            await client.close()

    with page(tiny, monkeypatch) as (url, _):
        finish(visit(url))


def test_what_comes_in_parts_is_whole_after_a_place_in_line(tiny, monkeypatch):
    gate = Gate()

    def frames(photos, wish):
        gate.enter()
        yield {"sprite": wish["key"], "done": 1, "total": 3}
        yield {"done": 2, "total": 3}
        yield {"sprite": f"all of {wish['key']}", "done": 3, "total": 3}

    monkeypatch.setattr(Photos, "frames", frames)

    async def visit(url):
        crowd = [PageClient(url) for _ in range(3)]
        await opened(*crowd)
        numbers = [await client.join("frames", {**CAT, "key": str(i)}) for i, client in enumerate(crowd)]
        gate.open()
        for i, (client, number) in enumerate(zip(crowd, numbers, strict=True)):
            values = [each["value"] async for each in client.updates(number)]
            parts = [{"sprite": f"{i}", "done": 1}, {"done": 2}, {"sprite": f"all of {i}", "done": 3}]
            assert values[:3] == [{**part, "total": 3} for part in parts]
            await client.close()
        assert crowd[2].places[numbers[2]][0] == 2
        assert crowd[2].places[numbers[2]][-1] == 0

    with page(tiny, monkeypatch) as (url, _):
        finish(visit(url))


def test_a_job_of_a_visitor_who_left_ends_with_its_step(tiny, monkeypatch):
    gate, ended, noticed = Gate(), Event(), Event()

    def frames(photos, wish):
        try:
            for number in range(100):
                gate.enter()
                yield {"done": number, "total": 100}
        finally:
            ended.set()

    monkeypatch.setattr(Photos, "frames", frames)

    async def visit(url):
        client = PageClient(url)
        await client.open()
        await client.join("frames", CAT)
        await asyncio.to_thread(gate.wait_for, 1)
        await within(client.connected.wait(), "the client listens")
        await client.close()
        await asyncio.to_thread(come_to, noticed, "the page noticed that the visitor left")
        gate.let(1)
        await asyncio.to_thread(come_to, ended, "the job ended")

    with page(tiny, monkeypatch) as (url, demo):
        tell_of_leaving(demo, noticed)
        finish(visit(url))
        assert gate.arrived == 1


def test_pictures_that_a_program_asked_for_are_not_read_once_it_left(tiny, monkeypatch):
    gate, explore, noticed, ended = Gate(), drorae.explorer.batch.explore, Event(), Event()

    def wait(*arguments, **settings):
        gate.enter()
        return explore(*arguments, **settings)

    monkeypatch.setattr(drorae.explorer.batch, "explore", wait)

    async def visit(url, demo):
        client = PageClient(url)
        uploaded = await client.upload(Path(CAT_FILE).read_bytes(), "cat.jpg")
        picture = {"path": uploaded, "meta": {"_type": "gradio.FileData"}}
        body = {"data": [[picture] * 50, None, False]}
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as http:
            number = (await http.post("gradio_api/call/batch", json=body)).json()["event_id"]
            async with http.stream("GET", f"gradio_api/call/batch/{number}"):
                await asyncio.to_thread(gate.wait_for, 1)
        await asyncio.to_thread(come_to, noticed, "the page noticed that the program left")
        monkeypatch.setattr(demo._queue.jobs, "note", lambda job: ended.set())
        gate.open()
        await asyncio.to_thread(come_to, ended, "the job ended")
        await client.close()

    with page(tiny, monkeypatch) as (url, demo):
        tell_of_leaving(demo, noticed)
        finish(visit(url, demo))
        assert gate.arrived == 1


def test_photos_of_two_visitors_are_read_in_turns(tiny, monkeypatch):
    gate, explore, read, turns = Gate(), drorae.explorer.batch.explore, [], Turns()

    def wait(*arguments, **settings):
        gate.enter()
        return explore(*arguments, **settings)

    def upload(file, name):
        read.append(name)
        return drorae.ui.many_photos.load_image(CAT_FILE)

    monkeypatch.setattr(drorae.explorer.batch, "explore", wait)
    monkeypatch.setattr("drorae.ui.many_photos.read_upload", upload)
    monkeypatch.setattr("drorae.ui.many_photos.BATCHES", turns)

    async def visit(url, demo):
        first, second = PageClient(url), PageClient(url)
        await opened(first, second)
        wish = {"id": 1, "files": [{"example": "cat"}] * 3}
        long = await first.join("photos", {**wish, "names": ["a0", "a1", "a2"]})
        await asyncio.to_thread(gate.wait_for, 1)
        short = await second.join("photos", {**wish, "names": ["b0", "b1", "b2"]})
        await asyncio.to_thread(wait_for, turns, 2)
        gate.open()
        for client, number in ((first, long), (second, short)):
            assert (await settle(client, number))[0]["done"] == 3
            await client.close()

    with page(tiny, monkeypatch) as (url, demo):
        finish(visit(url, demo))
    assert read == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_batches_of_programs_take_turns_with_those_of_the_page(tiny, monkeypatch):
    turns, read = Turns(), []

    def upload(file, name):
        read.append(name)
        return drorae.ui.many_photos.load_image(CAT_FILE)

    monkeypatch.setattr("drorae.ui.endpoints.BATCHES", turns)
    monkeypatch.setattr("drorae.ui.endpoints.open_upload", upload)
    with turns.turn():
        rows = in_thread(drorae.ui.endpoints.batch, tiny, ["a.jpg", "b.jpg"])
        wait_for(turns, 2)
        assert read == []
    assert [row["picture"] for row in result_of(rows)] == read == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("lane", LANES)
def test_every_lane_has_its_own_size_and_share(tiny, lane, monkeypatch):
    sizes = {name: number for number, name in enumerate(LANES, 2)}
    shares = {name: 20 + number for number, name in enumerate(LANES)}
    queue = build_demo(tiny, "tiny", limits=Limits(sizes, shares))._queue
    line, served = [], []
    monkeypatch.setattr(queue, "waiting", lambda name: line if name == lane else [])
    monkeypatch.setattr(queue, "running", lambda name: served if name == lane else [])
    monkeypatch.setattr("drorae.ui.lanes.asker_of", lambda visitor: visitor)
    me, other = Visitor("me", "192.0.2.1"), Visitor("other", "192.0.2.2")

    def reason() -> str | None:
        refusal = queue.refusal(lane, me)
        return refusal and refusal.reason

    line[:] = [other] * (sizes[lane] - 1)
    assert reason() is None
    line.append(other)
    assert reason() == "full"
    line[:], served[:] = [], [me] * (shares[lane] - 1)
    assert reason() is None
    served.append(me)
    assert reason() == "visitor"
    neighbours = [Visitor(str(number), me.address) for number in range(SHARED * shares[lane])]
    served[:] = neighbours[1:]
    assert reason() is None
    served[:] = neighbours
    assert reason() == "address"


def test_no_function_that_computes_is_outside_the_lanes(tiny):
    demo = build_demo(tiny, "tiny", switch=True)
    assert isinstance(demo._queue, LaneQueue)
    assert demo._queue.max_size == sum(SIZES.values()) + 200
    assert demo.api_open is False
    outside = {fn.fn.__qualname__ for fn in demo.fns.values() if fn.fn and fn.concurrency_id not in LANES}
    # what they do: say that something failed, or was cancelled
    assert outside <= {"failure_answer", "answer_cancel", "end_load"}
    queued = [fn for fn in demo.fns.values() if fn.concurrency_id in LANES]
    assert queued
    assert all(fn.queue for fn in queued)
    assert not [block for block in demo.blocks.values() if getattr(block, "server_functions", None)]


def test_every_function_behind_an_event_is_closed_to_direct_calls(tiny, monkeypatch):
    with page(tiny, monkeypatch) as (url, demo):
        lanes = [fn for fn in demo.fns.values() if fn.concurrency_id in LANES]
        for fn in lanes:
            for way in WAYS:
                body = {"data": [None] * len(fn.inputs), "fn_index": fn._id, "session_hash": "x"}
                answer = httpx.post(url + way.format(fn.api_name or "predict"), json=body)
                assert answer.status_code == 404, (fn.fn, way)


@pytest.mark.parametrize(
    "path", ["component_server", "component_server/", "process_recording", "vibe-edit", "vibe-code/"]
)
def test_what_gradio_serves_for_other_pages_is_closed(tiny_url, path):
    answer = httpx.post(f"{tiny_url}gradio_api/{path}", json={})
    assert (answer.status_code, answer.text) == (404, "This page has no use for that.\n")


def test_questions_that_the_page_does_not_know_are_refused_without_an_error_of_the_server(tiny_url):
    for number in (10**6, -1):
        body = {"data": [], "fn_index": number, "session_hash": "x"}
        assert httpx.post(f"{tiny_url}gradio_api/queue/join", json=body).status_code == 400
