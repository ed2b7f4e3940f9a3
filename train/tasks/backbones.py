"""Frozen pretrained networks by name: from a weights file, or from timm's hub."""

from __future__ import annotations

import importlib
from pathlib import Path

import timm
from torch import Tensor, nn

from drorae.checkpoints import CheckpointError, read_weights
from drorae.errors import reason_of
from train.errors import check_weights

RANDOM = "random"
BEHIND = ("head", "norm.", "fc_norm.", "attn_pool.", "pre_logits.")  # the last block: no part of the layers


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
        CheckpointError: they cannot be fetched or read, or are not this architecture's.
    """
    if weights is None:
        model = build_pretrained(name, img_size=img_size, **timm_args)
    else:
        model = timm.create_model(name, pretrained=False, img_size=img_size, **timm_args)
        if weights != RANDOM:
            file = folder / weights
            check_weights(file, f"the weights of {name}, '{file}', are missing")
            model.load_state_dict(fitting_weights(name, model, file), strict=True)
    return model.eval().requires_grad_(False)


def fitting_weights(name: str, model: nn.Module, file: Path) -> dict[str, Tensor]:
    """The weights of a timm model out of a file, as timm itself would take them: position embeddings resampled to the
    model's grid, names of older versions changed; a classifier or pooling that the model does not have is left out.

    Raises:
        CheckpointError: the file cannot be read, or holds another architecture.
    """
    other = f"'{file.name}' does not hold the weights of '{name}'"
    stored = {key: value.float() for key, value in read_weights(file).items()}
    module = importlib.import_module(timm.model_entrypoint(name).__module__)
    convert = getattr(module, "checkpoint_filter_fn", None)
    try:
        found = stored if convert is None else convert(stored, model)
    except Exception as error:  # weights of another network make it fail in any way
        raise CheckpointError(f"{other} ({reason_of(error)}); give those of this architecture.") from error
    wanted = model.state_dict()
    unknown = [key for key in found if key not in wanted and not key.startswith(BEHIND)]
    missing = [key for key in wanted if key not in found]
    unequal = [key for key in wanted if key in found and found[key].shape != wanted[key].shape]
    for what, keys in (("lacks", missing), ("also has", unknown), ("has another shape of", unequal)):
        if keys:
            raise CheckpointError(f"{other} (it {what} '{keys[0]}'); give those of this architecture.")
    return {key: found[key] for key in wanted}
