"""VIV and its companions on latents whose answers are known, and an independent fit as the oracle."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.stats import t as student

from train.errors import DataError
from train.measure.diffusability import chosen_classes, measure_latents, picture_values
from train.measure.intervals import bootstrap_mean, class_groups, grouped_jackknife
from train.measure.latent_metrics import same_class_neighbours, same_class_shares, spectral_energy
from train.measure.probe import LabelledLatents
from train.measure.viv import (
    fewest_pictures,
    fit_spectrum,
    normalize_channels,
    velocity_irreducible_variance,
)

C, H, W = 2, 1, 3


def cross(channels=C, positions=H * W) -> torch.Tensor:
    """+ and - every unit matrix: second moments of exactly 1 / d in every direction, (2 d, C, 1, h w)."""
    units = torch.eye(channels * positions, dtype=torch.float64)
    return torch.cat([units, -units]).reshape(-1, channels, 1, positions)


def coloured(space: torch.Tensor, channels: torch.Tensor) -> torch.Tensor:
    """A sample whose maximum likelihood is space (x) channels exactly, up to a factor: the cross, transformed."""
    x = cross(len(channels), len(space))[:, :, 0]
    x = torch.linalg.cholesky(channels) @ x @ torch.linalg.cholesky(space).T
    return x[:, :, None]


def random_covariance(size: int, seed: int) -> torch.Tensor:
    root = torch.randn(size, size + 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return root @ root.T


# ---- the spectrum of one class ------------------------------------------------------------------------------------


def test_an_isotropic_class_has_the_closed_form():
    """lambda = total / d everywhere: I = (pi / 2) sqrt(total d)."""
    x = 3 * cross()
    found = fit_spectrum(x)
    count, size = len(x), C * H * W
    total = 9 * count / (count - 1)
    assert found.total == pytest.approx(total)
    assert found.sum_of_roots == pytest.approx(math.sqrt(total * size))
    assert found.effective_rank == pytest.approx(size)


def test_a_kronecker_covariance_is_found():
    space, channels = random_covariance(3, 0), random_covariance(2, 1)
    found = fit_spectrum(coloured(space, channels))
    for got, wanted in ((found.space, space), (found.channels, channels)):
        values = torch.linalg.eigvalsh(wanted)
        torch.testing.assert_close(got, values / values.sum(), rtol=1e-5, atol=0)


def test_low_rank_has_its_rank_and_directions_without_variance_cost_nothing():
    """Channels that repeat each other: as one channel, whose total is counted thrice."""
    one = coloured(random_covariance(4, 2), torch.ones(1, 1, dtype=torch.float64))
    thrice = one.expand(-1, 3, -1, -1)
    found, alone = fit_spectrum(thrice), fit_spectrum(one)
    assert found.total == pytest.approx(3 * alone.total)
    assert found.effective_rank == pytest.approx(alone.effective_rank)
    assert found.sum_of_roots == pytest.approx(math.sqrt(3) * alone.sum_of_roots)
    assert int((found.channels > 0).sum()) == 1


def test_tokens_that_a_layer_norm_left_without_a_direction_are_measured():
    """LN takes away the mean over channels, up to rounding, which must not be taken for a direction."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 6, 2, 2, generator=generator)
    found = fit_spectrum(torch.nn.functional.layer_norm(x.movedim(1, -1), (6,)).movedim(-1, 1))
    assert int((found.channels > 0).sum()) == 5
    assert found.effective_rank < 20.0001


def nonkronecker(count: int, seed: int = 5) -> np.ndarray:
    """Pictures (n, 2, 3) whose covariance is not a product."""
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((6, 6)) * np.linspace(0.3, 2, 6)
    return (rng.standard_normal((count, 6)) @ root).reshape(count, 2, 3)


def oracle(x: np.ndarray) -> tuple[float, float]:
    """I_k and effective rank from the definition, slowly: the likelihood of a matrix normal maximised over Cholesky
    factors, the eigenvalues of the whole Kronecker product, the integral over time by quadrature."""
    count, channels, positions = x.shape
    centred = x - x.mean(0)
    corners = [np.tril_indices(size) for size in (positions, channels)]

    def covariances(values: np.ndarray) -> list[np.ndarray]:
        found, start = [], 0
        for size, corner in zip((positions, channels), corners, strict=True):
            factor = np.zeros((size, size))
            factor[corner] = values[start : start + len(corner[0])]
            start += len(corner[0])
            found.append(factor @ factor.T + 1e-12 * np.eye(size))
        return found

    def loss(values: np.ndarray) -> float:
        covariance = np.kron(*covariances(values)[::-1])  # a row of channels after the other, as pictures are flattened
        flat = centred.reshape(count, -1)
        return count * np.linalg.slogdet(covariance)[1] + np.einsum("ni,ij,nj", flat, np.linalg.inv(covariance), flat)

    start = np.concatenate([np.eye(size)[corner] for size, corner in zip((positions, channels), corners, strict=True)])
    best = minimize(loss, start, method="BFGS", options={"gtol": 1e-7, "maxiter": 2000})
    values = np.linalg.eigvalsh(np.kron(*covariances(best.x)))
    values *= (centred**2).sum() / (count - 1) / values.sum()
    left = quad(lambda t: (values / (t**2 + (1 - t) ** 2 * values)).sum(), 0, 1, epsabs=1e-10)[0]
    shares = values / values.sum()
    return left, math.exp(-(shares * np.log(shares)).sum())


