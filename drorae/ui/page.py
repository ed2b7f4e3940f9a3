"""The page: the machine as a strip, one stage below it; beside it Generate, Many photos, Study, About."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.study import published
from drorae.ui import about_tab, generate, gpu, many_photos, study_tab
from drorae.ui.components import Channel, View, fetch_when_opened
from drorae.ui.endpoints import add_endpoints
from drorae.ui.examples import EXAMPLES, example_thumbnails
from drorae.ui.generators import available_generators
from drorae.ui.lanes import enter_lanes
from drorae.ui.limits import Limits, read_limits
from drorae.ui.models import Shelf, model_config, model_controls, model_line
from drorae.ui.photo import Photos
from drorae.ui.refusals import place, refuse
from drorae.ui.status import status_line
from drorae.ui.tokenizers import Tokenizers
from drorae.ui.web import TITLE, web_options
from drorae.ui.wiring import wire_generate, wire_many, wire_models, wire_photos, wire_study

# the visitor's own, as in page/base.css; a font of Gradio's would be fetched
FONT = ["-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Noto Sans", "Liberation Sans", "Arial", "sans-serif"]
VIEWS = {  # id of its tab, which is the name of its files, and what it is called
    "picture": "Picture",
    "layers": "Layers",
    "weights": "Weights",
    "frequency": "By size of detail",
    "tokenizers": "Other tokenizers",
    "generate": "Generate",
    "photos": "Many photos",
}


def paper_layers() -> dict[str, Any]:
    """What the paper shows of its layers, for the view Weights: number, roles, and mean cosines of four photos."""
    roles = [role._asdict() for role in published.LAYER_ROLES]
    return {"depth": published.DEPTH, "layers": roles, "cosines": published.COSINES}


def build_demo(
    model: AutoencoderDRoRAE,
    name: str,
    generator: str | None = None,
    text_generator: str | None = None,
    switch: bool = False,
    tokenizers: Sequence[str] = (),
    limits: Limits | None = None,
) -> gr.Blocks:
    """The page for a model. Nothing is explored or sampled before somebody looks at it.

    Args:
        name: what the page calls the model.
        generator, text_generator: folders or Hub ids of pipelines for the page Generate, of classes and of texts.
        switch: whether visitors may load other models, each for themselves. They would fill a shared machine.
        tokenizers: names of tokenizers that visitors may put beside the model also where ``switch`` is off.
        limits: what visitors may take of the machine; ``None`` is what the environment says.

    Raises:
        CheckpointError: a generator cannot be used; on ZeroGPU also, a tokenizer.
        DRoRAEError: a limit in the environment makes no sense.
    """
    generators = available_generators(generator, text_generator, model)
    shelf = Shelf(model, name, switch)
    others = Tokenizers(switch, tokenizers)
    if gpu.ON_ZEROGPU:
        others.load_allowed(model.device)
    photos = Photos(shelf, others)
    with gr.Blocks(title=TITLE, delete_cache=(3600, 3600)) as demo:
        config = {
            "examples": example_thumbnails(),
            "paper": paper_layers(),
            "tokenizers": others.config(),
            **model_config(shelf, name),
        }
        bar = View("bar", config=config, changed=None)
        View("strip")
        channels = {kind: Channel(kind) for kind in photos.answers()}
        making, reading = Channel("generate"), Channel("photos")
        given = {
            "generate": {"config": generate.page_config(generators)},
            "photos": {"config": many_photos.page_config()},
        }
        with gr.Tabs(elem_id="views"):
            for view, title in VIEWS.items():
                with gr.Tab(title, id=view, elem_id=f"tab-{view}"):
                    View(view, **given.get(view, {}))
            with (
                gr.Tab("Study", id="study", elem_id="tab-study") as studied,
                gr.Column(elem_id="study", elem_classes="inside"),
            ):
                study = study_tab.build(study_tab.measurements_of(name))
            with (
                gr.Tab("About", id="about", elem_id="tab-about") as told,
                gr.Column(elem_id="about", elem_classes="inside"),
            ):
                with gr.Column():
                    facts = about_tab.build_facts(model, name)
                    models = model_controls(shelf, status_line(model_line(model, name)))
                with gr.Column():
                    about = about_tab.AboutTab(facts, about_tab.build_card(name))
        for tab in (studied, told):
            fetch_when_opened(tab)
        wire_photos(photos, channels)
        wire_generate(shelf, generators, making)
        wire_many(shelf, reading)
        wire_study(studied, study)
        wire_models(shelf, models, about, study, bar)
        add_endpoints(model, generators)
    return enter_lanes(demo, limits or read_limits(), refuse, place)


def launch_options(here_only: bool = False) -> dict[str, Any]:
    """Arguments of ``demo.launch`` that belong to the page, wherever it is served.

    Args:
        here_only: whether it is for this machine alone, see :mod:`drorae.ui.reach`.
    """
    return {
        **web_options(here_only),
        "theme": gr.themes.Default(font=FONT),
        "footer_links": ["api", "settings"],
        "run_history": False,  # it would keep visitors' pictures in their browsers
        "max_file_size": "80mb",  # a noisy PNG of 24 megapixels; photos of the 50 that load_image allows have far less
        "show_error": False,
        "enable_monitoring": False,  # it would tell everybody what others do
        "allowed_paths": list(EXAMPLES.values()),  # a link opens them, wherever the page was started
    }
