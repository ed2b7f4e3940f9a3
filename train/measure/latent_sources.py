"""The latents of any tokenizer: those of this project by route, others as their encoder gives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from drorae import AutoencoderDRoRAE
from drorae.errors import count_of
from drorae.explorer.tokenizers import encode_pictures
from drorae.models.fusion import MeanFusion
from drorae.pretrained.autoencoders import load_autoencoder
from train.data.held_out import ValidationPhotos
from train.errors import DataError
from train.measure.probe import LabelledLatents

LAST, FUSED, ONLY = "last layer", "fused", ""  # routes; a tokenizer for pixels has one, without a name
DEFAULT_SIZE = 256  # of pictures for tokenizers that have none of their own, pixels


class LatentSource(NamedTuple):
    """A tokenizer as far as its latents go.

    Attributes:
        name: it was asked for by.
        size: side of the pictures it is given, pixels.
        encode: images (B, 3, size, size) in [0, 1] to its latents by route, (B, C, h, w) each, not normalised.
    """

    name: str
    size: int
    encode: Callable[[Tensor], dict[str, Tensor]]


def load_sources(
    names: Sequence[str], means: Sequence[int] = (), size: int | None = None, device: torch.device | str = "cpu"
) -> list[LatentSource]:
    """Tokenizers by folder, bundled name (``taef2``) or Hub id.

    Those of this project have the routes ``last layer``, ``fused`` where there is a fusion, and ``mean of K`` for each
    of ``means``, the last K layers.

    Args:
        size: side of the pictures; when ``None``, that of each tokenizer of this project, and for others that of the
            first of those, so that they can be compared on the same pictures.

    Raises:
        CheckpointError: what :func:`~drorae.pretrained.autoencoders.load_autoencoder` raises.
        DataError: a size that a tokenizer does not work at, or more layers than its encoder has.
    """
    models = {name: load_autoencoder(name).model.to(device).requires_grad_(False) for name in names}
    ours = [model for model in models.values() if isinstance(model, AutoencoderDRoRAE)]
    usual = size or (ours[0].image_size if ours else DEFAULT_SIZE)
    found = []
    for name, model in models.items():
        if isinstance(model, AutoencoderDRoRAE):
            try:
                side = model.check_size(size, DataError)
            except DataError as error:
                raise DataError(f"--size {size}: '{name}': {error}.") from error
            found.append(LatentSource(name, side, routes_of(model, name, means)))
        else:
            found.append(LatentSource(name, usual, _only_route(encode_pictures(model, name))))
    return found


def routes_of(model: AutoencoderDRoRAE, name: str, means: Sequence[int]) -> Callable[[Tensor], dict[str, Tensor]]:
    """All routes of a model of this project, from one pass through its encoder.

    Raises:
        DataError: a mean of more layers than there are.
    """
    count = model.encoder.num_layers
    for layers in means:
        if layers > count:
            raise DataError(f"--mean-layers {layers}: '{name}' has {count_of(count, 'layer')}; use {count} at most.")
    mixers = {f"mean of {layers}": MeanFusion(count, layers, model.encoder.norm_eps) for layers in means}

    @torch.inference_mode()
    def encode(images: Tensor) -> dict[str, Tensor]:
        images = images.to(model.device, model.dtype)
        layers, grid = model.encoder(images), model.encoder.grid_of(images)
        tokens = {LAST: model.fuse(layers, fusion=False).tokens}
        if model.fusion_module is not None:
            tokens[FUSED] = model.fuse(layers).tokens
        tokens |= {route: mixer(layers).tokens for route, mixer in mixers.items()}
        return {route: value.mT.unflatten(2, grid) for route, value in tokens.items()}

    return encode


def _only_route(encode: Callable[[Tensor], Tensor]) -> Callable[[Tensor], dict[str, Tensor]]:
    def route(images: Tensor) -> dict[str, Tensor]:
        latent = encode(images)
        return {ONLY: latent[:, :, 0] if latent.ndim == 5 else latent}

    return route


def encode_photos(source: LatentSource, photos: ValidationPhotos, batch_size: int = 32) -> dict[str, LabelledLatents]:
    """Latents of all photos that can be read, by route, with their classes, on the CPU in fp32.

    Raises:
        DataError: the photos have no class numbers.
    """
    found: dict[str, list[Tensor]] = {}
    with tqdm(total=photos.count, desc=f"latents of {source.name}") as bar:
        for images in photos.batches(batch_size):
            for route, latents in source.encode(images).items():
                found.setdefault(route, []).append(latents.float().cpu())
            bar.update(len(images))
    labels = photos.labels()
    if labels is None or (labels < 0).any():
        raise DataError(
            "VIV, neighbours and the probe need the class of every photo, and here some have none; give photos in "
            "folders of their classes, or a data set with class numbers."
        )
    return {route: LabelledLatents(torch.cat(parts), labels) for route, parts in found.items()}
