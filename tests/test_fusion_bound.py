"""The freely chosen z_fuse is at least as good as the trained one, and keeps equation 5."""

import pytest
import torch
from conftest import build
from tqdm.auto import tqdm

from drorae.metrics import psnr
from drorae.models.fusion import layer_norm
from train import fusion_bound
from train.data.held_out import load_held_out
from train.errors import DataError


def test_choosing_freely_starts_at_the_fusion_and_gets_better(model, images):
    bar = tqdm(disable=True)
    start = fusion_bound.chosen_freely(model.requires_grad_(False), images, 0, bar)
    torch.testing.assert_close(start["z_fuse chosen freely"], start["trained fusion"], atol=1e-3, rtol=0)
    end = fusion_bound.chosen_freely(model, images, 20, bar)
    assert (end["z_fuse chosen freely"] > end["trained fusion"]).all()
    with torch.no_grad():
        rae = model.decode(model.encode(images, fusion=False).latent, decoder="original").sample
        fused = model.decode(model.encode(images).latent, decoder="original").sample
    torch.testing.assert_close(end["last layer"], psnr(rae, images))
    torch.testing.assert_close(end["trained fusion"], psnr(fused, images))


def test_without_correction_there_is_nothing_to_choose(images):
    """With beta = 0 equation 5 leaves z_base, whatever z_fuse is."""
    model = build(fusion_beta=0.0).requires_grad_(False)
    end = fusion_bound.chosen_freely(model, images, 5, tqdm(disable=True))
    torch.testing.assert_close(end["z_fuse chosen freely"], end["last layer"], atol=1e-4, rtol=0)
    base = model.fuse(model.encoder(images), fusion=False).tokens
    torch.testing.assert_close(layer_norm(base, model.encoder.norm_eps), base, atol=1e-4, rtol=0)


def test_the_command(model, tmp_path, capsys):
    model.save_pretrained(tmp_path / "m")
    fusion_bound.main([str(tmp_path / "m"), "--data", "generated", "--limit", "2", "--steps", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("generated validation, 2 photos at 32 pixels, 2 steps")
    assert [line.split("  ")[1] for line in lines[1:]] == ["last layer", "trained fusion", "z_fuse chosen freely"]
    build(fusion=None).save_pretrained(tmp_path / "rae")
    with pytest.raises(DataError, match="has no depth-routed fusion"):
        fusion_bound.main([str(tmp_path / "rae"), "--data", "generated"])


def test_the_bound_at_another_size(tmp_path):
    """On a grid of 6 x 6 tokens: the routes are the model's at that size."""
    model = build(any_size=True)
    model.save_pretrained(tmp_path / "m")
    report = fusion_bound.measure_bound(str(tmp_path / "m"), "generated", 2, 1, 48)
    assert (report["size"], report["photos"]) == (48, 2)
    assert report["command"].endswith("--limit 2 --size 48 --steps 1 --data generated")
    (images,) = load_held_out("generated", "validation", 48, 2).batches(2)
    with torch.no_grad():
        fused = model.decode(model.encode(images).latent, decoder="original").sample
    assert report["psnr"]["trained fusion"] == pytest.approx(psnr(fused, images).mean().item(), abs=1e-3)
    words = fusion_bound.bound_words(report | {"psnr": dict(zip("abc", (16.0, 19.0, 20.5), strict=True))})
    assert "reaches 4.50 dB over the last layer, where the trained fusion reaches 3.00 dB on the same photos." in words
