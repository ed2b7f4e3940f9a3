"""An evaluation that was stopped goes on, and its numbers are those of one that was not."""

import numpy as np
import pytest
import torch
from conftest import build

from train import evaluate
from train.data.held_out import ValidationPhotos
from train.data.sources import load_photos
from train.evaluate import Measure
from train.measure.frechet import FrechetDistance
from train.measure.progress import SavedProgress


class StoppedError(Exception):
    """As a kill would."""


def measured(model, tmp_path, progress=None, stop_after=None):
    photos = ValidationPhotos(load_photos("generated", "validation"), 32, 11)
    measure, seen = Measure(("psnr", "ssim"), tmp_path), []
    update = measure.update

    def counted(images, outputs, rounding):
        if len(seen) == stop_after:
            raise StoppedError
        seen.append(len(images))
        update(images, outputs, rounding)

    measure.update = counted
    numbers = evaluate.evaluate(model, photos, measure, mean_layers=2, batch_size=2, progress=progress)
    return numbers, seen


@pytest.mark.parametrize(("every", "again"), [(1, [2, 2, 1]), (2, [2, 2, 2, 1]), (4, [2, 2, 2, 2, 2, 1])])
def test_a_stopped_evaluation_goes_on_and_has_the_same_numbers(tmp_path, every, again):
    """Stopped after three batches, which are kept as many at a time."""
    torch.manual_seed(0)
    model = build()
    whole, seen = measured(model, tmp_path)
    assert seen == [2, 2, 2, 2, 2, 1]
    progress = SavedProgress(tmp_path / "deep" / "evaluation.safetensors", ["weights"], every)
    with pytest.raises(StoppedError):
        measured(model, tmp_path, progress, stop_after=3)
    numbers, seen = measured(model, tmp_path, progress)
    assert seen == again
    assert numbers == whole
    progress.remove()
    assert progress.load() == (0, {})


def test_progress_of_something_else_or_half_a_file_is_not_taken_over(tmp_path):
    file = tmp_path / "progress.safetensors"
    SavedProgress(file, ["abc", 3]).save(5, {"a": torch.ones(2)})
    assert SavedProgress(file, ["abc", 3]).load()[0] == 5
    assert SavedProgress(file, ["abd", 3]).load() == (0, {})
    file.write_bytes(file.read_bytes()[:-3])
    assert SavedProgress(file, ["abc", 3]).load() == (0, {})


def test_a_frechet_distance_goes_on():
    rng = np.random.default_rng(0)
    real, fake = (torch.from_numpy(rng.standard_normal((40, 4)) + shift) for shift in (0, 1))
    whole, first, second = (FrechetDistance(4) for _ in range(3))
    whole.update(real, fake)
    first.update(real[:25], fake[:25])
    second.restore({name: value.clone() for name, value in first.state().items()})
    second.update(real[25:], fake[25:])
    assert second.count == whole.count == 40
    assert second.compute() == pytest.approx(whole.compute(), rel=1e-12)
