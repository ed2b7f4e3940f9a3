"""Every training phase for real, on a tiny preset and generated pictures."""

import dataclasses
import json
import shutil

import pytest
import torch
from conftest import PHASES, same, smoke, weights
from timm import create_model
from torch.nn import functional as F

from drorae import AutoencoderDRoRAE, CheckpointError
from drorae.models.fusion import layer_norm
from drorae.pretrained.adapter import load_fusion, save_fusion
from train import encoder, stage1
from train.data.batches import Batch
from train.data.draws import uniform_draws
from train.errors import RunError
from train.presets import PRESETS
from train.tasks.reconstruction import BACKBONE, Reconstruction, router_roughness


def test_every_phase_trains_its_part_and_nothing_else(runs):
    distilled = weights(runs, "encoder")
    decoder, fusion, finetune = (weights(runs, phase) for phase in PHASES)
    assert all(torch.equal(decoder[f"encoder.model.{name}"], value) for name, value in distilled.items())
    assert same(decoder, fusion, "encoder.")
    assert same(fusion, finetune, "encoder.")

    assert same(decoder, fusion, "decoder.")  # phase 2 leaves the decoder untouched
    assert not any(name.startswith("fusion_module.") for name in decoder)  # phase 1 is RAE and nothing else
    fresh = AutoencoderDRoRAE(**PRESETS["smoke"].model).fusion_module.state_dict()
    for name in ("experts.weight_in", "experts.weight_out", "router.weight"):
        assert fusion[f"fusion_module.{name}"].std() > 0
        assert not torch.equal(fusion[f"fusion_module.{name}"], fresh[name])

    assert same(fusion, finetune, "fusion_module.")  # phase 3 leaves the fusion untouched
    assert same(fusion, finetune, "decoder.")
    assert not any(
        torch.equal(finetune[name.replace("decoder.", "decoder_finetuned.", 1)], value)
        for name, value in fusion.items()
        if name.startswith("decoder.decoder_layers") and name.endswith("weight") and value.ndim == 2
    )


def task(model, phase: str, **changes) -> Reconstruction:
    plain = {"noise_tau": 0.0, "adversary": None} | changes
    return Reconstruction(model, dataclasses.replace(PRESETS["smoke"].stage1[phase], **plain), None, None)


def batch(images: torch.Tensor) -> Batch:
    return Batch(images, torch.arange(len(images)), [])


@pytest.mark.parametrize(
    ("phase", "fusion", "decoder"),
    [("decoder", False, "original"), ("fusion", True, "original"), ("finetune", True, "finetuned")],
)
def test_every_phase_reconstructs_its_route(model, images, phase, fusion, decoder):
    """Phase 1 is RAE: it must not see the other layers; phase 2 keeps the decoder of phase 1."""
    expected = (model.decode(model.encode(images, fusion=fusion).latent, decoder=decoder).sample - images).abs().mean()
    loss, parts = task(model, phase).loss(batch(images), 0)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(parts["l1"], expected.detach())


def test_noise_is_one_uniform_strength_per_picture_on_the_latent(model):
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)).expand(64, 3, 32, 32)
    seen = []
    model.decoder.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach()))
    task(model, "decoder", noise_tau=0.8).loss(batch(images), 0)
    clean = model.latent_to_tokens(model.encode(images, fusion=False).latent)
    strength = (seen[0] - clean).flatten(1).std(1)  # of 768 numbers per picture
    assert strength.max() < 0.9
    assert strength.mean().item() == pytest.approx(0.4, abs=0.1)
    assert strength.std().item() == pytest.approx(0.8 / 12**0.5, abs=0.06)


def test_router_smoothness_is_the_mean_squared_step_between_neighbours():
    grid = torch.zeros(1, 3, 3, 2)
    grid[0, 1, 1, 0] = 2.0  # four neighbours differ by 2, in one of two layers
    assert router_roughness(grid.flatten(1, 2), (3, 3)).item() == pytest.approx(4 * 4 / 12 / 2)
    ramp = torch.arange(3.0)[None, :, None, None].expand(1, 3, 3, 2)
    assert router_roughness(ramp.flatten(1, 2), (3, 3)).item() == pytest.approx(0.5)  # 1 down, 0 across


