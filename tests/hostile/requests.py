"""Requests that no page sends: wishes with anything in the place of every value, and whatever can be said by HTTP.

``python -m tests.hostile.requests`` takes all of them and prints, for each kind, how many were tried, refused and
answered, and what was wrong: an error that nobody foresaw, a status of 500 and above, no answer within :data:`SECONDS`,
a place on this machine in an answer, or what the request said in the server's log. It ends with 1 if anything was.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before its library is imported: nothing here asks a network
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import httpx
import torch

from drorae.ui import generate, many_photos
from drorae.ui.generators import CLASS, Generator
from drorae.ui.models import Shelf
from drorae.ui.page import build_demo, launch_options
from drorae.ui.photo import KNOWN, Photos
from drorae.ui.quiet_logs import keep_logs_quiet
from tests.hostile.samples import SHAPE, build_denoiser, build_tokenizer
from tests.hostile.tally import print_table

SECONDS = 300  # after which a request that hangs ends; nothing is meant to take as long
SECRET = "a-secret-that-was-sent"
ROOT = str(Path(__file__).parents[2])

VALUES: dict[str, Any] = {
    "null": None,
    "list": [[SECRET], {}],
    "empty list": [],
    "NaN": float("nan"),
    "infinity": float("-inf"),
    "negative": -8,
    "huge": 10**40,
    "fraction": 1.5,
    "string": SECRET,
    "path": "/etc/passwd",
    "null character": "a\0b",
    "half of a character": "\ud800",
    "long": "x" * 100_000,
    "dict": {"a": {"b": [None]}},
    "true": True,
}
CAT = {"example": "cat", "key": "k", "name": "cat"}
WISHES: dict[str, dict[str, Any]] = {
    "routes": {**CAT, "model": "tiny", "size": 32, "whole": False, "centre": [0.5, 0.5]},
    "tiles": CAT,
    "standing": {**CAT, "model": "tiny", "centre": [0.5, 0.5]},
    "intervene": {**CAT, "id": 1, "layers": [1], "beta": 0.2, "tokens": [0]},
    "tokenizers": {**CAT, "id": "mean-1"},
    "similar": {**CAT, "token": 0, "second": {**CAT, "key": "other"}},
    "arrays": CAT,
    "report": {**CAT, "state": {"view": "layers"}},
}
MAKE = {"key": "k", "generator": "tiny", "subject": 1, "seeds": [0], "steps": 2, "guidance": "none", "scale": 1.0}
MAKES: dict[str, dict[str, Any]] = {
    "first": MAKE,
    "pictures": MAKE,
    "grid": {**MAKE, "scales": [1.0, 2.0], "guidance": "cfg"},
    "walk": {**MAKE, "seeds": [0, 1], "end": 2},
    "photo": {**MAKE, "photos": [CAT], "time": 0.5},
    "morph": {**MAKE, "photos": [CAT, CAT], "model": "tiny"},
}


class Case(NamedTuple):
    """A request: what sends it returns what came back, ``None`` for what was refused without a sentence."""

    kind: str
    what: str
    send: Callable[[Served], Any]


class RefusalError(Exception):
    """It was refused in a sentence."""


class Served:
    """A tiny page, and the functions behind it."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        model = build_tokenizer()
        from drorae import DRoRAEClassPipeline
        from drorae.pipelines import flow

        pipeline = DRoRAEClassPipeline(model, build_denoiser(), flow.build_scheduler(*SHAPE), None, ["a", "b", "c"])
        pipeline.set_progress_bar_config(disable=True)
        self.shelf = Shelf(model, "tiny", open_to_all=False)
        self.photos = Photos(self.shelf)
        self.answers = self.photos.answers()
        self.generators = [Generator("tiny", CLASS, lambda: pipeline)]
        self.demo = build_demo(model, "tiny")
        self.errors = io.StringIO()
        keep_logs_quiet()

    @contextlib.contextmanager
    def launched(self) -> Iterator[None]:
        handler = logging.StreamHandler(self.errors)
        logging.getLogger().addHandler(handler)
        with contextlib.redirect_stderr(self.errors), contextlib.redirect_stdout(self.errors):
            _, self.address, _ = self.demo.launch(
                prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, **launch_options()
            )
            with httpx.Client(base_url=self.address, timeout=SECONDS, trust_env=False) as self.client:
                yield
            self.demo.close()
        logging.getLogger().removeHandler(handler)


