"""What the page's own examples ship with: their results, computed once, so that a page opens without computing.

A bundle belongs to one model and one size; with another model it is not used, and the example is computed as any photo.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from drorae.bundled import ASSETS
from drorae.explorer.interventions import can_intervene
from drorae.explorer.reading import Reading
from drorae.explorer.standing import Spread, photo_gain, place
from drorae.images import open_photo
from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.viewers.report import model_hash
from drorae.viewers.values import routes_value, standing_value, tiles_value

LIMIT = 500_000  # bytes of a bundle on its way, compressed


def photo_of(name: str) -> Path:
    """The picture of an example."""
    return ASSETS / "examples" / f"{name}.jpg"


def bundle_of(name: str) -> Path:
    """The file of an example's bundle; it need not be there."""
    return ASSETS / "examples" / f"{name}.json"


def example_bundle(
    name: str, model: AutoencoderDRoRAE, model_name: str, spread: Spread | None = None
) -> dict[str, Any]:
    """All that the page asks about an example when it opens: ``model`` (its hash), ``size`` and ``kinds``.

    Args:
        name: of the example.
        model_name: what the page calls the model.
        spread: gains of held-out photos, see :func:`drorae.explorer.standing.read_spread`; without them there is no
            ``standing``.

    Raises:
        ImageError: there is no such example.
    """
    photo, code = open_photo(photo_of(name)), model_hash(model)
    reading = Reading(photo, model)
    kinds = {
        "routes": routes_value(
            reading.routes,
            key=name,
            name=name,
            model={"name": model_name, "hash": code},
            facts=reading.facts,
            example=name,
        )
    }
    if can_intervene(model):
        kinds["tiles"] = tiles_value(reading.tiles())
    if spread is not None:
        kinds["standing"] = standing_value(place(spread, photo_gain(photo.picture, model, spread)))
    return {"model": code, "size": reading.routes.size, "kinds": kinds}


def read_bundle(name: str, model: str, size: int) -> dict[str, Any] | None:
    """The bundle of an example; ``None`` where there is none, or it is damaged, or of another model or size.

    Args:
        model: hash of the model that is loaded, see :func:`drorae.viewers.report.model_hash`.
        size: pixels at which it works.
    """
    try:
        bundle = json.loads(bundle_of(name).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(bundle, dict) or (bundle.get("model"), bundle.get("size")) != (model, size):
        return None
    return bundle


def bundle_address(name: str, model: str, size: int) -> str | None:
    """Where the page finds the bundle of an example, relative to its own address; ``None`` as for :func:`read_bundle`.

    The address names the model, so that a browser may keep the file until there is another.
    """
    return None if read_bundle(name, model, size) is None else f"drorae/examples/{name}.json?v={model}"
