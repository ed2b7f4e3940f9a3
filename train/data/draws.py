"""Random numbers that depend on the position in the run only, whatever the batch, the process or the sitting.

They are counted, not drawn in sequence: number i of a position is SplitMix64 (Steele, Lea and Flood, 2014) of its own
counter. So a whole batch is computed at once, on the device where it is needed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

BITS = 24  # that a float32 in [0, 1) has exactly


def uniform_draws(seed: int, positions: Tensor, count: int, what: str) -> Tensor:
    """Numbers in [0, 1), (B, count), for positions (B,), on their device. ``what`` keeps purposes apart."""
    return _mix(seed, positions, count, what).float() / 2**BITS


def normal_draws(seed: int, positions: Tensor, shape: Sequence[int], device: torch.device) -> Tensor:
    """Standard normal noise, (B, *shape), for positions (B,), on ``device``; on ``meta`` its shape alone.

    A CPU draws it from a generator per position, which is faster there; a GPU from the counters, all at once. The two
    give other numbers.
    """
    if device.type == "meta":
        return torch.empty(len(positions), *shape, device=device)
    if device.type != "cpu":
        return counted_normal(seed, positions.to(device), shape)
    generator = torch.Generator()
    noise = []
    for position in positions.tolist():
        generator.manual_seed(seed * 1_000_003 + position)
        noise.append(torch.randn(tuple(shape), generator=generator))
    return torch.stack(noise)


def counted_normal(seed: int, positions: Tensor, shape: Sequence[int]) -> Tensor:
    """Standard normal numbers (B, *shape), the quantiles of counted uniform ones, on the device of ``positions``."""
    # one bit less, since a float32 has no half beside a number of 24 bits: the largest would round to infinity
    middle = ((_mix(seed, positions, math.prod(shape), "noise") >> 1).float() + 0.5) / 2 ** (BITS - 1)
    return torch.special.ndtri(middle).unflatten(1, tuple(shape))


def _mix(seed: int, positions: Tensor, count: int, what: str) -> Tensor:
    """Whole numbers in [0, 2 ** BITS), (B, count)."""
    key = int.from_bytes(hashlib.blake2b(f"{seed}/{what}".encode(), digest_size=8).digest(), "big", signed=True)
    counters = positions.long()[:, None] * count + torch.arange(1, count + 1, device=positions.device)
    x = counters * _as_signed(0x9E3779B97F4A7C15) + key
    x = (x ^ _shift(x, 30)) * _as_signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _as_signed(0x94D049BB133111EB)
    return _shift(x ^ _shift(x, 31), 64 - BITS)


def _shift(x: Tensor, by: int) -> Tensor:
    """A logical shift to the right of 64-bit numbers, whose own shift keeps the sign."""
    return (x >> by) & ((1 << (64 - by)) - 1)


def _as_signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number
