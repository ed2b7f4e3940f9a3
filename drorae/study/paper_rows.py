"""Every row of the paper's tables with the command and the cost that reproducing it takes here.

``python -m train.matrix`` writes what is read, from the presets; a test fails while it is stale.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypedDict

NOT_RUN = "not run"  # what a row says of ours until there is a number
FILE = Path(__file__).with_name("paper_rows.json")


class PaperRows(TypedDict):
    """The matrix.

    Attributes:
        utilisation: share of an H100's peak that hours are counted with.
        runs: by name ("dinov2-b/fusion"): ``command``, runs it comes ``after``, parameters ``trained``, ``flops`` of a
            step with one picture, ``hours`` of one H100, ``recipe`` (hash of what was counted), result ``ours``.
        tables: ``number``, ``title``, ``note`` and ``rows``, each with ``name``, ``paper`` and ``ours`` (texts),
            ``runs`` and ``note``.
    """

    utilisation: float
    runs: dict[str, dict[str, Any]]
    tables: list[dict[str, Any]]


def table_title(table: dict[str, Any]) -> str:
    """The heading of one of the paper's tables, or of two that have the same rows."""
    return f"Table{'s' if ',' in table['number'] else ''} {table['number']}: {table['title']}"


def read_rows(file: Path = FILE) -> PaperRows | None:
    """The matrix; ``None`` where it is not there or cannot be read."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return PaperRows(
            utilisation=float(content["utilisation"]), runs=dict(content["runs"]), tables=list(content["tables"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
