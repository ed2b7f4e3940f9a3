"""DiT^DH against an independent float64 computation, RAE's sizes, and the conversion of its files."""

import math

import pytest
import torch
from torch import nn

from drorae import CheckpointError, DiTDH
from drorae.models.denoiser import join, per_position
from drorae.pretrained.rae_denoiser import FILES, convert_denoiser, load_rae_denoiser

SMALL = {
    "sample_size": 4,
    "in_channels": 12,
    "hidden_size": (24, 32),
    "depth": (3, 2),
    "num_heads": (3, 2),
    "num_classes": 5,
}


def randomised(**changes) -> DiTDH:
    """A denoiser whose every weight is random: fresh ones output zero."""
    torch.manual_seed(0)
    network = DiTDH(**{**SMALL, **changes}).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2 if parameter.ndim > 1 else 0.5)
    return network


# ---- RAE's network, written again from its description, in float64, one sample and one head at a time ---------------


def silu(x):
    return x / (1 + torch.exp(-x))


def linear(x, state, name):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def rms(x, weight):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6) * weight


def rotate(x, side):
    """Channels in pairs; the first half of them turns with the row, the second with the column."""
    out = torch.empty_like(x)
    pairs = x.shape[1] // 4
    for n in range(len(x)):
        for axis, place in enumerate((n // side, n % side)):
            for pair in range(pairs):
                angle = place / 10000 ** (pair / pairs)
                a, b = axis * 2 * pairs + 2 * pair, axis * 2 * pairs + 2 * pair + 1
                out[n, a] = x[n, a] * math.cos(angle) - x[n, b] * math.sin(angle)
                out[n, b] = x[n, b] * math.cos(angle) + x[n, a] * math.sin(angle)
    return out


def block(x, c, state, name, heads, side, text=0):
    """``text`` tokens at the front have no place in the grid, so they are not rotated."""

    def turn(part):
        return torch.cat([part[:text], rotate(part[text:], side)])

    modulation = linear(silu(c), state, f"{name}.modulation.1")
    shift1, scale1, gate1, shift2, scale2, gate2 = modulation.chunk(6, -1)
    y = rms(x, state[f"{name}.norm1.weight"]) * (1 + scale1) + shift1
    q, k, v = linear(y, state, f"{name}.attn.qkv").chunk(3, -1)
    parts = []
    for q_, k_, v_ in zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1), strict=True):
        scores = turn(q_) @ turn(k_).T / math.sqrt(q_.shape[1])
        parts.append(torch.softmax(scores, -1) @ v_)
    x = x + gate1 * linear(torch.cat(parts, -1), state, f"{name}.attn.proj")
    y = rms(x, state[f"{name}.norm2.weight"]) * (1 + scale2) + shift2
    a, b = linear(y, state, f"{name}.mlp.fc1").chunk(2, -1)
    return x + gate2 * linear(silu(a) * b, state, f"{name}.mlp.fc2")


