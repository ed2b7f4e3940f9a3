"""What lies beside a generator's weights: seeds that somebody chose by looking, and their finished pictures."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from drorae.pipelines.base import DRoRAEPipeline

CHOSEN, FIRST = "chosen.json", "first.json"


def weights_of(pipeline: DRoRAEPipeline) -> str:
    """Names the weights of all its networks together: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in (pipeline.denoiser, pipeline.guide, pipeline.autoencoder, getattr(pipeline, "text_encoder", None)):
        for name, values in sorted((part.state_dict() if part is not None else {}).items()):
            digest.update(name.encode())
            digest.update(values.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()[:16]


def read_beside(folder: Path | None, name: str, weights: str) -> dict[str, Any] | None:
    """A file beside a generator; ``None`` where there is none, or where it was made with other weights."""
    if folder is None or not (folder / name).is_file():
        return None
    known = json.loads((folder / name).read_text(encoding="utf-8"))
    return known if known.get("weights") == weights else None
