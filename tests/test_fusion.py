"""The fusion against an independent float64 computation of the paper's equations 2 to 5."""

import pytest
import torch
from torch import nn

from drorae.models.fusion import (
    CrossAttentionFusion,
    DepthRoutedFusion,
    MeanFusion,
    SoftmaxRoutedFusion,
    SomeLayersFusion,
    build_fusion,
    energy_shares,
)

LAYERS, DIM, HIDDEN, BETA = 4, 24, 40, 0.2


def build(fusion_class: type[DepthRoutedFusion]) -> DepthRoutedFusion:
    torch.manual_seed(0)
    fusion = fusion_class(LAYERS, DIM, HIDDEN, BETA)
    for parameter in fusion.parameters():  # biases and norms must not stay at values that hide a mistake
        parameter.data += 0.1 * torch.randn_like(parameter)
    fusion.router.bias.data = torch.tensor([1.0, -0.7, 0.4, -0.2])  # signs differ, so cancellation is tested
    return fusion


@pytest.fixture
def fusion() -> DepthRoutedFusion:
    return build(DepthRoutedFusion)


@pytest.fixture
def layers() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    # scales and offsets differ between layers, as in a real encoder
    return [torch.randn(2, 9, DIM, generator=generator) * (k + 1) ** 2 + k for k in range(LAYERS)]


def norm64(x: torch.Tensor) -> torch.Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-6)


def expert64(fusion: DepthRoutedFusion, k: int) -> nn.Sequential:
    """Expert k as the paper draws it: Linear -> LayerNorm -> GELU -> Linear, with the same numbers, in float64."""
    e = fusion.experts
    mlp = nn.Sequential(nn.Linear(DIM, HIDDEN), nn.LayerNorm(HIDDEN, eps=1e-6), nn.GELU(), nn.Linear(HIDDEN, DIM))
    mlp = mlp.double()
    first, norm, last = (e.weight_in, e.bias_in), (e.norm_weight, e.norm_bias), (e.weight_out, e.bias_out)
    values = (first[0][k].T, first[1][k, 0], norm[0][k, 0], norm[1][k, 0], last[0][k].T, last[1][k, 0])
    for parameter, value in zip(mlp.parameters(), values, strict=True):
        parameter.data.copy_(value)
    return mlp


def reference(
    fusion: DepthRoutedFusion, layers: list[torch.Tensor], beta: float = BETA, keep: torch.Tensor | None = None
) -> dict[str, torch.Tensor]:
    """Layer by layer; the layers that are not kept have no weight."""
    z = [norm64(layer.double()) for layer in layers]
    h = [norm64(expert64(fusion, k)(z[k])) for k in range(LAYERS)]
    w = torch.cat(z, -1) @ fusion.router.weight.double().T + fusion.router.bias.double()
    kept = torch.ones_like(w) if keep is None else keep.double()
    if isinstance(fusion, SoftmaxRoutedFusion):
        w = kept * torch.exp(w) / (kept * torch.exp(w)).sum(-1, keepdim=True)
        total = sum(w[..., k, None] * h[k] for k in range(LAYERS))
    else:
        w = kept * w
        total = sum(w[..., k, None] * h[k] for k in range(LAYERS)) / torch.sqrt((w**2).sum(-1, keepdim=True) + 1e-6)
    fused = norm64(total)
    return {"w": w, "base": z[-1], "fused": fused, "final": norm64(z[-1] + beta * (fused - z[-1]))}


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 2e-5) -> None:
    torch.testing.assert_close(a.double(), b.double(), atol=tolerance, rtol=0)


