"""gFID against reference statistics in ADM's layout: distances with a closed form, and files that are no such thing."""

import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from train import evaluate
from train.errors import DataError
from train.measure import inception
from train.measure.frechet import FrechetDistance
from train.measure.reference_statistics import read_reference

# red and green of four plain pictures: independent, with known means and variances
RED, GREEN = (40, 80, 40, 80), (100, 100, 160, 160)


class TwoColours(nn.Module):
    """Mean red and green in the place of Inception's 2,048 features; it takes bytes, as Inception does."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.dtype == torch.uint8
        return images[:, :2].double().mean((2, 3))


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(inception, "load_inception", lambda folder=None: TwoColours())
    monkeypatch.setattr(inception, "NUM_FEATURES", 2)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "samples"
    folder.mkdir()
    for number, (red, green) in enumerate(zip(RED, GREEN, strict=True)):
        Image.new("RGB", (16, 16), (red, green, 7)).save(folder / f"{number:06d}.png")
    return folder


def variance(values) -> float:
    return float(np.var(values, ddof=1))


def gfid(pictures, file, tmp_path) -> float:
    evaluate.main(["--generated", str(pictures), "--reference", str(file), "--json", str(tmp_path / "r.json")])
    report = json.loads((tmp_path / "r.json").read_text())
    return report["sets"][str(pictures)]["gfid"]


def test_moments_of_other_colours_have_the_distance_of_two_gaussians(pictures, tmp_path, capsys):
    """|difference of means|^2 + sum (difference of standard deviations)^2, for covariances that are diagonal."""
    file = tmp_path / "VIRTUAL_imagenet256_labeled.npz"
    other = np.zeros((3, 8, 8, 3), np.uint8)  # pictures beside moments are left alone
    np.savez(
        file,
        mu=np.array([63.0, 126.0]),
        sigma=np.diag([100.0, 2500.0]),
        mu_s=np.zeros(5),
        sigma_s=np.eye(5),
        arr_0=other,
    )
    expected = (60 - 63) ** 2 + (130 - 126) ** 2
    expected += (variance(RED) ** 0.5 - 10) ** 2 + (variance(GREEN) ** 0.5 - 50) ** 2
    assert gfid(pictures, file, tmp_path) == pytest.approx(expected, rel=1e-9)
    printed = capsys.readouterr().out
    assert f"| `{pictures}` | 4 | {expected:.2f} |" in printed
    assert "Reference: VIRTUAL_imagenet256_labeled.npz, mean and covariance." in printed


def test_covariances_that_do_not_commute(pictures, tmp_path):
    """trace (S_1 S_2)^(1/2) by the formula for 2 x 2 matrices: its square is trace + 2 sqrt(det)."""
    sigma = np.array([[900.0, 400.0], [400.0, 700.0]])
    np.savez(tmp_path / "r.npz", mu=np.array([60.0, 130.0]), sigma=sigma)
    own = np.diag([variance(RED), variance(GREEN)])
    product = own @ sigma
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    assert gfid(pictures, tmp_path / "r.npz", tmp_path) == pytest.approx(np.trace(own + sigma) - 2 * root, rel=1e-6)


def test_the_moments_of_the_pictures_themselves_are_at_distance_zero(pictures, tmp_path):
    moments = {"mu": np.array([60.0, 130.0]), "sigma": np.diag([variance(RED), variance(GREEN)])}
    np.savez(tmp_path / "same.npz", **{name: value.astype(np.float32) for name, value in moments.items()})
    assert gfid(pictures, tmp_path / "same.npz", tmp_path) == pytest.approx(0, abs=1e-3)


def test_a_file_of_pictures_alone_is_looked_at(pictures, tmp_path):
    """The same pictures, 5 brighter in red and 12 in green: the squared shift."""
    array = np.zeros((4, 16, 16, 3), np.uint8)
    for number in range(4):
        array[number] = (RED[number] + 5, GREEN[number] + 12, 200)
    np.savez(tmp_path / "pictures.npz", arr_0=array)
    assert gfid(pictures, tmp_path / "pictures.npz", tmp_path) == pytest.approx(25 + 144, rel=1e-6)


def test_given_moments_are_those_that_are_computed():
    generator = torch.Generator().manual_seed(0)
    real, other = (torch.randn(50, 4, generator=generator) * (k + 1) + 100 * k for k in range(2))
    first, again = FrechetDistance(4), FrechetDistance(4)
    first.update(real, other)
    mean, covariance = first.reference_moments()
    torch.testing.assert_close(mean, real.double().mean(0))
    torch.testing.assert_close(covariance, real.double().T.cov())
    again.set_reference(mean, covariance)
    again.add(other, real=False)
    assert again.count == 50
    assert again.compute() == pytest.approx(first.compute(), rel=1e-9)


# ---- other files --------------------------------------------------------------------------------------------------


class Planted:
    """Writes a file when it is unpickled."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return (open, (str(self.place), "w"))


