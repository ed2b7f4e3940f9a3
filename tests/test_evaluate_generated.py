"""Measuring generated pictures: the distance of a set to itself, agreement with known answers, what is refused."""

import json
import sys

import numpy as np
import pytest
import torch
from conftest import PHOTOS
from PIL import Image
from torch import nn

from drorae.images import square
from train import evaluate
from train.data.rows import picture_of
from train.data.sources import load_photos
from train.errors import DataError, RunError
from train.measure import generated
from train.measure.efficientnet import EfficientNetLite2
from train.measure.frechet import FrechetDistance
from train.measure.generated import (
    Judge,
    agreement,
    class_numbers,
    compare,
    load_generated,
    load_judges,
    measure_generated,
    nearness,
    table,
)
from train.measure.manifold import precision_recall
from train.measure.mobilenet import MobileNetV2

WEIGHTS = PHOTOS / "weights"
needs_data = pytest.mark.skipif(not WEIGHTS.is_dir(), reason="the judges' weights are not there")


def test_the_two_sets_may_have_different_sizes():
    rng = torch.Generator().manual_seed(0)
    real, generated = torch.randn(300, 4, generator=rng), 2 + torch.randn(200, 4, generator=rng)
    distance = FrechetDistance(4)
    for part in real.split(64):
        distance.add(part, real=True)
    distance.add(generated, real=False)
    a, b = real.double().numpy(), generated.double().numpy()
    covariances = [np.cov(x, rowvar=False) for x in (a, b)]
    roots = np.linalg.eigvals(covariances[0] @ covariances[1])
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + sum(map(np.trace, covariances)) - 2 * np.sqrt(roots).real.sum()
    assert distance.count == 200
    assert distance.compute() == pytest.approx(expected, rel=1e-6)


def test_agreement_counts_first_places():
    logits = torch.zeros(4, 1000)
    logits[0, 5] = 3  # asked 0: right
    logits[1, 700] = 3  # asked 1: another class of the 1,000, but 9 before 5
    logits[1, 9] = 1
    logits[2, 9] = 3  # asked 0: the other class
    logits[3, 9] = 2
    assert agreement(logits, torch.tensor([0, 1, 0, 1]), [5, 9]) == {"all": 0.5, "asked": 0.75}


def test_nearness_written_out():
    usual = torch.arange(1.0, 102.0)  # its lowest hundredth lies at 2
    found = nearness(torch.tensor([0.5, 1.0, 3.0, 200.0]), usual)
    assert found["nearer"] == 0.5
    assert found["0.5"] == pytest.approx(2.0)
    assert nearness(usual, usual) == pytest.approx({"0.01": 2.0, "0.1": 11.0, "0.5": 51.0, "nearer": 1 / 101})


def test_sets_are_compared_with_as_many_real_pictures():
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(40, 2, generator=generator)
    found = compare(real[:25], real)
    chosen = real[np.linspace(0, 39, 25).round().astype(int)]
    assert (found["precision"], found["recall"]) == pytest.approx(precision_recall(chosen, real[:25]))
    far = compare(real + torch.tensor([30.0, 40.0]), real)
    assert (far["precision"], far["recall"]) == (0, 0)
    assert far["frechet"] == pytest.approx(2500, rel=1e-4)  # the same covariance: the squared shift is left


@needs_data
def test_both_judges_know_the_classes_by_the_same_numbers():
    names = load_photos(str(PHOTOS / "photos20"), "validation").features["label"].names
    numbers = class_numbers(names, WEIGHTS)
    lines = (WEIGHTS / "imagenet_labels_1001.txt").read_text().splitlines()
    assert [lines[1 + number].split(",")[0] for number in numbers] == names
    assert class_numbers(["tench", "no such thing"], WEIGHTS) is None
    assert class_numbers(["background"], WEIGHTS) is None


def written(folder, count=4, size=32, names=("tench", "church")):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{i:06d}.png")
    (folder / "settings.json").write_text(json.dumps({"classes": [1, 0], "names": list(names)}))
    return pictures


