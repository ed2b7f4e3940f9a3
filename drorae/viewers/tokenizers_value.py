"""One picture through several tokenizers, as plain JSON for the viewers."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable

import numpy as np
from PIL import Image

from drorae.explorer.answers import finite_numbers
from drorae.explorer.tokenizers import TokenizerColumn


def tokenizers_value(columns: Iterable[TokenizerColumn]) -> dict:
    """The kind ``tokenizers``: a column per tokenizer, its picture as a data URL of lossless WebP.

    ``latent`` is rows, columns and channels, ``stored`` how many numbers that is, and ``ratio`` how many times as many
    the pixels are.
    """
    return {"columns": [column_value(column) for column in columns]}


def column_value(column: TokenizerColumn) -> dict:
    """One column of :func:`tokenizers_value`."""
    return {**column_answer(column), "picture": _webp(column.picture)}


def column_answer(column: TokenizerColumn) -> dict:
    """A column's facts and numbers, without its picture."""
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


def _webp(picture: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "WEBP", lossless=True)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
