"""One row per experiment: what trains, from where, on how many pictures, and the number it should reach.

``tiny`` makes ``assets/drorae-tiny``; ``dinov2-b`` and what begins with it are the paper's rows
(:mod:`train.paper_presets`); ``study`` and ``study-ti16`` are the base models of ``train.study``; ``smoke`` and
``study-smoke`` run everything in seconds on generated pictures, for the tests.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from train.paper_presets import PAPER
from train.settings import (
    AdversaryPreset,
    EncoderPreset,
    PerceptualPreset,
    Preset,
    Schedule,
    Stage1Preset,
    Stage2Preset,
    TextPreset,
)

PHASES = ("decoder", "fusion", "finetune")
IN21K_STATS = (0.5, 0.5, 0.5)  # mean and std of timm's augreg ViTs


# ---- assets/drorae-tiny -------------------------------------------------------------------------------------------

ANY_SCALE = (0.5, 1.0)  # of the shorter side; crops are never enlarged

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
    "any_size": True,
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

# Small enough for assets/; the trunk's patches of 2 x 2 positions make a step four times cheaper.
TINY_DENOISER = {"hidden_size": (192, 256), "depth": (8, 1), "num_heads": (3, 4), "trunk_patch_size": 2}
# Where a card trains them, every position is a token of the trunk, as in RAE: nearly three times the work of a latent.
GENERATOR = TINY_DENOISER | {"trunk_patch_size": 1}
TINY_GUIDE = {"hidden_size": (96, 128), "depth": (2, 1), "num_heads": (3, 2), "trunk_patch_size": 2}

TINY_TEXT = TextPreset(
    max_tokens=32,
    encoder="minilm-l3",  # paraphrase-MiniLM-L3-v2, frozen
    examples=(
        "3D icon of red apple",
        "flat icon of red apple",
        "3D icon of woman astronaut: dark skin tone",
        "flat icon of man cook: light skin tone",
        "3D icon of hound",
        "flat icon of cottage",
        "3D icon of blue car",
        "flat icon of green heart",
    ),
)


# The distance and the backbone that need no network; the published recipe's are in DINOV2_B.
def _vgg11(weight: float) -> PerceptualPreset:
    return PerceptualPreset("vgg11", weight, "vgg11_bn_conv1to4.safetensors")


def _tiny_adversary(
    discriminator_start: int, generator_start: int, weight: float, continues: str | None = None
) -> AdversaryPreset:
    return AdversaryPreset(
        "vit_tiny_patch16_224",
        "vit_tiny_patch16_224_fp16.safetensors",
        input_size=128,
        mean=IN21K_STATS,
        std=IN21K_STATS,
        discriminator_start=discriminator_start,
        generator_start=generator_start,
        weight=weight,
        every=2,
        continues=continues,
    )


def _tiny(steps: int, large_from: int, lr: float, stop: int | None = None) -> Schedule:
    """Small batches and Muon: where few pictures can be seen, they bring most per picture. Crops of 128 px at random
    scales, which are cheap, then whole pictures at 224."""
    return Schedule(
        steps,
        16,
        lr,
        warmup_steps=200,
        optimizer="muon",
        lr_floor=0.05,
        ema_decay=min(0.998, 1 - 10 / steps),
        crop_scale=ANY_SCALE,
        sides=((0, (128,)), (large_from, (224,))),
        stop=stop,
        save_every=200,
        compile=True,
    )


def _tiny_denoiser(steps: int, denoiser: dict[str, Any], views: int, text: TextPreset | None = None) -> Stage2Preset:
    """Batches of 64 latents and Muon, on views that were encoded once. In fp32 on a CPU 32 and 128 are no faster a
    latent: docs/training.md says where a step goes."""
    schedule = Schedule(
        steps,
        64,
        2e-3,
        warmup_steps=200,
        optimizer="muon",
        lr_floor=0.02,
        ema_decay=min(0.9995, 1 - 10 / steps),
        crop_scale=(0.85, 1.0) if views > 1 else (0.94, 1.0),  # on a card drawings get margins
        flip=views > 1,
        save_every=500,
        workers=0,
        compile=True,
    )
    return Stage2Preset(schedule, "assets/drorae-tiny", denoiser, views=views, text=text)


def _smoke_denoiser(depth: int, text: TextPreset | None = None) -> Stage2Preset:
    schedule = Schedule(6, 4, 1e-3, 1, ema_decay=0.5, precision="no", save_every=3, workers=0)
    shape = {"hidden_size": (32, 64), "depth": (depth, 1), "num_heads": (2, 2), "trunk_patch_size": 2}
    return Stage2Preset(schedule, "smoke/finetune", shape, text=text)


def _smoke(phase: str, starts_from: str) -> Stage1Preset:
    schedule = Schedule(6, 4, 1e-3, 1, ema_decay=0.5, precision="no", save_every=3, workers=0)
    adversary = AdversaryPreset(
        "test_vit",  # timm's smallest: 6 blocks of 64 channels
        "random",
        input_size=32,
        mean=IN21K_STATS,
        std=IN21K_STATS,
        discriminator_start=1,
        generator_start=2,
        taps=(1, 2, 3, 5),
    )
    return Stage1Preset(schedule, phase, starts_from, adversary=adversary, loss_crop=24, noise_tau=0.2)


TINY_ENCODER = EncoderPreset(
    Schedule(
        steps=250,  # its layers are as near to the teacher's after 140
        batch_size=16,
        lr=3e-5,  # 1e-4 takes apart in 50 steps what the teacher's weights began with
        warmup_steps=20,
        ema_decay=0.96,
        crop_scale=ANY_SCALE,
        sides=((0, (96, 128, 128, 160, 192, 224, 256)),),
        save_every=50,
    ),
    teacher="vit_tiny_patch16_224",
    teacher_input_size=224,
    teacher_weights="vit_tiny_patch16_224_fp16.safetensors",
)

TINY_DECODER = Stage1Preset(
    _tiny(6000, 5600, 2e-3),
    "decoder",
    "tiny/encoder",
    perceptual=_vgg11(0.05),
    adversary=_tiny_adversary(4400, 5000, 0.1),
    loss_crop=64,
    validation_side=224,
    expected="at least 17.5 dB at 224 px",
)


# ---- the base models of the study -----------------------------------------------------------------------------------

STUDY_SIZE, STUDY_BATCH, STUDY_PICTURES = 128, 16, 7500
STUDY_MODEL: dict[str, Any] = {**TINY_MODEL, "encoder_input_size": STUDY_SIZE, "any_size": False}
STUDY_TI16_MODEL = {
    **STUDY_MODEL,
    "encoder_args": None,
    "encoder_input_size": 224,
    "decoder_patch_size": 16,
}
SMALLEST_MODEL: dict[str, Any] = {**SMOKE_MODEL, "any_size": False}


def ema_decay(steps: int) -> float:
    """An average over the last tenth of a short run, over 500 steps of a long one."""
    return min(0.998, max(0.5, 1 - 10 / steps))


def _study(phase: str, starts_from: str, pictures: int, lr: float) -> Stage1Preset:
    """One recipe for whatever trains: the optimiser of ``tiny``, one loss, no adversary, no noise. Not compiled: of so
    many short runs each would compile anew."""
    steps = -(-pictures // STUDY_BATCH)
    schedule = Schedule(
        steps,
        STUDY_BATCH,
        lr,
        warmup_steps=30,
        optimizer="muon",
        lr_floor=0.05,
        ema_decay=ema_decay(steps),
        precision="no",
        crop_scale=ANY_SCALE,
        save_every=250,
    )
    return Stage1Preset(schedule, phase, starts_from, perceptual=_vgg11(0.02), loss_crop=64)


def _study_phases(name: str, encoder: str, decoder: int = 32_000) -> dict[str, Stage1Preset]:
    """Phase 1, which all experiments upon it share, and the phases 2 and 3 that they change."""
    return {
        "decoder": _study("decoder", encoder, decoder, 2e-3),
        "fusion": _study("fusion", f"{name}/decoder", STUDY_PICTURES, 1.5e-3),
        "finetune": _study("finetune", f"{name}/fusion", STUDY_PICTURES, 1.5e-3),
    }


def _study_denoisers(name: str) -> dict[str, Stage2Preset]:
    """The denoiser that samples the last layer's latent for all decoders, and the probe that learns every latent."""
    rows = {}
    for run, steps, network in (("class", 2000, TINY_DENOISER), ("class-guide", 600, TINY_GUIDE)):
        row = _tiny_denoiser(steps, network, views=2)
        schedule = dataclasses.replace(row.schedule, warmup_steps=steps // 10, compile=False, precision="no")
        rows[run] = dataclasses.replace(row, schedule=schedule, tokenizer=f"{name}/decoder")
    return rows


def _study_smoke_denoisers(name: str) -> dict[str, Stage2Preset]:
    rows = {"class": _smoke_denoiser(2), "class-guide": _smoke_denoiser(1)}
    return {run: dataclasses.replace(row, tokenizer=f"{name}/decoder") for run, row in rows.items()}


def _study_smoke(name: str, encoder: str) -> dict[str, Stage1Preset]:
    schedule = Schedule(6, 4, 1e-3, 1, ema_decay=0.5, precision="no", save_every=3, workers=0)
    starts = {"decoder": encoder, "fusion": f"{name}/decoder", "finetune": f"{name}/fusion"}
    return {phase: Stage1Preset(schedule, phase, start) for phase, start in starts.items()}


PRESETS = {
    "tiny": Preset(
        model=TINY_MODEL,
        encoder=TINY_ENCODER,
        stage1={
            "decoder": TINY_DECODER,
            "fusion": Stage1Preset(
                _tiny(3000, 2800, 1.5e-3),
                "fusion",
                "tiny/decoder",
                perceptual=_vgg11(0.01),
                adversary=_tiny_adversary(2400, 2600, 0.05, "tiny/decoder"),
                loss_crop=64,
                validation_side=224,
                expected="at least 21.5 dB at 224 px",
            ),
            "finetune": Stage1Preset(
                _tiny(6000, 5600, 1.5e-3),
                "finetune",
                "tiny/fusion",
                perceptual=_vgg11(0.04),
                adversary=_tiny_adversary(4000, 4400, 0.1, "tiny/fusion"),
                loss_crop=64,
                validation_side=224,
                expected="at least 25.5 dB at 224 px",
            ),
        },
        stage2={
            "class": _tiny_denoiser(24_000, GENERATOR, views=6),
            "class-guide": _tiny_denoiser(6_000, TINY_GUIDE, views=2),  # what is weak needs less
            # letters and arrows are not to be mirrored: one view, the whole icon
            "text": _tiny_denoiser(24_000, GENERATOR, views=1, text=TINY_TEXT),
        },
    ),
    # RAEv2's idea done fairly: the mean of 4 layers with a decoder of its own. It stops in the middle of the schedule
    # of RAE's decoder, to be compared with RAE's at that step, of which there is a leg.
    "tiny-mean4": Preset(
        model={**TINY_MODEL, "fusion": "mean", "fusion_mean_layers": 4},
        encoder=TINY_ENCODER,
        stage1={"decoder": dataclasses.replace(TINY_DECODER, schedule=_tiny(6000, 5600, 2e-3, stop=3200))},
    ),
    **PAPER,
    # 128 px, patch 8, the distilled encoder of "tiny"; and the published ViT-Ti/16 that it was distilled from
    "study": Preset(
        STUDY_MODEL, TINY_ENCODER, _study_phases("study", "tiny/encoder"), stage2=_study_denoisers("study")
    ),
    "study-ti16": Preset(
        STUDY_TI16_MODEL,
        None,
        _study_phases("study-ti16", "encoder"),
        encoder_weights="vit_tiny_patch16_224_fp16.safetensors",
    ),
    "study-smoke": Preset(
        SMALLEST_MODEL,
        None,
        _study_smoke("study-smoke", "encoder"),
        stage2=_study_smoke_denoisers("study-smoke"),
        encoder_weights="random",
    ),
    "study-smoke-ti16": Preset(
        {
            **SMALLEST_MODEL,
            "encoder_args": {**SMALLEST_MODEL["encoder_args"], "patch_size": 16},
            "decoder_patch_size": 16,
        },
        None,
        _study_smoke("study-smoke-ti16", "encoder"),
        encoder_weights="random",
    ),
    "smoke": Preset(
        model=SMOKE_MODEL,
        encoder=EncoderPreset(
            Schedule(6, 4, 1e-3, 1, ema_decay=0.5, precision="no", save_every=3, workers=0),
            teacher="vit_tiny_patch16_224",
            teacher_input_size=64,
            teacher_weights="random",
        ),
        stage1={
            "decoder": _smoke("decoder", "smoke/encoder"),
            "fusion": _smoke("fusion", "smoke/decoder"),
            "finetune": _smoke("finetune", "smoke/fusion"),
            "backbone": _smoke("backbone", "smoke/fusion"),
        },
        stage2={
            "class": _smoke_denoiser(2),
            "class-guide": _smoke_denoiser(1),
            "text": _smoke_denoiser(2, TextPreset(16, None, 300, 32, 1, ("a warm disc", "a cold disc"))),
        },
    ),
}
