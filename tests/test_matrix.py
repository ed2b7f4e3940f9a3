"""Every row of the paper's tables: what stands in the document is what the presets say, and nothing is left out."""

import dataclasses
import json
import re

import pytest
import torch
from conftest import ROOT

from drorae import AutoencoderDRoRAE
from drorae.building import UnfilledMeta
from drorae.study import paper_rows, published
from train import matrix, stage1, stage2
from train.engine.dry_run import estimate_hours
from train.paper_presets import DINOV2_B
from train.presets import PRESETS
from train.settings import Stage2Preset

STORED = paper_rows.read_rows()


def test_both_files_are_those_of_the_presets():
    """With the counts that are stored, which a slow test counts again."""
    content = matrix.build_rows(matrix.stored_counts(STORED))
    assert json.loads(json.dumps(content)) == STORED, "run: python -m train.matrix"
    assert matrix.TARGET.read_text(encoding="utf-8") == matrix.document(content), "run: python -m train.matrix"


def test_the_counts_are_of_these_presets():
    stale = [name for name, run in STORED["runs"].items() if run["recipe"] != matrix.recipe_hash(name)]
    assert not stale, "run: python -m train.matrix"


def test_a_changed_preset_is_counted_again_and_a_longer_run_is_not(monkeypatch):
    name = "dinov2-b/fusion"
    before = matrix.recipe_hash(name)

    def with_row(**changes):
        row = dataclasses.replace(DINOV2_B.stage1["fusion"], **changes)
        monkeypatch.setitem(
            PRESETS, "dinov2-b", dataclasses.replace(DINOV2_B, stage1={**DINOV2_B.stage1, "fusion": row})
        )
        return matrix.recipe_hash(name)

    schedule = DINOV2_B.stage1["fusion"].schedule
    assert with_row(schedule=dataclasses.replace(schedule, steps=7, batch_size=8), expected="x") == before
    assert with_row(schedule=dataclasses.replace(schedule, gradient_checkpointing=True)) != before
    assert with_row(adversary=None) != before
    monkeypatch.setitem(PRESETS, "dinov2-b", dataclasses.replace(DINOV2_B, model={**DINOV2_B.model, "fusion_beta": 1}))
    assert matrix.recipe_hash(name) != before


@pytest.mark.slow
@pytest.mark.parametrize("name", STORED["runs"])
def test_the_counts_are_those_of_a_dry_run(name):
    run = STORED["runs"][name]
    counted = matrix.count(name)
    assert (counted.trained, counted.flops) == (run["trained"], run["flops"])


@pytest.mark.parametrize("name", ["dinov2-b-deepest-1/fusion", "dinov2-b-cross-attention/fusion"])
def test_some_counts_are_those_of_a_dry_run(name):
    counted = matrix.count(name)
    assert (counted.trained, counted.flops) == tuple(STORED["runs"][name][key] for key in ("trained", "flops"))


# ---- the rows -----------------------------------------------------------------------------------------------------


def rows_of(number: str) -> list[matrix.Row]:
    return next(table.rows for table in matrix.tables() if table.number == number)


def test_every_row_of_the_papers_tables_is_there():
    assert [table.number for table in matrix.tables()] == ["1", "2, 7", "3", "4", "8", "9"]
    first = [row.name for row in rows_of("1")]
    assert first == [row.name for row in (*published.QUOTED, *published.ROUTE_SCORES)]
    assert [row.name for row in rows_of("2, 7")] == list(published.GENEVAL)
    assert [row.name for row in rows_of("3")] == [row.name for row in published.VARIANTS]
    assert [row.name for row in rows_of("4")] == [row.name for row in published.STRATEGIES]
    assert [row.paper for row in rows_of("8")] == [
        f"rFID {matrix.number(r.rfid)}, {r.parameters}M" for r in published.WIDTHS
    ]
    assert [row.paper for row in rows_of("9")] == [
        f"rFID {matrix.number(r.rfid)}, {r.parameters}M" for r in published.LAYERS
    ]


def test_numbers_have_the_papers_digits():
    assert [matrix.number(value) for value in (0.5, 0.47, 0.447, 18.36, 7.9)] == [
        "0.50",
        "0.47",
        "0.447",
        "18.36",
        "7.90",
    ]


def test_rows_without_a_run_are_other_peoples_tokenizers():
    without = [row.name for table in matrix.tables() for row in table.rows if not row.runs]
    assert without == [*(row.name for row in published.QUOTED), "FLUX-VAE", "VA-VAE", "RPiAE-VB"]