def sincos(side, dim):
    """MAE's table: the first half of the channels encodes the column, the second the row; sines before cosines."""
    rows = []
    for n in range(side * side):
        row = []
        for place in (n % side, n // side):
            angles = [place / 10000 ** (i / (dim // 4)) for i in range(dim // 4)]
            row += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


def reference(network, x, t, label=None, text=None):
    """``text`` (T, D): the tokens that count, nothing padded."""
    state = {key: value.double() for key, value in network.state_dict().items()}
    side, (trunk_depth, head_depth) = network.config.sample_size, network.config.depth
    tokens = x.double().flatten(1).T
    angles = 2 * math.pi * float(t) * state["time_embed.frequencies"]
    time = torch.cat([torch.sin(angles), torch.cos(angles)])
    time = linear(silu(linear(time, state, "time_embed.mlp.0")), state, "time_embed.mlp.2")
    if text is None:
        about, words = state["label_embed.weight"][label], torch.empty(0, network.config.hidden_size[0]).double()
    else:
        words = linear(rms(text.double(), state["text_embed.0.weight"]), state, "text_embed.1")
        about = words.mean(0) if len(words) else torch.zeros(network.config.hidden_size[0]).double()
    condition = silu(time + about)
    patch = network.config.trunk_patch_size
    grid = side // patch
    places = [[(y * patch + i) * side + x * patch + j for i in range(patch) for j in range(patch)]
              for y in range(grid) for x in range(grid)]  # fmt: skip
    joined = torch.stack([torch.cat([tokens[n] for n in square]) for square in places])
    s = linear(joined, state, "trunk_embed") + sincos(grid, network.config.hidden_size[0])
    s = torch.cat([words, s])
    for i in range(trunk_depth):
        s = block(s, condition, state, f"trunk.{i}", network.config.num_heads[0], grid, len(words))
    s = linear(silu(time + s[len(words) :]), state, "projection")
    owner = {n: square for square, all_of_it in enumerate(places) for n in all_of_it}
    s = torch.stack([s[owner[n]] for n in range(side * side)])
    y = linear(tokens, state, "head_embed")
    for i in range(head_depth):
        y = block(y, s, state, f"head.{i}", network.config.num_heads[1], side)
    shift, scale = linear(silu(s), state, "final_modulation.1").chunk(2, -1)
    y = rms(y, state["final_norm.weight"]) * (1 + scale) + shift
    return linear(y, state, "final").T.unflatten(1, (side, side))


@pytest.mark.parametrize("patch", [1, 2])
def test_equals_an_independent_computation_in_float64(patch):
    network = randomised(trunk_patch_size=patch)
    x, t, labels = torch.randn(2, 12, 4, 4), torch.tensor([0.137, 0.9]), torch.tensor([3, 5])
    with torch.no_grad():
        output = network.double()(x.double(), t.double(), labels).sample
    expected = torch.stack([reference(network, *sample) for sample in zip(x, t, labels, strict=True)])
    assert output.std() > 0.1
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)  # tables of positions are kept in fp32


@pytest.mark.parametrize(
    ("hidden", "depth", "heads", "millions"),
    [((1152, 2048), (28, 2), (16, 16), 838.4), ((384, 2048), (12, 2), (6, 16), 196.4)],
)
def test_published_sizes(hidden, depth, heads, millions):
    with torch.device("meta"):
        network = DiTDH(hidden_size=hidden, depth=depth, num_heads=heads)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


def test_a_fresh_network_predicts_nothing():
    network = DiTDH(**SMALL)
    assert not network(torch.randn(1, 12, 4, 4), torch.rand(1), torch.tensor([0])).sample.any()


def test_labels_and_times_matter():
    network, x = randomised(), torch.randn(1, 12, 4, 4)
    first = network(x, torch.tensor([0.5]), torch.tensor([0])).sample
    assert not torch.allclose(first, network(x, torch.tensor([0.5]), torch.tensor([1])).sample, atol=1e-3)
    assert not torch.allclose(first, network(x, torch.tensor([0.6]), torch.tensor([0])).sample, atol=1e-3)
    assert network.null_label == 5


def test_a_coarse_trunk_joins_squares_of_positions():
    tokens = torch.arange(16.0).view(1, 16, 1)
    joined = join(tokens, 4, 2)
    assert joined[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    spread = per_position(torch.arange(4.0).view(1, 4, 1), 2).view(4, 4)
    assert spread.tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]


def test_saves_and_loads(tmp_path):
    network = randomised(latent_fingerprint="abc")
    network.save_pretrained(tmp_path)
    again = DiTDH.from_pretrained(tmp_path)
    x = torch.randn(2, 12, 4, 4)
    arguments = (torch.rand(2), torch.tensor([0, 5]))
    assert torch.equal(network(x, *arguments).sample, again(x, *arguments).sample)
    assert again.config.latent_fingerprint == "abc"


def test_sizes_that_do_not_fit():
    with pytest.raises(ValueError, match="a width of 24 does not divide into 5 heads"):
        DiTDH(**{**SMALL, "num_heads": (5, 2)})
    with pytest.raises(ValueError, match="trunk_patch_size 3 does not divide sample_size 4"):
        DiTDH(**SMALL, trunk_patch_size=3)


# ---- RAE's files ----------------------------------------------------------------------------------------------------


def as_rae_saves_it(network: DiTDH) -> dict[str, torch.Tensor]:
    """The same weights under the names of RAE's ``stage2_model.pt``, constants included."""
    names = {
        "trunk_embed": "s_embedder.proj",
        "head_embed": "x_embedder.proj",
        "time_embed.mlp": "t_embedder.mlp",
        "label_embed": "y_embedder.embedding_table",
        "projection": "s_projector",
        "final_norm": "final_layer.norm_final",
        "final_modulation": "final_layer.adaLN_modulation",
        "final": "final_layer.linear",
    }
    depth = network.config.depth[0]
    saved = {"t_embedder.W": network.time_embed.frequencies.clone(), "pos_embed": network.positions[None].clone()}
    for name, rope in (("enc", network.trunk_rope), ("dec", network.head_rope)):
        saved[f"{name}_feat_rope.freqs_sin"], saved[f"{name}_feat_rope.freqs_cos"] = rope.chunk(2, -1)
    for key, value in network.state_dict().items():
        if key == "time_embed.frequencies":
            continue
        part, _, rest = key.partition(".")
        if part in ("trunk", "head"):
            number, _, rest = rest.partition(".")
            rest = rest.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3")
            rest = rest.replace("modulation", "adaLN_modulation")
            saved[f"blocks.{int(number) + depth * (part == 'head')}.{rest}"] = value
            continue
        known = next(name for name in names if key.startswith(name + "."))
        saved[names[known] + key.removeprefix(known)] = (
            value[..., None, None]
            if key.endswith("embed.weight") and (known in ("trunk_embed", "head_embed"))
            else value
        )
    return saved


def test_converts_a_file_of_rae(tmp_path):
    network = randomised()
    file = tmp_path / FILES["DiTDH-XL"]
    file.parent.mkdir(parents=True)
    worse = {key: torch.zeros_like(value) for key, value in as_rae_saves_it(network).items()}
    torch.save({"model": worse, "ema": as_rae_saves_it(network)}, file)
    loaded = load_rae_denoiser(repository=str(tmp_path))
    assert {k: v for k, v in loaded.config.items() if k in SMALL} == SMALL
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda saved: saved | {"blocks.0.attn.q_norm.weight": torch.ones(8)}, "unknown name: 'blocks.0.attn.q_norm"),
        (lambda saved: saved | {"pos_embed": saved["pos_embed"] + 1}, "'pos_embed' is not that of"),
        (lambda saved: {k: v for k, v in saved.items() if k != "s_embedder.proj.weight"}, "lacks the weight"),
    ],
)
def test_refuses_other_files(change, message):
    with pytest.raises(CheckpointError, match=message):
        convert_denoiser(change(as_rae_saves_it(randomised())))


