"""Everything the explorer shows of one picture, computed in one call and returned as plain arrays.

The page, ``python -m drorae`` and ``train.evaluate`` all go through this module, so they cannot disagree.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from drorae import images as pictures_of
from drorae.choices import SIDE
from drorae.explorer.compatibility import Compatibility, compatibility
from drorae.explorer.interventions import FusionParts, Intervention, can_intervene, standard_interventions, strengths
from drorae.explorer.layer_maps import correlation, shared_components, texture_energy
from drorae.explorer.spectrum import detail_energies, error_energies
from drorae.images import ImageError, to_uint8
from drorae.metrics import psnr, ssim
from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.models.fusion import FusionOutput

BATCH = 8  # interventions that are mixed and decoded together
Painted = Callable[[int, int], None]  # is told how many interventions are painted, and how many there will be


@dataclass(frozen=True)
class Route:
    """One way through the model: which layers make the latent, and which decoder paints it."""

    name: str
    title: str
    explanation: str
    fused: bool
    decoder: str


ROUTES = (
    Route("rae", "Last layer", "RAE: the encoder's last layer, original decoder", False, "original"),
    Route("phase2", "All layers fused", "same, untouched decoder: only the latent changed", True, "original"),
    Route("drorae", "Full DRoRAE", "fused latent, decoder finetuned on it", True, "finetuned"),
)


def available_routes(model: AutoencoderDRoRAE) -> tuple[Route, ...]:
    """The routes this model has the parts for; ``rae`` always, the others need fusion and a finetuned decoder."""
    return tuple(
        route
        for route in ROUTES
        if (not route.fused or model.fusion_module is not None)
        and (route.decoder == "original" or model.decoder_finetuned is not None)
    )


def paint_routes(
    model: AutoencoderDRoRAE, base: Tensor, fused: FusionOutput | None, grid_size: tuple[int, int]
) -> dict[str, Tensor]:
    """Tokens of the last layer (B, N, C) and the fused ones, of a grid (rows, columns), to a picture (B, 3, H, W) per
    available route."""
    pictures = {}
    for route in available_routes(model):
        tokens = base
        if route.fused:
            assert fused is not None  # such routes are there only with a fusion
            tokens = fused.tokens
        latent = model.tokens_to_latent(tokens, grid_size)
        pictures[route.name] = model.decode(latent, decoder=route.decoder).sample
    return pictures


@dataclass(frozen=True)
class Gain:
    """What fusion changed, against the last layer.

    Attributes:
        map: (H, W) float32, |last layer - original| - |route - original| in 8-bit levels, mean over RGB: positive
            where the route is closer to the original. Its mean is the difference of the two mean absolute errors.
        improved, harmed: shares of pixels in [0, 1] whose error fell or rose.
    """

    map: np.ndarray
    improved: float
    harmed: float


@dataclass(frozen=True)
class Frame:
    """What an intervention paints.

    Attributes:
        picture: (H, W, 3) uint8.
        metrics: ``psnr`` (dB), ``ssim`` and ``mae`` (8-bit levels) against the original.
        energies: what is still wrong, by band, see :func:`drorae.explorer.spectrum.error_energies`.
        compatibility: how far it has gone from what the model was trained to paint.
    """

    picture: np.ndarray
    metrics: dict[str, float]
    energies: np.ndarray
    compatibility: Compatibility


@dataclass(frozen=True)
class Interventions:
    """The interventions everybody asks for, painted by the decoder that was trained last.

    Attributes:
        beta: the trained strength.
        betas: strengths from 0 to 1, the trained one among them; ``strengths`` are their frames, in this order.
        removed: frame of every layer left out, (L,).
        alone: frame of every layer as the only one in the sum, with the sign the router gave it, (L,).
        experts: frame of every layer's expert output in place of the sum, (L,): what the layer can paint.
    """

    beta: float
    betas: tuple[float, ...]
    strengths: list[Frame]
    removed: list[Frame]
    alone: list[Frame]
    experts: list[Frame]


@dataclass(frozen=True)
class Exploration:
    """One picture, seen through every route.

    Attributes:
        original: (H, W, 3) uint8, the picture the model worked on.
        pictures: route name to (H, W, 3) uint8.
        metrics: route name to ``psnr`` (dB), ``ssim`` and ``mae`` (8-bit levels), computed on those uint8 pictures.
        gains: fused route name to its :class:`Gain` over ``rae``.
        weights, shares: routing (N, L), see :class:`~drorae.models.fusion.Routing`; ``None`` without fusion.
        grid_size: rows and columns of the tokens, N = rows * columns.
        whole: whether it is all of the picture, or its central square.
        cosines: cosine of z_fuse and z_base at every token, (N,); ``None`` without fusion.
        spectra: energy by band of the detail in ``"original"`` and in every route's picture
            (:mod:`drorae.explorer.spectrum`).
        energies: energy by band of what is wrong in every route's picture.
        components: (L, N, 3) uint8, principal components of all encoder layers as colours.
        texture: (N,) mean gradient of the original in every token's square, 8-bit levels per pixel.
        beta: strength of the correction; ``None`` without one.
        interventions: ``None`` for a model without a router, or where they were not asked for.
        seconds: computing time.
    """

    original: np.ndarray
    pictures: dict[str, np.ndarray]
    metrics: dict[str, dict[str, float]]
    gains: dict[str, Gain]
    weights: np.ndarray | None
    shares: np.ndarray | None
    grid_size: tuple[int, int]
    whole: bool
    cosines: np.ndarray | None
    spectra: dict[str, np.ndarray]
    energies: dict[str, np.ndarray]
    components: np.ndarray
    texture: np.ndarray
    beta: float | None
    interventions: Interventions | None
    seconds: float

    @property
    def num_layers(self) -> int:
        """Number of encoder layers that were routed, 0 without fusion."""
        return 0 if self.weights is None else self.weights.shape[1]

    @property
    def cosine(self) -> float | None:
        """Mean cosine of z_fuse and z_base; ``None`` without fusion."""
        return None if self.cosines is None else float(self.cosines.mean())

    @property
    def texture_correlation(self) -> np.ndarray | None:
        """Coefficient of every layer's share with the texture, (L,); ``None`` without fusion."""
        return None if self.shares is None else correlation(self.shares, self.texture)


