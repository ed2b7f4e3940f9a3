"""The public interface of the autoencoder, on tiny real models."""

import warnings

import pytest
import torch
from conftest import build

from drorae import AutoencoderDRoRAE
from drorae.models.fusion import CrossAttentionFusion, DepthRoutedFusion, SoftmaxRoutedFusion


def test_encode_and_decode_shapes_and_routing(model, images):
    output = model.encode(images, return_routing=True)
    assert output.latent.shape == (2, 48, 4, 4)
    assert output.routing.weights.shape == (2, 16, 3)
    sample = model.decode(output.latent).sample
    assert sample.shape == images.shape
    assert model(images).sample.equal(sample)
    assert model.encode(images, return_dict=False)[0].equal(output.latent)
    assert model.decode(output.latent, return_dict=False)[0].equal(sample)
    assert model.encode(images).routing is None


def test_last_layer_latent_is_the_normalised_output_of_the_last_block(model, images):
    outputs = []
    handle = model.encoder.model.blocks[-1].register_forward_hook(lambda _m, _i, out: outputs.append(out))
    latent = model.encode(images, fusion=False).latent
    handle.remove()
    tokens = outputs[0][:, 5:].double()  # one class token and four registers go first
    tokens = (tokens - tokens.mean(-1, keepdim=True)) / (tokens.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    expected = tokens.reshape(2, 4, 4, 48).permute(0, 3, 1, 2)  # rows first
    torch.testing.assert_close(latent.double(), expected, atol=1e-5, rtol=0)


def test_encoder_gives_every_block_output_of_the_normalised_picture(model, images):
    outputs = []
    handles = [b.register_forward_hook(lambda _m, _i, out: outputs.append(out)) for b in model.encoder.model.blocks]
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.5, 0.6, 0.7]).view(3, 1, 1)
    model.encoder.model((images - mean) / std)
    expected = [out[:, 5:] for out in outputs]
    for handle in handles:
        handle.remove()
    layers = model.encoder(images)
    assert len(layers) == 3
    for layer, want in zip(layers, expected, strict=True):
        torch.testing.assert_close(layer, want)


def test_model_without_fusion_is_rae(model, images):
    rae = build(fusion=None)
    state = {k: v for k, v in model.state_dict().items() if not k.startswith(("fusion_module", "decoder_finetuned"))}
    rae.load_state_dict(state, strict=True)
    latent = rae.encode(images).latent
    assert latent.equal(model.encode(images, fusion=False).latent)
    assert rae.decode(latent).sample.equal(model.decode(latent, decoder="original").sample)


@pytest.mark.parametrize("fusion", ["depth-routed", "depth-routed-softmax", "cross-attention", "mean", None])
def test_saved_and_loaded_models_are_equal_to_the_bit(tmp_path, images, fusion):
    saved = build(fusion=fusion, fusion_mean_layers=2, finetuned_decoder=True)
    saved.save_pretrained(tmp_path)
    loaded = AutoencoderDRoRAE.from_pretrained(tmp_path)
    assert not loaded.training
    assert loaded.config.fusion == fusion
    assert loaded.encode(images).latent.equal(saved.encode(images).latent)
    assert loaded(images).sample.equal(saved(images).sample)
    assert not list(tmp_path.glob("*.bin"))


def test_the_configuration_reaches_the_fusion(images):
    assert type(build(fusion="depth-routed").fusion_module) is DepthRoutedFusion
    assert type(build(fusion="depth-routed-softmax").fusion_module) is SoftmaxRoutedFusion
    strong = build(fusion_beta=1.0)
    output = strong.encode(images, return_routing=True)
    torch.testing.assert_close(strong.latent_to_tokens(output.latent), output.routing.fused, atol=1e-5, rtol=0)
    assert build(fusion_hidden_size=None).fusion_module.experts.weight_in.shape == (3, 48, 192)
    assert build(fusion="mean").fusion_module.last == 3
    assert type(build(fusion="cross-attention").fusion_module) is CrossAttentionFusion
    assert build(fusion_layers=2).fusion_module.layers == [1, 2]
    changed = build()
    changed.set_fusion("depth-routed", hidden_size=8, layers=1)
    assert (changed.fusion_module.layers, changed.config.fusion_layers) == ([2], 1)
    with pytest.raises(ValueError, match="not 0"):
        build(fusion="mean", fusion_mean_layers=0)


def test_two_decoders_can_be_chosen(model, images):
    latent = model.encode(images).latent
    original, finetuned = (model.decode(latent, decoder=name).sample for name in ("original", "finetuned"))
    assert not original.equal(finetuned)
    assert model.decode(latent).sample.equal(finetuned)
    alone = build()
    assert alone.decode(latent).sample.equal(alone.decode(latent, decoder="original").sample)
    started = alone.add_finetuned_decoder()
    assert alone.decode(latent, decoder="finetuned").sample.equal(alone.decode(latent, decoder="original").sample)
    started.decoder_pred.bias.data += 1
    assert not alone.decode(latent, decoder="finetuned").sample.equal(alone.decode(latent, decoder="original").sample)


def test_gradients_reach_the_fusion_and_nothing_frozen(model, images):
    model.encode(images).latent.square().mean().backward()
    model.fusion_module.zero_grad()
    target = torch.rand(images.shape, generator=torch.Generator().manual_seed(3))
    (model.decode(model.encode(images).latent, decoder="original").sample - target).square().mean().backward()
    for name, parameter in model.named_parameters():
        if name.startswith("encoder."):
            assert parameter.grad is None, name
            assert not parameter.requires_grad, name
        elif name.startswith("fusion_module."):
            assert parameter.grad.abs().max() > 0, f"no gradient for {name}"


