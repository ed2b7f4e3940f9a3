"""DiT^DH, the diffusion transformer with a wide head that RAE samples its latents with (arXiv 2510.11690)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.modeling_utils import ModelMixin
from timm.layers import SwiGLUPacked, build_rotary_pos_embed
from timm.layers.attention import AttentionRope
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from drorae import checkpoints
from drorae.rules import Rules, maybe, number, several, text, whole_number

NORM_EPS = 1e-6
NUM_FREQUENCIES = 256


class TimeEmbedding(nn.Module):
    """Flow time t (B,) in [0, 1] to vectors (B, dim): sine and cosine at fixed random frequencies, then an MLP."""

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("frequencies", torch.randn(NUM_FREQUENCIES))
        self.mlp = nn.Sequential(nn.Linear(2 * NUM_FREQUENCIES, dim), nn.SiLU(), nn.Linear(dim, dim))
        nn.init.normal_(self.mlp[0].weight, std=0.02)
        nn.init.normal_(self.mlp[2].weight, std=0.02)

    def forward(self, t: Tensor) -> Tensor:
        """Times t (B,) to (B, dim)."""
        # at least in fp32: 2 pi t times a frequency needs more digits than bf16 has
        precision = torch.promote_types(self.frequencies.dtype, torch.float32)
        angles = 2 * math.pi * t.to(precision)[:, None] * self.frequencies.to(precision)
        return self.mlp(torch.cat([angles.sin(), angles.cos()], dim=-1).to(self.mlp[0].weight.dtype))


class DiTBlock(nn.Module):
    """Attention and SwiGLU, each modulated by a condition: ``x + gate * f(norm(x) * (1 + scale) + shift)``.

    The condition is (B, 1, dim), one per picture, or one per token or patch of tokens, (B, n, dim).
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float):
        super().__init__()
        self.norm1 = nn.RMSNorm(dim, eps=NORM_EPS)
        self.attn = AttentionRope(dim, num_heads, qkv_bias=True, num_prefix_tokens=0)
        self.norm2 = nn.RMSNorm(dim, eps=NORM_EPS)
        self.mlp = SwiGLUPacked(dim, 2 * int(2 / 3 * int(dim * mlp_ratio)))  # gate and value in one matrix
        self.modulation = modulation(dim, 6)

    def forward(
        self, x: Tensor, condition: Tensor, rope: Tensor, patch_size: int = 1, mask: Tensor | None = None
    ) -> Tensor:
        """Tokens (B, N, dim) to tokens.

        Args:
            condition: (B, 1, dim), or (B, N / patch_size ** 2, dim) of a square grid.
            rope: rotary table, (N, 2 * channels per head).
            mask: (B, 1, 1, N) boolean, the tokens that others may attend to.
        """
        values = per_position(self.modulation(condition), patch_size)
        shift1, scale1, gate1, shift2, scale2, gate2 = values.chunk(6, dim=-1)
        x = x + gate1 * self.attn(self.norm1(x) * (1 + scale1) + shift1, rope=rope, attn_mask=mask)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


def modulation(dim: int, count: int) -> nn.Sequential:
    """The layer that turns a condition into ``count`` vectors; zero-initialised, so every block starts as
    the identity."""
    layer = nn.Linear(dim, count * dim)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return nn.Sequential(nn.SiLU(), layer)