def test_folders_and_arrays_are_read_alike(tmp_path):
    pictures = written(tmp_path / "a")
    np.savez(tmp_path / "a" / "samples.npz", pictures, np.array([1, 0, 1, 0]))
    folder, packed = load_generated(str(tmp_path / "a")), load_generated(str(tmp_path / "a" / "samples.npz"))
    assert folder.labels == packed.labels == [1, 0, 1, 0]
    assert folder.names == packed.names == ["tench", "church"]
    for made in (folder, packed):
        images = torch.cat(list(made.batches(3)))
        assert torch.equal((images * 255).round().byte(), torch.from_numpy(pictures).permute(0, 3, 1, 2))
    Image.new("RGB", (9, 9)).save(tmp_path / "a" / "grid.png")  # no sample
    assert len(load_generated(str(tmp_path / "a"))) == 4
    with pytest.raises(DataError, match="there are no PNG files"):
        load_generated(str(tmp_path))
    np.savez(tmp_path / "other.npz", pictures=pictures)
    (tmp_path / "junk.npz").write_bytes(b"junk")
    for name in ("other", "junk"):
        with pytest.raises(DataError, match="no pictures in ADM's layout"):
            load_generated(str(tmp_path / f"{name}.npz"))


RECORDS = ['{"half', "[1]", '{"classes": 5}', '{"classes": ["tench"]}', '{"names": "tench"}', "[" * 100_000]


@pytest.mark.parametrize("record", RECORDS)
def test_a_damaged_record_is_one_sentence(tmp_path, record):
    written(tmp_path / "a")
    (tmp_path / "a" / "settings.json").write_text(record)
    with pytest.raises((DataError, RunError), match=r"settings\.json('| is)"):
        load_generated(str(tmp_path / "a"))


PIXELS = np.zeros((4, 32, 32, 3), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"arr_0": PIXELS.astype(np.float32)}, "of float32, where pictures are"),
        ({"arr_0": PIXELS.transpose(0, 3, 1, 2)}, r"\[4, 3, 32, 32\] of uint8, where pictures are"),
        ({"arr_0": PIXELS[..., 0]}, "where pictures are"),
        ({"arr_0": PIXELS[:0]}, "where pictures are"),
        ({"arr_0": PIXELS, "arr_1": np.array([0, 1])}, "not one class number for each of 4 pictures"),
        ({"arr_0": PIXELS, "arr_1": np.zeros(4)}, "not one class number for each of 4 pictures"),
    ],
)
def test_arrays_of_another_layout_are_refused(tmp_path, arrays, said):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=said):
        load_generated(str(tmp_path / "a.npz"))


def test_pictures_of_several_sizes_are_refused(tmp_path):
    written(tmp_path / "a")
    Image.new("RGB", (48, 40)).save(tmp_path / "a" / "000002.png")
    with pytest.raises(DataError, match="several sizes, 32 x 32 and 48 x 40; give one size"):
        list(load_generated(str(tmp_path / "a")).batches(4))


@needs_data
def test_too_few_pictures_are_refused(tmp_path):
    written(tmp_path / "a")
    with pytest.raises(DataError, match="needs more than 1280 pictures, and there are 4"):
        evaluate.main(["--generated", str(tmp_path / "a"), "--data", "generated", "--weights", str(WEIGHTS)])


@pytest.fixture
def two_features(monkeypatch):
    """Judges of 2 features, so that a handful of pictures is enough for a Frechet distance."""

    def cut(kind):
        original = kind.forward
        monkeypatch.setattr(kind, "num_features", 2)
        monkeypatch.setattr(kind, "forward", lambda self, x: (original(self, x)[0][:, :2], original(self, x)[1]))

    cut(MobileNetV2)
    cut(EfficientNetLite2)


