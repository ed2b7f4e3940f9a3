"""Tokenizers beside ours: every kind gives what its own class gives, the numbers are checked by hand, and whatever
cannot be measured is one sentence."""

import base64
import io
import json
import shutil

import numpy as np
import pytest
import torch
from conftest import ROOT, build
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    AutoencoderOobleck,
    AutoencoderTiny,
    ConsistencyDecoderVAE,
    VQModel,
)
from fake_hub import reach, serve
from PIL import Image
from safetensors.torch import load_file, save_file
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from test_rae import build as build_rae
from torch.nn import functional as F

from drorae import CheckpointError
from drorae.cli import main
from drorae.explorer.explore import explore
from drorae.explorer.tokenizers import (
    TokenizerColumn,
    find_tokenizer,
    load_picture_tokenizer,
    mean_tokenizer,
    measure_tokenizer,
    own_tokenizer,
    route_columns,
)
from drorae.pretrained.autoencoders import load_autoencoder
from drorae.viewers.tokenizers_value import column_value

CAT = str(ROOT / "assets" / "examples" / "cat.jpg")
WEIGHTS = "diffusion_pytorch_model.safetensors"


TWO_BLOCKS = {
    "block_out_channels": (8, 8),
    "norm_num_groups": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
}


def kl(**changes) -> AutoencoderKL:
    return AutoencoderKL(**TWO_BLOCKS, latent_channels=5, **changes)


def dc() -> AutoencoderDC:
    halves = {
        f"{half}_{name}": value
        for half in ("encoder", "decoder")
        for name, value in {
            "block_types": ("ResBlock", "EfficientViTBlock"),
            "block_out_channels": (8, 8),
            "qkv_multiscales": ((), (5,)),
            "layers_per_block": (1, 1),
        }.items()
    }
    more = {"downsample_block_type": "conv", "upsample_block_type": "interpolate"}
    return AutoencoderDC(latent_channels=4, attention_head_dim=2, **halves, **more)


def consistency() -> ConsistencyDecoderVAE:
    return ConsistencyDecoderVAE(
        latent_channels=4,
        encoder_block_out_channels=(8, 8),
        encoder_norm_num_groups=4,
        encoder_down_block_types=("DownEncoderBlock2D",) * 2,
        decoder_block_out_channels=(8, 8),
        decoder_norm_num_groups=4,
        decoder_layers_per_block=1,
        decoder_down_block_types=("ResnetDownsampleBlock2D",) * 2,
        decoder_up_block_types=("ResnetUpsampleBlock2D",) * 2,
    )


KINDS = {  # how it is made, rows, columns and channels of its latent of 32 x 32 pixels, numbers stored
    "kl": (kl, (16, 16, 5), 1280),
    "flux2": (lambda: AutoencoderKLFlux2(**TWO_BLOCKS, latent_channels=4), (16, 16, 4), 1024),
    "tiny": (
        lambda: AutoencoderTiny(3, 3, (8, 8), (8, 8), num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1)),
        (16, 16, 4),
        1024,
    ),
    "dc": (dc, (16, 16, 4), 1024),
    "codebook": (
        lambda: VQModel(block_out_channels=(8,), norm_num_groups=4, latent_channels=3, num_vq_embeddings=16),
        (32, 32, 3),
        1024,
    ),
    "clips": (
        lambda: AutoencoderKLQwenImage(
            base_dim=4, z_dim=4, dim_mult=[1, 2], num_res_blocks=1, temperal_downsample=[False]
        ),
        (16, 16, 4),
        1024,
    ),
    "rae": (lambda: build_rae("mae", encoder_input_size=32), (2, 2, 64), 256),
    "ours": (lambda: build(any_size=True, finetuned_decoder=True), (4, 4, 48), 768),
    "our mean": (lambda: build(fusion="mean", fusion_mean_layers=2), (4, 4, 48), 768),
}