@torch.inference_mode()
def explore(
    picture: Image.Image,
    model: AutoencoderDRoRAE,
    interventions: bool = True,
    progress: Painted | None = None,
    size: int | None = None,
    whole: bool = False,
) -> Exploration:
    """Rebuild an RGB picture along every route, say what the router did, and what would happen with other strengths
    and other layers.

    Args:
        picture: as returned by :func:`drorae.images.load_image`.
        model: any :class:`~drorae.models.autoencoder.AutoencoderDRoRAE`; what it lacks is left out of the result.
        interventions: ``False`` leaves them out; they are most of the work.
        progress: called while the interventions are painted.
        size, whole: see :func:`open_picture`.

    Raises:
        ImageError: a size that the model does not work at.
    """
    started = time.perf_counter()
    images = open_picture(picture, model, size, whole)
    grid = model.encoder.grid_of(images)
    layers = model.encoder(images)
    fused = model.fuse(layers, return_routing=True) if model.fusion_module is not None else None
    outputs = paint_routes(model, model.fuse(layers, fusion=False).tokens, fused, grid)
    routing = fused.routing if fused is not None else None
    original = _array(images)
    pictures = {name: _array(output) for name, output in outputs.items()}
    errors = {
        name: np.abs(shown.astype(np.float32) - original.astype(np.float32)).mean(2) for name, shown in pictures.items()
    }
    gains = {
        name: Gain(errors["rae"] - error, float((errors["rae"] > error).mean()), float((errors["rae"] < error).mean()))
        for name, error in errors.items()
        if name != "rae"
    }
    cosines = None
    if routing is not None:
        cosines = torch.cosine_similarity(routing.fused.float(), routing.base.float(), dim=-1)[0].cpu().numpy()
    painted = None
    if interventions and fused is not None and routing is not None and can_intervene(model):
        last = list(outputs.values())[-1]
        usual = next(frames_of(model, fused.tokens, routing.base, last, images, last))
        painted = paint_interventions(model, layers, images, usual, progress)
    return Exploration(
        original=original,
        pictures=pictures,
        metrics={name: measure(output, images) for name, output in outputs.items()},
        gains=gains,
        weights=None if routing is None else routing.weights[0].float().cpu().numpy(),
        shares=None if routing is None else routing.shares[0].float().cpu().numpy(),
        grid_size=grid,
        whole=whole,
        cosines=cosines,
        spectra={name: detail_energies(shown) for name, shown in {"original": original, **pictures}.items()},
        energies={name: error_energies(shown, original) for name, shown in pictures.items()},
        components=shared_components(layers, model.encoder.norm_eps),
        texture=texture_energy(original, grid),
        beta=getattr(model.fusion_module, "beta", None),
        interventions=painted,
        seconds=time.perf_counter() - started,
    )


