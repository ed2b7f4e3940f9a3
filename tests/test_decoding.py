"""Decoding any picture stays within its limits, and ordinary photos need nothing for it."""

import io
import struct
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from drorae import decoding
from drorae.decoding_cost import PER_BLOCK, cost_of, is_cheap
from drorae.images import ImageError, Photo, decode, load_image, opening
from tests.hostile.bombs import BOMBS, PHOTOS, flat, icc, jpeg, noise, photo, png, saved, segment, tags, tiff
from tests.hostile.damage import DAMAGES, FORMATS, HAS_AVIF, small_picture
from tests.hostile.pictures import SEEDS, damaged, measured, outcome, within_limits

# one for each way in which the limit is kept; the full command takes all
SAMPLE = {
    "jpeg, 1000 scans of 24 megapixels": "takes too long",
    "jpeg, ten million fill bytes": "takes too long",
    "jpeg, full colour and progressive, 50 megapixels": "too much memory",
    "png, deflated texts": "",  # read
    "png, tags in a deflated text": "",
    "gif, a million comments": "takes too long",
    "tiff, tags that share bytes": "too much memory",
    "webp, lossless, 48 megapixels": "too much memory",
}
linux = pytest.mark.skipif(sys.platform != "linux", reason="peaks and limits of memory are Linux's")


@linux
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in SAMPLE else pytest.mark.slow) for name in BOMBS | PHOTOS]
)
def test_every_bomb_is_read_or_refused_within_the_limits(name):
    figures = measured(name)
    assert figures["outcome"] != "wrong", figures
    assert within_limits(figures), figures
    assert SAMPLE.get(name, "") in figures["said"]
    if name in PHOTOS or SAMPLE.get(name) == "":
        assert figures["outcome"] == "read"


def test_damaged_pictures_are_read_or_refused_in_a_sentence():
    """One file for each damage and format; the full command takes four, and the bombs."""
    found = {}
    for kind, form, content in damaged(seeds=1):
        found[kind, form], said = outcome(content, "picture")
        assert found[kind, form] != "wrong", (kind, form, said)
    assert len(found) == len(DAMAGES) * len(FORMATS)
    assert set(found.values()) == {"read", "refused"}


def test_the_corpus_is_as_large_as_it_says():
    assert len(DAMAGES) + len(BOMBS) >= 30
    if HAS_AVIF:
        assert len(FORMATS) == 8
        assert len(DAMAGES) * len(FORMATS) * SEEDS + len(BOMBS) >= 700


def test_the_corpus_is_always_the_same():
    assert [content for *_, content in damaged(1)] == [content for *_, content in damaged(1)]


@pytest.mark.parametrize(
    ("kind", "size", "options"),
    [
        ("JPEG", (4000, 3000), {"quality": 92}),
        ("JPEG", (4000, 3000), {"quality": 92, "progressive": True}),
        ("JPEG", (2000, 1500), {"quality": 95, "subsampling": 0, "progressive": True}),
        ("PNG", (1600, 1200), {"compress_level": 1}),
        ("WEBP", (2000, 1500), {"method": 0}),
        ("BMP", (2000, 1500), {}),
        ("GIF", (640, 480), {}),
        ("TIFF", (64, 48), {"compression": "tiff_lzw"}),
    ],
)
def test_ordinary_pictures_are_decoded_where_they_are(monkeypatch, kind, size, options):
    monkeypatch.setattr(opening, "decode_in_child", lambda *_: pytest.fail("a process was started"))
    assert load_image(saved(photo(size), kind, **options)).size == size


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "GIF"])
def test_a_child_finds_what_this_process_finds(tmp_path, kind):
    if kind not in FORMATS:
        pytest.skip("this Pillow was built without AVIF")
    exif = Image.Exif()
    exif[274] = 6
    picture = noise((70, 300))
    picture.putalpha(picture.getchannel(0))
    path = tmp_path / "photo"
    (picture.convert("RGB") if kind in ("JPEG", "GIF") else picture).save(
        path, kind, **({} if kind == "GIF" else {"exif": exif})
    )
    for stream in (path.open("rb"), io.BytesIO(path.read_bytes())):
        with stream:
            here, there = decode(stream, "photo"), Photo(*decoding.decode_in_child(stream, "photo"))
            assert there.picture.tobytes() == here.picture.tobytes()
            assert there.picture.size == here.picture.size
            assert (there.width, there.height, there.flattened) == (here.width, here.height, here.flattened)


