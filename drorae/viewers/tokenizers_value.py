"""One picture through several tokenizers, as plain JSON for the viewers."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable

import numpy as np
from PIL import Image

from drorae.explorer.answers import column_answer
from drorae.explorer.tokenizers import TokenizerColumn


def tokenizers_value(columns: Iterable[TokenizerColumn]) -> dict:
    """The kind ``tokenizers``: a column per tokenizer, its picture as a data URL of lossless WebP,
    and what :func:`~drorae.explorer.answers.column_answer` says of it."""
    return {"columns": [column_value(column) for column in columns]}


def column_value(column: TokenizerColumn) -> dict:
    """One column of :func:`tokenizers_value`."""
    return {**column_answer(column), "picture": _webp(column.picture)}


def _webp(picture: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "WEBP", lossless=True)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
