"""Where training pictures come from, in which order, and what happens to damaged ones."""

import hashlib
import io
import random
import tarfile
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from conftest import photos
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image
from scipy.stats import kstest, norm

from train.data import draws as draws_module
from train.data.crops import Crop, adm_square, crop_squares, cut, random_crop
from train.data.draws import counted_normal, normal_draws, uniform_draws
from train.data.held_out import ValidationPhotos, load_held_out
from train.data.positions import TrainingPositions
from train.data.prefetching import prefetch
from train.data.sources import GeneratedPictures, load_photos
from train.data.stream import TrainingStream
from train.errors import DataError
from train.presets import PRESETS
from train.settings import Schedule

WHOLE = Crop(None, (1.0, 1.0), True)


def picture(value: int, size=(40, 40)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (value, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def write_parquet(folder, values, damaged=()) -> None:
    rows = {
        "image": [
            {"bytes": b"broken" if i in damaged else picture(v), "path": f"{v}.png"} for i, v in enumerate(values)
        ],
        "label": [i % 2 for i in range(len(values))],
    }
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=["even", "odd"])})
    folder.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict(rows, features=features).to_parquet(folder / "train-00000.parquet")


def write_shards(folder, values, shards=2, damaged=()) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        with tarfile.open(folder / f"train-{shard:05}.tar", "w") as tar:
            for i, value in list(enumerate(values))[shard::shards]:
                data = b"broken" if i in damaged else picture(value)
                info = tarfile.TarInfo(f"{value:06}.png")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def reds(images: torch.Tensor) -> list[int]:
    return [int((image[0, 5, 5] * 255).round()) for image in images]


def schedule(steps, batch, **changes) -> Schedule:
    return Schedule(steps, batch, 1e-3, 1, workers=0, **changes)


# ---- sources ------------------------------------------------------------------------------------------------------


def test_parquet_folders_image_folders_and_tar_shards_hold_the_same(tmp_path):
    values = [10, 20, 30, 40]
    write_parquet(tmp_path / "parquet", values)
    write_shards(tmp_path / "tar", values)
    (tmp_path / "folder" / "train" / "red").mkdir(parents=True)
    for value in values:
        (tmp_path / "folder" / "train" / "red" / f"{value}.png").write_bytes(picture(value))
    for kind in ("parquet", "folder"):
        positions = TrainingPositions([load_photos(str(tmp_path / kind), "train")], 32, WHOLE, seed=0)
        assert sorted(reds(positions[i][0] for i in range(4))) == values
    stream = TrainingStream(load_photos(str(tmp_path / "tar"), "train"), 32, WHOLE, seed=0)
    (batch,) = stream.batches(schedule(1, 4), 0, 0, 1)
    assert sorted(reds(batch.images)) == values
    streamed = load_photos(str(tmp_path / "parquet"), "train", streaming=True)
    assert isinstance(streamed, datasets.IterableDataset)
    (batch,) = TrainingStream(streamed, 32, WHOLE, seed=0).batches(schedule(1, 4), 0, 0, 1)
    assert sorted(reds(batch.images)) == values


@pytest.mark.parametrize("kind", ["parquet", "folder"])
def test_the_same_data_by_another_path_has_the_same_fingerprint(tmp_path, monkeypatch, kind):
    """Kept latents are found by it, from whatever folder the training is started."""
    write_parquet(tmp_path / "parquet", [10, 20])
    (tmp_path / "folder" / "train" / "red").mkdir(parents=True)
    (tmp_path / "folder" / "train" / "red" / "10.png").write_bytes(picture(10))
    (tmp_path / "link").symlink_to(tmp_path / kind)
    monkeypatch.chdir(tmp_path)
    ways = (str(tmp_path / kind), kind, "link", f"folder/../{kind}")
    assert len({load_photos(way, "train")._fingerprint for way in ways}) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "there is no such folder"),
        (lambda folder: folder.mkdir(), "no 'train-"),
        (lambda folder: folder.write_text("a file"), "there is no such folder"),
        (lambda folder: (folder.mkdir(), (folder / "train-0.parquet").write_bytes(b"no parquet")), "its 'train-"),
        (lambda folder: (folder.mkdir(), (folder / "train-0.tar").write_bytes(b"no tar")), "its 'train-"),
    ],
)
def test_unusable_data_is_one_sentence(tmp_path, make, message):
    make(tmp_path / "data")
    with pytest.raises(DataError, match=message) as caught:
        load_photos(str(tmp_path / "data"), "train")
    assert "\n" not in str(caught.value)


