"""Published RAE weights: tiny real ``AutoencoderRAE``s saved in every naming layout, against diffusers itself."""

import json
import os
import re
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderRAE
from safetensors.torch import load_file, save_file
from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel, SiglipVisionConfig, SiglipVisionModel

from drorae import AutoencoderDRoRAE, CheckpointError
from drorae.checkpoints import CONFIG, WEIGHTS
from drorae.models.encoder import VisionEncoder
from drorae.models.fusion import layer_norm
from drorae.pretrained.adapter import load_fusion, load_tokenizer, save_fusion
from drorae.pretrained.rae_export import export_rae
from drorae.pretrained.rae_tokenizer import MODELS, SIGLIP_ARGUMENTS, convert_encoder, load_raw_rae

DIM, GRID = 64, 4
SIZES = {
    "encoder_hidden_size": DIM,
    "encoder_num_hidden_layers": 2,
    "decoder_hidden_size": 48,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 96,
}
KINDS = {
    "dinov2": {"encoder_type": "dinov2", "encoder_patch_size": 14, "encoder_input_size": 56},
    "mae": {"encoder_type": "mae", "encoder_patch_size": 16, "encoder_input_size": 64},
}
# between the names of transformers 4.57, with which the published weights were saved, and today's
OLD_NAMES = {
    "dinov2": [
        (r"attention\.([qkv])_proj", r"attention.attention.\1"),
        (r"attention\.o_proj", "attention.output.dense"),
    ],
    "mae": [
        (r"encoder\.layers\.(\d+)\.", r"encoder.encoder.layer.\1."),
        (r"attention\.([qkv])_proj", r"attention.attention.\1"),
        (r"attention\.o_proj", "attention.output.dense"),
        (r"mlp\.fc1", "intermediate.dense"),
        (r"mlp\.fc2", "output.dense"),
    ],
}
NEW_NAMES = {
    "dinov2": [
        (r"attention\.attention\.([qkv])\w+", r"attention.\1_proj"),
        (r"attention\.output\.dense", "attention.o_proj"),
    ],
    "mae": [
        (r"encoder\.encoder\.layer\.(\d+)\.", r"encoder.layers.\1."),
        (r"attention\.attention\.([qkv])\w+", r"attention.\1_proj"),
        (r"attention\.output\.dense", "attention.o_proj"),
        (r"intermediate\.dense", "mlp.fc1"),
        (r"output\.dense", "mlp.fc2"),
    ],
}
OUR_DECODER = {
    "decoder_hidden_size": 48,
    "decoder_num_layers": 1,
    "decoder_num_heads": 2,
    "decoder_intermediate_size": 96,
    "decoder_patch_size": 8,
}
LONG = {"q": "query", "k": "key", "v": "value"}


def statistics(mean: bool) -> dict:
    generator = torch.Generator().manual_seed(3)
    values = {"latents_std": (torch.rand(DIM, GRID, GRID, generator=generator) + 0.5).tolist()}
    if mean:
        values["latents_mean"] = torch.randn(DIM, GRID, GRID, generator=generator).tolist()
    return values


def build(kind: str, **changes) -> AutoencoderRAE:
    torch.manual_seed(0)
    model = AutoencoderRAE(**{**SIZES, **KINDS[kind], **changes}).eval()
    for parameter in model.parameters():  # LayerScale and biases start at values that hide mistakes
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def saved(model: AutoencoderRAE, folder, kind: str, old: bool):
    """``model`` in ``folder``, under today's or the published names."""
    model.save_pretrained(folder)
    state = {}
    for key, value in load_file(folder / WEIGHTS).items():
        if key.startswith("encoder."):
            for pattern, replacement in (OLD_NAMES if old else NEW_NAMES)[kind]:
                key = re.sub(pattern, replacement, key)
            key = re.sub(r"attention\.attention\.([qkv])\.", lambda m: f"attention.attention.{LONG[m[1]]}.", key)
        state[key] = value
    assert any(("attention.attention.query" if old else "q_proj") in key for key in state)
    save_file(state, folder / WEIGHTS)
    return folder


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("old", [False, True], ids=["today's names", "published names"])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_latents_and_pixels_are_those_of_diffusers_bit_for_bit(tmp_path, images, kind, old, mean):
    theirs = build(kind, **statistics(mean))
    ours = AutoencoderDRoRAE.from_rae(str(saved(theirs, tmp_path, kind, old)))
    latent = ours.encode(images).latent
    assert torch.equal(latent, theirs.encode(images).latent)
    assert torch.equal(ours.decode(latent).sample, theirs.decode(latent).sample)
    assert ours.statistics.kind == ("mean and std" if mean else "std")


