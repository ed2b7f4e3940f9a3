"""The page with server-side rendering and without: both work, and what a host gets is what the program says."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator

import gradio as gr
import pytest
from browser import NEEDS_CHROMIUM, Watched

from drorae.ui.page import build_demo, launch_options

pytestmark = NEEDS_CHROMIUM

OLDEST = 20  # the first Node that Gradio's server starts with; it documents 24


def node_version() -> int:
    """Major version of Node here; 0 without it. Gradio only warns where it is missing or too old."""
    if shutil.which("node") is None:
        return 0
    said = subprocess.run(["node", "--version"], capture_output=True, encoding="utf-8").stdout
    found = re.match(r"v(\d+)", said)
    return int(found[1]) if found else 0


@pytest.fixture(params=[False, True], ids=["off", "on"])
def demo(request, tiny, monkeypatch) -> Iterator[gr.Blocks]:
    monkeypatch.delenv("GRADIO_SERVER_MODE_ENABLED", raising=False)
    demo = build_demo(tiny, "tiny")
    options = launch_options() | {"ssr_mode": request.param}
    demo.launch(prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, **options)
    assert (demo.node_process is not None) == (request.param and node_version() >= OLDEST)  # or another one was tested
    yield demo
    demo.close()


def test_the_page_is_used_with_server_side_rendering_and_without(demo, browser):
    home = Watched(browser, demo.local_url)
    home.painted()
    home.page.evaluate("store.show('rocket')")
    assert home.know("routes", "rocket")["name"] == "rocket"
    home.check()
    home.page.close()
