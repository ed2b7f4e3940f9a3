"""Options that several commands have: pictures to read, and which part of them through which model."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from drorae.bundled import DEFAULT_MODEL, picture_path
from drorae.choices import SIDE

if TYPE_CHECKING:
    from drorae.models.autoencoder import AutoencoderDRoRAE


def add_model(command: argparse.ArgumentParser) -> None:
    """``--model``, ``--size`` and ``--whole``."""
    command.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        help="folder or Hub id (id@revision); RAE and adapters too (default: %(default)s)",
    )
    command.add_argument(
        "--size", type=int, help=f"side of the central square in pixels (default: {SIDE}, or all that the model takes)"
    )
    command.add_argument("--whole", action="store_true", help="all of the picture, with about SIZE x SIZE pixels")


def add_picture(command: argparse.ArgumentParser) -> None:
    """One ``IMAGE``."""
    command.add_argument("image", type=picture_path, metavar="IMAGE", help="picture to read")


def add_pictures(command: argparse.ArgumentParser) -> None:
    """At least one ``IMAGE``."""
    command.add_argument("images", nargs="+", type=picture_path, metavar="IMAGE", help="pictures to read")


def load_model(name: str) -> AutoencoderDRoRAE:
    """A tokenizer of any kind, on the fastest device there is.

    Raises:
        CheckpointError: it cannot be found or loaded.
    """
    from drorae.devices import best_device
    from drorae.pretrained.adapter import load_tokenizer

    return load_tokenizer(name).to(best_device())
