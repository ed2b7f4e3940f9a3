"""What was measured of a model on held-out photos, in small files beside its weights, and of these weights alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from drorae.checkpoints import CheckpointError, weights_hash

HASH = "sha256"  # of the files of weights, as in measured.json and on the cards


def read_evidence(folder: Path, name: str) -> dict[str, Any] | None:
    """The content of such a file; ``None`` where there is none, or where it is of other weights.

    The weights are read to know that: ask once for a model.

    Args:
        folder: folder of the checkpoint.
        name: name of the file.

    Raises:
        CheckpointError: the file cannot be read, or says nothing of the weights.
    """
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"'{folder / name}' is not readable JSON; measure the model again.") from error
    if not isinstance(content, dict) or HASH not in content:
        raise CheckpointError(f"'{folder / name}' does not say which weights it is of; measure the model again.")
    return content if content[HASH] == weights_hash(folder) else None
