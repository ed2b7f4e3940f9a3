"""Any mode of Pillow's with 8 bits and plain channels, band by band: a large picture is never there in full twice."""

from __future__ import annotations

import numpy as np
from PIL import Image

BACKGROUND = (255, 255, 255)  # transparent pixels are shown on white
WITH_ALPHA = {"PA": "RGBA", "La": "LA", "RGBa": "RGBA"}  # modes whose transparency is made a plain channel
BAND_PIXELS = 1_000_000  # that are scaled, halved or flattened together


def with_plain_channels(picture: Image.Image) -> Image.Image:
    """A picture in L, LA, RGB, RGBA, CMYK or LAB: palettes are looked up, the one colour of a PNG that is transparent
    becomes an alpha channel."""
    mode = picture.mode
    if mode == "P":
        return picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    if "transparency" in picture.info and mode in ("1", "L", "RGB"):
        return picture.convert("RGBA" if mode == "RGB" else "LA")
    if mode in ("L", "LA", "RGB", "RGBA", "CMYK", "LAB"):
        return picture
    return picture.convert("L" if mode == "1" else WITH_ALPHA.get(mode, "RGB"))


def halve(picture: Image.Image) -> Image.Image:
    """A large picture at half its sides, with plain channels, band by band: it is never there in full twice."""
    half = None
    for box in _bands(picture):
        band = with_plain_channels(picture.crop(box)).reduce(2)
        if half is None:
            half = Image.new(band.mode, (-(-picture.width // 2), -(-picture.height // 2)))
        half.paste(band, (0, box[1] // 2))
    assert half is not None
    return half


def flatten(picture: Image.Image) -> tuple[Image.Image, bool]:
    """A picture on white, in RGB, and whether some of it was transparent; band by band."""
    flat, transparent = Image.new("RGB", picture.size), False
    for box in _bands(picture):
        band = picture.crop(box).convert("RGBA")
        transparent |= band.getchannel("A").getextrema()[0] < 255
        white = Image.new("RGBA", band.size, (*BACKGROUND, 255))
        flat.paste(Image.alpha_composite(white, band).convert("RGB"), box[:2])
    return flat, transparent


def wide_grey_to_8_bit(picture: Image.Image, kind: str | None) -> Image.Image:
    """16-bit greys use the full 0..65535 range; 32-bit and float greys are stretched over their own, finite, range.

    Some rows at a time, so that a large picture is never there in several precisions.
    """
    bands = _bands(picture)
    if picture.mode.startswith("I;16") or (picture.mode == "I" and kind == "PNG"):  # PNG has no 32-bit greys
        low, high = 0.0, 65535.0
    else:
        ends = [_finite_ends(_values(picture, band)) for band in bands]
        low, high = min(low for low, _ in ends), max(high for _, high in ends)
        low, high = (low, high) if low <= high else (0.0, 0.0)  # nothing is finite
    clear = picture.info.get("transparency")  # in a grey PNG: the one value that is transparent
    grey = Image.new("L" if not isinstance(clear, int) else "LA", picture.size)
    for band in bands:
        values = np.nan_to_num(_values(picture, band), nan=low, posinf=high, neginf=low)
        scaled = np.zeros_like(values) if high == low else (values - low) / (high - low) * 255
        part = Image.fromarray(scaled.round().astype(np.uint8))
        if isinstance(clear, int):
            part.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
        grey.paste(part, band)
    return grey


def _finite_ends(values: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest finite value; infinities the wrong way round where there is none."""
    finite = np.isfinite(values)
    return values.min(where=finite, initial=np.inf), values.max(where=finite, initial=-np.inf)


def _values(picture: Image.Image, band: tuple[int, int, int, int]) -> np.ndarray:
    return np.asarray(picture.crop(band)).astype(np.float64)


def _bands(picture: Image.Image) -> list[tuple[int, int, int, int]]:
    """Boxes of even numbers of rows that make up the picture, of about :data:`BAND_PIXELS` each."""
    rows = max(2, BAND_PIXELS // picture.width // 2 * 2)
    return [(0, top, picture.width, min(picture.height, top + rows)) for top in range(0, picture.height, rows)]
