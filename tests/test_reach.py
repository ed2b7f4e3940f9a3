"""Who reaches the page: by which names, from which sites, and past which queue."""

from __future__ import annotations

import httpx
import pytest
from conftest import served
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

import drorae.ui.app as app
from drorae.ui import web
from drorae.ui.page import build_demo
from drorae.ui.reach import OTHER_SITE, HereOnly, OwnUploads, is_for_this_machine, is_here


async def fine(request):
    return PlainTextResponse("fine")


@pytest.fixture
def client() -> TestClient:
    routes = [
        Route(path, fine, methods=["GET", "POST"]) for path in ("/", "/gradio_api/upload", "/gradio_api/queue/join")
    ]
    return TestClient(Starlette(routes=routes, middleware=[Middleware(HereOnly), Middleware(OwnUploads)]))


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True),
        ("LOCALHOST:7860", True),
        ("127.0.0.1:7860", True),
        ("127.9.9.9", True),
        ("[::1]:7860", True),
        ("0.0.0.0:7860", False),
        ("192.168.0.7:7860", False),
        ("example.org", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
        ("127.0.0.1@example.org", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_only_this_machines_own_names_are_answered(client, host, here):
    answer = client.get("/", headers={"host": host})
    assert answer.status_code == (200 if here else 403)
    assert here or "--host" in answer.text


def test_hosts_of_this_machine():
    assert all(map(is_here, ("localhost", "127.0.0.1", "::1", "[::1]")))
    assert not any(map(is_here, ("", "0.0.0.0", "::", "10.0.0.1", "example.org", "localhost.")))


@pytest.mark.parametrize(
    ("host", "environment", "alone"),
    [
        (None, {}, True),
        (None, {"GRADIO_SERVER_NAME": "localhost"}, True),
        (None, {"GRADIO_SHARE": "False"}, True),
        (None, {"GRADIO_SERVER_NAME": "0.0.0.0"}, False),
        (None, {"GRADIO_SERVER_NAME": "example.org"}, False),
        (None, {"GRADIO_SHARE": "True"}, False),
        (None, {"SPACE_ID": "me/drorae"}, False),
        ("0.0.0.0", {}, False),
        ("127.0.0.1", {}, False),  # who says so has a proxy in front
    ],
)
def test_this_machine_only_is_judged_by_where_the_page_is_served(monkeypatch, host, environment, alone):
    for name in ("GRADIO_SERVER_NAME", "GRADIO_SHARE", "SPACE_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_for_this_machine(host) == alone


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({}, False),  # a program
        ({"sec-fetch-site": "same-origin"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "cross-site"}, True),
        ({"origin": "http://localhost:7860"}, False),
        ({"origin": "https://explorer.org", "x-forwarded-host": "explorer.org"}, False),
        ({"origin": "https://evil.example"}, True),
        ({"origin": "http://localhost:7861"}, True),
        ({"origin": "null"}, True),
    ],
)
def test_files_come_from_the_page_or_from_programs(client, headers, refused):
    answer = client.post("/gradio_api/upload", headers={"host": "localhost:7860", **headers})
    assert (answer.status_code == 403) == refused
    assert (answer.text == OTHER_SITE) == refused
    # it is about files alone
    assert client.post("/gradio_api/queue/join", headers={"host": "localhost:7860", **headers}).status_code == 200


def test_the_program_guards_a_page_for_this_machine_alone(monkeypatch, tiny):
    seen = {}

    class Demo:
        def launch(self, **options):
            seen.update(options)

    def build(*arguments, switch, **options):
        seen["switch"] = switch
        return Demo()

    monkeypatch.setattr(app, "load_tokenizer", lambda name: tiny)
    monkeypatch.setattr(app, "build_demo", build)
    for name in ("GRADIO_SERVER_NAME", "GRADIO_SHARE", "SPACE_ID"):
        monkeypatch.delenv(name, raising=False)
    for arguments, switch, guarded in (
        ([], True, True),
        (["--host", "0.0.0.0"], False, False),
        (["--any-model"], True, False),
        (["--host", "0.0.0.0", "--any-model"], True, False),
    ):
        assert app.main(arguments) == 0
        guards = [each.cls for each in seen["app_kwargs"]["middleware"]]
        assert (seen["switch"], HereOnly in guards) == (switch, guarded)
        assert OwnUploads in guards
    assert HereOnly not in [each.cls for each in web.app_kwargs()["middleware"]]


@pytest.fixture(scope="module")
def address(tiny):
    with served(build_demo(tiny, "random")) as url:
        yield url


def test_other_sites_send_no_files_to_a_page_that_is_served(address):
    files = {"files": ("a.png", b"x")}
    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}):
        assert httpx.post(f"{address}gradio_api/upload", files=files, headers=headers).status_code == 403
    assert httpx.post(f"{address}gradio_api/upload", files=files).status_code == 200


def test_nobody_gets_past_the_queue(address):
    for path in ("gradio_api/run/reconstruct", "gradio_api/api/reconstruct"):
        answer = httpx.post(address + path, json={"data": [None]})
        assert answer.status_code in (401, 403, 404), path


@pytest.mark.parametrize("path", ["monitoring", "monitoring/summary"])
def test_nobody_watches_what_others_do(address, path):
    assert httpx.get(address + path, follow_redirects=True).status_code == 403
    assert httpx.get(f"{address}gradio_api/{path}", follow_redirects=True).status_code in (403, 404)
