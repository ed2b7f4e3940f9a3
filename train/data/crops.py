"""How pictures are cut to squares, for training and for measuring."""

from __future__ import annotations

import random
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from drorae.images import square, to_tensor


class Crop(NamedTuple):
    """How a training picture is cut: shorter side resized to ``resize`` pixels (when not ``None``), then a random
    square of ``scale`` times the shorter side, resized to the training size but never enlarged while the picture has
    a larger square; mirrored half of the time if ``flip``. ``centre`` takes the central square, as ADM does, instead.
    """

    resize: int | None
    scale: tuple[float, float]
    flip: bool
    centre: bool = False


def cut(picture: Image.Image, size: int, crop: Crop, seed: int, position: int) -> Tensor:
    """Random crop and flip of position ``position``, as a tensor (3, size, size) in [0, 1]."""
    if crop.resize is not None:
        factor = crop.resize / min(picture.size)
        target = [max(crop.resize, round(side * factor)) for side in picture.size]
        picture = picture.resize(target, Image.Resampling.BICUBIC)
    if crop.centre:
        image = to_tensor(adm_square(picture, size))
        return image.flip(-1) if crop.flip and is_mirrored(seed, position) else image
    return to_tensor(random_crop(picture, size, crop.scale, crop.flip, random.Random(f"{seed}-{position}")))


def is_mirrored(seed: int, position: int) -> bool:
    """Whether the central square at this position of the run is mirrored."""
    return random.Random(f"mirror-{seed}-{position}").random() < 0.5


def random_crop(
    picture: Image.Image, size: int, scale: tuple[float, float], flip: bool, rng: random.Random
) -> Image.Image:
    """Random square crop, resized to ``size`` where it is not that large already, mirrored half of the time."""
    shorter = min(picture.size)
    smallest = min(1.0, size / shorter)  # a smaller square would only be enlarged
    side = shorter * rng.uniform(max(scale[0], smallest), max(scale[1], smallest))
    left = rng.uniform(0, picture.width - side)
    top = rng.uniform(0, picture.height - side)
    if round(side) == size:
        left, top = round(left), round(top)
        crop = picture.crop((left, top, left + size, top + size))
    else:
        crop = picture.resize((size, size), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip and rng.random() < 0.5 else crop


def adm_square(picture: Image.Image, size: int) -> Image.Image:
    """The centre crop of ADM (arXiv 2105.05233), which ImageNet's FID statistics were made with: halve by boxes while
    the shorter side is at least twice ``size``, resize it to ``size`` (bicubic), cut the centre."""
    while min(picture.size) >= 2 * size:
        picture = picture.resize(tuple(side // 2 for side in picture.size), Image.Resampling.BOX)
    scale = size / min(picture.size)
    picture = picture.resize(tuple(round(side * scale) for side in picture.size), Image.Resampling.BICUBIC)
    left, top = ((side - size) // 2 for side in picture.size)
    return picture.crop((left, top, left + size, top + size))


CROPS = {"square": square, "adm": adm_square}


def crop_squares(images: Tensor, corners: Tensor, side: int) -> Tensor:
    """The square of every image (B, C, H, W) whose upper left corner is ``corners`` (B, 2), row and column: (B, C,
    side, side). All at once, and differentiable."""
    steps = torch.arange(side, device=images.device)
    rows, columns = (corners[:, axis, None] + steps for axis in (0, 1))
    count, channels, _, width = images.shape
    strip = images.gather(2, rows[:, None, :, None].expand(count, channels, side, width))
    return strip.gather(3, columns[:, None, None, :].expand(count, channels, side, side))


def resize(image: Tensor, side: int) -> Tensor:
    """An image (3, H, H) in [0, 1] at another side."""
    return F.interpolate(image[None], (side, side), mode="bicubic", antialias=True)[0].clamp(0, 1)
