"""The study's rows, their hashes, and the fusions that only the study has, against float64 loops."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.special import erf, softmax

from drorae.models.fusion import DepthRoutedFusion, MeanFusion, SoftmaxRoutedFusion
from train.experiments import fusions
from train.experiments.experiment import (
    AGAIN,
    BUDGETS,
    DECODER,
    DEEPEST,
    FINETUNE,
    FUSION,
    JOINT,
    MEAN,
    RAE,
    SAMPLER,
    SOFTMAX,
    Experiment,
    FusionChoice,
)
from train.experiments.fusions import CAPS, build_choice
from train.experiments.rows import BASES, TABLES, all_runs, paper_fusion, rows_of
from train.presets import PRESETS

L, B, N, C, WIDTH, EPS = 6, 2, 5, 8, 16, 1e-6
EVERY = tuple(range(1, L + 1))
BASE = BASES["study"][0]


# ---- hashes -------------------------------------------------------------------------------------------------------


def of(phase=FUSION, seed=0, **changes) -> str:
    return Experiment("study", phase, paper_fusion(BASE, **changes), 7500, seed).hash


def test_equal_experiments_have_one_hash():
    assert of(beta=1) == of(beta=1.0)
    twelve = tuple(range(1, 13))
    assert of(layers=twelve) == of()
    last = {"layers": (12,)}
    assert of(**last, router=DEEPEST) == of(**last)
    assert of(rule=BUDGETS, beta=0.2) == of(rule=BUDGETS, beta=1.0)  # which has no beta
    rae = Experiment("study", RAE, None, 0).hash
    assert of(beta=0) == of(beta=0, seed=2) == of(beta=0, rule=SOFTMAX, width=24) == rae
    retrained = Experiment("study", DECODER, None, 7500).hash
    assert of(FINETUNE, beta=0) == of(JOINT, beta=0) == of(rule=MEAN, **last) == retrained != rae
    assert of(rule=MEAN, width=24, beta=0.5) == of(rule=MEAN)


def test_different_experiments_have_different_hashes():
    changes = [
        {},
        {"seed": 1},
        {"beta": 0.3},
        {"width": 24},
        {"layers": (11, 12)},
        {"rule": SOFTMAX},
        {"rule": MEAN},
        {"router": DEEPEST},
        {"activation": False},
        {"phase": FINETUNE},
        {"phase": JOINT},
    ]
    hashes = {of(**change) for change in changes}
    hashes |= {Experiment("study", FUSION, paper_fusion(BASE), 22500).hash}
    hashes |= {Experiment("study-ti16", FUSION, paper_fusion(BASE), 7500).hash}
    assert len(hashes) == len(changes) + 2


def test_phase_1_from_its_own_seed_is_phase_1():
    again = [Experiment("study", AGAIN, None, 32_000, seed) for seed in range(3)]
    assert again[0].hash == Experiment("study", RAE, None, 0).hash
    assert len({one.hash for one in again}) == 3
    schedule, first = again[2].row().schedule, PRESETS["study"].stage1[DECODER].schedule
    assert schedule == dataclasses.replace(first, seed=2)


def test_a_sampler_is_named_by_its_own_recipe_too(monkeypatch):
    sampler, before, preset = Experiment("study", SAMPLER, None, 128_000), of(), PRESETS["study"]
    name = sampler.hash
    rows = {run: dataclasses.replace(row, dropout=0.2) for run, row in preset.stage2.items()}
    monkeypatch.setitem(PRESETS, "study", dataclasses.replace(preset, stage2=rows))
    assert sampler.hash != name
    assert of() == before


def test_a_latent_belongs_to_the_run_that_made_it():
    fusion = paper_fusion(BASE)

    def latent(phase, fusion=None, seed=2):
        return Experiment("study", phase, fusion, 7500, seed).latent.hash

    rae = Experiment("study", RAE, None, 0).hash
    assert latent(DECODER) == latent(AGAIN) == latent(SAMPLER) == latent(RAE) == rae
    assert latent(FINETUNE, fusion) == of(seed=2) == latent(FUSION, fusion)
    assert latent(JOINT, fusion) == of(JOINT, seed=2)
    mean = paper_fusion(BASE, rule=MEAN)
    assert latent(DECODER, mean) == latent(DECODER, mean, seed=0) == of(DECODER, rule=MEAN)


def test_a_changed_recipe_changes_the_hash_and_a_changed_machine_does_not(monkeypatch):
    before, preset = of(), PRESETS["study"]

    def with_schedule(**changes):
        row = preset.stage1["fusion"]
        row = dataclasses.replace(row, schedule=dataclasses.replace(row.schedule, **changes))
        return dataclasses.replace(preset, stage1={**preset.stage1, "fusion": row})

    monkeypatch.setitem(PRESETS, "study", with_schedule(workers=7, save_every=1))
    assert of() == before
    monkeypatch.setitem(PRESETS, "study", with_schedule(lr=1e-3))
    assert of() != before


def test_the_tables_have_the_rows_of_the_plan():
    runs = all_runs([row for table in TABLES for row in rows_of(table)])
    trained = [one for one in runs.values() if one.trains]
    again = [one for one in trained if one.phase == AGAIN]
    assert [(one.base, one.seed) for one in again] == [("study", 1), ("study", 2)]
    trained = [one for one in trained if one.phase != AGAIN]
    kinds = {dataclasses.replace(one, seed=0) for one in trained if one.pictures != 3 * BASE.pictures}
    assert len([one for one in kinds if one.base == "study"]) == 42
    assert len([one for one in kinds if one.base == "study-ti16"]) == 6
    longer = [one for one in trained if one.pictures == 3 * BASE.pictures]
    assert len(longer) == 4
    assert len(trained) == 48 * 3 + 4
    assert {one.seed for one in trained} == {0, 1, 2}
    assert len({one.hash for one in runs.values()}) == len(runs)


def test_a_row_is_compared_with_a_row_of_its_table():
    for table in TABLES:
        rows = rows_of(table)
        names = {(row.experiment.base, row.name) for row in rows}
        assert len(names) == len(rows)
        assert all(row.reference is None or (row.experiment.base, row.reference) in names for row in rows)


def test_a_run_goes_on_from_one_before_it():
    runs = list(all_runs(rows_of("rules")).values())
    last = next(index for index, one in enumerate(runs) if one.phase == FINETUNE)
    assert runs[last].before.hash in {one.hash for one in runs[:last]}
    assert runs[last].row().starts_from == f"study/{runs[last].before.hash}"


def test_every_run_sees_the_pictures_of_its_row():
    for one in all_runs(rows_of("rules")).values():
        schedule = one.row().schedule
        if one.trains:
            assert 0 <= schedule.steps * schedule.batch_size - one.pictures < schedule.batch_size
            assert schedule.seed == one.seed


# ---- fusions ------------------------------------------------------------------------------------------------------


@pytest.fixture
def layers() -> list[torch.Tensor]:
    return [3 * torch.randn(B, N, C, generator=torch.Generator().manual_seed(k)) + k for k in range(L)]


def made(**changes):
    torch.manual_seed(3)
    fusion = build_choice(FusionChoice(**{"layers": EVERY, "width": WIDTH, **changes}), L, C, EPS).eval()
    for parameter in fusion.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return fusion


def norm(x: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / np.sqrt(x.var() + EPS)


def expert(fusion, k: int, z: np.ndarray, activation: bool) -> np.ndarray:
    p = {name: value.detach().double().numpy()[k] for name, value in fusion.experts.named_parameters()}
    hidden = norm(z @ p["weight_in"] + p["bias_in"][0]) * p["norm_weight"][0] + p["norm_bias"][0]
    if activation:
        hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
    return norm(hidden @ p["weight_out"] + p["bias_out"][0])


def reference(fusion, layers, choice: FusionChoice) -> np.ndarray:
    """Token by token in float64."""
    weight, bias = (value.detach().double().numpy() for value in (fusion.router.weight, fusion.router.bias))
    chosen = [number - 1 for number in choice.layers]
    out = np.empty((B, N, C))
    for b in range(B):
        sums = []
        for n in range(N):
            z = [norm(layer[b, n].double().numpy()) for layer in layers]
            read = z[-1] if choice.router == DEEPEST else np.concatenate([z[k] for k in chosen])
            w = weight @ read + bias
            w = softmax(w) if choice.rule == SOFTMAX else w / np.sqrt((w**2).sum() + EPS)
            terms = [w[i] * expert(fusion, i, z[k], choice.activation) for i, k in enumerate(chosen)]
            sums.append((z[-1], np.array(terms)))
        base = np.array([z for z, _ in sums])
        terms = np.array([term for _, term in sums])  # (N, n, C)
        for n in range(N):
            fused = norm(terms[n].sum(0))
            out[b, n] = norm(base[n] + choice.beta * (fused - base[n]))
        if choice.rule == BUDGETS:
            total = base.copy()
            for group, cap in enumerate(CAPS):
                residual = terms[:, 2 * group : 2 * group + 2].sum(1)
                total += residual * min(1, cap * np.sqrt((base**2).sum()) / np.sqrt((residual**2).sum()))
            out[b] = [norm(token) for token in total]
    return out


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"layers": (6,)},
        {"layers": (4, 5, 6)},
        {"layers": (1, 2)},  # z_base is still of the last
        {"layers": (1, 4), "beta": 1.0},
        {"router": DEEPEST},
        {"activation": False},
        {"rule": BUDGETS},
        {"rule": SOFTMAX, "beta": 1.0},
    ],
    ids=str,
)
def test_a_fusion_is_that_of_a_float64_loop(layers, changes):
    choice = FusionChoice(**{"layers": EVERY, "width": WIDTH, **changes})
    fusion = made(**changes)
    with torch.no_grad():
        output = fusion(layers, return_routing=True)
    expected = torch.from_numpy(reference(fusion, layers, choice)).float()
    torch.testing.assert_close(output.tokens, expected, atol=2e-5, rtol=0)
    last = torch.stack([torch.stack([torch.from_numpy(norm(t.double().numpy())) for t in one]) for one in layers[-1]])
    torch.testing.assert_close(output.routing.base, last.float(), atol=1e-5, rtol=0)


def test_a_residual_within_its_budget_stays_as_it_is(layers):
    """Weights of a hundredth for the shallow group: its residual is smaller than its budget."""
    fusion = made(rule=BUDGETS)
    torch.nn.init.zeros_(fusion.router.weight)
    fusion.router.bias.data = torch.tensor([0.01, -0.01, 1, 1, -1, 1])
    choice = FusionChoice(EVERY, WIDTH, BUDGETS)
    with torch.no_grad():
        tokens = fusion(layers).tokens
    torch.testing.assert_close(tokens, torch.from_numpy(reference(fusion, layers, choice)).float(), atol=2e-5, rtol=0)


def test_what_the_paper_has_is_the_implementation_that_ships():
    assert type(made()) is DepthRoutedFusion
    assert type(made(rule=SOFTMAX)) is SoftmaxRoutedFusion
    mean = made(rule=MEAN, layers=(5, 6))
    assert (type(mean), mean.last) == (MeanFusion, 2)


def test_fewer_layers_have_the_parameters_of_the_papers_formula():
    """Appendix C with n layers in the place of L, and the norm inside the experts."""
    for layers in ((6,), (4, 5, 6), EVERY):
        n = len(layers)
        count = sum(p.numel() for p in made(layers=layers).parameters())
        assert count == n * (2 * C * WIDTH + WIDTH + C + 2 * WIDTH) + C * n**2 + n


def test_budgets_drop_in_training_and_only_there(layers, monkeypatch):
    calls = []

    def dropout(x, p, training):
        calls.append((p, training))
        return x

    monkeypatch.setattr(fusions.F, "dropout", dropout)
    fusion = made(rule=BUDGETS)
    fusion(layers)
    fusion.train()(layers)
    assert calls == [(0.50, False), (0.25, False), (0.10, False), (0.50, True), (0.25, True), (0.10, True)]


def test_budgets_hold_the_latent_near_the_last_layer(layers):
    """The residuals are at most a quarter of the last layer: 14.5 degrees before the norm."""
    fusion = made(rule=BUDGETS)
    with torch.no_grad():
        output = fusion(layers, return_routing=True)
    cosine = (output.tokens * output.routing.base).sum((1, 2)) / (N * C)
    assert cosine.min() > np.cos(np.arcsin(0.25)) - 0.02


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": (5, 6), "router": DEEPEST},
        {"layers": (5, 6), "activation": False},
        {"rule": SOFTMAX, "activation": False},
        {"rule": BUDGETS, "router": DEEPEST},
    ],
)
def test_two_changes_at_once_are_refused(changes):
    with pytest.raises(ValueError, match="one thing at a time"):
        made(**changes)


@pytest.mark.parametrize("layers", [(), (0, 1), (6, 7)])
def test_layers_that_are_not_there_are_refused(layers):
    with pytest.raises(ValueError, match="layers are 1 to 6"):
        build_choice(FusionChoice(layers, WIDTH), L, C, EPS)


def test_budgets_need_three_equal_groups():
    with pytest.raises(ValueError, match="three equal groups, not 4"):
        build_choice(FusionChoice((1, 2, 3, 4), WIDTH, BUDGETS), 4, C, EPS)
