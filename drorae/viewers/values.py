"""What the explorer returns, as plain JSON for the views.

Everything a view can show travels once; hovering, pinning and switching then need no request. Pictures are PNG or
lossless WebP, so the browser shows exactly the pixels the numbers were computed on.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from drorae.explorer.answers import finite_numbers, frame_answer
from drorae.explorer.batch import BatchRow, to_csv
from drorae.explorer.exploration import Exploration, Frame, Interventions
from drorae.explorer.layer_usage import Effect, LayerUsage
from drorae.explorer.routes import ROUTES
from drorae.explorer.sampling import Generation, SamplingProgress
from drorae.explorer.similarity import Similarity
from drorae.explorer.spectrum import band_edges, recovery
from drorae.explorer.standing import Standing
from drorae.images import png_with_settings
from drorae.viewers.encodings import base64_text, pack, picture_difference, sprite, sprite_columns, webp

TILE = 80  # pixels: the longer side of a layer's picture in the strip
THUMB = 90  # quality of those
PREVIEW = 85  # quality of pictures that are seen for a moment, or as thumbs


def routes_value(
    result: Exploration,
    *,
    key: str,
    name: str,
    model: Mapping[str, str],
    facts: Mapping[str, Any],
    example: str | None = None,
) -> dict:
    """The kind ``routes``: what a photo is, and what the model makes of it on every route.

    Weights and shares are packed, tokens by layers; cosines and texture have one number per token; they are ``None``
    without fusion. Components are base64 of uint8, layers by tokens by RGB.

    Args:
        key: of the photo.
        name: what the photo is called.
        model: ``name`` and ``hash`` of the model.
        facts: what was done to the file, see :meth:`drorae.images.Photo.facts`.
        example: which of the page's own photos it is.
    """
    weights, shares, cosines = result.weights, result.shares, result.cosines
    correlation = result.texture_correlation
    return {
        "key": key,
        "name": name,
        "example": example,
        "width": result.original.shape[1],
        "height": result.original.shape[0],
        "rows": result.grid_size[0],
        "columns": result.grid_size[1],
        "layers": result.num_layers,
        "beta": result.beta,
        "seconds": result.seconds,
        "size": result.size,
        "model": {"name": model["name"], "hash": model["hash"]},
        "pictures": {route: webp(shown) for route, shown in {"original": result.original, **result.pictures}.items()},
        "metrics": {route: finite_numbers(numbers) for route, numbers in result.metrics.items()},
        "weights": None if weights is None else pack(weights),
        "shares": None if shares is None else pack(shares),
        "cosines": None if cosines is None else pack(cosines),
        "texture": pack(result.texture),
        "cosine": result.cosine,
        "correlation": None if correlation is None else _finite_list(correlation),
        # softmax and mean sums are not divided (equation 4)
        "divided": weights is not None and shares is not None and not np.array_equal(weights, shares),
        "components": base64_text(result.components),
        "edges": band_edges().tolist(),
        "spectra": {route: energies.tolist() for route, energies in result.spectra.items()},
        "energies": {route: energies.tolist() for route, energies in result.energies.items()},
        "notes": dict(facts),
    }


def tiles_value(tiles: Sequence[Frame], side: int = TILE) -> dict:
    """The kind ``tiles``: what each layer can paint, small and not to the last bit, in one row.

    ``side`` is the longer side of a tile in pixels; a tile is never larger than what was painted.

    Args:
        tiles: one per layer, see :meth:`drorae.explorer.reading.Reading.tiles`.
    """
    height, width, _ = tiles[0].picture.shape
    side = min(side, max(height, width))
    small = [_resize(tile.picture, scaled_size(width, height, side)) for tile in tiles]
    return {
        "side": side,
        "sprite": webp(sprite(small, len(small)), THUMB),
        "psnr": [finite_numbers(tile.metrics)["psnr"] for tile in tiles],
    }


def scaled_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height of the same shape whose longer side is ``side``."""
    return tuple(max(1, round(length * side / max(width, height))) for length in (width, height))  # type: ignore


