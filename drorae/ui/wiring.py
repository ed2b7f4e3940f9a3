"""All events of the page. Every picture is one call; what the viewers show afterwards needs no request."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from html import escape
from typing import Any

import gradio as gr

from drorae.autoencoder import AutoencoderDRoRAE
from drorae.checkpoints import CheckpointError
from drorae.explore import Exploration, explore
from drorae.generate import Progress, Request, generate
from drorae.images import ImageError, load_image
from drorae.pipeline import SamplingError
from drorae.ui.bundle import compare_value, generation_value, progress_value, routing_value
from drorae.ui.components import CompareViewer, PictureInput
from drorae.ui.generate import GenerateTab, Generator, class_choices, first_label, guidance_choices
from drorae.ui.routing import RoutingTab, profile_figure

PNG_PREFIX = "data:image/png;base64,"
MAX_SEED_DRAWN = 10_000  # short enough to be written down


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


def wire_generate(generators: list[Generator], tab: GenerateTab, picture: PictureInput, tabs: gr.Tabs) -> None:
    """Sample on request, with previews, until it is done or stopped; a sample can become the page's picture."""
    by_title = {generator.title: generator for generator in generators}
    buttons = [tab.run, tab.other_seeds, tab.stop]

    def busy(running: bool) -> list[gr.Button]:
        return [gr.Button(interactive=not running), gr.Button(interactive=not running), gr.Button(interactive=running)]

    def sample(
        title: str,
        label: int | str,
        seed: float,
        count: float,
        steps: float,
        guidance: str,
        scale: float,
        compare: bool,
    ) -> Iterator[tuple[Any, ...]]:
        """Sample pictures of a class; the last value is the finished one.

        Args:
            title: which generator.
            label: a class by name or number.
            seed: of the first picture; the others count up.
            count: pictures.
            steps: of the sampler.
            guidance: none, cfg or autoguidance.
            scale: of guidance, 1 is none.
            compare: also the same seeds unguided.
        """
        request = Request(label, whole(seed), whole(count), whole(steps), guidance, scale, compare)
        try:
            if not by_title[title].is_loaded():
                yield (status_line(f"Loading {title} ..."), gr.skip(), *busy(True))
            for state in generate(by_title[title].load(), request, title):
                if isinstance(state, Progress):
                    yield (status_line(""), progress_value(state), *busy(True))
                else:
                    yield (status_line(""), generation_value(state), *busy(False))
        except (CheckpointError, SamplingError) as error:
            yield (status_line(str(error), error=True), gr.skip(), *busy(False))
        except RuntimeError as error:  # of the device: out of memory, or lost
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            yield (status_line(f"{title} could not run here: {reason}", error=True), gr.skip(), *busy(False))

    def choose(title: str) -> tuple[Any, ...]:
        """Offer the classes and the guidance of another generator."""
        generator = by_title[title]
        names = generator.names()
        kinds = guidance_choices(generator)
        label = gr.Dropdown(class_choices(names), value=first_label(names))
        return (status_line(""), label, gr.Radio(kinds, value=kinds[-1][1]))

    def use(event: gr.EventData) -> tuple[Any, ...]:
        """Make a sample the page's picture."""
        text = event._data.get("picture") if isinstance(event._data, dict) else None
        try:
            if not isinstance(text, str) or not text.startswith(PNG_PREFIX):
                raise ImageError("That is no picture of this tab.")
            content = base64.b64decode(text.removeprefix(PNG_PREFIX), validate=True)
            return (status_line(""), load_image(content, name="sample.png"), gr.Tabs(selected="compare"))
        except (ImageError, ValueError) as error:  # ValueError: no base64
            return (status_line(str(error), error=True), gr.skip(), gr.skip())

    inputs = [tab.model, tab.label, tab.seed, tab.count, tab.steps, tab.guidance, tab.scale, tab.compare]
    outputs = [tab.status, tab.viewer, *buttons]
    settings = {"concurrency_limit": 1, "concurrency_id": "generate", "show_progress": "hidden"}
    runs = [
        tab.run.click(sample, inputs, outputs, api_name="generate", **settings),
        tab.other_seeds.click(
            lambda: random.randrange(MAX_SEED_DRAWN), None, tab.seed, api_visibility="private", queue=False
        ).then(sample, inputs, outputs, api_visibility="private", **settings),
    ]
    tab.stop.click(
        lambda: (status_line("Stopped."), {"stopped": True}, *busy(False)),
        None,
        outputs,
        cancels=runs,
        api_visibility="private",
        queue=False,
        show_progress="hidden",
    )
    tab.model.change(choose, tab.model, [tab.status, tab.label, tab.guidance], api_visibility="private")
    tab.viewer.select(use, None, [tab.status, picture, tabs], api_visibility="private", queue=False)


def whole(value: Any) -> Any:
    """A number from the page, 3.0 as 3; what is no whole number stays as it is, to be refused by name."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def done(result: Exploration) -> str:
    """What was done, in one sentence."""
    side, count = result.original.shape[0], len(result.pictures)
    routes = f"{count} routes" if count > 1 else "one route"
    return f"Central square at {side} × {side} pixels, rebuilt along {routes} in {result.seconds:.2f} s."


def status_line(text: str, error: bool = False) -> str:
    """One sentence for the status line, escaped."""
    return f'<p class="status{" error" if error else ""}" role="{"alert" if error else "status"}">{escape(text)}</p>'
