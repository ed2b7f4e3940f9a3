"""Gradio components of the page: the picture input, views drawn in the browser, and how they ask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio.blocks import Block, BlockContext
from gradio.data_classes import ImageData

from drorae.viewers import static_files


class PictureInput(gr.Image):
    """An image input that hands over the uploaded file as it is.

    ``gr.Image`` opens the file itself and answers bad ones with library messages; here
    :func:`drorae.images.load_image` is the only place that opens pictures.
    """

    def preprocess(self, payload: ImageData | None) -> str | None:
        """Path of the uploaded file, unopened."""
        return None if payload is None else payload.path

    def get_block_name(self) -> str:
        """The front end of ``gr.Image`` is used."""
        return "image"


class View(gr.HTML):
    """A part of the page that is drawn from the page's store (``store/state.js``); it has no value of its own.

    What the page begins with is drawn before this component is there (``early.js``), and then moves into it. Its
    script and style come with the page (:mod:`drorae.ui.first_sight`).

    Args:
        name: of its files in ``static/``.
    """

    def __init__(self, name: str, **kwargs: Any):
        if name in static_files.FIRST_VIEWS:
            real = "{ props, watch, trigger, upload }"
            files = {
                "html_template": "",
                "markup": static_files.markup(name),
                "js_on_load": f'early.mount("{name}", element, {real});',
            }
        else:
            files = {
                "html_template": static_files.markup(name),
                "css_template": static_files.style(name),
                "js_on_load": static_files.script(name),
            }
        super().__init__(apply_default_css=False, elem_id=name, **files, **kwargs)

    def get_block_name(self) -> str:
        """The front end of ``gr.HTML`` is used."""
        return "html"


class Channel(gr.HTML):
    """Passes one kind of question from the page's store to the server: ``ask`` is the event, its value the wish.

    A wish about a photo holds its ``key``, the ``example`` or the uploaded ``file``, the ``model``, and what the kind
    needs besides. The prop ``answer`` takes ``key`` and ``value`` or ``error``.
    """

    def __init__(self, kind: str, **kwargs: Any):
        super().__init__(
            html_template="",
            js_on_load=static_files.read_static("channel.js"),
            apply_default_css=False,
            visible="hidden",
            elem_id=f"channel-{kind}",
            kind=kind,
            **{"answer": None, **kwargs},
        )

    @property
    def kind(self) -> str:
        """What is asked here."""
        return self.props["kind"]

    def preprocess(self, payload: Any) -> dict[str, Any]:
        """The wish as it is; empty for anything but an object, which anyone can send."""
        return payload if isinstance(payload, dict) else {}

    def postprocess(self, value: Any) -> Any:
        """The value travels as it is."""
        return value

    def api_info(self) -> dict[str, Any]:
        """JSON schema of a wish."""
        return {"type": "object"}

    def get_block_name(self) -> str:
        """The front end of ``gr.HTML`` is used."""
        return "html"


def hide(context: BlockContext) -> list[Block]:
    """Make everything inside a block invisible itself; returns what was visible.

    Gradio fetches the scripts of all components with the page, those excepted that are not visible themselves.
    """
    shown = [block for block in descendants(context) if getattr(block, "visible", False) is True]
    for block in shown:
        block.visible = False
    return shown


def fetch_when_opened(tab: gr.Tab) -> None:
    """Let the browser fetch the scripts of a tab's components when it is opened, as it mounts them then."""
    blocks = hide(tab)
    shown = ", ".join(["{__type__: 'update', visible: true}"] * len(blocks))
    tab.select(None, None, blocks, js=f"() => [{shown}]", api_visibility="private", queue=False, show_progress="hidden")


def descendants(context: BlockContext) -> Iterator[Block]:
    """All blocks inside a block."""
    for child in context.children:
        yield child
        if isinstance(child, BlockContext):
            yield from descendants(child)
