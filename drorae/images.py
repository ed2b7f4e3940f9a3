"""The only place that turns files, PIL pictures and arrays into tensors, and tensors back into pictures."""

from __future__ import annotations

import io
import json
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from drorae.decoding import TOO_MUCH, DecodingError, decode_in_child
from drorae.decoding_cost import FULL_PIXELS, MAX_PIXELS, is_cheap
from drorae.errors import DRoRAEError

if TYPE_CHECKING:  # the process that decodes, see drorae.decoding, starts without it
    import torch

# What a visitor may send. Pillow is told this list, so no other (rarely used, rarely fuzzed) decoder ever runs.
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "TIFF", "GIF")
FORMATS_TEXT = "PNG, JPEG, WebP, AVIF, BMP, TIFF or a still GIF"
MIN_SIDE = 16  # below this there is nothing to rebuild
SETTINGS_KEY = "drorae"  # text entry of PNG files that holds how they were made
BACKGROUND = (255, 255, 255)  # transparent pixels are shown on white
ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")  # of a JPEG or TIFF that holds several pictures the first one is used
HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"}  # ISO/IEC 23008-12, annex B
WITH_ALPHA = {"PA": "RGBA", "La": "LA", "RGBa": "RGBA"}  # modes whose transparency is made a plain channel
SRGB_TOLERANCE = 2  # 8-bit levels: a profile that moves no colour by more is sRGB, however it is written down
SRGB_PROFILE_BYTES = 100_000  # profiles of sRGB are smaller
BAND_PIXELS = 1_000_000  # that are scaled, halved or flattened together
CENTRE = (0.5, 0.5)  # of a picture, as a share of its width and of its height
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


@dataclass(frozen=True)
class Photo:
    """A picture, and what its file was.

    Attributes:
        picture: as :func:`load_image` returns it.
        width, height: of the file, pixels, upright; ``picture`` has half of them where there were too many.
        flattened: whether some of it was transparent, and is shown on white now.
    """

    picture: Image.Image
    width: int
    height: int
    flattened: bool

    @classmethod
    def of(cls, picture: Image.Image) -> Photo:
        """An RGB picture of which nothing else is known."""
        return cls(picture, picture.width, picture.height, flattened=False)

    def facts(self, width: int, height: int, whole: bool = False, centre: Sequence[float] = CENTRE) -> dict[str, Any]:
        """What was done to the file to show it at ``width`` x ``height`` pixels, as plain JSON.

        ``width`` and ``height`` of the file; ``crop``: left, top and side of the square that is shown, in the file's
        pixels, ``None`` where that is all of it; ``enlarged``: by which factor, ``None`` where it was not;
        ``flattened``.

        Args:
            whole: it is shown as by :func:`whole`, not by :func:`square`.
            centre: as :func:`square` was given.
        """
        crop = None
        if not whole and self.width != self.height:
            left, top, side = crop_box(self.width, self.height, centre)
            crop = [round(left), round(top), side]
        shown = max(width / self.width, height / self.height) if whole else width / min(self.width, self.height)
        return {
            "width": self.width,
            "height": self.height,
            "crop": crop,
            "enlarged": shown if shown > 1 else None,
            "flattened": self.flattened,
        }


def load_image(source: str | Path | bytes | Image.Image | np.ndarray, name: str | None = None) -> Image.Image:
    """An upright RGB image of any supported picture: the ``picture`` of :func:`open_photo`."""
    return open_photo(source, name).picture


def open_photo(source: str | Path | bytes | Image.Image | np.ndarray, name: str | None = None) -> Photo:
    """Any supported picture as an upright RGB image, and what its file was.

    EXIF orientation is applied, an embedded colour profile is converted to sRGB, transparency is flattened on white,
    16-bit greys are scaled to 8 bits, palettes and CMYK are converted. The pixel count is checked from the header,
    before anything is decoded; pictures of more than 24 megapixels come out at half their sides.

    Decoding a file takes at most 0.3 GB and ten times the processor time of a 12-megapixel JPEG: either its headers
    say so, or a process with these limits decodes it (:mod:`drorae.decoding` says what bounds what). A PIL image is
    taken as it is; what its file costs is for whoever opened it to know.

    Args:
        source: a path, the bytes of a file, a PIL image or an array (H, W), (H, W, 3) or (H, W, 4), uint8 in
            [0, 255] or float in [0, 1].
        name: what to call the picture in error messages; when omitted the file name, or the path of a missing file.

    Returns:
        Its ``picture`` is an RGB ``PIL.Image`` without metadata, of a file of at least 16 x 16 pixels.

    Raises:
        ImageError: the picture is missing, unreadable, animated, too large, too small or too costly to decode.
    """
    given = name
    if name is None:
        name = Path(source).name if isinstance(source, (str, Path)) else "the picture"
    if isinstance(source, np.ndarray):
        source = _from_array(source, name)
    if isinstance(source, Image.Image):
        return _to_photo([source], name)

    if isinstance(source, bytes):
        stream: BinaryIO = io.BytesIO(source)
    else:
        stream = _opened(Path(source), name, given or str(source))
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


