"""Hashes that name weights in reports, cards and records."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from drorae.checkpoints.weights import DISCRIMINATOR


def weights_hash(folder: Path) -> str | None:
    """First 16 hexadecimal digits of the SHA-256 of a checkpoint's weight files, which name a model in reports and
    cards; ``None`` where there are no such files."""
    files = [file for file in sorted(folder.glob("*.safetensors")) if file.name != DISCRIMINATOR]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16] if files else None


def module_hash(module: nn.Module, digest: Any = None) -> str:
    """A hash of all weights of a module, in half precision, so that a copy in fp16 has the same."""
    digest = digest or hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().half().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
