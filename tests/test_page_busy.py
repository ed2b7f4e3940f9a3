"""A page that is too busy, in a real browser: it says so where the answer would stand, and loses nothing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from threading import Event

import pytest
from browser import NEEDS_CHROMIUM, Watched
from conftest import ROOT, served
from gate import Gate, come_to, in_thread, result_of
from page_client import PageClient
from playwright.sync_api import expect

from drorae.ui.limits import SHARES, SIZES, Limits
from drorae.ui.page import build_demo
from drorae.ui.photo import Photos

pytestmark = NEEDS_CHROMIUM

COFFEE = ROOT / "assets" / "examples" / "coffee.jpg"
FULL = re.compile("Too many people are here right now: 1 questions? about photos")


@pytest.fixture
def gate(monkeypatch) -> Iterator[Gate]:
    """Where other visitors' photos wait."""
    closed, routes = Gate(), Photos.routes

    def wait(photos, wish):
        if str(wish.get("key")).startswith("other"):
            closed.enter()
        return routes(photos, wish)

    monkeypatch.setattr(Photos, "routes", wait)
    yield closed
    closed.open()


def test_a_full_lane_is_told_in_the_bar_and_the_photo_can_be_asked_for_again(browser, tiny, gate):
    demo = build_demo(tiny, "tiny", limits=Limits({**SIZES, "explore": 1}))
    with served(demo) as url:
        view = Watched(browser, url)
        view.know("standing", "cat")
        view.know("tiles", "cat")
        full = Event()
        others = in_thread(asyncio.run, fill(url, gate, full))
        come_to(full, "the lane is full")
        view.upload(COFFEE)
        failure = view.page.locator("#bar [data-part=failure]")
        expect(failure).to_contain_text(FULL)
        assert view.page.evaluate("[store.state.photo, store.data('routes') !== null]") == ["cat", True]
        tray = view.page.locator("#bar [data-part=tray] button").first
        expect(tray).to_have_attribute("title", re.compile("coffee"))
        gate.open()
        result_of(others)
        failure.get_by_role("button", name="Try again").click()
        view.page.wait_for_function("store.photo()?.name === 'coffee.jpg' && store.data('routes') !== null")
        expect(failure).to_be_hidden()
        view.check()
        view.page.close()


async def fill(url: str, gate: Gate, full: Event) -> None:
    """Fill the lane, say so, and stay for the answers."""
    client = PageClient(url)
    await client.open()
    wishes = [{"key": key, "example": "cat"} for key in ("other 1", "other 2")]
    numbers = [await client.join("routes", wishes[0])]
    await asyncio.to_thread(gate.wait_for, 1)
    numbers.append(await client.join("routes", wishes[1]))
    full.set()
    for number in numbers:
        async for _ in client.updates(number):
            pass
    await client.close()


def test_who_waits_sees_how_many_others_are_before_them(browser, tiny, gate):
    with served(build_demo(tiny, "tiny")) as url:
        view = Watched(browser, url)
        view.know("standing", "cat")
        view.know("tiles", "cat")
        place, there = view.page.locator("#bar [data-part=place]"), Event()
        expect(place).to_be_empty()
        others = in_thread(asyncio.run, line_up(url, gate, there))
        come_to(there, "three others are in line")
        view.upload(COFFEE)
        expect(place).to_have_text("3 others are before you.")
        expect(place).to_have_attribute("role", "status")
        gate.let(1)
        expect(place).to_have_text("2 others are before you.")
        gate.let(1)
        expect(place).to_have_text("1 other is before you.")
        gate.open()
        view.page.wait_for_function("store.photo()?.name === 'coffee.jpg' && store.data('routes') !== null")
        expect(place).to_be_empty()
        result_of(others)
        view.check()
        view.page.close()


async def line_up(url: str, gate: Gate, there: Event) -> None:
    """Three visitors who ask one after the other, say so, and stay for the answers."""
    crowd, numbers = [PageClient(url) for _ in range(3)], []
    for client in crowd:
        await client.open()
        numbers.append(await client.join("routes", {"key": f"other {len(numbers)}", "example": "cat"}))
        await asyncio.to_thread(gate.wait_for, 1)
    there.set()
    for client, number in zip(crowd, numbers, strict=True):
        async for _ in client.updates(number):
            pass
        await client.close()


def test_a_visitor_with_no_share_is_told_where_each_view_tells_its_failures(browser, tiny):
    limits = Limits(SIZES, {**SHARES, "photos": 0, "load": 0, "layers": 0})
    with served(build_demo(tiny, "tiny", switch=True, limits=limits)) as url:
        view = Watched(browser, url)
        page = view.page
        view.know("routes", "cat")
        sentence = "You already wait for 0 answers here. Try again when one of them is there."
        view.open("photos")
        page.get_by_role("button", name="examples").first.click()
        expect(page.locator("#photos [data-part=problem]")).to_have_text(sentence)
        expect(page.locator("#photos [data-part=again]")).to_be_visible()
        view.open("layers")
        expect(page.locator("#layers")).to_contain_text(sentence)
        expect(page.locator("#layers").get_by_role("button", name="Try again").first).to_be_visible()
        view.open("about")
        facts = page.locator("#about").inner_text()
        page.locator("#model-load button, button#model-load").first.click()
        expect(page.locator("#model-status")).to_contain_text(sentence)
        expect(page.locator("#model-status [role=alert]")).to_be_visible()
        expect(page.locator("#model-load button, button#model-load").first).to_be_enabled()
        assert page.locator("#about [data-testid=markdown]").count() > 0
        assert len(page.locator("#about").inner_text()) >= len(facts) - 200
        expect(page.locator(".toast-body")).to_have_count(0)  # it stands in the page, not beside it
        view.check()
        page.close()
