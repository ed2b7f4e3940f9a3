"""The pictures that come with the page, by name: links name them."""

from __future__ import annotations

from pathlib import Path

from drorae.bundled import ASSETS
from drorae.bundled import EXAMPLE_NAMES as NAMES

EXAMPLES = {name: str(ASSETS / "examples" / f"{name}.jpg") for name in NAMES}


def example_path(name: str | None) -> str | None:
    """Where an example lies in the project, as the command line takes it."""
    return name and f"assets/examples/{name}.jpg"


def example_of(path: str) -> str | None:
    """Name of the example that a file is a copy of; ``None`` for other pictures."""
    try:
        content = Path(path).read_bytes()
    except OSError:  # deleted since
        return None
    return next((name for name, file in EXAMPLES.items() if Path(file).read_bytes() == content), None)
