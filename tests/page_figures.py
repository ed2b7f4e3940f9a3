"""What the page costs: bytes, requests, times and memory, as a table: ``python -m tests.page_figures``.

The page is what ``python app.py`` serves from this checkout. An empty ``gr.Blocks`` is served in the same way, and both
are opened in turns, so that other work on the machine weighs on both.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import urlopen

from playwright.sync_api import Browser, sync_playwright

from tests.browser import CHROMIUM, FLAGS

ROOT = Path(__file__).resolve().parent.parent
PAINTED = 'html[data-painted="1"]'  # the page's own mark: its first result is on the screen
EMPTY_PAINTED = "footer"  # all that an empty page shows
EMPTY = """
import sys
import gradio as gr
with gr.Blocks() as demo:
    pass
demo.launch(server_name="127.0.0.1", server_port=int(sys.argv[1]), ssr_mode=False)
"""
IMPORTS = "import torch, diffusers, gradio"
# paths of Gradio's own: all others are counted as ours, the page itself too
GRADIO = re.compile(r"/(assets|static|svelte)/|/(theme\.css|manifest\.json|robots\.txt|favicon\.ico)$")
QUIET = 1.5  # seconds without a request after which a page has settled
LIMIT = 400  # seconds that anything may take
DESKTOP, PHONE = (1440, 900), (390, 844)

# notes when something that matches a selector is there, pictures in it loaded
WATCH = """
(() => {
    const look = () => {
        const node = document.querySelector(%r);
        if (!node || (node.tagName === "IMG" && !(node.complete && node.naturalWidth))) {
            requestAnimationFrame(look);
        } else {
            requestAnimationFrame(() => setTimeout(() => performance.mark("result")));  // when that frame is drawn
        }
    };
    look();
})();
"""


class Transfer(NamedTuple):
    """One request: its path, when it was sent and answered (seconds since 1970), and bytes with headers."""

    path: str
    sent: float
    finished: float
    size: int


class Load(NamedTuple):
    """A page that was opened in a browser that knew nothing of it. Times are seconds since the navigation."""

    paint: float
    result: float
    result_at: float
    transfers: list[Transfer]

    def requests(self, settled: bool) -> int:
        """How many requests were sent until the result was painted, or in all."""
        return sum(settled or transfer.sent <= self.result_at for transfer in self.transfers)

    def size(self, settled: bool, ours: bool) -> int:
        """Bytes of the answers that were there when the result was painted, or of all; of everything, or ours only."""
        return sum(
            transfer.size
            for transfer in self.transfers
            if (settled or transfer.finished <= self.result_at) and (not ours or is_ours(transfer.path))
        )


def is_ours(path: str) -> bool:
    """Whether an answer is made by this project, the page included, and not a file of Gradio's."""
    return GRADIO.search(path) is None


class Network:
    """The requests of a page, from the events of Chrome's protocol."""

    def __init__(self) -> None:
        self.changed = time.monotonic()
        self._sent: dict[str, tuple[str, float, float]] = {}
        self._received: dict[str, int] = {}
        self._finished: dict[str, tuple[float, int]] = {}

    def request_will_be_sent(self, event: dict[str, Any]) -> None:
        """A request leaves."""
        url = urlsplit(event["request"]["url"])
        if url.scheme in ("http", "https"):
            self._sent[event["requestId"]] = (url.path, event["wallTime"], event["timestamp"])
            self.changed = time.monotonic()

    def data_received(self, event: dict[str, Any]) -> None:
        """A part of an answer comes."""
        part = event["encodedDataLength"] or event["dataLength"]
        self._received[event["requestId"]] = self._received.get(event["requestId"], 0) + part

    def loading_finished(self, event: dict[str, Any]) -> None:
        """An answer is there."""
        self._finished[event["requestId"]] = (event["timestamp"], int(event["encodedDataLength"]))
        self.changed = time.monotonic()

    def transfers(self) -> list[Transfer]:
        """All requests. A stream that is still open counts with what has come, as if it had come at once."""
        found = []
        for request, (path, wall, sent) in self._sent.items():
            finished, size = self._finished.get(request, (sent, self._received.get(request, 0)))
            found.append(Transfer(path, wall, wall + finished - sent, size))
        return found


