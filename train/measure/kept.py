"""Long measurements, kept as they are made: what was stopped between two of them goes on with the second."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from train.errors import writing


def measure_once(file: Path, of: list[Any], measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``measure`` returns, read from ``file`` where that was written by a measurement of the same things.

    Args:
        of: what the result depends on, weights first; anything that JSON can hold.

    Raises:
        RunError: the disk takes no more.
    """
    wanted = json.loads(json.dumps(of))
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
        if before["of"] == wanted:
            return before["found"]
    except (OSError, ValueError, KeyError, TypeError):  # not measured yet, or half a file
        pass
    found = json.loads(json.dumps(measure()))
    with writing(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"of": wanted, "found": found}) + "\n", encoding="utf-8")
    return found
