"""What a page asks for early, and Gradio's own scripts from memory."""

from __future__ import annotations

from pathlib import Path

import brotli
import gradio as gr
import httpx
import pytest
from gradio.routes import BUILD_PATH_LIB

from drorae.ui import front_end, head_start, web

ENTRY = "index-AAAAAAAA.js"
SCRIPTS = {  # as Vite writes them
    ENTRY: 'const __vite__mapDeps=(i,m=__vite__mapDeps,d=(m.f||(m.f=["./Page-B.js","./shared-C.js","./Page-B.css"])))=>'
    "i.map(i=>d[i]);let a=()=>t(()=>import(`./Page-B.js`),__vite__mapDeps([0,1,2]),import.meta.url);",
    "Page-B.js": 'd=(m.f||(m.f=["./Blocks-D.js","./Blocks-D.css","./Login-E.js"])))=>i.map(i=>d[i]);'
    "await w(()=>import(`./Login-E.js`),__vite__mapDeps([2]),import.meta.url);"
    "await w(()=>import(`./Blocks-D.js`).then(e=>e.n),__vite__mapDeps([0,1]),import.meta.url)",
    "shared-C.js": 'd=(m.f||(m.f=["./Html-F.js","./Example-G.js","./Html-F.css","./Plot-H.js"])))=>i.map(i=>d[i]);'
    "c={html:{base:()=>v(()=>import(`./Base-I.js`),__vite__mapDeps([1]),import.meta.url),"
    "component:()=>v(()=>import(`./Html-F.js`),__vite__mapDeps([0,2]),import.meta.url)},"
    "plot:{component:()=>v(()=>import(`./Plot-H.js`),__vite__mapDeps([3]),import.meta.url)}}",
}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Scripts of a Gradio that is known to the letter."""
    for name, text in SCRIPTS.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(head_start, "BUILD_PATH_LIB", str(tmp_path))
    clear()
    yield tmp_path
    clear()


def clear() -> None:
    head_start.early_files.cache_clear()
    head_start.source.cache_clear()


def test_the_files_that_every_page_needs_are_known(folder):
    wanted = ["Page-B.js", "shared-C.js", "Page-B.css", "Blocks-D.js", "Blocks-D.css", "Html-F.js", "Html-F.css"]
    assert sorted(head_start.early_files(ENTRY)) == sorted(wanted)


@pytest.mark.parametrize("text", ["", "no list", 'm.f=["./x.js"]', "m.f=[]import(`./y.js`),__vite__mapDeps([7])"])
def test_scripts_that_are_written_otherwise_are_fetched_when_needed(folder, text):
    (folder / ENTRY).write_text(text)
    assert head_start.early_files(ENTRY) == ()


@pytest.mark.parametrize(("query", "early"), [("", True), ("example=dog", False), ("photo=1a", False)])
def test_results_of_the_first_example_are_asked_for_before_the_scripts(query, early):
    page = b'<head>"bundles":{"cat":"drorae/examples/cat.json?v=1-a","dog":"d"}</head>'
    tag = b'<link rel="preload" as="fetch" crossorigin href="drorae/examples/cat.json?v=1-a">'
    assert (tag in head_start.with_head_start(page, query)) is early
    assert tag not in head_start.with_head_start(b'<head>"bundles":{"cat":null}</head>', query)


@pytest.mark.parametrize("page", [b"<html></html>", b"", b"</head>", b"\xff\xfe</head>"])
def test_a_page_of_another_kind_stays_whole(page):
    head, end, _ = page.partition(b"</head>")
    assert head_start.with_head_start(page).startswith(head)
    assert head_start.with_head_start(page).endswith(end)


@pytest.fixture(scope="module")
def address() -> str:
    with gr.Blocks() as demo:
        gr.HTML("Hello")
    _, address, _ = demo.launch(prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, **web.web_options())
    yield address
    demo.close()


def test_gradios_scripts_come_from_memory_compressed_and_may_be_kept(address, monkeypatch):
    entry = next(name for name in front_end.file_names() if name.startswith("Blocks-") and name.endswith(".js"))
    plain = (Path(BUILD_PATH_LIB) / entry).read_bytes()
    kept = httpx.get(f"{address}assets/{entry}", headers={"accept-encoding": "identity"})
    assert kept.content == plain
    assert "content-encoding" not in kept.headers
    monkeypatch.setattr(front_end, "BUILD_PATH_LIB", "/nowhere")  # the disk is not asked again
    with httpx.stream("GET", f"{address}assets/{entry}", headers={"accept-encoding": "gzip, br"}) as answer:
        sent = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "br"
    assert brotli.decompress(sent) == plain
    assert len(sent) < len(plain) / 2
    for each in (kept, answer):
        assert each.headers["content-type"].startswith("text/javascript")
        assert each.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert each.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize("path", ["nothing.js", "../index.html", "..%2findex.html", "%2e%2e/index.html", "", "a/b.js"])
def test_other_names_are_left_to_gradio(address, path):
    bare = httpx.get(f"{address}assets/{path}")
    assert bare.headers.get("cache-control") != front_end.KEPT
    assert 400 <= bare.status_code < 500 or b"</html>" in bare.content


def test_pictures_and_fonts_are_left_to_gradio():
    assert front_end.file_names()
    assert {Path(name).suffix for name in front_end.file_names()} == {".js", ".css"}
