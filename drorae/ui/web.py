"""What goes over the wire: compressed answers, a card for shared links, and files of ours below ``/drorae/``.

Gradio compresses scripts and styles but not the page itself, and its page calls itself "Gradio". Both are put right in
the ASGI application that it serves, wherever that is: by ``demo.launch`` or mounted into another application.
"""

from __future__ import annotations

import os
import re
from html import escape
from pathlib import Path, PurePath
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from drorae.bundled import ASSETS
from drorae.ui.addresses import page_address, route_path
from drorae.ui.examples import NAMES
from drorae.ui.first_sight import with_first_sight
from drorae.ui.front_end import FrontEnd
from drorae.ui.head_start import with_head_start
from drorae.ui.host_view import Counted, Requests, host_routes
from drorae.ui.limits import read_limits
from drorae.ui.listeners import NotedStreams
from drorae.ui.malformed import Malformed
from drorae.ui.reach import HereOnly, OwnUploads
from drorae.ui.sizes import Closed, RequestSizes, Sent
from drorae.ui.visitors import Forwarded, trust_nobody

TITLE = "DRoRAE: see what the layers see"
DESCRIPTION = (
    "A frozen vision encoder sees your photo layer by layer. Most tokenizers keep only the last layer. DRoRAE weighs "
    "all of them, place by place. Try it on your own photo."
)
CARD_ALT = "A cat rebuilt from the last layer of an encoder, blurred, beside the same cat rebuilt from all layers."
CARD_SIZE = (1200, 630)
FILES = "/drorae"
FILE_NAMES = frozenset(
    {"card.png", "icon.svg", *(f"examples/{name}.{kind}" for name in NAMES for kind in ("json", "jpg"))}
)
YEAR = 365 * 24 * 3600  # seconds

HEAD_END = re.compile(rb"</head\s*>", re.IGNORECASE)
# scripts and styles are matched to be passed over: what stands in them is text
TAGS = re.compile(rb"<(script|style)\b.*?</\1\s*>|<title\b.*?</title\s*>|<(?:meta|link)\b[^>]*>", re.DOTALL | re.I)
CARD_TAG = re.compile(rb"""<title\b|<meta\b[^>]*\b(?:property|name)\s*=\s*["']?(?:og:|twitter:|description\b)""", re.I)
ICON_TAG = re.compile(rb"""<link\b[^>]*\brel\s*=\s*["']?(?:shortcut )?icon\b""", re.I)


def web_options(here_only: bool = False) -> dict[str, Any]:
    """Arguments of ``demo.launch`` that belong to this module: ``app_kwargs``, the icon, and no server-side rendering.

    With server-side rendering the page comes from Node, uncompressed and with Gradio's card, and our views are drawn in
    the browser all the same. Where somebody turns it on, the variable that is set here makes Node ask Python for it.
    """
    os.environ.setdefault("GRADIO_SERVER_MODE_ENABLED", "1")
    trust_nobody()
    return {"app_kwargs": app_kwargs(here_only), "favicon_path": str(ASSETS / "icon.svg"), "ssr_mode": False}


def app_kwargs(here_only: bool = False) -> dict[str, Any]:
    """The part of :func:`web_options` that ``gr.mount_gradio_app`` takes, too: middleware and routes.

    Args:
        here_only: whether requests that name another host than this machine are refused.

    Raises:
        DRoRAEError: a limit in the environment makes no sense.
    """
    limits, requests = read_limits(), Requests()
    guards = [
        Middleware(Forwarded, limits.proxies),
        *([Middleware(HereOnly)] if here_only else []),
        Middleware(Counted, requests),
        Middleware(NotedStreams),
        Middleware(Malformed),
        Middleware(OwnUploads),
        Middleware(Closed),
        Middleware(RequestSizes, limits, Sent(), requests.refuse),
    ]
    files = Mount(FILES, BundledFiles(directory=ASSETS, check_dir=False))
    return {
        "middleware": [*guards, Middleware(FrontEnd), Middleware(Compression), Middleware(Card)],
        "routes": [*host_routes(limits.token, requests), files],
    }


