"""How far an intervention has gone from what the model was trained to paint: the meter of the explorer.

Where a picture ends up closer to the original or farther from it, the original alone can tell. What the meter reads is
known without it: how much the picture differs from the one painted as trained, in units of that one's fine detail.
``train.interventions`` finds on held-out photos up to which departure the error hardly grows; several other numbers
that it prints, such as the distance of the latent from those of photos, tell less.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from drorae.images import to_uint8
from drorae.models.autoencoder import AutoencoderDRoRAE

QUANTILE = 0.99  # of held-out tokens, which the model's ``latent_distance`` bounds
GROWTH = 0.25  # of the root mean square error: by less, an intervention is harmless
SURE = 0.95  # share of held-out cases
WINDOW = 5  # pixels: the mean over so many a side leaves out what counts as fine detail
LEAST_DETAIL = 1.0  # 8-bit levels, about what rounding to them leaves in an even picture


class Compatibility(NamedTuple):
    """Where an intervention stands.

    Attributes:
        cosine: mean cosine of the latent's tokens and those of the last layer, -1..1.
        mean, variance: those of the latent, normalised with the model's statistics; about 0 and 1 for photos. ``None``
            for a model without statistics.
        beyond: share of tokens, 0..1, that lie farther out than 99 % of held-out tokens; ``None`` where that distance
            was not measured.
        departure: how much the picture differs from the one painted as trained, see :func:`departures`.
        limits: the model's ``departure_limits``; ``None`` where they were not measured.
    """

    cosine: float
    mean: float | None
    variance: float | None
    beyond: float | None
    departure: float
    limits: tuple[float, float] | None

    @property
    def verdict(self) -> str:
        """Whether the error is about that of the picture as trained: ``"yes"``, ``"partly"``, ``"no"`` or
        ``"unknown"``.

        Of held-out cases of such a departure 95 in 100 or more had an error less than 25 % larger ("yes"), or 95 in
        100 or more had a larger one than that ("no"). In between ("partly") there are both.
        """
        if self.limits is None:
            return "unknown"
        return "yes" if self.departure <= self.limits[0] else "no" if self.departure > self.limits[1] else "partly"


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


def fine_detail(pictures: Tensor) -> Tensor:
    """Root mean square of what a mean over 5 x 5 pixels leaves of pictures (B, 3, H, W) around [0, 1], in 8-bit levels:
    (B,). At the borders the pictures are mirrored."""
    shown = to_uint8(pictures).float()
    around = F.pad(shown, (WINDOW // 2,) * 4, mode="reflect")
    return (shown - F.avg_pool2d(around, WINDOW, stride=1)).square().mean((1, 2, 3)).sqrt()


def departures(painted: Tensor, trained: Tensor) -> Tensor:
    """Root mean square difference of pictures (B, 3, H, W) and the one painted as trained, (1, 3, H, W), over the
    latter's :func:`fine_detail`: (B,), 0 for that picture itself. Both are around [0, 1] and rounded to 8 bits first.

    Where fine detail is hard to paint, the error as trained is large, too, and it takes a larger difference to add to
    it.
    """
    difference = (to_uint8(painted).float() - to_uint8(trained).float()).square().mean((1, 2, 3)).sqrt()
    return difference / fine_detail(trained).clamp_min(LEAST_DETAIL)


@torch.inference_mode()
def compatibility(
    model: AutoencoderDRoRAE,
    tokens: Tensor,
    base: Tensor,
    painted: Tensor,
    trained: Tensor,
    grid_size: tuple[int, int] | None = None,
) -> list[Compatibility]:
    """Compatibility of each intervention in a batch.

    Args:
        tokens: latents (B, N, C).
        base: tokens of the last layer, broadcast to them.
        painted: their pictures (B, 3, H, W).
        trained: the picture of the same photo painted as trained, (1, 3, H, W).
        grid_size: as in :func:`distances`.
    """
    count = len(tokens)
    cosines = torch.cosine_similarity(tokens.float(), base.float(), dim=-1).mean(-1).tolist()
    means: list[float | None] = [None] * count
    variances, beyond = list(means), list(means)
    if model.statistics is not None:
        latents = model.tokens_to_latent(tokens, grid_size).float().flatten(1)
        means, variances = latents.mean(1).tolist(), latents.var(1, unbiased=False).tolist()
        limit = model.config.latent_distance
        if limit is not None:
            beyond = (distances(model, tokens, grid_size) > limit).float().mean(1).tolist()
    known = model.config.departure_limits
    limits = None if known is None else (known[0], known[1])
    numbers = zip(cosines, means, variances, beyond, departures(painted, trained).tolist(), strict=True)
    return [Compatibility(*row, limits) for row in numbers]