def test_a_hub_name_that_cannot_be_had_is_one_sentence():
    with pytest.raises(DataError, match=r"no data set of that name could be fetched from the hub") as caught:
        load_photos("ILSVRC/imagenet-1k", "train")
    assert "\n" not in str(caught.value)


def test_the_picture_column_is_found_or_asked_for(tmp_path):
    features = Features({"jpg": ImageFeature()})
    (tmp_path / "one").mkdir()
    rows = {"jpg": [{"bytes": picture(9), "path": None}]}
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "one" / "train-0.parquet")
    assert load_photos(str(tmp_path / "one"), "train").column_names == ["image"]
    (tmp_path / "none").mkdir()
    Dataset.from_dict({"text": ["a"]}).to_parquet(tmp_path / "none" / "train-0.parquet")
    with pytest.raises(DataError, match=r"columns are 'text' \(string\)"):
        load_photos(str(tmp_path / "none"), "train")


# ---- order, crops, noise ------------------------------------------------------------------------------------------


class _Flip:
    """Stands for the random generator of a crop: no offset, flip below 0.5."""

    def __init__(self, value: float):
        self.value = value

    def uniform(self, low, high):
        return low

    def random(self):
        return self.value


def test_every_epoch_sees_every_photo_once_and_differently():
    sources = [GeneratedPictures(5, seed=0), GeneratedPictures(3, seed=1)]
    positions = TrainingPositions(sources, 32, WHOLE, seed=0)
    assert positions.photos == 8
    flat = {
        tuple(np.array(random_crop(row["image"], 32, (1, 1), True, _Flip(value)))[0, 0])
        for source in sources
        for row in source
        for value in (0.0, 0.9)
    }
    for epoch in range(2):
        seen = [tuple((positions[8 * epoch + i][0][:, 0, 0] * 255).round().int().tolist()) for i in range(8)]
        assert set(seen) <= {tuple(int(v) for v in corner) for corner in flat}
        assert len(set(seen)) == 8
    first = [positions[i][0] for i in range(8)]
    again = TrainingPositions(sources, 32, WHOLE, seed=0)
    assert all(torch.equal(again[i][0], first[i]) for i in (7, 2, 5))
    assert not all(torch.equal(positions[8 + i][0], first[i]) for i in range(8))


def test_imagenet_crops_are_pixels_of_the_picture_resized_to_384():
    """RAE's recipe: shorter side 384, bicubic, then a random square of 256 without further resampling."""
    row = PRESETS["dinov2-b"].stage1["decoder"].schedule
    crop = Crop(row.crop_resize, row.crop_scale, row.flip)
    photo = GeneratedPictures(1, 0, size=500)[0]["image"].crop((0, 0, 500, 400))
    large = np.array(photo.resize((480, 384), Image.Resampling.BICUBIC))
    for position in range(3):
        image = (cut(photo, 256, crop, 0, position) * 255).round().byte().permute(1, 2, 0).numpy()
        windows = np.lib.stride_tricks.sliding_window_view(large[..., 0], (256, 256))
        places = np.argwhere((windows[:, :, 0] == image[0, :, 0]).all(2))  # by the first row, not to compare them all
        assert any(np.array_equal(windows[y, x], image[..., 0]) for y, x in places)
    assert not torch.equal(cut(photo, 256, crop, 0, 0), cut(photo, 256, crop, 0, 1))


@pytest.mark.parametrize(("world", "accumulation"), [(1, 2), (2, 1), (2, 2)])
def test_a_step_sees_the_same_pictures_however_it_is_cut(world, accumulation):
    positions = TrainingPositions([GeneratedPictures(50, 0)], 32, WHOLE, seed=0)
    whole = list(positions.batches(schedule(3, 8), 0, 0, 1))
    parts = [list(positions.batches(schedule(3, 8, accumulation=accumulation), 0, r, world)) for r in range(world)]
    for step, batch in enumerate(whole):
        pieces = [parts[r][step * accumulation + a] for a in range(accumulation) for r in range(world)]
        assert torch.equal(torch.cat([piece.images for piece in pieces]), batch.images)
        assert torch.equal(torch.cat([piece.positions for piece in pieces]), batch.positions)
    resumed = list(positions.batches(schedule(3, 8), 2, 0, 1))
    assert len(resumed) == 1
    assert torch.equal(resumed[0].images, whole[2].images)


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"batch of 8 does not divide over 3 processes x 1"):
        schedule(1, 8).micro_batch(3)