@pytest.mark.parametrize("kept", [None, (2, LAYERS), (2, 9, LAYERS)], ids=["all", "by picture", "by token"])
@pytest.mark.parametrize("fusion_class", [DepthRoutedFusion, SoftmaxRoutedFusion])
def test_equals_the_equations_in_float64(layers, fusion_class, kept):
    fusion = build(fusion_class)
    keep = None if kept is None else torch.rand(kept, generator=torch.Generator().manual_seed(3)) > 0.4
    if keep is not None:
        keep[..., 1] = True
    output = fusion(layers, return_routing=True, keep=keep)
    expected = reference(fusion, layers, keep=keep if keep is None or keep.ndim == 3 else keep[:, None])
    close(output.tokens, expected["final"])
    close(output.routing.weights, expected["w"])
    w = expected["w"]
    softmax = fusion_class is SoftmaxRoutedFusion
    close(output.routing.shares, w if softmax else w / torch.sqrt((w**2).sum(-1, keepdim=True) + 1e-6))
    close(output.routing.base, expected["base"])
    close(output.routing.fused, expected["fused"])


def test_signed_weights_are_really_signed(fusion, layers):
    weights = fusion(layers, return_routing=True).routing.weights
    assert (weights > 0).any()
    assert (weights < 0).any()


def test_batched_experts_equal_a_loop_over_sequential(fusion, layers):
    normed = torch.stack([norm64(layer.double()) for layer in layers]).flatten(1, 2)
    looped = torch.stack([norm64(expert64(fusion, k)(normed[k])) for k in range(LAYERS)])
    close(fusion.experts(normed.float()), looped)


def test_beta_zero_gives_the_base_latent_and_one_the_fused(fusion, layers):
    fusion.beta = 0.0
    output = fusion(layers, return_routing=True)
    close(output.tokens, reference(fusion, layers)["base"])
    fusion.beta = 1.0
    close(fusion(layers).tokens, output.routing.fused)


def scaled(fusion, layers, token: int, factor: float) -> torch.Tensor:
    """Output when the router's weights of one token are multiplied by a factor."""

    def multiply(_module, _inputs, weights):
        weights[:, token] *= factor
        return weights

    handle = fusion.router.register_forward_hook(multiply)
    try:
        return fusion(layers).tokens
    finally:
        handle.remove()


@torch.no_grad()
def test_only_the_proportions_and_signs_of_a_tokens_weights_matter(fusion, layers):
    before = fusion(layers).tokens
    louder = scaled(fusion, layers, token=4, factor=7.0)
    close(louder, before, 1e-5)
    flipped = scaled(fusion, layers, token=4, factor=-1.0)
    assert (flipped[:, 4] - before[:, 4]).abs().max() > 0.05
    others = [i for i in range(9) if i != 4]
    assert torch.equal(flipped[:, others], before[:, others])


def test_squared_norm_of_every_token_is_the_number_of_channels(fusion, layers):
    squared = fusion(layers).tokens.double().square().sum(-1)
    torch.testing.assert_close(squared, torch.full_like(squared, DIM), rtol=1e-4, atol=0)


def test_gradient_reaches_the_router_and_every_expert(fusion, layers):
    target = torch.randn(2, 9, DIM, generator=torch.Generator().manual_seed(2))
    (fusion(layers).tokens * target).sum().backward()
    names = {name for name, _ in fusion.named_parameters()}
    assert names == {"router.weight", "router.bias"} | {
        f"experts.{part}" for part in ("weight_in", "bias_in", "norm_weight", "norm_bias", "weight_out", "bias_out")
    }
    for name, parameter in fusion.named_parameters():
        parts = parameter.grad if name.startswith("experts") else parameter.grad[None]
        for k, part in enumerate(parts):
            assert part.abs().max() > 1e-7, f"no gradient for {name}, layer {k + 1}"


def test_default_width_has_the_papers_parameters_for_dinov2_b():
    with torch.device("meta"):
        fusion = DepthRoutedFusion(num_layers=12, dim=768)
    count = sum(parameter.numel() for parameter in fusion.parameters())
    hidden = 3072
    # paper appendix C, plus weight and bias of the hidden LayerNorm, which it leaves out
    formula = 12 * (768 * hidden + hidden + hidden * 768 + 768) + 768 * 12**2 + 12
    assert count == formula + 12 * 2 * hidden
    assert round(formula / 1e6, 1) == 56.8