# ---- wishes ---------------------------------------------------------------------------------------------------------


def _ask(kind: str, wish: dict[str, Any]) -> Callable[[Served], Any]:
    def send(served: Served) -> Any:
        try:
            found = served.answers[kind](wish)
            return [*found] if isinstance(found, Iterator) else found
        except KNOWN as error:
            raise RefusalError(str(error)) from None

    return send


def _updates(updates: Iterator[dict[str, Any]]) -> Any:
    *_, last = updates
    if "error" in last["answer"]:
        raise RefusalError(last["answer"]["error"])
    return last


def _make(wish: dict[str, Any]) -> Callable[[Served], Any]:
    return lambda served: _updates(generate.answer(served.shelf, served.generators, wish))


def _read_many(wish: dict[str, Any]) -> Callable[[Served], Any]:
    return lambda served: _updates(many_photos.answer(served.shelf, wish))


def wishes() -> Iterator[Case]:
    """Every value of every wish replaced by every value of :data:`VALUES`."""
    for name, value in VALUES.items():
        for kind, wish in WISHES.items():
            for key in {**wish, "example": None, "file": None, "model": None}:
                changed = {**wish, key: value} | ({"example": None} if key == "file" else {})
                yield Case("a wish about a photo", f"{kind}: {key} = {name}", _ask(kind, changed))
        for what, wish in MAKES.items():
            for key in {**wish, "what": what}:
                changed = {"what": what, **wish, key: value}
                yield Case("a wish for a picture", f"{what}: {key} = {name}", _make(changed))
        many = {"id": 1, "files": [{"example": "cat"}, {"path": "x"}], "names": ["a", "b"], "model": "tiny"}
        for key in many:
            yield Case("a wish about many photos", f"{key} = {name}", _read_many({**many, key: value}))
        for place in ({"example": value}, {"path": value}, value):
            yield Case("a wish about many photos", f"a file = {name}", _read_many({**many, "files": [place, place]}))


# ---- HTTP -----------------------------------------------------------------------------------------------------------

