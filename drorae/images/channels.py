"""Any mode of Pillow's with 8 bits and plain channels, band by band: a large picture is never there in full twice."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

BACKGROUND = (255, 255, 255)  # transparent pixels are shown on white
WITH_ALPHA = {"PA": "RGBA", "La": "LA", "RGBa": "RGBA"}  # modes whose transparency is made a plain channel
BAND_PIXELS = 1_000_000  # that are scaled, halved or flattened together
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of a TIFF
WHITE_IS_ZERO, UNSIGNED = 0, 1  # values of the latter two
STEPS = {"L;2": 85, "L;4": 17}  # between the levels that Pillow makes of a PNG's 2 and 4 bits


class Greys(NamedTuple):
    """What the numbers of a grey picture mean, where Pillow hands them on as the file has them.

    Attributes:
        highest: the number that is white, 0 being black; ``None`` where the smallest and the largest one are.
        unsigned: 32 bits that Pillow reads with a sign have none.
        inverted: the smallest number is white.
        step: between the levels of which a PNG's transparent value is counted.
    """

    highest: float | None = None
    unsigned: bool = False
    inverted: bool = False
    step: int = 1

    @classmethod
    def of(cls, picture: Image.Image) -> Greys:
        """Those of a picture that is opened and not yet loaded."""
        if picture.format == "TIFF":
            tags = picture.tag_v2
            bits = tags.get(BITS_PER_SAMPLE, (1,))[0]
            unsigned = picture.mode == "I" and bits == 32 and tags.get(SAMPLE_FORMAT, (UNSIGNED,))[0] == UNSIGNED
            wide = picture.mode[0] in "IF"  # Pillow has turned the others round
            highest = 2.0**bits - 1 if picture.mode.startswith("I;16") else None
            return cls(highest, unsigned, wide and tags.get(PHOTOMETRIC) == WHITE_IS_ZERO)
        raw = picture.tile[0].args if picture.format == "PNG" and picture.tile else None
        wide = picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG")
        return cls(65535.0 if wide else None, step=STEPS.get(raw, 1) if isinstance(raw, str) else 1)


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


def wide_grey_to_8_bit(picture: Image.Image, greys: Greys) -> Image.Image:
    """Greys of 12 and 16 bits use the full range of these bits; 32-bit and float greys are stretched over their own,
    finite, range.

    Some rows at a time, so that a large picture is never there in several precisions.
    """
    bands = _bands(picture)
    if greys.highest is not None:
        low, high = 0.0, greys.highest
    else:
        ends = [_finite_ends(_values(picture, band, greys.unsigned)) for band in bands]
        low, high = min(low for low, _ in ends), max(high for _, high in ends)
        low, high = (low, high) if low <= high else (0.0, 0.0)  # nothing is finite
    clear = picture.info.get("transparency")  # in a grey PNG: the one value that is transparent
    grey = Image.new("L" if not isinstance(clear, int) else "LA", picture.size)
    for band in bands:
        values = np.nan_to_num(_values(picture, band, greys.unsigned), nan=low, posinf=high, neginf=low)
        scaled = np.zeros_like(values) if high == low else (values - low) / (high - low) * 255
        part = Image.fromarray((255 - scaled if greys.inverted else scaled).round().astype(np.uint8))
        if isinstance(clear, int):
            part.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
        grey.paste(part, band)
    return grey


def _finite_ends(values: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest finite value; infinities the wrong way round where there is none."""
    finite = np.isfinite(values)
    return values.min(where=finite, initial=np.inf), values.max(where=finite, initial=-np.inf)


def _values(picture: Image.Image, band: tuple[int, int, int, int], unsigned: bool) -> np.ndarray:
    values = np.asarray(picture.crop(band))
    return (values.view(np.uint32) if unsigned else values).astype(np.float64)


def _bands(picture: Image.Image) -> list[tuple[int, int, int, int]]:
    """Boxes of even numbers of rows that make up the picture, of about :data:`BAND_PIXELS` each."""
    rows = max(2, BAND_PIXELS // picture.width // 2 * 2)
    return [(0, top, picture.width, min(picture.height, top + rows)) for top in range(0, picture.height, rows)]
