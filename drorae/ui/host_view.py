"""The host's own view: how busy the page is, as a page and as Prometheus text, for whoever knows the token. It holds
numbers and names of ours only, nothing that visitors sent."""

from __future__ import annotations

import hmac
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Iterator
from html import escape
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from drorae.ui.addresses import route_path
from drorae.ui.lanes import LaneQueue

PAGE, METRICS = "/drorae/host", "/drorae/metrics"
LONGEST = 2000  # bytes of a form
HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
UNKNOWN = "The token is missing or wrong. Send it as 'Authorization: Bearer ...'.\n"
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color-scheme:light dark}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .8rem;text-align:right}"
    "th:first-child,td:first-child{text-align:left}tr+tr{border-top:1px solid #8884}"
)
FORM = (
    '<form method="post"><label>Token <input type="password" name="token" required autocomplete="current-password">'
    "</label> <button>Show</button></form>"
)


class Requests:
    """What was asked of the server besides jobs, counted since it started."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.visits, self.errors = 0, 0
        self.refused: Counter[str] = Counter()  # by reason

    def refuse(self, reason: str) -> None:
        """Count a request that was refused."""
        self.refused[reason] += 1


class Counted:
    """Counts pages that were opened, and answers that were errors of the server."""

    def __init__(self, app: ASGIApp, requests: Requests):
        self.app, self.requests = app, requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        opens = scope["method"] == "GET" and route_path(scope) == "/"

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.requests.visits += opens and message["status"] == 200
                self.requests.errors += message["status"] >= 500
            await send(message)

        await self.app(scope, receive, send_counted)


class HostSample(NamedTuple):
    """One number: Prometheus's name and labels, and what it is."""

    name: str
    value: float
    labels: dict[str, str]
    about: str

    @property
    def kind(self) -> str:
        """Prometheus's type."""
        return "counter" if self.name.endswith("_total") else "gauge"


def host_routes(token: str, requests: Requests) -> list[Route]:
    """Routes of the page and of the metrics; none without a token."""
    if not token:
        return []

    async def page(request: Request) -> Response:
        given = await form_token(request) if request.method == "POST" else bearer(request)
        if not is_token(given, token):
            return HTMLResponse(document(FORM), 401, {**HEADERS, "www-authenticate": "Bearer"})
        return HTMLResponse(document(tables(samples(request, requests)) + FORM), headers=HEADERS)

    async def metrics(request: Request) -> Response:
        if not is_token(bearer(request), token):
            return PlainTextResponse(UNKNOWN, 401, {**HEADERS, "www-authenticate": "Bearer"})
        text = prometheus_text(list(samples(request, requests)))
        return PlainTextResponse(text, headers=HEADERS, media_type="text/plain; version=0.0.4")

    return [Route(PAGE, page, methods=["GET", "POST"]), Route(METRICS, metrics, methods=["GET"])]


def is_token(given: str, token: str) -> bool:
    """Whether somebody knows the token; how long it takes to find out says nothing about it."""
    return hmac.compare_digest(given.encode(), token.encode())


def bearer(request: Request) -> str:
    """The token in a header; empty where there is none."""
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    return given.strip() if kind.lower() == "bearer" else ""


async def form_token(request: Request) -> str:
    """The token in a form; empty where there is none."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST:
            return ""
    return parse_qs(body.decode("ascii", "replace")).get("token", [""])[0]


def samples(request: Request, requests: Requests) -> Iterator[HostSample]:
    """All numbers, taken now."""
    queue: LaneQueue = request.app.get_blocks()._queue
    jobs = queue.jobs
    versions = {
        "version": package_version("drorae"),
        "gradio": package_version("gradio"),
        "torch": package_version("torch"),
    }
    yield HostSample("drorae_info", 1, {**versions, "python": platform.python_version()}, "versions")
    yield HostSample("drorae_uptime_seconds", time.monotonic() - requests.started, {}, "since the page was started")
    yield HostSample("drorae_memory_bytes", resident_bytes(), {}, "memory of this process")
    yield HostSample("drorae_visits_total", requests.visits, {}, "pages opened")
    yield HostSample("drorae_answers_per_second", jobs.answers_per_second(), {}, "answers of the last minute")
    yield HostSample("drorae_server_errors_total", requests.errors, {}, "answers with a status from 500")
    for reason in ("body", "files", "upload", "visitor"):
        yield HostSample("drorae_requests_refused_total", requests.refused[reason], {"reason": reason}, "sent too much")
    for lane in jobs.lanes:
        yield HostSample("drorae_waiting", len(queue.waiting(lane)), {"lane": lane}, "jobs in line")
        yield HostSample("drorae_running", len(queue.running(lane)), {"lane": lane}, "jobs being computed")
        yield HostSample("drorae_wait_seconds_total", jobs.waited[lane], {"lane": lane}, "seconds in line")
        yield HostSample("drorae_compute_seconds_total", jobs.seconds[lane], {"lane": lane}, "seconds computing")
    for (lane, outcome), count in sorted(jobs.outcomes.items()):
        yield HostSample("drorae_jobs_total", count, {"lane": lane, "outcome": outcome}, "jobs by how they ended")
    for (lane, reason), count in sorted(jobs.reasons.items()):
        yield HostSample("drorae_refusals_total", count, {"lane": lane, "reason": reason}, "jobs refused, and why")


def prometheus_text(known: list[HostSample]) -> str:
    """Samples in Prometheus's text format, those of one name together."""
    lines = []
    for name, first in {sample.name: sample for sample in reversed(known)}.items():
        lines += [f"# HELP {name} {first.about}", f"# TYPE {name} {first.kind}"]
        for sample in known:
            if sample.name == name:
                labels = ",".join(f'{key}="{value}"' for key, value in sample.labels.items())
                lines.append(f"{name}{f'{{{labels}}}' if labels else ''} {sample.value:.12g}")
    return "\n".join(lines) + "\n"


def tables(known: Iterator[HostSample]) -> str:
    """Samples as a table in HTML."""
    rows = []
    for sample in known:
        labels = ", ".join(sample.labels.values())
        value = f"{sample.value:,.2f}".rstrip("0").rstrip(".")
        rows.append(f"<tr><td>{escape(sample.about)}</td><td>{escape(labels)}</td><td>{value}</td></tr>")
    return f"<table><tr><th>what</th><th>of</th><th>number</th></tr>{''.join(rows)}</table>"


def document(body: str) -> str:
    """A page of its own."""
    head = f'<meta charset="utf-8"><title>drorae: the host\'s view</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body><h1>The host\'s view</h1>{body}</body></html>'


def package_version(package: str) -> str:
    """Version of a package; empty where it is not installed as one."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def resident_bytes() -> int:
    """Memory that this process has; the most that it had, where the system does not say what it has now."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource  # not on Windows

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
