"""What a call of ``train.fit`` is about: an encoder, photos, and the choices of the command line."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import torch

from drorae.checkpoints import CheckpointError, read_weights
from train.data.crops import Crop
from train.data.held_out import ValidationPhotos
from train.data.positions import TrainingPositions
from train.data.stream import TrainingStream
from train.evaluate import VGG11
from train.fitting.encoders import EncoderFacts, read_encoder
from train.fitting.photos import FitPhotos, split_photos
from train.fitting.recipe import Length, Sizes, build_preset, model_settings, perceptual_loss, phase_row
from train.presets import ANY_SCALE
from train.settings import PerceptualPreset, Preset, Stage1Preset
from train.tasks.backbones import RANDOM


@dataclass(frozen=True)
class Job:
    """What a call is about: the encoder, the photos, and the choices of the command line."""

    args: argparse.Namespace
    facts: EncoderFacts
    photos: FitPhotos
    sizes: Sizes
    model: dict[str, Any]
    perceptual: PerceptualPreset | None
    weights: str | None
    precision: str

    @property
    def run(self) -> str:
        """The name of the run, below ``--out``."""
        return re.sub(r"[^\w.-]+", "-", f"fit-{self.facts.name}-{self.photos.name}")

    @property
    def folder(self) -> Path:
        return self.args.out / self.run

    @property
    def to(self) -> Path:
        return self.args.to or self.folder / "model"

    @cached_property
    def weights_identity(self) -> str | None:
        """What tells these weights of the encoder from others: the hash of their file, where they are in one."""
        if self.weights is None or self.weights == RANDOM:
            return self.weights
        with open(self.weights, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]

    @property
    def settings(self) -> dict[str, Any]:
        """What may not change between a stop and going on."""
        return {
            "model": json.loads(json.dumps(self.model)),
            "weights": self.weights_identity,
            "photos": [self.photos.name, self.photos.train_count, self.photos.digest],
            "minutes": self.args.minutes,
            "batch": self.sizes.batch,
            "perceptual": self.perceptual is not None,
            "precision": self.precision,
        }

    @property
    def command(self) -> str:
        """The command line, with names of files and folders without their places."""
        args = self.args
        options: dict[str, Any] = {
            "--weights": self.weights and Path(self.weights).name,
            "--minutes": f"{args.minutes:g}",
            "--size": args.size,
            "--held-out": None if self.photos.own_split else f"{args.held_out:g}",
            "--batch-size": args.batch_size,
            "--decoder-width": args.decoder_width,
            "--decoder-layers": args.decoder_layers,
            "--fusion-width": args.fusion_width,
            "--precision": args.precision,
        }
        given = [f"{name} {shlex.quote(str(value))}" for name, value in options.items() if value is not None]
        return " ".join(["python -m train.fit", self.facts.name, shlex.quote(self.photos.name), *given])

    def row(self, phase: str, length: Length) -> Stage1Preset:
        """A phase of this length."""
        return phase_row(self.run, phase, length, self.sizes, self.perceptual, self.precision, self.args.workers)

    def preset(self, rows: dict[str, Stage1Preset]) -> Preset:
        """The preset that timm's facts and the command line make."""
        return build_preset(self.model, rows, self.weights)

    def held_out(self, limit: int) -> ValidationPhotos:
        """So many held-out photos, evenly spread."""
        return ValidationPhotos(self.photos.held_out, self.facts.size, limit)

    def positions(self, seed: int) -> TrainingPositions | TrainingStream:
        """The training photos in random crops."""
        rows, crop = self.photos.train, Crop(None, ANY_SCALE, True)
        if isinstance(rows, datasets.IterableDataset):
            return TrainingStream(rows, self.facts.size, crop, seed)
        return TrainingPositions([rows], self.facts.size, crop, seed)


def read_job(args: argparse.Namespace) -> Job:
    """What the command line asks for.

    Raises:
        CheckpointError, DataError, RunError: what is wrong with it, in one sentence.
    """
    facts = read_encoder(args.encoder, args.size)
    weights = encoder_weights(args.weights)
    photos = split_photos(args.folder, args.held_out / 100)
    sizes = Sizes(args.decoder_width, args.decoder_layers, args.fusion_width, args.batch_size)
    precision = args.precision or ("bf16" if torch.cuda.is_available() else "no")
    perceptual = perceptual_loss(args.networks)
    return Job(args, facts, photos, sizes, model_settings(facts, sizes), perceptual, weights, precision)


def loss_words(job: Job) -> str:
    """The loss, and what is missing for more of it."""
    if job.perceptual is not None:
        return f"L1 + {job.perceptual.weight:g} x VGG11 perceptual"
    return f"L1 alone: there is no '{job.args.networks / VGG11}' (python -m train.fetch_data brings it)"


def weights_words(job: Job) -> str:
    """Where the encoder's weights are from."""
    if job.weights == RANDOM:
        return "random ones, for tests"
    return "timm's own" if job.weights is None else f"those of the file {Path(job.weights).name}"


def encoder_weights(choice: str | None) -> str | None:
    """What a preset calls the weights of ``--weights``; the file is there and can be read.

    Raises:
        CheckpointError: it cannot.
    """
    if choice is None or choice == RANDOM:
        return choice
    file = Path(choice).resolve()
    if not file.is_file():
        raise CheckpointError(f"--weights {choice}: there is no such file; give timm's state dict as .safetensors.")
    read_weights(file)
    return str(file)
