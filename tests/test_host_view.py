"""The host's own view: for whoever knows the token, true, and without anything that visitors sent."""

from __future__ import annotations

import json
import logging
import re
from queue import Queue

import httpx
import pytest
from conftest import ROOT, served
from gate import PATIENCE, finish
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from page_client import PageClient, RefusedError, ToldError

from drorae.ui import host_view, jobs
from drorae.ui.host_view import HostSample, prometheus_text
from drorae.ui.jobs import RECENT, Job, Jobs
from drorae.ui.limits import SHARES, SIZES, Limits
from drorae.ui.page import build_demo

TOKEN = "a-token-that-nobody-guesses"
BEARER = {"authorization": f"Bearer {TOKEN}"}
SECRETS = ("secret-name", "203.0.113.77", "secret prompt", "gradio", "assets", "/tmp")
LINE = re.compile(r"^(\w+)(?:\{([^}]*)\})? (\S+)$")


def numbers(text: str) -> dict[str, float]:
    """Samples of Prometheus's text, each with its labels."""
    known = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, labels, value = LINE.match(line).groups()
            known[f"{name}{{{labels}}}" if labels else name] = float(value)
    return known


@pytest.fixture
def watched(tiny, monkeypatch):
    """A page with a token and a lane that takes nothing."""
    monkeypatch.setenv("DRORAE_HOST_TOKEN", TOKEN)
    monkeypatch.setenv("DRORAE_PROXIES", "127.0.0.1")
    limits = Limits(SIZES, {**SHARES, "layers": 0}, token=TOKEN)
    with served(build_demo(tiny, "tiny", limits=limits)) as url:
        yield url


def test_without_a_token_there_is_no_such_page(tiny_url):
    for path in ("drorae/host", "drorae/metrics"):
        assert httpx.get(tiny_url + path, headers={"authorization": "Bearer x"}).status_code == 404


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x"])
def test_who_does_not_know_the_token_sees_nothing(watched, given):
    for path in ("drorae/host", "drorae/metrics"):
        answer = httpx.get(watched + path, headers={"authorization": given})
        assert answer.status_code == 401
        assert "waiting" not in answer.text
        assert answer.headers["cache-control"] == "no-store"
    form = httpx.post(f"{watched}drorae/host", data={"token": given})
    assert form.status_code == (200 if given == TOKEN else 401)


def test_tokens_are_compared_in_constant_time(monkeypatch):
    seen = []
    monkeypatch.setattr(host_view.hmac, "compare_digest", lambda a, b: seen.append((a, b)) or True)
    assert host_view.is_token("given", "token")
    assert seen == [(b"given", b"token")]


def test_numbers_say_what_happened_and_nothing_of_what_was_sent(watched, written):
    async def visit():
        client = PageClient(watched, "203.0.113.77")
        await client.open()
        await client.ask("routes", {"key": "k", "example": "cat", "name": "secret-name.png"})
        with pytest.raises(ToldError):
            await client.ask("routes", {"key": "k", "example": "secret-name"})
        with pytest.raises(ToldError):
            await client.ask("generate", {"key": "g", "what": "pictures", "generator": "x", "subject": "secret prompt"})
        with pytest.raises(RefusedError):
            await client.ask("frames", {"key": "k", "example": "cat"})
        await client.close()

    before = numbers(httpx.get(f"{watched}drorae/metrics", headers=BEARER).text)
    assert before["drorae_visits_total"] == 0
    finish(visit())
    caller = Client(watched, verbose=False)  # which opens no page
    caller.predict(handle_file(str(ROOT / "assets/examples/cat.jpg")), api_name="/reconstruct")
    with pytest.raises(AppError):
        caller.predict(None, api_name="/routing")
    with pytest.raises(AppError):
        caller.predict(handle_file(str(ROOT / "README.md")), size=-5, api_name="/routing")
    lines = [json.loads(line) for line in written.take(7)]
    answer = httpx.get(f"{watched}drorae/metrics", headers=BEARER)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    after = numbers(answer.text)
    assert after["drorae_visits_total"] >= 1
    assert after['drorae_jobs_total{lane="explore",outcome="answered"}'] == 2
    assert after['drorae_jobs_total{lane="explore",outcome="told"}'] == 3
    assert after['drorae_jobs_total{lane="generate",outcome="told"}'] == 1
    assert after['drorae_jobs_total{lane="layers",outcome="refused"}'] == 1
    assert after['drorae_refusals_total{lane="layers",reason="visitor"}'] == 1
    assert after["drorae_answers_per_second"] == pytest.approx(2 / RECENT)
    assert after['drorae_compute_seconds_total{lane="explore"}'] > 0
    assert after["drorae_memory_bytes"] > 100e6
    assert after['drorae_waiting{lane="explore"}'] == after['drorae_running{lane="explore"}'] == 0

    page = httpx.post(f"{watched}drorae/host", data={"token": TOKEN})
    assert page.status_code == 200
    assert [(each["lane"], each["kind"], each["outcome"]) for each in lines] == [
        ("explore", "routes", "answered"),
        ("explore", "routes", "told"),
        ("generate", "generate", "told"),
        ("layers", "frames", "refused"),
        ("explore", "reconstruct", "answered"),
        ("explore", "routing", "told"),
        ("explore", "routing", "told"),
    ]
    assert all(set(each) <= {"time", "lane", "kind", "outcome", "waited", "seconds", "reason"} for each in lines)
    shown = answer.text.replace('gradio="', "") + page.text + json.dumps(lines)
    for secret in (*SECRETS, TOKEN):
        assert secret not in shown.replace("drorae_info", ""), secret


