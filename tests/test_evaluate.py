"""Evaluation: every number against an independent computation, and the protocol that is printed with it."""

import json
import re

import numpy as np
import pytest
import scipy.linalg
import torch
from conftest import PHOTOS, build
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from drorae import AutoencoderDRoRAE
from drorae.checkpoints import CheckpointError
from drorae.explorer.tokenizers import find_tokenizer
from drorae.images import square, to_tensor
from drorae.metrics import psnr
from drorae.models.fusion import MeanFusion
from drorae.pretrained.adapter import cast_weights
from train import evaluate, publish, readme, stage1
from train.data.crops import adm_square
from train.data.held_out import ValidationPhotos, load_held_out
from train.data.sources import load_photos
from train.errors import DataError
from train.evaluate import Measure, choose_metrics, quantize
from train.fusion_bound import bound_words
from train.measure.frechet import FrechetDistance
from train.measure.latent_metrics import high_frequency_energy, same_class_neighbours, spatial_effective_rank
from train.measure.mobilenet import MobileNetV2
from train.presets import PRESETS, SMOKE_MODEL
from train.settings import Preset

WEIGHTS = PHOTOS / "weights"
needs_weights = pytest.mark.skipif(not WEIGHTS.is_dir(), reason="the pretrained weights are not at ../shared/data")


def smoke_checkpoint(runs):
    return runs / "smoke" / "finetune" / "checkpoint"


def report_of(runs, tmp_path, *options) -> dict:
    file = tmp_path / "numbers.json"
    evaluate.main([str(smoke_checkpoint(runs)), "--data", "generated", "--json", str(file), *options])
    return json.loads(file.read_text())