@pytest.mark.parametrize("prefix", ["", "vision_model."], ids=["today's names", "published names"])
@torch.no_grad()
def test_the_siglip_encoder_is_that_of_transformers(prefix):
    """diffusers cannot build this type with today's transformers, so transformers itself is the reference."""
    torch.manual_seed(0)
    config = SiglipVisionConfig(
        hidden_size=DIM, num_hidden_layers=2, num_attention_heads=1, intermediate_size=96, image_size=64, patch_size=16
    )
    theirs = SiglipVisionModel(config).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    norm = next(module for name, module in theirs.named_modules() if name.endswith("post_layernorm"))
    norm.weight, norm.bias = None, None  # as in RAE
    state = {prefix + key.removeprefix("vision_model."): value for key, value in theirs.state_dict().items()}
    arguments = {"embed_dim": DIM, "depth": 2, "num_heads": 1, "mlp_ratio": 96 / DIM, "patch_size": 16}
    ours = VisionEncoder("vit_base_patch16_siglip_256", 64, (0.5,) * 3, (0.5,) * 3, {**arguments, **SIGLIP_ARGUMENTS})
    ours.model.load_state_dict(convert_encoder("siglip2", state, GRID), strict=True)
    images = torch.rand(2, 3, 64, 64)
    expected = theirs(pixel_values=(images - 0.5) / 0.5).last_hidden_state
    torch.testing.assert_close(layer_norm(ours(images)[-1], ours.norm_eps), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("kind", "size"), [("dinov2", 84), ("mae", 96)])
@torch.no_grad()
def test_positions_are_resampled_as_the_originals_are(tmp_path, kind, size):
    """Grids other than the one the encoder was pretrained on, such as the 512 px variant's."""
    theirs = build(kind, encoder_input_size=size)
    ours = AutoencoderDRoRAE.from_rae(str(saved(theirs, tmp_path, kind, old=True)))
    images = torch.rand(1, 3, size, size)
    assert ours.grid_size == 6
    torch.testing.assert_close(ours.encode(images).latent, theirs.encode(images).latent, atol=1e-6, rtol=0)


@torch.no_grad()
def test_fusion_sits_on_top_and_turning_it_off_gives_rae_back(tmp_path, images):
    theirs = build("dinov2", **statistics(False))
    folder = str(saved(theirs, tmp_path, "dinov2", old=True))
    ours = AutoencoderDRoRAE.from_rae(folder, fusion="depth-routed", hidden_size=32)
    assert ours.statistics is None  # those of the file belong to the last layer
    tokens = ours.latent_to_tokens(ours.encode(images, fusion=False).latent)
    std = theirs._latents_std + 1e-5
    torch.testing.assert_close(ours.tokens_to_latent(tokens), theirs.encode(images).latent * std, atol=1e-5, rtol=0)
    assert not torch.equal(ours.encode(images).latent, ours.encode(images, fusion=False).latent)
    ours.save_pretrained(tmp_path / "ours")
    again = AutoencoderDRoRAE.from_pretrained(tmp_path / "ours")
    assert torch.equal(again(images).sample, ours(images).sample)
    assert again.config.base_model == folder


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: s.pop("encoder.encoder.layer.1.norm1.weight"), r"states 2 encoder layers and holds another"),
        (lambda s: s.pop("encoder.encoder.layer.0.attention.q_proj.bias"), "lacks a part of"),
        (lambda s: s.pop("decoder.decoder_pred.bias"), r"1 missing \(first: decoder.decoder_pred.bias\)"),
        (lambda s: s.update({"encoder.surprise": torch.ones(1)}), r"unknown name: 'encoder.surprise'"),
        (lambda s: s.update({"decoder.surprise": torch.ones(1)}), r"1 unknown \(first: decoder.surprise\)"),
    ],
)
def test_no_key_is_missing_or_left_over(tmp_path, edit, message):
    folder = saved(build("dinov2"), tmp_path, "dinov2", old=False)
    names = load_file(folder / WEIGHTS)
    prefix = "encoder.encoder.layer" if any(k.startswith("encoder.encoder.layer") for k in names) else "encoder.layers"
    state = {key.replace(prefix, "encoder.encoder.layer"): value for key, value in names.items()}
    edit(state)
    save_file(state, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=message):
        AutoencoderDRoRAE.from_rae(str(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "AutoencoderKL"}, "holds the class AutoencoderKL, not AutoencoderRAE"),
        ({"scaling_factor": 2.0}, "scaling_factor 2.0"),
        ({"encoder_type": "clip"}, "'encoder_type' must be one of dinov2, siglip2, mae, not 'clip'"),
    ],
)
def test_other_models_are_refused_in_one_sentence(tmp_path, changes, message):
    folder = saved(build("dinov2"), tmp_path, "dinov2", old=False)
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | changes))
    with pytest.raises(CheckpointError, match=message):
        AutoencoderDRoRAE.from_rae(str(folder))


