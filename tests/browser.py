"""Debian's chromium, driven by Playwright, and a page that is watched while it is used."""

from __future__ import annotations

import re
import shutil
from typing import Self
from urllib.parse import urlparse

import numpy as np
import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

expect.set_options(timeout=60_000)  # ends a test that hangs; nothing is meant to take as long

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

NEEDS_CHROMIUM = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no 'chromium' on this machine; install Debian's package"),
]


class Held:
    """Requests of a page to addresses of one pattern, which the server does not get before they are released."""

    def __init__(self, page: Page, pattern: str):
        self._routes: list[Route] | None = []
        page.route(pattern, self._take)

    def _take(self, route: Route) -> None:
        if self._routes is None:
            route.continue_()
        else:
            self._routes.append(route)

    def release(self) -> None:
        """Send them, and those that come later at once."""
        routes, self._routes = self._routes, None
        for route in routes:
            route.continue_()


class Watched:
    """A page and everything it asked for or complained about. It is closed at the end of a ``with`` block, and where it
    does not open."""

    def __init__(self, context: BrowserContext, address: str, width: int = 1280, query: str = ""):
        self.page: Page = context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.set_viewport_size({"width": width, "height": 900})
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._console)
        try:
            self.page.goto(address + query)
            self.page.wait_for_selector("#bar .tray button", state="attached")
        except BaseException:
            self.page.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure) -> None:
        self.page.close()

    def hold_cancel(self) -> Held:
        """Hold requests to cancel back from now on, as a slow line would: what they shall end goes on meanwhile."""
        return Held(self.page, "**/cancel")

    def _console(self, message) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def reload(self) -> None:
        """Load the page again, and wait until its scripts are there. What Gradio says of requests that end with the
        page does not count."""
        before = list(self.complaints)
        self.page.reload(wait_until="commit")
        self.complaints[:] = before
        self.page.wait_for_selector("#bar .tray button", state="attached")

    def open(self, view: str) -> None:
        """Open a view by its name in links, and wait until it is there."""
        self.page.evaluate(f"store.go('{view}')")
        self.page.wait_for_selector(f"#{view}", state="visible")

    def settle(self) -> None:
        """Wait until what was changed is drawn, which happens in the next frame."""
        self.page.evaluate("new Promise(requestAnimationFrame).then(() => new Promise(requestAnimationFrame))")

    def painted(self) -> None:
        """Wait until every panel that can be seen shows its picture."""
        self.page.wait_for_selector("html[data-painted]", state="attached")

    def upload(self, path) -> None:
        """Give the page a photo, as the button does."""
        self.page.locator("#bar input[type=file]").set_input_files(path)

    def know(self, kind: str, key: str | None = None):
        """What the page knows of a photo, once it does."""
        about = "store.state.photo" if key is None else f"'{key}'"
        self.page.wait_for_function(f"store.data('{kind}', {about})")
        return self.page.evaluate(f"store.data('{kind}', {about})")

    def check(self) -> None:
        outside = {u for u in self.requests if urlparse(u).hostname not in ("127.0.0.1", None)}
        assert not outside
        assert self.complaints == [], self.complaints


def shown_pixels(page: Page, selector: str) -> np.ndarray:
    """The pixels of a displayed picture, at its own size."""
    width, height, values = page.locator(selector).evaluate(
        """async (picture) => {
            await picture.decode();
            const canvas = document.createElement('canvas');
            canvas.width = picture.naturalWidth;
            canvas.height = picture.naturalHeight;
            const context = canvas.getContext('2d');
            context.drawImage(picture, 0, 0);
            const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
            return [canvas.width, canvas.height, Array.from(data)];
        }"""
    )
    return np.array(values, dtype=np.uint8).reshape(height, width, 4)[..., :3]


def canvas_pixels(page: Page, selector: str) -> np.ndarray:
    """The pixels of a canvas, (H, W, 3)."""
    width, height, values = page.locator(selector).evaluate(
        """(canvas) => [canvas.width, canvas.height,
            Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)]"""
    )
    return np.array(values, dtype=np.uint8).reshape(height, width, 4)[..., :3]


COLOURS = """node => {
    if (!node.isConnected) return null;
    const colour = getComputedStyle(node).color;
    let behind = node;
    while (behind && /rgba\\(.*, 0\\)|transparent/.test(getComputedStyle(behind).backgroundColor)) {
        behind = behind.parentElement;
    }
    return [colour, behind ? getComputedStyle(behind).backgroundColor : 'rgb(255, 255, 255)'];
}"""


def contrast(page: Page, selector: str) -> float:
    """WCAG contrast ratio of a text with the first opaque background behind it."""
    found = None
    while found is None:  # what was drawn anew meanwhile has no colour
        found = page.locator(selector).first.evaluate(COLOURS)
    text, background = found

    def luminance(colour: str) -> float:
        channels = [float(value) / 255 for value in re.findall(r"[\d.]+", colour)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    light, dark = sorted((luminance(text), luminance(background)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