def test_router_options_act_in_phase_fusion_only(model, images):
    plain, _ = task(model, "fusion").loss(batch(images), 0)
    loss, parts = task(model, "fusion", router_smoothness=0.1).loss(batch(images), 0)
    weights = model.encode(images, return_routing=True).routing.weights
    roughness = router_roughness(weights, (4, 4))
    torch.testing.assert_close(loss, plain + 0.1 * roughness)
    torch.testing.assert_close(parts["router_roughness"], roughness.detach())

    dropping = task(model, "fusion", router_dropout=0.5)
    assert not torch.equal(dropping.reconstruct(images, torch.arange(2))[0], dropping.reconstruct(images, None)[0])
    keep = uniform_draws(0, torch.arange(2), 3, "router") >= 0.5
    tokens = model.fuse(model.encoder(images), keep=keep).tokens
    expected = model.decode(model.tokens_to_latent(tokens), decoder="original").sample
    torch.testing.assert_close(dropping.reconstruct(images, torch.arange(2))[0], expected)
    finetune = task(model, "finetune", router_dropout=0.5)
    assert torch.equal(finetune.reconstruct(images, torch.arange(2))[0], finetune.reconstruct(images, None)[0])


def test_each_picture_is_compared_in_its_own_random_square(model, images):
    crop = task(model, "decoder", loss_crop=20)._crop(torch.tensor([5, 6]), 32)
    squares = crop(images)
    assert squares.shape == (2, 3, 20, 20)
    for image, square in zip(images, squares, strict=True):
        assert any(torch.equal(image[:, y : y + 20, x : x + 20], square) for y in range(13) for x in range(13))
    assert torch.equal(task(model, "decoder", loss_crop=20)._crop(torch.tensor([6]), 32)(images[1:])[0], squares[1])


def test_training_improves_what_it_trains(runs):
    for phase in PHASES:
        rows = [json.loads(line) for line in (runs / "smoke" / phase / "log.jsonl").read_text().splitlines()]
        assert [row["step"] for row in rows] == [3, 6]
        assert rows[1]["validation_psnr"] > rows[0]["validation_psnr"]


def test_phase_2_starts_from_a_published_rae(tmp_path):
    """``--start``: the decoder stays as published, and the fusion becomes an adapter that names where it belongs."""
    from test_rae import build, saved

    base = saved(build("dinov2"), tmp_path / "rae", "dinov2", old=True)
    stage1.main([*smoke(tmp_path, "fusion"), "--start", str(base), "--log"])
    checkpoint = tmp_path / "smoke" / "fusion" / "checkpoint"
    model = AutoencoderDRoRAE.from_pretrained(checkpoint)
    published = AutoencoderDRoRAE.from_rae(str(base))
    assert same(published.decoder.state_dict(), model.decoder.state_dict())
    assert same(published.encoder.state_dict(), model.encoder.state_dict())
    assert model.config.base_model == str(base)
    save_fusion(model, tmp_path / "adapter")
    assert same(model.fusion_module.state_dict(), load_fusion(tmp_path / "adapter").fusion_module.state_dict())
    stage1.main([*smoke(tmp_path, "finetune"), "--log"])
    assert (tmp_path / "smoke" / "finetune" / "checkpoint").is_dir()


def test_everything_trains_together(runs, tmp_path, images):
    """Table 4's last row: encoder, fusion and a copy of the decoder change; the original decoder stays."""
    (tmp_path / "smoke").mkdir()
    (tmp_path / "smoke" / "fusion").symlink_to(runs / "smoke" / "fusion")
    stage1.main([*smoke(tmp_path, BACKBONE), "--log"])
    before, after = weights(runs, "fusion"), weights(tmp_path, BACKBONE)
    assert same(before, after, "decoder.")
    matrices = [name for name, value in before.items() if value.ndim > 1 and not name.startswith("decoder.")]
    assert {name.split(".")[0] for name in matrices} == {"encoder", "fusion_module"}
    assert not [name for name in matrices if torch.equal(before[name], after[name])]
    for name in (name for name, value in before.items() if name.startswith("decoder.decoder_l") and value.ndim == 2):
        assert not torch.equal(before[name], after[name.replace("decoder.", "decoder_finetuned.", 1)])
    rows = [json.loads(line) for line in (tmp_path / "smoke" / BACKBONE / "log.jsonl").read_text().splitlines()]
    assert rows[1]["validation_psnr"] > rows[0]["validation_psnr"]
    loaded = AutoencoderDRoRAE.from_pretrained(tmp_path / "smoke" / BACKBONE / "checkpoint")
    assert loaded.encoder.frozen
    loaded.encode(images).latent.sum().backward()
    assert all(p.grad is None for p in loaded.encoder.parameters())


