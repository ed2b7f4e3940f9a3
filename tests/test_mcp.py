"""The third door: the endpoints as MCP tools, called by the client of MCP's own SDK."""

import base64
import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
import httpx
import numpy as np
import pytest
from conftest import ROOT
from gate import finish
from gradio.utils import get_upload_folder
from gradio_client import Client, handle_file
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from PIL import Image

from drorae.explorer.explore import explore
from drorae.images import load_image
from drorae.ui import app
from drorae.ui.endpoints import add_endpoints
from drorae.ui.generators import available_generators
from drorae.ui.mcp import mcp_options
from drorae.ui.page import build_demo, launch_options
from drorae.ui.visitors import Visitor

CAT, COFFEE = (ROOT / "assets" / "examples" / f"{name}.jpg" for name in ("cat", "coffee"))
OF_PICTURES = {"reconstruct", "routing", "intervene", "batch"}
OF_GENERATORS = {"sample_class", "sample_text"}


@contextmanager
def served(demo: gr.Blocks) -> Iterator[gr.Blocks]:
    options = mcp_options(demo, launch_options())
    demo.launch(prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, **options)
    yield demo
    demo.close()


@pytest.fixture(scope="module")
def demo(tiny):
    with served(build_demo(tiny, "tiny")) as demo:
        yield demo


def http(demo: gr.Blocks) -> Client:
    return Client(demo.local_url, verbose=False, httpx_kwargs={"timeout": 60})  # a busy machine is slow, not broken


@pytest.fixture(scope="module")
def client(demo):
    return http(demo)


def ask(demo, method: str, *arguments, **options):
    """Ask the MCP server one thing."""

    async def session():
        url = f"{demo.local_url}gradio_api/mcp/"
        async with streamable_http_client(url) as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            return await getattr(session, method)(*arguments, **options)

    return finish(session())


def call(demo, name: str, **arguments):
    """The picture, if there is one, and the numbers that a tool answers."""
    answer = ask(demo, "call_tool", name, arguments)
    assert not answer.isError, answer.content
    pictures = [np.array(Image.open(io.BytesIO(base64.b64decode(c.data)))) for c in answer.content if c.type == "image"]
    return pictures, json.loads(answer.content[-1].text)


def error(demo, name: str, **arguments) -> str:
    answer = ask(demo, "call_tool", name, arguments)
    assert answer.isError
    return answer.content[0].text


def data_url(path: Path) -> str:
    return f"data:image/{path.suffix[1:]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def upload(demo, path: Path) -> str:
    return httpx.post(
        f"{demo.local_url}gradio_api/upload", files={"files": (path.name, path.read_bytes())}, timeout=60
    ).json()[0]


def test_the_tools_are_the_public_endpoints_with_their_docstrings(demo, client):
    tools = {tool.name: tool for tool in ask(demo, "list_tools").tools}
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert set(tools) == OF_PICTURES == {name[1:] for name in endpoints}
    for name, tool in tools.items():
        assert tool.description.startswith(endpoints[f"/{name}"]["description"])
        assert all(each["description"] for each in tool.inputSchema["properties"].values())
    properties = tools["intervene"].inputSchema["properties"]
    assert properties["picture"]["type"] == "string"
    assert properties["layers"]["anyOf"] == [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}]
    assert tools["intervene"].inputSchema["required"] == ["picture"]
    assert tools["batch"].inputSchema["properties"]["pictures"]["items"] == {"type": "string"}


def test_numbers_and_pictures_are_those_of_http_and_of_the_library(demo, client, tiny):
    result = explore(load_image(CAT), tiny)
    (picture,), numbers = call(demo, "reconstruct", picture=data_url(CAT))
    assert numbers == client.predict(handle_file(CAT), api_name="/reconstruct")[1]
    assert numbers["drorae"]["psnr"] == result.metrics["drorae"]["psnr"]
    assert np.array_equal(picture, result.pictures["drorae"])

    _, routing = call(demo, "routing", picture=data_url(CAT))
    assert routing == client.predict(handle_file(CAT), api_name="/routing")
    assert np.array_equal(np.array(routing["weights"], "<f4"), result.weights)

    (picture,), numbers = call(demo, "intervene", picture=data_url(CAT), layers=[1, 3], beta=0.7, tokens=[0, 5])
    file, by_http = client.predict(handle_file(CAT), [1, 3], 0.7, [0, 5], api_name="/intervene")
    assert numbers == by_http
    assert np.array_equal(picture, np.array(Image.open(file)))

    _, rows = call(demo, "batch", pictures=[upload(demo, CAT), upload(demo, COFFEE)])
    assert rows == client.predict([handle_file(CAT), handle_file(COFFEE)], api_name="/batch")


