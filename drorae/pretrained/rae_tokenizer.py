"""Published RAE weights (arXiv 2510.11690) as parts of this package's autoencoder, on every transformers version.

diffusers builds RAE's encoders from transformers, whose parameter names changed several times; loading one era's names
into another leaves random weights behind a log message. Here the names of all eras are mapped to timm's, whose names
have not changed, and every key has to be accounted for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor
from torch.nn import functional as F

from drorae.checkpoints import (
    CONFIG,
    CheckpointError,
    build_strict,
    check_stacks,
    commit,
    fetch_file,
    load_weights,
    local_folder,
    read_config,
    read_weights,
    resolve,
    split_revision,
)
from drorae.errors import reason_of
from drorae.models.autoencoder import MAX_GRID, AutoencoderDRoRAE
from drorae.rules import Rules, check_settings, flag, maybe, nested_numbers, number, one_of, several, whole_number

MODELS = {  # documented hub ids, all with a ViT-XL decoder
    "dinov2-base": "nyu-visionx/RAE-dinov2-wReg-base-ViTXL-n08",
    "dinov2-base-i512": "nyu-visionx/RAE-dinov2-wReg-base-ViTXL-n08-i512",
    "dinov2-small": "nyu-visionx/RAE-dinov2-wReg-small-ViTXL-n08",
    "dinov2-large": "nyu-visionx/RAE-dinov2-wReg-large-ViTXL-n08",
    "siglip2-base": "nyu-visionx/RAE-siglip2-base-p16-i256-ViTXL-n08",
    "mae-base": "nyu-visionx/RAE-mae-base-p16-ViTXL-n08",
}
RAW_REPOSITORY = "nyu-visionx/RAE-collections"  # of RAE's own files, in PyTorch's format
RAW_ENCODER = "facebook/dinov2-with-registers-base"
PARTS = ("encoder.", "decoder.")
CONSTANTS = {"encoder_mean", "encoder_std", "_latents_mean", "_latents_std"}
SIGLIP_ARGUMENTS = {"class_token": False, "global_pool": "", "act_layer": "gelu_tanh"}
MAE_NORM_EPS = 1e-12
DINOV2_DEPTHS = {384: 12, 768: 12, 1024: 24}  # layers of DINOv2 by width

SETTINGS: Rules = {  # of a saved diffusers AutoencoderRAE
    "encoder_type": one_of("dinov2", "siglip2", "mae"),
    "encoder_hidden_size": whole_number(64, 100_000),
    "encoder_patch_size": whole_number(1, 256),
    "encoder_num_hidden_layers": whole_number(1, 1000),
    "decoder_hidden_size": whole_number(1, 100_000),
    "decoder_num_hidden_layers": whole_number(1, 1000),
    "decoder_num_attention_heads": whole_number(1, 1000),
    "decoder_intermediate_size": whole_number(1, 1_000_000),
    "patch_size": whole_number(1, 256),
    "encoder_input_size": whole_number(1, 16384),
    "image_size": maybe(whole_number(1, 65536)),
    "num_channels": whole_number(3, 3),
    "encoder_norm_mean": maybe(several(number(-1000, 1000), 3)),
    "encoder_norm_std": maybe(several(number(1e-6, 1000), 3)),
    "latents_mean": maybe(nested_numbers()),
    "latents_std": maybe(nested_numbers()),
    "noise_tau": number(0, 1000),
    "reshape_to_2d": flag(),
    "use_encoder_loss": flag(),
    "scaling_factor": number(1e-6, 1e6),
}

# Patterns of every transformers era to timm's names; q, k and v are joined afterwards.
BLOCK = r"(?:encoder\.)?(?:layers|layer)\.(\d+)\."
RENAMES: dict[str, list[tuple[str, str]]] = {
    "dinov2": [
        (r"embeddings\.cls_token", "cls_token"),
        (r"embeddings\.register_tokens", "reg_token"),
        (r"embeddings\.position_embeddings", "pos_embed"),
        (r"embeddings\.patch_embeddings\.projection\.(\w+)", r"patch_embed.proj.\1"),
        (BLOCK + r"norm([12])\.(\w+)", r"blocks.\1.norm\2.\3"),
        (BLOCK + r"attention\.attention\.(query|key|value)\.(\w+)", r"blocks.\1.attn.\2.\3"),
        (BLOCK + r"attention\.([qkv])_proj\.(\w+)", r"blocks.\1.attn.\2.\3"),
        (BLOCK + r"attention\.(?:output\.dense|o_proj)\.(\w+)", r"blocks.\1.attn.proj.\2"),
        (BLOCK + r"layer_scale([12])\.lambda1", r"blocks.\1.ls\2.gamma"),
        (BLOCK + r"mlp\.(fc[12])\.(\w+)", r"blocks.\1.mlp.\2.\3"),
    ],
    "siglip2": [
        (r"(?:vision_model\.)?embeddings\.patch_embedding\.(\w+)", r"patch_embed.proj.\1"),
        (r"(?:vision_model\.)?embeddings\.position_embedding\.weight", "pos_embed"),
        (r"(?:vision_model\.)?" + BLOCK + r"layer_norm([12])\.(\w+)", r"blocks.\1.norm\2.\3"),
        (r"(?:vision_model\.)?" + BLOCK + r"self_attn\.([qkv])_proj\.(\w+)", r"blocks.\1.attn.\2.\3"),
        (r"(?:vision_model\.)?" + BLOCK + r"self_attn\.(?:out_proj|o_proj)\.(\w+)", r"blocks.\1.attn.proj.\2"),
        (r"(?:vision_model\.)?" + BLOCK + r"mlp\.(fc[12])\.(\w+)", r"blocks.\1.mlp.\2.\3"),
    ],
    "mae": [
        (r"embeddings\.cls_token", "cls_token"),
        (r"embeddings\.position_embeddings", "pos_embed"),
        (r"embeddings\.patch_embeddings\.projection\.(\w+)", r"patch_embed.proj.\1"),
        (BLOCK + r"layernorm_before\.(\w+)", r"blocks.\1.norm1.\2"),
        (BLOCK + r"layernorm_after\.(\w+)", r"blocks.\1.norm2.\2"),
        (BLOCK + r"attention\.attention\.(query|key|value)\.(\w+)", r"blocks.\1.attn.\2.\3"),
        (BLOCK + r"attention\.([qkv])_proj\.(\w+)", r"blocks.\1.attn.\2.\3"),
        (BLOCK + r"attention\.(?:output\.dense|o_proj)\.(\w+)", r"blocks.\1.attn.proj.\2"),
        (BLOCK + r"(?:intermediate\.dense|mlp\.fc1)\.(\w+)", r"blocks.\1.mlp.fc1.\2"),
        (BLOCK + r"(?:output\.dense|mlp\.fc2)\.(\w+)", r"blocks.\1.mlp.fc2.\2"),
    ],
}
# Weights that are saved but play no part in the tokens.
UNUSED = {
    "dinov2": r"embeddings\.mask_token",
    "siglip2": r"(?:vision_model\.)?head\..*",
    "mae": r"$^",
}
SHORT = {"query": "q", "key": "k", "value": "v"}


def convert_encoder(encoder_type: str, state: Mapping[str, Tensor], grid_size: int) -> dict[str, Tensor]:
    """A transformers encoder's weights, of any era, under timm's names, positions resampled to ``grid_size``.

    Raises:
        CheckpointError: a key that no era is known to have.
    """
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        if re.fullmatch(UNUSED[encoder_type], key):
            continue
        for pattern, replacement in RENAMES[encoder_type]:
            if re.fullmatch(pattern, key):
                renamed[re.sub(pattern, replacement, key)] = value
                break
        else:
            raise CheckpointError(f"The {encoder_type} encoder holds a weight of an unknown name: 'encoder.{key}'.")
    parts: dict[str, dict[str, Tensor]] = {}
    result: dict[str, Tensor] = {}
    for key, value in renamed.items():
        match = re.fullmatch(r"(blocks\.\d+\.attn)\.(q|k|v|query|key|value)\.(\w+)", key)
        if match:
            name = SHORT.get(match[2], match[2])
            parts.setdefault(f"{match[1]}.qkv.{match[3]}", {})[name] = value
        else:
            result[key] = value
    for key, three in parts.items():
        if set(three) != set("qkv"):
            raise CheckpointError(f"The {encoder_type} encoder lacks a part of 'encoder.{key}'.")
        result[key] = torch.cat([three[name] for name in "qkv"])
    if "pos_embed" in result:
        result |= _positions(encoder_type, result, grid_size)
    return result


def _positions(encoder_type: str, state: dict[str, Tensor], grid_size: int) -> dict[str, Tensor]:
    """Position embeddings as timm stores them, at the grid that is used."""
    positions = state["pos_embed"]
    if encoder_type == "siglip2":
        positions = positions[None]
        prefix = positions[:, :0]
    else:
        prefix, positions = positions[:, :1], positions[:, 1:]
    positions = resample_positions(encoder_type, positions, grid_size)
    if encoder_type == "dinov2":  # timm adds the class token's position to the token itself
        return {"pos_embed": positions, "cls_token": state["cls_token"] + prefix}
    return {"pos_embed": torch.cat([prefix, positions], dim=1)}


def resample_positions(encoder_type: str, positions: Tensor, grid_size: int) -> Tensor:
    """Positions (1, N, C) of a square grid on the grid that is used, resampled as transformers does."""
    side = round(positions.shape[1] ** 0.5)
    if side == grid_size:
        return positions
    if encoder_type == "dinov2":
        return resample_abs_pos_embed(positions, (grid_size, grid_size), num_prefix_tokens=0)
    grid = positions.unflatten(1, (side, side)).permute(0, 3, 1, 2).float()
    grid = F.interpolate(grid, size=(grid_size, grid_size), mode="bicubic", align_corners=False)
    return grid.flatten(2).transpose(1, 2).to(positions)


def convert_decoder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Decoder weights as RAE's own files or diffusers have them, under diffusers' names."""
    result = {}
    for key, value in state.items():
        if key == "decoder_pos_embed":  # fixed sine and cosine, rebuilt
            continue
        key = re.sub(r"\.attention\.attention\.(query|key|value)\.", lambda m: f".attention.to_{SHORT[m[1]]}.", key)
        result[key.replace(".attention.output.dense.", ".attention.to_out.0.")] = value
    return result


