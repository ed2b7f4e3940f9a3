"""What decoding a picture can cost at most, counted in its file before anything is decoded.

Each format is walked as Pillow and the library under it walk it, without the pixels: scans of a JPEG, chunks of a PNG,
blocks of a GIF, tags of EXIF and TIFF. Every count is multiplied by what one of them takes at worst. The unit of work
is a nanosecond of a processor that needs 0.25 s for the photo of :data:`drorae.decoding.REFERENCE`; on a slower
one both that photo and the picture take longer.

What no count bounds, AVIF, HEIC, compressed TIFF, lossless WebP above a few kilobytes, colour profiles of megabytes,
has no cost here: :func:`is_cheap` says no, and :mod:`drorae.decoding` decodes it in a process with limits.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

MEMORY = 300_000_000  # bytes that decoding one picture may take
WORK = 2_500_000_000  # ten of the reference photo
SHARE = 0.8  # of both, up to which a count is trusted
FILE_BYTES = 64_000_000  # files that are larger are not counted
SEGMENTS = 50_000  # nor are more segments, chunks or blocks than that: counting takes time, too
EXIF_BYTES = 1_000_000  # nor is EXIF that a JPEG holds in many parts
PROFILE_BYTES = 100_000  # larger colour profiles hold tables or programs; what they take is not counted
MAX_PIXELS = 50_000_000  # the largest photos of phones; larger ones must be made smaller first
FULL_PIXELS = 24_000_000  # 96 MB as Pillow holds RGB; larger pictures are read at half their sides

# nanoseconds
PER_PIXEL = 40  # turned, brought to sRGB, flattened on white
PER_SEGMENT = 5_000  # of a JPEG, PNG or GIF: a step of Pillow's loop in Python
PER_JUNK_BYTE = 300  # between the segments of a JPEG: Pillow reads each alone
PER_CODE_BYTE = 40  # of Huffman or arithmetic code
PER_BLOCK = 100  # of 8 x 8 coefficients, in each scan that visits it
PER_DEFLATED_BYTE = 100  # however little comes out of it: codes that are redefined all the time
PER_INFLATED_BYTE = 12
PER_RUN_BYTE = 2_000  # of a BMP of runs, which Pillow decodes in Python
PER_COPIED_BYTE = 0.2
PER_WEBP_PIXEL = 60

TAG_BYTES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)  # of TIFF 6.0's types, by their numbers
TAGS_OF_FOLDERS = {0x8769, 0x8825, 0xA005, 0x014A}  # EXIF, GPS, interoperability, further pictures
TIFF_COMPRESSIONS = {1, 5, 8, 32773, 32946}  # none, LZW, deflate, PackBits
MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])", re.DOTALL)  # that ends a JPEG's scan


class _Unbounded(Exception):  # noqa: N818  it is not an error
    """No count says what the picture costs."""


@dataclass
class DecodingCost:
    """What decoding takes at most: ``work`` in the unit above, ``memory`` in bytes."""

    work: float = 0
    memory: float = 0

    @property
    def is_low(self) -> bool:
        """Whether both are so far below the limits that no process with limits is needed."""
        return self.work <= SHARE * WORK and self.memory <= SHARE * MEMORY


def is_cheap(stream: BinaryIO) -> bool:
    """Whether the file in a stream, read from its start, is sure to be decoded within the limits."""
    cost = cost_of(stream)
    return cost is not None and cost.is_low


def cost_of(stream: BinaryIO) -> DecodingCost | None:
    """What the file in a stream costs at most; ``None`` where no count says it. Files that are not a picture of a known
    format, or whose headers are damaged so that Pillow stops at them, cost what their readable part does."""
    stream.seek(0)
    try:
        head = stream.read(64)
        if head.startswith(b"BM"):  # the only one whose size says nothing about its cost
            return _bmp(head, stream.seek(0, 2))
        stream.seek(0)
        content = stream.read(FILE_BYTES + 1)
    finally:
        stream.seek(0)
    if len(content) > FILE_BYTES:
        return None
    try:
        if content.startswith(b"\xff\xd8\xff"):
            return _jpeg(content)
        if content.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(content)
        if content.startswith((b"GIF87a", b"GIF89a")):
            return _gif(content)
        if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
            return _webp(content)
        if content.startswith((b"II*\0", b"MM\0*")):
            return _tiff(content)
        if content[:2] in (b"II", b"MM") or content[4:8] == b"ftyp":
            return None  # BigTIFF, AVIF and HEIC
    except _Unbounded:
        return None
    return DecodingCost() if len(content) < 1_000_000 else None  # no opener accepts it


def _pixels(width: int, height: int, drafted: bool = False) -> DecodingCost:
    """The cost of an RGB or RGBA picture, and of what is made of it after decoding."""
    count = width * height
    if count > MAX_PIXELS:
        return DecodingCost()  # it is refused when its header was read
    if drafted and count > FULL_PIXELS:
        count = count // 4 + width + height
    # twice where one is made of the other, in full or, band by band, at half the sides
    memory = 8 * count if count <= FULL_PIXELS else 5 * count + 40_000_000
    return DecodingCost(PER_PIXEL * count, memory)


def _jpeg(content: bytes) -> DecodingCost:
    """Entropy-coded bytes, and the blocks that each scan visits; with several scans all coefficients are held."""
    segments = junk = scans = blocks = profile = 0
    copied = 0.0
    sampling: dict[int, int] = {}
    width = height = 0
    place = 2
    exif = several = b""
    while match := MARKER.search(content, place):
        marker, start = match[1][0], match.end()
        if scans == 0:
            junk += match.end() - 2 - place  # what is none, and fill bytes
        elif marker == 0xD9:
            break
        segments += 1
        if segments > SEGMENTS:
            raise _Unbounded
        place = start
        if marker in (0x01, 0xD8, 0xD9):
            continue
        length = int.from_bytes(content[start : start + 2], "big")
        if length < 2:
            if scans:
                break  # libjpeg stops here
            length = 2  # Pillow does not
        body, place = content[start + 2 : start + length], start + length
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(body) >= 6:
            if width or marker not in (0xC0, 0xC1, 0xC2):
                raise _Unbounded  # a second frame; arithmetic code, lossless
            height, width = struct.unpack(">HH", body[1:5])
            sampling = _blocks_of_components(body[6:], width, height)
        elif marker == 0xDA:
            scans += 1
            blocks += sum(sampling.get(each, 0) for each in body[1 : 1 + 2 * (body[0] if body else 0) : 2])
        elif marker == 0xE1 and body.startswith(b"Exif\0\0"):
            exif += body[6:]
            if len(exif) > EXIF_BYTES:
                raise _Unbounded
        elif marker == 0xE2 and body.startswith(b"MPF\0"):
            several = body[4:]
        elif marker in (0xDB, 0xED):  # tables and Photoshop's entries, which Pillow reads one by one
            junk += len(body)
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0"):
            profile += len(body)
        copied += len(body)
    if scans == 0:
        junk += len(content) - min(place, len(content))
    copied += _bytes_of_tags(several) + 2 * _bytes_of_tags(exif)  # Pillow reads it for the resolution, too
    if profile > PROFILE_BYTES:
        raise _Unbounded
    cost = _pixels(width, height, drafted=True)
    coefficients = 128 * sum(sampling.values()) if scans > 1 or b"\xff\xc2" in content else 0
    cost.memory = max(cost.memory, cost.memory / 2 + coefficients) + copied + len(content)
    cost.work += PER_SEGMENT * segments + PER_JUNK_BYTE * junk + PER_CODE_BYTE * len(content) + PER_COPIED_BYTE * copied
    cost.work += PER_BLOCK * (blocks + sum(sampling.values()))
    return cost


def _blocks_of_components(body: bytes, width: int, height: int) -> dict[int, int]:
    """Component number to its number of blocks of 8 x 8."""
    rows = [(body[i], body[i + 1] >> 4 or 1, body[i + 1] & 15 or 1) for i in range(0, len(body) - 2, 3)]
    across, down = max((h for _, h, _ in rows), default=1), max((v for *_, v in rows), default=1)
    units = -(-width // (8 * across)) * -(-height // (8 * down))
    counts: dict[int, int] = {}
    for number, h, v in rows:
        counts[number] = counts.get(number, 0) + units * h * v
    return counts


def _png(content: bytes) -> DecodingCost:
    """Chunks, deflated and inflated bytes. Pillow itself inflates no text and no profile beyond a megabyte."""
    cost, segments, place = DecodingCost(), 0, 8
    while place + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[place : place + 8])
        body = slice(place + 8, place + 8 + length)
        segments += 1
        if segments > SEGMENTS or cost.work > WORK:
            raise _Unbounded
        if kind == b"IHDR":
            width, height, bits, colour = struct.unpack(">IIBB", content[body][:10].ljust(10, b"\0"))
            raw = height * (1 + -(-width * bits * {2: 3, 4: 2, 6: 4}.get(colour, 1) // 8))
            pixels = _pixels(width, height)
            passes = 2 if content[28:29] == b"\1" else 1  # interlaced pixels are put down one by one
            cost.work += pixels.work + (passes * PER_INFLATED_BYTE * raw if pixels.memory else 0)
            cost.memory += pixels.memory
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            if b"Raw profile type" in content[place + 8 : place + 90]:
                raise _Unbounded  # EXIF in hexadecimal letters, perhaps deflated
            cost.work += PER_DEFLATED_BYTE * length + (PER_INFLATED_BYTE * 1_000_000 if kind != b"tEXt" else 0)
            cost.memory += 2_000_000 if kind != b"tEXt" else 3 * length
        elif kind == b"iCCP":
            _check_profile(content[body])
            cost.work += PER_INFLATED_BYTE * 1_000_000
        elif kind == b"eXIf":
            copied = _bytes_of_tags(content[body])
            cost.work += PER_DEFLATED_BYTE * length + PER_COPIED_BYTE * copied
            cost.memory += copied
        else:
            cost.work += PER_DEFLATED_BYTE * min(length, len(content))
            cost.memory += min(length, len(content)) if kind not in (b"IDAT", b"fdAT") else 0
        place = body.stop + 4
    cost.work += PER_SEGMENT * segments
    return cost


def _check_profile(chunk: bytes) -> None:
    packed = chunk[chunk.find(b"\0") + 2 :]
    try:
        profile = zlib.decompressobj().decompress(packed, PROFILE_BYTES + 1)
    except zlib.error:
        return
    if len(profile) > PROFILE_BYTES:
        raise _Unbounded


def _gif(content: bytes) -> DecodingCost:
    """Blocks of at most 255 bytes. Comments are put together byte string by byte string, in quadratic time."""
    width, height, flags = struct.unpack("<HHB", content[6:11].ljust(5, b"\0"))
    place = 13 + (6 << (flags & 7) if flags & 128 else 0)
    segments = comments = frames = 0
    while place < len(content):
        if segments > SEGMENTS:
            raise _Unbounded
        kind = content[place]
        if kind == 0x3B:
            break
        if kind == 0x2C:
            left, top, across, down, flags = struct.unpack("<HHHHB", content[place + 1 : place + 10].ljust(9, b"\0"))
            if frames == 0:  # the first one may be larger than the screen
                width, height = max(width, left + across), max(height, top + down)
            frames += 1
            place += 11 + (6 << (flags & 7) if flags & 128 else 0)
        elif kind == 0x21:
            place += 2
        else:
            segments, place = segments + 1, place + 1
            continue
        start = place
        while place < len(content) and (length := content[place]) and segments <= SEGMENTS:
            segments, place = segments + 1, place + 1 + length
        comments += place - start if kind == 0x21 else 0
        segments, place = segments + 1, place + 1
    cost = _pixels(width, height)
    cost.work += PER_SEGMENT * segments + PER_CODE_BYTE * len(content)
    cost.work += PER_COPIED_BYTE * comments * segments  # comments are there in full for each of their blocks
    cost.memory += len(content) + 2 * comments
    return cost


def _webp(content: bytes) -> DecodingCost:
    """Pixels of the canvas, which is held four times. Lossless data, also that of an alpha channel, may define
    thousands of codes of some kilobytes each in as many bytes."""
    cost, place, lossless, segments = DecodingCost(memory=3 * len(content)), 12, 0, 0
    width = height = 0
    while place + 8 <= len(content):
        kind, length = struct.unpack("<4sI", content[place : place + 8])
        body = content[place + 8 : place + 8 + length]
        sides = (0, 0)
        if kind == b"VP8X":
            sides = (int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1)
        elif kind == b"VP8 ":
            sides = (int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF)
        elif kind == b"VP8L":
            bits = int.from_bytes(body[1:5], "little")
            sides = ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
        elif kind == b"ICCP" and length > PROFILE_BYTES:
            raise _Unbounded
        elif kind == b"EXIF":
            copied = _bytes_of_tags(body[6:] if body.startswith(b"Exif\0\0") else body)
            cost.work, cost.memory = cost.work + PER_COPIED_BYTE * copied, cost.memory + copied
        elif kind == b"ANMF":
            lossless += length  # inside it any of the others
        lossless += len(body) if kind in (b"VP8L", b"ALPH") else 0
        width, height = max(width, sides[0]), max(height, sides[1])
        segments, place = segments + 1, place + 8 + length + (length & 1)
        if segments > SEGMENTS:
            raise _Unbounded
    cost.memory += 20 * width * height + 5_000 * lossless
    cost.work += (PER_WEBP_PIXEL + PER_PIXEL) * width * height + PER_CODE_BYTE * len(content) + 2_000 * lossless
    cost.work += PER_SEGMENT * segments
    return cost


def _bmp(head: bytes, size: int) -> DecodingCost | None:
    if len(head) < 34 or head[14] < 40:  # the oldest header, with sides of 16 bits and no runs
        width, height = struct.unpack("<HH", head[18:22].ljust(4, b"\0"))
        runs = False
    else:
        width, height = (abs(side) for side in struct.unpack("<ii", head[18:26]))
        runs = head[30] in (1, 2)
    cost = _pixels(width, height)
    cost.work += PER_RUN_BYTE * size if runs else 10 * width * height
    cost.memory += 5 * width * height if runs else 0
    return cost


def _tiff(content: bytes) -> DecodingCost:
    """Small files of the usual compressions: strips may share their bytes, so each may cost what the file does."""
    strips, sides = 0, {0x100: 0, 0x101: 0}
    for tag, kind, count, value in _tags(content):
        short = value >> 16 if content[:1] == b"M" else value & 0xFFFF
        if tag == 0x111:
            strips += count
        elif tag in sides:
            sides[tag] = max(sides[tag], short if kind == 3 else value)
        elif tag == 0x103 and (kind != 3 or short not in TIFF_COMPRESSIONS):
            raise _Unbounded
        elif tag in (0x142, 0x14A) or (tag == 0x8773 and count > PROFILE_BYTES):
            raise _Unbounded  # tiles may be larger than the picture; further pictures
    cost = _pixels(sides[0x100], sides[0x101])
    copied = 6 * _bytes_of_tags(content)  # numbers become Python's
    cost.memory += 8 * sides[0x100] * sides[0x101] + 10 * copied + len(content)  # one strip may hold everything
    cost.work += PER_DEFLATED_BYTE * len(content) * max(strips, 1) + PER_INFLATED_BYTE * 8 * sides[0x100] * sides[0x101]
    cost.work += 100 * copied
    return cost


def _bytes_of_tags(content: bytes) -> float:
    """Bytes that the tags of EXIF (or of a TIFF) name as theirs, of its first folder and those it points to. Tags may
    share their bytes, and Pillow keeps a copy for each."""
    return float(sum(min(count * _size(kind), len(content)) + 200 for _, kind, count, _ in _tags(content)))


def _size(kind: int) -> int:
    return TAG_BYTES[kind] if kind < len(TAG_BYTES) else 8


def _tags(content: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Number, type, count and value (or place) of each tag, of the first folder and those that it points to.

    Of a BigTIFF nothing is counted.
    """
    order = ">" if content[:2] == b"MM" else "<"
    if content[2:4] in (b"\x2b\0", b"\0\x2b"):
        raise _Unbounded
    if len(content) < 8:
        return
    places, seen = [struct.unpack(order + "I", content[4:8])[0]], set()
    while places:
        place = places.pop()
        if place in seen or place + 2 > len(content):
            continue
        seen.add(place)
        if len(seen) > 8:
            raise _Unbounded
        (entries,) = struct.unpack(order + "H", content[place : place + 2])
        for at in range(place + 2, min(place + 2 + 12 * entries, len(content) - 11), 12):
            tag, kind, count, value = struct.unpack(order + "HHII", content[at : at + 12])
            if tag in TAGS_OF_FOLDERS:
                if count != 1 or kind not in (4, 13):
                    raise _Unbounded
                places.append(value)
            yield tag, kind, count, value
