"""Latent tokens to pixels: diffusers' RAE decoder, so that published RAE decoders load key by key."""

from __future__ import annotations

import torch
from diffusers.models.autoencoders.autoencoder_rae import RAEDecoder
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from torch import Tensor
from torch.utils.checkpoint import checkpoint

GRID_EXTENT = 16  # position embeddings run from 0 to 16 along each axis, whatever the number of tokens


class PixelDecoder(RAEDecoder):
    """RAE's MAE-style ViT decoder for token grids of any shape.

    Its fixed sine-cosine position embedding spans the same interval on every grid, so a decoder that was trained on
    16 x 16 tokens sees the positions it knows, more finely spaced, on 32 x 32.

    Args:
        grid_size: tokens (rows, columns) when :meth:`forward` is not given any.
        patch_size: pixels per side that one token paints.
    """

    def __init__(
        self,
        latent_dim: int,
        grid_size: tuple[int, int],
        patch_size: int,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        intermediate_size: int,
    ):
        rows, columns = grid_size
        super().__init__(
            hidden_size=latent_dim,
            decoder_hidden_size=hidden_size,
            decoder_num_hidden_layers=num_layers,
            decoder_num_attention_heads=num_heads,
            decoder_intermediate_size=intermediate_size,
            num_patches=rows * columns,
            patch_size=patch_size,
            image_size=rows * patch_size,
        )
        self.grid_size = grid_size

    def positions(self, grid_size: tuple[int, int]) -> Tensor:
        """Position embedding of the class token and a grid (rows, columns), (1, 1 + N, hidden size)."""
        if grid_size == self.grid_size:
            return self.decoder_pos_embed
        embedding = get_2d_sincos_pos_embed(
            self.decoder_hidden_size,
            grid_size,
            cls_token=True,
            extra_tokens=1,
            base_size=GRID_EXTENT,
            device=self.decoder_pos_embed.device,
            output_type="pt",
        )
        return embedding.unsqueeze(0).float()

    def forward(self, hidden_states: Tensor, grid_size: tuple[int, int] | None = None) -> Tensor:
        """Tokens (B, N, C) of a grid (rows, columns) to patches (B, N, patch * patch * 3)."""
        x = self.decoder_embed(hidden_states)
        x = torch.cat([self.trainable_cls_token.expand(len(x), -1, -1), x], dim=1)
        x = x + self.positions(grid_size or self.grid_size).to(x.dtype)
        for layer in self.decoder_layers:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(layer, x, use_reentrant=False)
            else:
                x = layer(x)
        return self.decoder_pred(self.decoder_norm(x))[:, 1:]


def decode_tokens(
    decoder: PixelDecoder, tokens: Tensor, mean: Tensor, std: Tensor, grid_size: tuple[int, int] | None = None
) -> Tensor:
    """Tokens (B, N, C) to images (B, 3, H, W) around [0, 1], not clamped.

    The network predicts in the encoder's normalised pixel space; ``mean`` and ``std`` (1, 3, 1, 1) take it back.

    Args:
        grid_size: (rows, columns) of the tokens; the decoder's own when ``None``.
    """
    # distributed training wraps the network, and hides its methods
    plain: PixelDecoder = decoder.module if hasattr(decoder, "module") else decoder
    rows, columns = grid_size or plain.grid_size
    size = rows * plain.patch_size, columns * plain.patch_size
    pixels = plain.unpatchify(decoder(tokens, (rows, columns)), size)
    return pixels * std.to(pixels.dtype) + mean.to(pixels.dtype)
