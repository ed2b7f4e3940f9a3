"""The page: picture on the left, what the model makes of it on the right, a finished example at first paint."""

from __future__ import annotations

from typing import Any

import gradio as gr

from drorae.explorer.explore import explore
from drorae.images import load_image
from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.ui import (
    about_tab,
    batch_tab,
    compare_tab,
    frequency_tab,
    generate_tab,
    intervene_tab,
    routing_tab,
    study_tab,
)
from drorae.ui.components import PictureInput, ReportButton
from drorae.ui.endpoints import add_endpoints
from drorae.ui.examples import EXAMPLES
from drorae.ui.generators import available_generators
from drorae.ui.models import Shelf, model_controls, model_line
from drorae.ui.picture import Views
from drorae.ui.status import status_line, summary_line
from drorae.ui.web import web_options
from drorae.ui.wiring import wire_batch, wire_generate, wire_link, wire_models, wire_picture, wire_report

CSS = """
.gradio-container { max-width: 1280px !important; margin: 0 auto !important; }
#introduction h1 { margin: 4px 0 2px; }
#introduction p { max-width: 100ch; font-size: 16px; }
.status { margin: 0; font-size: 13.5px; color: var(--body-text-color-subdued); }
.status.error { color: var(--error-text-color); font-weight: 600; font-size: 15px; }
/* a row of tabs too wide for a phone must not widen the page: Gradio then puts the last ones into a menu */
.tab-wrapper { contain: inline-size; }
/* names of all peers do not fit a phone; pointing at a mark tells its own */
@media (max-width: 640px) { #study-peers .textpoint { display: none; } }
#facts p, #facts li, .card p, .card li { max-width: 100ch; }
/* long lines scroll inside; they must not widen a phone's page */
#citation, .card { contain: inline-size; }
.card table { display: block; overflow-x: auto; border: 0; }
.card th, .card td { word-break: normal; overflow-wrap: normal; }
"""


def build_demo(
    model: AutoencoderDRoRAE,
    name: str,
    generator: str | None = None,
    text_generator: str | None = None,
    switch: bool = False,
) -> gr.Blocks:
    """The page for a model, with the first example already explored and the first pictures sampled.

    Args:
        name: what the page calls the model.
        generator, text_generator: folders or Hub ids of pipelines for the tab Generate, of classes and of texts.
        switch: whether visitors may load other models, each for themselves. They would fill a shared machine.

    Raises:
        CheckpointError: a generator cannot be used.
    """
    generators = available_generators(generator, text_generator, model)
    sampled = generate_tab.first_generation(generators[0]) if generators and generators[0].is_loaded() else None
    start = next(iter(EXAMPLES.values()))
    first = explore(load_image(start), model)
    shelf = Shelf(model, name, switch)
    with gr.Blocks(title="DRoRAE explorer", delete_cache=(3600, 3600)) as demo:
        introduction = gr.Markdown(about_tab.model_facts(model, name).introduction, elem_id="introduction")
        with gr.Row():
            with gr.Column(scale=1, min_width=250):
                picture = PictureInput(
                    start,
                    label="Your picture",
                    format="png",
                    height=260,
                    sources=["upload", "clipboard", "webcam"],
                    buttons=[],
                    elem_id="picture",
                )
                upload = gr.UploadButton("Upload a photo", file_types=["image"], variant="primary", elem_id="upload")
                status = gr.HTML(status_line(summary_line(first)), elem_id="status")
                gr.Examples(list(EXAMPLES.values()), picture, label="Or one of these", elem_id="examples")
                save = ReportButton(elem_id="report")
                models = model_controls(shelf, status_line(model_line(model, name)))
            with gr.Column(scale=4, min_width=300), gr.Tabs() as tabs:
                compare = compare_tab.build(first)
                routing = routing_tab.build(first)
                intervene = intervene_tab.build(first)
                frequency = frequency_tab.build(first)
                batch = batch_tab.build()
                generated = generate_tab.build(generators, sampled)
                study = study_tab.build(study_tab.measurements_of(name))
                about = about_tab.build(model, name)
        seen = gr.State(start)
        views = Views(compare, routing, intervene, frequency)
        wire_picture(shelf, models.current, picture, upload, status, views, seen)
        wire_link(demo, picture, tabs, status)
        wire_models(shelf, models, introduction, about, study)
        wire_report(shelf, models.current, seen, save)
        wire_batch(shelf, models.current, batch, picture, tabs)
        add_endpoints(model, generators)
        if generated is not None:
            wire_generate(generators, generated, picture, tabs)
    return demo.queue(max_size=32)


def launch_options() -> dict[str, Any]:
    """Arguments of ``demo.launch`` that belong to the page, wherever it is served."""
    theme = gr.themes.Default(primary_hue="indigo", neutral_hue="slate", font=["system-ui", "sans-serif"])
    # the theme's own grey is too faint for sentences that people are meant to read
    theme.set(body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_400")
    return {
        **web_options(),
        "theme": theme,
        "css": CSS,
        "footer_links": ["api", "settings"],
        "run_history": False,  # it would keep visitors' pictures in their browsers
        "max_file_size": "80mb",  # a noisy PNG of 24 megapixels; photos of the 50 that load_image allows have far less
        "show_error": False,
        "allowed_paths": list(EXAMPLES.values()),  # a link opens them, wherever the page was started
    }
