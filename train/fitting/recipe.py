"""A preset for an encoder that has none: one recipe for whatever trains, the study's, sized by what timm says."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from train.evaluate import VGG11
from train.fitting.encoders import EncoderFacts
from train.presets import ANY_SCALE, PHASES, ema_decay
from train.settings import PerceptualPreset, Preset, Schedule, Stage1Preset

LR = {"decoder": 2e-3, "fusion": 1.5e-3, "finetune": 1.5e-3}  # of Muon, as in the study
PERCEPTUAL_WEIGHT, LOSS_CROP = 0.02, 64  # the latter in pixels
HEAD_WIDTH = 64  # channels of a head of the decoder
NARROWEST, WIDEST = 256, 512  # decoders that an hour can train


class Sizes(NamedTuple):
    """What a person may choose of the networks that are trained.

    Attributes:
        decoder_width: channels; the encoder's, between 256 and 512, when ``None``.
        decoder_layers: how many blocks.
        fusion_width: channels of an expert; four times the encoder's, as in the paper, when ``None``.
        batch: pictures a step.
    """

    decoder_width: int | None = None
    decoder_layers: int = 4
    fusion_width: int | None = None
    batch: int = 16


class Length(NamedTuple):
    """How long a phase is: its steps, and how often its state is saved."""

    steps: int
    save_every: int


def model_settings(facts: EncoderFacts, sizes: Sizes) -> dict[str, Any]:
    """Arguments of :class:`~drorae.AutoencoderDRoRAE` for an encoder: a decoder of its patches, at any size."""
    width = sizes.decoder_width or min(WIDEST, max(NARROWEST, round(facts.dim / HEAD_WIDTH) * HEAD_WIDTH))
    return {
        "encoder_name": facts.name,
        "encoder_input_size": facts.size,
        "encoder_mean": facts.mean,
        "encoder_std": facts.std,
        "fusion": "depth-routed",
        "fusion_hidden_size": sizes.fusion_width,
        "decoder_hidden_size": width,
        "decoder_num_layers": sizes.decoder_layers,
        "decoder_num_heads": max(1, width // HEAD_WIDTH),
        "decoder_intermediate_size": 4 * width,
        "decoder_patch_size": facts.patch,
        "any_size": True,
    }


def perceptual_loss(networks: Path) -> PerceptualPreset | None:
    """The perceptual part of the loss, where the folder of pretrained networks has its weights."""
    return PerceptualPreset("vgg11", PERCEPTUAL_WEIGHT, VGG11) if (networks / VGG11).is_file() else None


def phase_row(
    run: str,
    phase: str,
    length: Length,
    sizes: Sizes,
    perceptual: PerceptualPreset | None,
    precision: str,
    workers: int,
) -> Stage1Preset:
    """One phase of a run. No adversary and no noise: an hour is too short for either."""
    starts = {"decoder": "encoder", "fusion": f"{run}/decoder", "finetune": f"{run}/fusion"}
    steps = length.steps
    schedule = Schedule(
        steps,
        sizes.batch,
        LR[phase],
        warmup_steps=min(30, steps // 10),
        optimizer="muon",
        lr_floor=0.05,
        ema_decay=ema_decay(steps),
        precision=precision,
        crop_scale=ANY_SCALE,
        save_every=length.save_every,
        workers=workers,
    )
    return Stage1Preset(schedule, phase, starts[phase], perceptual=perceptual, loss_crop=LOSS_CROP)


def build_preset(model: dict[str, Any], rows: dict[str, Stage1Preset], weights: str | None) -> Preset:
    """Everything that makes one checkpoint.

    Args:
        weights: file of the encoder's weights, ``None`` for timm's hub, or ``"random"``.
    """
    assert set(rows) <= set(PHASES)
    return Preset(model, None, rows, encoder_weights=weights)
