"""Latent statistics: exact, stored with the checkpoint, mean optional."""

import json
import shutil

import pytest
import torch
from conftest import build
from safetensors.torch import load_file

from drorae import AutoencoderDRoRAE, LatentStatistics
from train import latent_stats
from train.data.held_out import ValidationPhotos
from train.data.sources import load_photos
from train.errors import DataError
from train.latent_stats import StreamingMoments, latent_moments

SHAPE = (48, 4, 4)


def test_streaming_moments_are_exact_however_the_stream_is_cut():
    """Also far from zero, where the textbook formula loses every digit."""
    values = torch.randn(101, 3, 2, generator=torch.Generator().manual_seed(0)).double() * 1e-3 + 1e6
    for size in (1, 7, 101):
        moments = StreamingMoments()
        for batch in values.split(size):
            moments.update(batch)
        assert moments.count == 101
        torch.testing.assert_close(moments.mean, values.mean(0), rtol=1e-12, atol=0)
        torch.testing.assert_close(moments.variance, values.var(0, correction=0), rtol=1e-6, atol=0)


def test_no_momentum_is_left():
    """RAE's running average sees the last batches only; here the first batch counts as much as the last."""
    moments = StreamingMoments()
    for batch in [torch.zeros(50, 1), *[torch.ones(10, 1)] * 5]:
        moments.update(batch)
    assert moments.mean.item() == 0.5
    assert moments.variance.item() == 0.25


@torch.no_grad()
def test_the_command_normalises_the_fused_latent(runs, tmp_path, capsys):
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(runs / "smoke" / "finetune" / "checkpoint", checkpoint)
    before = AutoencoderDRoRAE.from_pretrained(checkpoint)
    latent_stats.main([str(checkpoint), "--data", "generated"])
    assert "128 latents (64 pictures and their mirror images)" in capsys.readouterr().out
    model = AutoencoderDRoRAE.from_pretrained(checkpoint)
    assert model.statistics.kind == "mean and std"
    assert json.loads((checkpoint / "latent_stats.json").read_text())["latents"] == 128

    photos = ValidationPhotos(load_photos("generated", "train"), 32)
    images = torch.cat(list(photos.batches(64)))
    images = torch.cat([images, images.flip(-1)])
    raw, latent = (each.encode(images).latent.double().transpose(0, 1).flatten(1) for each in (before, model))
    assert model.statistics.mean.shape == (48, 1, 1)  # per channel: the model takes any size
    torch.testing.assert_close(model.statistics.mean.double().flatten(), raw.mean(1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.statistics.std.double().flatten(), raw.std(1, correction=0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(latent.mean(1), torch.zeros(48).double(), atol=1e-3, rtol=0)
    torch.testing.assert_close(latent.std(1, correction=0), torch.ones(48).double(), atol=1e-3, rtol=0)
    large = torch.rand(1, 3, 64, 48)
    torch.testing.assert_close(model.encode(large).latent, model.statistics.normalize(before.encode(large).latent))
    # the picture does not change: decoding undoes what encoding does
    torch.testing.assert_close(model(images[:2]).sample, before(images[:2]).sample, atol=1e-5, rtol=0)


def test_the_mean_may_be_absent(runs, tmp_path):
    checkpoint, out = runs / "smoke" / "fusion" / "checkpoint", tmp_path / "out"
    latent_stats.main([str(checkpoint), "--data", "generated", "--no-mean", "--limit", "8", "--out", str(out)])
    model = AutoencoderDRoRAE.from_pretrained(out)
    assert model.statistics.kind == "std"
    assert model.statistics.mean is None
    assert "statistics.mean" not in load_file(out / "diffusion_pytorch_model.safetensors")
    assert AutoencoderDRoRAE.from_pretrained(checkpoint).statistics is None


def test_the_stored_precision_stays(tmp_path):
    model = build().half()
    model.save_pretrained(tmp_path)
    latent_stats.main([str(tmp_path), "--data", "generated", "--limit", "8"])
    stored = load_file(tmp_path / "diffusion_pytorch_model.safetensors")
    assert stored["decoder.decoder_pred.weight"].dtype == torch.float16
    assert stored["statistics.std"].dtype == torch.float32


def test_a_new_fusion_drops_the_statistics_of_the_old_latent():
    model = build()
    model.set_statistics(torch.ones(SHAPE))
    assert model.config.latent_statistics == "std"
    model.set_fusion("mean", mean_layers=2)
    assert model.statistics is None
    assert model.config.latent_statistics is None


@pytest.mark.parametrize(
    ("std", "mean", "message"),
    [
        (torch.ones(48), None, r"finite numbers of shape \(48, 4, 4\)"),
        (torch.zeros(SHAPE), None, "must be positive everywhere"),
        (torch.full(SHAPE, torch.nan), None, "must be finite"),
        (torch.ones(SHAPE), torch.ones(3), "the mean of the latent must be finite numbers of shape"),
    ],
)
def test_impossible_statistics_are_refused(std, mean, message):
    with pytest.raises(ValueError, match=message):
        LatentStatistics.of(SHAPE, std, mean)


def test_too_few_pictures_are_refused(tmp_path):
    build().save_pretrained(tmp_path)
    with pytest.raises(DataError, match="need more than 1 readable pictures"):
        latent_stats.main([str(tmp_path), "--data", "generated", "--limit", "1"])
    moments, count = latent_moments(build(), ValidationPhotos(load_photos("generated", "train"), 32, 3))
    assert count == moments.count == 6
    assert moments.mean.shape == SHAPE  # per position: the model takes one size


@pytest.mark.parametrize("saving", [{"max_shard_size": "100kB"}, {"variant": "fp16"}])
def test_shards_and_variants_are_replaced_by_the_new_weights(tmp_path, saving):
    """Not left beside them, where they would be loaded with the old statistics."""
    build().half().save_pretrained(tmp_path, **saving)
    latent_stats.main([str(tmp_path), "--data", "generated", "--limit", "4"])
    assert [file.name for file in tmp_path.glob("*.safetensors*")] == ["diffusion_pytorch_model.safetensors"]
    assert (
        load_file(tmp_path / "diffusion_pytorch_model.safetensors")["decoder.decoder_pred.bias"].dtype == torch.float16
    )
    assert AutoencoderDRoRAE.from_pretrained(tmp_path).statistics.kind == "mean and std"
