"""Whatever file arrives becomes the right RGB picture, or one sentence."""

import io
import struct
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps, features

from drorae import images
from drorae.images import ImageError, channels, load_image, opening, square, to_pil, to_tensor, to_uint8


def save(picture: Image.Image, path, **options):
    picture.save(path, **options)
    return path


def png_header(width: int, height: int, rows: bytes = b"") -> bytes:
    """A PNG that says it is width x height, whatever its data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def pixel(picture: Image.Image, x: int = 5, y: int = 5) -> tuple[int, int, int]:
    assert picture.mode == "RGB"
    return picture.getpixel((x, y))


BLOCK = Image.new("RGB", (40, 24), (200, 100, 50))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.png", b"", "is empty"),
        ("text.png", b"this is no picture\n" * 40, "is not a picture"),
        ("vector.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a picture"),
        ("one.png", png_header(1, 1, b"\0\0\0\0"), "1 x 1 pixels"),
        ("large.png", png_header(8400, 6000), "8400 x 6000 pixels, more than the 50 megapixels"),
        ("photo.png", png_header(8064, 6048), "is damaged or cut off"),  # not for its size
        ("huge.png", png_header(20000, 20000), "has 400 megapixels"),
        ("bomb.png", png_header(30000, 30000, b"\0" * 100_000), "has 900 megapixels"),
    ],
)
def test_bad_files_are_refused_in_one_sentence_that_names_them(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=message) as caught:
        load_image(tmp_path / name)
    text = str(caught.value)
    assert name in text
    assert text.endswith(".")
    assert "\n" not in text


def test_missing_file_and_truncated_jpeg(tmp_path):
    with pytest.raises(ImageError, match="There is no picture file"):
        load_image(tmp_path / "nowhere.jpg")
    with pytest.raises(ImageError, match="' is a folder; name the pictures in it"):
        load_image(tmp_path)
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(stream, "JPEG")
    with pytest.raises(ImageError, match="damaged or cut off"):
        load_image(stream.getvalue()[: len(stream.getvalue()) // 2], name="half.jpg")


def test_files_that_cannot_be_opened_are_refused_in_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(ImageError, match="cannot be read \\(File name too long\\)"):
        load_image("x" * 300 + ".jpg")
    memory = Path("/proc/self/mem")
    if memory.exists():
        with pytest.raises(ImageError, match="'mem' cannot be read \\(Input/output error\\)"):
            load_image(memory)
    secret = save(BLOCK, tmp_path / "secret.png")

    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    for step in ("open", "is_file"):  # of the file, of its folder
        with monkeypatch.context() as patch:
            patch.setattr(Path, step, refuse)
            with pytest.raises(ImageError) as caught:
                load_image(secret, name="my picture")
        assert str(caught.value) == "'my picture' cannot be read (Permission denied); choose another picture."
    with pytest.raises(ImageError, match="There is no picture file 'mine'"):
        load_image(tmp_path / "nowhere.png", name="mine")


def test_animated_gif_is_refused_and_a_still_one_is_read(tmp_path):
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="animated \\(2 frames\\)"):
        load_image(tmp_path / "moving.gif")
    assert pixel(load_image(save(frames[0], tmp_path / "still.gif"))) == (255, 0, 0)


def test_orientation_is_applied(tmp_path):
    picture = Image.new("RGB", (40, 24), "blue")
    picture.paste("red", (0, 0, 20, 24))
    exif = Image.Exif()
    exif[274] = 6  # the camera was turned: rotate by 90 degrees clockwise to see it upright
    upright = load_image(save(picture, tmp_path / "turned.png", exif=exif))
    assert upright.size == (24, 40)
    assert pixel(upright, 12, 5) == (255, 0, 0)
    assert pixel(upright, 12, 35) == (0, 0, 255)
    assert not upright.getexif()
    assert not upright.info


def test_transparency_is_flattened_on_white(tmp_path):
    half = Image.new("RGBA", (20, 20), (0, 0, 0, 127))
    assert pixel(load_image(save(half, tmp_path / "half.png"))) == (128, 128, 128)
    palette = Image.new("P", (20, 20), 1)
    palette.putpalette([9, 9, 9, 0, 200, 0])
    assert pixel(load_image(save(palette, tmp_path / "palette.png"))) == (0, 200, 0)
    assert pixel(load_image(save(palette, tmp_path / "clear.png", transparency=1))) == (255, 255, 255)
    grey_alpha = Image.new("LA", (20, 20), (0, 0))
    assert pixel(load_image(save(grey_alpha, tmp_path / "la.png"))) == (255, 255, 255)


def test_other_modes_keep_their_colours(tmp_path):
    assert pixel(load_image(save(Image.new("L", (20, 20), 77), tmp_path / "grey.png"))) == (77, 77, 77)
    assert pixel(load_image(save(Image.new("1", (20, 20), 1), tmp_path / "bits.png"))) == (255, 255, 255)
    cmyk = pixel(load_image(save(BLOCK.convert("CMYK"), tmp_path / "cmyk.jpg", quality=95)))
    assert np.abs(np.subtract(cmyk, (200, 100, 50))).max() <= 4
    wide = Image.fromarray(np.full((20, 20), 32768, dtype=np.uint16))
    assert pixel(load_image(save(wide, tmp_path / "wide.png"))) == (128, 128, 128)
    assert pixel(load_image(save(wide, tmp_path / "wide.tif"))) == (128, 128, 128)


def test_wide_greys_are_stretched_over_what_is_finite(tmp_path):
    values = np.linspace(0, 255, 400, dtype=np.int32).reshape(20, 20)
    deep = load_image(save(Image.fromarray(values), tmp_path / "deep.tif"))
    assert np.abs(np.array(deep)[..., 0].astype(int) - values).max() <= 1
    floats = values.astype(np.float32) / 51
    floats[0, 0], floats[0, 1] = np.nan, np.inf
    shown = np.array(load_image(save(Image.fromarray(floats), tmp_path / "float.tif")))[..., 0]
    assert shown[0, 0] == 0
    assert shown[0, 1] == 255
    assert shown[-1, -1] == 255
    clear = Image.fromarray(np.full((20, 20), 30000, dtype=np.uint16))
    assert pixel(load_image(save(clear, tmp_path / "clear16.png", transparency=30000))) == (255, 255, 255)


def tiff(path, picture: Image.Image, tag: int, value: int) -> Path:
    """A TIFF whose 16-bit tag has another value than Pillow writes."""
    picture.save(path, "TIFF", tiffinfo={262: 1})
    content = path.read_bytes()
    place = content.index(struct.pack("<HHI", tag, 3, 1)) + 8
    path.write_bytes(content[:place] + struct.pack("<H", value) + content[place + 2 :])
    return path


def test_greys_of_a_tiff_mean_what_its_tags_say(tmp_path):
    """Pillow hands the numbers on: 32 bits with a sign that they do not have, and white as 0 the wrong way round."""
    numbers = np.zeros((20, 20), dtype=np.uint32)
    numbers[:10], numbers[10:] = 2**31 - 1, 2**32 - 2  # black and, a number with the highest bit, white
    file = tiff(tmp_path / "long.tif", Image.fromarray(numbers.view(np.int32)), 339, 1)
    assert [pixel(load_image(file), y=y) for y in (5, 15)] == [(0,) * 3, (255,) * 3]
    for kind, name in ((np.uint16, "short"), (np.float32, "float")):
        ramp = np.repeat(np.linspace(0, 65535, 20), 20).reshape(20, 20).astype(kind)
        file = tiff(tmp_path / f"{name}.tif", Image.fromarray(ramp), 262, 0)
        assert [pixel(load_image(file), y=y) for y in (0, 19)] == [(255,) * 3, (0,) * 3]


def test_twelve_bits_are_the_full_range(tmp_path):
    """A scanner's: two numbers in three bytes, 4095 is white."""
    side, white = 16, b"\xff" * 24
    entries = [
        (256, side),
        (257, side),
        (258, 12),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, side),
        (279, 24 * side),
    ]
    rows = white * (side // 2) + b"\x80\x08\x00" * (side // 2 * 8)  # 0x800, in the middle
    tags = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in entries)
    head = b"II*\0" + struct.pack("<I", 8 + len(rows))
    content = head + rows + struct.pack("<H", len(entries)) + tags + bytes(4)
    picture = load_image(content)
    assert pixel(picture) == (255, 255, 255)
    assert abs(pixel(picture, y=12)[0] - round(0x800 / 4095 * 255)) <= 1


