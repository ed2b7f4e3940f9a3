"""The distance that held-out tokens keep, measured on a smoke checkpoint and written into its configuration."""

import json
import shutil

import numpy as np
import pytest
from conftest import smoke

from drorae import AutoencoderDRoRAE
from drorae.explorer.compatibility import distances
from train import latent_distance, stage2
from train.data.held_out import load_held_out
from train.errors import DataError


@pytest.fixture
def checkpoint(generators, tmp_path):
    return shutil.copytree(generators / "smoke" / "finetune" / "checkpoint", tmp_path / "checkpoint")


def test_the_quantile_is_stored_and_nothing_else_changes(checkpoint, capsys):
    before = json.loads((checkpoint / "config.json").read_text())
    weights = (checkpoint / "diffusion_pytorch_model.safetensors").read_bytes()
    model = AutoencoderDRoRAE.from_pretrained(checkpoint)
    photos = load_held_out("generated", "validation", model.image_size, 10, option="--validation")
    found = [distances(model, model.fuse(model.encoder(images)).tokens).detach() for images in photos.batches(3)]
    expected = np.quantile(np.concatenate([each.numpy().ravel() for each in found]), 0.99)
    latent_distance.main([str(checkpoint), "--validation", "generated", "--limit", "10"])
    after = json.loads((checkpoint / "config.json").read_text())
    assert after.pop("latent_distance") == pytest.approx(expected, abs=1e-3)
    before.pop("latent_distance", None)
    assert after == before
    assert (checkpoint / "diffusion_pytorch_model.safetensors").read_bytes() == weights
    record = json.loads((checkpoint / "latent_distance.json").read_text())
    assert (record["photos"], record["quantile"]) == (10, 0.99)
    assert "10 photos" in capsys.readouterr().out
    assert AutoencoderDRoRAE.from_pretrained(checkpoint).config.latent_distance == record["distance"]


def test_a_checkpoint_without_statistics_says_what_to_do(runs):
    with pytest.raises(DataError, match=r"train\.latent_stats"):
        latent_distance.main([str(runs / "smoke" / "finetune" / "checkpoint"), "--validation", "generated"])


def test_denoisers_do_not_mind_the_new_distance(generators, tmp_path):
    """It is no part of the latent: a run that began before it was measured goes on."""
    out = shutil.copytree(generators, tmp_path / "out")
    shutil.rmtree(out / "smoke" / "class" / "checkpoint")
    latent_distance.main([str(out / "smoke" / "finetune" / "checkpoint"), "--validation", "generated", "--limit", "4"])
    stage2.main([*smoke(out), "--condition", "class"])
    assert (out / "smoke" / "class" / "checkpoint").is_dir()
