"""All events of the page. Every picture is one call; what the viewers show afterwards needs no request."""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from gradio.events import Dependency
from PIL import Image

from drorae.checkpoints import CheckpointError, reason_of
from drorae.explorer.batch import batch
from drorae.explorer.explore import Exploration, explore, intervene
from drorae.explorer.interventions import Intervention, InterventionError
from drorae.explorer.sampling import Progress, Request, generate
from drorae.images import ImageError, load_image
from drorae.pipelines.base import SamplingError
from drorae.ui.about import AboutTab, model_card, model_facts
from drorae.ui.batch import MAX_BATCH, BatchTab
from drorae.ui.components import CompareViewer, FrequencyViewer, PictureInput, ReportButton
from drorae.ui.examples import EXAMPLES, NAMES, example_of, example_path
from drorae.ui.generate import GenerateTab, about_models, controls_for
from drorae.ui.generators import TEXT, Generator
from drorae.ui.intervene import InterveneTab
from drorae.ui.models import ModelControls, Shelf, described
from drorae.ui.routing import RoutingTab, profile_figure
from drorae.ui.study import StudyTab
from drorae.ui.uploads import as_unicode, open_upload, upload_names
from drorae.viewers.report import report
from drorae.viewers.values import (
    batch_value,
    compare_value,
    frame_value,
    frequency_value,
    generation_value,
    intervene_value,
    progress_value,
    routing_value,
)

PNG_PREFIX = "data:image/png;base64,"
TABS = ("compare", "routing", "intervene", "frequency", "batch", "generate", "study", "about")
BATCH_SECONDS = 1.0  # between two looks at a running batch
PROGRESS = gr.Progress()  # Gradio puts the request's own in its place
REPORT_FAILED = "The report could not be written; try again, or choose another picture."
MAX_SEED_DRAWN = 10_000  # short enough to be written down


class Views(NamedTuple):
    """What a picture fills."""

    compare: CompareViewer
    routing: RoutingTab
    intervene: InterveneTab
    frequency: FrequencyViewer

    def outputs(self) -> list[Any]:
        """The components, in the order of :func:`shown`."""
        return [self.compare, *self.routing, *self.intervene, self.frequency]


def shown(result: Exploration, example: str | None) -> list[Any]:
    """An exploration for :class:`Views`; what the model has no part for is hidden."""
    routed, movable = result.shares is not None, result.interventions is not None
    return [
        compare_value(result, example),
        routing_value(result, example),
        gr.update(visible=not routed),
        gr.update(visible=routed),
        gr.update(value=profile_figure(result), visible=routed),
        gr.update(value=intervene_value(result, example), answer=None),
        gr.update(visible=not movable),
        frequency_value(result),
    ]


def wire(
    shelf: Shelf,
    current: gr.State,
    picture: PictureInput,
    upload: gr.UploadButton,
    status: gr.HTML,
    views: Views,
    seen: gr.State,
) -> None:
    """Explore every new picture, and the same one with another model; answer interventions.

    ``seen`` holds the path of the picture that the views show, whatever was cleared or could not be read since.
    """
    outputs = [status, *views.outputs(), seen]
    kept = [gr.skip()] * (len(outputs) - 1)

    def explore_picture(path: str | None, name: str, progress: gr.Progress = PROGRESS) -> tuple[Any, ...]:
        """Rebuild a picture from the encoder's last layer and from all layers, say how the layers were routed, and what
        other strengths and fewer layers would have given.

        Args:
            path: the picture; its central square is used.
            name: of the model.
        """
        if path is None:  # cleared: what is shown stays until the next picture
            return (status_line("Choose another picture, or keep looking at this one."), *kept)
        try:
            example = example_of(path)
            result = explore(
                open_upload(path), shelf.get(name), progress=lambda n, total: progress((n, total), desc="interventions")
            )
        except (CheckpointError, ImageError) as error:
            return (status_line(str(error), error=True), *kept)
        return (status_line(done(result)), *shown(result, example), path)

    def answer(event: gr.EventData, path: str, name: str) -> dict[str, Any]:
        """Paint one intervention that was not there yet."""
        wish = event._data if isinstance(event._data, dict) else {}
        try:
            frame = intervene(open_upload(path), shelf.get(name), wished(wish))
        except (CheckpointError, ImageError, InterventionError) as error:
            return gr.update(answer={"id": wish.get("id"), "error": str(error)})
        return gr.update(answer={"id": wish.get("id"), "frame": frame_value(frame)})

    # the picture's own upload area hides while a picture is shown, which it always is
    upload.upload(lambda path: path, upload, picture, api_visibility="private", show_progress="hidden", queue=False)
    explored = {"api_visibility": "private", "concurrency_limit": 1, "concurrency_id": "explore"}
    for changed, path in ((picture, picture), (current, seen)):
        changed.change(
            explore_picture,
            inputs=[path, current],
            outputs=outputs,
            trigger_mode="always_last",
            show_progress_on=[picture],
            **explored,
        )
    views.intervene.viewer.intervene(
        answer,
        [seen, current],
        views.intervene.viewer,
        trigger_mode="always_last",
        show_progress="hidden",
        **explored,
    )


