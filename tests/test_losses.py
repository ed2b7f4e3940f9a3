"""The perceptual distances of the loss and of the evaluation."""

import re

import pytest
import torch
import torchvision
from conftest import PHOTOS
from safetensors.torch import save_file
from torch.nn import functional as F
from torchmetrics.functional.image import learned_perceptual_image_patch_similarity
from torchvision.models import alexnet, vgg11_bn, vgg16
from torchvision.transforms.functional import gaussian_blur

from drorae.checkpoints import CheckpointError
from drorae.images import load_image, to_tensor
from train.evaluate import VGG11
from train.measure.efficientnet import WEIGHTS as EFFICIENTNET
from train.measure.efficientnet import EfficientNetLite2
from train.measure.mobilenet import ARCHITECTURE, MobileNetV2
from train.measure.mobilenet import WEIGHTS as MOBILENET
from train.measure.st_lpips import STLPIPS
from train.measure.st_lpips import WEIGHTS as ST_LPIPS
from train.presets import PRESETS
from train.settings import PerceptualPreset
from train.tasks.losses import LPIPS, TAPS, VGG11Perceptual, build_perceptual

needs_weights = pytest.mark.skipif(
    not (PHOTOS / "weights").is_dir(), reason="the pretrained weights are not at ../shared/data"
)

VGG11_PRESET = PRESETS["tiny"].stage1["fusion"].perceptual


@pytest.fixture
def picture() -> torch.Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.data
@needs_weights
def test_vgg11_distance_is_that_of_torchvisions_features(picture):
    loss = build_perceptual(VGG11_PRESET, PHOTOS / "weights")
    other = F.avg_pool2d(picture, 3, 1, 1)
    features = vgg11_bn(weights=None).features[: TAPS[-1] + 1].eval()
    features.load_state_dict({key.removeprefix("features."): v for key, v in loss.features.state_dict().items()})
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected, x, y = 0, *((p - mean.view(3, 1, 1)) / std.view(3, 1, 1) for p in (picture, other))
    with torch.no_grad():
        for index, layer in enumerate(features):
            x, y = layer(x.clone()), layer(y.clone())
            if index in TAPS:
                expected = expected + (F.normalize(x, dim=1) - F.normalize(y, dim=1)).square().sum(1).mean((1, 2))
    torch.testing.assert_close(loss.per_picture(picture, loss.taps(other)), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(loss(picture, other), expected.mean(), rtol=1e-3, atol=1e-4)


@pytest.mark.data
@needs_weights
def test_vgg11_distance_is_zero_for_equal_pictures_and_grows_with_blur(picture):
    loss = VGG11Perceptual(PHOTOS / "weights" / VGG11_PRESET.weights)
    assert loss(picture, picture).item() == 0
    little, much = (loss(F.avg_pool2d(picture, k, 1, k // 2), picture).item() for k in (3, 7))
    assert 0 < little < much


def damaged(folder, content: bytes):
    """A folder of weights in which every file has this content."""
    for name in (VGG11, ST_LPIPS, MOBILENET, EFFICIENTNET):
        (folder / name).write_bytes(content)
    (folder / ARCHITECTURE).write_text("[]")
    return folder


NETWORKS = {
    VGG11: lambda folder: VGG11Perceptual(folder / VGG11),
    ST_LPIPS: lambda folder: STLPIPS(folder / ST_LPIPS),
    MOBILENET: MobileNetV2,
    EFFICIENTNET: EfficientNetLite2,
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("content", [b"", b"<html>404</html>", (2**40).to_bytes(8, "little")])
def test_damaged_weights_of_a_measuring_network_are_named(tmp_path, name, content):
    with pytest.raises(CheckpointError, match=f"{re.escape(name)}' is damaged or incomplete"):
        NETWORKS[name](damaged(tmp_path, content))


def test_weights_of_another_network_are_refused(tmp_path):
    save_file({"features.0.weight": torch.zeros(3)}, tmp_path / VGG11)
    with pytest.raises(CheckpointError, match="does not hold torchvision's vgg11_bn"):
        VGG11Perceptual(tmp_path / VGG11)
    (damaged(tmp_path, b"") / ARCHITECTURE).write_text("{")
    with pytest.raises(CheckpointError, match=f"{ARCHITECTURE}' is damaged"):
        MobileNetV2(tmp_path)


@pytest.mark.parametrize("network", ["vgg", "alex"])
def test_lpips_is_torchmetrics_and_differentiable(picture, network, monkeypatch):
    """The convolutions' weights cannot be fetched here: random ones take their place, the rest is the real thing."""
    torch.manual_seed(0)
    state = {"vgg": vgg16, "alex": alexnet}[network](weights=None).state_dict()
    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", lambda *args, **kwargs: state)
    loss = build_perceptual(PerceptualPreset("lpips", 1.0), None) if network == "vgg" else LPIPS(network)
    other = picture.flip(-1).requires_grad_()
    expected = learned_perceptual_image_patch_similarity(other, picture, network, reduction="none", normalize=True)
    torch.testing.assert_close(loss.per_picture(other, picture), expected.flatten())
    assert loss(picture, picture).item() == pytest.approx(0, abs=1e-7)
    loss(other, picture).backward()
    assert other.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in loss.parameters())


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"vgg\.safetensors.*--weights FOLDER"):
        VGG11Perceptual(tmp_path / "vgg.safetensors")


@pytest.mark.data
@needs_weights
def test_st_lpips_is_the_published_metric():
    """Values that the PyPI package stlpips_pytorch 0.0.2 gives for these pictures, whose weights ours are in fp16."""
    metric = STLPIPS(PHOTOS / "weights" / ST_LPIPS)
    kodim = load_image(PHOTOS / "kodak" / "kodim23.png")
    picture, shifted = (to_tensor(kodim.crop((left, 100, left + 256, 356)))[None] for left in (200, 201))
    others = {
        "shifted": (shifted, 0.00251),
        "blurred": (gaussian_blur(picture, 11, 1.5), 0.13828),
        "mirrored": (picture.flip(-1), 0.64529),
        "darker": (picture * 0.7, 0.16494),
    }
    wanted = metric.taps(picture)
    for name, (other, published) in others.items():
        assert metric.per_picture(other, wanted).item() == pytest.approx(published, rel=2e-3), name
    assert metric(picture, picture).item() == 0
    pair = torch.cat([shifted, picture * 0.7])
    each = metric.per_picture(pair, metric.taps(picture.expand(2, -1, -1, -1)))
    torch.testing.assert_close(metric(pair, picture.expand(2, -1, -1, -1)), each.mean())


def test_st_lpips_without_its_weights_is_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="ST-LPIPS needs"):
        STLPIPS(tmp_path / ST_LPIPS)
