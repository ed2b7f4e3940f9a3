"""Small files that would take long, or much memory, to decode."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from tests.hostile.damage import HAS_AVIF

FLAT = Image.new("RGB", (64, 48), (200, 100, 50))
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*between: bytes, size: tuple[int, int] = (64, 48), bits: int = 8, colour: int = 2, data: bytes | None = None,
        interlaced: bool = False) -> bytes:  # fmt: skip
    """A black PNG with chunks between its header and its pixels."""
    width, height = size
    row = 1 + width * bits * {0: 1, 2: 3, 4: 2, 6: 4}[colour] // 8
    # interlaced rows are fewer bytes and more of them; what is too much is left over
    data = zlib.compress(bytes(row * height + (8 * height if interlaced else 0)), 9) if data is None else data
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    return b"".join([SIGNATURE, chunk(b"IHDR", header), *between, chunk(b"IDAT", data), chunk(b"IEND", b"")])


def tags(count: int, length: int, first: int = 0x8000) -> bytes:
    """EXIF of many tags that all name the same bytes."""
    entries = b"".join(struct.pack("<HHII", first + i, 7, length, 8) for i in range(count))
    return (b"II*\0" + struct.pack("<IH", 8, count) + entries + bytes(4)).ljust(length + 8, b"\0")


def segment(marker: int, body: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def jpeg(*segments: bytes, **options: Any) -> bytes:
    data = saved(FLAT, "JPEG", **options)
    return data[:2] + b"".join(segments) + data[2:]


def scans(count: int, size: tuple[int, int]) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = saved(Image.new("RGB", size, (200, 100, 50)), "JPEG", progressive=True)
    place = data.rindex(b"\xff\xda")
    return data[:place] + data[place:-2] * count + data[-2:]


def noisy_scans(count: int, size: tuple[int, int]) -> bytes:
    """The same with correction bits for every coefficient."""
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    data = saved(Image.fromarray(values), "JPEG", progressive=True, quality=90)
    place = data.rindex(b"\xff\xda")
    return data[:place] + data[place:-2] * count + data[-2:]


def icc(length: int) -> list[bytes]:
    parts = [bytes(65_000)] * (length // 65_000)
    return [segment(0xE2, b"ICC_PROFILE\0" + bytes([i + 1, len(parts)]) + part) for i, part in enumerate(parts)]


def deflated_nothing(count: int, content: bytes = b"") -> bytes:
    """A zlib stream of blocks that each define their codes anew, and hold nothing; then one with some content."""
    # codes of lengths 1, 2, ... for the end of the block and one literal: 3 + 14 + 19 * 3 bits and a few more
    bits = [0, 0, 1]
    lengths = {18: 1, 1: 2, 0: 2}
    order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]

    def put(value: int, count: int) -> None:
        bits.extend(value >> i & 1 for i in range(count))

    put(0, 5), put(0, 5), put(14, 4)
    for symbol in order[:18]:
        put(lengths.get(symbol, 0), 3)
    code = {18: (0,), 0: (1, 0), 1: (1, 1)}
    for symbol, extra in ((1, None), (18, 127), (18, 106), (1, None), (1, None)):
        bits.extend(code[symbol])
        if extra is not None:
            put(extra, 7)
    bits.append(1)  # the end of the block
    while len(bits) % 8:  # an empty stored block would pad; repeating eight times does, too
        bits = bits * 8
    block = np.packbits(np.array(bits, dtype=np.uint8), bitorder="little").tobytes()
    end = b"\1" + struct.pack("<HH", len(content), len(content) ^ 0xFFFF) + content
    return b"\x78\x9c" + block * (count // 8) + end


def gif(*blocks: bytes, after: bytes = b"") -> bytes:
    data = saved(FLAT, "GIF")
    start = 13 + (6 << (data[10] & 7))
    return data[:start] + b"".join(blocks) + data[start:-1] + after + b";"


def gif_frame() -> bytes:
    return b",\0\0\0\0\1\0\1\0\0\2\2D\1\0"


def tiff(width: int, height: int, strips: int, data: bytes, compression: int = 1, bits: int = 8, form: int = 1,
         more: bytes = b"", extra: int = 0) -> bytes:  # fmt: skip
    """A grey TIFF; all its strips name the same bytes."""
    start, count = 8 + len(data), 9 + extra
    arrays = start + 2 + 12 * count + 4
    rows = -(-height // strips)
    offsets, sizes = struct.pack("<I", 8) * strips, struct.pack("<I", len(data)) * strips
    places = (8, len(data)) if strips == 1 else (arrays, arrays + 4 * strips)
    entries = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, bits), (259, 3, 1, compression), (262, 3, 1, 1),
        (273, 4, strips, places[0]), (278, 4, 1, rows), (279, 4, strips, places[1]), (339, 3, 1, form),
    ]  # fmt: skip
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries) + more
    return b"II*\0" + struct.pack("<I", start) + data + struct.pack("<H", count) + packed + bytes(4) + offsets + sizes


def tiff_of_tags(count: int, length: int) -> bytes:
    more = b"".join(struct.pack("<HHII", 0x9000 + i, 7, length, 8) for i in range(count))
    return tiff(64, 48, 1, bytes(max(length, 64 * 48)), more=more, extra=count)


def tiff_of_one_tile(side: int) -> bytes:
    """A TIFF of 64 x 48 pixels in one tile, which is far larger."""
    data = zlib.compress(bytes(side * side), 9)
    entries = [
        (256, 4, 1, 64), (257, 4, 1, 48), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1),
        (322, 4, 1, side), (323, 4, 1, side), (324, 4, 1, 8), (325, 4, 1, len(data)),
    ]  # fmt: skip
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(entries)) + packed + bytes(4)


def bmp_of_runs(size: tuple[int, int], body: bytes) -> bytes:
    palette = bytes(1024)
    header = struct.pack("<IiiHHIIiiII", 40, *size, 1, 8, 1, len(body), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 1024 + len(body), 0, 0, 54 + 1024) + header + palette + body


def lying_avif(size: tuple[int, int], said: tuple[int, int]) -> bytes:
    """An AVIF whose container names other sides than its pixels have."""
    data = saved(Image.new("RGB", size, (200, 100, 50)), "AVIF", speed=10)
    return data.replace(b"ispe" + bytes(4) + struct.pack(">II", *size), b"ispe" + bytes(4) + struct.pack(">II", *said))


def flat(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, {"RGB": (9, 99, 199), "RGBA": (9, 99, 199, 100), "F": 1.0}.get(mode, 9))


MILLION = 1_000_000
EXIF = b"Exif\0\0"
HEX = b"\nexif\n 524000\n" + (EXIF + tags(20_000, 240_000))[:262_000].hex().encode()
LARGE = (6000, 4000)  # the largest that is decoded in full
PHONE = (8000, 6000)

# name to the file; each is made when it is its turn
BOMBS: dict[str, Callable[[], bytes]] = {
    "jpeg, 1000 scans of 24 megapixels": lambda: scans(1000, LARGE),
    "jpeg, 60 scans of 50 megapixels": lambda: scans(60, PHONE),
    "jpeg, 400 scans of correction bits": lambda: noisy_scans(400, (1000, 800)),
    "jpeg, a million comments": lambda: jpeg(segment(0xFE, b"") * MILLION),
    "jpeg, ten million bytes of nothing": lambda: jpeg(b"\0" * 10 * MILLION),
    "jpeg, ten million fill bytes": lambda: jpeg(b"\xff" * 10 * MILLION),
    "jpeg, a header without an end": lambda: saved(FLAT, "JPEG")[:20] + bytes(20 * MILLION),
    "jpeg, comments without a length": lambda: jpeg(b"\xff\xfe\0\0" * MILLION),
    "jpeg, half a million tables": lambda: jpeg(segment(0xDB, (b"\0" + b"\1" * 64) * 1000) * 500),
    "jpeg, tags that share bytes": lambda: jpeg(segment(0xE1, EXIF + tags(5000, 65_000)[:65_000])),
    "jpeg, EXIF in a hundred parts": lambda: jpeg(
        segment(0xE1, EXIF + tags(5000, MILLION)[:65_000]), segment(0xE1, EXIF + bytes(65_000)) * 99
    ),
    "jpeg, tags of several pictures": lambda: jpeg(segment(0xE2, b"MPF\0" + tags(5000, 65_000, 0xB000)[:65_000])),
    "jpeg, a profile of 16 MB": lambda: jpeg(*icc(16 * MILLION)),
    "jpeg, full colour and progressive, 50 megapixels": lambda: saved(
        flat(PHONE), "JPEG", progressive=True, subsampling=0
    ),
    "png, a million chunks": lambda: png(chunk(b"teSt", b"") * MILLION),
    "png, a million chunks of pixels": lambda: png(chunk(b"IDAT", b"") * MILLION),
    "png, deflated texts": lambda: png(*[chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(MILLION)))] * 60),
    "png, one deflated text of 400 MB": lambda: png(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(400 * MILLION)))),
    "png, a deflated profile of 100 MB": lambda: png(chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(100 * MILLION)))),
    "png, tags that share bytes": lambda: png(chunk(b"eXIf", tags(20_000, 400_000))),
    "png, tags in a text": lambda: png(chunk(b"tEXt", b"Raw profile type exif\0" + HEX)),
    "png, tags in a deflated text": lambda: png(
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(HEX))
    ),
    "png, codes without pixels": lambda: png(data=deflated_nothing(4 * MILLION)),
    "png, interlaced, 50 megapixels": lambda: png(size=PHONE, interlaced=True),
    "png, 64 bits each, 50 megapixels": lambda: png(size=PHONE, bits=16, colour=6),
    "png, transparent, 24 megapixels": lambda: saved(flat(LARGE, "RGBA"), "PNG"),
    "gif, a million comments": lambda: gif((b"!\xfe" + b"\1a\0") * MILLION),
    "gif, a comment in a million parts": lambda: gif(b"!\xfe" + b"\4abcd" * MILLION + b"\0"),
    "gif, a million frames": lambda: gif(after=gif_frame() * MILLION),
    "gif, 50 megapixels": lambda: saved(flat(PHONE, "P"), "GIF"),
    "tiff, a million strips": lambda: tiff(64, MILLION // 2, MILLION // 2, bytes(64)),
    "tiff, deflated strips that share bytes": lambda: tiff(64, 2000, 2000, deflated_nothing(400_000, bytes(64)), 8),
    "tiff, a tile larger than the picture": lambda: tiff_of_one_tile(20_000),
    "tiff, an old signature and tags that share bytes": lambda: b"II\0*" + tiff_of_tags(20_000, 400_000)[4:],
    "tiff, tags that share bytes": lambda: tiff_of_tags(20_000, 400_000),
    "tiff, floats, 24 megapixels": lambda: saved(flat(LARGE, "F"), "TIFF", compression="tiff_deflate"),
    "tiff, floats in one strip, 50 megapixels": lambda: tiff(
        *PHONE, 1, zlib.compress(bytes(4 * PHONE[0] * PHONE[1]), 9), 8, 32, 3
    ),
    "tiff, one row of wide greys": lambda: tiff(MILLION, 24, 1, zlib.compress(bytes(4 * 24 * MILLION), 9), 8, 32, 3),
    "webp, lossless, 48 megapixels": lambda: saved(flat(PHONE), "WEBP", lossless=True, method=0, quality=0),
    "webp, 24 megapixels": lambda: saved(flat(LARGE), "WEBP", method=0),
    "avif, 48 megapixels": lambda: saved(flat(PHONE), "AVIF", speed=10),
    "avif, larger than it says": lambda: lying_avif(PHONE, (64, 48)),
    "bmp, runs of 24 megapixels": lambda: bmp_of_runs(LARGE, b"\1\5" * 24 * MILLION),
    "bmp, steps over everything": lambda: bmp_of_runs(PHONE, b"\0\2\xff\xff" * MILLION),
}  # fmt: skip
if not HAS_AVIF:
    BOMBS = {name: made for name, made in BOMBS.items() if not name.startswith("avif")}


def noise(size: tuple[int, int], amount: int = 255) -> Image.Image:
    values = np.random.default_rng(0).integers(0, amount + 1, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


def photo(size: tuple[int, int]) -> Image.Image:
    """Smooth shapes, as photos have them."""
    small = noise((size[0] // 16, size[1] // 16))
    return small.resize(size, Image.Resampling.BICUBIC)


# large pictures that people have; they must be read
PHOTOS: dict[str, Callable[[], bytes]] = {
    "jpeg, 50 megapixels": lambda: saved(photo(PHONE), "JPEG", quality=92),
    "jpeg, 50 megapixels, progressive": lambda: saved(photo(PHONE), "JPEG", quality=92, progressive=True),
    "png, 24 megapixels of noise": lambda: saved(noise(LARGE), "PNG", compress_level=1),
}
