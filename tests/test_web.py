"""What goes over the wire: compression, the card of a shared link, files below /drorae/."""

from __future__ import annotations

import gzip
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser

import gradio as gr
import httpx
import pytest
from conftest import ROOT
from fastapi import FastAPI
from PIL import Image
from starlette.applications import Starlette
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, StreamingResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from drorae.ui import web
from drorae.ui.mcp import mcp_options

GRADIO_HEAD = """<!doctype html><html><head><meta charset="utf-8" />
<meta property="og:title" content="Gradio" />
<meta
    property="og:image"
    content="https://example.org/header.jpg"
/>
<meta name="twitter:card" content="summary" /><meta name=description content=x><title>Gradio</title>
<link rel="icon" href="old.ico"><link rel="stylesheet" href="./style.css">
<meta property="og:title" content="" /><meta name="viewport" content="width=device-width" />
<script>window.config = {"text": "<meta property='og:title' content='a script'>"};</script>
</head><body><p><meta property="og:title" content="in the body"></p></body></html>"""


class Head(HTMLParser):
    """Tags of a page's head, by name or property."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, str | None]] = []
        self.titles: list[str] = []
        self._in_title = False
        self.feed(text.partition("</head>")[0])

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self._in_title = tag == "title"
        if tag == "meta" and ("name" in values or "property" in values):
            self.found.append((values.get("property") or values["name"], values["content"]))
        if tag == "link":
            self.found.append((values["rel"], values["href"]))

    def handle_data(self, data):
        if self._in_title:
            self.titles.append(data)
        self._in_title = False

    @property
    def tags(self) -> dict[str, str | None]:
        return dict(self.found)


def check_card(text: str, address: str) -> None:
    """That a page has one card, ours, with addresses that begin with ``address``."""
    head = Head(text)
    count = Counter(name for name, _ in head.found)
    assert all(number == 1 for name, number in count.items() if name.startswith(("og:", "twitter:")))
    for name in ("og:title", "og:description", "og:image", "description", "twitter:card", "icon"):
        assert count[name] == 1, name
    assert head.titles == [web.TITLE]
    assert head.tags["og:title"] == web.TITLE
    assert head.tags["og:description"] == head.tags["description"] == web.DESCRIPTION
    assert re.fullmatch(re.escape(address) + r"/drorae/card\.png(\?v=[0-9a-f]+)?", head.tags["og:image"])
    assert head.tags["icon"] == f"{address}/drorae/icon.svg"
    assert head.tags["twitter:card"] == "summary_large_image"


async def page(request):
    return HTMLResponse(GRADIO_HEAD)


async def chunked_page(request):
    async def parts():
        for start in range(0, len(GRADIO_HEAD), 97):
            yield GRADIO_HEAD[start : start + 97]

    return StreamingResponse(parts(), media_type="text/html")


async def numbers(request):
    return JSONResponse(list(range(1000)))


async def events(request):
    async def parts():
        for number in range(3):
            yield f"data: {number} {'x' * 2000}\n\n"

    return StreamingResponse(parts(), media_type="text/event-stream")


async def picture(request):
    return FileResponse(ROOT / "assets" / "examples" / "cat.jpg")


def application(home=page) -> Starlette:
    """Our middleware and routes around a few answers."""
    kwargs = web.app_kwargs()
    routes = [
        Route("/", home, methods=["GET", "HEAD"]),
        Route("/numbers", numbers),
        Route("/events", events),
        Route("/picture", picture),
        Route("/picture.jpg", picture),
        Route("/other", page),
    ]
    return Starlette(routes=[*kwargs["routes"], *routes], middleware=kwargs["middleware"])


@pytest.fixture
def client() -> TestClient:
    return TestClient(application(), base_url="http://somewhere.org")


@pytest.mark.parametrize("home", [page, chunked_page])
@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_the_page_has_one_card_and_it_is_ours(home, encoding):
    client = TestClient(application(home), base_url="http://somewhere.org:7860")
    answer = client.get("/?tab=layers", headers={"accept-encoding": encoding})
    check_card(answer.text, "http://somewhere.org:7860")
    assert answer.headers.get("content-encoding", "identity") == encoding
    assert int(answer.headers["content-length"]) == answer.num_bytes_downloaded
    # all else of the page is as it was
    assert 'content="a script"' not in answer.text
    for kept in ("content='a script'", 'content="in the body"', "./style.css", 'name="viewport"', 'charset="utf-8"'):
        assert kept in answer.text
    assert answer.text.index("og:title") < answer.text.index("<script>")  # readers of cards stop early


def test_the_card_is_added_to_a_page_without_one():
    found = web.with_card(b"<html><HEAD><script>1</script></HEAD><body>b</body>", "https://a.org")
    check_card(found.decode().replace("HEAD>", "head>"), "https://a.org")
    assert found.startswith(b"<html><HEAD><script>1</script>")
    assert found.endswith(b"</HEAD><body>b</body>")
    assert web.with_card(b"no page", "https://a.org") == b"no page"


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ({"x-forwarded-proto": "https"}, "https://somewhere.org"),
        ({"x-forwarded-proto": "https,http", "x-forwarded-host": "me-x.hf.space, b"}, "https://me-x.hf.space"),
        ({"x-forwarded-host": 'a"><script>alert(1)</script>'}, None),
    ],
)
def test_addresses_are_those_of_the_proxy(client, headers, address):
    answer = client.get("/", headers=headers)
    assert "<script>alert" not in answer.text
    if address is not None:
        check_card(answer.text, address)


def test_addresses_hold_the_place_where_the_page_is_mounted():
    outer = Starlette(routes=[Mount("/explorer", application())])
    client = TestClient(outer, base_url="http://somewhere.org")
    check_card(client.get("/explorer/").text, "http://somewhere.org/explorer")
    assert client.get("/explorer/drorae/icon.svg").status_code == 200


def test_head_says_what_get_would_send(client):
    identity = {"accept-encoding": "identity"}
    length = client.head("/", headers=identity).headers["content-length"]
    assert length == str(len(client.get("/", headers=identity).content))


def test_other_pages_keep_theirs(client):
    assert client.get("/other").text == GRADIO_HEAD


def test_what_can_be_compressed_is(client):
    answer = client.get("/numbers")
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.num_bytes_downloaded < 0.6 * len(answer.content)
    assert answer.json() == list(range(1000))
    assert "content-encoding" not in client.get("/numbers", headers={"accept-encoding": ""}).headers


def test_event_streams_are_left_alone(client):
    answer = client.get("/events")
    assert "content-encoding" not in answer.headers
    assert answer.text.count("data: ") == 3


def test_pictures_and_parts_of_files_are_left_alone(client):
    content = (ROOT / "assets" / "examples" / "cat.jpg").read_bytes()
    for address, headers in (("/picture.jpg", {}), ("/picture", {"range": "bytes=100-4099"})):
        answer = client.get(address, headers=headers)
        assert "content-encoding" not in answer.headers
        assert answer.content == (content[100:4100] if headers else content)


def test_files_of_ours_are_served_with_ranges_and_tags(client):
    content = (ROOT / "assets" / "card.png").read_bytes()
    answer = client.get("/drorae/card.png")
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, "image/png", content)
    assert answer.headers["cache-control"] == "no-cache"
    again = client.get("/drorae/card.png", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    part = client.get("/drorae/card.png", headers={"range": "bytes=8-15"})
    assert (part.status_code, part.content) == (206, content[8:16])
    head = client.head("/drorae/card.png")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(content)))
    assert "immutable" in client.get("/drorae/card.png?v=1").headers["cache-control"]
    assert client.get("/drorae/icon.svg").headers["content-type"] == "image/svg+xml"
    assert client.post("/drorae/card.png").status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        "",
        "examples",
        "examples/",
        "examples/README.md",
        "examples/other.json",
        "drorae-tiny/config.json",
        "README.md",
        "../app.py",
        "%2e%2e/app.py",
        "examples/..%2fdrorae-tiny/config.json",
        "examples%2f..%2f..%2fapp.py",
        "..%5capp.py",
        "/etc/passwd",
        "card.png%00",
    ],
)
def test_nothing_else_is_served(client, path):
    assert client.get("/drorae/" + path, follow_redirects=True).status_code == 404


def shout(text: str) -> str:
    return text.upper()


@contextmanager
def launched(ssr: bool, **options) -> Iterator[gr.Blocks]:
    """A page of Gradio's that is really served, with or without server-side rendering."""
    with gr.Blocks(title="Something else") as demo:
        box = gr.Textbox(elem_id="box")
        box.submit(shout, box, box, api_name="upper")
    options = web.web_options() | options | {"ssr_mode": ssr}
    demo.launch(prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, **options)
    yield demo
    demo.close()


