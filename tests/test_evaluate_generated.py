"""Measuring generated pictures: the distance of a set to itself, agreement with known answers, what is refused."""

import json
import sys

import numpy as np
import pytest
import torch
from conftest import PHOTOS
from PIL import Image

from train import evaluate
from train.data.sources import load_photos
from train.errors import DataError
from train.measure.frechet import FrechetDistance
from train.measure.generated import Agreement, evaluator_classes, load_generated, measure_generated, table
from train.measure.mobilenet import MobileNetV2

WEIGHTS = PHOTOS / "weights"
needs_data = pytest.mark.skipif(not WEIGHTS.is_dir(), reason="the evaluator's weights are not there")


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
    agreement = Agreement([5, 9])
    logits = torch.zeros(4, 1001)
    logits[0, 5] = 3  # asked 0: right
    logits[1, 700] = 3  # asked 1: another class of the 1,000, but 9 before 5
    logits[1, 9] = 1
    logits[2, 9] = 3  # asked 0: the other class
    logits[3, 0] = 9  # background is no class
    logits[3, 9] = 2
    agreement.update(logits, torch.tensor([0, 1, 0, 1]))
    assert agreement.shares() == {"all": 0.5, "asked": 0.75}


@needs_data
def test_names_find_their_evaluator_class():
    names = load_photos(str(PHOTOS / "photos20"), "validation").features["label"].names
    numbers = evaluator_classes(names, WEIGHTS)
    lines = (WEIGHTS / "imagenet_labels_1001.txt").read_text().splitlines()
    assert [lines[number].split(",")[0] for number in numbers] == names
    assert evaluator_classes(["tench", "no such thing"], WEIGHTS) is None


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


@needs_data
def test_too_few_pictures_are_refused(tmp_path):
    written(tmp_path / "a")
    with pytest.raises(DataError, match="needs more than 1280 pictures, and there are 4"):
        evaluate.main(["--generated", str(tmp_path / "a"), "--data", "generated", "--weights", str(WEIGHTS)])


@needs_data
def test_a_report_end_to_end(tmp_path, monkeypatch, capsys):
    """With an evaluator of 2 features, so that a handful of pictures is enough."""
    original = MobileNetV2.forward
    monkeypatch.setattr(MobileNetV2, "num_features", 2)
    monkeypatch.setattr(MobileNetV2, "forward", lambda self, x: (original(self, x)[0][:, :2], original(self, x)[1]))
    for name in ("a", "b"):
        written(tmp_path / name)
    paths = [str(tmp_path / name) for name in ("a", "b")]
    arguments = ["--data", "generated", "--limit", "6", "--weights", str(WEIGHTS), "--json", str(tmp_path / "r.json")]
    evaluate.main(["--generated", *paths, *arguments])
    report = json.loads((tmp_path / "r.json").read_text())
    a, b = (report["sets"][name] for name in paths)
    assert a["fd-mobilenetv2"] == pytest.approx(b["fd-mobilenetv2"])  # the same pictures
    assert a["fd-mobilenetv2"] > 0
    assert a["all"] == 0  # noise is no tench
    assert report["sets"]["real photos"] == {"pictures": 6}  # generated pictures have no ImageNet names
    assert "--limit 6" in report["command"]
    printed = capsys.readouterr().out
    assert printed.startswith(table(report))
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(DataError, match="pip install torch-fidelity"):
        measure_generated(paths, "generated", "train", 6, weights=WEIGHTS, inception=True)


@needs_data
def test_real_photos_are_recognised_and_near_themselves(tmp_path, monkeypatch):
    """Photos of the split as "generated" pictures: distance 0 and the same agreement."""
    original = MobileNetV2.forward
    monkeypatch.setattr(MobileNetV2, "num_features", 2)
    monkeypatch.setattr(MobileNetV2, "forward", lambda self, x: (original(self, x)[0][:, :2], original(self, x)[1]))
    rows = load_photos(str(PHOTOS / "photos20"), "validation")
    chosen = np.linspace(0, len(rows) - 1, 24).round().astype(int)
    folder = tmp_path / "real"
    folder.mkdir()
    from train.data.rows import picture_of

    for i, index in enumerate(chosen):
        picture_of(rows[int(index)], "x").save(folder / f"{i:06d}.png")
    classes = [rows[int(index)]["label"] for index in chosen]
    (folder / "settings.json").write_text(json.dumps({"classes": classes, "names": rows.features["label"].names}))
    data = str(PHOTOS / "photos20")
    rows = measure_generated([str(folder)], data, "validation", 24, weights=WEIGHTS)["sets"]
    assert rows[str(folder)]["fd-mobilenetv2"] == pytest.approx(0, abs=1e-6)
    assert rows[str(folder)]["asked"] == rows["real photos"]["asked"] > 0.7