def test_one_training_stands_for_all_rows_of_the_default():
    default = "dinov2-b/fusion"
    assert [(table.number, row.name) for table in matrix.tables() for row in table.rows if default in row.runs] == [
        ("1", "DRoRAE, phase 2"),
        ("3", "energy + incremental"),
        ("4", "fusion"),
        ("8", "h = 3072"),
        ("9", "12 of 12 layers"),
    ]


def test_the_designs_of_table_3_are_what_their_names_say():
    """Softmax or signed energy, with beta = 0.2 or without the correction."""
    wanted = {
        "no fusion (RAE)": None,
        "cross-attention": ("cross-attention", None),
        "softmax": ("depth-routed-softmax", 1.0),
        "energy": ("depth-routed", 1.0),
        "softmax + incremental": ("depth-routed-softmax", 0.2),
        "energy + incremental": ("depth-routed", 0.2),
    }
    for row in rows_of("3"):
        preset, _, phase = row.runs[0].partition("/")
        if wanted[row.name] is None:
            assert (preset, phase) == ("dinov2-b", "decoder")
            continue
        fusion, beta = wanted[row.name]
        assert phase == "fusion"
        assert PRESETS[preset].model["fusion"] == fusion
        if beta is not None:
            assert PRESETS[preset].model.get("fusion_beta", 0.2) == beta
        assert PRESETS[preset].stage1["fusion"].schedule == DINOV2_B.stage1["fusion"].schedule


def test_the_probes_of_table_3_stop_after_12_epochs_and_see_their_own_latents():
    for row in rows_of("3")[2:5]:
        tokenizer, name = row.runs
        probe = matrix.find_run(name).row
        assert probe.tokenizer == tokenizer
        assert probe.schedule.last_step == 12 * 1251
        assert probe.denoiser == DINOV2_B.stage2["class"].denoiser
        assert probe.schedule.lr_floor == 1  # so that stopping early is being in the middle of 80 epochs


def test_the_rows_of_table_9_have_its_sizes():
    """Appendix C with N layers in the place of L; our hidden norm adds 2 h a layer."""
    for row, scaled in zip(rows_of("9"), published.LAYERS, strict=True):
        preset, n, h = row.runs[0].partition("/")[0], scaled.setting, 3072
        with UnfilledMeta(), torch.device("meta"):
            fusion = AutoencoderDRoRAE(**{**PRESETS[preset].model, "decoder_num_layers": 1}).fusion_module
        trained = sum(p.numel() for p in fusion.parameters())
        assert trained == n * (2 * 768 * h + h + 768 + 2 * h) + 768 * n**2 + n
        assert trained / 1e6 == pytest.approx(scaled.parameters, rel=0.01, abs=0.1)
        assert trained == STORED["runs"][row.runs[0]]["trained"]


def test_runs_come_after_those_they_stand_on():
    names = list(STORED["runs"])
    assert len(set(names)) == len(names)
    for name, run in STORED["runs"].items():
        assert run["after"] == matrix.lineage(name)
        assert all(names.index(before) < names.index(name) for before in run["after"])
    assert matrix.lineage("dinov2-b-backbone/class") == [
        "dinov2-b/decoder",
        "dinov2-b/fusion",
        "dinov2-b-backbone/backbone",
    ]


DESCRIBED = {"dinov2-b/class", "dinov2-b-rae/text"}


def test_every_command_is_one_that_its_script_takes(capsys, tmp_path, monkeypatch):
    """Two denoisers are described for real; of the others, which take seconds each, what is asked for. Their numbers
    are those of slow tests."""
    asked, describe_denoiser = [], stage2.describe_denoiser
    monkeypatch.setattr(stage1, "describe", lambda name, preset, phase, gpus: asked.append(f"{name}/{phase.phase}"))

    def describe(name, run, *others):
        asked.append(f"{name}/{run}")
        return describe_denoiser(name, run, *others) if asked[-1] in DESCRIBED else ""

    monkeypatch.setattr(stage2, "describe_denoiser", describe)
    for name, run in STORED["runs"].items():
        module, *arguments = run["command"].split()
        {"train.stage1": stage1, "train.stage2": stage2}[module].main([*arguments, "--dry-run", "--out", str(tmp_path)])
        printed = capsys.readouterr().out
        row = matrix.find_run(name).row
        assert asked[-1] == name
        if name in DESCRIBED:
            assert f"{run['trained'] / 1e6:.2f}M parameters" in printed
            assert f"{run['flops'] / 1e9:.1f} GFLOP per latent" in printed
            assert f"{run['hours'] / 8:.0f}" in printed
            assert row.expected in printed
    assert set(asked) >= DESCRIBED
    assert not list(tmp_path.iterdir())