@pytest.mark.parametrize("count", [6, 30])
def test_the_fit_is_that_of_an_independent_one(count):
    x = nonkronecker(count)
    found = fit_spectrum(torch.from_numpy(x)[:, :, None])
    left, rank = oracle(x)
    assert math.pi / 2 * found.sum_of_roots == pytest.approx(left, rel=1e-4)
    assert found.effective_rank == pytest.approx(rank, rel=1e-4)


def test_one_picture_again_and_again_has_no_variance():
    found = fit_spectrum(torch.ones(8, 2, 2, 2))
    assert (found.total, found.sum_of_roots, found.effective_rank) == (0, 0, 1)


# ---- all classes --------------------------------------------------------------------------------------------------


def two_classes() -> tuple[torch.Tensor, torch.Tensor]:
    """An isotropic class and one of twice its size, apart by 4 in the first channel; their channels are normalised."""
    latents = torch.cat([cross(), 2 * cross()])
    latents[: len(latents) // 2, 0] += 4
    return latents, torch.tensor([3] * (len(latents) // 2) + [5] * (len(latents) // 2))


def test_viv_is_the_mean_over_classes_of_normalised_channels():
    latents, labels = two_classes()
    found = velocity_irreducible_variance(latents, labels)
    std = latents.double().std(dim=(0, 2, 3), correction=0)  # of each channel: the class means are in it
    count, size = len(cross()), C * H * W
    expected, variances = [], []
    for scale in (1, 2):
        values = np.repeat(scale**2 / std.numpy() ** 2 * 2 / count, H * W) * count / (count - 1)
        expected.append(math.pi / 2 * np.sqrt(values).sum() / size)
        variances.append(values.mean())
    assert found.viv == pytest.approx(np.mean(expected), rel=1e-5)
    assert found.variance == pytest.approx(np.mean(variances), rel=1e-5)
    assert found.classes == 2


def test_what_classes_share_does_not_matter():
    """Scale and offset of a channel are normalised away; which label a class has does not count."""
    latents, labels = two_classes()
    found = velocity_irreducible_variance(latents, labels)
    scaled = latents * torch.tensor([0.01, 70]).view(2, 1, 1) + torch.tensor([5, -3]).view(2, 1, 1)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    again = velocity_irreducible_variance(scaled[order], 9 - labels[order])
    assert again.viv == pytest.approx(found.viv, rel=1e-5)


def test_an_uneven_spectrum_and_compact_classes_are_lower():
    latents, labels = two_classes()
    usual = velocity_irreducible_variance(latents, labels)
    farther = latents.clone()
    farther[labels == 3, 0] += 10  # classes far apart are compact once normalised
    assert velocity_irreducible_variance(farther, labels).viv < usual.viv
    even = torch.cat([cross(2, 4), cross(2, 4)])
    uneven = even * torch.tensor([2.0, 1, 1, 0.01])
    classes = torch.arange(2).repeat_interleave(len(even) // 2)
    assert velocity_irreducible_variance(uneven, classes).viv < velocity_irreducible_variance(even, classes).viv


def test_standard_normal_latents_have_half_pi():
    """Of N(0, 1) in every class lambda is 1: VIV / d is pi / 2 in the limit, and rho 1."""
    latents = torch.randn(2000, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    found = velocity_irreducible_variance(latents, torch.arange(2000) % 2)
    assert found.viv == pytest.approx(math.pi / 2, rel=5e-3)
    assert found.variance == pytest.approx(1, rel=5e-3)
    assert found.rank == pytest.approx(12, rel=1e-2)


def test_classes_with_too_few_pictures_are_left_out_or_refused():
    needed = fewest_pictures(C, H * W)
    assert needed == math.floor(3 / 2 + 2 / 3) + 2 == 4
    latents, labels = two_classes()
    few = (
        torch.cat([latents, latents[: needed - 1] + 1]),
        torch.cat([labels, torch.zeros(needed - 1, dtype=torch.long)]),
    )
    found = velocity_irreducible_variance(*few)
    assert found.classes == 2
    with pytest.raises(DataError, match="VIV needs classes of 4 pictures or more for a latent of 3 positions and 2"):
        velocity_irreducible_variance(latents[:3], labels[:3])


def test_a_channel_without_variance_is_said():
    latents = torch.randn(6, 3, 2, 2)
    latents[:, 1] = 0.5
    with pytest.raises(DataError, match="channel 2 of the latent is the same"):
        normalize_channels(latents)


# ---- spectrum and neighbours --------------------------------------------------------------------------------------


def wave(u: int, v: int, height: int = 6, width: int = 4) -> torch.Tensor:
    """A basis picture of the DCT-II, (h, w)."""
    y, x = (np.arange(size) for size in (height, width))
    rows = np.cos(np.pi * u * (2 * y + 1) / (2 * height))
    return torch.from_numpy(rows[:, None] * np.cos(np.pi * v * (2 * x + 1) / (2 * width)))


def test_the_energy_of_a_wave_is_where_its_frequency_is():
    highest = 5 + 3
    for (u, v), share in itertools.product(((0, 0), (1, 1), (2, 2), (2, 3), (5, 3)), (0.25, 0.5)):
        found = spectral_energy(wave(u, v)[None, None], share).item()
        assert found == pytest.approx(float(u + v > share * highest), abs=1e-12), (u, v, share)


def test_channels_count_alike_whatever_their_energy():
    latents = torch.stack([1000 * wave(0, 1), wave(5, 3), torch.zeros(6, 4)])[None]
    assert spectral_energy(latents, 0.5).item() == pytest.approx(1 / 3)


def test_white_noise_has_the_share_of_the_coefficients():
    latents = torch.randn(64, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    high = sum(u + v > 0.5 * 14 for u in range(8) for v in range(8)) / 64
    assert spectral_energy(latents, 0.5).mean().item() == pytest.approx(high, abs=0.01)


def test_neighbours_of_duplicated_pictures_are_their_copies():
    """Four directions, six copies each: the five nearest are the copies, whatever the labels."""
    pooled = torch.eye(4).repeat_interleave(6, 0)
    labels = torch.arange(4).repeat_interleave(6)
    assert same_class_shares(pooled, labels, 5).tolist() == [1.0] * 24
    mixed = labels.clone()
    mixed[0] = 3  # alone among its copies: all five of them are of another class, and it is one of five for each
    expected = [0.0, *[0.8] * 5, *[1.0] * 18]
    assert same_class_shares(pooled, mixed, 5).tolist() == pytest.approx(expected)
    assert same_class_neighbours(pooled, mixed, 5) == pytest.approx(np.mean(expected))


# ---- intervals ----------------------------------------------------------------------------------------------------


def test_the_jackknife_of_a_mean_is_students_interval():
    values = np.random.default_rng(0).normal(3, 2, 20)
    (found,) = grouped_jackknife(lambda there: [values[there].mean()], np.arange(20))
    half = student.ppf(0.975, 19) * values.std(ddof=1) / math.sqrt(20)
    assert found == pytest.approx((values.mean(), values.mean() - half, values.mean() + half))


def test_one_group_has_no_interval():
    assert grouped_jackknife(lambda there: [there.sum()], np.zeros(5))[0] == (5, None, None)


def test_the_bootstrap_covers_as_often_as_it_says():
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        found = bootstrap_mean(rng.normal(0, 1, 60), 500)
        inside += found.low <= 0 <= found.high
    assert 0.89 <= inside / 200 <= 0.99
    one = bootstrap_mean(np.arange(10.0))
    assert one == bootstrap_mean(np.arange(10.0))
    assert one.value == 4.5


def test_groups_take_as_many_of_every_class():
    groups = class_groups([0, 0, 1, 0, 1, 1, 0], 3)
    assert groups.tolist() == [0, 1, 0, 2, 1, 2, 0]


def test_all_numbers_of_a_set_of_latents():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(48) % 2
    latents = torch.randn(48, 3, 4, 4, generator=generator) + 3 * labels.view(-1, 1, 1, 1)
    found = measure_latents(LabelledLatents(latents, labels))
    assert list(found)[:3] == ["viv", "variance_within", "covariance_rank"]
    within = velocity_irreducible_variance(latents, labels)
    assert [found[name].value for name in list(found)[:3]] == pytest.approx([within.viv, within.variance, within.rank])
    assert all(number.low < number.value < number.high for name, number in found.items() if name != "same_class_5")
    values = picture_values(LabelledLatents(latents, labels))
    for name, each in values.items():
        assert found[name].value == pytest.approx(each.double().mean().item())
    plain = measure_latents(LabelledLatents(latents, labels), intervals=False)
    assert {name: number.value for name, number in plain.items()} == pytest.approx(
        {name: number.value for name, number in found.items()}
    )
    assert all(number.low is None for number in plain.values())


def test_classes_that_a_group_less_would_leave_too_small_are_left_out():
    """All of them, and there is no interval; one of them, and the others have one."""
    needed = fewest_pictures(3, 16)
    labels = torch.tensor([0] * needed + [1] * (needed + 1) + [4] * (needed + 2))
    latents = torch.randn(len(labels), 3, 4, 4, generator=torch.Generator().manual_seed(0))
    found = LabelledLatents(latents, labels)
    assert chosen_classes(found) == [1, 4]
    measured = measure_latents(found)["viv"]
    assert measured.value == pytest.approx(velocity_irreducible_variance(latents, labels, [1, 4]).viv)
    assert measured.low < measured.value
    labels = torch.arange(2 * needed) % 2
    latents = torch.randn(2 * needed, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    found = measure_latents(LabelledLatents(latents, labels))
    assert found["viv"].low is None
    assert found["energy_25"].low is not None
