"""Tokenizers to compare with: TAEF2 and any diffusers autoencoder, as functions from pictures to pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, AutoModel
from safetensors.torch import load_file
from torch import Tensor, nn

from drorae import AutoencoderDRoRAE
from drorae.checkpoints import CheckpointError, reason_of

TAEF2 = "taef2"
TAEF2_FILES = ("taef2_encoder_fp16.safetensors", "taef2_decoder_fp16.safetensors")
Reconstructor = Callable[[Tensor], Tensor]


class PooledBlock(nn.Module):
    """A block of ``AutoencoderTiny`` behind TAEF2's extra branch: 1x1 up, group norm over the whole map, 1x1 down."""

    def __init__(self, block: nn.Module, channels: int, groups: int = 4):
        super().__init__()
        self.conv, self.skip, self.fuse = block.conv, block.skip, block.fuse
        wide = 4 * channels
        self.pool = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False),
            nn.GroupNorm(groups, wide),
            nn.ReLU(),
            nn.Conv2d(wide, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pool(x)
        return self.fuse(self.conv(x) + self.skip(x))


def load_taef2(folder: Path) -> AutoencoderTiny:
    """TAEF2, the tiny autoencoder of the FLUX.2 latent (32 channels at 1/8), in diffusers' ``AutoencoderTiny``.

    Its three deepest blocks have a branch that diffusers' class lacks; they are put in.

    Raises:
        FileNotFoundError: its weights are not in ``folder``.
    """
    model = AutoencoderTiny(latent_channels=32)
    parts = ((model.encoder.layers, TAEF2_FILES[0], 0), (model.decoder.layers, TAEF2_FILES[1], 1))
    for layers, name, offset in parts:  # their decoder counts the clamp, which diffusers does outside, as layer 0
        if not (folder / name).is_file():
            raise FileNotFoundError(f"the baseline TAEF2 needs '{folder / name}'; pass --weights FOLDER")
        state = {}
        for key, value in load_file(folder / name).items():
            index, rest = key.split(".", 1)
            state[f"{int(index) - offset}.{rest}"] = value.float()
        for index in {int(key.split(".")[0]) for key in state if ".pool." in key}:
            layers[index] = PooledBlock(layers[index], 64)
        layers.load_state_dict(state, strict=True)
    return model.eval()


def load_baseline(name: str, weights_folder: Path, device: str = "cpu") -> Reconstructor:
    """``"taef2"``, a checkpoint of this package, or a diffusers autoencoder by folder or hub id (``id/subfolder`` as
    ``id:subfolder``).

    The result takes and gives images (B, 3, H, W) in [0, 1].

    Raises:
        CheckpointError: no such autoencoder could be loaded.
    """
    if name == TAEF2:
        model = load_taef2(weights_folder).to(device)
    else:
        repository, _, subfolder = name.partition(":")
        try:
            config = AutoModel.load_config(repository, subfolder=subfolder or None)
            kind, folder = config.get("_class_name"), str(Path(repository) / subfolder) if subfolder else repository
            if kind == "AutoencoderRAE":  # see drorae.pretrained.rae_tokenizer
                model = AutoencoderDRoRAE.from_rae(folder)
            elif kind == "AutoencoderDRoRAE":
                model = AutoencoderDRoRAE.from_pretrained(folder)
            else:
                model = AutoModel.from_pretrained(repository, subfolder=subfolder or None, torch_dtype=torch.float32)
            model = model.to(device).eval()
        except CheckpointError:
            raise
        except Exception as error:  # hub, network, config and weights: many types, one thing to do
            reason = reason_of(error)
            raise CheckpointError(f"--baseline {name}: no diffusers autoencoder could be loaded ({reason}).") from error
        if not (hasattr(model, "encode") and hasattr(model, "decode")):
            raise CheckpointError(f"--baseline {name}: {type(model).__name__} is not an autoencoder.")
    unit_range = "RAE" in type(model).__name__  # they take [0, 1]; all others [-1, 1]

    @torch.inference_mode()
    def reconstruct(images: Tensor) -> Tensor:
        encoded = model.encode(images if unit_range else images * 2 - 1)
        if hasattr(encoded, "latent_dist"):
            latent = encoded.latent_dist.mode()
        else:
            latent = encoded.latents if hasattr(encoded, "latents") else encoded.latent
        sample = model.decode(latent).sample
        return sample if unit_range else sample / 2 + 0.5

    return reconstruct
