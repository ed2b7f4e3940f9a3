"""Which model the page shows: the one it was started with, or another that a visitor loads."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Lock
from typing import Any, NamedTuple

import gradio as gr

from drorae.bundled import EXAMPLE_NAMES
from drorae.checkpoints import REVISIONS, CheckpointError, stored_folder
from drorae.devices import best_device, precision_name
from drorae.errors import reason_of
from drorae.explorer.layer_usage import read_layer_usage
from drorae.explorer.reading import default_size
from drorae.model_files import States
from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.pretrained.adapter import cast_weights, load_tokenizer
from drorae.pretrained.autoencoders import licence_of
from drorae.pretrained.download import TOKENIZER, build_checked, prepare
from drorae.pretrained.rae_tokenizer import MODELS
from drorae.ui import about_tab, study_tab
from drorae.ui.status import status_line
from drorae.viewers.bundles import bundle_address
from drorae.viewers.report import model_hash
from drorae.viewers.values import usage_value

KEPT = 2  # models besides the first: they are large
SECONDS = 0.5  # between two looks at a model that is being loaded
NOTHING_CHANGED = "This page shows the same model as before."


class Shelf:
    """Loaded models by name: the first, and the last few that were asked for. Visitors share them.

    Args:
        model: the first; others compute in its precision.
        name: what it is called.
        open_to_all: whether visitors may load others.
    """

    def __init__(self, model: AutoencoderDRoRAE, name: str, open_to_all: bool):
        self.first, self.open_to_all, self.dtype = name, open_to_all, model.dtype
        self._models = OrderedDict({name: model})
        self._hashes: dict[str, str] = {}
        self.on_drop: list[Callable[[AutoencoderDRoRAE], None]] = []  # what else holds on to a model
        self._lock = Lock()

    def get(self, name: str) -> AutoencoderDRoRAE:
        """A model that was loaded.

        Raises:
            CheckpointError: others have taken its place since.
        """
        with self._lock:
            if not isinstance(name, str) or name not in self._models:  # anyone can send anything
                raise CheckpointError(f"'{str(name)[:300]}' is no longer loaded; load it again.")
            if name != self.first:
                self._models.move_to_end(name)
            return self._models[name]

    def hash(self, name: str) -> str:
        """:func:`drorae.viewers.report.model_hash` of a model that was loaded, computed once."""
        model = self.get(name)
        if name not in self._hashes:
            self._hashes[name] = model_hash(model)
        return self._hashes[name]

    def load(self, name: str) -> Iterator[str]:
        """Fetch and load a model, saying how far it is; afterwards :meth:`get` has it.

        Raises:
            CheckpointError: it could not be loaded, in one sentence. The models that are there stay.
        """
        if not self.open_to_all:
            raise CheckpointError("On this page the model is fixed; run your own copy to load others.")
        if not name:
            raise CheckpointError("Name a folder or a Hub repository first.")
        with self._lock:
            if name in self._models:
                return
        yield f"Looking for {name}{pin_note(name)} ..."
        states = yield from prepare_with_progress(name, TOKENIZER)
        # in a thread of its own, so that whoever cancels need not wait for it
        pool = ThreadPoolExecutor(1)
        try:
            loading, started = pool.submit(build_checked, load_tokenizer, name, states), time.monotonic()
            while not loading.done():
                yield f"Loading {name}: {time.monotonic() - started:.0f} s ..."
                time.sleep(SECONDS)
            model = cast_weights(loading.result(), self.dtype).to(best_device())
        except (MemoryError, OSError, RuntimeError) as error:
            if isinstance(error, CheckpointError):
                raise
            reason = reason_of(error)
            raise CheckpointError(f"'{name}' could not be loaded here: {reason}") from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._models[name] = model
            others = [other for other in self._models if other != self.first]
            for other in others[:-KEPT]:
                dropped = self._models.pop(other)
                self._hashes.pop(other, None)
                for call in self.on_drop:
                    call(dropped)


def prepare_with_progress(name: str, kind: str) -> Generator[str, None, States]:
    """What :func:`drorae.pretrained.download.prepare` returns, while it takes in sentences that say how far it is."""
    with closing(prepare(name, kind)) as steps:
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                return end.value
            how_far = f"Fetching {name}: {megabytes(step.done)} of {megabytes(step.total)} ..."
            yield how_far if step.is_fetching else f"Checking {name} ..."


def pin_note(name: str) -> str:
    """What is said after the name of a published model that is not pinned to a revision; nothing after other names."""
    return " (not pinned to a revision: its newest files)" if name in MODELS.values() and name not in REVISIONS else ""


def megabytes(size: int) -> str:
    """A number of bytes as display text."""
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"


def model_line(model: AutoencoderDRoRAE, name: str) -> str:
    """Name, size, precision and device of a model in one sentence."""
    count, size = 0, 0
    for parameter in model.parameters():
        count += parameter.numel()
        size += parameter.numel() * parameter.element_size()
    what = (
        "no fusion: its last layer only"
        if model.fusion_module is None
        else f"{model.config.fusion_layers or model.encoder.num_layers} layers fused"
    )
    where = f"{megabytes(size)} in {precision_name(model.dtype)} on the {model.device.type.upper()}"
    return f"{name}: {count / 1e6:.1f} M parameters, {where}, {what}."


def model_config(shelf: Shelf, name: str) -> dict[str, Any]:
    """What the page's script knows of a model before it asks (see ``store/state.js``)."""
    model = shelf.get(name)
    return {
        "model": {"name": name, "hash": shelf.hash(name)},
        "size": default_size(model),
        "whole": model.config.any_size,
        "precision": precision_name(model.dtype),
        "layers": model.encoder.num_layers,
        "channels": model.encoder.dim,
        "licence": licence_of(name),
        "bundles": {each: bundle_address(each, shelf.hash(name), default_size(model)) for each in EXAMPLE_NAMES},
        "usage": layer_usage(name),
    }


