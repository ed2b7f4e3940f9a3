"""Everything the explorer shows of one picture, computed in one call and returned as plain arrays.

The page, ``python -m drorae`` and ``train.evaluate`` all go through this module, so they cannot disagree.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from drorae.autoencoder import AutoencoderDRoRAE
from drorae.fusion import FusionOutput, Routing
from drorae.images import square, to_tensor, to_uint8
from drorae.metrics import psnr, ssim


@dataclass(frozen=True)
class Route:
    """One way through the model: which layers make the latent, and which decoder paints it."""

    name: str
    title: str
    explanation: str
    fused: bool
    decoder: str


ROUTES = (
    Route("rae", "Last layer", "RAE: the encoder's last layer, original decoder", False, "original"),
    Route("phase2", "All layers fused", "same, untouched decoder: only the latent changed", True, "original"),
    Route("drorae", "Full DRoRAE", "fused latent, decoder finetuned on it", True, "finetuned"),
)


def available_routes(model: AutoencoderDRoRAE) -> tuple[Route, ...]:
    """The routes this model has the parts for; ``rae`` always, the others need fusion and a finetuned decoder."""
    return tuple(
        route
        for route in ROUTES
        if (not route.fused or model.fusion_module is not None)
        and (route.decoder == "original" or model.decoder_finetuned is not None)
    )


@torch.inference_mode()
def reconstruct(model: AutoencoderDRoRAE, images: Tensor) -> tuple[dict[str, Tensor], Routing | None]:
    """Every available route of a batch, with one pass through the encoder.

    Args:
        images: (B, 3, H, H) in [0, 1], H the model's picture size.

    Returns:
        Reconstructions by route name, (B, 3, H, H) around [0, 1], and the routing of the fused latent (``None`` for a
        model without fusion).
    """
    layers = model.encoder(images)
    base = model.fuse(layers, fusion=False).tokens
    fused = model.fuse(layers, return_routing=True) if model.fusion_module is not None else None
    return paint_routes(model, base, fused), fused.routing if fused is not None else None


def paint_routes(model: AutoencoderDRoRAE, base: Tensor, fused: FusionOutput | None) -> dict[str, Tensor]:
    """Tokens of the last layer (B, N, C) and the fused ones to a picture (B, 3, H, H) per available route."""
    pictures = {}
    for route in available_routes(model):
        latent = model.tokens_to_latent(fused.tokens if route.fused else base)
        pictures[route.name] = model.decode(latent, decoder=route.decoder).sample
    return pictures


@dataclass(frozen=True)
class Gain:
    """What fusion changed, against the last layer.

    Attributes:
        map: (H, W) float32, |last layer - original| - |route - original| in 8-bit levels, mean over RGB: positive
            where the route is closer to the original. Its mean is the difference of the two mean absolute errors.
        improved, harmed: shares of pixels in [0, 1] whose error fell or rose.
    """

    map: np.ndarray
    improved: float
    harmed: float


@dataclass(frozen=True)
class Exploration:
    """One picture, seen through every route.

    Attributes:
        original: (H, W, 3) uint8, the square the model worked on.
        pictures: route name to (H, W, 3) uint8.
        metrics: route name to ``psnr`` (dB), ``ssim`` and ``mae`` (8-bit levels), computed on those uint8 pictures.
        gains: fused route name to its :class:`Gain` over ``rae``.
        weights, shares: routing (N, L), see :class:`~drorae.fusion.Routing`; ``None`` without fusion.
        grid_size: tokens per side, N = grid_size ** 2.
        cosine: mean cosine of z_fuse and z_base over the tokens; ``None`` without fusion.
        seconds: computing time.
    """

    original: np.ndarray
    pictures: dict[str, np.ndarray]
    metrics: dict[str, dict[str, float]]
    gains: dict[str, Gain]
    weights: np.ndarray | None
    shares: np.ndarray | None
    grid_size: int
    cosine: float | None
    seconds: float

    @property
    def num_layers(self) -> int:
        """Number of encoder layers that were routed, 0 without fusion."""
        return 0 if self.weights is None else self.weights.shape[1]


def explore(picture: Image.Image, model: AutoencoderDRoRAE) -> Exploration:
    """Rebuild the central square of an RGB picture along every route and say what the router did.

    Args:
        picture: as returned by :func:`drorae.images.load_image`.
        model: any :class:`~drorae.autoencoder.AutoencoderDRoRAE`; what it lacks is left out of the result.
    """
    started = time.perf_counter()
    images = to_tensor(square(picture, model.image_size)).unsqueeze(0).to(model.device, model.dtype)
    outputs, routing = reconstruct(model, images)
    original = _array(images)
    pictures = {name: _array(output) for name, output in outputs.items()}
    errors = {
        name: np.abs(shown.astype(np.float32) - original.astype(np.float32)).mean(2) for name, shown in pictures.items()
    }
    metrics = {
        name: {
            "psnr": psnr(output, images).item(),
            "ssim": ssim(output, images).item(),
            "mae": float(errors[name].mean()),
        }
        for name, output in outputs.items()
    }
    gains = {
        name: Gain(errors["rae"] - error, float((errors["rae"] > error).mean()), float((errors["rae"] < error).mean()))
        for name, error in errors.items()
        if name != "rae"
    }
    cosine = None
    if routing is not None:
        cosine = torch.cosine_similarity(routing.fused.float(), routing.base.float(), dim=-1).mean().item()
    return Exploration(
        original=original,
        pictures=pictures,
        metrics=metrics,
        gains=gains,
        weights=None if routing is None else routing.weights[0].float().cpu().numpy(),
        shares=None if routing is None else routing.shares[0].float().cpu().numpy(),
        grid_size=model.grid_size,
        cosine=cosine,
        seconds=time.perf_counter() - started,
    )


def _array(images: Tensor) -> np.ndarray:
    """First picture of a batch as (H, W, 3) uint8."""
    return to_uint8(images[0]).permute(1, 2, 0).cpu().numpy()
