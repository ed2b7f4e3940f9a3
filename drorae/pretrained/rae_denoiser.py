"""RAE's published denoisers (``stage2_model.pt``) as :class:`~drorae.DiTDH`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drorae.checkpoints import CheckpointError, build_strict, fetch_file
from drorae.errors import reason_of
from drorae.models.denoiser import DiTDH, rotary
from drorae.pretrained.rae_tokenizer import RAW_REPOSITORY as REPOSITORY
from drorae.pretrained.rae_tokenizer import check_published

FOLDER = "DiTs/Dinov2/wReg_base/ImageNet256"
FILES = {"DiTDH-XL": f"{FOLDER}/DiTDH-XL/stage2_model.pt", "DiTDH-S": f"{FOLDER}/DiTDH-S_ep14/stage2_model.pt"}
HEAD_DIMS = {1152: 72, 384: 64, 768: 64, 1024: 64, 2048: 128}  # channels per head by width, where no rope tells

RENAMES = [
    (r"s_embedder\.proj\.(\w+)", r"trunk_embed.\1"),
    (r"x_embedder\.proj\.(\w+)", r"head_embed.\1"),
    (r"t_embedder\.W", "time_embed.frequencies"),
    (r"t_embedder\.mlp\.(\d)\.(\w+)", r"time_embed.mlp.\1.\2"),
    (r"y_embedder\.embedding_table\.weight", "label_embed.weight"),
    (r"s_projector\.(\w+)", r"projection.\1"),
    (r"final_layer\.norm_final\.weight", "final_norm.weight"),
    (r"final_layer\.linear\.(\w+)", r"final.\1"),
    (r"final_layer\.adaLN_modulation\.1\.(\w+)", r"final_modulation.1.\1"),
    (r"blocks\.(\d+)\.(norm[12])\.weight", r"blocks.\1.\2.weight"),
    (r"blocks\.(\d+)\.attn\.(qkv|proj)\.(\w+)", r"blocks.\1.attn.\2.\3"),
    (r"blocks\.(\d+)\.mlp\.w12\.(\w+)", r"blocks.\1.mlp.fc1.\2"),
    (r"blocks\.(\d+)\.mlp\.w3\.(\w+)", r"blocks.\1.mlp.fc2.\2"),
    (r"blocks\.(\d+)\.adaLN_modulation\.1\.(\w+)", r"blocks.\1.modulation.1.\2"),
]
# Constants that RAE saves; they are rebuilt here, and compared.
CONSTANTS = r"pos_embed|(enc|dec)_feat_rope\.freqs_(cos|sin)"


def convert_denoiser(saved: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """RAE's file, loaded, as arguments and weights of :class:`~drorae.DiTDH`.

    The averaged weights (``ema``) are taken where the file has several sets.

    Raises:
        CheckpointError: a weight of an unknown name, or constants that are not those of this architecture.
    """
    if not isinstance(saved, Mapping):
        raise CheckpointError(f"The file holds the type {type(saved).__name__}, not the weights of a denoiser.")
    for name in ("ema", "model"):
        if isinstance(saved.get(name), Mapping):
            saved = saved[name]
            break
    constants, state = {}, {}
    for key, value in saved.items():
        key = key.removeprefix("module.").removeprefix("_orig_mod.")
        if re.fullmatch(CONSTANTS, key):
            constants[key] = value
            continue
        for pattern, replacement in RENAMES:
            if re.fullmatch(pattern, key):
                state[re.sub(pattern, replacement, key)] = value
                break
        else:
            raise CheckpointError(f"The denoiser holds a weight of an unknown name: '{key}'.")
    try:
        arguments = _arguments(state, constants)
    except KeyError as error:
        raise CheckpointError(f"The denoiser lacks the weight {error}.") from error
    depth = arguments["depth"][0]
    result = {}
    for key, value in state.items():
        match = re.fullmatch(r"blocks\.(\d+)\.(.+)", key)
        if match:
            number = int(match[1])
            part = f"trunk.{number}" if number < depth else f"head.{number - depth}"
            key = f"{part}.{match[2]}"
        if key in ("trunk_embed.weight", "head_embed.weight"):
            value = value.flatten(1)  # a convolution of one position
        result[key] = value
    _check_constants(arguments, constants)
    return arguments, result


def _arguments(state: Mapping[str, Tensor], constants: Mapping[str, Tensor]) -> dict[str, Any]:
    """The sizes, read off the weights."""
    trunk, channels, patch = state["trunk_embed.weight"].shape[:3]
    head = state["head_embed.weight"].shape[0]
    if patch != 1 or state["head_embed.weight"].shape[-1] != 1:
        raise CheckpointError(f"The denoiser joins {patch} x {patch} latent positions; only 1 x 1 is supported.")
    widths = {}
    for key, value in state.items():
        if match := re.fullmatch(r"blocks\.(\d+)\.norm1\.weight", key):
            widths[int(match[1])] = len(value)
    count = len(widths)
    # where trunk and head are equally wide, RAE's head still has two blocks
    depth = sum(width == trunk for width in widths.values()) if trunk != head else count - 2
    heads = []
    for width, rope in ((trunk, "enc_feat_rope.freqs_cos"), (head, "dec_feat_rope.freqs_cos")):
        head_dim = constants[rope].shape[-1] if rope in constants else HEAD_DIMS.get(width, 64)
        heads.append(width // head_dim)
    positions = constants.get("pos_embed")
    side = round(positions.shape[1] ** 0.5) if positions is not None else 16
    hidden = state["blocks.0.mlp.fc2.weight"].shape[1]
    ratio = next((r for r in (4.0, 3.0, 2.0, 1.0) if int(2 / 3 * int(trunk * r)) == hidden), None)
    if ratio is None:
        raise CheckpointError(f"The denoiser's MLPs are {hidden} wide, which no known ratio to {trunk} gives.")
    return {
        "sample_size": side,
        "in_channels": channels,
        "hidden_size": (trunk, head),
        "depth": (depth, count - depth),
        "num_heads": tuple(heads),
        "mlp_ratio": ratio,
        "num_classes": state["label_embed.weight"].shape[0] - 1,
    }


def _check_constants(arguments: dict[str, Any], constants: Mapping[str, Tensor]) -> None:
    """Check that the position embeddings of the file are those this architecture builds.

    Raises:
        CheckpointError: they are others, so that the network would compute something else.
    """
    size = arguments["sample_size"]
    network = DiTDH(**{**arguments, "depth": (0, 0)})
    found = {"pos_embed": network.positions[None]}
    for name, width, heads in zip(("enc", "dec"), arguments["hidden_size"], arguments["num_heads"], strict=True):
        sin, cos = rotary(size, width // heads).chunk(2, dim=-1)
        found |= {f"{name}_feat_rope.freqs_sin": sin, f"{name}_feat_rope.freqs_cos": cos}
    for name, value in constants.items():
        if value.shape != found[name].shape or not torch.allclose(value.float(), found[name], atol=1e-3):
            raise CheckpointError(f"The denoiser's '{name}' is not that of the known architecture.")


def load_rae_denoiser(
    file: str = FILES["DiTDH-XL"],
    repository: str = REPOSITORY,
    revision: str | None = None,
    torch_dtype: torch.dtype = torch.float32,
) -> DiTDH:
    """A published denoiser, strictly.

    Args:
        file: in ``repository``, which is RAE's on the Hub, at ``revision``, or a folder with a copy of it.

    Raises:
        CheckpointError: it could not be fetched or read, or its keys are not the known ones.
    """
    check_published(repository)
    path = fetch_file(repository, file, revision)
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # damaged, unsafe or another kind of file: many types, one thing to say
        reason = reason_of(error)
        raise CheckpointError(f"'{path}' is not a denoiser of RAE: {reason}") from error
    arguments, state = convert_denoiser(saved)
    denoiser = build_strict(DiTDH, arguments, state, Path(path)).eval()
    frequencies = denoiser.time_embed.frequencies
    for part in denoiser.children():
        part.to(torch_dtype)
    denoiser.time_embed.frequencies = frequencies  # bf16 has too few digits for them
    return denoiser