def load_rae(name: str | Path, revision: str | None = None) -> AutoencoderDRoRAE:
    """A saved diffusers ``AutoencoderRAE`` (folder or Hub id, such as those of ``MODELS``) without fusion, in eval
    mode.

    Latents and pixels equal diffusers' where diffusers loads the weights correctly; here they load strictly and on
    every transformers version.

    Args:
        name: a Hub id may be ``id@revision``.
        revision: commit, tag or branch on the Hub.

    Raises:
        CheckpointError: what is missing, unknown or damaged, and what to do.
    """
    folder = resolve(name, revision)
    arguments, state = read_rae(folder)
    model: AutoencoderDRoRAE = build_strict(AutoencoderDRoRAE, {**arguments, "fusion": None}, state, folder).eval()
    repository, named = split_revision(name)
    model.register_to_config(base_model=repository, base_revision=commit(folder) or revision or named)
    return model


def read_rae(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A saved diffusers ``AutoencoderRAE`` as arguments and weights of :class:`~drorae.AutoencoderDRoRAE`.

    Raises:
        CheckpointError: files missing or damaged, another kind of model, keys that are not known.
    """
    try:
        config, weights = read_config(folder), load_weights(folder)
    except CheckpointError as error:
        raise CheckpointError(f"'{folder}' holds no readable RAE: {error}") from error
    if config.get("_class_name") != "AutoencoderRAE":
        raise CheckpointError(f"'{folder}' holds the class {config.get('_class_name')!s:.80}, not AutoencoderRAE.")
    check_settings(config, SETTINGS, folder / CONFIG)
    if lost := sorted(CONSTANTS - weights.keys()):
        raise CheckpointError(f"'{folder}' holds no readable RAE: the weight '{lost[0]}' is missing; fetch it again.")
    unknown = next((name for name in weights if name not in CONSTANTS and not name.startswith(PARTS)), None)
    if unknown is not None:
        raise CheckpointError(f"'{folder}' holds a weight of an unknown name: '{unknown}'; fetch it again.")
    if config.get("scaling_factor", 1.0) != 1.0:
        raise CheckpointError(f"'{folder}' has scaling_factor {config['scaling_factor']}; only 1.0 is supported.")
    kind = config.get("encoder_type", "dinov2")
    encoder = {key.removeprefix("encoder."): value for key, value in weights.items() if key.startswith("encoder.")}
    dim, heads = config.get("encoder_hidden_size", 768), config.get("decoder_num_attention_heads", 16)
    published = kind == "dinov2" and heads == 16  # as opposed to somebody's own small model
    patch, size = config.get("encoder_patch_size", 14), config.get("encoder_input_size", 224)
    grid = size // patch
    if not 1 <= grid <= MAX_GRID:
        raise CheckpointError(f"'{folder}' has a grid of {grid} tokens a side; there can be 1 to {MAX_GRID}.")
    check_stacks(config, {"decoder_num_hidden_layers": "decoder.decoder_layers"}, weights, folder / CONFIG)
    try:
        encoder = convert_encoder(kind, encoder, grid)
        shapes = _encoder_arguments(kind, encoder, patch)
    except CheckpointError:
        raise
    except (KeyError, RuntimeError, ValueError, IndexError, ZeroDivisionError) as error:  # missing, of another shape
        reason = f"the weight {error} is missing" if isinstance(error, KeyError) else reason_of(error)
        raise CheckpointError(f"The encoder in '{folder}' cannot be read: {reason}; fetch it again.") from error
    stated = config.get("encoder_num_hidden_layers", 12)
    if f"blocks.{stated - 1}.norm1.weight" not in encoder or f"blocks.{stated}.norm1.weight" in encoder:
        # diffusers' converter does not write the number down, so that deeper encoders would lose layers
        raise CheckpointError(f"'{folder}' states {stated} encoder layers and holds another number: convert it again.")
    if published and stated != DINOV2_DEPTHS.get(dim, stated):  # that converter cuts ViT-L in half without a word
        raise CheckpointError(
            f"'{folder}' holds {stated} of the {DINOV2_DEPTHS[dim]} layers of its encoder: convert it again."
        )
    arguments = {
        **shapes,
        "encoder_input_size": size,
        "encoder_mean": tuple(weights["encoder_mean"].flatten().tolist()),
        "encoder_std": tuple(weights["encoder_std"].flatten().tolist()),
        "decoder_hidden_size": config.get("decoder_hidden_size", 512),
        "decoder_num_layers": config.get("decoder_num_hidden_layers", 8),
        "decoder_num_heads": heads,
        "decoder_intermediate_size": config.get("decoder_intermediate_size", 2048),
        "decoder_patch_size": config.get("patch_size", 16),
    }
    state = {f"encoder.model.{key}": value for key, value in encoder.items()}
    decoder = {key.removeprefix("decoder."): value for key, value in weights.items() if key.startswith("decoder.")}
    state |= {f"decoder.{key}": value for key, value in convert_decoder(decoder).items()}
    mean, std = weights["_latents_mean"], weights["_latents_std"]
    shape = (dim, grid, grid)
    arguments["latent_statistics"] = "std" if not mean.any() else "mean and std"
    state["statistics.std"] = std.expand(shape).clone() if std.shape == (1,) else std
    if mean.any():
        state["statistics.mean"] = mean
    return arguments, state


def load_raw_rae(
    decoder: str = "decoders/dinov2/wReg_base/ViTXL_n08/model.pt",
    statistics: str | None = "stats/dinov2/wReg_base/imagenet1k/stat.pt",
    repository: str = RAW_REPOSITORY,
    encoder: str = RAW_ENCODER,
    revision: str | None = None,
    grid_size: int = 16,
    decoder_num_heads: int = 16,
) -> AutoencoderDRoRAE:
    """RAE's own files (a decoder and the statistics of its latent) with the DINOv2 encoder they were made for, in eval
    mode.

    Args:
        decoder, statistics: files in ``repository``, which is RAE's on the Hub, at ``revision``, or a folder with a
            copy of it. They are in PyTorch's format, so no other repository is asked for them.
        encoder: folder or Hub repository with the ``model.safetensors`` of a transformers DINOv2 with registers.
        grid_size: tokens per side, 32 for the 512 px decoder.
        decoder_num_heads: cannot be read from the weights; 16 in every published decoder.

    Raises:
        CheckpointError: files that could not be fetched or read, or keys that are not known, missing or left over.
    """
    check_published(repository)
    arguments, state = read_raw_rae(
        encoder=fetch_file(encoder, "model.safetensors"),
        decoder=fetch_file(repository, decoder, revision),
        statistics=fetch_file(repository, statistics, revision) if statistics else None,
        grid_size=grid_size,
        decoder_num_heads=decoder_num_heads,
    )
    return build_strict(AutoencoderDRoRAE, {**arguments, "fusion": None}, state, Path(repository)).eval()


def check_published(repository: str) -> None:
    """Check that files in PyTorch's format come from RAE's own repository, or from a folder.

    Raises:
        CheckpointError: another repository.
    """
    if repository != RAW_REPOSITORY and local_folder(repository) is None:
        raise CheckpointError(
            f"Files in PyTorch's format are taken from '{RAW_REPOSITORY}' or a folder with a copy of it, not from "
            f"'{repository:.120}'; name another model, saved as safetensors."
        )


def read_raw_rae(
    encoder: Path, decoder: Path, statistics: Path | None, grid_size: int, decoder_num_heads: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The files of :func:`load_raw_rae` as arguments and weights of :class:`~drorae.AutoencoderDRoRAE`.

    Raises:
        CheckpointError: a file that cannot be read, or keys that are not known.
    """
    try:
        encoder_state = read_weights(encoder)
        state = convert_decoder(torch.load(decoder, map_location="cpu", weights_only=True))
        hidden, latent_dim = state["decoder_embed.weight"].shape
        patch = round((state["decoder_pred.weight"].shape[0] / 3) ** 0.5)
        intermediate = state["decoder_layers.0.intermediate.dense.weight"].shape[0]
        numbers = torch.load(statistics, map_location="cpu", weights_only=True) if statistics else {}
        variance, mean = numbers.get("var"), numbers.get("mean")
    except Exception as error:  # a missing, damaged, unsafe or different file: many types, one thing to say
        reason = reason_of(error)
        raise CheckpointError(f"'{decoder}' and its companions are not RAE's files: {reason}") from error
    encoder_state = {key: value for key, value in encoder_state.items() if not key.startswith("layernorm.")}
    encoder_state = convert_encoder("dinov2", encoder_state, grid_size)
    arguments = {
        **_encoder_arguments("dinov2", encoder_state, 14),
        "encoder_input_size": 14 * grid_size,
        "decoder_hidden_size": hidden,
        "decoder_num_layers": len({key.split(".")[1] for key in state if key.startswith("decoder_layers.")}),
        "decoder_num_heads": decoder_num_heads,
        "decoder_intermediate_size": intermediate,
        "decoder_patch_size": patch,
    }
    result = {f"encoder.model.{key}": value for key, value in encoder_state.items()}
    result |= {f"decoder.{key}": value for key, value in state.items()}
    if variance is not None:
        shape = (latent_dim, grid_size, grid_size)
        # RAE divides by sqrt(var + 1e-5); here 1e-5 is added to the standard deviation
        result["statistics.std"] = ((variance + 1e-5).sqrt() - 1e-5).expand(shape).clone()
        arguments["latent_statistics"] = "std"
        if mean is not None:
            result["statistics.mean"] = mean.expand(shape).clone()
            arguments["latent_statistics"] = "mean and std"
    return arguments, result


def _encoder_arguments(kind: str, state: Mapping[str, Tensor], patch: int) -> dict[str, Any]:
    """timm architecture of converted encoder weights; all supported ones have heads of 64 channels."""
    hidden, dim = state["blocks.0.mlp.fc1.weight"].shape
    depth = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
    shape = {"embed_dim": dim, "depth": depth, "num_heads": dim // 64, "patch_size": patch, "mlp_ratio": hidden / dim}
    if kind == "dinov2":
        return {"encoder_name": "vit_base_patch14_reg4_dinov2", "encoder_args": shape}
    if kind == "siglip2":
        return {"encoder_name": "vit_base_patch16_siglip_256", "encoder_args": {**shape, **SIGLIP_ARGUMENTS}}
    return {"encoder_name": "vit_base_patch16_224", "encoder_args": shape, "encoder_norm_eps": MAE_NORM_EPS}
