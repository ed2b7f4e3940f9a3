"""A checkpoint that is not whole is an error that names the file and the fix."""

import hashlib
import json

import pytest
import torch
from conftest import build, network
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

from drorae import AutoencoderDRoRAE, CheckpointError, DiTDH, DRoRAEClassPipeline
from drorae.building import UnfilledMeta
from drorae.checkpoints import (
    DISCRIMINATOR,
    local_folder,
    resolve,
    split_revision,
    stored_folder,
    weights_hash,
)
from drorae.pretrained.adapter import load_tokenizer

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
    assert local_folder("x" * 300) is None
    asked = []

    def snapshot_download(repository, revision=None, **kwargs):
        asked.append((repository, revision))
        return str(folder)

    monkeypatch.setattr("drorae.checkpoints.folders.snapshot_download", snapshot_download)
    assert resolve("someone/model@v2") == stored_folder("someone/model@v2") == folder
    resolve("someone/model@v2", "v3")
    assert asked == [("someone/model", "v2")] * 2 + [("someone/model", "v3")]


def test_no_name_is_not_the_folder_one_is_in(folder, monkeypatch):
    """An unset variable in a shell gives an empty name, and ``Path("")`` is the current folder."""
    monkeypatch.chdir(folder)
    assert local_folder(".") is not None
    with pytest.raises(CheckpointError, match="The name of the model is empty; give a folder or a Hub id"):
        load_tokenizer("")


def test_a_file_in_place_of_a_folder_is_said(folder):
    with pytest.raises(CheckpointError, match=r"model\.safetensors' is a file; give the folder of the model"):
        load_tokenizer(folder / "diffusion_pytorch_model.safetensors")


def test_pipelines_and_models_are_told_apart(folder, pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path / "whole")
    with pytest.raises(CheckpointError, match="whole' is a whole pipeline, not a tokenizer"):
        load_tokenizer(tmp_path / "whole")
    with pytest.raises(CheckpointError, match="holds a single model, not a pipeline"):
        DRoRAEClassPipeline.from_pretrained(folder)


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
    assert "'decoder_num_layers' is 2, and the weights hold 1 such layer" in error(folder)


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


# ---- shards, variants, and other arguments of diffusers -----------------------------------------------------------


@pytest.fixture(params=["shards", "variant", "both"])
def saving(request) -> dict:
    return {
        "shards": {"max_shard_size": "100kB"},
        "variant": {"variant": "fp16"},
        "both": {"max_shard_size": "100kB", "variant": "fp16"},
    }[request.param]


@torch.no_grad()
def test_shards_and_variants_load_with_equal_pixels(tmp_path, images, saving):
    model = build(finetuned_decoder=True)
    model.save_pretrained(tmp_path, **saving)
    assert not (tmp_path / WEIGHTS).exists()
    loaded = AutoencoderDRoRAE.from_pretrained(tmp_path, variant=saving.get("variant"))
    assert torch.equal(loaded(images).sample, model(images).sample)
    found = AutoencoderDRoRAE.from_pretrained(tmp_path)  # the only variant there is
    assert torch.equal(found(images).sample, model(images).sample)
    denoiser = network(1)
    denoiser.save_pretrained(tmp_path / "denoiser", **saving)
    state = DiTDH.from_pretrained(tmp_path / "denoiser", variant=saving.get("variant")).state_dict()
    assert all(torch.equal(value, state[name]) for name, value in denoiser.state_dict().items())