@torch.no_grad()
def test_psnr_and_ssim_against_scikit_image(runs, tmp_path):
    """Every route, rebuilt by hand from the public interface, rounded to 8 bits, averaged over pictures."""
    report = report_of(runs, tmp_path, "--mean-layers", "2", "--weights", str(tmp_path))
    model = AutoencoderDRoRAE.from_pretrained(smoke_checkpoint(runs))
    photos = ValidationPhotos(load_photos("generated", "validation"), 32)
    images = torch.stack([photos[i] for i in range(len(photos))])
    mean = MeanFusion(3, 2)(model.encoder(images)).tokens
    routes = {
        "rae": model.decode(model.encode(images, fusion=False).latent, decoder="original").sample,
        "phase2": model.decode(model.encode(images).latent, decoder="original").sample,
        "drorae": model.decode(model.encode(images).latent).sample,
        "mean of 2": model.decode(model.tokens_to_latent(mean), decoder="original").sample,
    }
    assert report["routes"].keys() == routes.keys()
    for name, output in routes.items():
        pairs = list(
            zip(
                (output.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy(),
                (images * 255).round().byte().permute(0, 2, 3, 1).numpy(),
                strict=True,
            )
        )
        quality = np.mean([peak_signal_noise_ratio(b, a) for a, b in pairs])
        assert report["routes"][name]["psnr"] == pytest.approx(quality, abs=1e-4)
        settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": 2}
        # torchmetrics mirrors the borders, scikit-image leaves 5 pixels out
        padded = [[np.pad(p, ((5, 5), (5, 5), (0, 0)), "reflect") for p in pair] for pair in pairs]
        ssim = np.mean([structural_similarity(a, b, data_range=255, **settings) for a, b in padded])
        assert report["routes"][name]["ssim"] == pytest.approx(ssim, abs=2e-3)
    assert set(report["left_out"]) == {"vgg11", "st-lpips", "fd-mobilenetv2"}


def test_rounding_and_truncation_to_8_bits():
    values = torch.tensor([-0.2, 0.4999 / 255, 0.5001 / 255, 1.9999 / 255, 1.4]).view(1, 1, 1, 5)
    assert (quantize(values, "round") * 255).flatten().tolist() == pytest.approx([0, 0, 1, 2, 255])
    assert (quantize(values, "truncate") * 255).flatten().tolist() == pytest.approx([0, 0, 0, 1, 255])


def test_the_protocol_is_in_the_report(runs, tmp_path, capsys):
    report = report_of(runs, tmp_path, "--limit", "20", "--rounding", "truncate", "--weights", str(tmp_path))
    printed = capsys.readouterr().out
    assert report["photos"] == 20
    assert report["rounding"] == "8-bit, truncated"
    for name in ("reference", "photos", "crop", "rounding", "precision", "seed", "sha256"):
        assert str(report[name]) in printed
    assert "--limit 20 --rounding truncate --data generated" in report["command"]
    assert f"{report['routes']['drorae']['psnr']:.2f}" in printed
    assert "Left out: FD-MobileNetV2" in printed


# ---- the Frechet distance -----------------------------------------------------------------------------------------


def test_frechet_distance_against_scipy():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(60, 6, generator=generator) @ torch.randn(6, 6, generator=generator) + 0.3
    b = torch.randn(60, 6, generator=generator)
    distance = FrechetDistance(6)
    for i in range(0, 60, 25):
        distance.update(a[i : i + 25], b[i : i + 25])
    x, y = a.double().numpy(), b.double().numpy()
    root = scipy.linalg.sqrtm(np.cov(x.T) @ np.cov(y.T)).real
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(np.cov(x.T) + np.cov(y.T) - 2 * root)
    assert distance.compute() == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_of_shifted_copies_is_the_squared_shift():
    features = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    same, shifted = FrechetDistance(4), FrechetDistance(4)
    same.update(features, features)
    shifted.update(features, features + torch.tensor([3.0, 0, 4.0, 0]))
    assert same.compute() == pytest.approx(0, abs=1e-6)
    assert shifted.compute() == pytest.approx(25, abs=1e-5)


def test_too_few_pictures_for_a_frechet_distance_are_refused(runs, tmp_path):
    distance = FrechetDistance(6)
    distance.update(torch.randn(6, 6), torch.randn(6, 6))
    with pytest.raises(DataError, match=r"6 features needs more than 6 pictures, and there are 6"):
        distance.compute()
    with pytest.raises(DataError, match=r"more than 1280 pictures, and there are 64"):
        report_of(runs, tmp_path, "--metrics", "psnr", "fd-mobilenetv2")
    with pytest.raises(DataError, match=r"more than 2048 pictures"):
        report_of(runs, tmp_path, "--metrics", "rfid")


@pytest.mark.data
@needs_weights
@torch.no_grad()
def test_the_mobilenet_knows_what_is_on_the_photos():
    names = (WEIGHTS / "imagenet_labels_1001.txt").read_text().splitlines()
    rows = load_photos(str(PHOTOS / "photos20"), "validation")
    photos = ValidationPhotos(rows, 128, 40)
    images = torch.cat(list(photos.batches(40)))
    features, logits = MobileNetV2(WEIGHTS)(images)
    assert features.shape == (40, 1280)
    classes = [rows.features["label"].int2str(i) for i in photos.labels().tolist()]
    hits = [
        any(name.lower() in c.lower() for c in [names[i]]) for name, i in zip(classes, logits.argmax(1), strict=True)
    ]
    assert np.mean(hits) > 0.45  # of 1,000 classes, on 128 px


@pytest.mark.data
@needs_weights
@torch.no_grad()
def test_a_sharper_set_is_closer():
    """FD-MobileNetV2's order is that of the eye; on fewer features than pictures, so that few pictures do."""
    photos = ValidationPhotos(load_photos(str(PHOTOS / "photos20"), "validation"), 128, 24)
    images = torch.cat(list(photos.batches(24)))
    network = MobileNetV2(WEIGHTS)
    reference = network(images)[0][:, :16]
    distances = []
    for side in (96, 48, 24):
        small = torch.nn.functional.interpolate(images, (side, side), mode="bilinear", antialias=True)
        blurred = torch.nn.functional.interpolate(small, (128, 128), mode="bilinear")
        distance = FrechetDistance(16)
        distance.update(reference, network(blurred)[0][:, :16])
        distances.append(distance.compute())
    assert distances[0] < distances[1] < distances[2]


# ---- latent diagnostics -------------------------------------------------------------------------------------------


def test_effective_rank_counts_equal_directions():
    q = torch.linalg.qr(torch.randn(1, 20, 5)).Q
    assert spatial_effective_rank(q).item() == pytest.approx(5)
    assert spatial_effective_rank(torch.ones(1, 20, 5)).item() == pytest.approx(1)
    s = torch.tensor([3.0, 1.0]).double()
    p = s / s.sum()
    two = torch.diag(s)[None]
    assert spatial_effective_rank(two).item() == pytest.approx(torch.exp(-(p * p.log()).sum()).item())


def test_high_frequency_energy_of_gratings():
    """A DCT basis function has all its energy at its own frequency."""
    n = torch.arange(8)
    for k, expected in ((3, 0.0), (4, 1.0), (7, 1.0)):
        wave = torch.cos(torch.pi * (n + 0.5) * k / 8)
        tokens = wave[None, :, None, None].expand(1, 8, 8, 3).flatten(1, 2)
        assert high_frequency_energy(tokens, (8, 8)).item() == pytest.approx(expected, abs=1e-6)
    assert high_frequency_energy(torch.ones(1, 64, 3), (8, 8)).item() == pytest.approx(0, abs=1e-6)


def test_same_class_neighbours_of_two_clusters():
    pooled = torch.cat([torch.tensor([[1.0, 0.0]]).repeat(8, 1), torch.tensor([[0.0, 1.0]]).repeat(8, 1)])
    pooled = pooled + 0.01 * torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(2).repeat_interleave(8)
    assert same_class_neighbours(pooled, labels, k=7) == 1.0
    assert same_class_neighbours(pooled, labels[torch.arange(16) % 2 * 8], k=7) < 0.8
    with pytest.raises(ValueError, match="more than 10 pictures"):
        same_class_neighbours(pooled[:10], labels[:10])


# ---- options and bad input ----------------------------------------------------------------------------------------


def test_where_numbers_cannot_be_written_is_said_before_they_are_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "measure_checkpoint", None)
    for place in (tmp_path, tmp_path / "nowhere" / "numbers.json"):
        with pytest.raises(DataError, match="no file can be written there; name one in a folder that is there"):
            evaluate.main(["--data", "generated", "--json", str(place)])


