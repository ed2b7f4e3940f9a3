"""Latent statistics: the affine map between tokens and the normalised latents that denoisers are trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

KINDS = (None, "std", "mean and std")
EPS = 1e-5  # added to the standard deviation, as in diffusers' AutoencoderRAE


class LatentStatistics(nn.Module):
    """Mean and standard deviation per channel and position, both (C, h, w); the mean may be absent.

    The statistics published with RAE for DINOv2-B have a standard deviation only, and its denoisers were trained on
    latents divided by it without a shift.
    """

    def __init__(self, shape: tuple[int, int, int], has_mean: bool):
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape) if has_mean else None)
        self.register_buffer("std", torch.ones(shape))

    @classmethod
    def build(cls, kind: str | None, shape: tuple[int, int, int]) -> LatentStatistics | None:
        """Statistics to be loaded later, by kind: ``None``, ``"std"`` or ``"mean and std"``.

        Raises:
            ValueError: another kind.
        """
        if kind not in KINDS:
            raise ValueError(f"latent_statistics is None or one of {', '.join(KINDS[1:])}, not {kind!r}")
        return None if kind is None else cls(shape, kind == KINDS[2])

    @classmethod
    def of(cls, shape: tuple[int, int, int], std: Tensor, mean: Tensor | None = None) -> LatentStatistics:
        """Statistics with these values, ``std`` and ``mean`` of the ``shape`` (C, h, w).

        Raises:
            ValueError: another shape, values that are not finite, a standard deviation that is not positive.
        """
        for name, value in (("std", std), ("mean", mean)):
            if value is not None and (tuple(value.shape) != shape or not value.isfinite().all()):
                raise ValueError(f"the {name} of the latent must be finite numbers of shape {shape}")
        if std.min() <= 0:
            raise ValueError("the std of the latent must be positive everywhere")
        statistics = cls(shape, mean is not None)
        statistics.load_state_dict({"std": std} | ({} if mean is None else {"mean": mean}))
        return statistics

    @property
    def kind(self) -> str:
        """How a configuration names what there is."""
        return KINDS[1] if self.mean is None else KINDS[2]

    def fingerprint(self) -> str:
        """Which statistics these are: denoisers name the ones of their latent. The same for fp32 and fp16 copies."""
        digest = hashlib.sha256()
        for value in (self.std, self.mean):
            if value is not None:
                digest.update(value.detach().cpu().half().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LatentStatistics:
        """Move, but stay in fp32: the statistics are small, and every digit of them scales a latent."""
        before = {name: value for name, value in (("std", self.std), ("mean", self.mean)) if value is not None}
        super()._apply(fn, recurse)
        for name, value in before.items():
            moved = getattr(self, name)
            if moved.dtype != value.dtype and not value.is_meta:
                setattr(self, name, value.to(moved.device))
        return self

    def normalize(self, latent: Tensor) -> Tensor:
        """(z - mean) / (std + eps), latent (B, C, h, w); computed in fp32, in the latent's precision."""
        value = latent.to(torch.promote_types(latent.dtype, self.std.dtype))
        if self.mean is not None:
            value = value - self.mean
        return (value / (self.std + EPS)).to(latent.dtype)

    def denormalize(self, latent: Tensor) -> Tensor:
        """z * (std + eps) + mean, latent (B, C, h, w): the inverse of :meth:`normalize`."""
        value = latent.to(torch.promote_types(latent.dtype, self.std.dtype)) * (self.std + EPS)
        return (value if self.mean is None else value + self.mean).to(latent.dtype)