def refused(file, match):
    with pytest.raises(DataError, match=match) as caught:
        read_reference(file, 2)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_is_unpickled(tmp_path):
    planted = tmp_path / "planted"
    np.savez(tmp_path / "object.npz", mu=np.array([Planted(planted)], dtype=object), sigma=np.eye(2))
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps(Planted(planted)))
    np.save(tmp_path / "object.npy", np.array([Planted(planted)], dtype=object), allow_pickle=True)
    for name in ("object.npz", "pickle.npz", "object.npy"):
        refused(tmp_path / name, "it is not an npz file that can be read")
    assert not planted.exists()


def test_files_that_are_something_else_are_one_sentence(tmp_path):
    refused(tmp_path / "none.npz", "it is not an npz file that can be read")
    (tmp_path / "text.npz").write_text("mu")
    refused(tmp_path / "text.npz", "it is not an npz file that can be read")
    np.save(tmp_path / "array.npy", np.eye(2))
    refused(tmp_path / "array.npy", "it is one array")
    np.savez(tmp_path / "cut.npz", mu=np.zeros(2), sigma=np.eye(2))
    whole = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "cut.npz", "it is not an npz file that can be read")
    (tmp_path / "flipped.npz").write_bytes(whole.replace(np.eye(2).tobytes(), np.ones((2, 2)).tobytes()))
    refused(tmp_path / "flipped.npz", "it is not an npz file that can be read")


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"mu": np.zeros(2)}, r"it has mu, and neither 'mu' with 'sigma' nor pictures 'arr_0'"),
        ({"mu_s": np.zeros(2), "sigma_s": np.eye(2)}, r"it has mu_s, sigma_s, and neither"),
        ({}, "it has nothing, and neither"),
        ({"mu": np.zeros(3), "sigma": np.eye(3)}, r"'mu' is \[3\] and 'sigma' \[3, 3\], where .* \[2\] and \[2, 2\]"),
        ({"mu": np.zeros((1, 2)), "sigma": np.eye(2)}, r"'mu' is \[1, 2\]"),
        ({"mu": np.zeros(2), "sigma": np.ones(2)}, r"'sigma' \[2\]"),
        ({"mu": np.array([0, np.nan]), "sigma": np.eye(2)}, "not all of 'mu' and 'sigma' are finite"),
        ({"mu": np.zeros(2), "sigma": np.diag([1, np.inf])}, "not all of 'mu' and 'sigma' are finite"),
        ({"mu": np.zeros(2), "sigma": np.array([[1.0, 2], [0, 1]])}, "'sigma' is not a covariance"),
        ({"mu": np.zeros(2), "sigma": np.diag([1.0, -1])}, "'sigma' is not a covariance"),
        ({"mu": np.array(["a", "b"]), "sigma": np.eye(2)}, "not all of 'mu' and 'sigma' are finite"),
        ({"arr_0": np.zeros((4, 3, 8, 8), np.uint8)}, r"'arr_0' is \[4, 3, 8, 8\] of uint8"),
        ({"arr_0": np.zeros((4, 8, 8, 3), np.float32)}, r"'arr_0' is \[4, 8, 8, 3\] of float32"),
        ({"arr_0": np.zeros((0, 8, 8, 3), np.uint8)}, r"'arr_0' is \[0, 8, 8, 3\]"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_other_layouts_are_one_sentence(tmp_path, arrays, match):
    np.savez(tmp_path / "r.npz", **arrays)
    refused(tmp_path / "r.npz", match)


def test_what_does_not_go_together_is_refused(pictures, tmp_path):
    np.savez(tmp_path / "r.npz", mu=np.zeros(2), sigma=np.eye(2))
    with pytest.raises(DataError, match="give --generated, too"):
        evaluate.main(["--reference", str(tmp_path / "r.npz")])
    for option in ("--copies", "--inception"):
        with pytest.raises(DataError, match=r"look at the photos of --data"):
            evaluate.main(["--generated", str(pictures), "--reference", str(tmp_path / "r.npz"), option])


def test_too_few_pictures_are_refused(pictures, tmp_path):
    np.savez(tmp_path / "r.npz", mu=np.zeros(2), sigma=np.eye(2))
    for number in (2, 3):
        (pictures / f"{number:06d}.png").unlink()
    with pytest.raises(DataError, match="needs more than 2 pictures, and there are 2"):
        gfid(pictures, tmp_path / "r.npz", tmp_path)
    np.savez(tmp_path / "few.npz", arr_0=np.zeros((2, 8, 8, 3), np.uint8))
    Image.new("RGB", (16, 16)).save(pictures / "000002.png")
    with pytest.raises(DataError, match="needs more than 2 pictures, and there are 2"):
        gfid(pictures, tmp_path / "few.npz", tmp_path)


# ---- the network --------------------------------------------------------------------------------------------------


def test_all_bytes_survive_being_images():
    values = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(inception.to_bytes(values.float() / 255), values)
    assert inception.to_bytes(torch.tensor([-0.5, 1.5, 0.4999 / 255, 0.5001 / 255])).tolist() == [0, 255, 0, 1]
