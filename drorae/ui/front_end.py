"""Gradio's own scripts and styles, answered from memory.

A page asks for some ninety of them. Gradio reads each from the disk and compresses it anew, behind all of its routes,
which takes longer than sending it. Their names hold a hash of what is in them, so a browser may keep them, too.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import brotli  # Gradio needs it for the same
from gradio.routes import BUILD_PATH_LIB
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from drorae.ui.addresses import route_path

FOLDER = "/assets/"
KINDS = {".js": "text/javascript", ".css": "text/css"}
KEPT = "public, max-age=31536000, immutable"  # a year


class FrontEnd:
    """Answers for the scripts and styles below ``/assets/``; everything else goes on."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        app: ASGIApp = self.app
        if scope["type"] == "http" and scope["method"] == "GET" and (path := route_path(scope)).startswith(FOLDER):
            name = path.removeprefix(FOLDER)
            if name in file_names():
                accepted = Headers(scope=scope).get("accept-encoding", "")
                content, compressed = await run_in_threadpool(read, name)
                app = answer_file(name, content, compressed, "br" in accepted)
        await app(scope, receive, send)


def answer_file(name: str, content: bytes, compressed: bytes, takes_brotli: bool) -> Response:
    """A file, compressed where the browser understands it."""
    headers = {"cache-control": KEPT, "vary": "Accept-Encoding"}
    if takes_brotli:
        content, headers["content-encoding"] = compressed, "br"
    return Response(content, headers=headers, media_type=KINDS[Path(name).suffix])


@cache
def file_names() -> frozenset[str]:
    """Names of the scripts and styles that Gradio brings."""
    folder = Path(BUILD_PATH_LIB)
    return frozenset(path.name for path in folder.glob("*") if path.suffix in KINDS)


@cache
def read(name: str) -> tuple[bytes, bytes]:
    """A file, plain and compressed."""
    content = (Path(BUILD_PATH_LIB) / name).read_bytes()
    return content, brotli.compress(content, quality=5)