def load(
    browser: Browser,
    url: str,
    selector: str,
    window: tuple[int, int] = DESKTOP,
    line: tuple[float, float] | None = None,
) -> Load:
    """A page, opened with an empty cache and left when no request comes any more.

    Args:
        selector: of what is there once the result is painted.
        window: width and height, pixels.
        line: megabits per second and milliseconds of a slow line.
    """
    context = browser.new_context(viewport={"width": window[0], "height": window[1]})
    page = context.new_page()
    page.set_default_timeout(1000 * LIMIT)
    page.add_init_script(WATCH % selector)
    network, session = Network(), context.new_cdp_session(page)
    session.on("Network.requestWillBeSent", network.request_will_be_sent)
    session.on("Network.dataReceived", network.data_received)
    session.on("Network.loadingFinished", network.loading_finished)
    session.send("Network.enable")
    if line is not None:
        rate = line[0] * 1e6 / 8
        options = {"offline": False, "downloadThroughput": rate, "uploadThroughput": rate, "latency": line[1]}
        session.send("Network.emulateNetworkConditions", options)
    page.goto(url, wait_until="commit")
    page.wait_for_function("performance.getEntriesByName('result').length")
    network.changed = time.monotonic()  # what the result itself asks for counts, too, however late the result is
    while time.monotonic() < network.changed + QUIET:
        page.wait_for_timeout(100)
    paint, result, origin = page.evaluate(
        """() => [
            ...["first-contentful-paint", "result"].map((name) => performance.getEntriesByName(name)[0].startTime),
            performance.timeOrigin,
        ]"""
    )
    found = Load(paint / 1000, result / 1000, (origin + result) / 1000, network.transfers())
    context.close()
    return found


