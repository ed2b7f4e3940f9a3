"""Colours of any profile in sRGB."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

SRGB_TOLERANCE = 2  # 8-bit levels: a profile that moves no colour by more is sRGB, however it is written down
SRGB_PROFILE_BYTES = 100_000  # profiles of sRGB are smaller


def to_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
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
