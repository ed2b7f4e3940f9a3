"""Diagnostics of a latent space, after the paper and HiRAE (arXiv 2609.37775), on token maps (B, N, C)."""

from __future__ import annotations

import numpy as np
import torch
from scipy.fft import dctn
from torch import Tensor
from torch.nn import functional as F


def spatial_effective_rank(tokens: Tensor) -> Tensor:
    """exp of the entropy of the normalised singular values (Roy & Vetterli, 2007) of each picture's (N, C) matrix.

    Between 1 (all tokens are multiples of one) and min(N, C); one number per picture, (B,).
    """
    values = tokens.double()
    small = values @ values.mT if values.shape[1] < values.shape[2] else values.mT @ values
    singular = torch.linalg.eigvalsh(small).clamp(min=0).sqrt()  # many times faster than the singular values
    share = singular / singular.sum(-1, keepdim=True)
    return torch.special.entr(share).sum(-1).exp()


def high_frequency_energy(tokens: Tensor, grid_size: tuple[int, int]) -> Tensor:
    """Share of a token map's energy in the upper half of its spatial frequencies, per picture, (B,), in [0, 1].

    Orthonormal DCT-II over the grid (rows, columns), per channel; a coefficient (u, v) counts where u is at least half
    the rows or v at least half the columns.
    """
    grid = tokens.float().unflatten(1, grid_size).cpu().numpy()
    energy = np.square(dctn(grid, axes=(1, 2), norm="ortho")).sum(-1)  # (B, h, w)
    rows, columns = (np.arange(count) >= count / 2 for count in grid_size)
    high = rows[:, None] | columns[None]
    return torch.from_numpy(energy[:, high].sum(-1) / energy.sum((1, 2)))


def spectral_energy(latents: Tensor, share: float) -> Tensor:
    """Share of the energy above ``share`` times the highest frequency, per channel, averaged over channels (SEC, arXiv
    2606.03578): latents (B, C, h, w) to (B,), in [0, 1].

    Orthonormal DCT-II over the grid. The frequency of a coefficient is u + v (Manhattan), of which h - 1 + w - 1 is the
    highest. A channel of zeros has no energy anywhere, and counts as 0.
    """
    height, width = latents.shape[-2:]
    energy = torch.from_numpy(np.square(dctn(latents.double().cpu().numpy(), axes=(2, 3), norm="ortho")))
    frequency = torch.arange(height)[:, None] + torch.arange(width)
    high = energy[..., frequency > share * (height + width - 2)].sum(-1)
    total = energy.sum((-1, -2))
    return torch.where(total > 0, high / total.where(total > 0, 1), 0).mean(1)


def same_class_shares(pooled: Tensor, labels: Tensor, k: int = 10) -> Tensor:
    """Share of each picture's k nearest others that have its class, (M,); cosine distance of mean tokens
    (M, C). Its mean is the label-neighbour consistency (LNC, arXiv 2606.03578).

    Raises:
        ValueError: there are not more than k pictures.
    """
    if len(pooled) <= k:
        raise ValueError(f"{k} neighbours need more than {k} pictures, not {len(pooled)}")
    unit = F.normalize(pooled.float(), dim=-1)
    shares = []
    for start in range(0, len(unit), 1024):  # never all M x M similarities at once
        part = unit[start : start + 1024]
        similarity = part @ unit.T
        similarity[torch.arange(len(part)), torch.arange(start, start + len(part))] = -torch.inf
        nearest = similarity.topk(k, dim=-1).indices
        shares.append((labels[nearest] == labels[start : start + 1024, None]).double().mean(1))
    return torch.cat(shares)


def same_class_neighbours(pooled: Tensor, labels: Tensor, k: int = 10) -> float:
    """Mean of :func:`same_class_shares` over all pictures."""
    return same_class_shares(pooled, labels, k).mean().item()
