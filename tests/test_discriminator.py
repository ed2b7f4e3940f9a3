"""The adversary: layout, losses, augmentation, and the adaptive weight."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from drorae import AutoencoderDRoRAE
from train.data.batches import Batch
from train.data.draws import uniform_draws
from train.engine.dry_run import build_on_meta
from train.presets import PRESETS
from train.tasks.discriminator import Discriminator, FrozenFeatures, LocalNorm, augment, generator_loss, hinge_loss
from train.tasks.reconstruction import Reconstruction

SMOKE = PRESETS["smoke"].stage1["decoder"]


@pytest.fixture
def discriminator() -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(SMOKE.adversary, None)


def test_the_published_size():
    """Heads on DINO ViT-S/8: 7.39M trainable parameters, five logits per token."""
    task = build_on_meta(PRESETS["dinov2-b"], PRESETS["dinov2-b"].stage1["decoder"])
    assert sum(p.numel() for p in task.adversary.parameters()) == pytest.approx(7.39e6, rel=2e-3)
    (logits,) = task.adversary(torch.rand(2, 3, 256, 256, device="meta"))
    assert logits.shape == (2, 5 * 28 * 28)


def test_only_the_heads_train_and_are_saved(discriminator):
    names = [name for name, _ in discriminator.named_parameters()]
    assert names
    assert all(name.startswith("heads.") for name in names)
    assert all(key.startswith("heads.") for key in discriminator.state_dict())
    assert not any(p.requires_grad for p in discriminator.frozen.parameters())
    discriminator.double()
    assert next(discriminator.frozen.parameters()).dtype == torch.float64  # moves and converts with the heads


def test_features_are_the_blocks_of_the_frozen_network(discriminator):
    """Against timm's blocks, run by hand; the deepest is there twice."""
    images = torch.rand(2, 3, 32, 32)
    model = discriminator.frozen.model
    x = model._pos_embed(model.patch_embed((images - 0.5) / 0.5))
    expected = []
    for i, block in enumerate(model.blocks):
        x = block(x)
        if i in SMOKE.adversary.taps:
            expected.append(x[:, 1:].transpose(1, 2))
    features = discriminator.frozen(images)
    assert len(features) == 5
    for a, b in zip(features, [*expected, expected[-1]], strict=True):
        torch.testing.assert_close(a, b)


def test_gradients_reach_the_picture_but_not_the_frozen_network(discriminator):
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    generator_loss(discriminator(images)[0]).backward()
    assert images.grad.abs().sum() > 0
    assert all(p.grad is None for p in discriminator.frozen.parameters())


def test_pictures_of_another_size_are_resized(discriminator):
    assert isinstance(discriminator.frozen, FrozenFeatures)
    assert discriminator(torch.rand(1, 3, 48, 48))[0].shape == discriminator(torch.rand(1, 3, 32, 32))[0].shape


def test_the_norm_is_batch_norm_of_each_picture_alone(discriminator):
    x = torch.randn(6, 5, 7)
    expected = torch.cat([F.batch_norm(picture, None, None, training=True, eps=1e-6) for picture in x.split(1)])
    torch.testing.assert_close(LocalNorm(5)(x), expected)
    images = torch.rand(4, 3, 32, 32)
    discriminator.eval()
    torch.testing.assert_close(discriminator(images[:1])[0], discriminator(images)[0][:1], atol=1e-5, rtol=0)


def test_losses_in_closed_form():
    real, fake = torch.tensor([[2.0, 0.5]]), torch.tensor([[-3.0, 1.0]])
    assert hinge_loss(real, fake).item() == pytest.approx(0.5 * ((0 + 0.5) / 2 + (0 + 2) / 2))
    assert generator_loss(fake).item() == 1.0


def test_augmentation_moves_by_an_eighth_at_most_and_shifts_colours():
    images = torch.rand(3, 3, 16, 16)

    def one(y=0.5, x=0.5, brightness=0.5, saturation=0.5, contrast=0.5):
        return augment(images, torch.tensor([y, x, brightness, saturation, contrast]).expand(3, 5))

    torch.testing.assert_close(one(), images)  # shift (2 * 2 + 1) * 0.5 - 2 = 0
    moved = one(y=0.0, x=0.999)  # dy = -2, dx = +2
    torch.testing.assert_close(moved[:, :, 2:, :-2], images[:, :, :-2, 2:])
    torch.testing.assert_close(moved[:, :, :2], torch.full((3, 3, 2, 16), 0.5))
    torch.testing.assert_close(moved[:, :, :, -2:], torch.full((3, 3, 16, 2), 0.5))
    torch.testing.assert_close(one(brightness=1.0), images + 0.25)  # a quarter of the range
    torch.testing.assert_close(one(saturation=0.0), images.mean(1, keepdim=True).expand_as(images))
    mean = images.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(one(contrast=0.0), (images - mean) / 2 + mean)
    assert augment(images.bfloat16(), torch.rand(3, 5)).dtype == torch.float32


@pytest.mark.parametrize("phase", ["decoder", "fusion", "finetune"])
def test_the_adaptive_weight_is_the_ratio_of_gradients_at_the_last_layer(phase):
    """Also while the decoder is frozen. The reference differentiates both losses to the weight separately."""
    row = dataclasses.replace(PRESETS["smoke"].stage1[phase], noise_tau=0.0)
    torch.manual_seed(0)
    model = AutoencoderDRoRAE(**PRESETS["smoke"].model, finetuned_decoder=phase == "finetune")
    task = Reconstruction(model, row, None, None)
    batch = Batch(torch.rand(4, 3, 32, 32), torch.arange(4), [])
    step = row.adversary.generator_start
    task.adversary.eval()  # spectral norms stand still, so that both computations see the same network
    loss, parts = task.loss(batch, step)
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in task.trainable.named_parameters() if p.grad is not None}

    output, _, _ = task.reconstruct(batch.images, batch.positions)
    rec = (output - batch.images).abs().mean()
    draws = uniform_draws(0, batch.positions, 5, "generator")
    generator = -task.adversary(augment(task._crop(batch.positions, 32)(output), draws))[0].mean()
    weight = task.last_layer.weight
    norms = [torch.autograd.grad(part, weight, retain_graph=True)[0].norm() for part in (rec, generator)]
    adaptive = (norms[0] / (norms[1] + 1e-6)).item()
    assert parts["adaptive"].item() == pytest.approx(adaptive, rel=1e-4)
    task.zero_grad()
    (rec + row.adversary.weight * adaptive * generator).backward()
    for name, parameter in task.trainable.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-6)
    assert gradients


def test_the_frozen_decoder_is_in_no_optimiser():
    model = AutoencoderDRoRAE(**PRESETS["smoke"].model)
    task = Reconstruction(model, PRESETS["smoke"].stage1["fusion"], None, None)
    assert task.last_layer.weight.requires_grad
    assert all(p is not task.last_layer.weight for p in task.trainable.parameters())