def test_energy_shares_have_unit_energy_and_no_division_by_zero():
    shares = energy_shares(torch.tensor([[3.0, -4.0], [0.0, 0.0]]))
    torch.testing.assert_close(shares, torch.tensor([[0.6, -0.8], [0.0, 0.0]]))


def test_softmax_weights_are_shares_of_one(layers):
    routing = build(SoftmaxRoutedFusion)(layers, return_routing=True).routing
    assert (routing.weights > 0).all()
    close(routing.weights.sum(-1), torch.ones(2, 9))
    assert torch.equal(routing.weights, routing.shares)


@pytest.mark.parametrize("last", [1, 2, LAYERS])
def test_mean_fusion_is_the_mean_of_the_last_layers(layers, last):
    output = MeanFusion(LAYERS, last)(layers, return_routing=True)
    close(output.tokens, sum(norm64(layer.double()) for layer in layers[-last:]) / last)
    assert output.routing.weights[0, 0].tolist() == pytest.approx([0.0] * (LAYERS - last) + [1 / last] * last)


def test_mean_fusion_takes_the_mean_of_the_layers_that_stay(layers):
    fusion, keep = MeanFusion(LAYERS, 2), torch.ones(2, 9, LAYERS, dtype=torch.bool)
    keep[0, :4, -1] = False
    output = fusion(layers, return_routing=True, keep=keep)
    last, before = norm64(layers[-1].double()), norm64(layers[-2].double())
    expected = (last + before) / 2
    expected[0, :4] = before[0, :4]
    close(output.tokens, expected)
    close(fusion(layers, keep=torch.tensor([[True, True, False, True]] * 2)).tokens, last)
    assert output.routing.weights[0, :, 2:].tolist() == [[1.0, 0.0]] * 4 + [[0.5, 0.5]] * 5
    with pytest.raises(ValueError, match="at least one of the last 2 layers"):
        fusion(layers, keep=torch.tensor([[True, True, False, False]] * 2))


def test_wrong_use_is_refused(fusion, layers):
    with pytest.raises(ValueError, match="built for 4 layers and got 3"):
        fusion(layers[:3])
    with pytest.raises(ValueError, match=r"not -0\.1"):
        DepthRoutedFusion(2, 8, beta=-0.1)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        DepthRoutedFusion(2, 8, hidden_size=0)
    with pytest.raises(ValueError, match="between 1 and 4 layers, not 5"):
        MeanFusion(4, 5)


# ---- some layers (table 9) ----------------------------------------------------------------------------------------


def test_layers_that_are_not_fused_have_weight_zero_and_no_expert(layers):
    """The routing speaks of all layers; the two deepest are mixed as a fusion of two layers would mix them."""
    fusion = build_fusion("depth-routed", num_layers=LAYERS, dim=DIM, eps=1e-6, hidden_size=HIDDEN, layers=2)
    assert type(fusion) is SomeLayersFusion
    for parameter in fusion.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5))
    alone = DepthRoutedFusion(2, DIM, HIDDEN)
    alone.load_state_dict(fusion.state_dict(), strict=True)
    output, expected = fusion(layers, return_routing=True), alone(layers[2:], return_routing=True)
    close(output.tokens, expected.tokens)
    assert output.routing.weights.shape == (2, 9, LAYERS)
    assert not output.routing.weights[..., :2].any()
    close(output.routing.weights[..., 2:], expected.routing.weights)
    readout = fusion.read(layers)
    assert readout.experts.shape == (LAYERS, 2, 9, DIM)
    close(readout.experts[2:], alone.read(layers[2:]).experts)


def test_without_the_fused_layers_the_last_one_is_left(layers):
    fusion = SomeLayersFusion(LAYERS, [2, 3], DIM, HIDDEN)
    keep = torch.tensor([[True, True, False, False]] * 2)
    close(fusion(layers, keep=keep).tokens, norm64(layers[-1].double()), 2e-4)


