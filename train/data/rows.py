"""What a row of a data set holds: its picture, read with care, and its class number."""

from __future__ import annotations

from PIL import Image

from drorae.errors import reason_of
from drorae.images import ImageError, load_image


def picture_of(row: dict, name: str) -> Image.Image:
    """The picture of a row, encoded or not, as upright RGB.

    Raises:
        ImageError: it is damaged or cannot be read; the message names its file where the data set knows it.
    """
    picture = row["image"]
    if isinstance(picture, dict):
        path = picture.get("path") or row.get("__key__")
        name = f"{name}, {path}" if path else name
        picture = picture["bytes"] if picture.get("bytes") else picture.get("path")
    if picture is None:
        raise ImageError(f"'{name}' has no picture.")
    try:
        return load_image(picture, name=name)
    except OSError as error:  # no permission, a name that is too long, a disk that fails
        raise ImageError(f"'{name}' cannot be read ({error.strerror or reason_of(error)}).") from error


def label_of(row: dict) -> int:
    """The class number of a row, -1 without one."""
    label = row.get("label")
    return label if isinstance(label, int) else -1
