"""Which part of a picture is looked at: the square around a place, or all of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageOps

from drorae.images.errors import ImageError

CENTRE = (0.5, 0.5)  # of a picture, as a share of its width and of its height


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


def whole_picture(picture: Image.Image, size: int, patch: int) -> Image.Image:
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
