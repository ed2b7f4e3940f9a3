"""Arrays and pictures as text for JSON: packed numbers, lossless WebP, and many pictures in one."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

STEPS = 32767  # of an int16, on either side of zero
WEBP_SIDE = 16383  # pixels: the format holds no more
MIDDLE = 128  # of a difference that is none
EFFORT = 50  # of 100; from 76 on the encoder takes three times as long, for 7 % fewer bytes


def base64_text(array: np.ndarray) -> str:
    """The bytes of an array, row by row, in base64."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def pack(array: np.ndarray) -> dict:
    """Numbers of any shape as ``scale`` and ``data``, base64 of little-endian int16, row by row.

    A value is scale * integer, to within half a scale; the scale is a 32767th of the largest magnitude.

    Raises:
        ValueError: an infinite number or one that is not a number.
    """
    values: np.ndarray = np.asarray(array, np.float64)
    if not np.isfinite(values).all():
        raise ValueError("only finite numbers can be packed")
    scale = float(np.abs(values).max(initial=0)) / STEPS or 1.0
    return {"scale": scale, "data": base64_text((values / scale).round().astype("<i2"))}


def webp(picture: np.ndarray, quality: int | None = None) -> str:
    """A picture (H, W, 3) uint8 as the data URL of a WebP file that holds exactly these pixels, or with a ``quality``
    of 1 to 100 about these, in far fewer bytes."""
    stream = io.BytesIO()
    lossy = quality is not None
    Image.fromarray(picture).save(stream, "WEBP", lossless=not lossy, method=4, quality=quality if lossy else EFFORT)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()


def picture_difference(picture: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """What has to be added to ``usual`` for ``picture``, both uint8 of one shape, modulo 256 and moved so that 128 is
    nothing. Of pictures that are alike it takes fewer bytes, and :func:`webp` keeps it exactly."""
    return picture - usual + np.uint8(MIDDLE)


def sprite_columns(count: int, width: int, height: int) -> int:
    """How many of ``count`` pictures to put side by side, so that a sprite of all is about as wide as high.

    Raises:
        ValueError: a WebP file cannot hold so many pictures of that size.
    """
    columns = min(max(1, round(math.sqrt(count * height / width))), count, WEBP_SIDE // width)
    if not columns or math.ceil(count / columns) * height > WEBP_SIDE:
        raise ValueError(f"a sprite holds {WEBP_SIDE} x {WEBP_SIDE} pixels, not {count} pictures of {width} x {height}")
    return columns


def sprite(pictures: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Pictures (H, W, 3) of one size in rows of ``columns``, in one, the places that are left over black."""
    height, width, _ = pictures[0].shape
    rows = math.ceil(len(pictures) / columns)
    sheet: np.ndarray = np.zeros((rows * height, columns * width, 3), np.uint8)
    for i, picture in enumerate(pictures):
        top, left = i // columns * height, i % columns * width
        sheet[top : top + height, left : left + width] = picture
    return sheet