def _opened(path: Path, name: str, missing: str) -> BinaryIO:
    try:
        if path.is_file():
            return path.open("rb")
    except OSError as error:  # no permission, a name that is too long
        raise ImageError(_unreadable(name, error)) from error
    raise ImageError(f"There is no picture file '{missing}'; check the path.")


def _unreadable(name: str, error: OSError) -> str:
    return f"'{name}' cannot be read ({error.strerror or type(error).__name__}); choose another picture."


@cache
def _formats() -> tuple[str, ...]:
    """Those of :data:`FORMATS` that this Pillow was built with."""
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
        picture.load()  # where a truncated file shows
        orientation, profile = _orientation(picture), picture.info.get("icc_profile")
        if picture.mode.startswith("I") or picture.mode == "F":
            picture = _wide_grey_to_8_bit(picture, kind)
        picture = _with_plain_channels(picture) if _is_full(picture) else _halved(picture)
        if orientation in TRANSPOSE:
            picture = picture.transpose(TRANSPOSE[orientation])
            if orientation >= 5:  # rows become columns
                width, height = height, width
        picture = _to_srgb(picture, profile)
        flattened = False
        if picture.has_transparency_data:
            picture, flattened = _flattened(picture)
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


def _bands(picture: Image.Image) -> list[tuple[int, int, int, int]]:
    """Boxes of even numbers of rows that make up the picture, of about :data:`BAND_PIXELS` each."""
    rows = max(2, BAND_PIXELS // picture.width // 2 * 2)
    return [(0, top, picture.width, min(picture.height, top + rows)) for top in range(0, picture.height, rows)]


def _halved(picture: Image.Image) -> Image.Image:
    """A large picture at half its sides, with plain channels, band by band: it is never there in full twice."""
    half = None
    for box in _bands(picture):
        band = _with_plain_channels(picture.crop(box)).reduce(2)
        if half is None:
            half = Image.new(band.mode, (-(-picture.width // 2), -(-picture.height // 2)))
        half.paste(band, (0, box[1] // 2))
    assert half is not None
    return half


def _flattened(picture: Image.Image) -> tuple[Image.Image, bool]:
    """A picture on white, in RGB, and whether some of it was transparent; band by band."""
    flat, transparent = Image.new("RGB", picture.size), False
    for box in _bands(picture):
        band = picture.crop(box).convert("RGBA")
        transparent |= band.getchannel("A").getextrema()[0] < 255
        white = Image.new("RGBA", band.size, (*BACKGROUND, 255))
        flat.paste(Image.alpha_composite(white, band).convert("RGB"), box[:2])
    return flat, transparent


def _orientation(picture: Image.Image) -> int | None:
    """The EXIF orientation. A photo with unreadable EXIF is still accepted."""
    try:
        return picture.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return None


def _with_plain_channels(picture: Image.Image) -> Image.Image:
    """The same in L, LA, RGB, RGBA, CMYK or LAB: palettes are looked up, the one colour of a PNG that is transparent
    becomes an alpha channel."""
    mode = picture.mode
    if mode == "P":
        return picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    if "transparency" in picture.info and mode in ("1", "L", "RGB"):
        return picture.convert("RGBA" if mode == "RGB" else "LA")
    if mode in ("L", "LA", "RGB", "RGBA", "CMYK", "LAB"):
        return picture
    return picture.convert("L" if mode == "1" else WITH_ALPHA.get(mode, "RGB"))


def _to_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Colours of an embedded profile in sRGB (relative colorimetric). With a profile of sRGB itself, or one that is
    unreadable or of other channels, the pixels stay as they are."""
    if picture.mode == "LAB":  # which needs no profile
        return ImageCms.applyTransform(picture, _srgb_transform(ImageCms.createProfile("LAB"), "LAB"))
    if not profile:
        return picture
    alpha = picture.getchannel("A") if picture.mode in ("LA", "RGBA") else None
    try:
        if picture.mode in ("L", "LA"):
            colours = picture.getchannel(0).point(_grey_table(profile))
        elif picture.mode != "CMYK" and len(profile) <= SRGB_PROFILE_BYTES and _is_srgb(profile):
            return picture
        else:
            mode = "CMYK" if picture.mode == "CMYK" else "RGB"
            colours = picture if picture.mode == mode else picture.convert(mode)
            colours = ImageCms.applyTransform(colours, _srgb_transform(_profile(profile), mode))
    except Exception:  # profiles are written by anything
        return picture
    if alpha is not None:
        colours.putalpha(alpha)
    return colours


def _profile(content: bytes) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(io.BytesIO(content))


def _srgb_transform(profile: Any, mode: str) -> ImageCms.ImageCmsTransform:
    srgb, intent = ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC
    # the library's shortcut for greys, a coarse table, is far off in the shadows
    flags = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE
    return ImageCms.buildTransform(profile, srgb, mode, "RGB", intent, flags)


def _grey_table(profile: bytes) -> list[int]:
    """What a profile makes of every grey; nothing where it is sRGB's curve within the tolerance."""
    levels: np.ndarray = np.arange(256, dtype=np.uint8)
    after = ImageCms.applyTransform(Image.fromarray(levels[None]), _srgb_transform(_profile(profile), "L"))
    table = np.asarray(after)[0, :, 0]
    return (levels if np.abs(table.astype(int) - levels).max() <= SRGB_TOLERANCE else table).tolist()


@lru_cache(maxsize=64)
def _is_srgb(profile: bytes) -> bool:
    """Whether a profile leaves the colours of a lattice of 16 x 16 x 16 where they are."""
    levels: np.ndarray = np.arange(0, 256, 17, dtype=np.uint8)
    before = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(64, 64, 3)
    after = ImageCms.applyTransform(Image.fromarray(before), _srgb_transform(_profile(profile), "RGB"))
    return np.abs(np.asarray(after).astype(int) - before).max() <= SRGB_TOLERANCE


def _wide_grey_to_8_bit(picture: Image.Image, kind: str | None) -> Image.Image:
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


def square(picture: Image.Image, size: int, centre: Sequence[float] = CENTRE) -> Image.Image:
    """The largest square of an RGB picture around a place, resized (Lanczos) to ``size`` x ``size``.

    Args:
        centre: the place, as a share of the width and of the height, see :func:`crop_box`; the middle gives the
            evaluation crop.

    Raises:
        ImageError: something else than two finite numbers as ``centre``.
    """
    left, top, side = crop_box(picture.width, picture.height, centre)
    spare = picture.width - side, picture.height - side
    centring = (left / spare[0] if spare[0] else 0.5, top / spare[1] if spare[1] else 0.5)
    return ImageOps.fit(picture, (size, size), method=Image.Resampling.LANCZOS, centering=centring)


def crop_box(width: int, height: int, centre: Sequence[float] = CENTRE) -> tuple[float, float, int]:
    """Left, top and side, in pixels, of the largest square in a picture that lies around ``centre``, or as near to it
    as there is room.

    Args:
        centre: 0..1 from left to right and from top to bottom; what is beyond counts as the edge.

    Raises:
        ImageError: something else than two finite numbers as ``centre``.
    """
    numbers = [value for value in centre if isinstance(value, (int, float)) and math.isfinite(value)]
    if len(centre) != 2 or len(numbers) != 2:
        raise ImageError(f"The middle of the crop is two numbers from 0 to 1, not {centre!r}.")
    side = min(width, height)
    left, top = (
        min(max(share * length - side / 2, 0), length - side)
        for share, length in zip(numbers, (width, height), strict=True)
    )
    return left, top, side


def whole(picture: Image.Image, size: int, patch: int) -> Image.Image:
    """All of an RGB picture, resized (Lanczos) to about ``size * size`` pixels, both sides multiples of ``patch``; what
    the rounding leaves over at the edges is cut off.

    Raises:
        ImageError: a picture so long that its shorter side would be less than two patches.
    """
    ratio = (picture.width / picture.height) ** 0.5
    sides = [round(side / patch) * patch for side in (size * ratio, size / ratio)]
    if min(sides) < 2 * patch:
        raise ImageError(
            f"a picture of {picture.width} x {picture.height} pixels is too long to be shown whole with as many as "
            f"{size} x {size}; take a square of it, or a larger size"
        )
    return ImageOps.fit(picture, sides, method=Image.Resampling.LANCZOS)


def to_tensor(picture: Image.Image) -> torch.Tensor:
    """RGB picture to a float tensor (3, H, W) in [0, 1]."""
    import torch

    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 255


def to_uint8(image: torch.Tensor) -> torch.Tensor:
    """Image tensor around [0, 1] to uint8 of the same shape: clamped and *rounded*, exactly what PNG files hold."""
    return (image.detach().float().clamp(0, 1) * 255).round().byte()


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
