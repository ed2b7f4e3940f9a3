"""A tokenizer without fusion as diffusers' ``AutoencoderRAE``, for whoever does not have this package."""

from __future__ import annotations

import re

import torch
from diffusers import AutoencoderRAE
from timm.models import VisionTransformer
from torch import Tensor

from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.pretrained.rae_tokenizer import MAE_NORM_EPS, RENAMES, SHORT, UNUSED, resample_positions

HEAD_DIM = 64  # of every encoder that diffusers builds
REGISTERS = 4  # of its DINOv2


def export_rae(model: AutoencoderDRoRAE) -> AutoencoderRAE:
    """The encoder, the original decoder and the statistics of ``model`` as diffusers' class, in eval mode.

    Latents and pixels are the same up to rounding; ``save_pretrained`` of the result writes the folder. diffusers
    stores position embeddings on a larger grid than the one they are used on: the smallest that comes out as ours.

    Raises:
        ValueError: the model has a fusion, or an encoder that diffusers' class does not build.
    """
    if model.fusion_module is not None:
        raise ValueError("diffusers' AutoencoderRAE has no fusion; export a model without one, see set_fusion(None)")
    config, encoder = model.config, model.encoder
    kind = encoder_type(model)
    result = AutoencoderRAE(
        encoder_type=kind,
        encoder_hidden_size=encoder.dim,
        encoder_patch_size=encoder.patch_size,
        encoder_num_hidden_layers=encoder.num_layers,
        decoder_hidden_size=config.decoder_hidden_size,
        decoder_num_hidden_layers=config.decoder_num_layers,
        decoder_num_attention_heads=config.decoder_num_heads,
        decoder_intermediate_size=config.decoder_intermediate_size,
        patch_size=config.decoder_patch_size,
        encoder_input_size=encoder.input_size,
        encoder_norm_mean=encoder.mean.flatten().tolist(),
        encoder_norm_std=encoder.std.flatten().tolist(),
        **latent_statistics(model),
    ).eval()
    wanted = result.encoder.state_dict()
    try:
        result.encoder.load_state_dict(encoder_weights(kind, encoder.model, wanted), strict=True)
        result.decoder.load_state_dict(model.decoder.state_dict(), strict=True)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"diffusers' AutoencoderRAE does not build this encoder: {error}") from error
    return result


def encoder_type(model: AutoencoderDRoRAE) -> str:
    """``"dinov2"`` or ``"mae"``: what diffusers calls an encoder that computes the same.

    Raises:
        ValueError: diffusers' class builds no such encoder.
    """
    encoder, vit = model.encoder, model.encoder.model
    heads = vit.blocks[0].attn.num_heads
    if vit.cls_token is not None and heads * HEAD_DIM == encoder.dim:
        if vit.num_reg_tokens == REGISTERS and encoder.norm_eps == 1e-6:
            return "dinov2"
        if vit.num_reg_tokens == 0 and encoder.norm_eps == MAE_NORM_EPS:
            return "mae"
    raise ValueError(
        f"diffusers' AutoencoderRAE builds DINOv2 with {REGISTERS} registers and MAE, both with heads of {HEAD_DIM} "
        f"channels, and no encoder like '{model.config.encoder_name}' with {heads} heads, {encoder.dim} channels, "
        f"{vit.num_reg_tokens} registers and norms of eps {encoder.norm_eps}"
    )


def latent_statistics(model: AutoencoderDRoRAE) -> dict[str, Tensor]:
    """Mean and standard deviation of the latent, (C, h, w) each, as arguments of diffusers' class."""
    if model.statistics is None:
        return {}
    shape = (model.encoder.dim, model.grid_size, model.grid_size)
    values = {"latents_std": model.statistics.std, "latents_mean": model.statistics.mean}
    return {name: value.detach().cpu().expand(shape) for name, value in values.items() if value is not None}


@torch.no_grad()
def encoder_weights(kind: str, vit: VisionTransformer, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a timm ViT under the names of the installed transformers, which ``wanted`` has with their shapes.

    Raises:
        KeyError: one that the ViT does not have.
    """
    own = dict(vit.state_dict())
    own |= split_prefix(vit, own.pop("pos_embed"))
    result = {}
    for key, value in wanted.items():
        if re.fullmatch(UNUSED[kind], key):
            result[key] = torch.zeros_like(value)
            continue
        pattern, replacement = next(pair for pair in RENAMES[kind] if re.fullmatch(pair[0], key))
        name = re.sub(pattern, replacement, key)
        if name == "pos_embed":
            result[key] = spread_positions(kind, own[name], value.shape[1] - 1)
        elif match := re.fullmatch(r"(.*\.attn)\.(q|k|v|query|key|value)\.(\w+)", name):
            part = "qkv".index(SHORT.get(match[2], match[2]))
            result[key] = own[f"{match[1]}.qkv.{match[3]}"].chunk(3)[part]
        elif name.endswith(".gamma") and name not in own:  # LayerScale, which this ViT does not have
            result[key] = torch.ones_like(value)
        else:
            result[key] = own[name]
    return result


def split_prefix(vit: VisionTransformer, positions: Tensor) -> dict[str, Tensor]:
    """Class and register tokens with their own positions added, and the positions (N, C) of the patches alone."""
    tokens = {"cls_token": vit.cls_token.detach()}
    if vit.reg_token is not None:
        tokens["reg_token"] = vit.reg_token.detach()
    count = 0 if vit.no_embed_class else sum(token.shape[1] for token in tokens.values())
    prefix, patches = positions[:, :count], positions[0, count:]
    if count:
        for name, part in zip(tokens, prefix.split([token.shape[1] for token in tokens.values()], dim=1), strict=True):
            tokens[name] = tokens[name] + part
    return {**tokens, "pos_embed": patches}


def spread_positions(kind: str, positions: Tensor, count: int) -> Tensor:
    """Positions (1, 1 + count, C) of a class token and a larger grid, which resampled give ours, (N, C).

    Resampling is a linear map D to fewer values; of all x with D x = p this is the smallest, D^T (D D^T)^-1 p.
    """
    side, grid = round(count**0.5), round(len(positions) ** 0.5)
    basis = torch.eye(count).unsqueeze(0)
    down = resample_positions(kind, basis, grid)[0].double()  # (N, count)
    spread = down.T @ torch.linalg.solve(down @ down.T, positions.double()) if side != grid else positions
    return torch.cat([torch.zeros_like(positions[:1]), spread.to(positions)]).unsqueeze(0)
