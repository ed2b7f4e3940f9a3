"""Requests that make no sense to Gradio: an answer of one sentence, where it would answer 500 and print a traceback."""

from __future__ import annotations

import logging

from PIL import UnidentifiedImageError
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from drorae.ui.quiet_logs import where_raised

NOT_UNDERSTOOD = "This request cannot be understood.\n"
NOT_NOW = "This could not be done here just now; try again later.\n"
MACHINE = (OSError, MemoryError)  # all others come of values that nobody expects

logger = logging.getLogger(__name__)


class Malformed:
    """Answers 400, or 503 where it is the machine's fault, when what is behind it fails before it answered. What failed
    goes to the log, without what was asked."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        started = False

        async def send_watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, send_watched)
        except Exception as error:
            if started or scope["type"] != "http":
                raise
            malformed = not isinstance(error, MACHINE) or isinstance(error, UnidentifiedImageError)
            logger.log(logging.INFO if malformed else logging.ERROR, "A request failed: %s", where_raised(error))
            answer = PlainTextResponse(NOT_UNDERSTOOD, 400) if malformed else PlainTextResponse(NOT_NOW, 503)
            await answer(scope, receive, send)
