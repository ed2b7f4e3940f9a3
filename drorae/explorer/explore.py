"""Everything the explorer shows of one picture, computed in one call and returned as plain arrays.

The commands and the HTTP endpoints call it. The page and reports ask the :class:`~drorae.explorer.reading.Reading`
under it part by part, and ``train.evaluate`` paints the same routes, so that all numbers agree.
"""

from __future__ import annotations

import time
from dataclasses import replace

from PIL import Image

from drorae.explorer.exploration import Exploration, Frame, Gain, Interventions
from drorae.explorer.interventions import Intervention
from drorae.explorer.reading import Cut, Painted, Reading, default_size, open_picture
from drorae.explorer.routes import ROUTES, Route, available_routes, paint_routes
from drorae.images import Photo
from drorae.models.autoencoder import AutoencoderDRoRAE

__all__ = [
    "ROUTES",
    "Exploration",
    "Frame",
    "Gain",
    "Interventions",
    "Route",
    "available_routes",
    "default_size",
    "explore",
    "intervene",
    "open_picture",
    "paint_routes",
]


def explore(
    picture: Image.Image | Cut,
    model: AutoencoderDRoRAE,
    interventions: bool = True,
    progress: Painted | None = None,
    size: int | None = None,
    whole: bool = False,
) -> Exploration:
    """Rebuild an RGB picture along every route, say what the router did, and what would happen with other strengths
    and other layers.

    Args:
        picture: as returned by :func:`drorae.images.load_image`, or a part that was cut for this model.
        model: any :class:`~drorae.models.autoencoder.AutoencoderDRoRAE`; what it lacks is left out of the result.
        interventions: ``False`` leaves them out; they are most of the work.
        progress: called while the interventions are painted.
        size, whole: see :func:`~drorae.explorer.reading.open_picture`.

    Raises:
        ImageError: a size that the model does not work at.
    """
    started = time.perf_counter()
    reading = Reading(picture if isinstance(picture, Cut) else Photo.of(picture), model, size, whole)
    result = reading.routes
    if not interventions or not reading.can_intervene():
        return result
    for made in reading.interventions():
        if progress is not None:
            progress(made.done, made.total)
    return replace(result, interventions=made, seconds=time.perf_counter() - started)


def intervene(
    picture: Image.Image | Cut,
    model: AutoencoderDRoRAE,
    intervention: Intervention,
    size: int | None = None,
    whole: bool = False,
) -> Frame:
    """One intervention on an RGB picture, or on a part that was cut; ``size`` and ``whole`` as in
    :func:`~drorae.explorer.reading.open_picture`.

    Raises:
        InterventionError: it cannot be made, or the model has no router.
        ImageError: a size that the model does not work at.
    """
    photo = picture if isinstance(picture, Cut) else Photo.of(picture)
    return Reading(photo, model, size, whole).intervene(intervention)