def test_metrics_without_weights_are_left_out_or_refused(tmp_path):
    chosen, left_out = choose_metrics(None, tmp_path, 5000)
    assert chosen == ("psnr", "ssim")
    assert "is not there" in left_out["vgg11"]
    with pytest.raises(FileNotFoundError, match="--weights FOLDER"):
        Measure(("vgg11",), tmp_path)


@pytest.mark.parametrize(
    ("options", "dtype", "cut"),
    [
        ([], torch.float32, square),
        (["--precision", "bfloat16"], torch.bfloat16, square),
        (["--crop", "adm"], torch.float32, adm_square),
    ],
)
@torch.no_grad()
def test_precision_and_crop_are_those_asked_for(runs, tmp_path, options, dtype, cut):
    report = report_of(runs, tmp_path, "--weights", str(tmp_path), *options)
    model = cast_weights(AutoencoderDRoRAE.from_pretrained(smoke_checkpoint(runs)), dtype)
    rows = load_photos("generated", "validation")
    images = torch.stack([to_tensor(cut(rows[i]["image"], 32)) for i in range(len(rows))])
    outputs = model(images.to(dtype)).sample.float().clamp(0, 1)
    assert report["routes"]["drorae"]["psnr"] == pytest.approx(psnr(outputs, images).mean().item(), abs=1e-3)