def test_hours_are_of_one_card():
    run = STORED["runs"]["dinov2-b/class"]
    schedule = DINOV2_B.stage2["class"].schedule
    assert run["hours"] == pytest.approx(8 * estimate_hours(run["flops"], schedule, 8), abs=0.06)
    # batch 1024, 80 epochs of 1,251 steps, in TF32 at 40 % of 494.5 TFLOP/s
    assert run["hours"] == pytest.approx(run["flops"] * 1024 * 80 * 1251 / (0.4 * 494.5e12) / 3600, rel=1e-3)


def test_a_stopped_run_costs_what_it_runs():
    whole, probe = (STORED["runs"][name] for name in ("dinov2-b/class", "dinov2-b-softmax/class"))
    assert probe["flops"] == whole["flops"]
    assert probe["hours"] == pytest.approx(whole["hours"] * 12 / 80, rel=2e-3)


# ---- the document -------------------------------------------------------------------------------------------------


def test_a_result_of_ours_takes_the_place_of_not_run(monkeypatch):
    assert {row["ours"] for table in STORED["tables"] for row in table["rows"]} == {"not run"}
    row = dataclasses.replace(DINOV2_B.stage1["fusion"], measured="rFID 0.48")
    monkeypatch.setitem(PRESETS, "dinov2-b", dataclasses.replace(DINOV2_B, stage1={**DINOV2_B.stage1, "fusion": row}))
    content = matrix.build_rows(matrix.stored_counts(STORED))
    assert [row["ours"] for row in content["tables"][4]["rows"]].count("rFID 0.48") == 1
    assert "**5 of 44 rows have been run.**" in matrix.document(content)


def test_the_document_says_each_row_once_with_its_numbers():
    text = matrix.TARGET.read_text(encoding="utf-8")
    for table in STORED["tables"]:
        part = text.partition(f"## {paper_rows.table_title(table)}\n")[2].partition("\n## ")[0]
        lines = [line for line in part.splitlines() if line.startswith("| ") and not line.startswith("| row")]
        assert len(lines) == len(table["rows"])
        for line, row in zip(lines, table["rows"], strict=True):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            assert cells[:3] == [row["name"], row["paper"], row["ours"]]
            assert re.findall(r"`python -m (train[^`]+)`", cells[3]) == [
                STORED["runs"][n]["command"] for n in row["runs"]
            ]


def test_the_shell_lines_train_each_run_once_and_normalise_each_latent_before():
    lines = matrix.commands(STORED)
    trained = [match[1] for line in lines if (match := re.search(r"-m (train\.stage[12] .*?) --data", line))]
    assert trained == [run["command"] for run in STORED["runs"].values()]
    for place, line in enumerate(lines):
        if "train.latent_stats" in line:
            tokenizer = re.search(r"runs/(\S+)/checkpoint", line)[1]
            command = STORED["runs"][tokenizer]["command"]
            assert any(command in before for before in lines[:place])
    wanted = {run.row.tokenizer for run in map(matrix.find_run, STORED["runs"]) if isinstance(run.row, Stage2Preset)}
    assert sum("train.latent_stats" in line for line in lines) == len(wanted)


def test_only_what_is_stale_is_counted_again(tmp_path, monkeypatch, capsys):
    counted = []
    monkeypatch.setattr(matrix, "count", lambda name: counted.append(name) or matrix.Count(1, 10**9, "new"))
    rows, document = tmp_path / "rows.json", tmp_path / "rows.md"
    stored = json.loads(json.dumps(STORED))
    stored["runs"]["dinov2-b-128/fusion"]["recipe"] = "old"
    rows.write_text(json.dumps(stored), encoding="utf-8")
    matrix.main(["--rows", str(rows), "--document", str(document)])
    assert counted == ["dinov2-b-128/fusion"]
    assert "dinov2-b-128/fusion: 0.0M, 1 GFLOP" in capsys.readouterr().out
    assert json.loads(rows.read_text(encoding="utf-8"))["runs"]["dinov2-b-128/fusion"]["flops"] == 10**9
    assert document.read_text(encoding="utf-8").startswith("# The paper's rows")
    matrix.main(["--rows", str(rows), "--document", str(document), "--all"])
    assert len(counted) == 1 + len(STORED["runs"])


def test_rows_that_cannot_be_read_are_none(tmp_path):
    assert paper_rows.read_rows(tmp_path / "none.json") is None
    for damaged in ("", "[]", "{}", '{"utilisation": "x", "runs": {}, "tables": []}'):
        (tmp_path / "rows.json").write_text(damaged)
        assert paper_rows.read_rows(tmp_path / "rows.json") is None


def test_the_readme_and_the_document_name_the_same_commands():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for run in ("decoder", "fusion", "finetune", "class", "class-guide", "text"):
        assert f"`{STORED['runs'][f'dinov2-b/{run}']['command']}`" in readme
