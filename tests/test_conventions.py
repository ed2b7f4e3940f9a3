"""Conventions stated in ``drorae/__init__.py``."""

import torch

from drorae import AutoencoderDRoRAE


def test_tokens_are_row_major(model):
    tokens = torch.arange(16.0).view(1, 16, 1).expand(1, 16, 48)
    latent = model.tokens_to_latent(tokens)
    assert latent.shape == (1, 48, 4, 4)
    assert latent[0, 0, 1].tolist() == [4, 5, 6, 7]
    assert model.latent_to_tokens(latent).equal(tokens)


def test_layers_are_blocks_and_not_the_patch_embedding(model, images):
    assert len(model.encoder(images)) == len(model.encoder.model.blocks) == 3


def test_defaults_are_the_papers_model():
    with torch.device("meta"):
        model = AutoencoderDRoRAE()
    assert (model.encoder.num_layers, model.encoder.dim, model.grid_size, model.image_size) == (12, 768, 16, 256)
    assert model.fusion_module.beta == 0.2
    count = lambda module: sum(p.numel() for p in module.parameters()) / 1e6  # noqa: E731
    assert 56.8 < count(model.fusion_module) < 56.9
    assert 85 < count(model.encoder) < 87
    assert 414 < count(model.decoder) < 416  # RAE's ViT-XL decoder