@pytest.mark.parametrize(
    ("option", "error", "message"),
    [
        (["--mean-layers", "13"], DataError, "--mean-layers 13: use at most 3, the encoder's layers"),
        (["--mean-layers", "0"], SystemExit, "'0' is not a number of layers; give a whole number from 1 on"),
        (["--limit", "none"], SystemExit, "'none' is not a number of pictures; give a whole number from 1 on"),
    ],
)
def test_impossible_options_are_refused(runs, tmp_path, capsys, option, error, message):
    with pytest.raises(error) as caught:
        report_of(runs, tmp_path, *option)
    assert message in f"{caught.value} {capsys.readouterr().err}"


def test_lpips_without_its_weights_is_one_sentence(runs, tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(DataError, match=r"LPIPS needs torchvision's vgg weights, which could not be fetched"):
        report_of(runs, tmp_path, "--metrics", "lpips-vgg")


# ---- publishing ---------------------------------------------------------------------------------------------------


MEAN2 = Preset(
    model={**SMOKE_MODEL, "fusion": "mean", "fusion_mean_layers": 2},
    encoder=PRESETS["smoke"].encoder,
    stage1={"decoder": PRESETS["smoke"].stage1["decoder"]},
)


@pytest.fixture(scope="module")
def mean_runs(runs, tmp_path_factory):
    """The smoke runs, and one whose decoder learns the mean of two layers."""
    out = tmp_path_factory.mktemp("mean")
    (out / "smoke").symlink_to(runs / "smoke")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "smoke-mean2", MEAN2)
        data = ["--data", "generated", "--validation", "generated", "--out", str(out)]
        stage1.main(["--preset", "smoke-mean2", "--phase", "decoder", *data])
    return out


def test_published_weights_card_and_readme_agree(mean_runs, tmp_path, monkeypatch):
    folder = tmp_path / "published"
    monkeypatch.setitem(PRESETS, "smoke-mean2", MEAN2)
    monkeypatch.setattr(publish, "BOUND_PHOTOS", 3)
    arguments = ["--preset", "smoke", "--data", "generated", "--validation", "generated", "--out", str(mean_runs)]
    arguments += ["--weights", str(tmp_path), "--size", "48", "--seen", "Discs are round.", "--to", str(folder)]
    leg = mean_runs / "smoke" / "decoder" / "leg.safetensors"
    publish.main([*arguments, "--mean-of", "smoke-mean2", "--rae-leg", str(leg)])
    report = json.loads((folder / "measured.json").read_text())
    card = (folder / "README.md").read_text()
    assert evaluate.table(report) in card
    assert report["command"] in card
    assert report["size"] == report["fusion_bound"]["size"] == 48
    for phase in ("decoder", "fusion", "finetune"):
        assert f"--preset smoke --phase {phase}" in card
    assert "Pictures may have any height and width that are multiples of 8 pixels: 32 x 32 are 16 tokens" in card
    assert bound_words(report["fusion_bound"]) in card
    assert report["fusion_bound"]["command"] in card
    assert "Its decoder saw 24 pictures in phase 1" in card
    assert re.search(r"took \d+ minutes?\. Discs are round\. The photos", card)
    assert "None of these distances is in the training loss." in card  # smoke has none
    curve = publish.psnr_points(mean_runs / "smoke" / "fusion" / "log.jsonl")
    assert f"fusion {curve[0][1]:.2f} -> {curve[1][1]:.2f}" in card
    assert (folder / "curves.svg").read_text().count("<polyline") == 3

    whole = load_file(smoke_checkpoint(mean_runs) / "diffusion_pytorch_model.safetensors")
    stored = load_file(folder / "diffusion_pytorch_model.safetensors")
    assert all(v.dtype == torch.float16 and torch.equal(v, whole[name].half()) for name, v in stored.items())

    page = tmp_path / "README.md"
    frame = "on {} held-out photos of photos20 ({} px), as printed by\n`{}`:\n<!-- results -->\n{}\n<!-- /results -->\n"
    frame += "<!-- training -->\n{}\n<!-- /training -->\n<!-- reproduction -->\n{}\n<!-- /reproduction -->\n"
    page.write_text(frame.format(3, 9, "a command", "old", "old", "old"))
    monkeypatch.setattr(readme, "reproduction_table", lambda: "the presets")
    readme.main([str(folder), "--readme", str(page)])
    words = readme.training_words(report, folder)
    assert bound_words(report["fusion_bound"]) in words
    assert page.read_text() == frame.format(64, 48, report["command"], evaluate.table(report), words, "the presets")
    again = report_of_folder(folder, tmp_path)
    assert again == {name: report[name] for name in again}
    check_mean_rows(report, folder, mean_runs)


