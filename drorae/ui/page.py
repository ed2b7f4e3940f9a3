"""The page: picture on the left, what the model makes of it on the right, a finished example at first paint."""

from __future__ import annotations

from typing import Any

import gradio as gr

from drorae.explorer.explore import explore
from drorae.images import load_image
from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.ui.about import about_tab, model_facts
from drorae.ui.batch import batch_tab
from drorae.ui.compare import compare_tab
from drorae.ui.components import PictureInput, ReportButton
from drorae.ui.endpoints import add_endpoints
from drorae.ui.examples import EXAMPLES
from drorae.ui.frequency import frequency_tab
from drorae.ui.generate import first_generation, generate_tab
from drorae.ui.generators import available_generators
from drorae.ui.intervene import intervene_tab
from drorae.ui.models import Shelf, described, model_controls
from drorae.ui.routing import routing_tab
from drorae.ui.study import measured_of, study_tab
from drorae.ui.wiring import (
    Views,
    done,
    status_line,
    wire,
    wire_batch,
    wire_generate,
    wire_link,
    wire_models,
    wire_report,
)

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
    sampled = first_generation(generators[0]) if generators and generators[0].is_loaded() else None
    start = next(iter(EXAMPLES.values()))
    first = explore(load_image(start), model)
    shelf = Shelf(model, name, switch)
    with gr.Blocks(title="DRoRAE explorer", delete_cache=(3600, 3600)) as demo:
        introduction = gr.Markdown(model_facts(model, name).introduction, elem_id="introduction")
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
                status = gr.HTML(status_line(done(first)), elem_id="status")
                gr.Examples(list(EXAMPLES.values()), picture, label="Or one of these", elem_id="examples")
                save = ReportButton(elem_id="report")
                models = model_controls(shelf, status_line(described(model, name)))
            with gr.Column(scale=4, min_width=300), gr.Tabs() as tabs:
                compare = compare_tab(first)
                routing = routing_tab(first)
                intervene = intervene_tab(first)
                frequency = frequency_tab(first)
                many = batch_tab()
                generated = generate_tab(generators, sampled)
                study = study_tab(measured_of(name))
                about = about_tab(model, name)
        seen = gr.State(start)
        wire(shelf, models.current, picture, upload, status, Views(compare, routing, intervene, frequency), seen)
        wire_link(demo, picture, tabs, status)
        wire_models(shelf, models, introduction, about, study)
        wire_report(shelf, models.current, seen, save)
        wire_batch(shelf, models.current, many, picture, tabs)
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
        "theme": theme,
        "css": CSS,
        "footer_links": ["api", "settings"],
        "run_history": False,  # it would keep visitors' pictures in their browsers
        "max_file_size": "80mb",  # a noisy PNG of 24 megapixels; photos of the 50 that load_image allows have far less
        "show_error": False,
    }