def test_all_layers_are_the_papers_fusion_and_others_have_no_such_choice():
    sizes = {"num_layers": LAYERS, "dim": DIM, "eps": 1e-6}
    assert type(build_fusion("depth-routed", layers=LAYERS, **sizes)) is DepthRoutedFusion
    for layers in (0, LAYERS + 1):
        with pytest.raises(
            ValueError, match=f"between 1 and {LAYERS} of the deepest layers can be fused, not {layers}"
        ):
            build_fusion("depth-routed", layers=layers, **sizes)
    with pytest.raises(ValueError, match="is for the fusion 'depth-routed', not for 'mean'"):
        build_fusion("mean", layers=2, **sizes)
    with pytest.raises(ValueError, match=rf"between 1 and {LAYERS} layers are fused, not \[5\]"):
        SomeLayersFusion(LAYERS, [4], DIM)


# ---- cross-attention (table 3) ------------------------------------------------------------------------------------


@pytest.fixture
def attention() -> CrossAttentionFusion:
    torch.manual_seed(0)
    fusion = CrossAttentionFusion(LAYERS, 128)  # two heads of 64
    for parameter in fusion.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return fusion


def attended(fusion: CrossAttentionFusion, layers: list[torch.Tensor], keep: torch.Tensor) -> tuple:
    """Token by token and head by head, in float64: its tokens and the mean of its heads' weights."""
    p = {name: value.detach().double() for name, value in fusion.attention.named_parameters()}
    (wq, wk, wv), (bq, bk, bv) = p["in_proj_weight"].chunk(3), p["in_proj_bias"].chunk(3)
    z = [norm64(layer.double()) for layer in layers]
    out, shares = torch.zeros_like(z[0]), torch.zeros(*z[0].shape[:2], LAYERS, dtype=torch.float64)
    for b in range(out.shape[0]):
        for n in range(out.shape[1]):
            kept = [k for k in range(LAYERS) if keep[b, n, k]]
            query, heads = wq @ z[-1][b, n] + bq, []
            for head in (slice(0, 64), slice(64, 128)):
                keys = torch.stack([(wk @ z[k][b, n] + bk)[head] for k in kept])
                values = torch.stack([(wv @ z[k][b, n] + bv)[head] for k in kept])
                weights = torch.softmax(keys @ query[head] / 8, 0)
                heads.append(weights @ values)
                shares[b, n, kept] += weights / 2
            out[b, n] = norm64(p["out_proj.weight"] @ torch.cat(heads) + p["out_proj.bias"])
    return out, shares


@pytest.mark.parametrize("kept", [None, (2, LAYERS), (2, 5, LAYERS)], ids=["all", "by picture", "by token"])
def test_cross_attention_looks_at_one_token_in_all_layers(attention, kept):
    generator = torch.Generator().manual_seed(1)
    layers = [torch.randn(2, 5, 128, generator=generator) * (k + 1) + k for k in range(LAYERS)]
    keep = None if kept is None else torch.rand(kept, generator=generator) > 0.4
    if keep is not None:
        keep[..., 1] = True
    full = (
        torch.ones(2, 5, LAYERS) if keep is None else (keep if keep.ndim == 3 else keep[:, None]).expand(2, 5, LAYERS)
    )
    tokens, shares = attended(attention, layers, full)
    output = attention(layers, return_routing=True, keep=keep)
    close(output.tokens, tokens)
    close(output.routing.shares, shares)
    close(output.routing.base, norm64(layers[-1].double()))
    close(attention(layers, keep=keep).tokens, tokens)
    assert attention(layers).routing is None


def test_cross_attention_needs_something_to_look_at(attention):
    layers, keep = [torch.randn(1, 3, 128)] * LAYERS, torch.ones(1, 3, LAYERS, dtype=torch.bool)
    keep[0, 1] = False
    with pytest.raises(ValueError, match="keep at least one layer of every token"):
        attention(layers, keep=keep)