def wire_models(
    shelf: Shelf, controls: ModelControls, introduction: gr.Markdown, about: AboutTab, study: StudyTab
) -> None:
    """Load the model that was asked for; what it changes besides the picture's views follows it."""
    buttons = [controls.status, controls.load, controls.cancel]
    following = [introduction, *about, *study.following()]

    def state(text: str, running: bool, error: bool = False) -> tuple[Any, ...]:
        return (status_line(text, error), gr.Button(interactive=not running), gr.Button(interactive=running))

    def switch(wish: str | None, plane: str) -> Iterator[tuple[Any, ...]]:
        """Load a model and make it the one of this page; a failed attempt leaves the page as it is.

        Args:
            wish: folder or Hub id.
            plane: what the chart of the peers shows.
        """
        name, kept = (wish or "").strip(), [gr.skip()] * (1 + len(following))
        try:
            for text in shelf.load(name):
                yield (*state(text, True), *kept)
            model = shelf.get(name)
        except CheckpointError as error:
            yield (*state(str(error), False, error=True), *kept)
            return
        facts = model_facts(model, name)
        yield (
            *state(described(model, name), False),
            name,
            facts.introduction,
            facts.about,
            model_card(name),
            *study.follow(name, plane),
        )

    outputs = [*buttons, controls.current, *following]
    settings = {"api_visibility": "private", "show_progress": "hidden"}
    run = controls.load.click(
        switch, [controls.name, study.plane], outputs, concurrency_limit=1, concurrency_id="load", **settings
    )

    def cancelled(name: str) -> tuple[Any, ...]:
        return state(f"Cancelled; this page shows {name}.", False)  # the new one, if it was there just before

    wire_stop(controls.cancel, [run], cancelled, controls.current, buttons)


def wire_stop(
    button: gr.Button,
    runs: list[Dependency],
    say: Callable[..., tuple[Any, ...]],
    inputs: gr.State | None,
    outputs: list[Any],
) -> None:
    """Let a button cancel runs and say so: at once, and again when they have ended.

    What a run sent before it knew of the cancelling, be it the last value, arrives after the first answer and would
    write over it. Gradio counts a cancelled run as a failed one.

    Args:
        button: the button.
        runs: the events it cancels.
        say: from ``inputs`` to ``outputs``; called twice, so it must also hold for a run that came to its end.
    """
    settings = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
    button.click(say, inputs, outputs, cancels=runs, **settings)
    for run in runs:
        run.failure(say, inputs, outputs, **settings)


def wished(wish: dict[str, Any]) -> Intervention:
    """What the viewer asked for; values of a wrong kind are refused when the intervention is checked.

    Raises:
        InterventionError: no list where one belongs.
    """
    lists = {}
    for name in ("layers", "tokens"):
        value = wish.get(name)
        if value is not None and not isinstance(value, list):
            raise InterventionError(f"The {name} must be a list of numbers, not {value!r}.")
        lists[name] = None if value is None else tuple(value)
    return Intervention(beta=wish.get("beta"), **lists)


def wire_link(demo: gr.Blocks, picture: PictureInput, tabs: gr.Tabs, status: gr.HTML) -> None:
    """Open what a link names: one of the examples, and a tab. The viewers read the rest of it themselves."""

    def restore(request: gr.Request) -> tuple[Any, ...]:
        example, tab = (request.query_params.get(name) for name in ("example", "tab"))
        shown = gr.Tabs(selected=tab) if tab in TABS else gr.skip()
        if example is None or example == NAMES[0]:
            return gr.skip(), shown, gr.skip()
        if example not in EXAMPLES:
            text = f"The link names an example '{example[:40]}' that is not here; there are {', '.join(NAMES)}."
            return gr.skip(), shown, status_line(text, error=True)
        return EXAMPLES[example], shown, gr.skip()

    demo.load(restore, None, [picture, tabs, status], queue=False, api_visibility="private", show_progress="hidden")


