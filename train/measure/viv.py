"""VIV, the velocity irreducible variance: how much of the velocity no generator can predict (arXiv 2606.03578)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from train.errors import DataError

NEGLIGIBLE = 1e-7  # of the largest eigenvalue: the latent has no such direction, as LN's tokens have none along 1
TOLERANCE, MOST_TURNS = 1e-6, 200


class Spectrum(NamedTuple):
    """Eigenvalues of a covariance that is a Kronecker product.

    Attributes:
        space: (h w,), ascending, with sum 1; those that are 0 may be missing.
        channels: (C,), likewise.
        total: trace of the covariance; the eigenvalues are ``total * space_i * channels_j``.
    """

    space: Tensor
    channels: Tensor
    total: float

    @property
    def sum_of_roots(self) -> float:
        """Sum of the square roots of all eigenvalues."""
        return math.sqrt(self.total) * (self.space.sqrt().sum() * self.channels.sqrt().sum()).item()

    @property
    def effective_rank(self) -> float:
        """exp of the entropy of the normalised eigenvalues (Roy & Vetterli, 2007), 1 to h w C: the product of those of
        both factors."""
        return (torch.special.entr(self.space).sum() + torch.special.entr(self.channels).sum()).exp().item()


class Diffusability(NamedTuple):
    """What the covariances within classes say of a latent.

    Attributes:
        viv: mean of I_k over classes, divided by d.
        variance: rho, the mean variance within classes over d, in (0, 1] of a latent that is normalised.
        rank: mean effective rank of the covariances within classes, 1 to d.
        classes: how many took part.
    """

    viv: float
    variance: float
    rank: float
    classes: int


def normalize_channels(latents: Tensor) -> Tensor:
    """Latents (M, C, h, w) with mean 0 and variance 1 per channel over all pictures and positions, in fp32.

    Raises:
        DataError: a channel has the same value everywhere.
    """
    std, mean = torch.std_mean(latents.float(), dim=(0, 2, 3), correction=0, keepdim=True)
    if not std.min() > 0:
        channel = int(std.flatten().argmin()) + 1
        raise DataError(f"channel {channel} of the latent is the same for all pictures; use different ones.")
    return (latents.float() - mean) / std


def fewest_pictures(channels: int, positions: int) -> int:
    """How many pictures a class needs for :func:`fit_spectrum`: n - 1 > h w / C + C / (h w), above which the maximum of
    the likelihood is there and is one (Derksen and Makam, arXiv 2007.10206)."""
    return math.floor(positions / channels + channels / positions) + 2


def fit_spectrum(latents: Tensor) -> Spectrum:
    """The spectrum of pictures of one class (n, C, h, w), whose covariance is taken as Sigma_s (x) Sigma_c, (h w x h w)
    of space and (C x C) of channels; computed in fp64.

    Maximum likelihood by turns ("flip-flop"; Dutilleul, 1999), X_i the (C, h w) of a picture without the class mean::

        Sigma_c = 1 / (n h w) sum_i X_i Sigma_s^-1 X_i^T
        Sigma_s = 1 / (n C)   sum_i X_i^T Sigma_c^-1 X_i

    until the sum of the roots moves by less than a millionth. Directions in which the latent has no variance are left
    out of the inverses. The scale is that of the unbiased total variance, sum_i |X_i|^2 / (n - 1).
    """
    x = latents.flatten(2).double()
    x = x - x.mean(0)
    total = x.square().sum().item() / (len(x) - 1)
    if not total:  # one picture again and again
        one = torch.ones(1, dtype=x.dtype, device=x.device)
        return Spectrum(one, one, 0.0)
    whiten = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    before = 0.0
    for _ in range(MOST_TURNS):
        turned = whiten @ x  # (n, rank, h w)
        space, whiten_space = _eigen(turned.flatten(0, 1))
        turned = (x @ whiten_space.T).mT  # (n, rank, C)
        channels, whiten = _eigen(turned.flatten(0, 1))
        spectrum = Spectrum(space / space.sum(), channels / channels.sum(), total)
        if abs(spectrum.sum_of_roots - before) <= TOLERANCE * spectrum.sum_of_roots:
            break
        before = spectrum.sum_of_roots
    return spectrum


def _eigen(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (D,) of the second moment of rows (n, D), and what whitens them, (rank, D); directions without
    variance have eigenvalue 0 and no row."""
    values, vectors = torch.linalg.eigh(rows.mT @ rows / len(rows))
    there = values > NEGLIGIBLE * values[-1]
    return values.where(there, 0), vectors[:, there].mT / values[there, None].sqrt()


def large_classes(labels: Tensor, needed: int, groups: int = 1) -> list[int]:
    """The classes of pictures (M,) with ``needed`` or more, also without one of ``groups`` equal parts of them."""
    counts = labels.bincount().tolist()
    kept = [count - (-(-count // groups) if groups > 1 else 0) for count in counts]
    return [label for label, count in enumerate(kept) if count and count >= needed]


def velocity_irreducible_variance(
    latents: Tensor, labels: Tensor, classes: Sequence[int] | None = None
) -> Diffusability:
    """VIV and its companions of latents (M, C, h, w) of classes (M,), normalised per channel over all of them first.

    With x_t = (1 - t) x_0 + t e, x_0 ~ N(mu_k, Sigma_k) and e ~ N(0, 1), the velocity e - x_0 given x_t and the class
    has variance sum_i lambda_i / (t^2 + (1 - t)^2 lambda_i) over the d = C h w eigenvalues of Sigma_k, which is what a
    perfect generator leaves over. Averaged over uniform t::

        I_k = (pi / 2) sum_i sqrt(lambda_i)          VIV = mean_k I_k / d

    Lower is easier. At equal total variance an uneven spectrum has a lower one. It shrinks as latents grow, and with
    few pictures in a class, whose spectra look more uneven than they are: compare equal sizes on equal pictures.

    Args:
        classes: whose covariances count; those with enough pictures (:func:`fewest_pictures`) when ``None``.

    Raises:
        DataError: no class has enough pictures, or what :func:`normalize_channels` raises.
    """
    channels, size = latents.shape[1], latents[0].numel()
    needed = fewest_pictures(channels, size // channels)
    chosen = large_classes(labels, needed) if classes is None else classes
    if not chosen:
        raise DataError(
            f"VIV needs classes of {needed} pictures or more for a latent of {size // channels} positions and "
            f"{channels} channels, and the largest has {int(labels.bincount().max())}; use more pictures."
        )
    normalized = normalize_channels(latents)
    found = [fit_spectrum(normalized[labels == label]) for label in chosen]
    viv = [math.pi / 2 * each.sum_of_roots / size for each in found]
    return Diffusability(
        viv=sum(viv) / len(found),
        variance=sum(each.total for each in found) / len(found) / size,
        rank=sum(each.effective_rank for each in found) / len(found),
        classes=len(found),
    )
