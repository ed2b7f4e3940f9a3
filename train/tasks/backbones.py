"""Frozen pretrained networks by name: from a weights file, or from timm's hub."""

from __future__ import annotations

from pathlib import Path

import timm
from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed
from torch import nn

from drorae.checkpoints import CheckpointError
from drorae.errors import reason_of
from train.errors import check_weights

RANDOM = "random"


def build_pretrained(name: str, **timm_args) -> nn.Module:
    """A timm model with the weights timm's hub has for its name.

    Raises:
        CheckpointError: they could not be fetched.
    """
    try:
        return timm.create_model(name, pretrained=True, **timm_args)
    except Exception as error:  # no network, no such weights, a refusal: many types, one thing to do
        reason = reason_of(error)
        raise CheckpointError(
            f"timm's weights of '{name}' could not be fetched ({reason}); connect to the network once."
        ) from error


def load_timm(name: str, weights: str | None, folder: Path, img_size: int, **timm_args) -> nn.Module:
    """A timm vision transformer at input size ``img_size``, frozen, in eval mode.

    Args:
        weights: file in ``folder`` with timm's keys, ``None`` for timm's hub, or ``"random"`` (smoke runs).

    Raises:
        FileNotFoundError: the weights file is not there.
    """
    if weights is None:
        model = build_pretrained(name, img_size=img_size, **timm_args)
    else:
        model = timm.create_model(name, pretrained=False, img_size=img_size, **timm_args)
        if weights != RANDOM:
            file = folder / weights
            check_weights(file, f"the weights of {name}, '{file}', are missing")
            state = {key: value.float() for key, value in load_file(file).items()}
            state["pos_embed"] = resample_abs_pos_embed(
                state["pos_embed"], model.patch_embed.grid_size, num_prefix_tokens=model.num_prefix_tokens
            )
            model.load_state_dict(state, strict=True)
    return model.eval().requires_grad_(False)
