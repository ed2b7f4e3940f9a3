"""The rows of the paper's tables as presets: ``dinov2-b``, its scaling study, its ablations, and RAE beside it.

Table 5 and appendix A say how the tokenizer is trained. Where they are silent RAE's recipe stands in, and what neither
says is a choice, named in the docstring of its row. :mod:`train.matrix` lists all rows with their commands and costs.
"""

from __future__ import annotations

from typing import Any

from drorae.study.published import LAYERS, ROUTE_SCORES, STRATEGIES, VARIANTS, WIDTHS, RouteScores
from train.settings import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    AdversaryPreset,
    PerceptualPreset,
    Preset,
    Schedule,
    Stage1Preset,
    Stage2Preset,
    TextPreset,
)

PICTURES = 1_281_167  # of ImageNet's training split
IMAGENET_STEPS = PICTURES // 256  # of one epoch of a tokenizer
DENOISER_STEPS = PICTURES // 1024  # of one epoch of a denoiser
PROBE_EPOCHS = 12  # after which table 3 compares the losses of denoisers
NAME = "dinov2-b"
DINOV2_B_MODEL: dict[str, Any] = {  # everything else is the default of AutoencoderDRoRAE
    "encoder_name": "vit_base_patch14_reg4_dinov2",
    "encoder_input_size": 224,
    "fusion": "depth-routed",
    "fusion_hidden_size": 3072,
}
LPIPS_LOSS = PerceptualPreset("lpips", 1.0)
DENOISER, GUIDE = (1152, 28, 16), (384, 12, 6)  # width, depth and heads of the trunks of DiT^DH-XL and DiT^DH-S


def _dino(start: int, continues: str | None = None) -> AdversaryPreset:
    """RAE's: DINO v1 ViT-S/8 at 224 px; optimised as the paper states.

    The paper gives one start, of the adversary's part in the loss. Where the heads are fresh they learn from 10,000
    steps before it on (RAE: two epochs of 5,004 steps at this batch size).
    """
    return AdversaryPreset(
        "vit_small_patch8_224.dino",
        None,
        input_size=224,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        discriminator_start=max(0, start - 10_000),
        generator_start=start,
        lr=1e-4,
        continues=continues,
    )


def _paper(phase: str, starts_from: str, epochs: int, adversary: AdversaryPreset, expected: str) -> Stage1Preset:
    """Paper, table 5 and appendix A; where it is silent (warm-up, floor, EMA, crop, noise): RAE's recipe."""
    schedule = Schedule(
        steps=epochs * IMAGENET_STEPS,
        batch_size=256,
        lr=1e-4,
        warmup_steps=IMAGENET_STEPS,
        betas=(0.5, 0.9),
        weight_decay=0.05,
        max_grad_norm=None,
        crop_resize=384,
        crop_scale=(256 / 384, 256 / 384),
        flip=False,
        save_every=2500,
        workers=8,
        compile=True,
    )
    return Stage1Preset(
        schedule, phase, starts_from, perceptual=LPIPS_LOSS, adversary=adversary, noise_tau=0.8, expected=expected
    )


def _fusion(expected: str) -> Stage1Preset:
    """Phase 2 upon the one phase 1 of all rows."""
    return _paper("fusion", f"{NAME}/decoder", 100, _dino(10_000), expected)


def _denoiser(
    size: tuple[int, int, int], epochs: int, expected: str, tokenizer: str = f"{NAME}/finetune", stop: int | None = None
) -> Stage2Preset:
    """RAE's recipe, which the paper's baseline was made with (its own table 5 states another batch and rate)."""
    schedule = Schedule(
        steps=epochs * DENOISER_STEPS,
        batch_size=1024,
        lr=2e-4,
        warmup_steps=0,
        lr_floor=1.0,  # constant; RAE's decay begins at epoch 40 and has hardly begun at 80
        ema_decay=0.9995,
        precision="no",
        save_every=2500,
        workers=8,
        compile=True,
        stop=stop,
    )
    hidden, depth, heads = size
    shape = {"hidden_size": (hidden, 2048), "depth": (depth, 2), "num_heads": (heads, 16)}
    return Stage2Preset(schedule, tokenizer, shape, expected=expected)


def _guide(tokenizer: str = f"{NAME}/finetune") -> Stage2Preset:
    return _denoiser(GUIDE, 14, "the guide: RAE takes its epoch 14", tokenizer)


def _text(expected: str, tokenizer: str = f"{NAME}/finetune") -> Stage2Preset:
    """Paper, appendix B (batch, rate, steps); its denoiser is BAGEL's and its text encoder Qwen2.5-0.5B, trained along.
    Here it is DiT^DH-XL with the frozen Qwen3-0.6B of the paper's successors."""
    schedule = Schedule(
        steps=100_000,
        batch_size=128,
        lr=5e-5,
        warmup_steps=1000,
        ema_decay=0.9995,
        precision="bf16",
        save_every=2500,
        workers=8,
        compile=True,
    )
    shape = {"hidden_size": (1152, 2048), "depth": (28, 2), "num_heads": (16, 16)}
    text = TextPreset(256, "Qwen/Qwen3-0.6B", examples=("a photo of a bench", "two red apples", "a cat left of a dog"))
    return Stage2Preset(schedule, tokenizer, shape, text=text, expected=expected)


