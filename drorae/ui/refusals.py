"""How the page says that a question was not taken, or has to wait: where the answer would stand. What stands there is
not lost."""

from __future__ import annotations

import time
from typing import Any

import gradio as gr
from gradio.block_function import BlockFunction

from drorae.ui.components import Channel
from drorae.ui.limits import LOAD
from drorae.ui.photo import about_wish
from drorae.ui.status import status_line


def refuse(fn: BlockFunction, data: list[Any], sentence: str) -> list[Any] | None:
    """What a refused question is answered with, as Gradio sends it; ``None`` is an error, for programs and charts.

    Args:
        fn: what was asked to be called.
        data: with what.
        sentence: why it is not.
    """
    first = fn.outputs[0] if fn.outputs else None
    if isinstance(first, Channel):
        about = about_wish(first.preprocess(data[0] if data else None))
        # busy: the page may ask the same again
        answer = about | {"error": sentence, "busy": True, "moment": time.time()}
        return [{"__type__": "update", "props": {"answer": answer}}]
    if fn.concurrency_id == LOAD:
        buttons = [{"__type__": "update", "interactive": interactive} for interactive in (True, False)]
        told = [status_line(sentence, error=True), *buttons]
        return told + [gr.skip()] * (len(fn.outputs) - len(told))
    return None


def place(fn: BlockFunction, data: list[Any], ahead: int) -> list[Any] | None:
    """What a question that waits is told, as Gradio sends it; ``None`` where there is no place to say it.

    Args:
        fn: what was asked to be called.
        data: with what.
        ahead: how many others are before it.
    """
    first = fn.outputs[0] if fn.outputs else None
    if not isinstance(first, Channel):
        return None
    about = about_wish(first.preprocess(data[0] if data else None))
    return [{"__type__": "update", "props": {"answer": about | {"ahead": ahead, "moment": time.time()}}}]
