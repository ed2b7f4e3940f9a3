"""How much visitors may send: of one request and of an hour, counted as it arrives."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from conftest import served
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from drorae.ui.limits import Limits
from drorae.ui.page import build_demo
from drorae.ui.sizes import HOUR, RequestSizes, Sent
from drorae.ui.visitors import Forwarded

UPLOAD = "/gradio_api/upload"
SMALL = replace(Limits(), body=1000, upload=5000, upload_files=3, visitor=12_000, visitor_files=6)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Server:
    """A server that reads what it is sent, behind the limits."""

    def __init__(self, limits: Limits = SMALL):
        self.clock, self.refused, self.read = Clock(), [], []
        routes = [Route(path, self.take, methods=["GET", "POST"]) for path in ("/", UPLOAD)]
        middleware = [
            Middleware(Forwarded, ["testclient"]),
            Middleware(RequestSizes, limits, Sent(self.clock), self.refused.append),
        ]
        self.client = TestClient(Starlette(routes=routes, middleware=middleware))

    async def take(self, request):
        if request.url.path == UPLOAD:
            form = await request.form()
            self.read.append(len(form.getlist("files")))
        else:
            self.read.append(len(await request.body()))
        return PlainTextResponse("fine")

    def upload(self, *sizes: int, address: str = "203.0.113.1") -> httpx.Response:
        files = [("files", (f"{i}.png", b"-" * size)) for i, size in enumerate(sizes)]
        return self.client.post(UPLOAD, files=files, headers={"x-forwarded-for": address})


@pytest.fixture
def server() -> Server:
    return Server()


def test_a_question_is_limited_whether_or_not_it_says_how_long_it_is(server):
    def chunks(size):
        yield b"-" * (size // 2)
        yield b"-" * (size - size // 2)

    for body in (b"-" * 1000, chunks(1000)):
        assert server.client.post("/", content=body).text == "fine"
    for body in (b"-" * 1001, chunks(1001)):
        answer = server.client.post("/", content=body)
        assert answer.status_code == 413
        assert "send pictures as files" in answer.text
    assert server.read == [1000, 1000]
    assert server.refused == ["body", "body"]
    assert server.client.get("/").text == "fine"


def test_a_request_may_bring_some_files_of_some_size(server):
    assert server.upload(1000, 1000, 1000).text == "fine"
    assert server.read == [3]
    assert server.upload(10, 10, 10, 10).status_code == 413
    assert server.upload(6000).status_code == 413
    assert server.refused == ["files", "upload"]
    assert server.read == [3]


def test_files_are_counted_wherever_a_chunk_ends(server):
    boundary = "abc"
    part = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nx\r\n'
    whole = (part * 4 + f"--{boundary}--\r\n").encode()
    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    for step in (1, 2, 3, 7, len(whole)):
        fresh = Server(replace(SMALL, visitor_files=100))
        chunks = [whole[i : i + step] for i in range(0, len(whole), step)]
        assert fresh.client.post(UPLOAD, content=iter(chunks), headers=headers).status_code == 413, step
        three = (part * 3 + f"--{boundary}--\r\n").encode()
        chunks = [three[i : i + step] for i in range(0, len(three), step)]
        assert fresh.client.post(UPLOAD, content=iter(chunks), headers=headers).text == "fine", step


def test_an_address_may_send_so_much_in_an_hour_and_others_go_on(server):
    assert server.upload(4000).text == "fine"
    assert server.upload(4000).text == "fine"
    refused = server.upload(4000)
    assert refused.status_code == 429
    assert refused.text.startswith("Your address has sent 0 MB of files within an hour")
    assert refused.headers["retry-after"] == "3600"
    assert server.refused == ["visitor"]
    assert server.upload(4000, address="203.0.113.2").text == "fine"
    assert server.upload(4000, address="2001:db8::1").text == "fine"
    assert server.upload(4000, address="2001:db8::2").text == "fine"
    assert server.upload(4000, address="2001:db8::3").status_code == 429  # of the same network
    server.clock.now = HOUR - 1
    assert server.upload(4000).status_code == 429
    server.clock.now = HOUR
    assert server.upload(4000).text == "fine"


def test_an_address_may_send_so_many_files_in_an_hour(server):
    assert server.upload(1, 1, 1).text == "fine"
    assert server.upload(1, 1, 1).text == "fine"
    assert server.upload(1).status_code == 429
    server.clock.now = HOUR
    assert server.upload(1, 1, 1).text == "fine"


def test_what_is_an_hour_old_is_forgotten():
    clock = Clock()
    sent = Sent(clock)
    for number in range(100):
        sent.add(str(number), 1, 1)
    clock.now = HOUR
    sent.add("last", 1, 0)
    assert (dict(sent.size), dict(sent.files), len(sent._parts)) == ({"last": 1}, {"last": 0}, 1)


def test_nothing_is_left_of_files_that_were_refused_half_way(monkeypatch, tiny):
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    monkeypatch.setenv("DRORAE_UPLOAD_MB", "1")

    def files():
        return {path for path in folder.rglob("*") if path.is_file()}

    def body():
        yield b'--abc\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        for _ in range(20):
            yield os.urandom(100_000)
        yield b"\r\n--abc--\r\n"

    with served(build_demo(tiny, "tiny")) as url:
        before = files()
        headers = {"content-type": "multipart/form-data; boundary=abc"}
        answer = httpx.post(f"{url}gradio_api/upload", content=body(), headers=headers)
        assert answer.status_code == 413
        assert answer.text == "A request may bring 1 MB of files here; send fewer at a time, or smaller ones.\n"
        assert files() == before
        kept = httpx.post(f"{url}gradio_api/upload", files={"files": ("a.png", b"-" * 100_000)})
        assert Path(kept.json()[0]) in files() - before
