"""What resembles a token: its cosine similarity to every token, layer by layer, before and after the fusion."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from drorae.explorer.interventions import Intervention
from drorae.explorer.reading import Reading
from drorae.models.fusion import layer_norm


class Similarity(NamedTuple):
    """How much every token resembles one.

    Attributes:
        token: the one, row by row, from 0, in its own picture.
        grid_size: rows and columns of the tokens that are compared with it, N = rows * columns.
        maps: what is compared: "1" to "L" for the layers, normalised as the model reads them, "z_base", "z_fuse" and
            "z_final", M = L + 3; without fusion the last two are not there, M = L + 1.
        values: cosine similarities, -1..1, (M, N) float32.
    """

    token: int
    grid_size: tuple[int, int]
    maps: tuple[str, ...]
    values: np.ndarray


@torch.inference_mode()
def similarity(reading: Reading, token: int, other: Reading | None = None) -> Similarity:
    """Similarity of a token of a picture to every token of the same picture, or of another one.

    Args:
        token: row by row, from 0.
        other: by the same model.

    Raises:
        InterventionError: there is no such token.
        ValueError: ``other`` was read by another model.
    """
    other = reading if other is None else other
    if other.model is not reading.model:
        raise ValueError("tokens of two models cannot be compared; read both pictures with one")
    here = token_maps(reading)
    Intervention(tokens=(token,)).check(len(reading.layers), reading.base.shape[1])
    there = here if other is reading else token_maps(other)
    values = [
        torch.cosine_similarity(here[name][token], tokens, dim=-1).cpu().numpy() for name, tokens in there.items()
    ]
    return Similarity(token, other.grid_size, tuple(there), np.stack(values))


def token_maps(reading: Reading) -> dict[str, Tensor]:
    """The tokens (N, C) fp32 that :class:`Similarity` compares, by name."""
    normed = layer_norm(torch.cat(tuple(reading.layers)), reading.model.encoder.norm_eps)
    maps = {str(number): tokens for number, tokens in enumerate(normed, 1)} | {"z_base": reading.base[0]}
    if reading.fused is not None and reading.fused.routing is not None:
        maps |= {"z_fuse": reading.fused.routing.fused[0], "z_final": reading.fused.tokens[0]}
    return {name: tokens.float() for name, tokens in maps.items()}
