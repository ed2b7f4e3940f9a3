"""Writes ``assets/screenshots/explorer.webp``, the moving picture of the README, from the page as it is.

Run ``python app.py`` first, then ``python docs/movie.py http://127.0.0.1:7860``. It needs Playwright and Debian's
chromium.
"""

from __future__ import annotations

import io
import math
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from PIL import Image  # noqa: E402
from playwright.sync_api import Page, sync_playwright  # noqa: E402

from train.derived import MOVIE, record_built  # noqa: E402

OUT = ROOT / MOVIE
SIZE, SHOWN = (1280, 720), (960, 540)
STEP = 160  # milliseconds a frame
PAINTED = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def main(address: str) -> None:
    """Play the guide's first three steps, then look at some weights."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        width, height = SIZE
        page = browser.new_page(viewport={"width": width, "height": height}, reduced_motion="reduce")
        page.goto(address)
        page.wait_for_selector("html[data-painted]", state="attached")
        page.wait_for_function("store.data('tiles')")
        frames = slide(page) + point(page) + take_layers_away(page) + look_at_weights(page)
        browser.close()
    OUT.parent.mkdir(exist_ok=True)
    pictures = [Image.open(io.BytesIO(frame)).convert("RGB") for frame in frames]
    pictures = [picture.resize(SHOWN, Image.Resampling.LANCZOS) for picture in pictures]
    pictures[0].save(OUT, save_all=True, append_images=pictures[1:], duration=STEP, loop=0, quality=72, method=6)
    record_built(OUT)
    print(f"{OUT}: {len(pictures)} frames, {OUT.stat().st_size:,} bytes")


def shot(page: Page, script: str, times: int = 1) -> list[bytes]:
    """What is seen once a script has run, for so many frames."""
    page.evaluate(script)
    page.evaluate(PAINTED)
    return [page.screenshot()] * times


def slide(page: Page) -> list[bytes]:
    """The last layer is pulled over the picture, and back."""
    frames = shot(page, "store.set({ step: 1 })", 4)
    for value in [*range(10, 70, 10), *range(50, -10, -10)]:
        frames += shot(page, f"store.set({{ split: {value}, step: 2 }})")
    return frames


def point(page: Page) -> list[bytes]:
    """The loupe wanders over the picture."""
    frames = []
    for i in range(14):
        x, y = 0.33 + 0.31 * math.sin(0.22 * i), 0.35 + 0.11 * math.sin(0.39 * i)
        frames += shot(page, f"parts.point([{x} * parts.shape().width, {y} * parts.shape().height])")
    return frames


def take_layers_away(page: Page) -> list[bytes]:
    """Some layers are left out, one by one."""
    page.evaluate("parts.release(); store.set({ step: 3 }); store.go('layers'); store.need('frames')")
    page.wait_for_function("((frames) => frames && frames.done === frames.total)(store.data('frames'))")
    page.wait_for_function("store.changedPicture?.()")
    frames = shot(page, "null", 3)
    for layer in (0, 1, 2, 11):
        frames += shot(page, f"store.set({{ off: [{layer}] }})", 4)
    return frames


def look_at_weights(page: Page) -> list[bytes]:
    """The maps of some layers over the photo."""
    page.evaluate("store.set({ off: [], step: 9 }); store.go('weights')")
    page.wait_for_selector("#weights canvas", state="visible")
    return [frame for layer in (0, 1, 3, 10, 11) for frame in shot(page, f"store.set({{ layer: {layer} }})", 3)]


if __name__ == "__main__":
    main(sys.argv[1])