class DiTDH(ModelMixin, ConfigMixin):
    """Diffusion transformer with a wide, shallow head (DiT^DH, RAE section 5; the head is that of DDT, 2504.05741).

    A deep narrow *trunk* reads the noisy latent, the time and the condition; a shallow *head*, at least as wide as the
    latent has channels, reads the noisy latent again and is modulated token by token with what the trunk says. It
    predicts the velocity e - x_0. Numerically it is RAE's network, whose weights
    :func:`drorae.pretrained.rae_denoiser.load_rae_denoiser` converts. The defaults are its DiT^DH-XL.

    The condition is a class, added to the time embedding, or a text: its tokens stand before the latent's in the trunk
    (as in RAEv2), without rotary positions, and their mean is added to the time embedding.

    Args:
        sample_size: side h = w of the latent.
        in_channels: channels C of the latent.
        hidden_size, depth, num_heads: width, depth and heads of trunk and head.
        mlp_ratio: width of the MLPs; with SwiGLU two thirds of it are used.
        num_classes: classes; the label ``num_classes`` means none and is there for classifier-free guidance. ``None``
            for a condition that is text.
        text_dim: channels of the text tokens; ``None`` for a condition that is a class.
        trunk_patch_size: side of the squares of latent positions that the trunk joins to one token. RAE's is 1; larger
            ones make the trunk cheaper, while the head still sees every position.
        latent_fingerprint: fingerprint of the latent statistics it was trained on, see
            :meth:`drorae.LatentStatistics.fingerprint`; ``None`` where that is not known.

    Raises:
        ValueError: sizes that do not fit together.
    """

    SETTINGS: ClassVar[Rules] = {
        "sample_size": whole_number(1, 256),
        "in_channels": whole_number(1, 100_000),
        "hidden_size": several(whole_number(4, 100_000), 2),
        "depth": several(whole_number(0, 1000), 2),
        "num_heads": several(whole_number(1, 1000), 2),
        "mlp_ratio": number(0.01, 100),
        "num_classes": maybe(whole_number(1, 10_000_000)),
        "trunk_patch_size": whole_number(1, 256),
        "text_dim": maybe(whole_number(1, 100_000)),
        "latent_fingerprint": maybe(text()),
    }
    STACKS: ClassVar = {"depth.0": "trunk", "depth.1": "head"}
    _supports_gradient_checkpointing = True
    _no_split_modules: ClassVar = ["DiTBlock"]
    _keep_in_fp32_modules: ClassVar = ["frequencies"]

    @register_to_config
    def __init__(
        self,
        sample_size: int = 16,
        in_channels: int = 768,
        hidden_size: tuple[int, int] = (1152, 2048),
        depth: tuple[int, int] = (28, 2),
        num_heads: tuple[int, int] = (16, 16),
        mlp_ratio: float = 4.0,
        num_classes: int | None = 1000,
        trunk_patch_size: int = 1,
        text_dim: int | None = None,
        latent_fingerprint: str | None = None,
    ):
        super().__init__()
        trunk, head = hidden_size
        for dim, heads in zip(hidden_size, num_heads, strict=True):
            if dim % (4 * heads):
                raise ValueError(f"a width of {dim} does not divide into {heads} heads of a multiple of 4 channels")
        if (num_classes is None) == (text_dim is None):
            raise ValueError("the condition is a class or a text: give num_classes or text_dim, and the other as None")
        if sample_size % trunk_patch_size:
            raise ValueError(f"trunk_patch_size {trunk_patch_size} does not divide sample_size {sample_size}")
        self.gradient_checkpointing = False
        self.trunk_embed = nn.Linear(in_channels * trunk_patch_size**2, trunk)
        self.head_embed = nn.Linear(in_channels, head)
        for embed in (self.trunk_embed, self.head_embed):
            nn.init.xavier_uniform_(embed.weight)
            nn.init.zeros_(embed.bias)
        self.time_embed = TimeEmbedding(trunk)
        if num_classes is not None:
            self.label_embed = nn.Embedding(num_classes + 1, trunk)
            nn.init.normal_(self.label_embed.weight, std=0.02)
        else:
            self.text_embed = nn.Sequential(nn.RMSNorm(text_dim, eps=NORM_EPS), nn.Linear(text_dim, trunk))
        self.trunk = nn.ModuleList(DiTBlock(trunk, num_heads[0], mlp_ratio) for _ in range(depth[0]))
        self.projection = nn.Linear(trunk, head) if trunk != head else nn.Identity()
        self.head = nn.ModuleList(DiTBlock(head, num_heads[1], mlp_ratio) for _ in range(depth[1]))
        self.final_norm = nn.RMSNorm(head, eps=NORM_EPS)
        self.final_modulation = modulation(head, 2)
        self.final = nn.Linear(head, in_channels)
        nn.init.zeros_(self.final.weight)
        nn.init.zeros_(self.final.bias)
        # Constants of the architecture: nothing to save.
        grid = sample_size // trunk_patch_size
        positions = get_2d_sincos_pos_embed(trunk, grid, base_size=grid, output_type="pt").float()
        self.register_buffer("positions", positions, persistent=False)
        self.register_buffer("trunk_rope", rotary(grid, trunk // num_heads[0]), persistent=False)
        self.register_buffer("head_rope", rotary(sample_size, head // num_heads[1]), persistent=False)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str, **kwargs: Any) -> DiTDH:
        """Load a denoiser strictly, in eval mode; as :meth:`drorae.AutoencoderDRoRAE.from_pretrained`."""
        return checkpoints.load_strict(cls, super().from_pretrained, pretrained_model_name_or_path, **kwargs)

    @property
    def null_label(self) -> int:
        """The label that means no class."""
        return self.config.num_classes

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        class_labels: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Noisy latents to the velocity.

        Args:
            hidden_states: (B, C, h, w), normalised latents x_t.
            timestep: (B,) flow time in [0, 1], 1 is noise.
            class_labels: (B,) integers in 0..num_classes, or (B, num_classes + 1) weights that mix the classes.
            encoder_hidden_states: (B, T, text_dim) text tokens.
            encoder_attention_mask: (B, T) boolean, which of them count; where none does, there is no text.

        Returns:
            ``sample``: (B, C, h, w).
        """
        size, patch = self.config.sample_size, self.config.trunk_patch_size
        tokens = hidden_states.flatten(2).transpose(1, 2)  # (B, N, C)
        time = self.time_embed(timestep)[:, None]
        text, keep_mask, pooled = self.embed_condition(class_labels, encoder_hidden_states, encoder_attention_mask)

        trunk = self.trunk_embed(join(tokens, size, patch)) + self.positions.to(tokens.dtype)
        rope, mask = self.trunk_rope, None
        if text is not None:  # its tokens stand before the latent's
            rope = torch.cat([identity_rope(text.shape[1], rope), rope])
            mask = nn.functional.pad(keep_mask, (0, trunk.shape[1]), value=True)[:, None, None]
            trunk = torch.cat([text, trunk], dim=1)
        condition = nn.functional.silu(time + pooled)
        for block in self.trunk:
            trunk = self._run(block, trunk, condition, rope, 1, mask)
        if text is not None:
            trunk = trunk[:, text.shape[1] :]
        condition = self.projection(nn.functional.silu(time + trunk))

        head = self.head_embed(tokens)
        for block in self.head:
            head = self._run(block, head, condition, self.head_rope, patch)
        shift, scale = per_position(self.final_modulation(condition), patch).chunk(2, dim=-1)
        velocity = self.final(self.final_norm(head) * (1 + scale) + shift)
        sample = velocity.transpose(1, 2).unflatten(2, (size, size))
        return Transformer2DModelOutput(sample=sample) if return_dict else (sample,)

    def embed_condition(
        self, class_labels: Tensor | None, text_tokens: Tensor | None, attention_mask: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """The condition in the trunk's width; arguments as of :meth:`forward`.

        Returns:
            Text tokens (B, T, dim) and which of them count (B, T), both ``None`` for a class; and one vector for all,
            (B, 1, dim): the class, or the mean of the tokens that count.

        Raises:
            ValueError: the condition is a text, and its tokens or their mask are missing.
        """
        if self.config.text_dim is None:
            if class_labels is not None and class_labels.is_floating_point():
                table = self.label_embed.weight
                return None, None, (class_labels.to(table.dtype) @ table)[:, None]
            return None, None, self.label_embed(class_labels)[:, None]
        if text_tokens is None or attention_mask is None:
            raise ValueError("the condition of this network is a text; give its tokens and their mask")
        keep_mask = attention_mask.bool()
        text = self.text_embed(text_tokens.to(self.text_embed[1].weight.dtype)) * keep_mask[..., None]
        pooled = text.sum(1, keepdim=True) / keep_mask.sum(1).clamp(min=1)[:, None, None]
        return text, keep_mask, pooled

    def _run(self, block: DiTBlock, *inputs: Any) -> Tensor:
        """A block's output; with gradient checkpointing it is computed again in the backward pass."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False)
        return block(*inputs)


def join(tokens: Tensor, size: int, patch: int) -> Tensor:
    """Tokens (B, size * size, C) to (B, n, patch * patch * C), n = (size / patch) ** 2."""
    if patch == 1:
        return tokens
    grid = tokens.unflatten(1, (size // patch, patch, size // patch, patch))
    return grid.transpose(2, 3).flatten(3).flatten(1, 2)


def per_position(values: Tensor, patch: int) -> Tensor:
    """Values (B, n, D) of the patches of a square grid, repeated at all their positions, (B, n * patch ** 2, D)."""
    if patch == 1:
        return values
    grid = math.isqrt(values.shape[1])
    values = values.unflatten(1, (grid, grid))
    return values.repeat_interleave(patch, 1).repeat_interleave(patch, 2).flatten(1, 2)


def identity_rope(count: int, rope: Tensor) -> Tensor:
    """Identity rows of a rotary table, (count, D): sines 0, cosines 1."""
    zeros = rope.new_zeros(count, rope.shape[1] // 2)
    return torch.cat([zeros, zeros + 1], dim=-1)


def rotary(grid: int, head_dim: int) -> Tensor:
    """Rotary position embedding of a square grid, (N, 2 * head_dim): sines, then cosines, rows before columns."""
    sin, cos = build_rotary_pos_embed([grid, grid], dim=head_dim, in_pixels=False, temperature=10000.0)
    return torch.cat([sin, cos], dim=-1)