def test_a_leg_of_everything_fits(runs, tmp_path):
    (tmp_path / "smoke").mkdir()
    (tmp_path / "smoke" / "fusion").symlink_to(runs / "smoke" / "fusion")
    stage1.main([*smoke(tmp_path, BACKBONE), "--log"])
    shutil.copy(tmp_path / "smoke" / BACKBONE / "leg.safetensors", tmp_path / f"smoke-{BACKBONE}.safetensors")
    row = stage1.load_run(PRESETS["smoke"], f"smoke/{BACKBONE}", "x", runs, tmp_path)
    expected = weights(tmp_path, BACKBONE)
    assert row.encoder.frozen
    for name, value in row.state_dict().items():
        torch.testing.assert_close(value, expected[name], atol=2e-3, rtol=2e-3)  # a leg is in half precision


def test_the_loss_of_everything_reaches_every_part(model, images):
    made = task(model, BACKBONE)
    loss, _ = made.loss(batch(images), 0)
    expected = (model.decode(model.encode(images).latent).sample - images).abs().mean()
    torch.testing.assert_close(loss.detach(), expected.detach())
    loss.backward()
    parts = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert parts == {"encoder", "fusion_module", "decoder_finetuned"}


@pytest.mark.parametrize("phase", ["fusion", BACKBONE])
def test_the_discriminator_sees_pictures_without_noise_by_the_network_as_it_is(model, images, phase):
    made = Reconstruction(model, PRESETS["smoke"].stage1[phase], None, None)
    made.loss(batch(images), 1)
    (seen,) = made._seen
    decoder = "original" if phase == "fusion" else "finetuned"
    for parameter in model.fusion_module.parameters():  # the step that was made since
        parameter.data *= 1.1
    with torch.no_grad():
        expected = model.decode(model.encode(images).latent, decoder=decoder).sample
        torch.testing.assert_close(made.clean_pictures(seen), expected)
    assert not torch.allclose(seen.output, expected, atol=1e-2)


def test_a_phase_that_a_preset_has_not_is_one_sentence(tmp_path):
    for preset, has in (("tiny-mean4", "it has decoder"), ("dinov2-b-rae", "its runs are train.stage2's")):
        with pytest.raises(RunError, match=f"preset '{preset}' has no phase 'fusion'.*{has}"):
            stage1.main(["--preset", preset, "--phase", "fusion", "--out", str(tmp_path)])


def test_finetuning_without_a_fusion_is_one_sentence(runs, tmp_path):
    start = str(runs / "smoke" / "decoder" / "checkpoint")
    with pytest.raises(CheckpointError, match="needs a trained fusion"):
        stage1.main([*smoke(tmp_path, "finetune"), "--start", start])


def test_a_phase_without_the_one_before_is_one_sentence(tmp_path):
    with pytest.raises(CheckpointError, match=r"starts from .* run that first"):
        stage1.main(smoke(tmp_path, "fusion"))


def test_folded_patch_embedding_is_the_teachers_on_the_enlarged_patch():
    teacher = create_model("vit_tiny_patch16_224", img_size=64, depth=1, embed_dim=48)
    student = create_model("vit_tiny_patch16_224", img_size=32, depth=1, embed_dim=48, patch_size=8, reg_tokens=4)
    encoder.start_from_teacher(student, teacher)
    patch = torch.rand(5, 3, 8, 8)
    large = F.interpolate(patch, size=(16, 16), mode="bicubic", align_corners=False)
    torch.testing.assert_close(student.patch_embed.proj(patch), teacher.patch_embed.proj(large), atol=1e-5, rtol=0)


def test_a_decoder_learns_the_mean_of_layers_where_the_preset_says_so(model, images, tmp_path):
    preset = dataclasses.replace(
        PRESETS["smoke"], model={**PRESETS["smoke"].model, "fusion": "mean", "fusion_mean_layers": 2}
    )
    row = dataclasses.replace(preset.stage1["decoder"], noise_tau=0.0, adversary=None, perceptual=None)
    own = AutoencoderDRoRAE(**{**preset.model, "fusion": None})
    own.save_pretrained(tmp_path / "encoder")
    started = stage1.start_model(preset, row, tmp_path, str(tmp_path / "encoder"))
    trained = Reconstruction(started, row, None, None)
    loss, parts = trained.loss(batch(images), 0)
    mean = torch.stack([layer_norm(layer, 1e-6) for layer in started.encoder(images)[-2:]]).mean(0)
    expected = (started.decode(started.tokens_to_latent(mean)).sample - images).abs().mean()
    torch.testing.assert_close(parts["l1"], expected.detach())
    loss.backward()
    assert {name.split(".")[0] for name, p in started.named_parameters() if p.grad is not None} == {"decoder"}