def _resize(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def frames_value(result: Exploration, made: Interventions, side: int | None = None, quality: int | None = None) -> dict:
    """The kind ``frames``: the interventions painted so far, their pictures in one sprite, which is ``None`` as long as
    there are none. With all their pixels it holds their differences to the picture of the last route (``differs``, see
    :func:`~drorae.viewers.encodings.picture_difference`), else the pictures themselves.

    ``layers`` has a row per removed layer: which share of what the last layer lost is wrong without the layer and was
    not with it, by band of frequency; ``None`` for bands in which it lost nothing.

    Args:
        result: of the same picture.
        side: the longer side in pixels that pictures are made smaller to; their numbers stay those of the large ones.
        quality: of the sprite, 1 to 100; ``None`` keeps every pixel.
    """
    lists = {"strengths": made.strengths, "removed": made.removed, "alone": made.alone, "experts": made.experts}
    *_, trained = result.pictures.values()
    pictures = [frame.picture for frames in lists.values() for frame in frames]
    height, width, _ = result.original.shape
    differs = quality is None
    if side is not None and side < max(height, width):
        differs = False
        width, height = scaled_size(width, height, side)
        pictures = [_resize(picture, (width, height)) for picture in pictures]
    if differs:
        pictures = [picture_difference(picture, trained) for picture in pictures]
    columns = sprite_columns(len(pictures), width, height) if pictures else 0
    indices = iter(range(len(pictures)))
    *_, usual = result.energies.values()
    lost = result.energies["rae"]
    return {
        "beta": made.beta,
        "betas": list(made.betas),
        "done": made.done,
        "total": made.total,
        "columns": columns,
        "width": width,
        "height": height,
        "differs": differs,
        "sprite": webp(sprite(pictures, columns), quality) if pictures else None,
        **{
            kind: [{"index": next(indices), **frame_answer(frame)} for frame in frames]
            for kind, frames in lists.items()
        },
        "layers": [_finite_list(1 - recovery(lost, frame.energies - usual)) for frame in made.removed],
    }


def standing_value(found: Standing) -> dict:
    """The kind ``standing``: a photo's gain among those of held-out photos, dB."""
    return {
        "size": found.size,
        "gain": found.gain,
        "photos": found.photos,
        "below": found.below,
        "density": {"from": found.density.start, "to": found.density.stop, "counts": found.density.counts},
    }


def usage_value(usage: LayerUsage) -> dict:
    """What layers are worth over held-out photos, for the view Layers: means and quantiles of decibels."""

    def as_numbers(effects: Sequence[Effect]) -> list[dict]:
        return [{"psnr": effect.psnr._asdict(), "change": effect.change._asdict()} for effect in effects]

    lists = {
        "strengths": as_numbers(usage.strengths),
        "removed": as_numbers(usage.removed),
        "alone": as_numbers(usage.alone),
    }
    return {"size": usage.size, "photos": usage.photos, "betas": usage.betas, **lists}


def similar_value(found: Mapping[str, Similarity]) -> dict:
    """The kind ``similar``: how much the tokens of photos resemble one token, map by map.

    ``maps`` names them: layers from 1, ``z_base``, ``z_fuse``, ``z_final``. ``values`` of a photo are packed, maps by
    tokens.

    Args:
        found: by key of the photo; the token is the first one's.
    """
    first = next(iter(found.values()))
    return {
        "token": first.token,
        "maps": list(first.maps),
        "photos": [
            {"key": key, "rows": each.grid_size[0], "columns": each.grid_size[1], "values": pack(each.values)}
            for key, each in found.items()
        ],
    }


def _finite_list(values: np.ndarray) -> list[float | None]:
    """NaN, which JSON cannot hold, becomes null."""
    return [float(value) if np.isfinite(value) else None for value in values]


def batch_value(rows: Sequence[BatchRow], total: int) -> dict:
    """The kind ``photos``: the rows so far, and ``csv``, the same as lines of a table. What is sent again and again
    only grows, so that Gradio sends what is new."""
    routes = [route for route in ROUTES if any(route.name in row.metrics for row in rows)]
    return {
        "routes": [{"name": route.name, "title": route.title} for route in routes],
        "done": len(rows),
        "total": total,
        "csv": to_csv(rows).splitlines(keepends=True),
        "rows": [
            {
                "index": index,
                "name": row.name,
                "psnr": {route: finite_numbers(numbers)["psnr"] for route, numbers in row.metrics.items()},
                **finite_numbers({"gain": row.gain, "harmed": row.harmed, "layer": row.layer, "error": row.error}),
                "thumbnail": None if row.thumbnail is None else webp(row.thumbnail),
            }
            for index, row in enumerate(rows)
        ],
    }


def progress_value(progress: SamplingProgress) -> dict:
    """What the view Generate is sent while it runs: what the steps so far would end at."""
    return {
        "running": True,
        "step": progress.step,
        "count": progress.count,
        "time": progress.time,
        "label": progress.label,
        "seeds": progress.seeds,
        "rows": [
            {"name": name, "pictures": [webp(picture, PREVIEW) for picture in pictures]}
            for name, pictures in progress.previews.items()
        ],
    }


def generation_value(result: Generation) -> dict:
    """What Generate is sent in the end: pictures of both decoders, which hold their settings, and every one's film."""
    return {
        "running": False,
        "label": result.label,
        "seeds": result.seeds,
        "seconds": result.seconds,
        "decoders": list(result.rows[0].pictures),
        "rows": [
            {
                "name": row.name,
                "settings": row.settings,
                "pictures": {
                    decoder: [
                        _png(picture, {**settings, "decoder": decoder})
                        for picture, settings in zip(pictures, row.settings, strict=True)
                    ]
                    for decoder, pictures in row.pictures.items()
                },
                # by picture, not by time; the last frame is the picture itself
                "film": [[webp(frame, PREVIEW) for frame in frames] for frames in row.film[:-1].swapaxes(0, 1)],
                "times": row.times,
                "latents": pack(row.lengths),
            }
            for row in result.rows
        ],
    }


def _png(picture: np.ndarray, settings: dict | None = None) -> str:
    content = png_with_settings(Image.fromarray(picture), settings)
    return "data:image/png;base64," + base64.b64encode(content).decode()
