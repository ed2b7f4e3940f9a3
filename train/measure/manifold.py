"""Precision, recall and nearest neighbours of two sets of features: do generated pictures lie where real ones do, do
they cover them, and are they copies?"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from train.errors import DataError

NEIGHBOURS = 3
ROWS = 256  # of a matrix of distances at a time


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1]: of generated pictures that look real, and of real ones that could have been generated."""

    precision: float
    recall: float


def precision_recall(real: Tensor, generated: Tensor, neighbours: int = NEIGHBOURS) -> PrecisionRecall:
    """Improved precision and recall (Kynkaanniemi et al., arXiv 1904.06991).

    A point looks like a set if it is as near to some point of the set as that one is to its k-th neighbour there.

    Args:
        real, generated: features, (n, D) and (m, D); take as many of each, since larger sets cover more.
        neighbours: k.

    Raises:
        DataError: a set with no more than k points.
    """
    for name, features in (("real", real), ("generated", generated)):
        if len(features) <= neighbours:
            raise DataError(f"too few {name} pictures for the {neighbours} nearest of each: {len(features)}.")
    return PrecisionRecall(share_within(generated, real, neighbours), share_within(real, generated, neighbours))


def share_within(points: Tensor, of: Tensor, neighbours: int) -> float:
    """Share of ``points`` (m, D) that lie within the k-th neighbour's distance of some point of ``of`` (n, D)."""
    points, of = points.double(), of.double()
    # the nearest of all is the point itself
    radii = torch.cat([torch.cdist(rows, of).kthvalue(neighbours + 1, dim=1).values for rows in of.split(ROWS)])
    inside = [(torch.cdist(rows, of) <= radii).any(1) for rows in points.split(ROWS)]
    return float(torch.cat(inside).double().mean())


def nearest_distances(points: Tensor, of: Tensor) -> Tensor:
    """Distance of every point (m, D) to the nearest of a set (n, D), (m,) in fp64.

    Copies are near: compare the distances of generated pictures to the training photos with those of held-out photos.
    """
    points, of = points.double(), of.double()
    return torch.cat([torch.cdist(rows, of).amin(1) for rows in points.split(ROWS)])