@pytest.mark.parametrize("workers", [0, 3])
def test_a_stream_is_split_over_processes_and_resumes_exactly(tmp_path, workers):
    values = list(range(10, 26))
    write_shards(tmp_path, values, shards=4)

    def run(rank, world, start=0):
        rows = load_photos(str(tmp_path), "train")
        plan = Schedule(4, 8, 1e-3, 1, workers=workers)
        return list(TrainingStream(rows, 32, WHOLE, seed=0).batches(plan, start, rank, world))

    whole = run(0, 1)
    first = [red for batch in whole[:2] for red in reds(batch.images)]
    assert sorted(first) == values  # an epoch is every picture once
    assert first != values
    assert [r for b in whole[2:] for r in reds(b.images)] != first  # the next is shuffled anew
    for resumed, original in zip(run(0, 1, start=3), whole[3:], strict=True):
        assert torch.equal(resumed.images, original.images)
        assert torch.equal(resumed.positions, original.positions)
    halves = [[red for batch in run(rank, 2)[:2] for red in reds(batch.images)] for rank in range(2)]
    assert sorted(halves[0] + halves[1]) == values
    positions = [p for rank in range(2) for batch in run(rank, 2) for p in batch.positions.tolist()]
    assert len(set(positions)) == len(positions)


def test_draws_depend_on_the_position_alone():
    positions = torch.tensor([3, 8, 2])
    draws = uniform_draws(0, positions, 4, "sigma")
    assert torch.equal(uniform_draws(0, positions[1:2], 4, "sigma")[0], draws[1])
    assert not torch.equal(uniform_draws(0, positions, 4, "crop"), draws)
    assert not torch.equal(uniform_draws(1, positions, 4, "sigma"), draws)
    noise = normal_draws(0, torch.arange(200), (50,), torch.device("cpu"))
    assert torch.equal(normal_draws(0, torch.tensor([7]), (50,), torch.device("cpu"))[0], noise[7])
    assert noise.mean().item() == pytest.approx(0, abs=0.03)
    assert noise.std().item() == pytest.approx(1, abs=0.03)
    many = uniform_draws(0, torch.arange(2000), 1, "sigma")
    assert many.mean().item() == pytest.approx(0.5, abs=0.02)
    assert many.std().item() == pytest.approx(12**-0.5, abs=0.02)


def splitmix(key: int, counter: int) -> int:
    """SplitMix64 in Python's whole numbers."""
    mask = 2**64 - 1
    x = (key + counter * 0x9E3779B97F4A7C15) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def test_counted_draws_are_splitmix():
    key = int.from_bytes(hashlib.blake2b(b"5/crop", digest_size=8).digest(), "big")
    draws = uniform_draws(5, torch.tensor([0, 7, 10**6]), 3, "crop")
    for row, position in zip(draws.tolist(), (0, 7, 10**6), strict=True):
        assert row == [(splitmix(key, position * 3 + i) >> 40) / 2**24 for i in (1, 2, 3)]


@pytest.mark.parametrize(("bits", "quantile"), [(2**24 - 1, 1 - 2**-24), (0, 2**-24), (2**23, 0.5 + 2**-24)])
def test_the_rarest_noise_is_finite(monkeypatch, bits, quantile):
    """On a card 25 million numbers are drawn a step: the largest of 2 ** 24 comes up in every one."""
    monkeypatch.setattr(draws_module, "_mix", lambda seed, positions, count, what: torch.full((1, count), bits))
    noise = counted_normal(0, torch.tensor([0]), (2,))
    assert noise[0, 0].item() == pytest.approx(norm.ppf(quantile), rel=1e-4, abs=1e-9)


def test_counted_noise_is_normal_and_depends_on_the_position_alone():
    noise = counted_normal(0, torch.arange(400), (10, 25))
    assert noise.isfinite().all()
    values = np.sort(noise.flatten().numpy())
    assert kstest(values, "norm").pvalue > 1e-3
    assert torch.equal(counted_normal(0, torch.tensor([9]), (10, 25))[0], noise[9])
    neighbours = np.corrcoef(noise.flatten()[:-1], noise.flatten()[1:])[0, 1]
    assert abs(neighbours) < 0.015  # five standard errors


def test_squares_are_cut_where_the_corners_say():
    images = torch.rand(3, 3, 12, 15, requires_grad=True)
    corners = torch.tensor([[0, 0], [4, 7], [2, 10]])
    squares = crop_squares(images, corners, 5)
    for image, square, (y, x) in zip(images, squares, corners.tolist(), strict=True):
        assert torch.equal(square, image[:, y : y + 5, x : x + 5])
    squares.sum().backward()
    assert images.grad.sum().item() == 3 * 3 * 25
    assert images.grad.max().item() == 1


