"""Latent tokens to pixels: diffusers' RAE decoder, so that published RAE decoders load key by key."""

from __future__ import annotations

from diffusers.models.autoencoders.autoencoder_rae import RAEDecoder
from torch import Tensor


def build_decoder(
    latent_dim: int,
    grid_size: int,
    patch_size: int,
    hidden_size: int,
    num_layers: int,
    num_heads: int,
    intermediate_size: int,
) -> RAEDecoder:
    """A MAE-style ViT decoder for a square token grid; the picture side is ``grid_size * patch_size``."""
    return RAEDecoder(
        hidden_size=latent_dim,
        decoder_hidden_size=hidden_size,
        decoder_num_hidden_layers=num_layers,
        decoder_num_attention_heads=num_heads,
        decoder_intermediate_size=intermediate_size,
        num_patches=grid_size**2,
        patch_size=patch_size,
        image_size=grid_size * patch_size,
    )


def decode_tokens(decoder: RAEDecoder, tokens: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Tokens (B, N, C) to images (B, 3, H, W) around [0, 1], not clamped.

    The network predicts in the encoder's normalised pixel space; ``mean`` and ``std`` (1, 3, 1, 1) take it back.
    """
    plain = getattr(decoder, "module", decoder)  # distributed training wraps the network, and hides its methods
    pixels = plain.unpatchify(decoder(tokens).logits)
    return pixels * std.to(pixels.dtype) + mean.to(pixels.dtype)
