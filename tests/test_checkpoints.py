"""A checkpoint that is not whole is an error that names the file and the fix."""

import hashlib
import json

import pytest
import torch
from conftest import build
from safetensors.torch import load_file, save_file

from drorae import AutoencoderDRoRAE, CheckpointError
from drorae.checkpoints import DISCRIMINATOR, resolve, split_revision, stored_folder, weights_hash

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path):
    build(finetuned_decoder=True).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def change(folder, **changes):
    """Rewrite the weights: a tensor replaces, ``None`` removes."""
    state = load_file(folder / WEIGHTS) | changes
    save_file({key: value for key, value in state.items() if value is not None}, folder / WEIGHTS)


def error(folder) -> str:
    with pytest.raises(CheckpointError) as caught:
        AutoencoderDRoRAE.from_pretrained(folder)
    text = str(caught.value)
    assert "\n" not in text
    assert str(folder) in text
    return text


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_missing_file_is_named_with_the_fix(folder, name):
    (folder / name).unlink()
    text = error(folder)
    assert f"{name}' is missing" in text
    assert "restore it" in text


@pytest.mark.parametrize("keep", [0, 4, 1000, -10])
def test_truncated_weights_are_named(folder, keep):
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:keep])
    assert f"{WEIGHTS}' is damaged or incomplete" in error(folder)


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "\x00\x01"])
def test_broken_config_is_named(folder, content):
    (folder / "config.json").write_text(content)
    assert "config.json' is not" in error(folder)


def test_a_revision_is_what_follows_the_at_of_a_hub_id(tmp_path, monkeypatch):
    assert split_revision("someone/model") == ("someone/model", None)
    assert split_revision("someone/model@v2") == ("someone/model", "v2")
    assert split_revision("someone/model@refs/pr/1") == ("someone/model", "refs/pr/1")
    folder = tmp_path / "my@model"
    folder.mkdir()
    assert split_revision(folder) == (str(folder), None)
    assert resolve(str(folder)) == folder
    asked = []

    def snapshot_download(repository, revision=None, **kwargs):
        asked.append((repository, revision))
        return str(folder)

    monkeypatch.setattr("drorae.checkpoints.snapshot_download", snapshot_download)
    assert resolve("someone/model@v2") == stored_folder("someone/model@v2") == folder
    resolve("someone/model@v2", "v3")
    assert asked == [("someone/model", "v2")] * 2 + [("someone/model", "v3")]


def test_every_weight_must_be_there_and_fit(folder):
    change(folder, **{"fusion_module.router.bias": None})
    assert "weights 1 missing (first: fusion_module.router.bias)" in error(folder)


def test_unknown_weights_are_refused(folder):
    change(folder, **{"decoder.surprise": torch.zeros(1)})
    assert "weights 1 unknown (first: decoder.surprise)" in error(folder)


def test_weights_of_another_shape_are_refused(folder):
    change(folder, **{"fusion_module.router.bias": torch.zeros(7)})
    assert "weights 1 of another shape (first: fusion_module.router.bias)" in error(folder)


def test_config_of_another_model_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"decoder_num_layers": 2}))
    assert "missing (first: decoder.decoder_layers.1" in error(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"encoder_name": "vit_nonsense"},
        {"encoder_name": "hf-hub:somebody/model"},
        {"encoder_name": None},
        {"encoder_args": {"checkpoint_path": "weights.bin"}},
        {"encoder_std": [0, 0, 0]},
        {"decoder_num_heads": 0},
        {"fusion": "attention"},
        {"fusion_beta": None},
        {"fusion_hidden_size": 0},
    ],
)
def test_config_of_no_model_is_refused(folder, change):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    assert "describes no model that can be built" in error(folder)


def test_a_model_in_a_subfolder(folder):
    assert AutoencoderDRoRAE.from_pretrained(folder.parent, subfolder="model").image_size == 32
    with pytest.raises(CheckpointError, match=r"nothing/config\.json' is missing"):
        AutoencoderDRoRAE.from_pretrained(folder.parent, subfolder="nothing")


def test_unknown_names_are_one_sentence(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint folder 'nobody/nothing'.*use 'assets/drorae-tiny'\.$"):
        resolve("nobody/nothing")


def test_half_precision_files_are_computed_in_float32(tmp_path, images):
    model = build()
    model.half().save_pretrained(tmp_path)
    loaded = AutoencoderDRoRAE.from_pretrained(tmp_path)
    assert load_file(tmp_path / WEIGHTS)["fusion_module.router.weight"].dtype == torch.float16
    assert loaded.dtype == torch.float32
    assert loaded.encode(images).latent.dtype == torch.float32


def test_a_model_is_named_by_its_weight_files_alone(folder):
    first = weights_hash(folder)
    assert first == hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()[:16]
    (folder / DISCRIMINATOR).write_bytes(b"kept by the training")
    (folder / "README.md").write_text("a card")
    assert weights_hash(folder) == first
    change(folder, **{"decoder.decoder_pred.bias": load_file(folder / WEIGHTS)["decoder.decoder_pred.bias"] + 1})
    assert weights_hash(folder) != first
    (folder / WEIGHTS).unlink()
    assert weights_hash(folder) is None
