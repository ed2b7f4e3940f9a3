"""Gradient checkpointing: the same gradients, and less kept for the backward pass."""

import pytest
import torch
from conftest import build, network
from torch.autograd.graph import saved_tensors_hooks


def backward(run, parameters) -> tuple[list[torch.Tensor], int]:
    """Gradients of a scalar, and the bytes that autograd kept between the two passes."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        value = run()
        total = sum(kept.values())
    return torch.autograd.grad(value, parameters), total


@pytest.mark.parametrize("part", ["fusion_module", "decoder", "denoiser"])
def test_checkpointing_changes_memory_and_nothing_else(part, images):
    if part == "denoiser":
        model = network(0, depth=(4, 2))
        latents, t, labels = torch.randn(8, 48, 4, 4), torch.rand(8), torch.arange(8) % 3

        def run():
            return model(latents, t, labels).sample.square().mean()

        parameters = list(model.parameters())
    else:
        model = build(decoder_num_layers=4, fusion_hidden_size=256).requires_grad_(False)
        parameters = list(getattr(model, part).requires_grad_(True).parameters())

        def run():
            return (model(images).sample - images).square().mean()

    plain, before = backward(run, parameters)
    model.enable_gradient_checkpointing()
    again, after = backward(run, parameters)
    for a, b in zip(plain, again, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
    assert after < 0.75 * before
    model.disable_gradient_checkpointing()
    assert backward(run, parameters)[1] == before
