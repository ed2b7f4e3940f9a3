"""Guidance on networks whose velocity is known: the formula, its interval, and how many calls it takes."""

import pytest
import torch
from torch import nn

from drorae.pipelines.guidance import AutoGuidance, ClassifierFreeGuidance, Unguided


class Known(nn.Module):
    """v = factor * x * label + t, and a count of calls and samples."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))
        self.batches: list[int] = []

    def forward(self, hidden_states, timestep, class_labels, return_dict):
        self.batches.append(len(hidden_states))
        return (self.factor * hidden_states * class_labels[:, None, None, None] + timestep[:, None, None, None],)


X = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
LABELS, NULL = {"class_labels": torch.tensor([2, 3])}, {"class_labels": torch.tensor([9, 9])}


def at(t: float) -> torch.Tensor:
    return torch.full((2,), t)


def velocity(factor, labels, t):
    return factor * X * labels[:, None, None, None] + t


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("scale", [0.0, 1.5, 4.0])
def test_classifier_free_guidance_is_linear_in_its_scale(scale, batched):
    network = Known(0.7)
    guided = ClassifierFreeGuidance(network, LABELS, NULL, scale, batched=batched)(X, at(0.4))
    strong, weak = (velocity(0.7, which["class_labels"], 0.4) for which in (LABELS, NULL))
    torch.testing.assert_close(guided, weak + scale * (strong - weak))
    assert network.batches == ([4] if batched else [2, 2])


@pytest.mark.parametrize("scale", [0.0, 1.42, 3.0])
def test_autoguidance_asks_both_networks_for_the_same_class(scale):
    strong, weak = Known(0.7), Known(0.2)
    guided = AutoGuidance(strong, weak, LABELS, scale)(X, at(0.4))
    a, b = velocity(0.7, LABELS["class_labels"], 0.4), velocity(0.2, LABELS["class_labels"], 0.4)
    torch.testing.assert_close(guided, b + scale * (a - b))
    assert strong.batches == weak.batches == [2]  # no wasted halves


def both(scale, interval=(0.0, 1.0)):
    strong, weak = Known(0.7), Known(0.2)
    yield ClassifierFreeGuidance(strong, LABELS, NULL, scale, interval), strong, weak
    strong, weak = Known(0.7), Known(0.2)
    yield AutoGuidance(strong, weak, LABELS, scale, interval), strong, weak


def test_scale_one_is_exactly_unguided_at_the_price_of_one_call():
    expected = Unguided(Known(0.7), LABELS)(X, at(0.4))
    for guided, strong, weak in both(1.0):
        assert torch.equal(guided(X, at(0.4)), expected)
        assert strong.batches == [2]
        assert weak.batches == []


@pytest.mark.parametrize(("t", "inside"), [(0.1, False), (0.3, True), (0.5, True), (0.7, True), (0.9, False)])
def test_interval_in_flow_time(t, inside):
    expected = Unguided(Known(0.7), LABELS)(X, at(t))
    for guided, _, _ in both(2.0, (0.3, 0.7)):
        assert torch.equal(guided(X, at(t)), expected) != inside
