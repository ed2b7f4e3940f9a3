"""Frechet distance of two sets of pictures in the features of a network, through torchmetrics."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from train.errors import DataError


class _Given(nn.Module):
    """Stands where torchmetrics expects the feature network: features are computed once and handed in."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


class FrechetDistance:
    """``|mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2))`` of features, accumulated in float64.

    Args:
        num_features: width of the features; both sets need more pictures than that, for covariances of full rank.
    """

    def __init__(self, num_features: int):
        self.num_features = num_features
        self.counts = {True: 0, False: 0}  # reference or not
        self.metric = FrechetInceptionDistance(feature=_Given(num_features)).set_dtype(torch.float64)

    def update(self, reference: Tensor, others: Tensor) -> None:
        """Add features (B, num_features) of the reference pictures and of the others."""
        self.add(reference, real=True)
        self.add(others, real=False)

    def add(self, features: Tensor, real: bool) -> None:
        """Add features (B, num_features) to one of the two sets, ``real`` being the reference."""
        self.counts[real] += len(features)
        self.metric.update(features.double().cpu(), real=real)

    @property
    def count(self) -> int:
        """Pictures in the smaller set."""
        return min(self.counts.values())

    def compute(self) -> float:
        """The distance.

        Raises:
            DataError: too few pictures.
        """
        check_count(self.count, self.num_features)
        return self.metric.compute().item()


def check_count(count: int, num_features: int) -> None:
    """Refuse a set that is too small for a Frechet distance.

    Raises:
        DataError: not more pictures than features.
    """
    if count <= num_features:
        raise DataError(
            f"a Frechet distance on {num_features} features needs more than {num_features} pictures, and there are "
            f"{count}; use more or leave the distance out."
        )
