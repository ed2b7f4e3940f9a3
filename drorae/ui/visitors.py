"""Who asks: a browser session, and the address it comes from. What a proxy says of it counts if it is configured."""

from __future__ import annotations

import hmac
import ipaddress
import os
import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

NOWHERE = "unknown"
VOUCHED = "x-drorae-visitor"  # a header of requests that this process sends to itself for somebody
_SECRET = secrets.token_hex(16)


class Visitor(NamedTuple):
    """Who is limited: ``session`` is the browser's own word, ``address`` the network's."""

    session: str
    address: str


class Forwarded:
    """Takes the visitor's address from ``X-Forwarded-For``, where the request comes from a configured proxy.

    Uvicorn takes the word of everything on this machine unless ``FORWARDED_ALLOW_IPS`` says otherwise, so that has to
    be set before it starts, see :func:`trust_nobody`.
    """

    def __init__(self, app: ASGIApp, proxies: Sequence[str] = ()):
        self.app: Any = ProxyHeadersMiddleware(app, list(proxies)) if proxies else app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        await self.app(scope, receive, send)


def trust_nobody() -> None:
    """Keep the server itself from believing ``X-Forwarded-For``, unless its own variable says whom to believe."""
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "")


def address_of(connection: HTTPConnection) -> str:
    """Address of a visitor; of IPv6 its network, since a house has 2 to the power of 64 of them."""
    host = connection.client.host if connection.client else NOWHERE
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host[:64]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def visitor_of(connection: HTTPConnection, session: str | None) -> Visitor:
    """Who asks. Programs that name no session are one together for each address, and so are agents: their questions
    this process sends to itself, in a session of its own."""
    secret, _, address = connection.headers.get(VOUCHED, "").partition(" ")
    if hmac.compare_digest(secret.encode(), _SECRET.encode()):
        return Visitor(f"none at {address}", address)
    address = address_of(connection)
    return Visitor(session or f"none at {address}", address)


def vouch(connection: HTTPConnection) -> dict[str, str]:
    """Headers by which :func:`visitor_of` knows for whom this process asks itself."""
    return {VOUCHED: f"{_SECRET} {address_of(connection)}"}
