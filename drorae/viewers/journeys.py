"""Grids, walks and what begins at a photo, as plain JSON for the page."""

from __future__ import annotations

import numpy as np

from drorae.explorer.journeys import Journey, Morph, PhotoJourney
from drorae.viewers.encodings import webp


def journey_value(journey: Journey) -> dict:
    """Value of a grid, a walk or a denoised photo while it runs and when it is done."""
    return {
        "running": journey.done < journey.total,
        "step": journey.done,
        "count": journey.total,
        "pictures": pictures_of(journey.pictures),
    }


def photo_journey_value(start: PhotoJourney) -> dict:
    """What a photo's denoising starts from, before its first step."""
    rebuilt, noisy = pictures_of(np.stack([start.rebuilt, start.noisy]))
    return {"running": True, "step": 0, "count": start.steps, "time": start.time, "rebuilt": rebuilt, "noisy": noisy}


def morph_value(made: Morph) -> dict:
    """Value of a morph: both strips of pictures."""
    fused = None if made.fused is None else pictures_of(made.fused)
    return {"running": False, "last": pictures_of(made.last), "fused": fused}


def pictures_of(pictures: np.ndarray) -> list[str]:
    """Pictures (n, H, W, 3) uint8 as data URLs of lossless WebP."""
    return [webp(picture) for picture in pictures]
