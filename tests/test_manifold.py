"""Precision, recall and nearest neighbours against sets whose answer is known."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from train.errors import DataError
from train.measure.manifold import nearest_distances, precision_recall


def line(*places: float) -> torch.Tensor:
    return torch.tensor(places).unsqueeze(1)


def test_points_on_a_line():
    real, generated = line(0, 1, 2, 10, 11, 12), line(0.5, 1.5, 5, 6, 7, 8)
    # with the nearest neighbour real points reach 1 far, generated ones 1, but for 1.5 and 5, which reach 1 as well
    assert precision_recall(real, generated, 1) == pytest.approx((2 / 6, 3 / 6))
    # with two neighbours: real ones 2, 1, 2 | 2, 1, 2; so 8 is reached from 10
    assert precision_recall(real, generated, 2).precision == pytest.approx(3 / 6)


def test_a_set_is_like_itself_and_unlike_one_far_away():
    real = torch.randn(600, 8, generator=torch.Generator().manual_seed(0))  # more rows than are compared at a time
    assert precision_recall(real, real.clone()) == (1.0, 1.0)
    assert precision_recall(real, real + 100) == (0.0, 0.0)


def test_one_mode_of_two_is_precise_and_recalls_half():
    generator = torch.Generator().manual_seed(1)
    left, right = torch.randn(400, 4, generator=generator), torch.randn(400, 4, generator=generator) + 50
    precision, recall = precision_recall(torch.cat([left, right]), torch.randn(800, 4, generator=generator))
    assert precision > 0.8
    assert recall == pytest.approx(0.5, abs=0.07)


def test_distances_are_those_of_a_tree():
    generator = torch.Generator().manual_seed(2)
    points, of = torch.randn(300, 6, generator=generator), torch.randn(500, 6, generator=generator)
    expected, _ = cKDTree(of.numpy()).query(points.numpy())
    np.testing.assert_allclose(nearest_distances(points, of), expected, rtol=1e-6)


def test_too_few_points_are_one_sentence():
    with pytest.raises(DataError, match="too few real pictures for the 3 nearest of each: 3"):
        precision_recall(line(0, 1, 2), line(0, 1, 2, 3))