API = "/gradio_api"
PATHS = [
    *("/..", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc%2fpasswd", "//etc/passwd", "/\\..\\x"),
    *(
        f"{API}/file={each}"
        for each in ("/etc/passwd", "../../etc/passwd", "file:///etc/passwd", "", "\x00", "..", "/")
    ),
    *(
        f"{API}/file={each}"
        for each in ("/proc/self/environ", f"{ROOT}/pyproject.toml", f"{ROOT}/drorae/console.py", "~")
    ),
    *(f"{API}/file={each}" for each in ("http://127.0.0.1:1/x", "https://example.invalid/x", "x" * 5000, "%00", "%")),
    *(f"{API}/proxy={each}" for each in ("http://127.0.0.1:1/", "https://example.invalid", "file:///etc/passwd", "x")),
    *(f"/drorae/{each}" for each in ("../pyproject.toml", "%2e%2e/x", "drorae-tiny/config.json", "card.png/..", "")),
    *(
        f"{API}/{each}"
        for each in ("info", "startup-events", "monitoring", "monitoring/summary", "dev/reload", "vibe-edit")
    ),
    *(f"{API}/stream/{each}" for each in ("a/b/c/playlist.m3u8", "../../../etc/passwd", "x/1/2/../../3.ts")),
    *(f"{API}/upload_progress?upload_id={each}" for each in ("x", "../x", "%00")),
    *(f"{API}/heartbeat/{each}" for each in ("",)),
    *(f"{API}/custom_component/{each}" for each in ("x/server/component/../../x", "x/y/z/..%2f..%2fetc%2fpasswd")),
    *(f"/static/{each}" for each in ("../../etc/passwd", "..%2f..%2f", "img/../../x")),
    *(f"/assets/{each}" for each in ("../../etc/passwd", "..%2f..%2fx.js", "index.js/..", "\x00.js")),
    *(f"/svelte/{each}" for each in ("../../x", "x.js")),
    *("/pwa_icon/0", "/pwa_icon/-1", "/pwa_icon/x", "/manifest.json", "/robots.txt", "/theme.css", "/config", "/login"),
    *(
        "/logout",
        "/token",
        "/app_id",
        "/?view=../..",
        f"/?deep_link={'x' * 2000}",
        "/?deep_link=../../etc",
        "/mcp",
        "/docs",
    ),
]
BODIES: dict[str, bytes] = {
    "nothing": b"",
    "half": b'{"data": [',
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "not UTF-8": b'{"data": "\xff"}',
    "deep": b"[" * 50_000 + b"]" * 50_000,
    "2 MB": b'{"data": ["' + b"x" * 2_000_000 + b'"]}',
    "a number of 10,000 digits": b'{"fn_index": 1' + b"0" * 10_000 + b"}",
    "NaN": b'{"data": [NaN, Infinity], "fn_index": NaN}',
    "pickle": b"\x80\x04\x95\x00.",
}
POSTS = [f"{API}/{each}" for each in ("queue/join", "run/reconstruct", "call/reconstruct", "reset", "cancel", "api/x")]
POSTS += [
    f"{API}/{each}" for each in ("component_server", "upload", "stream/x", "stream/x/close", "login", "run/predict")
]
HEADERS = [
    *({"host": each} for each in ("evil.example", "", "127.0.0.1:99999", "[::1", "a" * 5000, "localhost@evil.example")),
    *({"x-forwarded-host": each} for each in ("evil.example", '"><script>', "a b", "\t", "a" * 5000)),
    *({"x-forwarded-proto": each} for each in ("javascript", "x" * 100)),
    *({"origin": each} for each in ("null", "http://[", "http://evil.example", "x" * 5000)),
    *({"range": each} for each in ("bytes=9-1", "bytes=0-,0-,0-,0-", "x", f"bytes={'0-1,' * 500}0-1")),
    *({"accept-encoding": each} for each in ("br;q=x", "*" * 3000)),
    *({"cookie": each} for each in ("access-token-unsecure=x", "a" * 5000)),
    *(
        {"if-none-match": "x" * 3000},
        {"if-modified-since": "never"},
        {"content-length": "-1"},
        {"x-gradio-user": "app"},
    ),
]
FORMS: dict[str, tuple[bytes, str]] = {
    "no boundary": (b"x", "multipart/form-data"),
    "no parts": (b"--b--\r\n", "multipart/form-data; boundary=b"),
    "no end": (
        b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nx',
        "multipart/form-data; boundary=b",
    ),
    "no name": (b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n", "multipart/form-data; boundary=b"),
    "another field": (
        b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\nx\r\n--b--\r\n',
        "multipart/form-data; boundary=b",
    ),
    "not a form": (b"{}", "application/json"),
    "a long boundary": (b"x", f"multipart/form-data; boundary={'b' * 5000}"),
    "a strange charset": (b"--b--\r\n", "multipart/form-data; boundary=b; charset=x-none"),
}
NAMES = [
    "../../x.png",
    "/etc/passwd",
    "..\\x",
    "",
    ".",
    "..",
    "x" * 300 + ".png",
    "a\0b.png",
    SECRET + ".html",
    "é" * 200,
    "CON",
]


def _answer(response: httpx.Response) -> Any:
    if response.status_code >= 500:
        raise AssertionError(f"status {response.status_code}: {response.text[:200]}")
    if response.status_code >= 400:
        raise RefusalError(response.text)
    return response.text


def _get(path: str, headers: dict[str, str] | None = None) -> Callable[[Served], Any]:
    def send(served: Served) -> Any:
        with served.client.stream("GET", path, headers=headers) as response:
            if "event-stream" in response.headers.get("content-type", ""):
                return ""  # it goes on for as long as one listens
            response.read()
            return _answer(response)

    return send


def _post(path: str, content: bytes, kind: str = "application/json") -> Callable[[Served], Any]:
    return lambda served: _answer(served.client.post(path, content=content, headers={"content-type": kind}))


def _upload(name: str, content: bytes) -> Callable[[Served], Any]:
    def send(served: Served) -> Any:
        return _answer(served.client.post(f"{API}/upload", files={"files": (name, content)}))

    return send


def _join(number: Any, data: Any, **more: Any) -> Callable[[Served], Any]:
    """Ask for an event, and wait for its end."""

    def send(served: Served) -> Any:
        session = more.get("session_hash", "s")
        wish = {"fn_index": number, "data": data, "session_hash": "s", **more}
        body = json.dumps(wish).encode("utf-8", "surrogatepass")
        joined = _answer(
            served.client.post(f"{API}/queue/join", content=body, headers={"content-type": "application/json"})
        )
        if "event_id" not in joined:
            return joined
        with served.client.stream("GET", f"{API}/queue/data", params={"session_hash": str(session)}) as response:
            for line in response.iter_lines():
                if '"process_completed"' in line or '"unexpected_error"' in line or '"close_stream"' in line:
                    if '"success":false' in line.replace(" ", ""):
                        raise RefusalError(line)
                    return line
        return ""

    return send


def http() -> Iterator[Case]:
    """Paths, headers, bodies, forms, files and events."""
    for path in PATHS:
        yield Case("a path", f"{path!r:.80}", _get(path))
    for headers in HEADERS:
        yield Case("headers", f"{headers!r:.80}", _get("/", headers))
        yield Case("headers", f"of a file: {headers!r:.80}", _get("/drorae/card.png", headers))
    for path in POSTS:
        for name, body in BODIES.items():
            yield Case("a body", f"{path}: {name}", _post(path, body))
    for name, (body, kind) in FORMS.items():
        yield Case("a form", name, _post(f"{API}/upload", body, kind))
    for name in NAMES:
        yield Case("a file's name", f"{name!r:.60}", _upload(name, b"x"))
    for number in (-1, 10**6, None, "x", 1.5, [], {}, True, 10**30):
        yield Case("an event", f"number {number!r}", _join(number, []))
    for session in (None, "", "../x", "\ud800", 7, [], {}, "x" * 100_000):
        yield Case("an event", f"session {session!r:.40}", _join(0, [], session_hash=session))
    for more in ({"trigger_id": "x"}, {"trigger_id": -1}, {"event_data": [1]}, {"batched": True}, {"event_id": {}}):
        yield Case("an event", f"{more}", _join(0, [], **more))


def events(served: Served) -> Iterator[Case]:
    """Every event of the page with other values for all that it takes."""
    for dependency in served.demo.config["dependencies"]:
        number, count = dependency["id"], len(dependency["inputs"])
        if not dependency["backend_fn"]:
            continue
        for name, value in VALUES.items():
            data = [value] * count
            if isinstance(value, float):
                data = [None] * count  # which JSON does not have
            yield Case("an event's values", f"{number} ({dependency['api_name']}): {name}", _join(number, data))
        for data in ([], [None] * (count + 3), "x", None, {"a": 1}):
            yield Case("an event's values", f"{number}: {data!r:.30}", _join(number, data))


# ---- trying ---------------------------------------------------------------------------------------------------------


def outcome(served: Served, case: Case) -> tuple[str, str]:
    """ "read", "refused" or "wrong", and what was said."""
    heard = len(served.errors.getvalue())
    try:
        result, said = "read", str(case.send(served))
    except RefusalError as error:
        result, said = "refused", str(error)
    except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeEncodeError) as error:
        return "refused", f"cannot be sent: {error}"
    except Exception as error:
        return "wrong", f"{type(error).__name__}: {error}"
    logged = served.errors.getvalue()[heard:]
    if "Traceback" in said or "Traceback" in logged:
        return "wrong", f"a traceback: {(said + logged)[-300:]}"
    if SECRET in logged:
        return "wrong", f"in the log: {logged[-300:]}"
    told = any(place in said and place not in case.what for place in (ROOT, tempfile.gettempdir() + "/"))
    if result == "refused" and told:
        return "wrong", f"says where it is: {said[:300]}"
    return result, said


def main(arguments: list[str]) -> int:
    """All of them; or those whose kind or words contain what was given."""
    served = Served()
    output = sys.stdout
    kinds: dict[str, Counter[str]] = {}
    with served.launched():
        for case in [*wishes(), *http(), *events(served)]:
            if arguments and not any(part in f"{case.kind}, {case.what}" for part in arguments):
                continue
            result, said = outcome(served, case)
            kinds.setdefault(case.kind, Counter())[result] += 1
            if result == "wrong":
                print(
                    f"{case.kind}, {case.what}: {said:.400}".encode("utf-8", "replace").decode(),
                    file=output,
                    flush=True,
                )
    return print_table(kinds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
