"""PNG files that say how they were made."""

from __future__ import annotations

import io
import json
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

SETTINGS_KEY = "drorae"  # text entry of PNG files that holds how they were made


def png_with_settings(picture: Image.Image, settings: dict[str, Any] | None = None) -> bytes:
    """A PNG file that says how it was made: text entry ``drorae``, JSON; without ``settings`` it says nothing."""
    info = PngInfo()
    if settings is not None:
        info.add_text(SETTINGS_KEY, json.dumps(settings))
    stream = io.BytesIO()
    picture.save(stream, "PNG", pnginfo=info)
    return stream.getvalue()


def png_settings(file: Any) -> dict[str, Any] | None:
    """What :func:`png_with_settings` wrote into a file; ``None`` for other files."""
    with Image.open(file) as picture:
        text = picture.info.get(SETTINGS_KEY)
    return None if text is None else json.loads(text)