def round_trip(kind: str, model, images: torch.Tensor) -> torch.Tensor:
    """What a model makes of images in [0, 1], by its own interface."""
    if kind in ("rae", "ours", "our mean"):
        return model.decode(model.encode(images).latent).sample
    x = images * 2 - 1
    if kind == "clips":
        return model.decode(model.encode(x[:, :, None]).latent_dist.mode()).sample[:, :, 0] / 2 + 0.5
    encoded = model.encode(x)
    latent = encoded.latent_dist.mode() if kind in ("kl", "flux2") else encoded[0]
    return model.decode(latent).sample / 2 + 0.5


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_any_autoencoder_is_a_tokenizer(tmp_path, images, kind):
    make, latent, stored = KINDS[kind]
    torch.manual_seed(0)
    model = make().eval()
    expected = round_trip(kind, model, images)
    model.save_pretrained(tmp_path / "repository" / "vae")
    for name in (str(tmp_path / "repository" / "vae"), f"{tmp_path / 'repository'}:vae"):
        tokenizer = load_picture_tokenizer(name)
        trip = tokenizer.rebuild(images)
        torch.testing.assert_close(trip.pictures, expected, atol=1e-5, rtol=0)
        assert (trip.latent, trip.stored) == (latent, stored)
        assert tokenizer.id == name
        assert tokenizer.encoder == ("vision, frozen" if kind in ("rae", "ours", "our mean") else "pixels only")
        assert tokenizer.decoder == "its own"
        assert tokenizer.licence is None
    titles = {"our mean": "Mean of 2 layers, own decoder"}
    assert [load_picture_tokenizer(name).title for name in (str(tmp_path / "repository" / "vae"), name)] == [
        titles.get(kind, "vae"),
        titles.get(kind, "repository"),
    ]


def test_a_decoder_that_draws_noise_draws_the_same_each_time(tmp_path, images):
    consistency().save_pretrained(tmp_path)
    tokenizer = load_picture_tokenizer(str(tmp_path))
    state = torch.random.get_rng_state()
    first = tokenizer.rebuild(images).pictures
    assert torch.equal(torch.random.get_rng_state(), state)  # the caller's noise is not touched
    torch.manual_seed(7)
    assert torch.equal(tokenizer.rebuild(images).pictures, first)


def test_the_decoder_is_named_for_what_it_was_trained_on(model):
    assert own_tokenizer(model, "x").decoder == "its own"
    assert own_tokenizer(build(), "x").decoder == "that of RAE"  # phase 2
    assert own_tokenizer(build(fusion=None), "x").decoder == "its own"
    published = build(fusion="mean", fusion_mean_layers=2, base_model="somebody/rae")  # a fresh mean on a published RAE
    assert own_tokenizer(published, "x").decoder == "that of RAE"
    assert own_tokenizer(published, "x").title == "Mean of 2 layers, decoder of RAE"


# ---- numbers ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_column_has_the_numbers_of_its_picture(tmp_path, images):
    model = kl().eval()
    model.save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n\n# A model\n", encoding="utf-8")
    column = measure_tokenizer(images[:1], load_picture_tokenizer(str(tmp_path)))
    expected = round_trip("kl", model, images[:1])[0].clamp(0, 1)
    shown = (expected * 255).round().byte().permute(1, 2, 0).numpy()
    original = (images[0] * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.abs(column.picture.astype(int) - shown).max() <= 1
    assert column.metrics["psnr"] == pytest.approx(peak_signal_noise_ratio(original, column.picture), abs=1e-3)
    assert column.metrics["mae"] == pytest.approx(np.abs(original.astype(float) - column.picture).mean(), abs=1e-3)
    _, whole = structural_similarity(
        original, column.picture, channel_axis=2, gaussian_weights=True, use_sample_covariance=False, full=True
    )
    assert column.metrics["ssim"] == pytest.approx(whole.mean(), abs=0.01)  # the library's borders are another's
    assert column.licence == "mit"
    assert column.ratio == 32 * 32 * 3 / 1280


@torch.no_grad()
def test_the_mean_of_layers_is_painted_by_the_original_decoder(model, images):
    tokenizer = mean_tokenizer(model, 2, "apache-2.0")
    normed = [F.layer_norm(z, z.shape[-1:], eps=model.encoder.norm_eps) for z in model.encoder(images)[1:]]
    latent = model.tokens_to_latent((normed[0] + normed[1]) / 2)
    expected = model.decode(latent, decoder="original").sample
    torch.testing.assert_close(tokenizer.rebuild(images).pictures, expected, atol=1e-5, rtol=0)
    facts = (tokenizer.id, tokenizer.title, tokenizer.decoder, tokenizer.licence)
    assert facts == ("mean-2", "Mean of 2 layers, decoder of RAE", "that of RAE", "apache-2.0")


@pytest.mark.parametrize(
    ("changes", "names", "decoders"),
    [
        ({"finetuned_decoder": True}, ["rae", "drorae"], ["its own", "its own"]),
        ({}, ["rae", "phase2"], ["its own", "that of RAE"]),
        ({"fusion": None}, ["rae"], ["its own"]),
    ],
)
def test_our_routes_are_columns_without_computing(cat, changes, names, decoders):
    model = build(**changes)
    result = explore(cat, model, interventions=False)
    columns = route_columns(result, model, "apache-2.0")
    assert [column.id for column in columns] == names
    assert [column.decoder for column in columns] == decoders
    for column in columns:
        assert column.picture is result.pictures[column.id]
        assert column.metrics is result.metrics[column.id]
        assert (column.latent, column.stored, column.ratio) == ((4, 4, 48), 768, 4.0)


def test_the_value_is_plain_json_with_exact_pictures():
    picture = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    metrics = {"psnr": float("inf"), "ssim": 1.0, "mae": 0.0}
    column = TokenizerColumn("a/b", "b", "pixels only", "its own", None, picture, metrics, (2, 3, 4), 24)
    told = json.loads(json.dumps(column_value(column), allow_nan=False))
    head, content = told.pop("picture").split(",")
    assert head == "data:image/webp;base64"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))), picture)
    assert told == {
        "id": "a/b",
        "title": "b",
        "metrics": {"psnr": None, "ssim": 1.0, "mae": 0.0},
        "latent": [2, 3, 4],
        "stored": 24,
        "ratio": 48.0,
        "encoder": "pixels only",
        "decoder": "its own",
        "licence": None,
    }


