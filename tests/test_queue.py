"""The queue goes on where Gradio's would stop, and ends no other question than it was told to."""

from __future__ import annotations

import asyncio
from threading import Event

import gradio.queueing
import httpx
import pytest
from conftest import served
from gate import PATIENCE, Gate, come_to, finish
from page_client import PageClient

from drorae.ui.page import build_demo
from drorae.ui.photo import Photos


@pytest.fixture
def pictures(monkeypatch) -> Gate:
    """Photos called held wait there until the test lets them go on; all others are read at once."""
    gate = Gate()

    def routes(photos, wish):
        if wish["key"].startswith("held"):
            gate.enter()
        return {"read": wish["key"]}

    monkeypatch.setattr(Photos, "routes", routes)
    return gate


@pytest.fixture
def demo(tiny, pictures):
    """A page whose functions are those of the test."""
    return build_demo(tiny, "tiny")


def photo(key: str) -> dict:
    return {"key": key, "example": "cat"}


async def opened(url: str) -> PageClient:
    client = PageClient(url)
    await client.open()
    return client


async def end(client: PageClient, number: str, cancelling: Event, pictures: Gate) -> None:
    """Cancel a question; what is held goes on once the server was asked to."""
    asked = asyncio.create_task(client.cancel("routes", number))
    await asyncio.to_thread(come_to, cancelling, "the server was asked to cancel")
    pictures.open()
    await asked


async def answer_to(client: PageClient, number: str):
    """The last value that a question was answered with."""
    return [answer["value"] async for answer in client.updates(number)][-1]


def test_a_session_called_by_an_empty_name_stops_nothing(demo):
    async def visit(url):
        client = await opened(url)
        body = {"fn_index": client.functions["routes"], "data": [photo("nameless")], "session_hash": ""}
        answer = await client.http.post(f"{url}gradio_api/queue/join", json=body)
        assert answer.json()["event_id"] in demo._queue.pending_messages_per_session  # which is its session, too
        for key in ("first", "second"):
            assert await client.ask("routes", photo(key)) == {"read": key}
        await client.close()

    with served(demo) as url:
        finish(visit(url))


def test_who_left_with_their_messages_stops_nothing(demo, pictures):
    async def visit(url):
        client, left = await opened(url), await opened(url)
        first = await client.join("routes", photo("held"))
        await asyncio.to_thread(pictures.wait_for, 1)
        await left.join("routes", photo("left"))
        del demo._queue.pending_messages_per_session[left.session]
        pictures.open()
        assert await answer_to(client, first) == {"read": "held"}
        assert await client.ask("routes", photo("next")) == {"read": "next"}
        await left.close()
        await client.close()

    with served(demo) as url:
        finish(visit(url))


def test_what_cannot_be_told_to_those_who_wait_stops_nothing(demo, pictures, caplog):
    def place(*args):
        raise ValueError("of a kind nobody thought of")

    async def visit(url):
        one, other = await opened(url), await opened(url)
        first = await one.join("routes", photo("held"))
        await asyncio.to_thread(pictures.wait_for, 1)
        second = await other.join("routes", photo("other"))
        pictures.open()
        assert await answer_to(one, first) == {"read": "held"}
        assert await answer_to(other, second) == {"read": "other"}
        await one.close()
        await other.close()

    demo._queue.place = place
    with served(demo) as url:
        finish(visit(url))
    assert "Those who wait could not be told: builtins.ValueError" in caplog.text


def test_a_question_is_ended_by_its_number_and_no_other_of_its_kind(demo, pictures, cancelling):
    """A request to cancel may come when the visitor has asked something else."""

    async def visit(url):
        client = await opened(url)
        first = await client.join("routes", photo("first"))
        assert await answer_to(client, first) == {"read": "first"}
        second = await client.join("routes", photo("held"))
        await asyncio.to_thread(pictures.wait_for, 1)
        await end(client, first, cancelling, pictures)
        assert await answer_to(client, second) == {"read": "held"}
        await client.close()

    with served(demo) as url:
        finish(visit(url))


def test_a_question_that_is_served_is_ended(demo, pictures, cancelling):
    async def visit(url):
        client = await opened(url)
        number = await client.join("routes", photo("held"))
        await asyncio.to_thread(pictures.wait_for, 1)
        await end(client, number, cancelling, pictures)
        assert demo._queue.running("explore") == []
        assert demo._queue.jobs.outcomes["explore", "stopped"] == 1
        assert await client.ask("routes", photo("next")) == {"read": "next"}
        await client.close()

    with served(demo) as url:
        finish(visit(url))


def test_a_question_that_is_not_ended_before_it_began_is_served(demo, monkeypatch):
    """Gradio may cancel a task before its first step, in the place of another one of the same visitor and kind."""
    cancelled, set_task_name = [], gradio.queueing.set_task_name

    def cancel_first(task, *names):
        set_task_name(task, *names)
        if not cancelled:
            cancelled.append(task.cancel())

    monkeypatch.setattr(gradio.queueing, "set_task_name", cancel_first)

    async def visit(url):
        client = await opened(url)
        for key in ("first", "second"):
            assert await client.ask("routes", photo(key)) == {"read": key}
        await client.close()

    with served(demo) as url:
        finish(visit(url))
    assert cancelled == [True]
    assert demo._queue.event_queue_per_concurrency_id["explore"].current_concurrency == 0
    assert not any(demo._queue.active_jobs)


def test_a_question_that_is_ended_before_it_began_is_not_served(demo, pictures, monkeypatch):
    set_task_name = gradio.queueing.set_task_name
    numbers = []

    def end_first(task, session, function, number, batch):
        set_task_name(task, session, function, number, batch)
        if not numbers:
            numbers.append(number)
            task.cancel()
            numbers.append(
                asyncio.get_running_loop().create_task(demo._queue.remove_from_queue(number))
            )  # as /cancel does

    monkeypatch.setattr(gradio.queueing, "set_task_name", end_first)

    async def visit(url):
        client = await opened(url)
        body = {"fn_index": client.functions["routes"], "data": [photo("held")], "session_hash": client.session}
        async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as http:
            await http.post(f"{url}gradio_api/queue/join", json=body)
        assert await client.ask("routes", photo("next")) == {"read": "next"}
        await client.close()

    with served(demo) as url:
        finish(visit(url))
    assert pictures.arrived == 0
