"""The page: the machine as a strip, one stage below it, and the pages beside: Generate, Many photos, Study, About."""

from __future__ import annotations

from typing import Any

import gradio as gr

from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.ui import about_tab, batch_tab, generate_tab, study_tab
from drorae.ui.components import Channel, View
from drorae.ui.endpoints import add_endpoints
from drorae.ui.examples import EXAMPLES, example_thumbnails
from drorae.ui.generators import available_generators
from drorae.ui.models import Shelf
from drorae.ui.wiring import wire_generate, wire_photo
from drorae.viewers import static_files

KINDS = ("routes", "tiles", "standing", "frames")
TITLE = "DRoRAE: see what the layers see"
VIEWS = {"picture": "Picture", "generate": "Generate"}


def page_config(model: AutoencoderDRoRAE, name: str) -> dict[str, Any]:
    """What the page's script knows before it asks."""
    return {
        "examples": example_thumbnails(),
        "model": {"name": name, "hash": ""},
        "size": model.image_size,
        "layers": model.encoder.num_layers,
        "channels": model.encoder.dim,
        "bundled": False,
    }


def build_demo(
    model: AutoencoderDRoRAE,
    name: str,
    generator: str | None = None,
    text_generator: str | None = None,
    switch: bool = False,
) -> gr.Blocks:
    """The page for a model. Nothing is explored or sampled before somebody looks at it.

    Args:
        name: what the page calls the model.
        generator, text_generator: folders or Hub ids of pipelines for the page Generate, of classes and of texts.
        switch: whether visitors may load other models, each for themselves. They would fill a shared machine.

    Raises:
        CheckpointError: a generator cannot be used.
    """
    generators = available_generators(generator, text_generator, model)
    shelf = Shelf(model, name, switch)
    with gr.Blocks(title=TITLE, delete_cache=(3600, 3600)) as demo:
        View("bar", config=page_config(model, name))
        View("strip")
        channels = {kind: Channel(kind) for kind in KINDS}
        making = Channel("generate")
        given = {"generate": {"config": generate_tab.page_config(generators)}}
        with gr.Tabs(elem_id="views"):
            for view, title in VIEWS.items():
                with gr.Tab(title, id=view, elem_id=f"tab-{view}"):
                    View(view, **given.get(view, {}))
            study = study_tab.build(study_tab.measurements_of(name))
            about = about_tab.build(model, name)
        wire_photo(shelf, channels)
        wire_generate(shelf, generators, making)
        add_endpoints(model, generators)
    return demo.queue(max_size=32)


def launch_options() -> dict[str, Any]:
    """Arguments of ``demo.launch`` that belong to the page, wherever it is served."""
    return {
        "head": f"<script>{static_files.page_script()}</script>",
        "css": static_files.page_style() + static_files.read_static("gradio.css"),
        "footer_links": ["api", "settings"],
        "run_history": False,  # it would keep visitors' pictures in their browsers
        "max_file_size": "80mb",  # a noisy PNG of 24 megapixels; photos of the 50 that load_image allows have far less
        "show_error": False,
        "allowed_paths": list(EXAMPLES.values()),  # a link opens them, wherever the page was started
    }