def test_a_variant_is_asked_for_by_name(tmp_path):
    model = build()
    model.save_pretrained(tmp_path)
    plain = model.decoder.decoder_pred.bias.detach().clone()
    model.decoder.decoder_pred.bias.data += 1
    for name in ("fp16", "ema"):
        model.save_pretrained(tmp_path, variant=name)
    assert torch.equal(AutoencoderDRoRAE.from_pretrained(tmp_path).decoder.decoder_pred.bias, plain)
    assert torch.equal(AutoencoderDRoRAE.from_pretrained(tmp_path, variant="ema").decoder.decoder_pred.bias, plain + 1)
    with pytest.raises(CheckpointError, match=r"diffusion_pytorch_model\.bf16\.safetensors' is missing"):
        AutoencoderDRoRAE.from_pretrained(tmp_path, variant="bf16")
    (tmp_path / WEIGHTS).unlink()  # two are left, and none is asked for
    assert "diffusion_pytorch_model.safetensors' is missing" in error(tmp_path)


def test_every_shard_must_be_there_and_whole(tmp_path):
    build(finetuned_decoder=True).save_pretrained(tmp_path, max_shard_size="100kB")
    shards = sorted(tmp_path.glob("*-of-*.safetensors"))
    assert len(shards) > 2
    whole = shards[1].read_bytes()
    shards[1].write_bytes(whole[:-10])
    assert f"{shards[1].name}' is damaged or incomplete" in error(tmp_path)
    shards[1].unlink()
    assert f"{shards[1].name}' is missing" in error(tmp_path)
    state = load_file(shards[0])
    name = next(iter(state))
    shards[1].write_bytes(whole)
    save_file({key: value for key, value in state.items() if key != name}, shards[0])
    assert f"weights 1 missing (first: {name})" in error(tmp_path)
    save_file(state | {"surprise": torch.zeros(1)}, shards[0])
    assert "weights 1 unknown (first: surprise)" in error(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not readable JSON"),
        ("[]", "is not an index of weights"),
        ('{"weight_map": [1]}', "is not a readable index"),
        ('{"weight_map": {"a": 1}}', "is not a readable index"),
        ('{"weight_map": {"a": "../other.safetensors"}}', "lists files that are not beside it"),
        ('{"weight_map": {}}', "lists files that are not beside it"),
    ],
)
def test_a_broken_index_is_named(folder, content, message):
    (folder / WEIGHTS).rename(folder.parent / "other.safetensors")
    (folder / f"{WEIGHTS}.index.json").write_text(content)
    text = error(folder)
    assert f"{WEIGHTS}.index.json' {message}" in text


def test_arguments_of_diffusers(folder):
    model, info = AutoencoderDRoRAE.from_pretrained(folder, output_loading_info=True)
    assert not model.training
    assert not any(info.values())
    wanted = model.state_dict()
    for kwargs in ({"low_cpu_mem_usage": False}, {"low_cpu_mem_usage": True}, {"torch_dtype": torch.bfloat16}):
        loaded = AutoencoderDRoRAE.from_pretrained(folder, **kwargs)
        assert not loaded.training
        dtype = kwargs.get("torch_dtype", torch.float32)
        assert all(torch.equal(value, wanted[name].to(dtype)) for name, value in loaded.state_dict().items())
    loaded = AutoencoderDRoRAE.from_pretrained(folder, low_cpu_mem_usage=False, torch_dtype=torch.float16)
    assert loaded.dtype == torch.float16


@pytest.mark.parametrize("kind", ["AutoencoderRAE", "os.system", ["a"], 3])
def test_a_model_of_another_kind_is_named(folder, kind):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"_class_name": kind}))
    assert f"holds a model of the kind {kind!r}, not 'AutoencoderDRoRAE'" in error(folder)


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


class Operations(TorchDispatchMode):
    """Counts the operations that reach the device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_tensors_without_values_are_not_filled_and_all_others_are():
    there, here = torch.empty(3, device="meta"), torch.zeros(3)
    with UnfilledMeta(), Operations() as operations:
        assert there.uniform_(-1, 1).erfinv_().mul_(2).add_(1).clamp_(min=0) is there
        assert operations.count == 0
        here.uniform_(1, 2).mul_(2)
    assert (here >= 2).all()
    with Operations() as operations:
        there.uniform_()
    assert operations.count == 1
