"""A frozen timm ViT that gives the patch tokens of every layer."""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.models import is_model_in_modules
from torch import Tensor, nn

from drorae.rules import Rule, Rules, flag, maybe, number, one_of, settings, several, whole_number

# timm arguments that would load weights from somewhere else
WEIGHT_ARGUMENTS = {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"}
FAMILIES = ["vision_transformer", "deit", "eva"]  # modules of timm whose architectures are plain vision transformers


def is_architecture(name: Any) -> bool:
    """Whether a name is that of a vision transformer that timm builds."""
    return isinstance(name, str) and is_model_in_modules(name.partition(".")[0], FAMILIES)  # after a dot: its weights


# What a checkpoint may say of its encoder. timm takes more arguments; some name classes or files.
SETTINGS: Rules = {
    "encoder_name": Rule(is_architecture, "the name of a vision transformer of timm"),
    "encoder_args": maybe(
        settings(
            {
                "patch_size": whole_number(1, 256),
                "img_size": whole_number(1, 16384),
                "embed_dim": whole_number(1, 100_000),
                "depth": whole_number(1, 1000),
                "num_heads": whole_number(1, 1000),
                "mlp_ratio": number(0.01, 100),
                "init_values": maybe(number(0, 100)),
                "reg_tokens": whole_number(0, 1000),
                "qkv_bias": flag(),
                "qk_norm": flag(),
                "class_token": flag(),
                "no_embed_class": flag(),
                "pre_norm": flag(),
                "dynamic_img_size": flag(),
                "global_pool": Rule(lambda value: value in ("", "token", "avg"), '"", "token" or "avg"'),
                "act_layer": one_of("gelu", "gelu_tanh", "quick_gelu", "relu", "silu"),
            }
        )
    ),
    "encoder_input_size": whole_number(1, 16384),
    "encoder_mean": several(number(0, 1), 3),
    "encoder_std": several(number(1e-6, 1000), 3),
    "encoder_norm_eps": maybe(number(0, 1)),
}


class VisionEncoder(nn.Module):
    """Frozen vision transformer, built offline from a timm architecture name.

    ``z^(l) = TransformerBlock^(l)(z^(l-1)), l = 1..L`` (paper section 3.1): the encoder returns all z^(l) *before* the
    final norm, class and register tokens dropped. LN_bb, which follows, is that final norm without its affine
    parameters, as in RAE, whose decoders and statistics were made for exactly that latent:
    :func:`drorae.models.fusion.layer_norm` with :attr:`norm_eps`.

    Args:
        name: timm architecture, for example ``vit_base_patch14_reg4_dinov2``.
        input_size: side in pixels of the square picture the network sees; images of another size are resized
            (bicubic, not antialiased, as RAE's decoders were trained) to it.
        mean, std: per-channel normalisation the network was trained with.
        timm_args: further keyword arguments of the timm architecture (``patch_size``, ``reg_tokens``, ...).
        norm_eps: eps of every norm, where it is not the architecture's own (1e-12 for MAE).
        any_size: take pictures of any height and width that the patch divides, as they are. Position embeddings are
            resampled from the grid of ``input_size`` to theirs.

    Raises:
        ValueError: a name that is not a plain architecture, arguments that would load weights, a std that is not
            positive.
    """

    def __init__(
        self,
        name: str,
        input_size: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        timm_args: dict[str, Any] | None = None,
        norm_eps: float | None = None,
        any_size: bool = False,
    ):
        super().__init__()
        arguments = timm_args or {}
        if ":" in name:  # "hf-hub:..." would make timm fetch the architecture
            raise ValueError(f"the encoder is the name of a timm architecture, not {name!r}")
        if elsewhere := WEIGHT_ARGUMENTS & arguments.keys():
            raise ValueError(f"encoder weights come with the checkpoint; leave out {', '.join(sorted(elsewhere))}")
        if min(std) <= 0:
            raise ValueError(f"the encoder's std must be positive, not {tuple(std)}")
        self.arguments = {"num_classes": 0, "img_size": input_size, **arguments}
        self.any_size = any_size
        if any_size:
            self.arguments["dynamic_img_size"] = True
        self.model = timm.create_model(name, pretrained=False, **self.arguments)
        if norm_eps is not None:
            for module in self.model.modules():
                if isinstance(module, nn.LayerNorm):
                    module.eps = norm_eps
        self.norm_eps: float = getattr(self.model.norm, "eps", 1e-6)
        self.model.norm = nn.Identity()  # applied without affine parameters by whoever reads the layers
        self.input_size = input_size
        self.num_layers = len(self.model.blocks)
        self.dim = self.model.embed_dim
        self.grid_size: tuple[int, int] = tuple(self.model.patch_embed.grid_size)
        self.patch_size: int = self.model.patch_embed.patch_size[0]
        # Constants of the architecture, rebuilt from the config: nothing to save.
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.freeze()

    def freeze(self, frozen: bool = True) -> None:
        """No gradient from now on, which is how every encoder begins; ``False`` lets it train, as in one row of the
        paper's table 4."""
        self.frozen = frozen
        self.requires_grad_(not frozen)

    def normalize(self, x: Tensor) -> Tensor:
        """Image (B, 3, H, W) in [0, 1] to the range the network was trained on, and to its size where that is fixed."""
        if not self.any_size and x.shape[-2:] != (self.input_size, self.input_size):
            x = nn.functional.interpolate(
                x, size=(self.input_size, self.input_size), mode="bicubic", align_corners=False
            )
        return (x - self.mean.to(x.dtype)) / self.std.to(x.dtype)

    def grid_of(self, x: Tensor) -> tuple[int, int]:
        """Tokens (rows, columns) of an image (B, 3, H, W)."""
        if not self.any_size:
            return self.grid_size
        return x.shape[-2] // self.patch_size, x.shape[-1] // self.patch_size

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Image (B, 3, H, W) in [0, 1] to L token maps (B, N, C), block outputs before the final norm.

        N counts the patches row by row, see :meth:`grid_of`. The network runs in the precision of its weights, whatever
        that of the image is.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            x = self.normalize(x).to(self.model.patch_embed.proj.weight.dtype)
            return tuple(self.model.forward_intermediates(x, norm=False, output_fmt="NLC", intermediates_only=True))