def report_of_folder(folder, tmp_path) -> dict:
    file = tmp_path / "again.json"
    options = ["--mean-layers", "2", "--weights", str(tmp_path), "--size", "48"]
    evaluate.main([str(folder), "--data", "generated", "--json", str(file), *options])
    return json.loads(file.read_text())


@torch.no_grad()
def check_mean_rows(report, folder, runs) -> None:
    """The mean's own decoder is the run's, RAE's after as many steps is the leg's; the page takes the former."""
    routes = report["routes"]
    assert list(routes) == ["rae", "phase2", "drorae", "mean of 2", "mean of 2, own decoder, 6 steps", "rae, 6 steps"]
    images = torch.cat(list(load_held_out("generated", "validation", 48).batches(32)))
    trained = AutoencoderDRoRAE.from_pretrained(runs / "smoke-mean2" / "decoder" / "checkpoint")
    expected = psnr(trained(images).sample.clamp(0, 1), images).mean().item()
    assert routes["mean of 2, own decoder, 6 steps"]["psnr"] == pytest.approx(expected, abs=0.02)  # in half precision
    assert routes["rae, 6 steps"]["psnr"] == pytest.approx(routes["rae"]["psnr"], abs=0.02)  # this leg went to the end
    model = AutoencoderDRoRAE.from_pretrained(folder)
    tokenizer = find_tokenizer("mean-2", model)
    assert (tokenizer.title, tokenizer.decoder) == ("Mean of 2 layers, own decoder", "its own")
    torch.testing.assert_close(tokenizer.rebuild(images[:2]).pictures, trained(images[:2]).sample, atol=5e-3, rtol=0)
    assert find_tokenizer("mean-3", model).decoder == "that of RAE"
    model.encoder.model.blocks[0].mlp.fc1.weight.data += 1
    with pytest.raises(CheckpointError, match="belongs to another encoder; publish the model again"):
        find_tokenizer("mean-2", model)


def test_a_leg_of_another_step_is_not_compared_with(mean_runs, tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "smoke-mean2", MEAN2)
    leg, whole = tmp_path / "leg.safetensors", mean_runs / "smoke" / "decoder" / "leg.safetensors"
    with safe_open(whole, framework="pt") as file:
        record = json.loads(file.metadata()["drorae"]) | {"step": 4}
    save_file(load_file(whole), leg, {"drorae": json.dumps(record)})
    arguments = ["--preset", "smoke", "--out", str(mean_runs), "--to", str(tmp_path / "x"), "--rae-leg", str(leg)]
    with pytest.raises(CheckpointError, match=r"is of step 4 and '.*' of step 6; take equal ones"):
        publish.main([*arguments, "--mean-of", "smoke-mean2"])
    with pytest.raises(CheckpointError, match="this preset does not average a number of layers"):
        publish.main([*arguments, "--mean-of", "tiny"])
    with pytest.raises(CheckpointError, match="tiny-mean4/decoder/checkpoint' is not there; finish phase 'decoder'"):
        publish.main([*arguments, "--mean-of", "tiny-mean4"])


def test_models_say_which_sizes_they_take():
    assert publish.sizes_words(build()) == "Pictures are 32 x 32 pixels, 16 tokens"
    assert publish.sizes_words(build(any_size=True)).startswith("Pictures may have any height and width")


def test_the_square_is_what_is_measured():
    photos = ValidationPhotos(load_photos("generated", "validation"), 32, 1)
    row = load_photos("generated", "validation")[0]["image"]
    assert torch.equal(photos[0], to_tensor(square(row, 32)))
