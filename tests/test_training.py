"""Every training phase for real, on a tiny preset and generated pictures."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from conftest import PHOTOS
from PIL import Image
from safetensors.torch import load_file
from timm import create_model
from torch.nn import functional as F

import train.run
from drorae import AutoencoderDRoRAE, CheckpointError
from train import encoder, evaluate, publish, stage1
from train.data import DataError, GeneratedPictures, TrainingPositions, ValidationPhotos, load_photos, random_crop
from train.losses import VGG11Perceptual
from train.presets import PRESETS

PHASES = ("decoder", "fusion", "finetune")


def command(out, phase=None) -> list[str]:
    arguments = ["--preset", "smoke", "--data", "generated", "--validation", "generated", "--out", str(out)]
    return arguments if phase is None else [*arguments, "--phase", phase]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """All phases, run once by the commands of the README."""
    out = tmp_path_factory.mktemp("runs")
    encoder.main(command(out))
    for phase in PHASES:
        stage1.main(command(out, phase))
    return out


def weights(runs, phase: str) -> dict[str, torch.Tensor]:
    folder = runs / "smoke" / phase / "checkpoint"
    return load_file(next(folder.glob("*.safetensors")))


def same(a: dict, b: dict, prefix: str) -> bool:
    names = [name for name in a if name.startswith(prefix)]
    assert names
    return all(torch.equal(a[name], b[name]) for name in names)


def test_every_phase_trains_its_part_and_nothing_else(runs):
    distilled = weights(runs, "encoder")
    decoder, fusion, finetune = (weights(runs, phase) for phase in PHASES)
    assert all(torch.equal(decoder[f"encoder.model.{name}"], value) for name, value in distilled.items())
    assert same(decoder, fusion, "encoder.")
    assert same(fusion, finetune, "encoder.")

    assert same(decoder, fusion, "decoder.")  # phase 2 leaves the decoder untouched
    assert not same(decoder, fusion, "fusion_module.")

    assert same(fusion, finetune, "fusion_module.")  # phase 3 leaves the fusion untouched
    assert same(fusion, finetune, "decoder.")
    assert not any(
        torch.equal(finetune[name.replace("decoder.", "decoder_finetuned.", 1)], value)
        for name, value in fusion.items()
        if name.startswith("decoder.decoder_layers") and name.endswith("weight") and value.ndim == 2
    )


def task(model, phase: str, noise_tau: float) -> stage1.Reconstruction:
    preset = dataclasses.replace(PRESETS["smoke"].stage1[phase], noise_tau=noise_tau)
    return stage1.Reconstruction(model, preset, weights=None, validation=None)


@pytest.mark.parametrize(
    ("phase", "fusion", "decoder"),
    [("decoder", False, "original"), ("fusion", True, "original"), ("finetune", True, "finetuned")],
)
def test_every_phase_reconstructs_its_route(model, images, phase, fusion, decoder):
    """Phase 1 is RAE: it must not see the other layers; phase 2 keeps the decoder of phase 1."""
    expected = (model.decode(model.encode(images, fusion=fusion).latent, decoder=decoder).sample - images).abs().mean()
    loss, parts = task(model, phase, noise_tau=0.0).loss(images)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(parts["l1"], expected.detach())


def test_noise_is_one_uniform_strength_per_picture_on_the_latent(model):
    torch.manual_seed(0)
    images = torch.rand(1, 3, 32, 32).expand(64, 3, 32, 32)
    seen = []
    model.decoder.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach()))
    task(model, "decoder", noise_tau=0.8).loss(images)
    clean = model.latent_to_tokens(model.encode(images, fusion=False).latent)
    strength = (seen[0] - clean).flatten(1).std(1)  # of 768 numbers per picture
    assert strength.max() < 0.9
    assert strength.mean().item() == pytest.approx(0.4, abs=0.1)
    assert strength.std().item() == pytest.approx(0.8 / 12**0.5, abs=0.06)


def test_training_improves_what_it_trains(runs):
    for phase in PHASES:
        rows = [json.loads(line) for line in (runs / "smoke" / phase / "log.jsonl").read_text().splitlines()]
        assert [row["step"] for row in rows] == [3, 6]
        assert rows[1]["validation_psnr"] > rows[0]["validation_psnr"]


@pytest.mark.parametrize("phase", ["fusion", "finetune"])
def test_an_interrupted_run_continues_to_the_same_weights(runs, tmp_path, monkeypatch, phase):
    before = {"fusion": "decoder", "finetune": "fusion"}[phase]
    (tmp_path / "smoke").mkdir()
    (tmp_path / "smoke" / before).symlink_to(runs / "smoke" / before)
    save = train.run._save_state

    def save_and_stop(*args):
        save(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(train.run, "_save_state", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        stage1.main(command(tmp_path, phase))
    monkeypatch.undo()
    assert not (tmp_path / "smoke" / phase / "checkpoint").exists()
    torch.manual_seed(123)  # whatever the process did in between
    stage1.main(command(tmp_path, phase))
    assert len((tmp_path / "smoke" / phase / "log.jsonl").read_text().splitlines()) == 1  # only step 6
    for name, value in weights(runs, phase).items():
        assert torch.equal(weights(tmp_path, phase)[name], value), name


def test_a_run_stopped_before_its_checkpoint_still_writes_it(runs, tmp_path, monkeypatch):
    (tmp_path / "smoke").mkdir()
    (tmp_path / "smoke" / "decoder").symlink_to(runs / "smoke" / "decoder")

    def stopped(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(train.run, "_write_folder", stopped)
    with pytest.raises(KeyboardInterrupt):
        stage1.main(command(tmp_path, "fusion"))
    monkeypatch.undo()
    stage1.main(command(tmp_path, "fusion"))
    assert same(weights(runs, "fusion"), weights(tmp_path, "fusion"), "fusion_module.")


def test_a_state_that_was_half_swapped_is_recovered(tmp_path):
    (tmp_path / "state.old").mkdir()
    (tmp_path / "state.new").mkdir()
    train.run._recover_state(tmp_path)
    assert (tmp_path / "state").is_dir()


def test_a_finished_run_is_left_alone(runs, capsys):
    before = weights(runs, "fusion")
    stage1.main(command(runs, "fusion"))
    assert "finished before" in capsys.readouterr().out
    assert same(before, weights(runs, "fusion"), "fusion_module.")


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_state(runs, tmp_path, monkeypatch):
    (tmp_path / "smoke").mkdir()
    (tmp_path / "smoke" / "decoder").symlink_to(runs / "smoke" / "decoder")
    loss = stage1.Reconstruction.loss
    calls = []

    def fails_at_step_5(self, images):
        calls.append(1)
        value, parts = loss(self, images)
        return (value * float("nan") if len(calls) == 5 else value), parts

    monkeypatch.setattr(stage1.Reconstruction, "loss", fails_at_step_5)
    with pytest.raises(train.run.RunError, match=r"loss nan .* at step 5"):
        stage1.main(command(tmp_path, "fusion"))
    assert (tmp_path / "smoke" / "fusion" / "state").is_dir()
    assert not (tmp_path / "smoke" / "fusion" / "checkpoint").exists()


def test_a_phase_without_the_one_before_is_one_sentence(tmp_path):
    with pytest.raises(CheckpointError, match=r"starts from .* run that first"):
        stage1.main(command(tmp_path, "fusion"))


def test_evaluate_and_publish_agree_with_the_model(runs, tmp_path, capsys):
    checkpoint = runs / "smoke" / "finetune" / "checkpoint"
    folder = tmp_path / "published"
    publish.main([*command(runs), "--to", str(folder)])
    capsys.readouterr()
    evaluate.main([str(folder), "--data", "generated", "--json", str(tmp_path / "numbers.json")])
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "numbers.json").read_text())

    model = AutoencoderDRoRAE.from_pretrained(folder)
    photos = ValidationPhotos(load_photos("generated", "validation"), 32)
    images = torch.stack([photos[i] for i in range(len(photos))])
    with torch.no_grad():
        output = model.decode(model.encode(images, fusion=False).latent, decoder="original").sample
    error = ((output.clamp(0, 1) * 255).round() - images * 255).square().mean((1, 2, 3))
    assert report["routes"]["rae"]["psnr"] == pytest.approx((10 * torch.log10(255**2 / error)).mean().item(), abs=1e-3)
    assert f"{report['routes']['drorae']['psnr']:.2f}" in printed

    card = (folder / "README.md").read_text()
    for route in report["routes"].values():
        assert f"{route['psnr']:.2f}" in card
    assert report["sha256"] in card
    stored = load_file(folder / "diffusion_pytorch_model.safetensors")
    whole = load_file(checkpoint / "diffusion_pytorch_model.safetensors")
    assert all(
        value.dtype == torch.float16 and torch.equal(value, whole[name].half()) for name, value in stored.items()
    )


def test_folded_patch_embedding_is_the_teachers_on_the_enlarged_patch():
    teacher = create_model("vit_tiny_patch16_224", img_size=64, depth=1, embed_dim=48)
    student = create_model("vit_tiny_patch16_224", img_size=32, depth=1, embed_dim=48, patch_size=8, reg_tokens=4)
    encoder.start_from_teacher(student, teacher)
    patch = torch.rand(5, 3, 8, 8)
    large = F.interpolate(patch, size=(16, 16), mode="bicubic", align_corners=False)
    torch.testing.assert_close(student.patch_embed.proj(patch), teacher.patch_embed.proj(large), atol=1e-5, rtol=0)


def test_every_epoch_sees_every_photo_once_and_differently():
    sources = [GeneratedPictures(5, seed=0), GeneratedPictures(3, seed=1)]
    positions = TrainingPositions(sources, size=32, crop_scale=(1.0, 1.0), seed=0)
    assert positions.photos == 8
    flat = {
        tuple(np.array(random_crop(row["image"], 32, (1, 1), _Flip(value)))[0, 0])
        for source in sources
        for row in source
        for value in (0.0, 0.9)
    }
    for epoch in range(2):
        seen = [tuple((positions[8 * epoch + i][:, 0, 0] * 255).round().int().tolist()) for i in range(8)]
        assert set(seen) <= {tuple(int(v) for v in corner) for corner in flat}
        assert len(set(seen)) == 8
    first = [positions[i] for i in range(8)]
    again = TrainingPositions(sources, size=32, crop_scale=(1.0, 1.0), seed=0)
    assert all(torch.equal(again[i], first[i]) for i in (7, 2, 5))
    assert not all(torch.equal(positions[8 + i], first[i]) for i in range(8))


class _Flip:
    """Stands for the random generator of a crop: no offset, flip below 0.5."""

    def __init__(self, value: float):
        self.value = value

    def uniform(self, low, high):
        return low

    def random(self):
        return self.value


def test_unusable_data_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        load_photos(str(tmp_path / "nowhere"), "train")
    with pytest.raises(DataError, match="no 'train-"):
        load_photos(str(tmp_path), "train")


def test_image_folders_are_read(tmp_path):
    (tmp_path / "train" / "red").mkdir(parents=True)
    for i in range(3):
        Image.new("RGB", (40, 40), (200 + i, 0, 0)).save(tmp_path / "train" / "red" / f"{i}.png")
    positions = TrainingPositions([load_photos(str(tmp_path), "train")], size=32, crop_scale=(0.5, 1.0), seed=0)
    colours = {int((positions[i][0, 5, 5] * 255).round()) for i in range(3)}
    assert colours == {200, 201, 202}


@pytest.mark.data
@pytest.mark.skipif(not (PHOTOS / "weights").is_dir(), reason="the pretrained weights are not at ../shared/data")
def test_perceptual_distance_is_zero_for_equal_pictures_and_grows_with_blur():
    loss = VGG11Perceptual(PHOTOS / "weights" / "vgg11_bn_conv1to4.safetensors")
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert loss(picture, picture).item() == 0
    little, much = (loss(F.avg_pool2d(picture, k, 1, k // 2), picture).item() for k in (3, 7))
    assert 0 < little < much


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"vgg\.safetensors.*--weights FOLDER"):
        VGG11Perceptual(tmp_path / "vgg.safetensors")
