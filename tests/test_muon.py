"""Muon in fp32 against torch's, which rounds to bf16, and against the singular value decomposition."""

import pytest
import torch

from train.engine.muon import Muon, orthogonalise

COEFFICIENTS = (3.4445, -4.775, 2.0315)


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_steps_are_those_of_torch(shape):
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.ones(shape)) for _ in range(2))
    optimizer = Muon([ours], lr=1e-2, weight_decay=0.1)
    reference = torch.optim.Muon([theirs], lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        gradient = torch.randn(shape)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        optimizer.step()
        reference.step()
        torch.testing.assert_close(
            ours.detach(), theirs.detach(), rtol=0, atol=1e-3
        )  # a step is about 1e-2; both round to bf16, in their own order
    assert (ours.detach() - 1).abs().max() > 5e-3  # far more than the tolerance
    reference.load_state_dict(optimizer.state_dict())  # a run goes on with either


def test_singular_vectors_stay_and_values_come_near_one():
    torch.manual_seed(0)
    matrix = torch.randn(8, 12, dtype=torch.float64)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    core = u.T @ orthogonalise(matrix, COEFFICIENTS, 5, 1e-7) @ v.T
    off = core - torch.diag(core.diagonal())
    assert off.abs().max() < 1e-9
    assert core.diagonal().min() > 0.6
    assert core.diagonal().max() < 1.3


def test_a_parameter_without_gradient_stays():
    parameter = torch.nn.Parameter(torch.ones(2, 3))
    Muon([parameter], lr=1.0, weight_decay=1.0).step()
    assert torch.equal(parameter.detach(), torch.ones(2, 3))
