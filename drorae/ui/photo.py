"""Answers to what the page asks about a photo: plain functions of a wish, one per kind (see ``store.js``)."""

from __future__ import annotations

from typing import Any

import gradio as gr

from drorae.checkpoints import CheckpointError
from drorae.explorer.explore import explore
from drorae.explorer.interventions import InterventionError
from drorae.images import ImageError
from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.ui.examples import EXAMPLES, NAMES
from drorae.ui.models import Shelf
from drorae.ui.uploads import GONE, open_upload
from drorae.viewers import interim

KNOWN = (CheckpointError, ImageError, InterventionError)
UNFORESEEN = "This could not be computed here. Try again, or choose another photo."


def photo_path(wish: dict[str, Any]) -> str:
    """Path of the photo that a wish is about: an example by name, or the file that was uploaded.

    Raises:
        ImageError: neither.
    """
    example, file = wish.get("example"), wish.get("file")
    if example is not None:
        if example not in EXAMPLES:
            raise ImageError(f"There is no example '{str(example)[:40]}'; there are {', '.join(NAMES)}.")
        return EXAMPLES[example]
    if isinstance(file, dict) and isinstance(file.get("path"), str):
        return file["path"]
    raise ImageError(GONE)


def own_size(wish: dict[str, Any], model: AutoencoderDRoRAE) -> int | None:
    """The side in pixels that a generated picture is looked at at, which is its own; ``None`` is the page's.

    Other sizes than the model's own are not taken: anyone can send one, and large ones take long.
    """
    return model.image_size if wish.get("size") == model.image_size else None


def answer(kind, shelf: Shelf, wish: dict[str, Any]) -> dict[str, Any]:
    key = wish.get("key")
    try:
        path = photo_path(wish)
        model = shelf.get(wish.get("model") or shelf.first)
        result = explore(
            open_upload(path), model, interventions=kind in ("tiles", "frames"), size=own_size(wish, model)
        )
        if kind == "routes":
            value = interim.routes_value(result, key, wish.get("name"), wish.get("example"), model.image_size, {"name": wish.get("model"), "hash": ""})
        elif kind == "tiles":
            value = interim.tiles_value(result)
        elif kind == "frames":
            value = interim.frames_value(result)
        elif kind == "standing":
            value = {"size": 128, "gain": 8.0, "photos": 1500, "below": 1401, "density": {"from": 2, "to": 12, "counts": [1,3,10,40,100,220,300,330,250,120,60,20,6,2]}}
    except KNOWN as error:
        return gr.update(answer={"key": key, "error": str(error)})
    return gr.update(answer={"key": key, "value": value})
