"""A picture that a model has read once, from which everything else is computed when it is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from drorae import images as pictures_of
from drorae.choices import SIDE
from drorae.explorer.compatibility import compatibility
from drorae.explorer.exploration import Exploration, Frame, Gain, Interventions
from drorae.explorer.interventions import FusionParts, Intervention, can_intervene, strengths
from drorae.explorer.layer_maps import shared_components, texture_energy
from drorae.explorer.routes import paint_routes
from drorae.explorer.spectrum import detail_energies, error_energies
from drorae.images import CENTRE, ImageError, Photo, to_uint8
from drorae.metrics import psnr, ssim
from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.models.fusion import FusionOutput

BATCH = 4  # interventions that are mixed and decoded together; between two batches one can stop
Painted = Callable[[int, int], None]  # is told how many interventions are painted, and how many there will be


@dataclass(frozen=True)
class Cut:
    """The part of a photo that a model reads: plain values, small, and decoded.

    Attributes:
        picture: (H, W, 3) uint8.
        size, whole, centre: as they were asked for, see :func:`open_picture`; ``size`` is a number here.
        facts: what was done to the file, see :meth:`drorae.images.Photo.facts`.
    """

    picture: np.ndarray
    size: int
    whole: bool
    centre: tuple[float, ...]
    facts: dict[str, Any]


class Reading:
    """One picture as one model reads it: its encoder runs here, once.

    What is found later is kept: asking again costs nothing. Two threads may use a reading at a time; at worst both
    compute the same.

    Args:
        photo: as returned by :func:`drorae.images.open_photo`; of a plain picture, ``Photo.of(picture)``; or a part
            that was cut for this model.
        model: any :class:`~drorae.models.autoencoder.AutoencoderDRoRAE`.
        size, whole, centre: see :func:`open_picture`; a part that was cut has its own.

    Attributes:
        images: (1, 3, H, W) in [0, 1], fp32, what the model worked on.
        grid_size: rows and columns of the tokens, N = rows * columns.
        layers: the encoder's outputs, (1, N, C) each.
        base: tokens of the normalised last layer, (1, N, C).
        size: side of the square, pixels; where ``whole``, of one with about as many pixels.
        centre: where the square was asked for, see :func:`drorae.images.square`.
        facts: what was done to the file, see :meth:`drorae.images.Photo.facts`.

    Raises:
        ImageError: a size that the model does not work at.
    """

    @torch.inference_mode()
    def __init__(
        self,
        photo: Photo | Cut,
        model: AutoencoderDRoRAE,
        size: int | None = None,
        whole: bool = False,
        centre: Sequence[float] = CENTRE,
    ):
        started = time.perf_counter()
        cut = photo if isinstance(photo, Cut) else cut_photo(photo, model, size, whole, centre)
        self.model, self.size, self.whole, self.centre, self.facts = model, cut.size, cut.whole, cut.centre, cut.facts
        self.images = images_of(cut, model)
        self.grid_size = model.encoder.grid_of(self.images)
        self.layers = model.encoder(self.images)
        self.base = model.fuse(self.layers, fusion=False).tokens
        self._frames: dict[Intervention, Frame] = {}
        self._experts: dict[int, Frame] = {}
        self._seconds = time.perf_counter() - started

    @cached_property
    def fused(self) -> FusionOutput | None:
        """The fused tokens and their routing; ``None`` without fusion."""
        if self.model.fusion_module is None:
            return None
        with torch.inference_mode():
            return self.model.fuse(self.layers, return_routing=True)

    @cached_property
    def parts(self) -> FusionParts:
        """Expert outputs and routing weights, to be mixed in other ways.

        Raises:
            InterventionError: the model has no router.
        """
        with torch.inference_mode():
            parts = FusionParts(self.model, self.layers, self.grid_size)
            *_, parts.trained = self.outputs.values()  # painted once
            return parts

    @cached_property
    def outputs(self) -> dict[str, Tensor]:
        """Route name to its picture, (1, 3, H, W) around [0, 1]."""
        with torch.inference_mode():
            return paint_routes(self.model, self.base, self.fused, self.grid_size)

    @cached_property
    def routes(self) -> Exploration:
        """The picture seen through every route; no interventions."""
        with torch.inference_mode():
            return self._routes()

    def _routes(self) -> Exploration:
        started = time.perf_counter()
        routing = None if self.fused is None else self.fused.routing
        original = as_array(self.images)
        pictures = {name: as_array(output) for name, output in self.outputs.items()}
        errors = {
            name: np.abs(shown.astype(np.float32) - original.astype(np.float32)).mean(2)
            for name, shown in pictures.items()
        }
        lost = errors["rae"]
        gains = {
            name: Gain(lost - error, float((lost > error).mean()), float((lost < error).mean()))
            for name, error in errors.items()
            if name != "rae"
        }
        cosines = None
        if routing is not None:
            cosines = torch.cosine_similarity(routing.fused.float(), routing.base.float(), dim=-1)[0].cpu().numpy()
        return Exploration(
            original=original,
            pictures=pictures,
            metrics={name: picture_metrics(output, self.images) for name, output in self.outputs.items()},
            gains=gains,
            weights=None if routing is None else routing.weights[0].float().cpu().numpy(),
            shares=None if routing is None else routing.shares[0].float().cpu().numpy(),
            grid_size=self.grid_size,
            whole=self.whole,
            cosines=cosines,
            spectra={name: detail_energies(shown) for name, shown in {"original": original, **pictures}.items()},
            energies={name: error_energies(shown, original) for name, shown in pictures.items()},
            components=shared_components(self.layers, self.model.encoder.norm_eps),
            texture=texture_energy(original, self.grid_size),
            beta=getattr(self.model.fusion_module, "beta", None),
            interventions=None,
            seconds=self._seconds + time.perf_counter() - started,
        )

    @torch.inference_mode()
    def tiles(self, progress: Painted | None = None) -> list[Frame]:
        """The frame of every layer's expert output in place of the sum, (L,): what the layer can paint.

        Args:
            progress: called with (painted, all) after every few; what it raises ends the painting, and what is painted
                stays.

        Raises:
            InterventionError: the model has no router.
        """
        numbers = range(1, self.parts.num_layers + 1)
        for _ in self._paint_experts():
            if progress is not None:
                progress(len(self._experts), len(numbers))
        return [self._experts[number] for number in numbers]

    @torch.inference_mode()
    def interventions(self) -> Iterator[Interventions]:
        """What is painted already, and then again after every few more: strengths, layers removed, layers alone,
        experts. The last one is complete.

        A caller that needs no more just stops asking; what is painted stays.

        Raises:
            InterventionError: the model has no router.
        """
        numbers = range(1, self.parts.num_layers + 1)
        trained = self.parts.fusion.beta
        betas = strengths(trained)
        wanted = (
            [Intervention(beta=beta) for beta in betas],
            [Intervention(layers=tuple(n for n in numbers if n != layer)) for layer in numbers],
            [Intervention(layers=(layer,)) for layer in numbers],
        )
        # taken as it is, so that it equals the normal reconstruction on any device and at any batch size
        self._frames[Intervention(beta=trained)] = self.usual

        def current_frames() -> Interventions:
            painted, removed, alone = (_first_known(self._frames, each) for each in wanted)
            experts = _first_known(self._experts, numbers)
            return Interventions(len(numbers), trained, betas, painted, removed, alone, experts)

        yield current_frames()
        missing = [each for every in wanted for each in every if each not in self._frames]
        for start in range(0, len(missing), BATCH):
            some = missing[start : start + BATCH]
            painted = frames(self.parts, self.parts.mix(some), self.images)
            self._frames |= zip(some, painted, strict=True)
            yield current_frames()
        for _ in self._paint_experts():
            yield current_frames()

    def _paint_experts(self) -> Iterator[None]:
        """Paint the experts that are not painted yet; pauses after every few."""
        missing = [n for n in range(1, self.parts.num_layers + 1) if n not in self._experts]
        if not missing:
            return
        tokens = self.parts.experts()
        for start in range(0, len(missing), BATCH):
            some = missing[start : start + BATCH]
            painted = frames(self.parts, tokens[[n - 1 for n in some]], self.images)
            self._experts |= zip(some, painted, strict=True)
            yield

    @cached_property
    def usual(self) -> Frame:
        """The frame of the trained strength and all layers: the picture of the last route.

        Raises:
            InterventionError: the model has no router.
        """
        with torch.inference_mode():
            parts = self.parts
            assert self.fused is not None  # the parts are there only with a fusion
            return next(_measure(parts, self.fused.tokens, parts.trained, self.images))

    @torch.inference_mode()
    def intervene(self, intervention: Intervention) -> Frame:
        """One intervention.

        Raises:
            InterventionError: it cannot be made, or the model has no router.
        """
        return next(frames(self.parts, self.parts.mix([intervention]), self.images))

    def can_intervene(self) -> bool:
        """Whether the model has a router."""
        return can_intervene(self.model)

    @property
    def nbytes(self) -> int:
        """Memory of all that was read and found so far; the model is not counted."""
        here = self.__dict__  # what was not asked for is not there
        tensors = [self.images, self.base, *self.layers, *here.get("outputs", {}).values()]
        fused = here.get("fused")
        if fused is not None:
            tensors += [fused.tokens, *fused.routing]
        if "parts" in here:
            tensors += self.parts.readout
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
        arrays = [frame.picture for found in (self._frames, self._experts) for frame in [*found.values()]]
        if "routes" in here:
            found = self.routes
            arrays += [found.original, found.components, *found.pictures.values()]
            arrays += [gain.map for gain in found.gains.values()]
        return sum(storages.values()) + sum(array.nbytes for array in arrays)


def _first_known(found: dict[Any, Frame], wanted: Sequence[Any]) -> list[Frame]:
    """The frames up to the first that is missing."""
    known = []
    for each in wanted:
        if each not in found:
            break
        known.append(found[each])
    return known


def frames(parts: FusionParts, tokens: Tensor, images: Tensor) -> Iterator[Frame]:
    """Paint and measure tokens (b, N, C) on one picture (1, 3, H, W)."""
    yield from _measure(parts, tokens, parts.paint(tokens), images)


def _measure(parts: FusionParts, tokens: Tensor, painted: Tensor, images: Tensor) -> Iterator[Frame]:
    """Measure what was painted, (b, 3, H, W), from tokens (b, N, C)."""
    original = as_array(images)
    grid = parts.model.encoder.grid_of(images)
    for i, standing in enumerate(compatibility(parts.model, tokens, parts.readout.base, painted, parts.trained, grid)):
        output = painted[i : i + 1]
        shown = as_array(output)
        yield Frame(shown, picture_metrics(output, images), error_energies(shown, original), standing)


def default_size(model: AutoencoderDRoRAE) -> int:
    """The side of the square in pixels that a model works on unless told otherwise."""
    return SIDE if model.config.any_size else model.image_size


def check_size(model: AutoencoderDRoRAE, size: int | None = None, whole: bool = False) -> int:
    """The side in pixels that pictures are opened at, see :func:`open_picture`.

    Raises:
        ImageError: the model does not work at that size, or not on whole pictures.
    """
    if whole and not model.config.any_size:
        raise ImageError("this model works on squares only, not on whole pictures")
    return model.check_size(default_size(model) if size is None else size, ImageError)


def cut_photo(
    photo: Photo,
    model: AutoencoderDRoRAE,
    size: int | None = None,
    whole: bool = False,
    centre: Sequence[float] = CENTRE,
) -> Cut:
    """The part of a photo that a model reads; no network runs.

    Args:
        size, whole, centre: see :func:`open_picture`.

    Raises:
        ImageError: as :func:`open_picture` does.
    """
    size = check_size(model, size, whole)
    shown = np.array(_cut(photo.picture, model, size, whole, centre).convert("RGB"))
    height, width, _ = shown.shape
    return Cut(shown, size, whole, tuple(centre), photo.facts(width, height, whole, centre))


def images_of(cut: Cut, model: AutoencoderDRoRAE) -> Tensor:
    """A part of a photo as a model takes it, see :func:`open_picture`."""
    return pictures_of.to_tensor(Image.fromarray(cut.picture)).unsqueeze(0).to(model.device)


def open_picture(
    picture: Image.Image,
    model: AutoencoderDRoRAE,
    size: int | None = None,
    whole: bool = False,
    centre: Sequence[float] = CENTRE,
) -> Tensor:
    """A picture as the model takes it, (1, 3, H, W) in [0, 1], fp32 whatever the model computes in.

    Args:
        size: side of its square, pixels; ``None`` is ``SIDE`` for models of any size and the model's own side for
            others.
        whole: take all of the picture, with about ``size * size`` pixels, instead of the square.
        centre: where the square lies, see :func:`drorae.images.square`.

    Raises:
        ImageError: the model works at one size only, and on squares, or the side is not a multiple of its patch; the
            centre is not one; the picture is too long to be taken whole.
    """
    cut = _cut(picture, model, check_size(model, size, whole), whole, centre)
    return pictures_of.to_tensor(cut).unsqueeze(0).to(model.device)


def _cut(
    picture: Image.Image, model: AutoencoderDRoRAE, size: int, whole: bool, centre: Sequence[float]
) -> Image.Image:
    if whole:
        return pictures_of.whole_picture(picture, size, model.encoder.patch_size)
    return pictures_of.square(picture, size, centre)


def picture_metrics(output: Tensor, images: Tensor) -> dict[str, float]:
    """``psnr``, ``ssim`` and ``mae`` of one picture (1, 3, H, W) against another, on 8-bit values."""
    difference = as_array(output).astype(np.float32) - as_array(images).astype(np.float32)
    return {
        "psnr": psnr(output, images).item(),
        "ssim": ssim(output, images).item(),
        "mae": float(np.abs(difference).mean()),
    }


def as_array(images: Tensor) -> np.ndarray:
    """First picture of a batch as (H, W, 3) uint8."""
    return to_uint8(images[0]).permute(1, 2, 0).cpu().numpy()