class Compression:
    """Compresses what Gradio leaves as it is, event streams and parts of files excepted.

    Gradio compresses paths that end in ``.js``, ``.css``, ``.json`` and the like; other endings are those of pictures
    and fonts, which are small already.
    """

    def __init__(self, app: ASGIApp):
        self.app = app
        self.gzip = GZipMiddleware(app, minimum_size=1000, compresslevel=6)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        ends = scope["type"] == "http" and ("." in PurePath(scope["path"]).name or "range" in Headers(scope=scope))
        await (self.app if ends else self.gzip)(scope, receive, send)


class Card:
    """Puts the title, the description, the picture and the icon of the page in the place of Gradio's."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and route_path(scope) == "/":
            send = PageSender(scope, send)
        await self.app(scope, receive, send)


class PageSender:
    """Takes the parts of an answer, and sends them on at the end, changed if they are a page."""

    def __init__(self, scope: Scope, send: Send):
        self.scope = scope
        self.send = send
        self.start: Message = {}
        self.body = b""

    async def __call__(self, message: Message) -> None:
        """Take one message."""
        if message["type"] == "http.response.start":
            headers = Headers(raw=message["headers"])
            if headers.get("content-type", "").startswith("text/html") and "content-encoding" not in headers:
                self.start = message
                return
        if not self.start or message["type"] != "http.response.body":
            await self.send(message)
            return
        self.body += message.get("body", b"")
        if message.get("more_body", False):
            return
        headers = MutableHeaders(raw=self.start["headers"])
        query = self.scope["query_string"].decode("latin-1")
        if self.body:  # also of HEAD: the server drops it later
            self.body = with_first_sight(with_head_start(with_card(self.body, page_address(self.scope)), query))
            headers["content-length"] = str(len(self.body))
        else:
            del headers["content-length"]
        await self.send(self.start)
        await self.send({"type": "http.response.body", "body": self.body})


class BundledFiles(StaticFiles):
    """The files of :data:`FILE_NAMES` and no others. An address that names a version is kept by browsers for a year."""

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """Path and state of a file; ``("", None)`` where it is not to be served."""
        return super().lookup_path(path) if PurePath(path).as_posix() in FILE_NAMES else ("", None)

    def file_response(
        self, full_path: Any, stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """The file, or 304 where the browser has it."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        versioned = scope["query_string"].startswith(b"v=")
        response.headers["cache-control"] = f"public, max-age={YEAR}, immutable" if versioned else "no-cache"
        return response


def with_card(page: bytes, address: str) -> bytes:
    """A page with our card and icon.

    Args:
        page: HTML in UTF-8.
        address: of the page, without a slash at its end; the addresses in the card begin with it.
    """
    end = HEAD_END.search(page)
    if end is None:
        return page
    ours = card_tags(address).encode()
    kept, position = [], 0
    for tag in TAGS.finditer(page, 0, end.start()):
        if CARD_TAG.match(tag[0]) or ICON_TAG.match(tag[0]):
            kept += [page[position : tag.start()], ours]
            ours, position = b"", tag.end()
    # where the page had no card, ours is the last thing of its head
    return b"".join([*kept, page[position : end.start()], ours, page[end.start() :]])


def card_tags(address: str) -> str:
    """The tags that :func:`with_card` puts in."""
    width, height = CARD_SIZE
    image = f"{address}{FILES}/card.png{version_query(ASSETS / 'card.png')}"
    properties = {
        "og:title": TITLE,
        "og:type": "website",
        "og:site_name": "DRoRAE",
        "og:description": DESCRIPTION,
        "og:image": image,
        "og:image:type": "image/png",
        "og:image:width": str(width),
        "og:image:height": str(height),
        "og:image:alt": CARD_ALT,
    }
    names = {"description": DESCRIPTION, "twitter:card": "summary_large_image"}
    lines = [
        f"<title>{escape(TITLE)}</title>",
        *(f'<meta property="{key}" content="{escape(value)}" />' for key, value in properties.items()),
        *(f'<meta name="{key}" content="{escape(value)}" />' for key, value in names.items()),
        f'<link rel="icon" type="image/svg+xml" href="{escape(f"{address}{FILES}/icon.svg")}" />',
    ]
    return "\n\t\t".join(lines)


def version_query(path: Path) -> str:
    """Query that changes when a file does, so that it may be kept for long; empty where there is no such file."""
    try:
        state = path.stat()
    except OSError:
        return ""
    return f"?v={state.st_mtime_ns // 10**9:x}{state.st_size:x}"
