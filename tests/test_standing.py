"""Where a photo stands among held-out ones: closed forms, the file of a smoke model, and the embedded one's."""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import PHOTOS, ROOT, build
from PIL import Image

from drorae import AutoencoderDRoRAE
from drorae.checkpoints import CheckpointError, weights_hash
from drorae.explorer.explore import explore
from drorae.explorer.standing import (
    SPREAD,
    Spread,
    density,
    fusion_gains,
    photo_gain,
    place,
    read_spread,
    standing_size,
)
from train import spread
from train.data.held_out import load_held_out
from train.errors import DataError

MODEL = ROOT / "assets" / "drorae-tiny"


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8))


def test_a_photo_stands_above_those_that_gained_less():
    known = Spread(224, np.array([-0.3, 1.0, 2.0, 2.0, 5.25]), "photos validation")
    assert [place(known, gain).below for gain in (-1.0, -0.3, 0.0, 2.0, 2.004, 2.006, 5.25, 9.0)] == [
        0,
        0,
        1,
        2,
        2,  # as the others it is rounded first
        4,
        4,
        5,
    ]
    standing = place(known, 2.004)
    assert (standing.size, standing.gain, standing.photos) == (224, 2.0, 5)
    assert place(known, float("inf")).below == 5


def test_the_density_counts_every_photo_in_bins_of_a_quarter():
    found = density(np.array([-0.3, 1.0, 1.24, 1.25, 2.0]))
    assert (found.start, found.stop) == (-0.5, 2.25)
    assert found.counts == [1, 0, 0, 0, 0, 0, 2, 1, 0, 0, 1]
    alone = density(np.array([3.0]))
    assert (alone.start, alone.stop, alone.counts) == (3.0, 3.25, [1])
    many = np.random.default_rng(0).normal(6, 2, 1000)
    found = density(many)
    edges = np.linspace(found.start, found.stop, len(found.counts) + 1)
    assert found.counts == np.histogram(many, edges)[0].tolist()
    assert sum(found.counts) == 1000


@pytest.mark.parametrize("finetuned", [True, False])
def test_the_gain_is_that_of_the_page(picture, finetuned):
    model = build(finetuned_decoder=finetuned)
    if finetuned:
        for parameter in model.decoder_finetuned.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    metrics = explore(picture, model, interventions=False).metrics
    expected = metrics["drorae" if finetuned else "phase2"]["psnr"] - metrics["rae"]["psnr"]
    assert photo_gain(picture, model, Spread(32, np.zeros(1), "")) == pytest.approx(expected, abs=1e-4)


def test_photos_are_compared_at_224_pixels_where_the_model_can(picture):
    assert standing_size(build()) == 32
    model = build(any_size=True)
    assert standing_size(model) == 224
    seen = []
    model.encoder.register_forward_pre_hook(lambda _, arguments: seen.append(tuple(arguments[0].shape)))
    photo_gain(picture, model, Spread(standing_size(model), np.zeros(1), ""))
    assert seen == [(1, 3, 224, 224)]


def test_without_fusion_there_is_no_gain(images, tmp_path):
    model = build(fusion=None)
    with pytest.raises(ValueError, match="without fusion"):
        fusion_gains(model, images)
    model.save_pretrained(tmp_path / "rae")
    with pytest.raises(DataError, match="has no fusion"):
        spread.main([str(tmp_path / "rae"), "--data", "generated"])


@pytest.fixture
def checkpoint(model, tmp_path):
    model.save_pretrained(tmp_path / "m")
    return tmp_path / "m"


def test_the_command_stores_the_gain_of_every_photo(checkpoint, capsys):
    spread.main([str(checkpoint), "--data", "generated", "--photos", "5", "--batch-size", "2"])
    assert "5 photos at 32 pixels" in capsys.readouterr().out
    content = json.loads((checkpoint / SPREAD).read_text())
    model = AutoencoderDRoRAE.from_pretrained(checkpoint)
    photos = load_held_out("generated", "validation", 32, 5)
    singly = torch.cat([fusion_gains(model, photos[i][None]) for i in range(5)])
    np.testing.assert_allclose(content["gains"], singly, atol=0.006)
    found = read_spread(checkpoint)
    assert found.gains.tolist() == sorted(content["gains"])
    assert (found.size, found.data, content["photos"]) == (32, "generated validation", 5)


def test_gains_of_other_weights_are_not_used(checkpoint):
    assert read_spread(checkpoint) is None  # not measured yet
    spread.main([str(checkpoint), "--data", "generated", "--photos", "3"])
    assert read_spread(checkpoint) is not None
    other = build(finetuned_decoder=True)
    other.fusion_module.router.weight.data *= 1.01
    other.save_pretrained(checkpoint)
    assert read_spread(checkpoint) is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda content: "{", "not readable JSON"),
        (lambda content: "[]", "does not say which weights"),
        (lambda content: json.dumps({"gains": [1.0]}), "does not say which weights"),
        (lambda content: json.dumps({**content, "gains": []}), "has no gains"),
        (lambda content: json.dumps({**content, "gains": ["much"]}), "has no gains"),
        (lambda content: json.dumps({**content, "gains": [float("nan")]}), "has no gains"),
        (lambda content: json.dumps({k: v for k, v in content.items() if k != "size"}), "has no gains"),
    ],
)
def test_a_damaged_file_is_one_sentence(checkpoint, change, sentence):
    content = {"sha256": weights_hash(checkpoint), "size": 32, "gains": [1.0], "data": "generated validation"}
    (checkpoint / SPREAD).write_text(json.dumps(content))
    assert read_spread(checkpoint).gains.tolist() == [1.0]
    (checkpoint / SPREAD).write_text(change(content))
    with pytest.raises(CheckpointError, match=sentence):
        read_spread(checkpoint)


def test_the_shipped_gains_are_of_the_shipped_weights(tmp_path):
    found = read_spread(MODEL)
    assert found is not None, "run: python -m train.spread assets/drorae-tiny"
    assert len(found.gains) == json.loads((MODEL / SPREAD).read_text())["photos"] >= 100
    assert (MODEL / SPREAD).stat().st_size < 50_000
    copy = shutil.copytree(MODEL, tmp_path / "copy")
    with (copy / "diffusion_pytorch_model.safetensors").open("ab") as file:
        file.write(b" ")
    assert read_spread(copy) is None


@pytest.mark.data
@pytest.mark.skipif(not (PHOTOS / "photos20").is_dir(), reason="photos20 is not at ../shared/data")
def test_the_shipped_gains_are_measured(embedded):
    stated = json.loads((MODEL / SPREAD).read_text())
    photos = load_held_out(str(PHOTOS / "photos20"), "validation", stated["size"], stated["photos"])
    for i in (0, stated["photos"] // 2, stated["photos"] - 1):
        assert fusion_gains(embedded, photos[i][None]).item() == pytest.approx(stated["gains"][i], abs=0.01)
