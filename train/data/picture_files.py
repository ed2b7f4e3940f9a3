"""Pictures that many processes write, and that may be killed while doing so."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image, UnidentifiedImageError


def is_whole(file: Path) -> bool:
    """Whether a picture is there and was written to its end."""
    try:
        with Image.open(file) as picture:
            picture.load()
    except (OSError, UnidentifiedImageError):
        return False
    return True


def write(file: Path, content: bytes) -> None:
    """Write beside, then rename, so that a picture that is there is whole."""
    fresh = file.with_suffix(".new")
    fresh.write_bytes(content)
    os.replace(fresh, file)
