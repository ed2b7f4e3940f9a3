"""Numbers and pictures as text: how exact they are, and that the browser can hold them."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from drorae.viewers.encodings import WEBP_SIDE, pack, picture_difference, sprite, sprite_columns, webp


def unpack(value: dict, shape=(-1,)) -> np.ndarray:
    return value["scale"] * np.frombuffer(base64.b64decode(value["data"]), "<i2").reshape(shape).astype(np.float64)


def frame_of(value: dict, entry: dict, usual: np.ndarray) -> np.ndarray:
    """A picture of the kind ``frames``, by an entry of one of its lists; ``usual`` is that of the last route."""
    row, column = divmod(entry["index"], value["columns"])
    height, width = value["height"], value["width"]
    added = decode(value["sprite"])[height * row :, width * column :][:height, :width].astype(int) - 128
    return ((usual + added) % 256).astype(np.uint8)


def half_step(value: dict) -> float:
    """How far packed numbers may be off: float64 rounds the products once more."""
    return value["scale"] / 2 * (1 + 1e-9)


def decode(url: str) -> np.ndarray:
    head, _, data = url.partition(",")
    assert head == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


@pytest.mark.parametrize("size", [1e-30, 1.0, 3e4])
def test_packed_numbers_are_off_by_half_a_step_at_most(size):
    values = (np.random.default_rng(0).standard_normal((40, 12)) * size).astype(np.float32)
    value = pack(values)
    assert set(value) == {"scale", "data"}
    errors = np.abs(unpack(value, (40, 12)) - values)
    assert errors.max() <= half_step(value)
    assert errors.max() > value["scale"] / 4  # no finer than that
    assert value["scale"] == pytest.approx(np.abs(values).max() / 32767)
    assert np.abs(unpack(value)).max() == pytest.approx(np.abs(values).max())


def test_zeros_and_nothing_can_be_packed_and_nan_cannot():
    assert unpack(pack(np.zeros((2, 3)))).tolist() == [0] * 6
    assert unpack(pack(np.zeros(0))).tolist() == []
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="finite"):
            pack(np.array([1.0, bad]))


def test_webp_holds_exactly_the_pixels():
    rng = np.random.default_rng(0)
    smooth = np.indices((48, 80)).sum(0)[..., None] * np.array([1, 2, 3]) % 256
    for picture in (rng.integers(0, 256, (33, 65, 3), dtype=np.uint8), smooth.astype(np.uint8)):
        assert np.array_equal(decode(webp(picture)), picture)


def test_a_difference_brings_the_picture_back_and_takes_fewer_bytes():
    rng = np.random.default_rng(0)
    usual = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    picture = np.clip(usual + rng.integers(-3, 4, usual.shape), 0, 255).astype(np.uint8)
    far = 255 - usual
    for each in (picture, far):
        back = decode(webp(picture_difference(each, usual))).astype(int) - 128 + usual
        assert np.array_equal(back % 256, each)
    assert (picture_difference(usual, usual) == 128).all()
    assert len(webp(picture_difference(picture, usual))) < 0.5 * len(webp(picture))


def test_every_picture_is_where_its_number_says():
    pictures = [np.full((3, 5, 3), i + 1, np.uint8) for i in range(7)]
    sheet = sprite(pictures, 3)
    assert sheet.shape == (9, 15, 3)
    for i in range(7):
        assert (sheet[i // 3 * 3 :, i % 3 * 5 :][:3, :5] == i + 1).all()
    assert (sheet[6:, 5:] == 0).all()


@pytest.mark.parametrize(
    ("count", "width", "height"), [(1, 128, 128), (47, 256, 256), (46, 1024, 24), (71, 16, 2000), (47, 2000, 2000)]
)
def test_a_sprite_fits_into_a_webp(count, width, height):
    columns = sprite_columns(count, width, height)
    rows = -(-count // columns)
    assert 1 <= columns <= count
    assert columns * width <= WEBP_SIDE
    assert rows * height <= WEBP_SIDE
    assert (rows - 1) * columns < count


def test_what_does_not_fit_is_said():
    for count, width, height in ((47, 4096, 4096), (1, 20000, 16)):
        with pytest.raises(ValueError, match=f"not {count} pictures of {width} x {height}"):
            sprite_columns(count, width, height)
    assert WEBP_SIDE == 16383
    with pytest.raises(Exception, match=r"exceeds limit|invalid|error"):
        webp(np.zeros((16, WEBP_SIDE + 1, 3), np.uint8))
    assert decode(webp(np.zeros((2, WEBP_SIDE, 3), np.uint8))).shape == (2, WEBP_SIDE, 3)