def test_in_bf16_the_frequencies_stay_exact(tmp_path):
    network = randomised()
    torch.save(as_rae_saves_it(network), tmp_path / "x.pt")
    network.save_pretrained(tmp_path / "saved")
    loaded = load_rae_denoiser("x.pt", str(tmp_path), torch_dtype=torch.bfloat16)
    again = DiTDH.from_pretrained(tmp_path / "saved", torch_dtype=torch.bfloat16)
    for made in (loaded, again):
        assert made.dtype == torch.bfloat16
        assert torch.equal(made.time_embed.frequencies, network.time_embed.frequencies)
        x, arguments = torch.randn(1, 12, 4, 4), (torch.tensor([0.7]), torch.tensor([2]))
        difference = made(x.bfloat16(), *arguments).sample.float() - network(x, *arguments).sample
        assert difference.abs().mean() < 0.05 * network(x, *arguments).sample.abs().mean()


def test_refuses_a_file_that_lacks_weights(tmp_path):
    saved = as_rae_saves_it(randomised())
    del saved["blocks.1.attn.proj.bias"]
    torch.save(saved, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"1 missing \(first: trunk\.1\.attn\.proj\.bias"):
        load_rae_denoiser("x.pt", str(tmp_path))
    (tmp_path / "y.pt").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="is not a denoiser of RAE"):
        load_rae_denoiser("y.pt", str(tmp_path))
    torch.save([1, 2], tmp_path / "z.pt")
    with pytest.raises(CheckpointError, match="holds the type list, not the weights"):
        load_rae_denoiser("z.pt", str(tmp_path))