@needs_data
def test_a_report_end_to_end(tmp_path, two_features, monkeypatch, capsys):
    for name in ("a", "b"):
        written(tmp_path / name)
    paths = [str(tmp_path / name) for name in ("a", "b")]
    arguments = ["--data", "generated", "--limit", "6", "--weights", str(WEIGHTS), "--json", str(tmp_path / "r.json")]
    evaluate.main(["--generated", *paths, *arguments])
    report = json.loads((tmp_path / "r.json").read_text())
    assert list(report["judges"]) == ["mobilenetv2", "efficientnet-lite2"]
    for judge in report["judges"]:
        a, b = (report["sets"][name][judge] for name in paths)
        assert a == pytest.approx(b)  # the same pictures
        assert a["frechet"] > 0
        assert a["all"] == 0  # noise is no tench
    assert report["sets"]["real photos"]["pictures"] == 6
    assert report["sets"]["real photos"]["mobilenetv2"] == {}  # generated pictures have no ImageNet names
    assert report["reference"].startswith("generated validation, 6 photos")
    assert "--limit 6" in report["command"]
    printed = capsys.readouterr().out
    assert printed.startswith(table(report))
    assert "nearest of" not in printed
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(DataError, match="pip install torch-fidelity"):
        measure_generated(paths, "generated", "train", 6, weights=WEIGHTS, inception=True)


class Mean(nn.Module):
    """A judge that sees the mean colour."""

    num_features = 3

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return images.mean((2, 3)), torch.zeros(len(images), 1000)


def test_copies_are_near_and_other_pictures_are_not(tmp_path, monkeypatch, capsys):
    """Training pictures as "generated" ones lie at distance 0; bright noise lies farther out than held-out pictures."""
    monkeypatch.setattr(generated, "load_judges", lambda weights, device: ({"mean": Judge("Mean", Mean(), 0)}, {}))
    monkeypatch.setattr(generated, "class_numbers", lambda names, weights: None)
    rows = load_photos("generated", "train")
    (tmp_path / "copies").mkdir()
    for i in range(6):
        square(rows[i]["image"], 32).save(tmp_path / "copies" / f"{i:06d}.png")
    (tmp_path / "noise").mkdir()
    for i, picture in enumerate(np.random.default_rng(0).integers(200, 256, (6, 32, 32, 3), dtype=np.uint8)):
        Image.fromarray(picture).save(tmp_path / "noise" / f"{i:06d}.png")
    paths = [str(tmp_path / name) for name in ("copies", "noise")]
    arguments = ["--data", "generated", "--limit", "30", "--json", str(tmp_path / "r.json")]
    evaluate.main(["--generated", *paths, "--copies", *arguments])
    report = json.loads((tmp_path / "r.json").read_text())
    assert "--copies" in report["command"]
    copies, noise, real = (report["sets"][name]["mean"]["nearest"] for name in (*paths, "real photos"))
    assert copies["0.5"] == pytest.approx(0, abs=1e-6)
    assert copies["nearer"] == 1
    assert 1e-4 < real["0.5"] < noise["0.01"]
    assert noise["nearer"] == 0
    printed = capsys.readouterr().out
    assert f"nearest of {report['training_photos']} training photos" in printed
    assert f"| {real['0.01']:.2f} | {real['0.1']:.2f} | {real['0.5']:.2f} |" in printed
    with pytest.raises(DataError, match="give another --split than 'train'"):
        evaluate.main(["--generated", *paths, "--copies", "--split", "train", *arguments])


def test_without_the_weights_of_any_judge_it_is_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no judge: .*mobilenet.* is not there; .*efficientnet"):
        load_judges(tmp_path, "cpu")


@needs_data
@pytest.mark.slow
def test_real_photos_are_recognised_and_near_themselves(tmp_path, two_features):
    """Photos of the split as "generated" pictures: distance 0, the same agreement, everything covered."""
    rows = load_photos(str(PHOTOS / "photos20"), "validation")
    chosen = np.linspace(0, len(rows) - 1, 24).round().astype(int)
    folder = tmp_path / "real"
    folder.mkdir()
    for i, index in enumerate(chosen):
        picture_of(rows[int(index)], "x").save(folder / f"{i:06d}.png")
    classes = [rows[int(index)]["label"] for index in chosen]
    (folder / "settings.json").write_text(json.dumps({"classes": classes, "names": rows.features["label"].names}))
    data = str(PHOTOS / "photos20")
    sets = measure_generated([str(folder)], data, "validation", 24, weights=WEIGHTS)["sets"]
    for judge in ("mobilenetv2", "efficientnet-lite2"):
        found = sets[str(folder)][judge]
        assert found["frechet"] == pytest.approx(0, abs=1e-6)
        assert found["precision"] == found["recall"] == 1
        assert found["asked"] == sets["real photos"][judge]["asked"] > 0.7
