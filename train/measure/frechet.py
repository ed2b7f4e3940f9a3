"""Frechet distance of two sets of pictures in the features of a network, through torchmetrics."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from train.errors import DataError

KINDS = {"real": True, "fake": False}
SUMS = ("sum", "cov_sum", "num_samples")  # what torchmetrics accumulates of each


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
        # reference or not; None where its moments are known without its pictures
        self.counts: dict[bool, int | None] = {True: 0, False: 0}
        self.metric = FrechetInceptionDistance(feature=_Given(num_features)).set_dtype(torch.float64)

    def update(self, reference: Tensor, others: Tensor) -> None:
        """Add features (B, num_features) of the reference pictures and of the others."""
        self.add(reference, real=True)
        self.add(others, real=False)

    def add(self, features: Tensor, real: bool) -> None:
        """Add features (B, num_features) to one of the two sets, ``real`` being the reference."""
        seen = self.counts[real]
        assert seen is not None, "a reference is pictures or moments, not both"
        self.counts[real] = seen + len(features)
        self.metric.update(features.double().cpu(), real=real)

    def set_reference(self, mean: Tensor, covariance: Tensor) -> None:
        """Take the reference's mean (D,) and covariance (D, D) as they are, in the place of its pictures."""
        # two pictures of this mean and covariance: the sums that torchmetrics accumulates
        mean, covariance = mean.double().cpu(), covariance.double().cpu()
        self.metric.real_features_sum = 2 * mean
        self.metric.real_features_cov_sum = covariance + 2 * torch.outer(mean, mean)
        self.metric.real_features_num_samples = torch.tensor(2)
        self.counts[True] = None

    def reference_moments(self) -> tuple[Tensor, Tensor]:
        """Mean (D,) and covariance (D, D) of the reference so far, float64."""
        count = int(self.metric.real_features_num_samples)
        mean = self.metric.real_features_sum / count
        return mean, (self.metric.real_features_cov_sum - count * torch.outer(mean, mean)) / (count - 1)

    def state(self) -> dict[str, Tensor]:
        """All that was accumulated of pictures, for :meth:`restore`."""
        return {f"{kind}_{name}": getattr(self.metric, f"{kind}_features_{name}") for kind in KINDS for name in SUMS}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what :meth:`state` gave."""
        for kind, real in KINDS.items():
            for name in SUMS:
                setattr(self.metric, f"{kind}_features_{name}", state[f"{kind}_{name}"])
            self.counts[real] = int(state[f"{kind}_num_samples"])

    @property
    def count(self) -> int:
        """Pictures in the smaller of the sets that are there as pictures."""
        return min(count for count in self.counts.values() if count is not None)

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