def wire_report(shelf: Shelf, current: gr.State, seen: gr.State, button: ReportButton) -> None:
    """Write the report of the picture that is shown when it is asked for."""

    def write(path: str, name: str) -> dict[str, Any]:
        moment = time.time()  # an equal value would not reach the button, which waits for one
        try:
            model = shelf.get(name)
            picture = example_path(example_of(path)) or Path(path).name  # as the command can take it
            text = report(explore(open_upload(path), model), model, name, picture)
        except (CheckpointError, ImageError) as error:
            return {"error": str(error), "moment": moment}
        return {"name": f"drorae-{Path(path).stem}.html", "text": text, "moment": moment}

    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    made = button.make(write, [seen, current], button, concurrency_limit=1, concurrency_id="explore", **quiet)
    # what nobody thought of must not leave the button waiting
    made.failure(lambda: {"error": REPORT_FAILED, "moment": time.time()}, None, button, queue=False, **quiet)


def wire_batch(shelf: Shelf, current: gr.State, tab: BatchTab, picture: PictureInput, tabs: gr.Tabs) -> None:
    """Explore many pictures, row by row, until done or stopped; a row can become the page's picture."""

    def buttons(running: bool) -> list[gr.Button]:
        return [gr.Button(interactive=not running), gr.Button(interactive=running)]

    def explore_all(paths: list[str] | None, name: str) -> Iterator[tuple[Any, ...]]:
        """Explore pictures one after another; the last value has all rows.

        Args:
            paths: the pictures.
            name: of the model.
        """
        if not paths or len(paths) > MAX_BATCH:
            what = (
                f"{len(paths)} pictures are too many; choose at most {MAX_BATCH}."
                if paths
                else "Choose pictures first."
            )
            yield (status_line(what, error=True), gr.skip(), *buttons(False), gr.skip())
            return
        try:
            model = shelf.get(name)
        except CheckpointError as error:
            yield (status_line(str(error), error=True), gr.skip(), *buttons(False), gr.skip())
            return
        rows, sent = [], -BATCH_SECONDS
        for row in batch(paths, model, names=upload_names(paths), read=open_upload):
            rows.append(row)
            if len(rows) < len(paths) and time.monotonic() - sent >= BATCH_SECONDS:
                sent = time.monotonic()
                yield (status_line(""), batch_value(rows, len(paths), True), *buttons(True), paths)
        yield (status_line(""), batch_value(rows, len(paths), False), *buttons(False), paths)

    def open_row(event: gr.EventData, paths: list[str]) -> tuple[Any, ...]:
        """Make a picture of the batch the page's picture, under its own name."""
        index = event._data.get("index") if isinstance(event._data, dict) else None
        try:
            if not isinstance(index, int) or not 0 <= index < len(paths):
                raise ImageError("That picture is no longer there; choose the pictures again.")
            open_upload(paths[index])  # a bad one stays a row
            return (status_line(""), paths[index], gr.Tabs(selected="compare"))
        except ImageError as error:
            return (status_line(str(error), error=True), gr.skip(), gr.skip())

    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    run = tab.run.click(
        explore_all,
        [tab.files, current],
        [tab.status, tab.viewer, tab.run, tab.stop, tab.explored],
        api_visibility="private",
        concurrency_limit=1,
        concurrency_id="explore",
        show_progress="hidden",
    )
    wire_stop(
        tab.stop,
        [run],
        lambda: (status_line("Stopped."), gr.update(stopped=time.time()), *buttons(False)),
        None,
        [tab.status, tab.viewer, tab.run, tab.stop],
    )
    tab.folder.upload(only_pictures, tab.folder, tab.files, queue=False, **quiet)
    tab.viewer.select(open_row, tab.explored, [tab.status, picture, tabs], queue=False, **quiet)


def only_pictures(paths: list[str]) -> list[str]:
    """The files of a folder that can be pictures."""
    known = {*Image.registered_extensions(), ".heic", ".heif"}
    return [path for path in paths if Path(path).suffix.lower() in known]


