"""How far a long measurement came: one that was stopped goes on from there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from train.errors import writing

OF, DONE = "of", "done"


class SavedProgress:
    """Batches that were measured, and what was found in them, in a safetensors file.

    Args:
        file: where it is kept.
        of: what the result depends on, weights first; anything that JSON can hold. Progress with other things is not
            taken over.
        every: batches between two writings.
    """

    def __init__(self, file: Path, of: list[Any], every: int = 4):
        self.file, self.of, self.every = file, json.dumps(of), every

    def load(self) -> tuple[int, dict[str, Tensor]]:
        """Number of batches that were done, and what was found; none where nothing of these things was kept."""
        try:
            with safe_open(self.file, framework="pt") as opened:
                record = opened.metadata()
                if record[OF] == self.of:
                    found = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a mapping)
                    return int(record[DONE]), found
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):  # not there, or half a file
            pass
        return 0, {}

    def save(self, done: int, found: dict[str, Tensor]) -> None:
        """Keep what was found in the first ``done`` batches.

        Raises:
            RunError: the disk takes no more.
        """
        with writing(self.file.parent):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            fresh = self.file.with_suffix(".new")
            save_file(
                {name: value.contiguous() for name, value in found.items()}, fresh, {OF: self.of, DONE: str(done)}
            )
            fresh.replace(self.file)

    def remove(self) -> None:
        """Forget it: the measurement is there."""
        self.file.unlink(missing_ok=True)


def name_of(*parts: str) -> str:
    """A name of a tensor that says several things."""
    return json.dumps(parts)


def parts_of(name: str) -> list[str]:
    """What :func:`name_of` was given."""
    return json.loads(name)