def test_prefetch_keeps_order_and_distance():
    taken = []

    def items():
        for i in range(100):
            taken.append(i)
            yield i

    results = prefetch(lambda i: i * i, items(), threads=2)
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    assert len(taken) < 20
    assert list(results) == [i * i for i in range(3, 100)]


# ---- damaged pictures ---------------------------------------------------------------------------------------------


def test_damaged_pictures_are_named_and_replaced(tmp_path):
    write_parquet(tmp_path, [10, 20, 30, 40], damaged=[2])
    positions = TrainingPositions([load_photos(str(tmp_path), "train")], 32, WHOLE, seed=0)
    (batch,) = positions.batches(schedule(1, 4), 0, 0, 1)
    assert len(batch.images) == 4
    assert set(reds(batch.images)) == {10, 20, 40}
    assert len(batch.damaged) == 1
    assert "30.png" in batch.damaged[0]


def test_a_picture_that_may_not_be_read_is_named_and_replaced(tmp_path, monkeypatch):
    data, usual = photos(tmp_path), Path.open
    (damaged,) = [i for i in range(data.photos) if data.row(i)["image"]["path"].endswith("3.png")]

    def refuse(self, *args, **kwargs):
        if self.name == "3.png":
            raise PermissionError(13, "Permission denied", str(self))
        return usual(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    (position,) = [p for p in range(data.photos) if data.index(p) == damaged]
    image, _, (note,), *_ = data[position]
    assert "cannot be read (Permission denied)" in note
    assert "3.png" in note
    assert image.shape == (3, 32, 32)


def test_damaged_pictures_of_a_stream_are_named_and_replaced(tmp_path):
    write_shards(tmp_path, [10, 20, 30, 40], shards=1, damaged=[1])
    stream = TrainingStream(load_photos(str(tmp_path), "train"), 32, WHOLE, seed=0)
    batches = list(stream.batches(schedule(2, 4), 0, 0, 1))
    assert set(reds(torch.cat([batch.images for batch in batches]))) == {10, 30, 40}
    assert any("000020" in note for batch in batches for note in batch.damaged)


def test_data_that_is_all_damaged_is_refused(tmp_path):
    write_parquet(tmp_path / "p", [1, 2], damaged=[0, 1])
    positions = TrainingPositions([load_photos(str(tmp_path / "p"), "train")], 32, WHOLE, seed=0)
    with pytest.raises(DataError, match=r"50 training pictures in a row cannot be read"):
        positions[0]
    write_shards(tmp_path / "t", [1, 2], shards=1, damaged=[0, 1])
    stream = TrainingStream(load_photos(str(tmp_path / "t"), "train"), 32, WHOLE, seed=0)
    with pytest.raises(DataError, match=r"50 pictures in a row cannot be read"):
        list(stream.batches(schedule(100, 2), 0, 0, 1))
    with pytest.raises(DataError, match=r"no picture of 2 can be read"):
        list(ValidationPhotos(load_photos(str(tmp_path / "p"), "train"), 32).batches(2))


def test_a_stream_resumes_exactly_next_to_a_damaged_picture(tmp_path):
    """The picture that replaces a damaged one is the same, also when it belongs to an earlier sitting."""
    write_shards(tmp_path, list(range(10, 22)), shards=1, damaged=[0, 1, 5, 6, 9, 11])

    def run(start):
        rows = load_photos(str(tmp_path), "train")
        return list(TrainingStream(rows, 32, WHOLE, seed=0).batches(schedule(12, 2), start, 0, 1))

    whole = run(0)
    for start in range(1, 12):
        for resumed, original in zip(run(start), whole[start:], strict=True):
            assert torch.equal(resumed.images, original.images)
            assert torch.equal(resumed.positions, original.positions)


def test_the_adm_crop_against_its_definition():
    """Halving by boxes, then bicubic to the shorter side, then the centre."""
    photo = GeneratedPictures(1, 0, size=150)[0]["image"].crop((0, 0, 150, 130))
    step = photo.resize((75, 65), Image.Resampling.BOX)  # 65 < 2 * 40 stops
    expected = step.resize((46, 40), Image.Resampling.BICUBIC).crop((3, 0, 43, 40))
    assert np.array_equal(np.array(adm_square(photo, 40)), np.array(expected))


def test_held_out_tar_shards_are_read_into_memory(tmp_path):
    write_shards(tmp_path, [10, 20, 30], shards=1)
    photos = load_held_out(str(tmp_path), "train", 32, limit=2)
    assert reds(torch.cat(list(photos.batches(4)))) == [10, 20]
    empty = Dataset.from_dict({"image": []}, features=Features({"image": ImageFeature()}))
    empty.to_parquet(tmp_path / "validation-0.parquet")
    with pytest.raises(DataError, match="validation"):
        load_held_out(str(tmp_path), "validation", 32)


def test_validation_counts_and_skips_damaged_pictures(tmp_path):
    write_parquet(tmp_path, [10, 20, 30, 40, 50], damaged=[3])
    photos = ValidationPhotos(load_photos(str(tmp_path), "train"), 32)
    batches = list(photos.batches(2))
    assert reds(torch.cat(batches)) == [10, 20, 30, 50]
    assert [len(batch) for batch in batches] == [2, 2]
    assert len(photos.damaged) == 1
    assert "40.png" in photos.damaged[0]
    assert photos.labels().tolist() == [0, 1, 0, 0]


def test_a_stream_of_held_out_photos_is_read_picture_by_picture(tmp_path):
    """Statistics of a hub data set need all of it, and not in memory."""
    write_shards(tmp_path / "data", range(10, 130, 10), damaged=(2,))
    photos = load_held_out(str(tmp_path / "data"), "train", 32, in_memory=False)
    assert photos.count is None
    for _ in range(2):  # as often as it is asked for
        images = torch.cat(list(photos.batches(4)))
        assert sorted(reds(images)) == sorted(set(range(10, 130, 10)) - {30})
        assert len(photos.damaged) == 1
    few = load_held_out(str(tmp_path / "data"), "train", 32, limit=3, in_memory=False)
    assert sum(map(len, few.batches(2))) + len(few.damaged) == 3


def test_shares_give_every_source_its_part_of_any_stretch():
    sources = [GeneratedPictures(n, seed) for n, seed in ((5, 0), (3, 1), (2, 2))]
    positions = TrainingPositions(sources, 32, WHOLE, seed=0, shares=(3, 1, 1))
    indices = [positions.index(p) for p in range(5 * 10)]
    of = [0 if i < 5 else 1 if i < 8 else 2 for i in indices]
    assert of == [0, 0, 0, 1, 2] * 10
    for source, (start, count) in enumerate(((0, 5), (5, 3), (8, 2))):
        own = [i for i, s in zip(indices, of, strict=True) if s == source]
        for epoch in range(len(own) // count):  # each of its epochs has every picture once
            assert sorted(own[epoch * count : (epoch + 1) * count]) == list(range(start, start + count))
    # the same after any other position, as a resumed run asks
    assert [positions.index(p) for p in (49, 0, 23, 22)] == [indices[p] for p in (49, 0, 23, 22)]
    with pytest.raises(DataError, match="--shares 3 1: give"):
        TrainingPositions(sources, 32, WHOLE, seed=0, shares=(3, 1))
    with pytest.raises(DataError, match="--shares 3 0 1"):
        TrainingPositions(sources, 32, WHOLE, seed=0, shares=(3, 0, 1))


def test_every_step_has_pictures_of_one_of_its_sides():
    plan = schedule(40, 4, sides=((0, (16, 32)), (30, (24,))))
    positions = TrainingPositions([GeneratedPictures(64, 0)], lambda p: plan.side(p // 4), WHOLE, seed=0)
    sides = [batch.images.shape[-1] for batch in positions.batches(plan, 0, 0, 1)]
    assert set(sides[:30]) == {16, 32}
    assert set(sides[30:]) == {24}
    assert [b.images.shape[-1] for b in positions.batches(plan, 7, 0, 1)] == sides[7:]
    rows = datasets.IterableDataset.from_generator(lambda: iter(GeneratedPictures(64, 0)))
    stream = TrainingStream(rows, lambda p: plan.side(p // 4), WHOLE, 0)
    assert [batch.images.shape[-1] for batch in stream.batches(plan, 0, 0, 1)] == sides


def test_crops_are_never_enlarged():
    """Of a 48 px picture a 32 px crop takes a square of 32 to 48 px, whatever the scale allows."""
    fine = Image.fromarray(np.indices((48, 48)).sum(0).astype(np.uint8) % 2 * 255).convert("RGB")  # a checkerboard
    crops = [random_crop(fine, 32, (0.1, 0.1), False, random.Random(i)) for i in range(20)]
    assert all(np.array_equal(np.unique(np.array(crop)), [0, 255]) for crop in crops)  # cut, not resampled
    whole = random_crop(fine, 64, (0.1, 0.5), False, random.Random(0))
    assert np.array_equal(np.array(whole), np.array(fine.resize((64, 64), Image.Resampling.LANCZOS)))
