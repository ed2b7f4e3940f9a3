"""What the page costs is counted right: on a page whose files and moments are known."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from browser import CHROMIUM, FLAGS
from gate import VISIT, in_thread, result_of
from playwright.sync_api import sync_playwright

from tests.page_figures import PAINTED, Load, Transfer, is_ours, load

PAGE = """<!doctype html><p>words</p><script src="/assets/gradio.js"></script><script>
setTimeout(() => { document.documentElement.dataset.painted = "1"; }, 700);
new PerformanceObserver((list) => {
  if (list.getEntriesByName("result").length) fetch("/drorae/late.json");
}).observe({ entryTypes: ["mark"] });
</script>"""
FILES = {"/": PAGE, "/assets/gradio.js": "//" + "x" * 50_000, "/drorae/late.json": '"' + "y" * 20_000 + '"'}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        content = FILES.get(self.path, "").encode()
        self.send_response(200 if content else 404)
        self.send_header("Content-Type", "text/javascript" if self.path.endswith(".js") else "text/html")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_bytes_and_requests_until_a_moment():
    transfers = [
        Transfer("/", 10.0, 10.2, 1000),
        Transfer("/assets/index.js", 10.3, 10.6, 500),
        Transfer("/drorae/examples/cat.json", 10.4, 11.5, 70),
        Transfer("/gradio_api/queue/data", 12.0, 12.5, 3),
    ]
    found = Load(0.5, 1.0, 11.0, transfers)
    assert (found.requests(settled=False), found.requests(settled=True)) == (3, 4)
    assert (found.size(settled=False, ours=False), found.size(settled=False, ours=True)) == (1500, 1000)
    assert (found.size(settled=True, ours=False), found.size(settled=True, ours=True)) == (1573, 1073)


def test_what_is_ours():
    assert all(map(is_ours, ("/", "/drorae/card.png", "/gradio_api/file=/tmp/a.png", "/config")))
    assert not any(map(is_ours, ("/assets/a.js", "/static/img/a.svg", "/theme.css", "/below/assets/a.js")))


def opened(address: str) -> Load:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            return load(browser, address, PAINTED)
        finally:
            browser.close()


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="there is no 'chromium' on this machine; install Debian's package")
def test_a_page_is_measured(address):
    # in another thread: the other browser tests keep an event loop running in this one
    found = result_of(in_thread(opened, address), VISIT)
    assert found.result > 0.7
    assert 0 < found.paint <= found.result
    sizes = {transfer.path: transfer.size for transfer in found.transfers}
    for path, content in FILES.items():
        assert len(content) < sizes[path] < len(content) + 500, path  # with headers
    late = [transfer for transfer in found.transfers if transfer.path == "/drorae/late.json"]
    assert late[0].sent > found.result_at
    assert found.size(settled=True, ours=False) - found.size(settled=False, ours=False) >= sizes["/drorae/late.json"]
    assert found.requests(settled=True) > found.requests(settled=False) >= 2