# ---- what cannot be measured --------------------------------------------------------------------------------------


def sentence(name: str) -> str:
    with pytest.raises(CheckpointError) as error:
        load_picture_tokenizer(name)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_sizes_that_do_not_fit(tmp_path, images):
    for kind, make in {"kl": kl, "tiny": KINDS["tiny"][0], "dc": dc, "ours": KINDS["ours"][0]}.items():
        make().save_pretrained(tmp_path / kind)
        tokenizer = load_picture_tokenizer(str(tmp_path / kind))
        factor = 8 if kind == "ours" else 2
        with pytest.raises(CheckpointError, match=f"multiples of {factor} pixels, not 31 x 29; use another size"):
            tokenizer.rebuild(images[..., :29, :31])
    fixed = own_tokenizer(build(), "ours")
    with pytest.raises(CheckpointError, match="'ours' works at 32 x 32 pixels only, not at 16 x 24"):
        fixed.rebuild(images[..., :24, :16])
    kl(in_channels=4).save_pretrained(tmp_path / "four")
    with pytest.raises(CheckpointError, match=r"cannot rebuild 32 x 32 pixels \(.+\); use another size or another"):
        load_picture_tokenizer(str(tmp_path / "four")).rebuild(images)


def test_what_is_not_an_autoencoder_of_pictures(tmp_path):
    for folder, config in {
        "unet": {"_class_name": "UNet2DModel"},
        "function": {"_class_name": "logging"},
        "nameless": {"sample_size": 8},
        "transformer": {"model_type": "vit"},
    }.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(json.dumps(config))
        assert "not an autoencoder" in sentence(str(tmp_path / folder))
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "model_index.json").write_text("{}")
    assert f"name the folder of its autoencoder, as in '{tmp_path / 'pipeline'}:vae'" in sentence(
        str(tmp_path / "pipeline")
    )
    sound = AutoencoderOobleck(4, [2, 2], [1, 2], 2, 4, 2, 8000)
    sound.save_pretrained(tmp_path / "sound")
    assert "is not an autoencoder of pictures that diffusers knows (it is of the kind AutoencoderOobleck)" in sentence(
        str(tmp_path / "sound")
    )


def test_weights_that_are_missing_or_others(tmp_path):
    folder = tmp_path / "vae"
    kl().save_pretrained(folder)
    state = load_file(folder / WEIGHTS)
    for change, told in {
        "missing": {key: value for key, value in state.items() if key != "quant_conv.bias"},
        "unknown": {**state, "more.weight": torch.zeros(1)},
    }.items():
        save_file(told, folder / WEIGHTS, {"format": "pt"})
        assert f"do not belong together: weights 1 {change}" in sentence(str(folder))
    save_file({**state, "quant_conv.bias": torch.zeros(3)}, folder / WEIGHTS, {"format": "pt"})
    assert "quant_conv.bias" in sentence(str(folder))
    (folder / WEIGHTS).write_bytes(b"no weights")
    assert "is damaged or incomplete" in sentence(str(folder))
    (folder / WEIGHTS).unlink()
    assert f"{WEIGHTS}' is missing" in sentence(str(folder))
    (folder / "config.json").unlink()
    assert "config.json' is missing" in sentence(str(folder))


