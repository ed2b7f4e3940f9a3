"""How far a latent has left what its decoder was trained on: the number behind the explorer's warning."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from drorae.models.autoencoder import AutoencoderDRoRAE

QUANTILE = 0.99  # of held-out tokens, which the model's ``latent_distance`` bounds
# Shares of tokens beyond it, up to which a latent is called inside (98 % of held-out photos are), and at the edge.
INSIDE, EDGE = 0.08, 0.25


class Compatibility(NamedTuple):
    """Where a latent stands.

    Attributes:
        cosine: mean cosine of its tokens and those of the last layer, -1..1.
        mean, variance: of the latent normalised with the model's statistics; about 0 and 1 for photos. ``None`` for a
            model without statistics.
        beyond: share of tokens, 0..1, that lie farther out than 99 % of held-out tokens; ``None`` where that distance
            was not measured.
    """

    cosine: float
    mean: float | None
    variance: float | None
    beyond: float | None

    @property
    def verdict(self) -> str:
        """``"inside"``, ``"edge"`` or ``"outside"`` the range of held-out photos; ``"unknown"``."""
        if self.beyond is None:
            return "unknown"
        return "inside" if self.beyond <= INSIDE else "edge" if self.beyond <= EDGE else "outside"


def distances(model: AutoencoderDRoRAE, tokens: Tensor, grid_size: tuple[int, int] | None = None) -> Tensor:
    """Mean over the channels of the squared normalised latent of every token: (B, N, C) to (B, N), about 1 for photos.

    It is the squared Mahalanobis distance of a diagonal covariance, divided by C, under the statistics of the model's
    own latents.

    Args:
        grid_size: rows and columns of the N tokens; the model's own square grid when ``None``.

    Raises:
        ValueError: the model has no latent statistics.
    """
    if model.statistics is None:
        raise ValueError("the model has no latent statistics; run python -m train.latent_stats on it")
    return model.tokens_to_latent(tokens, grid_size).float().square().mean(1).flatten(1)


@torch.inference_mode()
def compatibility(
    model: AutoencoderDRoRAE, tokens: Tensor, base: Tensor, grid_size: tuple[int, int] | None = None
) -> list[Compatibility]:
    """Compatibility of each latent in a batch (B, N, C). ``base``: tokens of the last layer, broadcast to it;
    ``grid_size`` as in :func:`distances`."""
    cosines = torch.cosine_similarity(tokens.float(), base.float(), dim=-1).mean(-1).tolist()
    if model.statistics is None:
        return [Compatibility(cosine, None, None, None) for cosine in cosines]
    latents = model.tokens_to_latent(tokens, grid_size).float().flatten(1)
    means, variances = latents.mean(1).tolist(), latents.var(1, unbiased=False).tolist()
    limit = model.config.latent_distance
    beyond = [None] * len(tokens)
    if limit is not None:
        beyond = (distances(model, tokens, grid_size) > limit).float().mean(1).tolist()
    return [Compatibility(*numbers) for numbers in zip(cosines, means, variances, beyond, strict=True)]
