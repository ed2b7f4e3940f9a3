"""One picture through several tokenizers: the same crop, the same numbers, and how much each of them stores."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import VQModel
from torch import Tensor, nn

from drorae.checkpoints import CheckpointError, local_folder
from drorae.errors import count_of, reason_of
from drorae.explorer.exploration import Exploration
from drorae.explorer.reading import picture_metrics
from drorae.explorer.routes import ROUTES
from drorae.images import to_uint8
from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.models.decoder import decode_tokens
from drorae.models.fusion import MeanFusion
from drorae.pretrained.autoencoders import load_autoencoder, split_subfolder
from drorae.pretrained.mean_decoder import load_mean_decoders
from drorae.pretrained.taef2 import AutoencoderTAEF2

VISION, PIXELS = "vision, frozen", "pixels only"  # what the encoder was made for
OWN, OF_RAE = "its own", "that of RAE"  # the decoder: trained on this latent, or on the last layer's
MEAN = re.compile(r"mean-(\d+)")
CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)


class RoundTrip(NamedTuple):
    """What a tokenizer makes of pictures.

    Attributes:
        pictures: (B, 3, H, W) around [0, 1].
        latent: rows, columns and channels of the latent of one picture.
        stored: numbers in that latent; with a codebook one code a position.
    """

    pictures: Tensor
    latent: tuple[int, int, int]
    stored: int


Rebuild = Callable[[Tensor], RoundTrip]


@dataclass(frozen=True)
class TokenizerFacts:
    """What a tokenizer is, whatever the picture.

    Attributes:
        id: what it was asked for by; the route's name for a route of the model that is explored.
        title: its name for people.
        encoder: ``"vision, frozen"`` or ``"pixels only"``.
        decoder: ``"its own"``, trained on this latent, or ``"that of RAE"``, trained on the last layer's.
        licence: as its model card states it, in the Hub's words (``"mit"``); ``None`` where it states none.
    """

    id: str
    title: str
    encoder: str
    decoder: str
    licence: str | None


@dataclass(frozen=True)
class PictureTokenizer(TokenizerFacts):
    """A tokenizer that is ready to rebuild pictures.

    Attributes:
        rebuild: images (B, 3, H, W) in [0, 1], on any device, to their :class:`RoundTrip`; it raises a
            ``CheckpointError`` where the tokenizer does not work at their size. The same picture comes back the same
            each time: a latent distribution gives its mode.
    """

    rebuild: Rebuild


@dataclass(frozen=True)
class TokenizerColumn(TokenizerFacts):
    """One picture through one tokenizer.

    Attributes:
        picture: (H, W, 3) uint8.
        metrics: ``psnr`` (dB), ``ssim`` and ``mae`` (8-bit levels) against the original.
        latent, stored: see :class:`RoundTrip`.
    """

    picture: np.ndarray
    metrics: dict[str, float]
    latent: tuple[int, int, int]
    stored: int

    @property
    def ratio(self) -> float:
        """How many times as many numbers the pixels are, 3 H W over ``stored``."""
        return self.picture.size / self.stored


def load_picture_tokenizer(name: str, device: str | torch.device = "cpu") -> PictureTokenizer:
    """A tokenizer by folder, bundled name (``taef2``) or Hub id, as
    :func:`~drorae.pretrained.autoencoders.load_autoencoder` takes it.

    Raises:
        CheckpointError: it cannot be reached, is not an autoencoder of pictures, or cannot be loaded.
    """
    model, licence = load_autoencoder(name)
    model.to(device)
    if isinstance(model, AutoencoderDRoRAE):
        return own_tokenizer(model, name, licence)
    title = "TAEF2" if isinstance(model, AutoencoderTAEF2) else _title(name)
    return PictureTokenizer(name, title, PIXELS, OWN, licence, _rebuild_of(model, name))


def find_tokenizer(name: str, model: AutoencoderDRoRAE, licence: str | None = None) -> PictureTokenizer:
    """What a person asked for by name: ``mean-K``, the mean of the last K layers of ``model``, whose card states
    ``licence``, or what :func:`load_picture_tokenizer` loads, on the device of ``model``.

    Raises:
        CheckpointError: there is no such tokenizer, in one sentence.
    """
    found = MEAN.fullmatch(name)
    if found is None or local_folder(name) is not None:  # a folder may be called so
        return load_picture_tokenizer(name, model.device)
    return mean_tokenizer(model, int(found[1]), licence)


def own_tokenizer(model: AutoencoderDRoRAE, name: str, licence: str | None = None) -> PictureTokenizer:
    """A tokenizer of this package, or a published RAE, with every part that it has."""
    fusion, title = model.fusion_module, _title(name)
    of_mean = isinstance(fusion, MeanFusion) and model.config.base_model is None  # then the decoder learned that mean
    decoder = OWN if fusion is None or of_mean or model.decoder_finetuned is not None else OF_RAE
    if isinstance(fusion, MeanFusion):
        title = _mean_title(fusion.last, decoder)

    def rebuild(images: Tensor) -> RoundTrip:
        latent = model.encode(images).latent
        return _round_trip(model.decode(latent).sample, latent)

    return PictureTokenizer(name, title, VISION, decoder, licence, _careful_own(rebuild, model, name))


def mean_tokenizer(model: AutoencoderDRoRAE, last: int, licence: str | None = None) -> PictureTokenizer:
    """The mean of a model's last K layers through the decoder that was trained for it, where one lies beside the model
    (:mod:`drorae.pretrained.mean_decoder`), else through the original one, which was trained on the last layer alone.

    Its id is ``mean-K``.

    Raises:
        CheckpointError: the encoder has fewer layers, or the decoder is another encoder's.
    """
    name, count = f"mean-{last}", model.encoder.num_layers
    if not 1 <= last <= count:
        raise CheckpointError(
            f"There is no '{name}': the encoder has {count_of(count, 'layer')}; use mean-1 to mean-{count}."
        )
    mean = MeanFusion(count, last, model.encoder.norm_eps)
    trained = load_mean_decoders(model, last)
    network, decoder = (model.decoder, OF_RAE) if trained is None else (trained.own, OWN)

    def rebuild(images: Tensor) -> RoundTrip:
        tokens, grid = mean(model.encoder(images)).tokens, model.encoder.grid_of(images)
        pictures = decode_tokens(network, tokens, model.encoder.mean, model.encoder.std, grid)
        return _round_trip(pictures, model.tokens_to_latent(tokens, grid))

    title = _mean_title(last, decoder)
    return PictureTokenizer(name, title, VISION, decoder, licence, _careful_own(rebuild, model, name))


def measure_tokenizer(images: Tensor, tokenizer: PictureTokenizer) -> TokenizerColumn:
    """One picture (1, 3, H, W) in [0, 1] through a tokenizer.

    Raises:
        CheckpointError: the tokenizer does not work at that size.
    """
    pictures, latent, stored = tokenizer.rebuild(images)
    shown = to_uint8(pictures[0]).permute(1, 2, 0).cpu().numpy()
    return _column(tokenizer, shown, picture_metrics(pictures, images.to(pictures.device)), latent, stored)


def route_columns(result: Exploration, model: AutoencoderDRoRAE, licence: str | None = None) -> list[TokenizerColumn]:
    """The routes ``rae`` and ``drorae`` (``phase2`` where there is no finetuned decoder) of a picture that was
    explored. Nothing is computed again."""
    latent = (*result.grid_size, model.encoder.dim)
    routes = [route for route in ROUTES if route.name in result.pictures]
    found = []
    for route in dict.fromkeys((routes[0], routes[-1])):
        decoder = OF_RAE if route.fused and route.decoder == "original" else OWN
        facts = TokenizerFacts(route.name, route.title, VISION, decoder, licence)
        found.append(_column(facts, result.pictures[route.name], result.metrics[route.name], latent, math.prod(latent)))
    return found


def _column(
    facts: TokenizerFacts,
    picture: np.ndarray,
    metrics: dict[str, float],
    latent: tuple[int, int, int],
    stored: int,
) -> TokenizerColumn:
    about = (facts.id, facts.title, facts.encoder, facts.decoder, facts.licence)
    return TokenizerColumn(*about, picture, metrics, latent, stored)


def _title(name: str) -> str:
    """The last part of a folder or Hub id, with the folder in it where that is not the usual ``vae``."""
    place, subfolder = split_subfolder(name)
    last = Path(place.rstrip("/\\")).name.partition("@")[0] or place
    return last if subfolder in ("", "vae") else f"{last}: {subfolder}"


def _mean_title(last: int, decoder: str) -> str:
    return f"Mean of {last} layers, {'own decoder' if decoder == OWN else 'decoder of RAE'}"


def encode_pictures(model: nn.Module, name: str) -> Callable[[Tensor], Tensor]:
    """A function from images (B, 3, H, W) in [0, 1] to the latents of a diffusers autoencoder called ``name``.

    They are (B, C, h, w), or (B, C, 1, h, w) of one that takes clips, for which pictures are clips of one frame; of a
    distribution the mode. The function raises a ``CheckpointError`` where the autoencoder does not work at their size.
    """
    first = next(module for module in model.modules() if isinstance(module, CONVOLUTIONS))
    clips = isinstance(first, nn.Conv3d)

    @torch.inference_mode()
    def encode(images: Tensor) -> Tensor:
        images = images.to(model.device, model.dtype)
        with _one_sentence(model, name, images):
            return _latent(model.encode((images[:, :, None] if clips else images) * 2 - 1))

    return encode


@contextmanager
def _one_sentence(model: nn.Module, name: str, images: Tensor) -> Iterator[None]:
    """Whatever goes wrong in an autoencoder at the size of some images, as a ``CheckpointError``."""
    try:
        yield
    except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        height, width = images.shape[-2:]
        raise CheckpointError(_unfit(name, height, width, _factor(model), reason_of(error))) from error


def _rebuild_of(model: nn.Module, name: str) -> Rebuild:
    """The round trip through an autoencoder of diffusers, which takes and gives [-1, 1]."""
    encode = encode_pictures(model, name)

    @torch.inference_mode()
    def rebuild(images: Tensor) -> RoundTrip:
        height, width = images.shape[-2:]
        images = images.to(model.device, model.dtype)
        with torch.random.fork_rng([images.device] if images.is_cuda else []):  # some decoders draw noise
            torch.manual_seed(0)
            latent = encode(images)
            with _one_sentence(model, name, images):
                pictures = model.decode(latent).sample / 2 + 0.5
        pictures, latent = (part[:, :, 0] if part.ndim == 5 else part for part in (pictures, latent))
        if pictures.shape != images.shape:
            factor = _factor(model) or round(height / latent.shape[-2])
            found = " x ".join(map(str, reversed(pictures.shape[1:])))
            raise CheckpointError(_unfit(name, height, width, factor, f"it gives back {found}"))
        trip = _round_trip(pictures, latent)
        return trip._replace(stored=math.prod(trip.latent[:2])) if isinstance(model, VQModel) else trip

    return rebuild


def _careful_own(rebuild: Rebuild, model: AutoencoderDRoRAE, name: str) -> Rebuild:
    """The same, with one sentence for pictures of a size that a model of this package does not rebuild."""

    @torch.inference_mode()
    def rebuild_checked(images: Tensor) -> RoundTrip:
        height, width = images.shape[-2:]
        side = model.image_size
        if not model.config.any_size and (height, width) != (side, side):
            raise CheckpointError(f"'{name}' works at {side} x {side} pixels only, not at {width} x {height}.")
        if model.config.any_size and (height % model.encoder.patch_size or width % model.encoder.patch_size):
            raise CheckpointError(_unfit(name, height, width, model.encoder.patch_size, ""))
        return rebuild(images.to(model.device))

    return rebuild_checked


def _unfit(name: str, height: int, width: int, factor: int | None, reason: str) -> str:
    if factor and (height % factor or width % factor):
        return f"'{name}' takes sides that are multiples of {factor} pixels, not {width} x {height}; use another size."
    return f"'{name}' cannot rebuild {width} x {height} pixels ({reason}); use another size or another model."


def _factor(model: nn.Module) -> int | None:
    """How many pixels of a side one position of the latent stands for; ``None`` where the model does not say."""
    stated = getattr(model, "spatial_compression_ratio", None)
    names = ("encoder_block_out_channels", "down_block_out_channels", "block_out_channels")
    blocks = next((model.config[name] for name in names if model.config.get(name)), None)
    return int(stated) if stated else 2 ** (len(blocks) - 1) if blocks else None


def _latent(encoded: Any) -> Tensor:
    """The latent in what diffusers' autoencoders call by three names: the mode of a distribution, or the values."""
    if hasattr(encoded, "latent_dist"):
        return encoded.latent_dist.mode()
    return encoded.latents if hasattr(encoded, "latents") else encoded.latent


def _round_trip(pictures: Tensor, latent: Tensor) -> RoundTrip:
    channels, rows, columns = latent.shape[1:]
    return RoundTrip(pictures, (rows, columns, channels), rows * columns * channels)