def test_an_id_that_cannot_be_fetched_is_one_sentence():
    with pytest.raises(CheckpointError, match="no checkpoint folder 'nyu-visionx/RAE-dinov2-wReg-base-ViTXL-n08'"):
        AutoencoderDRoRAE.from_rae(MODELS["dinov2-base"])


@torch.no_grad()
def test_raw_files_give_what_the_converted_model_gives(tmp_path, images):
    """RAE's own ``model.pt`` and ``stat.pt`` with the encoder as transformers publishes it."""
    torch.manual_seed(0)
    config = Dinov2WithRegistersConfig(
        hidden_size=DIM, num_hidden_layers=2, num_attention_heads=1, image_size=518, patch_size=14
    )
    encoder = Dinov2WithRegistersModel(config).eval()
    encoder.save_pretrained(tmp_path / "encoder")
    theirs = build("dinov2")
    mapped = {key.replace("encoder.", "", 1): value for key, value in load_file(_named(encoder, tmp_path)).items()}
    state = theirs.encoder.state_dict()
    theirs.encoder.load_state_dict({key: mapped[key] for key in state}, strict=True)
    raw = {}
    for key, value in theirs.decoder.state_dict().items():
        key = re.sub(r"attention\.to_([qkv])\.", lambda m: f"attention.attention.{LONG[m[1]]}.", key)
        raw[key.replace("attention.to_out.0.", "attention.output.dense.")] = value
    raw["decoder_pos_embed"] = theirs.decoder.decoder_pos_embed
    torch.save(raw, tmp_path / "model.pt")
    variance = torch.rand(DIM, GRID, GRID) + 0.5
    torch.save({"mean": None, "var": variance}, tmp_path / "stat.pt")
    files = {
        "repository": str(tmp_path),
        "encoder": str(tmp_path / "encoder"),
        "grid_size": GRID,
        "decoder_num_heads": 2,
    }
    ours = load_raw_rae("model.pt", "stat.pt", **files)
    small = torch.nn.functional.interpolate(images, (56, 56), mode="bicubic", align_corners=False)
    expected = theirs.encode(small).latent * (1 + 1e-5) / (variance + 1e-5).sqrt()
    torch.testing.assert_close(ours.encode(small).latent, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours(small).sample, theirs(small).sample, atol=1e-4, rtol=0)
    with pytest.raises(CheckpointError, match=r"other.pt' is missing"):
        load_raw_rae("other.pt", None, **files)
    torch.save({"weights": torch.ones(1)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"are not RAE's files"):
        load_raw_rae("other.pt", None, **files)


def save_nothing(state: dict[str, torch.Tensor], file: Path) -> None:
    """A checkpoint of these shapes in half precision, all zeros, which takes no place on the disk."""
    header, end = {}, 0
    for key, value in state.items():
        start, end = end, end + 2 * value.numel()
        header[key] = {"dtype": "F16", "shape": list(value.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(file, 8 + len(text) + end)


def test_half_a_vit_l_is_refused(tmp_path):
    """diffusers' converter writes 12 layers of DINOv2-L's 24 and says 12."""
    sizes = {"encoder_hidden_size": 1024, "encoder_num_hidden_layers": 12, "decoder_num_attention_heads": 16}
    with torch.device("meta"):
        model = AutoencoderRAE(**{**SIZES, **KINDS["dinov2"], **sizes})
    (tmp_path / CONFIG).write_text(json.dumps({"_class_name": "AutoencoderRAE", **SIZES, **KINDS["dinov2"], **sizes}))
    save_nothing(model.state_dict(), tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match="holds 12 of the 24 layers"):
        AutoencoderDRoRAE.from_rae(str(tmp_path))


@torch.no_grad()
def test_any_kind_of_tokenizer_loads_by_its_folder(tmp_path, images):
    base = saved(build("dinov2"), tmp_path / "rae", "dinov2", old=True)
    model = AutoencoderDRoRAE.from_rae(str(base), fusion="depth-routed", hidden_size=32)
    save_fusion(model, tmp_path / "adapter")
    model.save_pretrained(tmp_path / "whole")
    expected = model(images).sample
    assert torch.equal(load_tokenizer(tmp_path / "adapter")(images).sample, expected)
    assert torch.equal(load_tokenizer(tmp_path / "whole")(images).sample, expected)
    assert load_tokenizer(base).fusion_module is None
    (tmp_path / "nothing").mkdir()
    with pytest.raises(CheckpointError, match="is missing"):
        load_tokenizer(tmp_path / "nothing")


@torch.no_grad()
def test_shards_of_diffusers_load_as_one_file(tmp_path, images):
    base = saved(build("dinov2"), tmp_path / "one", "dinov2", old=True)
    expected = AutoencoderDRoRAE.from_rae(base)(images).sample
    state = load_file(base / WEIGHTS)
    names, folder = sorted(state), tmp_path / "shards"
    folder.mkdir()
    (folder / CONFIG).write_bytes((base / CONFIG).read_bytes())
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: state[name] for name in part}, folder / file)
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    assert torch.equal(AutoencoderDRoRAE.from_rae(folder)(images).sample, expected)
    (folder / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"b\.safetensors' is missing"):
        load_tokenizer(folder)


def _named(encoder, folder):
    file = folder / "named.safetensors"
    save_file({f"encoder.{key}": value.contiguous() for key, value in encoder.state_dict().items()}, file)
    return file


@torch.no_grad()
def test_a_fusion_saves_as_a_small_adapter_and_loads_on_its_base(tmp_path, images):
    base = saved(build("dinov2"), tmp_path / "base", "dinov2", old=True)
    model = AutoencoderDRoRAE.from_rae(str(base), fusion="depth-routed", hidden_size=32, beta=0.3)
    for parameter in model.fusion_module.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    model.set_statistics(torch.rand(DIM, GRID, GRID) + 0.5, torch.randn(DIM, GRID, GRID))
    save_fusion(model, tmp_path / "adapter")
    assert json.loads((tmp_path / "adapter" / "fusion_config.json").read_text())["base_model"] == str(base)
    files = {file.name for file in (tmp_path / "adapter").iterdir()}
    assert files == {"fusion_config.json", "fusion.safetensors"}
    again = load_fusion(tmp_path / "adapter")
    assert torch.equal(again.encode(images).latent, model.encode(images).latent)
    assert torch.equal(again(images).sample, model(images).sample)

    other = saved(build("dinov2", encoder_num_hidden_layers=3), tmp_path / "other", "dinov2", old=True)
    with pytest.raises(CheckpointError, match=r"does not fit"):
        load_fusion(tmp_path / "adapter", base=str(other))
    (tmp_path / "adapter" / "fusion.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="no readable fusion adapter"):
        load_fusion(tmp_path / "adapter")


@torch.no_grad()
def test_adapters_of_some_layers_and_of_cross_attention(tmp_path, images):
    """Those that were saved before there was a choice of layers fuse all; a choice that no encoder has is refused."""
    base = saved(build("dinov2"), tmp_path / "base", "dinov2", old=True)
    kinds = {
        "some": {"fusion": "depth-routed", "hidden_size": 32, "layers": 1},
        "attention": {"fusion": "cross-attention"},
    }
    for name, kind in kinds.items():
        model = AutoencoderDRoRAE.from_rae(str(base), **kind)
        save_fusion(model, tmp_path / name)
        again = load_fusion(tmp_path / name)
        assert type(again.fusion_module) is type(model.fusion_module)
        assert torch.equal(again.encode(images).latent, model.encode(images).latent)
    config = tmp_path / "some" / "fusion_config.json"
    settings = json.loads(config.read_text())
    assert settings["fusion_layers"] == 1
    config.write_text(json.dumps({**settings, "fusion_layers": 50}))
    with pytest.raises(CheckpointError, match="of the deepest layers can be fused, not 50"):
        load_fusion(tmp_path / "some")
    whole = AutoencoderDRoRAE.from_rae(str(base), fusion="depth-routed", hidden_size=32)
    save_fusion(whole, tmp_path / "whole")
    config = tmp_path / "whole" / "fusion_config.json"
    settings = json.loads(config.read_text())
    del settings["fusion_layers"]
    config.write_text(json.dumps(settings))
    assert torch.equal(load_fusion(tmp_path / "whole").encode(images).latent, whole.encode(images).latent)


def test_a_model_without_a_published_base_has_no_adapter(tmp_path):
    model = AutoencoderDRoRAE.from_rae(str(saved(build("dinov2"), tmp_path, "dinov2", old=False)))
    with pytest.raises(ValueError, match="no fusion to save"):
        save_fusion(model, tmp_path / "adapter")


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_what_is_exported_is_the_same_in_diffusers_and_comes_back(tmp_path, images, kind, mean):
    ours = AutoencoderDRoRAE.from_rae(str(saved(build(kind, **statistics(mean)), tmp_path / "rae", kind, False)))
    export_rae(ours).save_pretrained(tmp_path / "exported")
    theirs = AutoencoderRAE.from_pretrained(tmp_path / "exported").eval()
    latent = ours.encode(images).latent
    torch.testing.assert_close(theirs.encode(images).latent, latent, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(theirs.decode(latent).sample, ours.decode(latent).sample, atol=1e-5, rtol=0)
    back = AutoencoderDRoRAE.from_rae(str(tmp_path / "exported"))
    torch.testing.assert_close(back.encode(images).latent, latent, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_small_encoder_of_ours_is_exported_as_a_dinov2():
    torch.manual_seed(0)
    shape = {"patch_size": 8, "reg_tokens": 4, "depth": 2, "embed_dim": DIM, "num_heads": 1}
    ours = AutoencoderDRoRAE("vit_tiny_patch16_224", shape, 32, **OUR_DECODER, fusion=None, any_size=True).eval()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    ours.set_statistics(torch.rand(DIM, 1, 1) + 0.5, torch.randn(DIM, 1, 1))
    images = torch.rand(2, 3, 32, 32)
    theirs = export_rae(ours)
    latent = ours.encode(images).latent
    torch.testing.assert_close(theirs.encode(images).latent, latent, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(theirs.decode(latent).sample, ours.decode(latent).sample, atol=1e-5, rtol=0)


def test_what_diffusers_cannot_build_is_not_exported():
    shape = {"patch_size": 8, "depth": 2, "embed_dim": DIM, "num_heads": 1}
    with pytest.raises(ValueError, match="has no fusion"):
        export_rae(AutoencoderDRoRAE("vit_tiny_patch16_224", shape, 32, **OUR_DECODER))
    with pytest.raises(ValueError, match=r"like 'vit_tiny_patch16_224' with 1 heads, 64 channels, 0 registers"):
        export_rae(AutoencoderDRoRAE("vit_tiny_patch16_224", shape, 32, **OUR_DECODER, fusion=None))
