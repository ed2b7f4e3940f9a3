"""Interventions against the equations in float64, token by token, and the frames that the page flips through."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from conftest import build
from PIL import Image
from test_fusion import norm64

from drorae.explorer.compatibility import Compatibility, compatibility, departures, distances, fine_detail
from drorae.explorer.explore import explore, intervene
from drorae.explorer.interventions import FusionParts, Intervention, InterventionError, strengths
from drorae.explorer.reading import Reading
from drorae.images import Photo, to_uint8
from drorae.models.latents import LatentStatistics
from drorae.ui.parsing import intervention_of
from drorae.viewers.values import frames_value

SHAPE = (48, 4, 4)


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8))


@torch.no_grad()
def by_hand(model, images, kept: list[list[int]], betas: list[float]) -> torch.Tensor:
    """Equations 4 and 5 in float64, with the layers (from 0) and the strength of every token, (N, C)."""
    base, outputs, weights = (part.double() for part in model.fusion_module.read(model.encoder(images)))
    rows = []
    for token, (layers, beta) in enumerate(zip(kept, betas, strict=True)):
        w = weights[0, token, layers]
        total = sum(w[i] * outputs[layer, 0, token] for i, layer in enumerate(layers)) / torch.sqrt((w**2).sum() + 1e-6)
        z = base[0, token]
        rows.append(norm64(z + beta * (norm64(total) - z)))
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("intervention", "kept", "beta"),
    [
        (Intervention(), [0, 1, 2], 0.2),
        (Intervention(beta=0.7), [0, 1, 2], 0.7),
        (Intervention(layers=(1, 3)), [0, 2], 0.2),
        (Intervention(layers=(2,), beta=1.0), [1], 1.0),
        (Intervention(layers=(2, 1), beta=0.5, tokens=(0, 5, 15)), [0, 1], 0.5),
    ],
)
def test_mixing_is_the_equations(model, images, intervention, kept, beta):
    parts = FusionParts(model, model.encoder(images[:1]), (4, 4))
    where = range(16) if intervention.tokens is None else intervention.tokens
    layers = [kept if token in where else [0, 1, 2] for token in range(16)]
    expected = by_hand(model, images[:1], layers, [beta if token in where else 0.2 for token in range(16)])
    # beside others in one batch: they must not mix
    (_, found, _) = parts.mix([Intervention(beta=0.0), intervention, Intervention(layers=(1,))])
    torch.testing.assert_close(found.double(), expected, atol=2e-5, rtol=0)


def test_strength_zero_is_the_last_layer_and_nothing_changed_is_the_usual_latent(model, images):
    parts = FusionParts(model, model.encoder(images[:1]), (4, 4))
    zero, usual = parts.mix([Intervention(beta=0.0), Intervention()])
    last = model.encode(images[:1], fusion=False).latent.flatten(2).transpose(1, 2)[0]
    torch.testing.assert_close(zero, last, atol=2e-5, rtol=0)
    torch.testing.assert_close(usual, model.encode(images[:1]).latent.flatten(2).transpose(1, 2)[0])


def test_an_expert_alone_takes_the_place_of_the_sum(model, images):
    parts = FusionParts(model, model.encoder(images[:1]), (4, 4))
    experts = parts.experts().double()
    for layer in range(3):
        h, base = parts.readout.experts[layer, 0].double(), parts.readout.base[0].double()
        torch.testing.assert_close(experts[layer], norm64(base + 0.2 * (h - base)), atol=2e-5, rtol=0)


def test_softmax_weights_are_shared_anew_among_the_layers_that_stay(images):
    model = build(fusion="depth-routed-softmax")
    parts = FusionParts(model, model.encoder(images[:1]), (4, 4))
    w = parts.readout.weights[0].double()[:, [0, 2]].softmax(-1)
    total = w[:, :1] * parts.readout.experts[0, 0].double() + w[:, 1:] * parts.readout.experts[2, 0].double()
    base = parts.readout.base[0].double()
    (found,) = parts.mix([Intervention(layers=(1, 3))])
    torch.testing.assert_close(found.double(), norm64(base + 0.2 * (norm64(total) - base)), atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    ("intervention", "sentence"),
    [
        (Intervention(layers=(0,)), "There is no layer 0; layers are numbered 1 to 3."),
        (Intervention(layers=(4, 1)), "There is no layer 4"),
        (Intervention(layers=("1",)), "There is no layer '1'"),
        (Intervention(layers=(True,)), "There is no layer True"),
        (Intervention(layers=()), "Keep at least one layer"),
        (Intervention(beta=1.5), "between 0 .* and 1 .*, not 1.5"),
        (Intervention(beta=-0.1), "not -0.1"),
        (Intervention(beta=True), "not True"),
        (Intervention(beta=math.nan), "not nan"),
        (Intervention(beta="a lot"), "not 'a lot'"),
        (Intervention(tokens=(16,)), "There is no token 16; tokens are numbered 0 to 15."),
        (Intervention(tokens=(-1,)), "There is no token -1"),
        (Intervention(tokens=(1.5,)), r"There is no token 1\.5"),
        (Intervention(tokens=()), "No token is painted"),
    ],
)
def test_impossible_wishes_are_one_sentence(model, picture, intervention, sentence):
    with pytest.raises(InterventionError, match=sentence):
        intervene(picture, model, intervention)


@pytest.mark.parametrize("fusion", [None, "mean"])
def test_a_model_without_router_says_so(picture, fusion):
    model = build(fusion=fusion)
    with pytest.raises(InterventionError, match="no router"):
        intervene(picture, model, Intervention())
    result = explore(picture, model)
    assert result.interventions is None
    reading = Reading(Photo.of(picture), model)
    assert not reading.can_intervene()
    with pytest.raises(InterventionError, match="no router"):
        next(reading.interventions())


def test_what_the_page_sends_is_checked():
    assert intervention_of({"id": 3, "layers": [1, 2], "beta": 0.3, "tokens": None}) == Intervention((1, 2), 0.3, None)
    with pytest.raises(InterventionError, match="The tokens must be a list of numbers, not 'all'"):
        intervention_of({"tokens": "all"})


def test_frames_are_those_of_single_calls_and_the_trained_one_is_the_usual_picture(model, picture):
    seen = []
    result = explore(picture, model, progress=lambda done, count: seen.append((done, count)))
    made = result.interventions
    assert made.betas == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    assert made.beta == 0.2
    usual = made.strengths[2]
    assert usual.compatibility.departure == 0
    assert min(frame.compatibility.departure for frame in [*made.removed, *made.alone, *made.experts]) > 0
    assert np.array_equal(usual.picture, result.pictures["drorae"])
    assert usual.metrics == result.metrics["drorae"]
    assert [len(frames) for frames in (made.removed, made.alone, made.experts)] == [3, 3, 3]
    assert seen[-1] == (19, 19)
    for beta, frame in zip(made.betas, made.strengths, strict=True):
        check(frame, intervene(picture, model, Intervention(beta=beta)))
    for layer in (1, 2, 3):
        others = tuple(n for n in (1, 2, 3) if n != layer)
        check(made.removed[layer - 1], intervene(picture, model, Intervention(layers=others)))
        check(made.alone[layer - 1], intervene(picture, model, Intervention(layers=(layer,))))
        images = torch.from_numpy(result.original).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            parts = FusionParts(model, model.encoder(images), (4, 4))
            painted = to_uint8(parts.paint(parts.experts()[layer - 1 : layer])[0]).permute(1, 2, 0).numpy()
        assert np.abs(made.experts[layer - 1].picture.astype(int) - painted.astype(int)).max() <= 1


def check(frame, single) -> None:
    """The same up to rounding of the 8-bit values."""
    assert np.abs(frame.picture.astype(int) - single.picture.astype(int)).max() <= 1
    assert frame.metrics["psnr"] == pytest.approx(single.metrics["psnr"], abs=0.01)
    assert frame.energies.sum() == pytest.approx(single.energies.sum(), rel=0.01)
    assert frame.compatibility.cosine == pytest.approx(single.compatibility.cosine, abs=1e-5)
    assert frame.compatibility.departure == pytest.approx(single.compatibility.departure, abs=0.01)


def test_without_interventions_nothing_else_changes(model, picture):
    full, short = explore(picture, model), explore(picture, model, interventions=False)
    assert short.interventions is None
    assert full.metrics == short.metrics
    assert np.array_equal(full.components, short.components)


def test_a_trained_strength_between_the_eleven_gets_its_own_frame():
    assert strengths(0.25) == (0.0, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    assert strengths(0.3) == tuple(i / 10 for i in range(11))
    assert len(strengths(0.30000001)) == 11


# ---- compatibility ------------------------------------------------------------------------------------------------


def test_compatibility_written_out(model, images):
    statistics = LatentStatistics.of(SHAPE, torch.rand(SHAPE) + 0.5, torch.randn(SHAPE))
    model.set_statistics(statistics.std, statistics.mean)
    layers = model.encoder(images)
    base, tokens = model.fuse(layers, fusion=False).tokens, model.fuse(layers).tokens
    mean, std = (value.flatten(1).T.double() for value in (statistics.mean, statistics.std))  # (N, C)
    normal = (tokens.detach().double() - mean) / (std + 1e-5)
    expected = (normal**2).mean(-1)
    torch.testing.assert_close(distances(model, tokens).detach().double(), expected, rtol=1e-5, atol=0)
    limit = float(expected.flatten().sort().values[20])
    model.register_to_config(latent_distance=limit * 1.0001, departure_limits=(0.5, 1.0))
    trained, far = torch.rand(1, 3, 32, 32), departures(images, images[:1])
    assert all(c.departure != d for c, d in zip(compatibility(model, tokens, base, images, trained), far, strict=True))
    stood = compatibility(model, tokens, base, images, images[:1])
    for i, found in enumerate(stood):
        cosine = torch.cosine_similarity(tokens[i].double(), base[i].double(), dim=-1).mean().item()
        assert found.cosine == pytest.approx(cosine, abs=1e-6)
        assert found.mean == pytest.approx(normal[i].mean().item(), abs=1e-5)
        assert found.variance == pytest.approx(normal[i].var(unbiased=False).item(), rel=1e-5)
        assert found.beyond == pytest.approx((expected[i] > limit * 1.0001).double().mean().item())
        assert found.departure == far[i].item()
        assert found.limits == (0.5, 1.0)
    assert sum(c.beyond for c in stood) * 16 == 32 - 21
    assert (stood[0].departure, stood[0].verdict) == (0, "yes")


def test_without_statistics_and_limits_the_cosine_and_the_departure_are_known(model, images):
    layers = model.encoder(images)
    base = model.fuse(layers, fusion=False).tokens
    (first, second) = compatibility(model, base, base, images, images[:1])
    assert first.cosine == pytest.approx(1)
    assert (first.mean, first.variance, first.beyond, first.limits, first.verdict) == (*[None] * 4, "unknown")
    assert first.departure == 0 < second.departure
    with pytest.raises(ValueError, match=r"train\.latent_stats"):
        distances(model, base)


def test_fine_detail_in_closed_form():
    """Columns that alternate between 100 and 110: of five in a row three are as the middle one, which is 4
    levels away from their mean of 104 or 106."""
    columns = torch.full((1, 3, 16, 20), 100.0)
    columns[..., 1::2] = 110
    assert fine_detail(columns / 255).item() == pytest.approx(4, abs=1e-4)
    ramp = torch.arange(0.0, 40.0, 2).expand(1, 3, 16, 20)
    flat = torch.full((1, 3, 16, 20), 0.4)
    assert fine_detail(flat).item() == pytest.approx(0, abs=1e-4)
    assert fine_detail(ramp / 255).item() < 1  # zero but for the two columns at either end, which are mirrored
    shown = to_uint8(torch.rand(2, 3, 16, 20))
    each = fine_detail(shown.float() / 255)
    for i in range(2):
        padded = np.pad(shown[i].double().numpy(), ((0, 0), (2, 2), (2, 2)), mode="reflect")
        mean = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(1, 2)).mean((-1, -2))
        assert each[i].item() == pytest.approx(((shown[i].numpy() - mean) ** 2).mean() ** 0.5, rel=1e-5)


def test_departures_in_closed_form():
    columns = torch.full((1, 3, 16, 20), 100.0)
    columns[..., 1::2] = 110  # fine detail of 4 levels
    moved = torch.cat([columns, columns + 2, columns - 8])
    torch.testing.assert_close(departures(moved / 255, columns / 255), torch.tensor([0.0, 0.5, 2.0]))
    even = torch.full((1, 3, 16, 16), 100.0)  # without detail a level is the unit
    torch.testing.assert_close(departures((even + 4) / 255, even / 255), torch.tensor([4.0]))


def test_a_distance_does_not_outlive_its_latent(model):
    std = torch.ones(SHAPE)
    model.set_statistics(std)
    model.register_to_config(latent_distance=1.4)
    model.set_statistics(2 * std)
    assert model.config.latent_distance is None
    model.register_to_config(latent_distance=1.4)
    model.set_fusion("mean")
    assert model.config.latent_distance is None


def test_verdicts():
    def verdict(departure: float, limits=(0.5, 1.0)) -> str:
        return Compatibility(1.0, 0.0, 1.0, 0.0, departure, limits).verdict

    found = [verdict(departure) for departure in (0.0, 0.5, 0.51, 1.0, 1.01, 9.0)]
    assert found == ["yes", "yes", "partly", "partly", "no", "no"]
    assert verdict(0.0, None) == "unknown"


def test_a_value_for_the_page_is_plain_json(model, picture):
    frame = intervene(picture, model, Intervention(beta=0.4))
    exact = dataclasses.replace(frame, metrics={**frame.metrics, "psnr": math.inf})
    result = explore(picture, model)
    value = frames_value(result, dataclasses.replace(result.interventions, alone=[frame, exact]))
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    plain, equal = value["alone"]
    assert plain["psnr"] == frame.metrics["psnr"]
    assert plain["verdict"] == "unknown"
    assert equal["psnr"] is None
