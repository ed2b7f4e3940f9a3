"""Whatever file arrives becomes the right RGB picture, or one sentence."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from drorae.images import ImageError, load_image, square, to_pil, to_tensor, to_uint8


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
        ("large.png", png_header(8000, 4000), "8000 x 4000 pixels, more than the 24 megapixels"),
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
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(stream, "JPEG")
    with pytest.raises(ImageError, match="damaged or cut off"):
        load_image(stream.getvalue()[: len(stream.getvalue()) // 2], name="half.jpg")


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
