"""gFID of generated pictures against reference statistics: ``train.evaluate --generated ... --reference FILE``.

Neither photos nor judges are needed, only the statistics (:mod:`train.measure.reference_statistics`) and Inception.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from train.measure import inception
from train.measure.frechet import FrechetDistance, check_count
from train.measure.generated import GeneratedSet, load_generated
from train.measure.reference_statistics import ReferenceFile, read_reference

BATCH = 64


def measure_against(paths: Sequence[str], reference: Path, *, weights: Path, device: str = "cpu") -> dict[str, Any]:
    """gFID of every set against one file of reference statistics, and how it was measured.

    Args:
        paths: folders or npz files, see :func:`train.measure.generated.load_generated`.
        weights: a folder that may have Inception's.

    Raises:
        DataError: a set or the reference cannot be used or has too few pictures, or Inception's weights are missing.
    """
    sets = [load_generated(path) for path in paths]
    for each in sets:
        check_count(len(each), inception.NUM_FEATURES)
    file = read_reference(reference, inception.NUM_FEATURES)
    if file.pictures is not None:
        check_count(len(file.pictures), inception.NUM_FEATURES)
    network = inception.load_inception(weights).to(device)
    kind = "mean and covariance" if file.pictures is None else f"{len(file.pictures):,} pictures"
    distances = reference_distances(sets, file, network, device)
    return {
        "command": f"python -m train.evaluate --generated {' '.join(paths)} --reference {reference}",
        "reference": f"{reference.name}, {kind}",
        "sets": {
            each.name: {"pictures": len(each), "settings": each.settings, "gfid": distances[each.name]} for each in sets
        },
    }


@torch.inference_mode()
def reference_distances(
    sets: Sequence[GeneratedSet], reference: ReferenceFile, network: nn.Module, device: str
) -> dict[str, float]:
    """gFID of every set, by name; ``network`` takes pictures (B, 3, H, W) of bytes."""
    real = None if reference.pictures is None else features_of_pictures(reference.pictures, network, device)
    found = {}
    for each in sets:
        distance = FrechetDistance(inception.NUM_FEATURES)
        if reference.moments is not None:
            distance.set_reference(*reference.moments)
        elif real is not None:
            distance.add(real, real=True)
        with tqdm(total=len(each), desc=each.name) as bar:
            for images in each.batches(BATCH):
                distance.add(network(inception.to_bytes(images).to(device)), real=False)
                bar.update(len(images))
        found[each.name] = distance.compute()
    return found


def features_of_pictures(pictures: np.ndarray, network: nn.Module, device: str) -> Tensor:
    """Features (n, D) of pictures (n, H, W, 3) of bytes, on the CPU."""
    parts = []
    for start in range(0, len(pictures), BATCH):
        batch = torch.from_numpy(pictures[start : start + BATCH]).permute(0, 3, 1, 2)
        parts.append(network(batch.to(device)).cpu())
    return torch.cat(parts)


def table(report: dict[str, Any]) -> str:
    """The report as Markdown, one row per set."""
    lines = ["| set | pictures | gFID |", "|---|---:|---:|"]
    for name, row in report["sets"].items():
        lines.append(f"| `{name}` | {row['pictures']:,} | {row['gfid']:.2f} |")
    return "\n".join([*lines, "", f"Reference: {report['reference']}. Inception's pooled features; no sFID."])
