"""Embedded colour profiles against the conversion written out: curve, matrix to XYZ, matrix to sRGB, curve."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from drorae.images import load_image, profiles
from train.data.rows import picture_of

# Red, green and blue in XYZ of the profile connection space (D50), in rows; of sRGB (IEC 61966-2-1) and Display P3.
SRGB = np.array([(0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)])
P3 = np.array([(0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)])
ADOBE = np.array([(0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)])
COLOURS = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
GREYS = np.arange(400, dtype=np.uint32).reshape(20, 20) % 256


def to_linear(v):
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def from_linear(v):
    return np.where(v <= 0.0031308, 12.92 * v, 1.055 * np.abs(v) ** (1 / 2.4) - 0.055)


def converted(colours: np.ndarray, primaries: np.ndarray, gamma: float | None) -> np.ndarray:
    """Colours (..., 3) uint8 in sRGB levels; ``gamma`` is that of the curve, ``None`` the curve of sRGB."""
    linear = to_linear(colours / 255) if gamma is None else (colours / 255) ** gamma
    return 255 * from_linear((linear @ primaries @ np.linalg.inv(SRGB)).clip(0, 1))


def icc(space: bytes, tags: dict[bytes, bytes], connection: bytes = b"XYZ ") -> bytes:
    """An ICC profile of version 2."""
    place, table, data = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        content += b"\0" * (-len(content) % 4)
        table += name + struct.pack(">II", place + len(data), len(content))
        data += content
    header = struct.pack(">I4xI4s4s4s12x4s28x", place + len(data), 0x02100000, b"mntr", space, connection, b"acsp")
    return (header + xyz(0.9642, 1, 0.8249)[8:]).ljust(128, b"\0") + table + data


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def curve(gamma: float | None, points: int = 1024) -> bytes:
    """A power, or the curve of sRGB in a table, as most cameras and programs write it down."""
    if gamma is not None:
        return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    table = (65535 * to_linear(np.linspace(0, 1, points))).round().astype(">u2")
    return b"curv\0\0\0\0" + struct.pack(">I", points) + table.tobytes()


def rgb_profile(primaries: np.ndarray, gamma: float | None) -> bytes:
    tags = {b"wtpt": xyz(0.9642, 1, 0.8249)}
    for letter, row in zip((b"r", b"g", b"b"), primaries, strict=True):
        tags |= {letter + b"XYZ": xyz(*row), letter + b"TRC": curve(gamma)}
    return icc(b"RGB ", tags)


def grey_profile(gamma: float | None) -> bytes:
    return icc(b"GRAY", {b"wtpt": xyz(0.9642, 1, 0.8249), b"kTRC": curve(gamma)})


def cmyk_profile() -> bytes:
    """Black ink alone counts: its share takes as much from the lightness L*, from 100 to 0."""
    same = bytes(range(256))
    table = b"".join((b"\xff\x80\x80", b"\x00\x80\x80")[node % 2] for node in range(16))  # of K, the fastest index
    one = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    return icc(b"CMYK", {b"A2B1": b"mft1\0\0\0\0\x04\x03\x02\0" + one + 4 * same + table + 3 * same}, b"Lab ")


def encode(picture: Image.Image, kind: str, profile: bytes, **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, icc_profile=profile, **options)
    return stream.getvalue()


def read(content: bytes) -> np.ndarray:
    picture = load_image(content)
    assert picture.mode == "RGB"
    assert not picture.info
    return np.asarray(picture).astype(float)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(("primaries", "gamma"), [(P3, None), (ADOBE, 563 / 256)])
def test_colours_are_converted_to_srgb(kind, primaries, gamma):
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encode(Image.fromarray(COLOURS), kind, rgb_profile(primaries, gamma), **options)
    expected = converted(COLOURS, primaries, gamma)
    assert np.abs(expected - COLOURS).mean() > 5
    assert np.abs(read(content) - expected).max() <= 1.5


def test_a_jpeg_is_converted_too():
    smooth = np.asarray(Image.fromarray(COLOURS[:4, :4]).resize((64, 64), Image.Resampling.BICUBIC))
    content = encode(Image.fromarray(smooth), "JPEG", rgb_profile(ADOBE, 563 / 256), quality=98, subsampling=0)
    assert np.abs(read(content) - converted(smooth, ADOBE, 563 / 256)).mean() < 2


def test_transparency_and_palettes_keep_their_place():
    profile, expected = rgb_profile(ADOBE, 563 / 256), converted(COLOURS, ADOBE, 563 / 256)
    half = Image.fromarray(COLOURS)
    half.putalpha(Image.fromarray(np.where(np.arange(20) < 10, 255, 102).astype(np.uint8)[None].repeat(20, 0)))
    shown = read(encode(half, "PNG", profile))
    assert np.abs(shown[:, :10] - expected[:, :10]).max() <= 1.5
    assert np.abs(shown[:, 10:] - (0.4 * expected[:, 10:] + 0.6 * 255)).max() <= 2
    few = Image.fromarray(COLOURS).quantize(8, dither=Image.Dither.NONE)
    shown = read(encode(few, "PNG", profile))
    assert np.abs(shown - converted(np.asarray(few.convert("RGB")), ADOBE, 563 / 256)).max() <= 1.5
    keyed = read(encode(Image.fromarray(COLOURS), "PNG", profile, transparency=tuple(map(int, COLOURS[3, 4]))))
    assert keyed[3, 4].tolist() == [255, 255, 255]  # the stored colour is the transparent one, not the converted
    assert np.abs(keyed[0, 0] - expected[0, 0]).max() <= 1.5


def test_greys_of_every_kind_are_converted():
    profile, expected = grey_profile(1.0), 255 * from_linear(GREYS / 255)
    plain = Image.fromarray(GREYS.astype(np.uint8))
    deep = Image.fromarray((GREYS * 257).astype(np.uint16))
    clear = Image.merge("LA", [plain, Image.new("L", plain.size, 255)])
    for picture in (plain, deep, clear):
        shown = read(encode(picture, "PNG", profile))
        assert np.abs(shown - expected[..., None]).max() <= 1.5
    clear.putalpha(0)
    assert (read(encode(clear, "PNG", profile)) == 255).all()


def test_inks_are_converted():
    """L* of 50 is ((50 + 16) / 116)^3 of the light, where a subtraction of inks gives 128."""
    ink = Image.merge("CMYK", [Image.new("L", (20, 20), value) for value in (0, 0, 0, 128)])
    assert read(encode(ink, "TIFF", b"")).mean() == 127
    lightness = 100 * (1 - 128 / 255)
    expected = 255 * float(from_linear(((lightness + 16) / 116) ** 3))
    assert np.abs(read(encode(ink, "TIFF", cmyk_profile())) - expected).max() <= 1.5


def test_lab_needs_no_profile(tmp_path):
    """Red of sRGB in CIE L*a*b* (D50) is (54.3, 80.8, 69.9)."""
    channels = [Image.new("L", (20, 20), value) for value in (round(54.29 * 2.55), 128 + 81, 128 + 70)]
    Image.merge("LAB", channels).save(tmp_path / "lab.tif")
    assert np.abs(np.asarray(load_image(tmp_path / "lab.tif")).astype(int) - (255, 0, 0)).max() <= 6


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_profiles_of_srgb_leave_every_pixel_alone(kind, monkeypatch):
    profiles = [ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()]
    profiles += [rgb_profile(SRGB, None)]
    for profile in profiles:
        assert np.array_equal(read(encode(Image.fromarray(COLOURS), kind, profile)), COLOURS)
    grey = Image.fromarray(GREYS.astype(np.uint8))
    assert np.array_equal(read(encode(grey, kind, grey_profile(None)))[..., 0], GREYS)
    built = []
    monkeypatch.setattr(ImageCms, "buildTransform", lambda *args: built.append(args))
    read(encode(Image.fromarray(COLOURS), kind, profiles[0]))
    assert not built  # a profile that was seen before costs nothing


@pytest.mark.parametrize(
    "profile", [b"no profile", rgb_profile(P3, None)[:200], grey_profile(2.2), cmyk_profile()], ids=range(4)
)
def test_pixels_of_an_unreadable_profile_stay_as_they_are(profile):
    assert np.array_equal(read(encode(Image.fromarray(COLOURS), "PNG", profile)), COLOURS)
    grey = Image.fromarray(GREYS.astype(np.uint8))
    other = rgb_profile(P3, None) if profile[16:20] == b"GRAY" else profile
    assert np.array_equal(read(encode(grey, "PNG", other))[..., 0], GREYS)


def test_training_sees_the_same_colours():
    content = encode(Image.fromarray(COLOURS), "PNG", rgb_profile(P3, None))
    picture = picture_of({"image": {"bytes": content, "path": None}}, "photo 0")
    assert np.array_equal(np.asarray(picture), read(content))
    opened = Image.open(io.BytesIO(content))  # as data sets give it that decode
    assert np.array_equal(np.asarray(picture_of({"image": opened}, "photo 0")), read(content))


def test_a_profile_that_is_large_is_not_remembered(monkeypatch):
    monkeypatch.setattr(profiles, "SRGB_PROFILE_BYTES", 10)
    monkeypatch.setattr(profiles, "_is_srgb", lambda *_: pytest.fail("it was looked up"))
    content = encode(Image.fromarray(COLOURS), "PNG", rgb_profile(P3, None))
    assert np.abs(read(content) - converted(COLOURS, P3, None)).max() <= 1.5
