"""Tiny valid models in folders, one of each kind that a page loads; what means harm is made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderRAE
from torch import nn

from drorae import AutoencoderDRoRAE, DiTDH, DRoRAEClassPipeline, DRoRAETextPipeline
from drorae.pipelines import flow
from drorae.pretrained.adapter import load_tokenizer, save_fusion
from drorae.pretrained.autoencoders import load_autoencoder
from train.tasks.text_encoder import build_encoder, train_tokenizer

SHAPE = (48, 4, 4)


def build_tokenizer() -> AutoencoderDRoRAE:
    """32 px, 4 x 4 tokens, 2 layers, 48 channels."""
    model = AutoencoderDRoRAE(
        encoder_name="vit_tiny_patch16_224",
        encoder_args={"patch_size": 8, "reg_tokens": 4, "depth": 2, "embed_dim": 48},
        encoder_input_size=32,
        fusion_hidden_size=16,
        decoder_hidden_size=32,
        decoder_num_layers=1,
        decoder_num_heads=2,
        decoder_intermediate_size=48,
        decoder_patch_size=8,
        latent_statistics="mean and std",
    )
    return model.eval()


def build_rae() -> AutoencoderRAE:
    return AutoencoderRAE(
        encoder_type="mae",
        encoder_patch_size=16,
        encoder_input_size=64,
        encoder_hidden_size=64,
        encoder_num_hidden_layers=2,
        decoder_hidden_size=48,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=96,
    )


def build_denoiser(**changes: Any) -> DiTDH:
    sizes = {"in_channels": 48, "hidden_size": (24, 48), "depth": (2, 1), "num_heads": (2, 2), "num_classes": 3}
    return DiTDH(sample_size=4, **{**sizes, **changes}).eval()


def save_samples(root: Path) -> None:
    """One folder for each of :data:`DOORS` below ``root``."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(root / "ours")
    build_rae().save_pretrained(root / "rae")
    fused = AutoencoderDRoRAE.from_rae(root / "rae", fusion="depth-routed", hidden_size=32)
    save_fusion(fused, root / "adapter")
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, latent_channels=5, **blocks).save_pretrained(
        root / "kl"
    )
    scheduler = flow.build_scheduler(*SHAPE)
    names = ["tench", "church", "golf ball"]
    DRoRAEClassPipeline(tokenizer, build_denoiser(), scheduler, build_denoiser(), names).save_pretrained(root / "class")
    words = train_tokenizer(["a red ball on green grass", "two dogs run on the grass"], 300)
    encoder = build_encoder(len(words), 32, 1, 8, seed=0).eval()
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    text = build_denoiser(num_classes=None, text_dim=32)
    DRoRAETextPipeline(tokenizer, text, scheduler, words, encoder, max_tokens=8).save_pretrained(root / "text")


DOORS: dict[str, Callable[[str], Any]] = {
    "ours": load_tokenizer,
    "rae": load_tokenizer,
    "adapter": load_tokenizer,
    "kl": lambda name: load_autoencoder(name).model,
    "class": DRoRAEClassPipeline.from_pretrained,
    "text": DRoRAETextPipeline.from_pretrained,
}
