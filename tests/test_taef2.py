"""TAEF2: the bundled weights are the published ones, and the network is the one they were trained in."""

import json

import pytest
import torch
from conftest import PHOTOS, ROOT
from safetensors.torch import load_file
from torch.nn import functional as F

from drorae import CheckpointError
from drorae.explorer.tokenizers import load_picture_tokenizer
from drorae.images import load_image, square, to_tensor
from drorae.metrics import psnr, ssim
from drorae.pretrained.autoencoders import licence_of
from drorae.pretrained.taef2 import AutoencoderTAEF2

ASSET = ROOT / "assets" / "taef2"
WEIGHTS = PHOTOS / "weights"


@pytest.fixture(scope="module")
def taef2() -> AutoencoderTAEF2:
    return AutoencoderTAEF2.from_pretrained()


def published(half: str, number: int) -> dict[str, torch.Tensor]:
    """Weights of one layer of the bundled file."""
    start = f"{half}.layers.{number}."
    state = load_file(ASSET / "diffusion_pytorch_model.safetensors")
    return {key.removeprefix(start): value.float() for key, value in state.items() if key.startswith(start)}


def layer(half: str, number: int, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
    """One layer, written down from the weights: a convolution, or a residual block, with its pooled branch if any."""
    state = published(half, number)
    if "weight" in state:
        return F.conv2d(x, state["weight"], state.get("bias"), stride, 1)
    if "pool.0.weight" in state:
        wide = F.conv2d(x, state["pool.0.weight"])
        wide = F.relu(F.group_norm(wide, 4, state["pool.1.weight"], state["pool.1.bias"]))
        x = x + F.conv2d(wide, state["pool.3.weight"])
    inner = x
    for place in (0, 2, 4):
        inner = F.conv2d(inner, state[f"conv.{place}.weight"], state[f"conv.{place}.bias"], padding=1)
        inner = F.relu(inner) if place < 4 else inner
    return F.relu(inner + x)


@torch.no_grad()
def test_the_network_is_the_one_of_the_weights(taef2):
    images = torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    x = images
    for number in range(15):
        x = layer("encoder", number, x, stride=2 if number in (2, 6, 10) else 1)
    latent = taef2.encode(images * 2 - 1).latents
    assert latent.shape == (1, 32, 4, 5)
    torch.testing.assert_close(latent, x, atol=1e-4, rtol=1e-4)
    x = F.relu(layer("decoder", 0, torch.tanh(x / 3) * 3))
    for number in range(2, 19):
        x = F.interpolate(x, scale_factor=2) if number in (5, 10, 15) else layer("decoder", number, x)
    torch.testing.assert_close(taef2.decode(latent).sample / 2 + 0.5, x, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_known_picture_comes_back_as_well_as_measured(cat):
    tokenizer = load_picture_tokenizer("taef2")
    images = to_tensor(square(cat, 256))[None]
    pictures, latent, stored = tokenizer.rebuild(images)
    assert (latent, stored) == ((32, 32, 32), 32768)
    assert psnr(pictures, images).item() == pytest.approx(31.4227, abs=0.01)
    assert ssim(pictures, images).item() == pytest.approx(0.8888, abs=0.001)
    assert (tokenizer.title, tokenizer.encoder, tokenizer.decoder) == ("TAEF2", "pixels only", "its own")


@pytest.mark.data
@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="the pretrained weights are not at ../shared/data")
def test_the_bundled_weights_are_the_published_ones_bit_for_bit():
    bundled = load_file(ASSET / "diffusion_pytorch_model.safetensors")
    for half, offset in (("encoder", 0), ("decoder", 1)):  # theirs counts the clamp, which diffusers does outside
        for key, value in load_file(WEIGHTS / f"taef2_{half}_fp16.safetensors").items():
            number, rest = key.split(".", 1)
            mine = bundled.pop(f"{half}.layers.{int(number) - offset}.{rest}")
            assert mine.dtype == value.dtype == torch.float16
            assert torch.equal(mine, value)
    assert not bundled


@pytest.mark.data
@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="the pretrained weights are not at ../shared/data")
@torch.no_grad()
def test_it_is_as_good_as_is_said_of_it():
    photo = to_tensor(load_image(PHOTOS / "kodak" / "kodim23.png"))[None, :, :256, :256]
    assert psnr(load_picture_tokenizer("taef2").rebuild(photo).pictures, photo) > 30  # 30.19 dB is its mean over Kodak


def test_the_licence_lies_beside_the_weights():
    assert licence_of("taef2") == "mit"
    text = (ASSET / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("MIT License\n\nCopyright (c) 2023 Ollin Boer Bohan\n")
    assert "The above copyright notice and this permission notice shall be included" in text


def test_weights_that_do_not_fit_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "AutoencoderTAEF2", "latent_channels": 16}))
    weights = tmp_path / "diffusion_pytorch_model.safetensors"
    with pytest.raises(CheckpointError, match=r"diffusion_pytorch_model.safetensors' is missing"):
        load_picture_tokenizer(str(tmp_path))
    weights.write_bytes((ASSET / weights.name).read_bytes())
    with pytest.raises(CheckpointError, match="do not belong together: weights 3 of another shape"):
        AutoencoderTAEF2.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"weights 3 of another shape \(first: encoder"):
        load_picture_tokenizer(str(tmp_path))
