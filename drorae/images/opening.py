"""Files, PIL pictures and arrays as upright RGB pictures: the only place that opens any."""

from __future__ import annotations

import io
import re
import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from drorae.decoding import TOO_MUCH, DecodingError, decode_in_child
from drorae.decoding_cost import FULL_PIXELS, MAX_PIXELS, is_cheap
from drorae.errors import printable
from drorae.images.channels import Greys, flatten, halve, wide_grey_to_8_bit, with_plain_channels
from drorae.images.errors import ImageError
from drorae.images.photo import Photo
from drorae.images.profiles import to_srgb

# What a visitor may send. Pillow is told this list, so no other (rarely used, rarely fuzzed) decoder ever runs.
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "TIFF", "GIF")
FORMATS_TEXT = "PNG, JPEG, WebP, AVIF, BMP, TIFF or a still GIF"
OVERSHOOT = 0.5  # of a float array beyond black and white, which is clipped; more means another range
MIN_SIDE = 16  # below this there is nothing to rebuild
ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")  # of a JPEG or TIFF that holds several pictures the first one is used
HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"}  # ISO/IEC 23008-12, annex B
TRANSPOSE = {  # EXIF 2.3, tag 274: what brings the stored rows and columns upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_image(source: str | Path | bytes | Image.Image | np.ndarray, name: str | None = None) -> Image.Image:
    """An upright RGB image of any supported picture: the ``picture`` of :func:`open_photo`."""
    return open_photo(source, name).picture


def open_photo(source: str | Path | bytes | Image.Image | np.ndarray, name: str | None = None) -> Photo:
    """Any supported picture as an upright RGB image, and what its file was.

    EXIF orientation is applied, an embedded colour profile is converted to sRGB, transparency is flattened on white,
    greys of more bits are scaled to 8, palettes and CMYK are converted. The pixel count is checked from the header,
    before anything is decoded; pictures of more than 24 megapixels come out at half their sides.

    Decoding a file takes at most 0.3 GB and ten times the processor time of a 12-megapixel JPEG: either its headers
    say so, or a process with these limits decodes it (:mod:`drorae.decoding` says what bounds what). A PIL image is
    taken as it is; what its file costs is for whoever opened it to know.

    Args:
        source: a path, the bytes of a file, a PIL image or an array (H, W), (H, W, 3) or (H, W, 4), uint8 in
            [0, 255] or float in [0, 1]; what is a little beyond is clipped, and NaN is black.
        name: what to call the picture in error messages; when omitted the file name, or the path of a missing file.

    Returns:
        Its ``picture`` is an RGB ``PIL.Image`` without metadata, of a file of at least 16 x 16 pixels.

    Raises:
        ImageError: the picture is missing, unreadable, animated, too large, too small or too costly to decode, or an
            array of another shape, type or range.
    """
    missing = printable(str(source) if name is None else name) if isinstance(source, (str, Path)) else ""
    if name is None:
        name = Path(source).name if isinstance(source, (str, Path)) else "the picture"
    name = printable(name)
    if isinstance(source, np.ndarray):
        source = _from_array(source, name)
    if isinstance(source, Image.Image):
        return _to_photo([source], name)

    if isinstance(source, bytes):
        stream: BinaryIO = io.BytesIO(source)
    else:
        stream = _open_file(Path(source), name, missing)
    with stream:
        try:
            head = stream.read(64)
            cheap = is_cheap(stream)
        except OSError as error:
            raise ImageError(_unreadable(name, error)) from error
        if not head:
            raise ImageError(f"'{name}' is empty (0 bytes); choose another picture.")
        if _is_heic(head):
            _heic_format(name)
        if cheap:
            return decode(stream, name)
        try:
            return Photo(*decode_in_child(stream, name))
        except DecodingError as error:
            raise ImageError(error.sentence(name)) from error


def decode(stream: BinaryIO, name: str, limited: bool = False) -> Photo:
    """The picture in a file, as :func:`open_photo` gives it, decoded here and now, whatever it costs.

    Args:
        limited: this process has little memory, of which a failure may be a sign.

    Raises:
        ImageError: as :func:`open_photo` does.
    """
    head = stream.read(64)
    stream.seek(0)
    formats = _heic_format(name) if _is_heic(head) else _formats()
    try:
        with warnings.catch_warnings():
            # our own, smaller limit is checked below, with a message a person can act on
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            held = [Image.open(stream, formats=formats)]
    except Image.DecompressionBombError as error:
        raise ImageError(_too_large(name, error)) from error
    except Exception as error:  # damaged files make Pillow raise nearly anything
        if isinstance(error, MemoryError) or (limited and not isinstance(error, UnidentifiedImageError)):
            raise ImageError(f"'{name}' {TOO_MUCH}") from error
        raise ImageError(f"'{name}' is not a picture that can be read; use {FORMATS_TEXT}.") from error
    return _to_photo(held, name, limited)


def _open_file(path: Path, name: str, missing: str) -> BinaryIO:
    try:
        if path.is_file():
            return path.open("rb")
        if path.is_dir():
            raise ImageError(f"'{missing}' is a folder; name the pictures in it.")
    except OSError as error:  # no permission, a name that is too long
        raise ImageError(_unreadable(name, error)) from error
    raise ImageError(f"There is no picture file '{missing}'; check the path.")


def _unreadable(name: str, error: OSError) -> str:
    return f"'{name}' cannot be read ({error.strerror or type(error).__name__}); choose another picture."


@cache
def _formats() -> tuple[str, ...]:
    """The :data:`FORMATS` that this Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _is_heic(head: bytes) -> bool:
    """Whether a file that starts so is a photo in HEIC: its ``ftyp`` box names one of the brands."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[place : place + 4] for place in (8, *range(16, end - 3, 4))}  # after the first one its version
    return head[4:8] == b"ftyp" and not brands.isdisjoint(HEIC_BRANDS)


def _heic_format(name: str) -> tuple[str]:
    if find_spec("pillow_heif") is None:
        raise ImageError(
            f"'{name}' is a HEIC photo, which takes the package pillow-heif, and that is not installed here; "
            "save the photo as JPEG, or pip install pillow-heif."
        )
    from pillow_heif import register_heif_opener

    register_heif_opener()
    return ("HEIF",)


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    if np.issubdtype(array.dtype, np.floating):
        ends = np.nan_to_num([array.min(initial=0), array.max(initial=0)])
        if ends[0] < -OVERSHOOT or ends[1] > 1 + OVERSHOOT:
            raise ImageError(
                f"{name} is a float array with values from {ends[0]:.4g} to {ends[1]:.4g}; use [0, 1], black to white."
            )
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


def _to_photo(held: list[Image.Image], name: str, limited: bool = False) -> Photo:
    """The picture that a list of one holds, which is taken from it, so that its pixels go as soon as they can."""
    picture = held.pop()
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
        if width * height > FULL_PIXELS:
            picture.draft(None, (width // 2, height // 2))  # a JPEG is never there in full then
        greys = Greys.of(picture)
        picture.load()  # where a truncated file shows
        orientation, profile = _orientation(picture), picture.info.get("icc_profile")
        if picture.mode.startswith("I") or picture.mode == "F":
            picture = wide_grey_to_8_bit(picture, greys)
        elif greys.step > 1 and "transparency" in picture.info:
            picture.info["transparency"] *= greys.step
        picture = with_plain_channels(picture) if _is_full(picture) else halve(picture)
        if orientation in TRANSPOSE:
            picture = picture.transpose(TRANSPOSE[orientation])
            if orientation >= 5:  # rows become columns
                width, height = height, width
        picture = to_srgb(picture, profile)
        flattened = False
        if picture.has_transparency_data:
            picture, flattened = flatten(picture)
        picture = picture.convert("RGB")
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(_too_large(name, error)) from error
    except Exception as error:  # damaged files make Pillow raise nearly anything
        if limited or isinstance(error, MemoryError):
            raise ImageError(f"'{name}' {TOO_MUCH}") from error
        raise ImageError(f"'{name}' is damaged or cut off; save or download it again and retry.") from error
    picture.info = {}  # EXIF, ICC profiles and text chunks go no further
    return Photo(picture, width, height, flattened)


def _is_full(picture: Image.Image) -> bool:
    return picture.width * picture.height <= FULL_PIXELS


def _orientation(picture: Image.Image) -> int | None:
    """The EXIF orientation. A photo with unreadable EXIF is still accepted."""
    try:
        return picture.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return None
