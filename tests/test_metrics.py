"""PSNR and SSIM against closed forms and scikit-image."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from drorae.metrics import psnr, ssim


def test_psnr_of_a_constant_error_is_the_closed_form():
    target = torch.full((2, 3, 16, 16), 100 / 255)
    prediction = target.clone()
    prediction[0] += 10 / 255
    prediction[1] += 1 / 255
    expected = [20 * np.log10(255 / 10), 20 * np.log10(255)]
    assert psnr(prediction, target).tolist() == pytest.approx(expected, abs=1e-4)


def test_equal_pictures():
    picture = torch.rand(1, 3, 32, 32)
    assert psnr(picture, picture).item() == float("inf")
    assert ssim(picture, picture).item() == pytest.approx(1, abs=1e-6)


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(3, 3, 8, 8, generator=generator), size=(64, 64), mode="bicubic")
    return smooth + 0.1 * torch.randn(smooth.shape, generator=generator), smooth


def as_bytes(images: torch.Tensor) -> np.ndarray:
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def test_psnr_agrees_with_scikit_image():
    noisy, smooth = pair()
    expected = [
        peak_signal_noise_ratio(b, a, data_range=255) for a, b in zip(as_bytes(noisy), as_bytes(smooth), strict=True)
    ]
    assert psnr(noisy, smooth).tolist() == pytest.approx(expected, abs=1e-4)


def test_ssim_agrees_with_its_definition_in_float64():
    """Wang et al. 2004, written out; mirrored borders."""

    def blur(x: np.ndarray) -> np.ndarray:
        return gaussian_filter(x, sigma=(1.5, 1.5, 0), truncate=3.5, mode="mirror")

    noisy, smooth = pair()
    expected = []
    for x, y in zip(as_bytes(noisy).astype(np.float64), as_bytes(smooth).astype(np.float64), strict=True):
        mx, my, c1, c2 = blur(x), blur(y), (0.01 * 255) ** 2, (0.03 * 255) ** 2
        vx, vy, cov = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
        value = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
        expected.append(value.mean())
    assert ssim(noisy, smooth).tolist() == pytest.approx(expected, abs=1e-4)


def test_ssim_agrees_with_scikit_image_away_from_the_borders():
    """A picture whose borders are equal differs inside only, so the excluded border counts as 1."""
    noisy, smooth = pair()
    noisy[..., :11, :] = smooth[..., :11, :]
    noisy[..., -11:, :] = smooth[..., -11:, :]
    noisy[..., :11] = smooth[..., :11]
    noisy[..., -11:] = smooth[..., -11:]
    for i, (a, b) in enumerate(zip(as_bytes(noisy), as_bytes(smooth), strict=True)):
        inside = structural_similarity(
            b, a, data_range=255, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        expected = (inside * 54**2 + (64**2 - 54**2)) / 64**2
        assert ssim(noisy, smooth)[i].item() == pytest.approx(expected, abs=1e-4)


def test_values_outside_the_range_are_clamped_as_they_are_shown():
    target = torch.ones(1, 3, 16, 16)
    assert psnr(target + 0.4, target).item() == float("inf")
