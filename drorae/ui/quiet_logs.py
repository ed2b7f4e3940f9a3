"""Logs without what visitors sent: of an unforeseen error they have its kind and where it was raised, and not its
message, which may quote a prompt, the name of a file, or a place on this machine."""

from __future__ import annotations

import logging
import sys
import traceback
from types import SimpleNamespace
from typing import Any

import gradio.queueing
import gradio.routes

LOGGERS = ("uvicorn.error", "asyncio")


def where_raised(error: BaseException | None) -> str:
    """The kind of an error and the lines of code that led to it, with those that it came of."""
    parts: list[str] = []
    while error is not None:
        parts += [f"{type(error).__module__}.{type(error).__name__}\n", *traceback.format_tb(error.__traceback__)]
        error = error.__cause__ or error.__context__
    return "".join(parts)


def print_exc(*args: Any, **kwargs: Any) -> None:
    """What ``traceback.print_exc`` prints, without messages."""
    print(where_raised(sys.exc_info()[1]), file=sys.stderr)


def without_message(record: logging.LogRecord) -> bool:
    """Take the message of an error out of a record, which is kept."""
    if record.exc_info:
        record.msg, record.args = "An unforeseen error: %s", (where_raised(record.exc_info[1]),)
        record.exc_info = record.exc_text = None
    return True


def keep_logs_quiet() -> None:
    """From now on Gradio and the server print errors without their messages."""
    for module in (gradio.queueing, gradio.routes):
        module.traceback = SimpleNamespace(**vars(traceback) | {"print_exc": print_exc})
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if without_message not in logger.filters:
            logger.addFilter(without_message)
