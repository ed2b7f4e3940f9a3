"""The pictures that come with the page, by name: links name them."""

from __future__ import annotations

import base64
import io

from drorae.bundled import ASSETS
from drorae.bundled import EXAMPLE_NAMES as NAMES
from drorae.images import load_image, square

EXAMPLES = {name: str(ASSETS / "examples" / f"{name}.jpg") for name in NAMES}


def example_path(name: str | None) -> str | None:
    """Where an example lies in the project, as the command line takes it."""
    return name and f"assets/examples/{name}.jpg"


def example_thumbnails(side: int = 72) -> list[dict[str, str]]:
    """Name, title and thumbnail (a data URL) of every example, for the tray."""
    found = []
    for name, path in EXAMPLES.items():
        stream = io.BytesIO()
        square(load_image(path), side).save(stream, "JPEG", quality=82)
        thumbnail = "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
        found.append({"name": name, "title": name, "thumbnail": thumbnail, "source": f"drorae/examples/{name}.jpg"})
    return found
