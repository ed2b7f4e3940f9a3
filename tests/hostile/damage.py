"""Small pictures of eight formats, and twenty-two ways of damaging any file."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, features

HAS_AVIF = bool(features.check("avif"))  # Pillow before 11.3 has not
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "TIFF", "GIF", *(["AVIF"] if HAS_AVIF else []))


def small_picture(kind: str, seed: int = 0) -> bytes:
    """A file of 40 x 32 pixels, with EXIF where the format has it."""
    values = np.random.default_rng(seed).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    picture = Image.fromarray(values).resize((40, 32), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[274], exif[270] = 6, "description"
    options: dict = {} if kind in ("GIF", "BMP") else {"exif": exif}
    if kind == "MPO":
        options |= {"save_all": True, "append_images": [picture]}
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def _place(data: bytes, rng: np.random.Generator, spare: int = 1) -> int:
    return int(rng.integers(0, max(1, len(data) - spare)))


def _written(data: bytes, place: int, new: bytes) -> bytes:
    return (data[:place] + new + data[place + len(new) :])[: len(data)]


def _changed(data: bytes, rng: np.random.Generator) -> bytes:
    for _ in range(3):
        data = _written(data, _place(data, rng), bytes([rng.integers(256)]))
    return data


def _flipped(data: bytes, rng: np.random.Generator) -> bytes:
    for place in rng.integers(0, len(data), 8):
        data = _written(data, int(place), bytes([data[place] ^ 1 << int(rng.integers(8))]))
    return data


def _header_changed(data: bytes, rng: np.random.Generator) -> bytes:
    return _changed(data[:80], rng) + data[80:]


def _moved(data: bytes, rng: np.random.Generator) -> bytes:
    first, second = sorted((_place(data, rng), _place(data, rng)))
    return data[:first] + data[second:] + data[first:second]


def _repeated(data: bytes, rng: np.random.Generator) -> bytes:
    place = _place(data, rng, 40)
    return data[:place] + data[place : place + 40] * 20 + data[place + 40 :]


def _other(data: bytes, rng: np.random.Generator) -> bytes:
    return small_picture(FORMATS[int(rng.integers(len(FORMATS)))], 1)


DAMAGES: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "cut in the header": lambda data, rng: data[: 4 + _place(data[:60], rng)],
    "cut anywhere": lambda data, rng: data[: _place(data, rng)],
    "last bytes missing": lambda data, rng: data[: -1 - int(rng.integers(8))],
    "bytes changed": _changed,
    "header changed": _header_changed,
    "bits flipped": _flipped,
    "zeros": lambda data, rng: _written(data, _place(data, rng, 24), bytes(24)),
    "ones": lambda data, rng: _written(data, _place(data, rng, 8), b"\xff" * 8),
    "largest length": lambda data, rng: _written(data, _place(data, rng, 4) // 4 * 4, b"\xff\xff\xff\xff"),
    "largest positive length": lambda data, rng: _written(data, _place(data, rng, 4) // 4 * 4, b"\x7f\xff\xff\xff"),
    "noise": lambda data, rng: _written(data, _place(data, rng, 64), rng.bytes(64)),
    "bytes inserted": lambda data, rng: data[: (place := _place(data, rng))] + rng.bytes(5) + data[place:],
    "bytes missing": lambda data, rng: data[: (place := _place(data, rng, 6))] + data[place + 6 :],
    "a part twenty times": _repeated,
    "parts in another order": _moved,
    "garbage after": lambda data, rng: data + rng.bytes(2000),
    "garbage before": lambda data, rng: rng.bytes(3) + data,
    "start of another format": lambda data, rng: _other(data, rng)[:12] + data[12:],
    "another picture after": lambda data, rng: data + _other(data, rng),
    "only a start and noise": lambda data, rng: data[:30] + rng.bytes(4000),
    "line ends translated": lambda data, rng: data.replace(b"\n", b"\r\n"),
    "only letters kept": lambda data, rng: bytes(byte for byte in data if byte < 128),
}
