"""All events of the page. Every picture is one call; what the viewers show afterwards needs no request."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from drorae.autoencoder import AutoencoderDRoRAE
from drorae.explore import Exploration, explore
from drorae.images import ImageError, load_image
from drorae.ui.bundle import compare_value, routing_value
from drorae.ui.components import CompareViewer, PictureInput
from drorae.ui.routing import RoutingTab, profile_figure


def wire(
    model: AutoencoderDRoRAE,
    picture: PictureInput,
    upload: gr.UploadButton,
    status: gr.HTML,
    compare: CompareViewer,
    routing: RoutingTab,
) -> None:
    """Explore every new picture and fill the outputs of all tabs."""

    def explore_picture(path: str | None) -> tuple[Any, ...]:
        """Rebuild a picture from the encoder's last layer and from all layers, and say how the layers were routed.

        Args:
            path: the picture; its central square is used.
        """
        if path is None:  # cleared: what is shown stays until the next picture
            return (status_line("Choose another picture, or keep looking at this one."), *[gr.skip()] * 3)
        try:
            result = explore(load_image(path), model)
        except ImageError as error:
            return (status_line(str(error), error=True), *[gr.skip()] * 3)
        return (status_line(done(result)), compare_value(result), routing_value(result), profile_figure(result))

    # the picture's own upload area hides while a picture is shown, which it always is
    upload.upload(lambda path: path, upload, picture, api_visibility="private", show_progress="hidden", queue=False)
    picture.change(
        explore_picture,
        inputs=picture,
        outputs=[status, compare, routing.viewer, routing.profile],
        api_name="explore",
        concurrency_limit=1,
        trigger_mode="always_last",
        show_progress_on=[picture],
    )


def done(result: Exploration) -> str:
    """What was done, in one sentence."""
    side, count = result.original.shape[0], len(result.pictures)
    routes = f"{count} routes" if count > 1 else "one route"
    return f"Central square at {side} × {side} pixels, rebuilt along {routes} in {result.seconds:.2f} s."


def status_line(text: str, error: bool = False) -> str:
    """One sentence for the status line, escaped."""
    return f'<p class="status{" error" if error else ""}" role="{"alert" if error else "status"}">{escape(text)}</p>'