class Start(NamedTuple):
    """A server that answers: seconds from the start of its process, and processor seconds of it."""

    process: subprocess.Popen
    url: str
    wall: float
    cpu: float

    def memory(self) -> float:
        """What it holds in memory, GB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1e6


@contextmanager
def server(*arguments: str, port: int) -> Iterator[Start]:
    """A Python program that serves a page at a port, once it answers; ended afterwards.

    Raises:
        RuntimeError: it ends or does not answer in time.
    """
    url, started = f"http://127.0.0.1:{port}/", time.perf_counter()
    environment = os.environ | {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "no_proxy": "127.0.0.1"}
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    try:
        while not answers(url):
            if process.poll() is not None or time.perf_counter() > started + LIMIT:
                raise RuntimeError(f"{arguments[0]} does not answer at {url}")
            time.sleep(0.05)
        wall = time.perf_counter() - started
        ticks = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        yield Start(process, url, wall, (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK"))
    finally:
        process.terminate()
        process.wait(LIMIT)


def answers(url: str) -> bool:
    """Whether a server gives a page."""
    try:
        with urlopen(url, timeout=LIMIT) as answer:
            return answer.status == 200
    except OSError:
        return False


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def import_times() -> tuple[float, float]:
    """Seconds and processor seconds of a process that only imports the libraries."""
    before, started = os.times(), time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], cwd=ROOT, check=True)
    wall, after = time.perf_counter() - started, os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, spent


def megabytes(size: float) -> str:
    """Bytes for the table."""
    return f"{size / 1e6:.2f} MB"


def middle(values: list[float]) -> str:
    """Median and range of seconds for the table."""
    return f"{statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})"


def load_rows(pages: list[Load], empties: list[Load]) -> list[tuple[str, str]]:
    """Rows of the table about pages that were opened in turns with an empty one."""
    rows = []
    for settled, name in ((False, "until the result is painted"), (True, "settled")):
        for load_, kind in ((pages[0], "page"), (empties[0], "empty gr.Blocks")):
            text = f"{load_.requests(settled)} requests, {megabytes(load_.size(settled, False))}"
            rows.append((f"{kind}, {name}", f"{text}, of them ours {megabytes(load_.size(settled, True))}"))
    rows += [
        ("page: first contentful paint", middle([each.paint for each in pages])),
        ("page: result painted", middle([each.result for each in pages])),
        ("empty gr.Blocks: first contentful paint", middle([each.paint for each in empties])),
        ("empty gr.Blocks: all painted", middle([each.result for each in empties])),
    ]
    for name, page, empty in (
        ("first contentful paint, page / empty", "paint", "paint"),
        ("result painted / all of the empty one painted", "result", "result"),
    ):
        ratio = statistics.median(getattr(a, page) for a in pages) / statistics.median(
            getattr(b, empty) for b in empties
        )
        rows.append((name, f"{ratio:.2f}"))
    return rows


def largest(page: Load, count: int = 8) -> list[tuple[str, str]]:
    """Rows of the answers that weigh most."""
    heavy = sorted(page.transfers, key=lambda transfer: -transfer.size)[:count]
    return [(f"heavy: `{transfer.path}`", megabytes(transfer.size)) for transfer in heavy]


def figures(selector: str, runs: int) -> Iterator[tuple[str, str]]:
    """Rows of the table: what, and the figure."""
    import_times()  # reads the libraries from the disk
    starts, imports = [], []
    for _ in range(runs - 1):
        imports.append(import_times())
        with server("app.py", "--port", str(port := free_port()), port=port) as page:
            starts.append(page)
    imports.append(import_times())
    ports = free_port(), free_port()
    with (
        server("app.py", "--port", str(ports[0]), port=ports[0]) as page,
        server("-c", EMPTY, str(ports[1]), port=ports[1]) as empty,
        sync_playwright() as playwright,
    ):
        starts.append(page)
        for name, index in (("", 0), (", processor time", 1)):
            times = [(each.wall, each.cpu)[index] for each in starts]
            bare = [each[index] for each in imports]
            yield f"`python app.py` to its first answer{name}", middle(times)
            yield f"`{IMPORTS}`{name}", middle(bare)
            yield f"first answer / imports{name}", f"{statistics.median(times) / statistics.median(bare):.2f}"
        yield "server memory after start", f"{page.memory():.2f} GB"
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        load(browser, empty.url, EMPTY_PAINTED)  # the browser itself has to start
        pages, empties = [], []
        for _ in range(runs):
            empties.append(load(browser, empty.url, EMPTY_PAINTED))
            pages.append(load(browser, page.url, selector))
        yield from load_rows(pages, empties)
        yield from largest(pages[0])
        for name, window, line in (("10 Mbit/s, 40 ms", DESKTOP, (10, 40)), ("phone, 4 Mbit/s, 80 ms", PHONE, (4, 80))):
            slow = load(browser, page.url, selector, window, line)
            yield f"result painted at {name}", f"{slow.result:.2f} s (first contentful paint {slow.paint:.2f})"
        browser.close()
        yield f"server memory after {runs + 2} visits", f"{page.memory():.2f} GB"


def main(arguments: list[str] | None = None) -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.page_figures", description=__doc__)
    parser.add_argument(
        "--painted", default=PAINTED, help="selector of what is there once a result is painted (default: %(default)s)"
    )
    parser.add_argument("--runs", type=int, default=3, help="how often each time is taken (default: %(default)s)")
    args = parser.parse_args(arguments)
    if CHROMIUM is None or sys.platform != "linux":
        print("This needs Linux and Debian's package chromium.", file=sys.stderr)
        return 2
    print("| what | figure |\n|---|---|")
    for what, figure in figures(args.painted, args.runs):
        print(f"| {what} | {figure} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
