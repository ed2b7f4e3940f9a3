"""The only place that turns files, PIL pictures and arrays into tensors, and tensors back into pictures."""

from drorae.images.crops import CENTRE, crop_box, square, whole_picture
from drorae.images.errors import ImageError
from drorae.images.opening import decode, load_image, open_photo
from drorae.images.photo import Photo
from drorae.images.png import png_settings, png_with_settings
from drorae.images.tensors import to_pil, to_tensor, to_uint8

__all__ = [
    "CENTRE",
    "ImageError",
    "Photo",
    "crop_box",
    "decode",
    "load_image",
    "open_photo",
    "png_settings",
    "png_with_settings",
    "square",
    "to_pil",
    "to_tensor",
    "to_uint8",
    "whole_picture",
]