def test_pixels_leave_the_decoder_in_the_encoders_range(model):
    # a decoder that predicts zero predicts the encoder's mean colour
    torch.nn.init.zeros_(model.decoder.decoder_pred.weight)
    torch.nn.init.zeros_(model.decoder.decoder_pred.bias)
    sample = model.decode(torch.randn(1, 48, 4, 4), decoder="original").sample
    torch.testing.assert_close(sample, torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1).expand(1, 3, 32, 32))


def test_every_token_paints_its_own_place():
    """Changing one latent token changes its patch most when the decoder cannot mix tokens."""
    model = build(decoder_num_layers=0)
    latent = torch.randn(1, 48, 4, 4, generator=torch.Generator().manual_seed(0))
    changed = latent.clone()
    changed[:, :, 1, 2] += 3
    difference = (model.decode(changed).sample - model.decode(latent).sample).abs().sum(1)[0]
    assert difference[8:16, 16:24].min() > 0
    difference[8:16, 16:24] = 0
    assert difference.max() == 0


@pytest.mark.parametrize(
    ("shape", "message"),
    [((3, 32, 32), "not \\(3, 32, 32\\)"), ((1, 3, 32, 40), "square"), ((1, 4, 32, 32), "not \\(1, 4, 32, 32\\)")],
)
def test_wrong_shapes_are_refused(model, shape, message):
    with pytest.raises(ValueError, match=message):
        model.encode(torch.rand(shape))


def test_other_wrong_uses_are_refused(model, images):
    with pytest.raises(ValueError, match="divide by 255"):
        model.encode((images * 255).to(torch.uint8))
    with pytest.raises(ValueError, match="not 'phase3'"):
        model.decode(torch.randn(1, 48, 4, 4), decoder="phase3")
    with pytest.raises(ValueError, match="no finetuned decoder"):
        build().decode(torch.randn(1, 48, 4, 4), decoder="finetuned")
    with pytest.raises(ValueError, match="no routing without fusion"):
        model.encode(images, fusion=False, return_routing=True)
    with pytest.raises(ValueError, match="not 'attention'"):
        build(fusion="attention")


def cubic(x: torch.Tensor, size: int) -> torch.Tensor:
    """Cubic convolution (Keys, 1981) along the last axis with a = -0.75: half-pixel centres, borders repeated, no
    antialiasing."""
    a, count = -0.75, x.shape[-1]
    at = (torch.arange(size, dtype=torch.float64) + 0.5) * count / size - 0.5
    made = torch.zeros(*x.shape[:-1], size, dtype=torch.float64)
    for k in range(-1, 3):
        index = at.floor() + k
        d = (at - index).abs()
        near, far = ((a + 2) * d - (a + 3)) * d**2 + 1, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        made += torch.where(d <= 1, near, far) * x[..., index.clamp(0, count - 1).long()]
    return made


@pytest.mark.parametrize("side", [57, 20])
@torch.no_grad()
def test_pictures_of_another_size_are_resized_for_the_encoder(model, side):
    """As RAE does it: bicubic, not antialiased."""
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    resized = cubic(cubic(images.double(), 32).mT, 32).mT.float()
    for layer, want in zip(model.encoder(images), model.encoder(resized), strict=True):
        torch.testing.assert_close(layer, want, atol=1e-4, rtol=0)


def test_layers_are_left_out_of_every_fusion_and_refused_where_there_is_none(images):
    for fusion in ("depth-routed", "depth-routed-softmax", "mean"):
        model = build(fusion=fusion)
        layers, keep = model.encoder(images), torch.tensor([[False, False, True]] * 2)
        tokens = model.fuse(layers, keep=keep).tokens
        assert torch.equal(tokens, model.fusion_module(layers, keep=keep).tokens)
        assert not torch.equal(tokens, model.fuse(layers).tokens)
    assert torch.equal(tokens, model.fuse(layers, fusion=False).tokens)  # the mean of the last layer alone
    with pytest.raises(ValueError, match="no choice of layers without fusion"):
        build(fusion=None).fuse(layers, keep=keep)


@torch.no_grad()
def test_slicing_gives_the_same_picture_by_picture(model, images):
    whole = model.encode(images, return_routing=True)
    sample = model.decode(whole.latent).sample
    seen = []
    parts = (model.encoder.model.patch_embed, model.decoder_finetuned)
    handles = [part.register_forward_pre_hook(lambda _m, inputs: seen.append(len(inputs[0]))) for part in parts]
    model.enable_slicing()
    sliced = model.encode(images, return_routing=True)
    torch.testing.assert_close(sliced.latent, whole.latent, atol=1e-5, rtol=1e-5)
    for one, other in zip(sliced.routing, whole.routing, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.decode(whole.latent).sample, sample, atol=1e-5, rtol=1e-5)
    assert model.encode(images).routing is None
    assert set(seen) == {1}
    model.disable_slicing()
    assert torch.equal(model(images).sample, sample)
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda x: 2 * x - 1, "not -1 to 1; pass x / 2 + 0.5 of images in [-1, 1]"),
        (lambda x: 255 * x, "not 0 to 255; pass x / 255"),
        (lambda x: x + 0.1, "not 0.1 to 1.1; pass"),
    ],
)
def test_images_outside_the_unit_range_are_warned_of_once(model, images, change, sentence):
    images[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.encode(images)
        model.encode(images * 1.004 - 0.002)  # what half precision and resampling may add
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        latent = model.encode(change(images)).latent
        model(change(images))
    assert [(str(each.message).count(sentence), each.filename) for each in caught] == [(1, __file__)]
    assert latent.shape == (2, 48, 4, 4)
