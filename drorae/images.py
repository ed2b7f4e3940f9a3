"""The only place that turns files, PIL pictures and arrays into tensors, and tensors back into pictures."""

from __future__ import annotations

import io
import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from drorae.errors import DRoRAEError

# What a visitor may send. Pillow is told this list, so no other (rarely used, rarely fuzzed) decoder ever runs.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
MAX_PIXELS = 24_000_000  # 72 MB of RGB; larger photos must be made smaller first
MIN_SIDE = 16  # below this there is nothing to rebuild
SETTINGS_KEY = "drorae"  # text entry of PNG files that holds how they were made
BACKGROUND = (255, 255, 255)  # transparent pixels are shown on white
ANIMATED = ("GIF", "WEBP", "PNG")  # of a JPEG or TIFF that holds several pictures the first one is used
TRANSPOSE = {  # EXIF 2.3, tag 274: what brings the stored rows and columns upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(DRoRAEError, ValueError):
    """A picture that cannot be used. The message is one sentence meant for the person who sent it."""


def load_image(source: str | Path | bytes | Image.Image | np.ndarray, name: str | None = None) -> Image.Image:
    """Read any supported picture as an upright RGB image.

    EXIF orientation is applied, transparency is flattened on white, 16-bit greys are scaled to 8 bits, palettes and
    CMYK are converted. The pixel count is checked from the header, before anything is decoded.

    Args:
        source: a path, the bytes of a file, a PIL image or an array (H, W), (H, W, 3) or (H, W, 4), uint8 in
            [0, 255] or float in [0, 1].
        name: what to call the picture in error messages; the file name when omitted.

    Returns:
        An RGB ``PIL.Image`` of at least 16 x 16 pixels, without metadata.

    Raises:
        ImageError: the picture is missing, unreadable, animated, too large or too small.
    """
    if name is None:
        name = Path(source).name if isinstance(source, (str, Path)) else "the picture"
    if isinstance(source, np.ndarray):
        source = _from_array(source, name)
    if isinstance(source, Image.Image):
        return _to_rgb(source, name)

    if isinstance(source, bytes):
        stream: io.IOBase = io.BytesIO(source)
    else:
        path = Path(source)
        if not path.is_file():
            raise ImageError(f"There is no picture file '{path}'; check the path.")
        stream = path.open("rb")
    with stream:
        if not stream.read(1):
            raise ImageError(f"'{name}' is empty (0 bytes); choose another picture.")
        stream.seek(0)
        try:
            with warnings.catch_warnings():
                # our own, smaller limit is checked below, with a message a person can act on
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                picture = Image.open(stream, formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise ImageError(_too_large(name, error)) from error
        except Exception as error:  # damaged files make Pillow raise nearly anything
            raise ImageError(
                f"'{name}' is not a picture that can be read; use PNG, JPEG, WebP, BMP, TIFF or a still GIF."
            ) from error
        return _to_rgb(picture, name)


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    if np.issubdtype(array.dtype, np.floating):
        array = (np.clip(np.nan_to_num(array), 0, 1) * 255).round().astype(np.uint8)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ImageError(
            f"{name} is an array of shape {array.shape} and type {array.dtype}; "
            "use (H, W), (H, W, 3) or (H, W, 4), uint8 or float in [0, 1]."
        )
    return Image.fromarray(array)


def _too_large(name: str, reason: tuple[int, int] | Image.DecompressionBombError) -> str:
    if isinstance(reason, tuple):
        what = f"is {reason[0]} x {reason[1]} pixels"
    else:  # Pillow stops before it tells the size, but its message holds the number of pixels
        count = re.search(r"\((\d+) pixels\)", str(reason))
        what = f"has {int(count[1]) // 1_000_000} megapixels" if count else "has far too many pixels"
    limit = MAX_PIXELS // 1_000_000
    return f"'{name}' {what}, more than the {limit} megapixels allowed; make it smaller and try again."


def _to_rgb(picture: Image.Image, name: str) -> Image.Image:
    width, height = picture.size
    kind = picture.format
    if width * height > MAX_PIXELS:
        raise ImageError(_too_large(name, picture.size))
    if min(width, height) < MIN_SIDE:
        raise ImageError(
            f"'{name}' is {width} x {height} pixels; both sides must be at least {MIN_SIDE} to see anything."
        )
    try:
        if kind in ANIMATED and getattr(picture, "is_animated", False):
            raise ImageError(f"'{name}' is animated ({picture.n_frames} frames); save one frame as PNG and use that.")
        picture.load()  # where a truncated file shows
        if picture.mode.startswith("I") or picture.mode == "F":
            picture = _wide_grey_to_8_bit(picture, kind)
        picture = _upright(picture)
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            flat = Image.new("RGBA", picture.size, (*BACKGROUND, 255))
            picture = Image.alpha_composite(flat, picture)
        picture = picture.convert("RGB")
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(_too_large(name, error)) from error
    except Exception as error:  # damaged files make Pillow raise nearly anything
        raise ImageError(f"'{name}' is damaged or cut off; save or download it again and retry.") from error
    picture.info = {}  # EXIF, ICC profiles and text chunks go no further
    return picture


def _upright(picture: Image.Image) -> Image.Image:
    """Apply the EXIF orientation. An unreadable EXIF block does not cost a good photo."""
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return picture
    return picture.transpose(TRANSPOSE[orientation]) if orientation in TRANSPOSE else picture


def _wide_grey_to_8_bit(picture: Image.Image, kind: str | None) -> Image.Image:
    """16-bit greys use the full 0..65535 range; 32-bit and float greys are stretched over their own, finite, range."""
    values = np.asarray(picture).astype(np.float64)
    finite = values[np.isfinite(values)]
    if picture.mode.startswith("I;16") or (picture.mode == "I" and kind == "PNG"):  # PNG has no 32-bit greys
        low, high = 0.0, 65535.0
    else:
        low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    scaled = np.zeros_like(values) if high == low else (values - low) / (high - low) * 255
    grey = Image.fromarray(scaled.round().astype(np.uint8))
    grey.info = {key: value for key, value in picture.info.items() if key == "exif"}
    clear = picture.info.get("transparency")  # in a grey PNG: the one value that is transparent
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey


def square(picture: Image.Image, size: int) -> Image.Image:
    """Central square of an RGB picture, resized (Lanczos) to ``size`` x ``size``: the evaluation crop."""
    return ImageOps.fit(picture, (size, size), method=Image.Resampling.LANCZOS)


def whole(picture: Image.Image, size: int, patch: int) -> Image.Image:
    """All of an RGB picture, resized (Lanczos) to about ``size * size`` pixels, both sides multiples of ``patch``; what
    the rounding leaves over at the edges is cut off."""
    ratio = (picture.width / picture.height) ** 0.5
    sides = [max(2, round(side / patch)) * patch for side in (size * ratio, size / ratio)]
    return ImageOps.fit(picture, sides, method=Image.Resampling.LANCZOS)


def to_tensor(picture: Image.Image) -> torch.Tensor:
    """RGB picture to a float tensor (3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 255


def to_uint8(image: torch.Tensor) -> torch.Tensor:
    """Image tensor around [0, 1] to uint8 of the same shape: clamped and *rounded*, exactly what PNG files hold."""
    return (image.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)


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


def to_pil(image: torch.Tensor) -> Image.Image:
    """Image tensor (3, H, W) around [0, 1] to a PIL picture, see :func:`to_uint8`."""
    return Image.fromarray(to_uint8(image).permute(1, 2, 0).cpu().numpy())
