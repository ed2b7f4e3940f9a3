"""Who reaches the page. Where only this machine does, visitors may load models of their own; others must not get there
by another name of this machine, and no other site may send files in a visitor's name."""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from drorae.ui.addresses import route_path

UPLOAD = "/gradio_api/upload"
OTHER_NAME = (
    "This page was started for this machine only, and was asked for as '{}'. "
    "Start it with --host 127.0.0.1 to serve it by other names; visitors cannot load other models then.\n"
)
NO_ROOM = "There is no room for files here just now ({}); examples still work.\n"
OTHER_SITE = "Files for this page are sent from the page itself.\n"


def is_here(host: str) -> bool:
    """Whether a host (a name or an address, without a port) is this machine as only itself calls it."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_for_this_machine(host: str | None) -> bool:
    """Whether a page that is served at ``host``, or where Gradio's variables say, is out of everybody else's reach.

    Args:
        host: address to listen on that somebody asked for. Whoever names one has others in mind, who may come through a
            proxy, so this is only so without.
    """
    shared = os.environ.get("GRADIO_SHARE", "").lower() in ("1", "true")
    named = os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    return host is None and "SPACE_ID" not in os.environ and not shared and is_here(named)


class HereOnly:
    """Refuses requests that name another host: of a proxy, or of a site whose name was pointed at this machine."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        app: ASGIApp = self.app
        if scope["type"] in ("http", "websocket"):
            named = Headers(scope=scope).get("host", "")
            if not is_here(host_of(named)):
                app = PlainTextResponse(OTHER_NAME.format(named[:80]), 403)
        await app(scope, receive, send)


class OwnUploads:
    """Refuses files that another site sends, and says so where there is no room for them."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        sent = scope["type"] == "http" and scope["method"] == "POST" and route_path(scope) == UPLOAD
        if not sent:
            await self.app(scope, receive, send)
        elif is_cross_site(Headers(scope=scope)):
            await PlainTextResponse(OTHER_SITE, 403)(scope, receive, send)
        else:
            try:
                await self.app(scope, receive, send)
            except OSError as error:  # the disk is full, or may not be written to: nothing was answered yet
                reason = error.strerror or type(error).__name__
                await PlainTextResponse(NO_ROOM.format(reason), 507)(scope, receive, send)


def is_cross_site(headers: Headers) -> bool:
    """Whether a browser sends a request for a page of another site.

    Browsers say so; older ones, and pages without encryption, say at least where the request comes from. Programs say
    neither.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site == "cross-site"
    if origin is None:
        return False
    return urlsplit(origin).netloc not in (headers.get("host"), headers.get("x-forwarded-host"))


def host_of(named: str) -> str:
    """Host in a ``Host`` header, without its port."""
    try:
        return urlsplit(f"//{named}").hostname or ""
    except ValueError:
        return ""