def test_without_a_network():
    assert "no Hub repository of that name could be fetched" in sentence("nobody/nothing:vae")


def test_there_are_so_many_layers(model):
    for name in ("mean-0", "mean-4"):
        with pytest.raises(CheckpointError, match=f"no '{name}': the encoder has 3 layers; use mean-1 to mean-3"):
            find_tokenizer(name, model)
    assert find_tokenizer("mean-3", model).id == "mean-3"


def test_a_folder_that_is_called_like_a_mean_is_that_folder(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kl().save_pretrained("mean-2")
    assert find_tokenizer("mean-2", model).encoder == "pixels only"


# ---- from the Hub -------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_of_a_repository_only_the_autoencoder_is_fetched(tmp_path, images, monkeypatch):
    """And what is said of it names the repository, not a place in the cache."""
    model, repository = kl().eval(), tmp_path / "repository"
    model.save_pretrained(repository / "vae")
    build().save_pretrained(repository / "transformer")
    (repository / "model_index.json").write_text("{}")
    (repository / "README.md").write_text("---\nlicense: other\nlicense_name: its-own\n---\n", encoding="utf-8")
    shutil.copytree(repository / "vae", repository / "bad")
    state = load_file(repository / "bad" / WEIGHTS)
    save_file({**state, "more.weight": torch.zeros(1)}, repository / "bad" / WEIGHTS, {"format": "pt"})
    with serve("somebody/pipeline", repository) as address:
        reach(address, tmp_path / "cache", monkeypatch)
        tokenizer = load_picture_tokenizer("somebody/pipeline:vae")
        fetched = {str(path.relative_to(path.parents[1])) for path in (tmp_path / "cache").rglob("*.safetensors")}
        assert fetched == {f"vae/{WEIGHTS}"}
        assert load_autoencoder("somebody/pipeline@main:vae").licence == "its-own"
        assert "'somebody/pipeline' is a whole pipeline; name" in sentence("somebody/pipeline")
        assert "in 'somebody/pipeline:bad' do not belong together" in sentence("somebody/pipeline:bad")
        assert sentence("somebody/pipeline:none").startswith("'somebody/pipeline:none/config.json' is missing")
    torch.testing.assert_close(tokenizer.rebuild(images).pictures, round_trip("kl", model, images), atol=1e-5, rtol=0)
    assert (tokenizer.title, tokenizer.licence) == ("pipeline", "its-own")


# ---- the command --------------------------------------------------------------------------------------------------


def test_the_command_measures_all_on_one_crop(tmp_path, capsys):
    ours, other = str(tmp_path / "ours"), str(tmp_path / "vae")
    build(any_size=True, finetuned_decoder=True).save_pretrained(ours)
    kl().save_pretrained(other)
    asked = ["--with", "mean-2", other, "no/such", "--with", "mean-9", "--size", "40"]
    assert main(["compare", CAT, "--model", ours, *asked, "--json", "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 2  # the others are still worth doing
    assert "'no/such'" in captured.err
    assert "'mean-9'" in captured.err
    told = json.loads(captured.out)
    assert (told["image"], told["width"], told["height"]) == (CAT, 40, 40)
    assert [column["id"] for column in told["columns"]] == ["rae", "drorae", "mean-2", other]
    original = np.asarray(Image.open(tmp_path / "out" / "cat-original.png"))
    assert original.shape == (40, 40, 3)
    for column in told["columns"]:
        picture = np.asarray(Image.open(column["file"]))
        assert column["metrics"]["psnr"] == pytest.approx(peak_signal_noise_ratio(original, picture), abs=1e-3)
        assert column["stored"] == np.prod(column["latent"])
        assert column["ratio"] == 4800 / column["stored"]


def test_the_table_says_what_is_stored(tmp_path, capsys):
    build().save_pretrained(tmp_path)
    assert main(["compare", CAT, "--model", str(tmp_path), "--with", "mean-2"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.endswith("(32 x 32 px, 3,072 numbers)")
    assert len(rows) == 3
    assert all("latent 4 x 4 x 48" in row and "768 numbers, 1/4.0" in row for row in rows)
    assert "decoder: that of RAE; licence: not stated" in rows[-1]
    assert main(["compare", CAT, "--model", str(tmp_path), "--out", str(ROOT / "assets" / "examples")]) == 2
    assert "holds pictures to be read" in capsys.readouterr().err
