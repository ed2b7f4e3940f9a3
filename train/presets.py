"""One row per experiment: what trains, from where, on how many pictures, and the number it should reach.

``tiny`` makes ``assets/drorae-tiny``; ``smoke`` runs every phase in seconds on generated pictures, for the tests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

PHASES = ("decoder", "fusion", "finetune")
IN21K_STATS = (0.5, 0.5, 0.5)  # mean and std of timm's augreg ViTs


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: AdamW, linear warm-up, cosine decay to ``lr * lr_floor``.

    ``batch_size`` counts the pictures of one step over all processes.
    """

    steps: int
    batch_size: int
    lr: float
    warmup_steps: int
    lr_floor: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    ema_decay: float = 0.9978
    max_grad_norm: float = 1.0
    precision: str = "bf16"
    crop_scale: tuple[float, float] = (0.85, 1.0)  # side of the random crop, as a share of the short side
    save_every: int = 250
    workers: int = 1
    compile: bool = False  # torch.compile the networks; needs a C++ compiler on a CPU
    seed: int = 0


@dataclass(frozen=True)
class EncoderPreset:
    """Distillation of a small frozen-to-be encoder: all layers and the class logits of a teacher ViT.

    The student starts from the teacher's weights, its patch embedding folded to the smaller patches.
    """

    schedule: Schedule
    teacher: str
    teacher_input_size: int
    teacher_weights: str | None  # file in the weights folder, None for timm's hub, "random" for the smoke test
    logits_weight: float = 1.0


@dataclass(frozen=True)
class Stage1Preset:
    """One phase of the tokenizer. ``starts_from`` names the run whose checkpoint it continues."""

    schedule: Schedule
    phase: str
    starts_from: str
    l1_weight: float = 1.0
    perceptual_weight: float = 0.0
    perceptual_weights_file: str | None = None
    noise_tau: float = 0.0  # RAE: per picture sigma ~ tau * U(0, 1) on the latent, in training only
    expected: str = ""  # PSNR and SSIM of the phase's route on held-out photos
    measured: str = ""


@dataclass(frozen=True)
class Preset:
    """Everything needed to make one checkpoint."""

    model: dict[str, Any]
    encoder: EncoderPreset
    stage1: dict[str, Stage1Preset] = field(default_factory=dict)


TINY_MODEL = {
    "encoder_name": "vit_tiny_patch16_224",
    "encoder_args": {"patch_size": 8, "reg_tokens": 4},
    "encoder_input_size": 128,
    "encoder_mean": IN21K_STATS,
    "encoder_std": IN21K_STATS,
    "fusion": "depth-routed",
    "decoder_hidden_size": 256,
    "decoder_num_layers": 4,
    "decoder_num_heads": 4,
    "decoder_intermediate_size": 1024,
    "decoder_patch_size": 8,
}

SMOKE_MODEL = {
    **TINY_MODEL,
    "encoder_args": {"patch_size": 8, "reg_tokens": 4, "depth": 3, "embed_dim": 48},
    "encoder_input_size": 32,
    "decoder_hidden_size": 48,
    "decoder_num_layers": 1,
    "decoder_num_heads": 2,
    "decoder_intermediate_size": 96,
}

VGG = {"perceptual_weight": 0.1, "perceptual_weights_file": "vgg11_bn_conv1to4.safetensors"}


def _smoke(phase: str, starts_from: str) -> Stage1Preset:
    schedule = Schedule(6, 4, 1e-3, 1, precision="no", save_every=3, workers=0)
    return Stage1Preset(schedule, phase, starts_from, noise_tau=0.2)  # noise, so that resuming has to restore the RNG


PRESETS = {
    "tiny": Preset(
        model=TINY_MODEL,
        encoder=EncoderPreset(
            Schedule(steps=200, batch_size=16, lr=1e-5, warmup_steps=20, save_every=50, compile=True),
            teacher="vit_tiny_patch16_224",
            teacher_input_size=256,
            teacher_weights="vit_tiny_patch16_224_fp16.safetensors",
        ),
        stage1={
            "decoder": Stage1Preset(
                Schedule(steps=1600, batch_size=16, lr=1e-3, warmup_steps=100, save_every=200, compile=True),
                "decoder",
                "encoder",
                **VGG,
                expected="PSNR 15.3 dB",
                measured="15.54 dB, SSIM 0.319 (256 validation photos)",
            ),
            "fusion": Stage1Preset(
                Schedule(steps=1400, batch_size=16, lr=1e-3, warmup_steps=100, save_every=200, compile=True),
                "fusion",
                "decoder",
                **VGG,
                expected="at least 2.5 dB over RAE",
                measured="19.07 dB, SSIM 0.438 (256 validation photos)",
            ),
            "finetune": Stage1Preset(
                Schedule(steps=1000, batch_size=16, lr=5e-4, warmup_steps=100, save_every=200, compile=True),
                "finetune",
                "fusion",
                **VGG,
                expected="at least 4 dB PSNR and 0.12 SSIM over RAE",
                measured="20.30 dB, SSIM 0.528 (256 validation photos)",
            ),
        },
    ),
    "smoke": Preset(
        model=SMOKE_MODEL,
        encoder=EncoderPreset(
            Schedule(6, 4, 1e-3, 1, precision="no", save_every=3, workers=0),
            teacher="vit_tiny_patch16_224",
            teacher_input_size=64,
            teacher_weights="random",
        ),
        stage1={
            "decoder": _smoke("decoder", "encoder"),
            "fusion": _smoke("fusion", "decoder"),
            "finetune": _smoke("finetune", "fusion"),
        },
    ),
}