def test_generators_are_tools_too(pipeline, text_pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path / "class")
    text_pipeline.save_pretrained(tmp_path / "text")
    folders = (str(tmp_path / kind) for kind in ("class", "text"))
    with gr.Blocks() as endpoints:  # the page would sample first
        add_endpoints(pipeline.autoencoder, available_generators(*folders, pipeline.autoencoder))
    with served(endpoints) as demo:
        tools = {tool.name: tool for tool in ask(demo, "list_tools").tools}
        assert set(tools) == OF_PICTURES | OF_GENERATORS
        assert tools["sample_class"].inputSchema["required"] == ["label"]
        (picture,), settings = call(demo, "sample_class", label="church", seed=3, steps=2)
        file, by_http = http(demo).predict("church", 3, 2, api_name="/sample_class")
    assert settings == by_http
    assert np.array_equal(picture, np.array(Image.open(file)))


def test_a_client_that_wants_progress_gets_the_same_answer(demo):
    steps = []

    async def note(*step):
        steps.append(step)

    arguments = {"picture": data_url(CAT)}
    answers = [ask(demo, "call_tool", "reconstruct", arguments, progress_callback=each) for each in (None, note)]
    assert answers[0].content == answers[1].content
    assert steps


def test_uploads_and_earlier_answers_can_be_used_by_path_and_url(demo):
    path = upload(demo, CAT)
    answer = ask(demo, "call_tool", "reconstruct", {"picture": path})
    url = f"{demo.local_url}gradio_api/file={path}"
    assert ask(demo, "call_tool", "reconstruct", {"picture": url}).content == answer.content
    made = answer.content[1].text.removeprefix("Image URL: ")
    assert call(demo, "routing", picture=made)[1]["layers"] == 3


def test_other_files_of_the_server_stay_closed(demo, tmp_path):
    Image.open(CAT).save(tmp_path / "private.png")
    path = str(tmp_path / "private.png")
    assert "was not uploaded here" in error(demo, "routing", picture=path)
    assert "was not uploaded here" in error(demo, "routing", picture=f"file://{path}")
    assert "must be one that it can fetch" in error(demo, "routing", picture=f"{demo.local_url}gradio_api/file={path}")
    inside = f"{get_upload_folder()}/../{tmp_path.relative_to(tmp_path.anchor)}/private.png"
    assert "was not uploaded here" in error(demo, "routing", picture=inside)


def test_errors_are_one_sentence(demo):
    cat = data_url(CAT)
    assert error(demo, "intervene", picture=cat, layers=[9]) == "There is no layer 9; layers are numbered 1 to 3."
    assert error(demo, "intervene", picture=cat, beta=2.0).startswith("The strength must be between 0")
    assert "is not a picture that can be read" in error(demo, "routing", picture="data:image/png;base64,AAAA")
    assert "nor a data URL" in error(demo, "routing", picture="data:image/png;base64,A")


def test_pictures_in_data_urls_are_deleted_like_all_others(demo, tmp_path):
    Image.fromarray(np.random.default_rng().integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / "x.png")
    content = (tmp_path / "x.png").read_bytes()
    call(demo, "routing", picture=data_url(tmp_path / "x.png"))
    kept = {str(path) for path in Path(get_upload_folder()).glob("*/file.png") if path.read_bytes() == content}
    assert kept
    assert kept <= set().union(*demo.temp_file_sets)


def test_without_the_package_app_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mcp", None)  # as if it were not installed
    assert app.main(["--mcp"]) == 2
    assert 'pip install "gradio[mcp]"' in capsys.readouterr().err


def test_agents_are_visitors_of_their_own(demo, monkeypatch):
    """Gradio asks the page in one session for all of them, from this machine."""
    seen, refusal = [], demo._queue.refusal
    monkeypatch.setattr(demo._queue, "refusal", lambda lane, visitor: seen.append(visitor) or refusal(lane, visitor))
    monkeypatch.setattr("drorae.ui.visitors.address_of", lambda connection: "203.0.113.9")
    call(demo, "reconstruct", picture=data_url(CAT))
    assert seen == [Visitor("none at 203.0.113.9", "203.0.113.9")]
