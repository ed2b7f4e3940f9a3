"""A picture, and what its file was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from drorae.images.crops import CENTRE, crop_box


@dataclass(frozen=True)
class Photo:
    """A picture, and what its file was.

    Attributes:
        picture: as :func:`load_image` returns it.
        width, height: size of the file, pixels, upright; ``picture`` has half of them where there were too many.
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
            whole: it is shown as by :func:`whole_picture`, not by :func:`square`.
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