@pytest.mark.parametrize(("bits", "clear"), [(1, 1), (2, 1), (2, 3), (4, 5)])
def test_the_transparent_grey_of_a_png_is_counted_in_its_own_levels(bits, clear):
    """All levels from black to white, 8 columns of each; the transparent one becomes white."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    levels = np.repeat(np.arange(2**bits), 8)
    row = np.packbits((levels[:, None] >> np.arange(bits)[::-1] & 1).astype(np.uint8)).tobytes()
    header = struct.pack(">IIBBBBB", len(levels), 16, bits, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"tRNS", struct.pack(">H", clear))]
    parts += [chunk(b"IDAT", zlib.compress((b"\0" + row) * 16)), chunk(b"IEND", b"")]
    photo = opening.open_photo(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    shown = np.asarray(photo.picture)[0, ::8, 0]
    wanted = np.arange(2**bits) * 255 // (2**bits - 1)
    assert shown.tolist() == np.where(np.arange(2**bits) == clear, 255, wanted).tolist()
    assert photo.flattened


def test_of_a_jpeg_with_several_pictures_the_first_is_used(tmp_path):
    BLOCK.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[Image.new("RGB", (40, 24))], quality=95)
    assert np.abs(np.subtract(pixel(load_image(tmp_path / "phone.jpg")), (200, 100, 50))).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_agrees_with_pillow(tmp_path, orientation):
    values = np.arange(40 * 24 * 3, dtype=np.uint32).reshape(24, 40, 3) % 251
    exif = Image.Exif()
    exif[274] = orientation
    path = save(Image.fromarray(values.astype(np.uint8)), tmp_path / "turned.png", exif=exif)
    assert np.array_equal(np.array(load_image(path)), np.array(ImageOps.exif_transpose(Image.open(path))))


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow remarks on damaged TIFFs
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"])
def test_damaged_files_are_read_or_refused_and_nothing_else(kind):
    """Three hundred random changes of a real file: never another exception than the one with a sentence."""
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[274], exif[270] = 6, "description"
    BLOCK.save(stream, kind, **({} if kind in ("GIF", "BMP") else {"exif": exif}))
    whole, rng, refused = stream.getvalue(), np.random.default_rng(0), 0
    for _ in range(300):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(0, 256)
        try:
            assert load_image(bytes(data[: rng.integers(len(data) // 2, len(data) + 1)])).mode == "RGB"
        except ImageError as error:
            refused += 1
            assert "\n" not in str(error)  # noqa: PT017
    assert refused > 0


def test_arrays(tmp_path):
    assert pixel(load_image(np.full((20, 20, 3), 0.5, dtype=np.float32))) == (128, 128, 128)
    assert pixel(load_image(np.full((20, 20), 9, dtype=np.uint8))) == (9, 9, 9)
    with pytest.raises(ImageError, match="array of shape \\(3, 20, 20\\)"):
        load_image(np.zeros((3, 20, 20), dtype=np.uint8))
    assert pixel(load_image(np.full((20, 20, 3), 1.3))) == (255, 255, 255)  # what a decoder painted


@pytest.mark.parametrize(("values", "said"), [((0, 255), "from 0 to 255"), ((-1, 1), "from -1 to 1")])
def test_an_array_of_another_range_is_refused(values, said):
    """Clipped, the first would be white, and half of the second black."""
    with pytest.raises(ImageError, match=f"float array with values {said}; use \\[0, 1\\]"):
        load_image(np.linspace(*values, 400).reshape(20, 20))


def test_names_stay_on_one_line(tmp_path):
    odd = "a\nb\x1b[31m\u2028.jpg"
    (tmp_path / odd).write_bytes(b"no picture")
    for call in (
        lambda: load_image(tmp_path / odd),
        lambda: load_image(tmp_path / f"c{odd}"),
        lambda: load_image(b"x", odd),
    ):
        with pytest.raises(ImageError) as caught:
            call()
        assert str(caught.value).isprintable()
        assert "a\\nb\\x1b[31m\\u2028.jpg" in str(caught.value)


def test_square_is_the_centre():
    picture = Image.new("RGB", (60, 20), "blue")
    picture.paste("red", (20, 0, 40, 20))
    assert np.array(square(picture, 20)).reshape(-1, 3).tolist() == [[255, 0, 0]] * 400


def test_bytes_survive_the_way_to_tensors_and_back():
    values = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16).expand(3, 16, 16)
    picture = Image.fromarray(values.permute(1, 2, 0).numpy())
    assert to_tensor(picture).max() == 1
    assert np.array_equal(np.array(to_pil(to_tensor(picture))), np.array(picture))
    assert to_uint8(torch.tensor([-1.0, 0.4999 / 255, 0.5001 / 255, 2.0])).tolist() == [0, 0, 1, 255]


def noise(width: int, height: int, channels: int = 3) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(values)


def test_large_jpegs_are_decoded_at_half_their_sides(tmp_path, monkeypatch):
    path = save(noise(131, 90), tmp_path / "photo.jpg", quality=90)
    with Image.open(path) as picture:
        picture.draft(None, (65, 45))
        expected = np.array(picture)
    assert load_image(path).size == (131, 90)
    monkeypatch.setattr(opening, "FULL_PIXELS", 11_000)
    monkeypatch.setattr(Image.Image, "reduce", lambda *_: pytest.fail("it was decoded in full"))
    assert np.array_equal(np.array(load_image(path)), expected)
    noise(130, 90).save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[BLOCK])
    assert load_image(tmp_path / "phone.jpg").size == (65, 45)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16", "F"])
def test_other_large_pictures_are_averaged_to_half_their_sides(tmp_path, monkeypatch, mode):
    values = np.kron(np.random.default_rng(0).integers(0, 2, (20, 30), dtype=np.uint8), np.full((2, 2), 255, np.uint8))
    wide = {"I;16": np.uint16, "F": np.float32}
    if mode in wide:
        picture = Image.fromarray(values.astype(wide[mode]) * (257 if mode == "I;16" else 1))
    else:
        picture = Image.fromarray(values).convert("RGB").convert(mode)
    path = save(picture, tmp_path / "large.tif")
    monkeypatch.setattr(opening, "FULL_PIXELS", 60 * 40 - 1)
    shown = np.array(load_image(path))
    assert shown.shape == (20, 30, 3)
    assert np.array_equal(shown[..., 0], values[::2, ::2])


def test_orientation_of_a_large_photo(tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[274] = 6
    path = save(noise(120, 80), tmp_path / "turned.jpg", exif=exif)
    monkeypatch.setattr(opening, "FULL_PIXELS", 120 * 80 - 1)
    assert load_image(path).size == (40, 60)


def test_bands_of_a_wide_grey_are_scaled_alike(tmp_path, monkeypatch):
    values = np.random.default_rng(0).normal(size=(50, 40)).astype(np.float32)
    path = save(Image.fromarray(values), tmp_path / "float.tif")
    whole = np.array(load_image(path))[..., 0]
    expected = (values - values.min()) / np.ptp(values) * 255
    assert np.abs(whole - expected).max() <= 0.51
    monkeypatch.setattr(channels, "BAND_PIXELS", 300)
    assert np.array_equal(np.array(load_image(path))[..., 0], whole)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
def test_avif(tmp_path):
    assert (
        np.abs(np.subtract(pixel(load_image(save(BLOCK, tmp_path / "a.avif", quality=95))), (200, 100, 50))).max() < 6
    )
    BLOCK.save(tmp_path / "moving.avif", save_all=True, append_images=[Image.new("RGB", (40, 24))])
    with pytest.raises(ImageError, match="animated \\(2 frames\\)"):
        load_image(tmp_path / "moving.avif")


def ftyp(*brands: bytes) -> bytes:
    """The first box of a file of the family of HEIC and AVIF."""
    return struct.pack(">I4s4sI", 12 + 4 * len(brands), b"ftyp", brands[0], 0) + b"".join(brands[1:]) + bytes(64)


def test_heic_asks_for_its_package(monkeypatch):
    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    for brands in ((b"heic", b"mif1", b"heic"), (b"mif1", b"mif1", b"heix")):
        with pytest.raises(ImageError, match="is a HEIC photo, which takes the package pillow-heif") as caught:
            load_image(ftyp(*brands), name="IMG_1.HEIC")
        assert "'IMG_1.HEIC'" in str(caught.value)
    for brands in ((b"avif", b"mif1", b"avif"), (b"isom", b"iso2", b"mp41")):
        with pytest.raises(ImageError, match="is not a picture that can be read"):
            load_image(ftyp(*brands))


@pytest.mark.skipif(find_spec("pillow_heif") is None, reason="the package pillow-heif is not installed")
def test_heic_is_read(tmp_path):
    from pillow_heif import from_pillow

    from_pillow(BLOCK.resize((64, 64))).save(tmp_path / "photo.heic", quality=95)
    assert np.abs(np.subtract(pixel(load_image(tmp_path / "photo.heic")), (200, 100, 50))).max() <= 6
    content = (tmp_path / "photo.heic").read_bytes()
    with pytest.raises(ImageError):
        load_image(content[: len(content) // 2])


@pytest.mark.parametrize("centre", [(0.0, 0.0), (0.2, 0.9), (0.5, 0.5), (0.62, 0.1), (1.0, 1.0), (-3, 7)])
@pytest.mark.parametrize("shape", [(60, 100), (90, 40), (50, 50)])
def test_a_square_lies_around_its_centre_or_as_near_as_there_is_room(shape, centre):
    height, width = shape
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
    side = min(shape)
    left, top = (round(min(max(c, 0), 1) * n - side / 2) for c, n in zip(centre, (width, height), strict=True))
    left, top = min(max(left, 0), width - side), min(max(top, 0), height - side)
    expected = np.asarray(picture)[top : top + side, left : left + side]
    assert np.array_equal(np.asarray(square(picture, side, centre)), expected)
    assert images.crop_box(width, height, centre) == (left, top, side)


def test_the_middle_is_the_evaluation_crop_to_the_bit():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (61, 100, 3), dtype=np.uint8))
    expected = ImageOps.fit(picture, (32, 32), method=Image.Resampling.LANCZOS)
    assert square(picture, 32).tobytes() == square(picture, 32, (0.5, 0.5)).tobytes() == expected.tobytes()


@pytest.mark.parametrize("centre", [(0.5,), (0.5, 0.5, 0.5), (float("nan"), 0), (0, float("inf")), ("0", 0.5), "ab"])
def test_a_centre_that_is_none_is_refused(centre):
    with pytest.raises(ImageError, match="two numbers from 0 to 1"):
        square(BLOCK, 16, centre)


def test_a_photo_says_what_its_file_was(tmp_path):
    photo = images.open_photo(save(BLOCK, tmp_path / "block.png"))
    assert (photo.width, photo.height, photo.flattened) == (40, 24, False)
    assert photo.facts(16, 16) == {"width": 40, "height": 24, "crop": [8, 0, 24], "enlarged": None, "flattened": False}
    assert photo.facts(48, 48, centre=(1, 0.5)) | {"flattened": None} == {
        "width": 40, "height": 24, "crop": [16, 0, 24], "enlarged": 2.0, "flattened": None
    }  # fmt: skip
    assert photo.facts(80, 48, whole=True)["crop"] is None
    assert photo.facts(80, 48, whole=True)["enlarged"] == 2.0
    assert images.Photo.of(BLOCK.crop((0, 0, 24, 24))).facts(24, 24) == {
        "width": 24, "height": 24, "crop": None, "enlarged": None, "flattened": False
    }  # fmt: skip


def test_a_photo_knows_the_file_before_it_was_turned_or_halved(tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[274] = 6
    turned = images.open_photo(save(BLOCK, tmp_path / "turned.jpg", exif=exif))
    assert (turned.width, turned.height) == turned.picture.size == (24, 40)
    monkeypatch.setattr(opening, "FULL_PIXELS", 500)
    halved = images.open_photo(save(BLOCK, tmp_path / "large.jpg", exif=exif))
    assert (halved.width, halved.height) == (24, 40)
    assert halved.picture.size == (12, 20)


def test_only_transparent_pixels_are_flattened(tmp_path):
    opaque, clear = BLOCK.convert("RGBA"), BLOCK.convert("RGBA")
    clear.putpixel((3, 3), (0, 0, 0, 254))
    assert not images.open_photo(save(opaque, tmp_path / "opaque.png")).flattened
    assert images.open_photo(save(clear, tmp_path / "clear.png")).flattened
