"""What has to be known of an encoder before anything is trained on it, as timm states it."""

from __future__ import annotations

import difflib
from typing import NamedTuple

import timm
import torch
from timm.models import get_pretrained_cfg

from drorae.building import UnfilledMeta
from drorae.errors import reason_of
from drorae.models.encoder import VisionEncoder, is_architecture
from train.errors import RunError

LARGEST, USUAL = 256, 224  # pixels: encoders made for larger pictures than the first are read at about the second
LIST = "python -c \"import timm; print(*timm.list_models(module='vision_transformer'))\""


class EncoderFacts(NamedTuple):
    """A plain vision transformer of timm.

    Attributes:
        name: as timm calls it, with or without the tag of its weights.
        size: side of the pictures that are read, pixels.
        made_for: the side that timm states for it, pixels.
        patch: pixels of a side that are one token.
        grid: tokens of a side.
        mean, std: mean and std of the pixels, per channel.
        layers: how many blocks.
        dim: channels of a token.
        prefix: tokens besides those of patches: class, distillation, registers.
    """

    name: str
    size: int
    made_for: int
    patch: int
    grid: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layers: int
    dim: int
    prefix: int


def read_encoder(name: str, size: int | None = None) -> EncoderFacts:
    """The facts about an encoder; no weights are fetched and no memory is taken for them.

    Args:
        size: side of the pictures in pixels; when ``None`` what timm states, or about 224 where that is more than 256.

    Raises:
        RunError: timm has no such model, it is not a plain vision transformer, or it does not work at that size.
    """
    _check_name(name)
    if not is_architecture(name):
        raise RunError(
            f"ENCODER '{name}' is not a plain vision transformer, whose blocks all give the same patches; DRoRAE reads "
            f"it block by block. Take one that is, such as vit_tiny_patch16_224; {LIST} prints them."
        )
    try:
        stated = get_pretrained_cfg(name)
    except RuntimeError as error:
        known = ", ".join(timm.list_pretrained(f"{name.partition('.')[0]}.*")) or "none"
        raise RunError(f"ENCODER '{name}': timm has no such weights; of this architecture it has {known}.") from error
    made_for = int(stated.input_size[-1])
    try:
        with UnfilledMeta(), torch.device("meta"):
            patches = tuple(timm.create_model(name, pretrained=False, num_classes=0).patch_embed.patch_size)
            patch = int(patches[0])
            if size is None:
                size = made_for if made_for <= LARGEST and made_for % patch == 0 else max(2, USUAL // patch) * patch
            if size % patch or size < 2 * patch:
                near = max(2, round(size / patch)) * patch
                raise RunError(f"--size {size}: '{name}' takes sides that are multiples of {patch} pixels; use {near}.")
            encoder = VisionEncoder(name, size, stated.mean, stated.std, any_size=True)
            layers = encoder(torch.zeros(1, 3, size, size))
    except RunError:
        raise
    except Exception as error:  # timm has models of many kinds, and each refuses in its own way
        raise RunError(
            f"ENCODER '{name}' cannot be read as blocks of patches at {size} pixels ({reason_of(error)}); take another "
            "encoder, such as vit_tiny_patch16_224."
        ) from error
    grid = size // patch
    shapes = {tuple(layer.shape) for layer in layers}
    if patches != (patch, patch) or shapes != {(1, grid * grid, encoder.dim)}:
        raise RunError(
            f"ENCODER '{name}' does not give one token for each patch of {patch} x {patch} pixels in every block; take "
            "another encoder, such as vit_tiny_patch16_224."
        )
    return EncoderFacts(
        name,
        size,
        made_for,
        patch,
        grid,
        tuple(map(float, stated.mean)),
        tuple(map(float, stated.std)),
        encoder.num_layers,
        encoder.dim,
        int(encoder.model.num_prefix_tokens),
    )


def _check_name(name: str) -> None:
    if ":" in name or "/" in name:
        raise RunError(
            f"ENCODER '{name}' is not a name of timm's; give the architecture by its name and other weights than "
            "timm's as --weights FILE.safetensors."
        )
    if not timm.is_model(name):
        near = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else f"; {LIST} prints those that can be used."
        raise RunError(f"ENCODER '{name}' is not a model of timm {timm.__version__}{hint}")
