"""Pictures that visitors sent: Gradio keeps them for an hour, at places that are nobody's business."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradio.utils import get_upload_folder
from PIL import Image

from drorae.images import ImageError, load_image

GONE = "The picture is no longer kept here; choose it again."


def open_upload(path: str | Path, name: str | None = None) -> Image.Image:
    """A picture that the page was given, as :func:`drorae.images.load_image` reads it; its folder is never named.

    Raises:
        ImageError: it cannot be used, or was deleted since.
    """
    if not Path(path).is_file():
        raise ImageError(GONE)
    return load_image(path, name or Path(path).name)


def uploaded_path(file: Any) -> str:
    """Path of a file that was uploaded, from what the page says of it: an object with its ``path``.

    Anyone can send any path, so one outside the folder of the uploads is as good as gone.

    Raises:
        ImageError: it is not there, or was deleted since.
    """
    path = file.get("path") if isinstance(file, dict) else None
    try:
        found = Path(path).resolve() if isinstance(path, str) else None
    except (OSError, ValueError):  # no path at all
        found = None
    if found is None or not found.is_relative_to(Path(get_upload_folder()).resolve()) or not found.is_file():
        raise ImageError(GONE)
    return str(found)


def upload_names(paths: Sequence[str]) -> list[str]:
    """File names, numbered where several uploads have one name: the folders they came from are not sent along."""
    return number_names([Path(path).name for path in paths])


def number_names(names: Sequence[str]) -> list[str]:
    """Names, numbered where several are the same."""
    counts, seen = Counter(names), Counter[str]()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(f"{name} ({seen[name]})" if counts[name] > 1 else name)
    return numbered


def as_unicode(text: str) -> str:
    """A text with halves of characters (lone surrogates) escaped, so that it can be sent."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