def test_a_failure_that_nobody_foresaw_is_counted_as_one(tiny, monkeypatch):
    monkeypatch.setattr("drorae.ui.photo.Photos.routes", lambda photos, wish: 1 / 0)
    demo, noted = build_demo(tiny, "tiny"), Queue()

    async def visit(url):
        client = PageClient(url)
        await client.open()
        number = await client.join("routes", {"key": "k", "example": "cat"})
        with pytest.raises(Exception, match="error"):
            async for _ in client.updates(number):
                pass
        await client.close()

    monkeypatch.setattr(demo._queue.jobs, "note", noted.put)
    with served(demo) as url:
        finish(visit(url))
    job = noted.get(timeout=PATIENCE)
    assert (job.lane, job.outcome) == ("explore", "failed")


def test_only_answers_of_the_last_minute_count_for_answers_per_second():
    now = [0.0]
    known = Jobs(["explore"], lambda: now[0])
    for number in range(6):
        known.note(Job("explore", "routes", jobs.ANSWERED, 1.0, 2.0))
        known.note(Job("explore", "routes", jobs.REFUSED, reason="full"))
        now[0] = number * 10.0
    assert known.answers_per_second() == 6 / RECENT
    assert known.usual_seconds("explore") == 2.0
    now[0] = RECENT + 15.0
    assert known.answers_per_second() == 3 / RECENT  # noted at 20, 30 and 40
    assert known.outcomes == {("explore", "answered"): 6, ("explore", "refused"): 6}


def test_prometheus_text_names_every_number_once():
    known = [
        HostSample("a_total", 1, {"x": "1"}, "one"),
        HostSample("b", 2.5, {}, "two"),
        HostSample("a_total", 3, {"x": "2"}, "one"),
    ]
    assert prometheus_text(known).splitlines() == [
        "# HELP a_total one",
        "# TYPE a_total counter",
        'a_total{x="1"} 1',
        'a_total{x="2"} 3',
        "# HELP b two",
        "# TYPE b gauge",
        "b 2.5",
    ]


class Lines(logging.Handler):
    """Lines of jobs, which are written when their visitors have been answered already."""

    def __init__(self):
        super().__init__()
        self.lines: Queue[str] = Queue()

    def emit(self, record):
        self.lines.put(record.getMessage())

    def take(self, count: int) -> list[str]:
        """So many lines, waited for."""
        return [self.lines.get(timeout=PATIENCE) for _ in range(count)]


@pytest.fixture
def written(watched) -> Lines:
    """The lines that the page writes."""
    handler = Lines()
    jobs.LOG.addHandler(handler)
    return handler


@pytest.fixture(autouse=True)
def quiet():
    """What a page with a token changes in the process is taken back."""
    yield
    jobs.LOG.handlers.clear()
    jobs.LOG.setLevel(logging.NOTSET)
    jobs.LOG.propagate = True