def wire_generate(generators: list[Generator], tab: GenerateTab, picture: PictureInput, tabs: gr.Tabs) -> None:
    """Sample on request, with previews, until it is done or stopped; a sample can become the page's picture."""
    by_title = {generator.title: generator for generator in generators}
    buttons = [tab.run, tab.other_seeds, tab.stop]
    changing = [getattr(tab, name) for name in controls_for(generators[0])]

    def busy(running: bool) -> list[gr.Button]:
        return [gr.Button(interactive=not running), gr.Button(interactive=not running), gr.Button(interactive=running)]

    def sample(
        title: str,
        label: int | str,
        prompt: str,
        negative: str,
        other: str,
        seed: float,
        count: float,
        steps: float,
        guidance: str,
        scale: float,
        compare: bool,
    ) -> Iterator[tuple[Any, ...]]:
        """Sample pictures of a class or of a text; the last value is the finished one.

        Args:
            title: which generator.
            label: a class by name or number, for a generator of classes.
            prompt: a text, for a generator of texts.
            negative: a text that classifier-free guidance leads away from.
            other: a second text for the same seeds.
            seed: of the first picture; the others count up.
            count: pictures.
            steps: of the sampler.
            guidance: none, cfg or autoguidance.
            scale: of guidance, 1 is none.
            compare: also the same seeds unguided.
        """
        generator = by_title[title]
        settings = (whole(seed), whole(count), whole(steps), guidance, scale, compare)
        if generator.kind == TEXT:
            request = Request(prompt, *settings, negative=negative or "", other=other or "")
        else:
            request = Request(label, *settings)
        try:
            if not generator.is_loaded():
                yield (status_line(f"Loading {title} ..."), gr.skip(), *busy(True))
            for state in generate(generator.load(), request, title):
                if isinstance(state, Progress):
                    yield (status_line(""), progress_value(state), *busy(True))
                else:
                    yield (status_line(""), generation_value(state), *busy(False))
        except (CheckpointError, SamplingError) as error:
            yield (status_line(str(error), error=True), gr.skip(), *busy(False))
        except RuntimeError as error:  # of the device: out of memory, or lost
            reason = reason_of(error)
            yield (status_line(f"{title} could not run here: {reason}", error=True), gr.skip(), *busy(False))

    def choose_kind(kind: str) -> tuple[Any, ...]:
        """Offer the generators of a kind, and the controls of the first of them."""
        titles = [generator.title for generator in generators if generator.kind == kind]
        return (gr.Dropdown(choices=titles, value=titles[0], info=about_models(kind)), *choose(titles[0]))

    def choose(title: str) -> list[dict[str, Any]]:
        """The controls of another generator."""
        return [gr.update(**values) for values in controls_for(by_title[title]).values()]

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

    inputs = [tab.model, tab.label, tab.prompt, tab.negative, tab.other]
    inputs += [tab.seed, tab.count, tab.steps, tab.guidance, tab.scale, tab.compare]
    outputs = [tab.status, tab.viewer, *buttons]
    settings = {"concurrency_limit": 1, "concurrency_id": "generate", "show_progress": "hidden"}
    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    runs = [
        tab.run.click(sample, inputs, outputs, api_name="generate", api_visibility="undocumented", **settings),
        tab.prompt.submit(sample, inputs, outputs, api_visibility="private", **settings),
        tab.other_seeds.click(lambda: random.randrange(MAX_SEED_DRAWN), None, tab.seed, queue=False, **quiet).then(
            sample, inputs, outputs, api_visibility="private", **settings
        ),
    ]
    wire_stop(tab.stop, runs, lambda: (status_line("Stopped."), {"stopped": True}, *busy(False)), None, outputs)
    tab.kind.input(choose_kind, tab.kind, [tab.model, *changing], **quiet)
    tab.model.input(choose, tab.model, changing, **quiet)
    tab.examples.click(lambda sample: sample[0], tab.examples, tab.prompt, queue=False, **quiet)
    tab.viewer.select(use, None, [tab.status, picture, tabs], queue=False, **quiet)


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
    kind, role = ("status error", "alert") if error else ("status", "status")
    return f'<p class="{kind}" role="{role}">{escape(as_unicode(text))}</p>'
