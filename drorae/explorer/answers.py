"""What was found, as plain numbers for JSON: the page's endpoints and the command line give the same."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from drorae.explorer.batch import BatchRow
from drorae.explorer.explore import Exploration, Frame

if TYPE_CHECKING:
    from drorae.explorer.tokenizers import TokenizerColumn  # which knows all of diffusers' autoencoders


def reconstruction_answer(result: Exploration) -> dict[str, Any]:
    """PSNR (dB), SSIM and mean error (8-bit levels) of every route; for fused ones the shares of pixels improved and
    harmed."""
    height, width, _ = result.original.shape
    answer: dict[str, Any] = {"width": width, "height": height}
    for name, numbers in result.metrics.items():
        answer[name] = finite_numbers(numbers)
        if name in result.gains:
            answer[name] |= {"improved": result.gains[name].improved, "harmed": result.gains[name].harmed}
    return answer


def routing_answer(result: Exploration) -> dict[str, Any]:
    """Weight and share of every layer at every token, row by row, and what they amount to.

    ``width`` and ``height`` are those of the picture as the model saw it, pixels; ``grid`` is the number of rows and of
    columns.

    Raises:
        ValueError: a model without fusion.
    """
    weights, shares, correlation = result.weights, result.shares, result.texture_correlation
    if weights is None or shares is None or correlation is None:
        raise ValueError("there is no routing without fusion; explore with a model that has one")
    height, width, _ = result.original.shape
    return {
        "width": width,
        "height": height,
        "grid": list(result.grid_size),
        "layers": result.num_layers,
        "weights": weights.tolist(),
        "shares": shares.tolist(),
        "mean_shares": shares.mean(0).tolist(),
        "cosine": result.cosine,
        "texture_correlation": [value if math.isfinite(value) else None for value in correlation.tolist()],
    }


def frame_answer(frame: Frame) -> dict[str, Any]:
    """Metrics of an intervention, and where its latent stands."""
    standing = frame.compatibility
    return finite_numbers(frame.metrics) | standing._asdict() | {"verdict": standing.verdict}


def intervention_answer(frame: Frame) -> dict[str, Any]:
    """An intervention that was asked for alone: the size it was painted at, pixels, and :func:`frame_answer`."""
    height, width, _ = frame.picture.shape
    return {"width": width, "height": height, **frame_answer(frame)}


def batch_answer(row: BatchRow) -> dict[str, Any]:
    """One picture of a batch."""
    numbers: dict[str, Any] = {"width": row.width, "height": row.height}
    numbers |= {name: finite_numbers(metrics) for name, metrics in row.metrics.items()}
    more = {"gain": row.gain, "harmed": row.harmed, "dominant_layer": row.layer, "error": row.error}
    return {"picture": row.name, **numbers, **finite_numbers(more)}


def column_answer(column: TokenizerColumn) -> dict[str, Any]:
    """One picture through one tokenizer: its metrics, and what the tokenizer stores. ``latent`` is rows, columns and
    channels, ``stored`` how many numbers that is, ``ratio`` how many times as many the pixels are."""
    return {
        "id": column.id,
        "title": column.title,
        "metrics": finite_numbers(column.metrics),
        "latent": list(column.latent),
        "stored": column.stored,
        "ratio": column.ratio,
        "encoder": column.encoder,
        "decoder": column.decoder,
        "licence": column.licence,
    }


def finite_numbers(numbers: dict[str, Any]) -> dict[str, Any]:
    """The numbers, with ``None`` where JSON has none: the PSNR of two equal pictures is infinite."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in numbers.items()
    }
