"""One picture through another tokenizer, as plain JSON for the view."""

from __future__ import annotations

from typing import Any

from drorae.explorer.answers import column_answer
from drorae.explorer.tokenizers import TokenizerColumn
from drorae.viewers.encodings import webp


def column_value(column: TokenizerColumn) -> dict[str, Any]:
    """What :func:`~drorae.explorer.answers.column_answer` says of a column, and its ``picture`` as the data URL of a
    lossless WebP file."""
    return {**column_answer(column), "picture": webp(column.picture)}