def test_what_a_child_refuses_is_refused_in_its_words(monkeypatch):
    monkeypatch.setattr(opening, "is_cheap", lambda stream: False)
    for content, message in [
        (png(size=(64, 8)), "'写真.png' is 64 x 8 pixels; both sides must be at least 16"),
        (b"no picture", "'写真.png' is not a picture that can be read"),
        (png(size=(8400, 6000), data=b""), "'写真.png' is 8400 x 6000 pixels, more than the 50 megapixels"),
        (png()[:-30], "'写真.png' is damaged or cut off, or takes too much memory"),
    ]:
        with pytest.raises(ImageError, match=message):
            load_image(content, "写真.png")


def test_time_is_up(monkeypatch):
    stream = io.BytesIO(png())
    if sys.platform != "win32":
        with monkeypatch.context() as patch:
            patch.setattr(decoding, "seconds_allowed", lambda: 1e-6)  # of the processor
            with pytest.raises(decoding.DecodingError, match="takes too long to decode"):
                decoding.decode_in_child(stream, "photo")
    monkeypatch.setattr(decoding, "START", -1e3)  # of the clock: what remains where nothing else does
    with pytest.raises(decoding.DecodingError, match="takes too long to decode"):
        decoding.decode_in_child(stream, "photo")


def test_without_processes_only_what_is_cheap_is_read(monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert load_image(png()).size == (64, 48)
    with pytest.raises(ImageError) as caught:
        load_image(jpeg(*icc(200_000)), "a.jpg")
    assert str(caught.value) == (
        "'a.jpg' needs a process of its own to decode, which could not be started (Operation not permitted); save it "
        "again as an ordinary JPEG and retry."
    )


def test_time_is_measured_when_it_is_needed(monkeypatch):
    decoding.seconds_allowed.cache_clear()
    load_image(png())
    assert decoding.seconds_allowed.cache_info().currsize == 0
    clock = iter([7.0, 7.25])  # a quarter of the reference photo takes a quarter of a second
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "time", SimpleNamespace(thread_time=lambda: next(clock)))
        assert decoding.seconds_allowed() == decoding.seconds_allowed() == 10.0  # ten times the whole photo, asked once
    decoding.seconds_allowed.cache_clear()
    assert decoding.seconds_allowed() > 0  # of this machine


def cost(content: bytes):
    return cost_of(io.BytesIO(content))


def test_scans_of_a_jpeg_cost_the_blocks_they_visit():
    once = saved(flat((64, 48)), "JPEG", progressive=True)
    place = once.rindex(b"\xff\xda")
    twice = once[:place] + once[place:-2] + once[place:]
    more = cost(twice).work - cost(once).work
    scan = len(twice) - len(once)
    # the last scan of Pillow's script refines the luminance: 8 x 6 blocks
    assert more == pytest.approx(PER_BLOCK * 48 + 5_000 + 40 * scan + 0.2 * 8, abs=1)
    # all coefficients, of 4 x 3 units of 4 + 1 + 1 blocks, of which each takes 128 bytes
    assert cost(once).memory > 4 * 64 * 48 + 128 * 72


@pytest.mark.parametrize("wrap", [lambda data: jpeg(segment(0xE1, b"Exif\0\0" + data)), tiff])
def test_tags_cost_what_they_name_although_they_share_it(wrap):
    if wrap is tiff:
        few, many = (tiff(64, 48, 1, bytes(3072), more=entries(n), extra=n) for n in (10, 1000))
    else:
        few, many = (wrap(tags(n, 30_000)) for n in (10, 1000))
    assert cost(many).memory - cost(few).memory > 990 * 3000
    assert is_cheap(io.BytesIO(few))


def entries(count: int) -> bytes:
    return b"".join(struct.pack("<HHII", 0x9000 + i, 7, 3072, 8) for i in range(count))


def test_counting_leaves_a_stream_at_its_start():
    for content in (b"", b"BM", png(), saved(flat((64, 48)), "JPEG"), b"GIF89a", b"RIFF1234WEBP", b"II*\0"):
        stream = io.BytesIO(content)
        is_cheap(stream)
        assert stream.tell() == 0


def test_headers_of_every_kind_can_be_counted():
    """Whatever a file holds, counting ends in a cost, or in none."""
    rng = np.random.default_rng(0)
    for form in FORMATS:
        whole = small_picture(form)
        for _ in range(200):
            data = bytearray(whole[: rng.integers(4, len(whole))])
            for place in rng.integers(4, len(data), 4) if len(data) > 4 else ():
                data[place] = rng.integers(256)
            found = cost(bytes(data))
            assert found is None or found.work >= 0
