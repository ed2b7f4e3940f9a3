"""RAE's own class-conditional generator: its published tokenizer, denoiser and guide as one pipeline."""

from __future__ import annotations

import torch
from timm.data import ImageNetInfo

from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.pipelines.class_to_image import DRoRAEClassPipeline
from drorae.pipelines.flow import build_scheduler
from drorae.pretrained.adapter import cast_weights
from drorae.pretrained.rae_denoiser import FILES, REPOSITORY, load_rae_denoiser
from drorae.pretrained.rae_tokenizer import MODELS


def load_rae_pipeline(
    guide: bool = True,
    tokenizer: str = MODELS["dinov2-base"],
    repository: str = REPOSITORY,
    revision: str | None = None,
    torch_dtype: torch.dtype = torch.float32,
) -> DRoRAEClassPipeline:
    """RAE's own generator at 256 px: DiT^DH-XL, its guide DiT^DH-S, and the RAE whose latents they make.

    They were trained on the last layer's latent; a fused latent needs denoisers of its own.

    Args:
        guide: also load the weak network; AutoGuidance with scale 1.42 is what RAE publishes.
    """
    autoencoder = cast_weights(AutoencoderDRoRAE.from_rae(tokenizer), torch_dtype)
    denoiser = load_rae_denoiser(FILES["DiTDH-XL"], repository, revision, torch_dtype)
    weak = load_rae_denoiser(FILES["DiTDH-S"], repository, revision, torch_dtype) if guide else None
    config = denoiser.config
    scheduler = build_scheduler(config.in_channels, config.sample_size, config.sample_size)
    return DRoRAEClassPipeline(
        autoencoder, denoiser, scheduler, weak, imagenet_names()[: config.num_classes], tokenizer
    )


def imagenet_names() -> list[str]:
    """Names of ImageNet's 1,000 classes by number, synonyms between commas."""
    info = ImageNetInfo("imagenet-1k")
    return [info.index_to_description(number) for number in range(info.num_classes())]