@pytest.fixture(scope="module")
def plain_demo() -> Iterator[gr.Blocks]:
    with launched(ssr=False) as demo:
        yield demo


def check_page(demo: gr.Blocks) -> None:
    """That the page of a server is ours, whole and compressed."""
    for encoding in ("gzip, br", "identity"):
        with httpx.stream("GET", demo.local_url, headers={"accept-encoding": encoding}) as answer:
            sent = b"".join(answer.iter_raw())
        assert answer.headers.get("content-encoding", "identity") == encoding.partition(",")[0]
        assert int(answer.headers["content-length"]) == len(sent)
        text = (gzip.decompress(sent) if encoding != "identity" else sent).decode()
        check_card(text, demo.local_url.rstrip("/"))
        assert text.rstrip().endswith("</html>")
        assert '"title":"Something else"' in text
    assert httpx.get(f"{demo.local_url}drorae/card.png").headers["content-type"] == "image/png"


def test_gradio_serves_our_page(plain_demo):
    assert plain_demo.node_process is None
    check_page(plain_demo)


def test_all_text_is_compressed_once(plain_demo):
    home = httpx.get(plain_demo.local_url)
    (script,) = re.findall(r'early\.begin\(\["(index-[^"]+\.js)"', home.text)
    (style,) = re.findall(r'href="\./(assets/index-[^"]+\.css)"', home.text)
    for path in ("", "config", "gradio_api/info", "theme.css", f"assets/{script}", style):
        for encoding in ("gzip", "br, gzip"):
            answer = httpx.get(plain_demo.local_url + path, headers={"accept-encoding": encoding})
            assert answer.headers["content-encoding"] in encoding, path
            assert answer.num_bytes_downloaded < len(answer.content)


