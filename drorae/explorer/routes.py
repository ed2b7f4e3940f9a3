"""The routes through the model that everything compares, and what each of them paints."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.models.fusion import FusionOutput


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


def paint_routes(
    model: AutoencoderDRoRAE, base: Tensor, fused: FusionOutput | None, grid_size: tuple[int, int]
) -> dict[str, Tensor]:
    """Tokens of the last layer (B, N, C) and the fused ones, of a grid (rows, columns), to a picture (B, 3, H, W) per
    available route."""
    pictures = {}
    for route in available_routes(model):
        tokens = base
        if route.fused:
            assert fused is not None  # such routes are there only with a fusion
            tokens = fused.tokens
        latent = model.tokens_to_latent(tokens, grid_size)
        pictures[route.name] = model.decode(latent, decoder=route.decoder).sample
    return pictures