@torch.inference_mode()
def intervene(
    picture: Image.Image,
    model: AutoencoderDRoRAE,
    intervention: Intervention,
    size: int | None = None,
    whole: bool = False,
) -> Frame:
    """One intervention on an RGB picture; ``size`` and ``whole`` as in :func:`open_picture`.

    Raises:
        InterventionError: it cannot be made, or the model has no router.
        ImageError: a size that the model does not work at.
    """
    images = open_picture(picture, model, size, whole)
    parts = FusionParts(model, model.encoder(images), model.encoder.grid_of(images))
    return next(frames(parts, parts.mix([intervention]), images))


def paint_interventions(
    model: AutoencoderDRoRAE, layers: Sequence[Tensor], images: Tensor, usual: Frame, progress: Painted | None = None
) -> Interventions:
    """All the interventions of :class:`Interventions` on one picture (1, 3, H, W), decoded in batches.

    Args:
        usual: the frame of the trained strength and all layers; it is taken as it is, so that it equals the normal
            reconstruction on any device and at any batch size.
    """
    parts = FusionParts(model, layers, model.encoder.grid_of(images))
    numbers = range(1, model.encoder.num_layers + 1)
    trained = parts.fusion.beta
    betas = strengths(trained)
    wanted = list(itertools.chain(*standard_interventions(len(numbers), trained).values()))
    chunks = [wanted[start : start + BATCH] for start in range(0, len(wanted), BATCH)]
    done: list[Frame] = []
    for tokens in itertools.chain(map(parts.mix, chunks), parts.experts().split(BATCH)):
        done += frames(parts, tokens, images)
        if progress is not None:
            progress(len(done), len(wanted) + len(numbers))
    done.insert(betas.index(trained), usual)
    count = len(numbers)
    removed, alone, experts = (done[len(betas) + i * count :][:count] for i in range(3))
    return Interventions(trained, betas, done[: len(betas)], removed, alone, experts)


def frames(parts: FusionParts, tokens: Tensor, images: Tensor) -> Iterator[Frame]:
    """Paint and measure tokens (b, N, C) on one picture (1, 3, H, W)."""
    yield from frames_of(parts.model, tokens, parts.readout.base, parts.paint(tokens), images, parts.trained)


def frames_of(
    model: AutoencoderDRoRAE, tokens: Tensor, base: Tensor, painted: Tensor, images: Tensor, trained: Tensor
) -> Iterator[Frame]:
    """Measure what was painted, (b, 3, H, W), from tokens (b, N, C); ``trained`` is the picture as trained, (1, 3, H,
    W)."""
    original = _array(images)
    standings = compatibility(model, tokens, base, painted, trained, model.encoder.grid_of(images))
    for i, standing in enumerate(standings):
        output = painted[i : i + 1]
        shown = _array(output)
        yield Frame(shown, measure(output, images), error_energies(shown, original), standing)


def default_size(model: AutoencoderDRoRAE) -> int:
    """The side of the square in pixels that a model works on unless told otherwise."""
    return SIDE if model.config.any_size else model.image_size


def open_picture(
    picture: Image.Image, model: AutoencoderDRoRAE, size: int | None = None, whole: bool = False
) -> Tensor:
    """A picture as the model takes it, (1, 3, H, W) in [0, 1].

    Args:
        size: side of its central square, pixels; ``None`` is ``SIDE`` for models of any size and the model's own side
            for others.
        whole: take all of the picture, with about ``size * size`` pixels, instead of the square.

    Raises:
        ImageError: the model works at one size only, and on squares, or the side is not a multiple of its patch.
    """
    if model.config.any_size:
        size = model.check_size(default_size(model) if size is None else size, ImageError)
        cut = pictures_of.whole(picture, size, model.encoder.patch_size) if whole else pictures_of.square(picture, size)
    else:
        size = model.check_size(size, ImageError)
        if whole:
            raise ImageError("this model works on the central square only, not on whole pictures")
        cut = pictures_of.square(picture, size)
    return pictures_of.to_tensor(cut).unsqueeze(0).to(model.device, model.dtype)


def measure(output: Tensor, images: Tensor) -> dict[str, float]:
    """``psnr``, ``ssim`` and ``mae`` of one picture (1, 3, H, W) against another, on 8-bit values."""
    difference = _array(output).astype(np.float32) - _array(images).astype(np.float32)
    return {
        "psnr": psnr(output, images).item(),
        "ssim": ssim(output, images).item(),
        "mae": float(np.abs(difference).mean()),
    }


def _array(images: Tensor) -> np.ndarray:
    """First picture of a batch as (H, W, 3) uint8."""
    return to_uint8(images[0]).permute(1, 2, 0).cpu().numpy()