def test_gradios_event_streams_are_left_alone(plain_demo):
    call = httpx.post(f"{plain_demo.local_url}gradio_api/call/upper", json={"data": ["a" * 5000]})
    address = f"{plain_demo.local_url}gradio_api/call/upper/{call.json()['event_id']}"
    with httpx.stream("GET", address, headers={"accept-encoding": "gzip, br"}) as answer:
        assert "content-encoding" not in answer.headers
        assert "A" * 5000 in answer.read().decode()


@pytest.mark.skipif(shutil.which("node") is None, reason="server-side rendering needs Node, which is not here")
def test_gradio_serves_our_page_with_node_in_front(monkeypatch):
    monkeypatch.delenv("GRADIO_SERVER_MODE_ENABLED", raising=False)
    with launched(ssr=True) as demo:
        assert demo.node_process is not None
        assert demo.node_process.poll() is None
        check_page(demo)
        assert f":{demo.node_port}/" in demo.local_url


def test_a_host_that_asks_for_server_side_rendering_gets_our_page(monkeypatch):
    monkeypatch.setenv("GRADIO_SSR_MODE", "True")
    assert web.web_options()["ssr_mode"] is False


def test_mcp_keeps_the_middleware():
    with gr.Blocks() as demo:
        box = gr.Textbox()
        box.submit(shout, box, box, api_name="upper")
    demo.launch(prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, **mcp_options(demo, web.web_options()))
    try:
        check_card(httpx.get(demo.local_url).text, demo.local_url.rstrip("/"))
        assert httpx.get(f"{demo.local_url}gradio_api/mcp/schema").status_code == 200
    finally:
        demo.close()


def test_a_mounted_page_is_ours_too():
    with gr.Blocks() as demo:
        gr.Markdown("Hello")
    outer = gr.mount_gradio_app(FastAPI(), demo, "/explorer", app_kwargs=web.app_kwargs())
    with TestClient(outer, base_url="http://somewhere.org") as client:
        for path in ("/explorer", "/explorer/"):
            check_card(client.get(path).text, "http://somewhere.org/explorer")
        assert client.get("/explorer/drorae/icon.svg").status_code == 200


def test_the_card_has_the_size_it_says():
    path = ROOT / "assets" / "card.png"
    with Image.open(path) as card:
        assert card.size == web.CARD_SIZE
    assert path.stat().st_size < 400_000
