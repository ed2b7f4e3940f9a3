"""Who asks: addresses, and who may speak for others."""

from __future__ import annotations

import os

import pytest
from gate import finish
from starlette.requests import Request

from drorae.ui.visitors import VOUCHED, Forwarded, Visitor, address_of, visitor_of, vouch
from drorae.ui.web import web_options


def request(host: str | None = "203.0.113.1", **headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "client": host and (host, 1), "headers": raw})


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("203.0.113.1", "203.0.113.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.1", "203.0.113.1"),
        ("x" * 500, "x" * 64),
        (None, "unknown"),
    ],
)
def test_an_address_of_ipv6_is_its_network(host, address):
    assert address_of(request(host)) == address


def test_who_names_no_session_is_known_by_address():
    assert visitor_of(request(), "s") == Visitor("s", "203.0.113.1")
    assert visitor_of(request(), None) == visitor_of(request(), "") == Visitor("none at 203.0.113.1", "203.0.113.1")


def test_only_this_process_speaks_for_others():
    vouched = vouch(request("198.51.100.7"))
    inside = request("127.0.0.1", **{VOUCHED: vouched[VOUCHED]})
    assert visitor_of(inside, "shared") == Visitor("none at 198.51.100.7", "198.51.100.7")
    outside = request("203.0.113.1", **{VOUCHED: f"{'0' * 32} 198.51.100.7"})
    assert visitor_of(outside, "s") == Visitor("s", "203.0.113.1")


async def address_behind(proxies: list[str], peer: str, forwarded: str) -> str:
    seen = []

    async def app(scope, receive, send):
        seen.append(address_of(Request(scope)))

    scope = {"type": "http", "client": (peer, 1), "headers": [(b"x-forwarded-for", forwarded.encode())]}
    await Forwarded(app, proxies)(scope, None, None)
    return seen[0]


@pytest.mark.parametrize(
    ("proxies", "peer", "forwarded", "address"),
    [
        ([], "10.0.0.1", "203.0.113.1", "10.0.0.1"),
        (["10.0.0.0/8"], "10.0.0.1", "203.0.113.1", "203.0.113.1"),
        (["10.0.0.0/8"], "192.0.2.1", "203.0.113.1", "192.0.2.1"),
        # what a visitor adds stands before what the proxies add
        (["10.0.0.0/8"], "10.0.0.1", "198.51.100.1, 203.0.113.1, 10.2.0.1", "203.0.113.1"),
        (["192.0.2.1"], "192.0.2.1", "2001:db8::5", "2001:db8::/64"),
    ],
)
def test_a_proxy_is_believed_if_it_is_configured(proxies, peer, forwarded, address):
    assert finish(address_behind(proxies, peer, forwarded)) == address


@pytest.mark.parametrize(("before", "after"), [(None, ""), ("10.0.0.1", "10.0.0.1")])
def test_the_server_itself_believes_nobody_unless_its_own_variable_says_so(monkeypatch, before, after):
    environment = {name: value for name, value in os.environ.items() if name != "FORWARDED_ALLOW_IPS"}
    environment |= {} if before is None else {"FORWARDED_ALLOW_IPS": before}
    monkeypatch.setattr(os, "environ", environment)  # uvicorn reads it when it is started, later
    web_options()
    assert environment["FORWARDED_ALLOW_IPS"] == after
