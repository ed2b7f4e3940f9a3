"""The representation autoencoder: frozen encoder, optional fusion of its layers, one or two pixel decoders."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import AutoencoderMixin, DecoderOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from drorae import checkpoints
from drorae.choices import DECODERS
from drorae.models.decoder import PixelDecoder, decode_tokens
from drorae.models.encoder import SETTINGS, VisionEncoder
from drorae.models.fusion import FUSIONS, Fusion, FusionOutput, Routing, build_fusion, join_outputs, layer_norm
from drorae.models.latents import KINDS, LatentStatistics
from drorae.rules import Rules, flag, maybe, number, one_of, several, text, whole_number

MAX_GRID = 256  # tokens per side; their positions are computed when the model is built
RANGE_TOLERANCE = 0.01  # what resampling and half precision may add to images in [0, 1]


@dataclass
class DRoRAEEncoderOutput(BaseOutput):
    """Result of :meth:`AutoencoderDRoRAE.encode`.

    Attributes:
        latent: (B, C, h, w).
        routing: :class:`~drorae.models.fusion.Routing` when asked for, its ``weights`` are (B, h * w, L); else
            ``None``.
    """

    latent: Tensor
    routing: Routing | None = None


class AutoencoderDRoRAE(ModelMixin, AutoencoderMixin, ConfigMixin):
    """Representation autoencoder whose latent fuses every layer of a frozen vision encoder (arXiv 2605.10780).

    It behaves like a diffusers autoencoder. ``fusion=None`` *is* RAE (arXiv 2510.11690), so baseline and method
    cannot drift apart. The defaults are the paper's: DINOv2-B with registers, 224 pixels in, 256 out, ViT-XL decoder.

    Args:
        encoder_name: timm architecture of the frozen encoder.
        encoder_args: further timm arguments, such as ``{"patch_size": 8, "reg_tokens": 4}``.
        encoder_input_size: side of the square picture the encoder sees, pixels; with ``any_size`` the one its position
            embeddings are stored for.
        encoder_mean, encoder_std: per-channel normalisation of the encoder.
        encoder_norm_eps: eps of the encoder's norms, its architecture's own when ``None``.
        fusion: ``None`` (RAE), ``"depth-routed"`` (the paper), its ablations ``"depth-routed-softmax"`` and
            ``"cross-attention"``, or ``"mean"`` (mean of the last K layers, RAEv2).
        fusion_hidden_size: width h of the experts, 4 * C when ``None``.
        fusion_beta: strength of the incremental correction, equation 5.
        fusion_mean_layers: K of the mean fusion, all layers when ``None``.
        fusion_layers: how many of the deepest layers ``"depth-routed"`` fuses, all when ``None``.
        decoder_hidden_size, decoder_num_layers, decoder_num_heads, decoder_intermediate_size: the ViT decoder.
        decoder_patch_size: pixels per side that one token paints.
        finetuned_decoder: whether a second decoder, finetuned on fused latents (phase 3), is part of the model.
        latent_statistics: ``None``, ``"std"`` or ``"mean and std"``: what latents are normalised with.
        latent_distance: the distance (:func:`drorae.explorer.compatibility.distances`) that 99 % of held-out
            tokens keep.
        departure_limits: up to and from which departure of a picture from the one as trained
            (:mod:`drorae.explorer.compatibility`) its error is about the same, and surely larger.
        any_size: work at any height and width that the patch divides: pictures come out as large as they went in. The
            patches of encoder and decoder are equal then, and latent statistics are per channel. Otherwise pictures
            are resized to the encoder's side and come out with side grid * patch.
        base_model, base_revision: where encoder and original decoder were published, for fusion adapters.

    Raises:
        ValueError: a configuration that contradicts itself, naming the value.
    """

    SETTINGS: ClassVar[Rules] = {
        **SETTINGS,
        "fusion": maybe(one_of(*FUSIONS)),
        "fusion_hidden_size": maybe(whole_number(1, 1_000_000)),
        "fusion_beta": number(0, 1),
        "fusion_mean_layers": maybe(whole_number(1, 1000)),
        "fusion_layers": maybe(whole_number(1, 1000)),
        "decoder_hidden_size": whole_number(1, 100_000),
        "decoder_num_layers": whole_number(1, 1000),
        "decoder_num_heads": whole_number(1, 1000),
        "decoder_intermediate_size": whole_number(1, 1_000_000),
        "decoder_patch_size": whole_number(1, 256),
        "finetuned_decoder": flag(),
        "latent_statistics": maybe(one_of(*filter(None, KINDS))),
        "latent_distance": maybe(number(0, 1e6)),
        "departure_limits": maybe(several(number(0, 1e6), 2)),
        "any_size": flag(),
        "base_model": maybe(text()),
        "base_revision": maybe(text()),
    }
    STACKS: ClassVar = {"encoder_args.depth": "encoder.model.blocks", "decoder_num_layers": "decoder.decoder_layers"}
    _supports_gradient_checkpointing = True
    _keep_in_fp32_modules: ClassVar = ["statistics"]  # small, and every digit of them scales a latent

    @register_to_config
    def __init__(
        self,
        encoder_name: str = "vit_base_patch14_reg4_dinov2",
        encoder_args: dict[str, Any] | None = None,
        encoder_input_size: int = 224,
        encoder_mean: tuple[float, float, float] = (0.485, 0.456, 0.406),
        encoder_std: tuple[float, float, float] = (0.229, 0.224, 0.225),
        encoder_norm_eps: float | None = None,
        fusion: str | None = "depth-routed",
        fusion_hidden_size: int | None = None,
        fusion_beta: float = 0.2,
        fusion_mean_layers: int | None = None,
        decoder_hidden_size: int = 1152,
        decoder_num_layers: int = 28,
        decoder_num_heads: int = 16,
        decoder_intermediate_size: int = 4096,
        decoder_patch_size: int = 16,
        finetuned_decoder: bool = False,
        latent_statistics: str | None = None,
        latent_distance: float | None = None,
        departure_limits: tuple[float, float] | None = None,
        any_size: bool = False,
        base_model: str | None = None,
        base_revision: str | None = None,
        fusion_layers: int | None = None,
    ):
        super().__init__()
        self.encoder = VisionEncoder(
            encoder_name,
            encoder_input_size,
            encoder_mean,
            encoder_std,
            timm_args=encoder_args,
            norm_eps=encoder_norm_eps,
            any_size=any_size,
        )
        rows, columns = self.encoder.grid_size
        if rows != columns:
            raise ValueError(f"the encoder's token grid must be square, not {rows} x {columns}")
        if not 0 < rows <= MAX_GRID:
            raise ValueError(f"the encoder's token grid has 1 to {MAX_GRID} tokens a side, not {rows}")
        if any_size and self.encoder.patch_size != decoder_patch_size:
            raise ValueError(
                f"with any_size the decoder's patch must be the encoder's {self.encoder.patch_size} pixels, not "
                f"{decoder_patch_size}"
            )
        self.use_slicing = False  # see enable_slicing
        self.grid_size = rows
        self.image_size = rows * decoder_patch_size

        self.fusion_module = self._build_fusion(
            fusion, fusion_hidden_size, fusion_beta, fusion_mean_layers, fusion_layers
        )
        self.decoder = PixelDecoder(
            self.encoder.dim,
            (rows, columns),
            decoder_patch_size,
            hidden_size=decoder_hidden_size,
            num_layers=decoder_num_layers,
            num_heads=decoder_num_heads,
            intermediate_size=decoder_intermediate_size,
        )
        self.decoder_finetuned = copy.deepcopy(self.decoder) if finetuned_decoder else None
        self.statistics = LatentStatistics.build(latent_statistics, self.statistics_shape)
        self._range_seen = self._range_warned = False

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> AutoencoderDRoRAE:
        """Load a checkpoint folder, a bundled model (``"assets/drorae-tiny"``) or a Hub repository, in eval mode.

        Loading is strict: safetensors only, and every weight must be there and fit. Weights are computed with in
        fp32 unless ``torch_dtype`` says otherwise, whatever precision they are stored in.

        Raises:
            CheckpointError: what is missing, damaged or does not fit, and what to do.
        """
        return checkpoints.load_strict(cls, super().from_pretrained, pretrained_model_name_or_path, **kwargs)

    def check_values(self) -> None:
        """Check that the latent's statistics are finite, and every standard deviation is positive.

        Raises:
            ValueError: they are not.
        """
        if self.statistics is not None and self.statistics.std.min() <= 0:
            raise ValueError("the std of the latent must be positive everywhere")

    @classmethod
    def from_rae(
        cls, name: str, fusion: str | None = None, revision: str | None = None, **fusion_args: Any
    ) -> AutoencoderDRoRAE:
        """Published RAE weights by folder or Hub id, and a fresh ``fusion``, in eval mode.

        See :func:`drorae.pretrained.rae_tokenizer.load_rae`.
        """
        from drorae.pretrained.rae_tokenizer import load_rae  # which builds this class

        model = load_rae(name, revision)
        if fusion is not None:
            model.set_fusion(fusion, **fusion_args)
        return model

    @property
    def statistics_shape(self) -> tuple[int, int, int]:
        """Shape of the latent statistics: (C, h, w), or per channel, (C, 1, 1), for a model of any size."""
        side = 1 if self.config.any_size else self.grid_size
        return self.encoder.dim, side, side

    def set_statistics(self, std: Tensor, mean: Tensor | None = None) -> None:
        """Normalise latents from now on with ``std`` and ``mean``, each of the shape :attr:`statistics_shape`.

        Raises:
            ValueError: another shape, values that are not finite, a standard deviation that is not positive.
        """
        self.statistics = LatentStatistics.of(self.statistics_shape, std, mean).to(self.device)
        self.register_to_config(latent_statistics=self.statistics.kind, latent_distance=None)

    def set_fusion(
        self,
        fusion: str | None,
        hidden_size: int | None = None,
        beta: float = 0.2,
        mean_layers: int | None = None,
        layers: int | None = None,
    ) -> None:
        """Put a fresh fusion into the model (phase 2), or take it out (``None``, RAE). Arguments as the class's.

        Raises:
            ValueError: an unknown fusion or impossible values.
        """
        module = self._build_fusion(fusion, hidden_size, beta, mean_layers, layers)
        self.fusion_module = None if module is None else module.to(self.device, self.dtype)
        self.statistics = None  # they were of another latent
        self.register_to_config(latent_statistics=None, latent_distance=None, departure_limits=None)
        self.register_to_config(fusion=fusion, fusion_hidden_size=hidden_size, fusion_beta=beta)
        self.register_to_config(fusion_mean_layers=mean_layers, fusion_layers=layers)

    def _build_fusion(
        self, name: str | None, hidden_size: int | None, beta: float, mean_layers: int | None, layers: int | None
    ) -> Fusion | None:
        encoder = self.encoder
        return build_fusion(
            name,
            num_layers=encoder.num_layers,
            dim=encoder.dim,
            eps=encoder.norm_eps,
            hidden_size=hidden_size,
            beta=beta,
            mean_layers=mean_layers,
            layers=layers,
        )

    def add_finetuned_decoder(self) -> nn.Module:
        """Start phase 3: a second decoder, initialised as a copy of the original one, which stays untouched."""
        self.decoder_finetuned = copy.deepcopy(self.decoder)
        self.register_to_config(finetuned_decoder=True, departure_limits=None)
        return self.decoder_finetuned

    def fuse(
        self, layers: tuple[Tensor, ...], fusion: bool = True, return_routing: bool = False, keep: Tensor | None = None
    ) -> FusionOutput:
        """Layer outputs (B, N, C) each to latent tokens (B, N, C); ``fusion=False`` takes LN(z_L) alone (RAE).

        Args:
            keep: (B, L) or (B, N, L), boolean, leaves layers out of the fusion.

        Raises:
            ValueError: routing or ``keep`` asked of a model or route that has no fusion.
        """
        if fusion and self.fusion_module is not None:
            return self.fusion_module(layers, return_routing, keep)
        if return_routing or keep is not None:
            what = "routing" if return_routing else "choice of layers"
            raise ValueError(f"there is no {what} without fusion; load a model with fusion or leave fusion=True")
        return FusionOutput(layer_norm(layers[-1], self.encoder.norm_eps), None)

    def enable_slicing(self) -> None:
        """Encode and decode pictures one after the other from now on: slower, and in the memory that one takes."""
        super().enable_slicing()

    @apply_forward_hook
    def encode(
        self, x: Tensor, fusion: bool = True, return_routing: bool = False, return_dict: bool = True
    ) -> DRoRAEEncoderOutput | tuple[Tensor, ...]:
        """Images to latents.

        Only the encoder runs without gradient; fusion stays differentiable.

        Args:
            x: (B, 3, H, W) in [0, 1]. A model of any size takes every multiple of its patch; others take squares and
                resize them to the encoder's side.
            fusion: ``False`` gives the last-layer latent of RAE.
            return_routing: also return the routing of every token and layer.

        Raises:
            ValueError: wrong shape or type of ``x``; routing asked of a model or route that has none.

        Warns:
            UserWarning: values outside [0, 1], once; see :meth:`check_range`.
        """
        self.check_images(x)
        if not x.is_floating_point():
            raise ValueError(f"encode takes float images in [0, 1], not {x.dtype}; divide by 255 first")
        self.check_range(x)
        if self.use_slicing and len(x) > 1:
            output = join_outputs([self.fuse(self.encoder(one), fusion, return_routing) for one in x.split(1)])
        else:
            output = self.fuse(self.encoder(x), fusion, return_routing)
        latent = self.tokens_to_latent(output.tokens, self.encoder.grid_of(x))
        if not return_dict:
            return (latent, output.routing) if return_routing else (latent,)
        return DRoRAEEncoderOutput(latent=latent, routing=output.routing)

    def check_size(self, size: int | None, error: type[Exception] = ValueError) -> int:
        """The side of square pictures in pixels that the model is to work at: ``size``, or its own when ``None``.

        Raises:
            error: this model does not work at that size.
        """
        if size is None or size == self.image_size:
            return self.image_size
        if not self.config.any_size:
            raise error(f"this model works at {self.image_size} pixels only, not at {size}")
        patch = self.encoder.patch_size
        if size < 2 * patch or size % patch:
            near = max(2, round(size / patch)) * patch
            raise error(f"the side must be a multiple of {patch} pixels, not {size}; use {near}")
        return size

    def check_images(self, x: Tensor) -> None:
        """Check that ``x`` has the shape (B, 3, H, W), the type and the size that this model takes.

        Raises:
            ValueError: it does not; the message says what the model takes.
        """
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"encode takes images (B, 3, H, W), not {tuple(x.shape)}")
        height, width = x.shape[-2:]
        patch = self.encoder.patch_size
        if self.config.any_size and (height % patch or width % patch or not height or not width):
            raise ValueError(
                f"encode takes sides that are multiples of {patch} pixels, not {height} x {width}; crop or resize first"
            )
        if not self.config.any_size and height != width:
            raise ValueError(
                f"this model takes square images (B, 3, H, H) and sees them at {self.encoder.input_size} x "
                f"{self.encoder.input_size} pixels, not {tuple(x.shape)}; crop or pad them first"
            )

    def check_range(self, x: Tensor) -> None:
        """Warn, once per model, of images (B, 3, H, W) that are not in [0, 1].

        On the CPU every batch is looked at; on other devices, which would have to be waited for, the first one.
        """
        seen, self._range_seen = self._range_seen, True
        if self._range_warned or x.device.type == "meta" or torch.compiler.is_compiling():
            return
        if (seen and x.device.type != "cpu") or not x.numel():
            return
        low, high = (value.item() for value in x.detach().aminmax())
        if low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
            self._range_warned = True
            todo = "pass x / 255" if high > 2 else "pass x / 2 + 0.5 of images in [-1, 1], else x.clamp(0, 1)"
            warnings.warn(f"encode takes images in [0, 1], not {low:.3g} to {high:.3g}; {todo}", stacklevel=4)

    @apply_forward_hook
    def decode(self, z: Tensor, decoder: str | None = None, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
        """Latents (B, C, h, w) to images (B, 3, H, W) around [0, 1], not clamped.

        Args:
            decoder: ``"original"`` (phase 1) or ``"finetuned"`` (phase 3); the finetuned one, where there is one, when
                ``None``.

        Raises:
            ValueError: a decoder the model does not have; a grid that a model of one size does not have.
        """
        network, grid = self.get_decoder(decoder), (z.shape[-2], z.shape[-1])
        if not self.config.any_size and grid != (self.grid_size, self.grid_size):
            raise ValueError(
                f"this model's latents are {self.grid_size} x {self.grid_size}, not {grid[0]} x {grid[1]} (h x w)"
            )
        tokens = self.latent_to_tokens(z)
        parts = tokens.split(1) if self.use_slicing and len(z) > 1 else [tokens]
        painted = [decode_tokens(network, part, self.encoder.mean, self.encoder.std, grid) for part in parts]
        sample = painted[0] if len(painted) == 1 else torch.cat(painted)
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    def get_decoder(self, decoder: str | None = None) -> nn.Module:
        """The decoder network by name, see :meth:`decode`.

        Raises:
            ValueError: the model does not have it.
        """
        if decoder is None:
            decoder = "original" if self.decoder_finetuned is None else "finetuned"
        if decoder not in DECODERS:
            raise ValueError(f"decoder is 'original' or 'finetuned', not {decoder!r}")
        if decoder == "finetuned" and self.decoder_finetuned is None:
            raise ValueError("this model has no finetuned decoder (phase 3 has not been trained); use 'original'")
        return self.decoder if decoder == "original" else self.decoder_finetuned

    def forward(self, sample: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
        """Reconstruct images (B, 3, H, W) in [0, 1] with everything the model has."""
        return self.decode(self.encode(sample).latent, return_dict=return_dict)

    def tokens_to_latent(self, tokens: Tensor, grid_size: tuple[int, int] | None = None) -> Tensor:
        """(B, N, C) row-major tokens to (B, C, h, w), normalised where the model has statistics.

        ``grid_size`` is (h, w); the model's own square grid when ``None``.
        """
        latent = tokens.transpose(1, 2).unflatten(2, grid_size or (self.grid_size, self.grid_size))
        return latent if self.statistics is None else self.statistics.normalize(latent)

    def latent_to_tokens(self, latent: Tensor) -> Tensor:
        """(B, C, h, w) latents to (B, N, C) row-major tokens, the inverse of :meth:`tokens_to_latent`."""
        if self.statistics is not None:
            latent = self.statistics.denormalize(latent)
        return latent.flatten(2).transpose(1, 2)
