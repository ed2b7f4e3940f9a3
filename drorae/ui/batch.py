"""Tab *Batch*: many pictures in one table, best, worst and most harmed first."""

from __future__ import annotations

from typing import NamedTuple

import gradio as gr

from drorae.ui.components import BatchViewer

MAX_BATCH = 500


class BatchTab(NamedTuple):
    """Inputs, buttons and outputs of the tab. ``explored`` holds the files of the rows that are shown."""

    files: gr.File
    folder: gr.UploadButton
    run: gr.Button
    stop: gr.Button
    status: gr.HTML
    viewer: BatchViewer
    explored: gr.State


def batch_tab() -> BatchTab:
    """Build the tab; nothing is computed before somebody gives it pictures."""
    with gr.Tab("Batch", id="batch"):
        gr.Markdown(
            f"Up to {MAX_BATCH} pictures at once: how much each of them gains, how much is harmed, and which layer "
            "has the largest share.",
            elem_id="batch-introduction",
        )
        files = gr.File(
            file_count="multiple",
            file_types=["image", ".avif", ".heic", ".heif"],  # whose types not every system knows
            label="Pictures",
            height=150,
            elem_id="batch-files",
        )
        with gr.Row():
            run = gr.Button("Explore all", variant="primary", elem_id="batch-run")
            folder = gr.UploadButton("Choose a folder", file_count="directory", elem_id="batch-folder")
            stop = gr.Button("Stop", variant="stop", interactive=False, elem_id="batch-stop")
        status = gr.HTML(elem_id="batch-status")
        viewer = BatchViewer(elem_id="batch")
        explored = gr.State([])
    return BatchTab(files, folder, run, stop, status, viewer, explored)