def reconstruction_words(row: RouteScores) -> str:
    """What a row of table 1 says of reconstruction."""
    return f"rFID {row.rfid}, PSNR {row.psnr} dB, LPIPS {row.lpips}, SSIM {row.ssim}"


def generation_words(row: RouteScores) -> str:
    """What a row of table 1 says of generation."""
    return f"gFID {row.gfid} unguided, {row.guided:.2f} with AutoGuidance 1.5"


RAE_ROUTE, PHASE2, FULL = ROUTE_SCORES
DINOV2_B = Preset(
    model=DINOV2_B_MODEL,
    encoder=None,
    stage1={
        "decoder": _paper("decoder", "encoder", 100, _dino(30_000), reconstruction_words(RAE_ROUTE)),
        "fusion": _fusion(reconstruction_words(PHASE2)),
        "finetune": _paper("finetune", f"{NAME}/fusion", 20, _dino(0, f"{NAME}/fusion"), reconstruction_words(FULL)),
    },
    stage2={
        "class": _denoiser(DENOISER, 80, generation_words(FULL)),
        "class-guide": _guide(),
        "text": _text("GenEval 0.60 (paper's DRoRAE; RAE 0.56, VA-VAE and RPiAE-VB 0.61)"),
    },
)

# Generators on the last layer, which phase 1 has decoded: the paper's baseline. Nothing else of it is trained anew.
RAE = Preset(
    model={**DINOV2_B_MODEL, "fusion": None, "fusion_hidden_size": None},
    encoder=None,
    stage2={
        "class": _denoiser(DENOISER, 80, generation_words(RAE_ROUTE), f"{NAME}/decoder"),
        "class-guide": _guide(f"{NAME}/decoder"),
        "text": _text("GenEval 0.56 (paper's RAE)", f"{NAME}/decoder"),
    },
)


# What another fusion changes (table 3); "incremental" is beta = 0.2, and without it z_final is z_fuse: beta = 1.
DESIGNS: dict[str, tuple[str, dict[str, Any]]] = {  # end of the preset's name: row of the table, changes
    "cross-attention": ("cross-attention", {"fusion": "cross-attention", "fusion_hidden_size": None}),
    "softmax-beta1": ("softmax", {"fusion": "depth-routed-softmax", "fusion_beta": 1.0}),
    "beta1": ("energy", {"fusion_beta": 1.0}),
    "softmax": ("softmax + incremental", {"fusion": "depth-routed-softmax"}),
}


def _design(name: str) -> Preset:
    """A fusion of table 3, and the denoiser whose loss after 12 epochs stands beside it.

    The recipe is that of phase 2. Of cross-attention the paper says no more than "last layer as query, multi-head"
    (:class:`drorae.models.fusion.CrossAttentionFusion` has what was chosen), and gives no loss: it has no denoiser.
    Which loss the table averages, over which steps, is not said; the run's log has that of training and the held-out.
    """
    row, changes = DESIGNS[name]
    scores = next(each for each in VARIANTS if each.name == row)
    stage1 = {"fusion": _fusion(f"rFID {scores.rfid} (paper, table 3)")}
    stage2 = {}
    if scores.loss is not None:
        expected = f"loss {scores.loss} after {PROBE_EPOCHS} epochs (paper, table 3)"
        tokenizer, stop = f"{NAME}-{name}/fusion", PROBE_EPOCHS * DENOISER_STEPS
        stage2 = {"class": _denoiser(DENOISER, 80, expected, tokenizer, stop)}
    return Preset({**DINOV2_B_MODEL, **changes}, None, stage1, stage2)


def _backbone() -> Preset:
    """Backbone, fusion and decoder trained together (table 4), and the denoiser that can hardly learn their latent.

    The paper states neither what they start from nor how long they train. Chosen here: from phase 2, its decoder
    copied, with phase 3's recipe, one rate for all.
    """
    scores = STRATEGIES[-1]
    whole = _paper("backbone", f"{NAME}/fusion", 20, _dino(0, f"{NAME}/fusion"), f"rFID {scores.rfid} (paper, table 4)")
    expected = f"gFID {scores.gfid} unguided (paper, table 4)"
    return Preset(
        DINOV2_B_MODEL,
        None,
        {"backbone": whole},
        {"class": _denoiser(DENOISER, 80, expected, f"{NAME}-backbone/backbone")},
    )


def _scaled_preset(expected: str, **changes: Any) -> Preset:
    return Preset({**DINOV2_B_MODEL, **changes}, None, {"fusion": _fusion(expected)})


PAPER = {
    NAME: DINOV2_B,
    f"{NAME}-rae": RAE,
    **{
        f"{NAME}-{row.setting}": _scaled_preset(f"rFID {row.rfid} (paper, table 8)", fusion_hidden_size=row.setting)
        for row in WIDTHS
    },
    **{
        f"{NAME}-deepest-{row.setting}": _scaled_preset(f"rFID {row.rfid} (paper, table 9)", fusion_layers=row.setting)
        for row in LAYERS[:-1]  # all twelve are the default
    },
    **{f"{NAME}-{name}": _design(name) for name in DESIGNS},
    f"{NAME}-backbone": _backbone(),
}