# ---- text -----------------------------------------------------------------------------------------------------------


def texts(*lengths: int, width: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Random text tokens (B, width, 10) of which the first ``lengths`` count."""
    tokens = torch.randn(len(lengths), width, 10, generator=torch.Generator().manual_seed(5))
    return tokens, torch.arange(width) < torch.tensor(lengths)[:, None]


@pytest.mark.parametrize("patch", [1, 2])
@torch.no_grad()
def test_text_equals_an_independent_computation_in_float64(patch):
    """Whatever was padded; and with no token that counts, the latent is alone."""
    network = randomised(num_classes=None, text_dim=10, trunk_patch_size=patch).double()
    x, t = torch.randn(3, 12, 4, 4).double(), torch.tensor([0.137, 0.5, 0.9]).double()
    tokens, mask = texts(3, 6, 0)
    output = network(x, t, None, tokens.double(), mask).sample
    expected = [reference(network, x[i], t[i], text=tokens[i][mask[i]]) for i in range(3)]
    torch.testing.assert_close(output, torch.stack(expected), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_text_tokens_that_do_not_count_change_nothing():
    network = randomised(num_classes=None, text_dim=10)
    x, t = torch.randn(2, 12, 4, 4), torch.rand(2)
    tokens, mask = texts(3, 5)
    output = network(x, t, encoder_hidden_states=tokens, encoder_attention_mask=mask).sample
    noise = torch.where(mask[..., None], tokens, 100.0)
    torch.testing.assert_close(network(x, t, None, noise, mask).sample, output)
    for i, length in enumerate((3, 5)):  # nor does padding them away
        alone = network(x[i : i + 1], t[i : i + 1], None, tokens[i : i + 1, :length], mask[i : i + 1, :length]).sample
        torch.testing.assert_close(alone[0], output[i], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_text_matters_and_its_order_only_through_its_encoder():
    network = randomised(num_classes=None, text_dim=10)
    x, t = torch.randn(1, 12, 4, 4), torch.tensor([0.4])
    tokens, mask = texts(4)
    output = network(x, t, None, tokens, mask).sample
    assert not torch.allclose(network(x, t, None, tokens + 1, mask).sample, output, atol=1e-2)
    turned = torch.cat([tokens[:, :4].flip(1), tokens[:, 4:]], 1)
    torch.testing.assert_close(network(x, t, None, turned, mask).sample, output, atol=1e-5, rtol=1e-4)
    nothing = network(x, t, None, tokens, torch.zeros_like(mask)).sample
    assert nothing.isfinite().all()
    assert not torch.allclose(nothing, output, atol=1e-2)


def test_text_with_a_coarse_trunk_has_a_gradient_everywhere():
    network = randomised(num_classes=None, text_dim=10, trunk_patch_size=2)
    tokens, mask = texts(2, 6)
    network(torch.randn(2, 12, 4, 4), torch.rand(2), None, tokens, mask).sample.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
    assert network.text_embed[1].weight.grad.any()


@pytest.mark.parametrize("changes", [{"text_dim": 10}, {"num_classes": None}])
def test_a_condition_is_a_class_or_a_text(changes):
    with pytest.raises(ValueError, match="give num_classes or text_dim"):
        DiTDH(**{**SMALL, **changes})