def layer_usage(name: str) -> dict[str, Any] | None:
    """What the layers of a model are worth over held-out photos, where that was measured of these weights."""
    folder = stored_folder(name)
    known = None if folder is None else read_layer_usage(folder)
    return None if known is None else usage_value(known)


class ModelControls(NamedTuple):
    """What chooses the model. ``current`` holds its name, for each visitor."""

    current: gr.State
    name: gr.Dropdown
    load: gr.Button
    cancel: gr.Button
    status: gr.HTML


def model_controls(shelf: Shelf, status: str) -> ModelControls:
    """Build the controls, hidden where the model is fixed; ``status`` is their first line."""
    current = gr.State(shelf.first)
    with gr.Column(visible=shelf.open_to_all, elem_id="model"):
        gr.Markdown("## Another model\nEverything on this page then speaks of it. It is loaded for you alone.")
        name = gr.Dropdown(
            [shelf.first, *((f"{name}{pin_note(name)}", name) for name in MODELS.values())],
            value=shelf.first,
            label="Folder or Hub id",
            info="A checkpoint folder on this machine, or a repository on the Hugging Face Hub (also id@revision).",
            allow_custom_value=True,
            filterable=True,
            elem_id="model-name",
        )
        with gr.Row():
            load = gr.Button("Load", variant="primary", elem_id="model-load", min_width=80, scale=0)
            cancel = gr.Button("Cancel", interactive=False, elem_id="model-cancel", min_width=80, scale=0)
        line = gr.HTML(status, elem_id="model-status")
    return ModelControls(current, name, load, cancel, line)


def control_states(text: str, running: bool, error: bool = False) -> tuple[Any, ...]:
    """Status line and the buttons *Load* and *Cancel*."""
    return (status_line(text, error), gr.Button(interactive=not running), gr.Button(interactive=running))


NUM_FOLLOWING = 2 + len(about_tab.AboutTab._fields) + study_tab.NUM_FOLLOWING  # with the name and the bar


def switch_model(shelf: Shelf, wish: str | None, plane: str) -> Iterator[tuple[Any, ...]]:
    """Load a model and make it the one of this page; a failed attempt leaves the page as it is.

    Yields the :func:`control_states`, the model's name, and what the page says of it: About, and Study.

    Args:
        shelf: where models are kept.
        wish: folder or Hub id.
        plane: what the chart of the peers shows.
    """
    name, kept = (wish or "").strip(), [gr.skip()] * NUM_FOLLOWING
    try:
        for text in shelf.load(name):
            yield (*control_states(text, True), *kept)
        model = shelf.get(name)
    except CheckpointError as error:
        yield (*control_states(f"Loading failed: {error}", False, error=True), *kept)
        return
    except Exception as error:  # nobody foresaw it; it is no reason to say that somebody cancelled
        yield (*control_states(f"Loading failed: {type(error).__name__}. {NOTHING_CHANGED}", False, error=True), *kept)
        return
    yield (
        *control_states(model_line(model, name), False),
        name,
        *about_tab.values(model, name),
        *study_tab.values(name, plane),
        gr.update(changed=model_config(shelf, name)),
    )


def switch_unless_cancelled(shelf: Shelf, wish: str | None, plane: str) -> Iterator[tuple[Any, ...]]:
    """What :func:`switch_model` yields, and whether somebody cancelled: not at the start, and it is not said again."""
    cancelled: Any = False
    for values in switch_model(shelf, wish, plane):
        yield (*values, cancelled)
        cancelled = gr.skip()


def cancel_load(name: str) -> tuple[Any, ...]:
    """The :func:`control_states` once loading was cancelled; ``name`` is the model shown, the new one if it was there
    just before."""
    return control_states(f"Cancelled; this page shows {name}.", False)


def answer_cancel(name: str) -> tuple[Any, ...]:
    """What *Cancel* answers: :func:`cancel_load`, and that it was pressed."""
    return *cancel_load(name), True


def end_load(name: str, cancelled: bool) -> tuple[Any, ...]:
    """The :func:`control_states` once a run ended without an answer: as Gradio counts, a cancelled one failed, too.

    Args:
        name: the model shown.
        cancelled: whether somebody pressed *Cancel*.
    """
    if cancelled:
        return cancel_load(name)
    return control_states(f"Loading failed. {NOTHING_CHANGED}", False, error=True)
