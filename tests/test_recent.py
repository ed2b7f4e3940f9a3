"""The last readings are kept, within bounds, and shared by threads."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import build
from PIL import Image

from drorae.explorer.recent import RecentReadings, photo_key
from drorae.images import ImageError, Photo


def load(seed: int = 0) -> Photo:
    return Photo.of(Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 56, 3), dtype=np.uint8)))


def never() -> Photo:
    raise AssertionError("this photo was read already")


def test_the_same_photo_again_is_the_same_reading(tiny):
    recent = RecentReadings()
    first = recent.read("cat", load, tiny)
    assert recent.read("cat", never, tiny) is first
    assert recent.read("cat", never, tiny, size=32) is first  # its own size, named
    assert recent.read("dog", load, tiny) is not first


def test_another_model_size_part_or_crop_is_another_reading(tiny):
    recent = RecentReadings()
    free = build(any_size=True)
    readings = [
        recent.read("cat", load, tiny),
        recent.read("cat", load, free, size=32),
        recent.read("cat", load, free, size=64),
        recent.read("cat", load, free, size=64, whole=True),
        recent.read("cat", load, free, size=64, centre=(0.2, 0.5)),
    ]
    assert len({id(reading) for reading in readings}) == len(recent) == 5
    assert [tuple(reading.images.shape[-2:]) for reading in readings[:4]] == [(32, 32), (32, 32), (64, 64), (56, 72)]
    recent.forget(free)
    assert len(recent) == 1
    assert recent.read("cat", never, tiny) is readings[0]


def test_the_oldest_goes_first_and_asking_counts(tiny):
    recent = RecentReadings(count=2)
    for key in ("a", "b", "a", "c"):
        recent.read(key, load, tiny)
    recent.read("a", never, tiny)
    recent.read("c", never, tiny)
    with pytest.raises(AssertionError, match="read already"):
        recent.read("b", never, tiny)
    assert len(recent) == 2


def test_bytes_are_bounded_also_when_a_reading_grows(tiny):
    size = RecentReadings().read("a", load, tiny).nbytes
    recent = RecentReadings(limit=3 * size)
    first = recent.read("a", load, tiny)
    for key in ("b", "c"):
        recent.read(key, load, tiny)
    assert len(recent) == 3
    list(first.interventions())
    assert first.nbytes > 3 * size
    recent.read("c", never, tiny)
    assert len(recent) == 2
    small = RecentReadings(limit=1)
    small.read("a", load, tiny)
    small.read("a", never, tiny)  # the last one always stays


def test_what_cannot_be_read_is_not_kept(tiny):
    recent = RecentReadings()
    with pytest.raises(ImageError, match="works at 32 pixels only"):
        recent.read("cat", load, tiny, size=64)
    assert len(recent) == 0


def test_threads_share_it(tiny):
    recent = RecentReadings(count=3)
    expected = {seed: RecentReadings().read("x", lambda s=seed: load(s), tiny).routes.metrics for seed in range(5)}

    def ask(i: int):
        seed = i % 5
        return seed, recent.read(str(seed), lambda: load(seed), tiny).routes.metrics

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(60)))
    assert all(metrics == expected[seed] for seed, metrics in answers)
    assert len(recent) == 3


def test_a_key_is_the_hash_of_the_file():
    assert photo_key(b"abc") == "ba7816bf8f01cfea" == hashlib.sha256(b"abc").hexdigest()[:16]
