"""The study's report on made-up tables whose answers are known."""

import re
import shutil
import xml.etree.ElementTree as ET

import gradio as gr
import numpy as np
import pyarrow.parquet
import pytest

from drorae.study import charts, own_study, published
from drorae.ui import study_tab
from train import study
from train.errors import RunError
from train.experiments.report import write_report
from train.experiments.rows import BASES, TABLES, rows_of
from train.experiments.statistics import CONFIRMED, CONTRADICTED, UNDECIDED, holm, student
from train.experiments.tables import COLUMNS, read_table, write_table

BASE = BASES["study"][0]


def planted(row, seed) -> float:
    """A distance: -20 for ten times the width, -1 for a layer, and what the rules do."""
    name, fusion = row.name, row.experiment.fusion
    noise = 0.1 * np.random.default_rng([seed, *name.encode()]).standard_normal()
    if name == "rae":
        return 150.0
    at = {
        "beta-1": 90.0,  # the correction costs reconstruction: confirmed
        "softmax-1": 85.0,  # without it a softmax is better: contradicted
        "softmax-0.2": 100.0 + [-5, 0, 5][seed],  # not decided
        "rae-retrained": 130.0,
        "rae-other-seeds": 150.0,
        "mean": 120.0,
        "three-phases": 60.0,
        "joint": 50.0,
    }
    if name in at:
        return at[name] + noise
    return 100 - 20 * np.log10(fusion.width / 768) - (len(fusion.layers) - 12) + noise


def records(table, measure="fd-mobilenetv2"):
    found = []
    for row in rows_of(table):
        for experiment in row.runs:
            one = experiment.canonical
            fusion = one.fusion
            record = dict.fromkeys(COLUMNS)
            record |= {"base": one.base, "row": row.name, "title": row.title, "compared_with": row.reference}
            record |= {"hash": one.hash, "seed": one.seed if one.trains else None, "phase": one.phase}
            record |= {"pictures": one.pictures, "parameters": 0, "seconds": 600.0, "measuring_seconds": 60.0}
            if fusion is not None:
                record |= {"layers": " ".join(map(str, fusion.layers)), "width": fusion.width, "beta": fusion.beta}
                record |= {"parameters": len(fusion.layers) * 385 * max(1, fusion.width)}
            value = planted(row, experiment.seed)
            record |= {"psnr": 30 - value / 10, "st-lpips": value / 300, measure: value}
            record |= {"cosine_final_base": 0.5 if row.name == "joint" else 0.9}
            record |= {"cosine_fused_base": -0.2 - 0.01 * experiment.seed if fusion is not None else None}
            record |= {"encoder": "e0", "decoder": "d0", "validation": "photos20", "photos": 1500, "size": 128}
            record |= {"data": "photos20:17638", "precision": "no", "devices": "CPU"} if one.trains else {}
            if table == "generation":
                record |= latent_numbers(row.name, value, experiment.seed) | painted(row.name, experiment.seed)
            found.append(record)
    return found


def latent_numbers(name, value, seed) -> dict:
    """A loss that rises by 1/1000 as the distance falls by 1, and a VIV that does not care."""
    loss = {"rae": 0.4, "rae-retrained": 0.4, "rae-other-seeds": 0.4, "budgets": 0.445}.get(name, 0.55 - value / 1000)
    names = ("variance_within", "covariance_rank", "same_class_5", "energy_25", "energy_50")
    viv = {"beta-0.1": 0.51, "beta-0.3": 0.49, "beta-0.5": 0.51, "beta-1": 0.49}.get(name, 0.5) + 0.001 * seed
    return dict.fromkeys(names, 0.5) | {"probe": loss, "viv": viv, "probe_recipe": "p0", "learned": 4000}


def ends(name, value, half) -> dict:
    return {name: value, f"{name}_low": value - half, f"{name}_high": value + half}


def painted(name, seed, samples=(30.0, 1.0), photos=(0.5, 2.0)) -> dict:
    """The first of two other decoders rebuilds as well (photos) and paints worse (samples), the second is undecided."""
    if name == "rae":
        return ends("samples_fd", 200.0, 9.0) | {"samples": 1500, "sampler": "s0"}
    if name == "rae-other-seeds":
        gap = ends("samples_difference", *samples) if seed == 1 else ends("samples_difference", 0.2, 1.0)
        more = gap | ends("rebuilt_difference", *photos)
        return more | ends("samples_fd", 200 + gap["samples_difference"], 9.0) | {"samples": 1500, "sampler": "s0"}
    return {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("study")
    for table in TABLES:
        write_table(records(table), place, table)
    write_report(place)
    return place


@pytest.fixture(scope="module")
def claims(folder):
    return {row["key"]: row for row in own_study.read_study(folder).claims}


@pytest.mark.parametrize(
    ("key", "said", "estimate"),
    [
        ("fusion", CONFIRMED, -50),
        ("depth", CONFIRMED, -11),
        ("correction", CONFIRMED, 10),
        ("signed-free", CONTRADICTED, 5),
        ("signed", UNDECIDED, 0),
        ("phase3", CONFIRMED, -40),
        ("method", CONFIRMED, -70),
        ("mean", CONFIRMED, -10),
        ("joint", CONFIRMED, -0.4),
        ("cosine", CONFIRMED, -0.21),
        ("widths", CONFIRMED, -20),
        ("layers", CONFIRMED, -1),
        ("cost-probe", CONFIRMED, -0.001),
        ("correction-probe", CONFIRMED, -0.01),
        ("joint-probe", CONFIRMED, 0.05),
        ("budgets-probe", CONFIRMED, -0.005),
        ("cost-viv", UNDECIDED, 0),
        ("decoders", CONFIRMED, 30),
        ("widths-2", CONFIRMED, -20),
        ("layers-2", CONFIRMED, -1),
    ],
)
def test_what_was_planted_is_found(claims, key, said, estimate):
    claim = claims[key]
    assert claim["verdict"] == said
    assert float(claim["estimate"]) == pytest.approx(
        estimate, abs=0.2 * abs(estimate) if 0 < abs(estimate) < 0.1 else 0.3
    )
    assert f"**{said}**" in claim["sentence"]
    if said == UNDECIDED:
        assert float(claim["low"]) < 0 < float(claim["high"])


def test_a_sentence_has_the_numbers_and_the_papers(claims):
    sentence = claims["correction"]["sentence"]
    assert "rFID 0.447 to 0.470" in sentence
    assert "FD-MobileNetV2 +10" in sentence or "FD-MobileNetV2 +9.9" in sentence
    assert "`beta-0.2` against `beta-1`, 3 seeds" in sentence
    assert "PSNR -1" in sentence or "PSNR -0.99" in sentence
    assert "7 rows of at least 3 seeds" in claims["widths"]["sentence"]
    # the paper's slope as a share of its RAE: -0.0565 / 0.57
    assert "RAE's distance -13.4%, the paper's -9.9%" in claims["widths"]["sentence"]


def test_the_protocol_names_weights_pictures_photos_and_what_stands_in(claims):
    text = claims[own_study.PROTOCOL]["sentence"]
    for part in (
        "encoder e0",
        "decoder of phase 1 d0",
        "132 runs but those of `rae-other-seeds`",
        "7,500",
        "recipe p0",
        "1,500 photos of photos20",
        "is not rFID",
    ):
        assert part in text


def test_longer_runs_keep_the_planted_order(claims):
    assert (
        "4 runs on 3 times as many pictures come in the same order (Kendall's tau 1.00" in claims["longer"]["sentence"]
    )


def test_the_paper_s_axis_is_taken_where_every_run_has_it(tmp_path):
    write_table(records("rules", "rfid"), tmp_path, "rules")
    write_report(tmp_path)
    rows = {row["key"]: row for row in own_study.read_study(tmp_path).claims}
    assert rows["correction"]["measure"] == "rfid"
    assert "is not rFID" not in rows[own_study.PROTOCOL]["sentence"]


def test_rows_that_are_not_there_are_not_run(tmp_path):
    some = [record for record in records("rules") if record["row"] != "softmax-1"]
    write_table(some, tmp_path, "rules")
    write_report(tmp_path)
    rows = {row["key"]: row for row in own_study.read_study(tmp_path).claims}
    assert rows["signed-free"]["verdict"] == rows["widths"]["verdict"] == "not run"
    assert "it takes `beta-1` against `softmax-1`" in rows["signed-free"]["sentence"]


def test_one_seed_decides_nothing(tmp_path):
    write_table([record for record in records("rules") if record["seed"] in (None, 0)], tmp_path, "rules")
    write_report(tmp_path)
    rows = {row["key"]: row for row in own_study.read_study(tmp_path).claims}
    assert rows["method"]["verdict"] == UNDECIDED
    assert rows["method"]["sentence"].endswith("one seed decides nothing.")


def test_the_report_follows_from_the_tables_alone(folder, tmp_path, capsys):
    for table in TABLES:
        shutil.copy(folder / f"{table}.csv", tmp_path)
    study.main(["--report", "--to", str(tmp_path)])
    made = sorted(file.name for file in tmp_path.iterdir())
    assert made == sorted(file.name for file in folder.iterdir() if file.suffix != ".parquet")
    for name in made:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name
    assert capsys.readouterr().out.count("**") == 2 * 21


def test_a_table_is_the_same_in_both_formats(folder):
    for table in TABLES:
        rows = read_table(folder, table)
        assert rows == pyarrow.parquet.read_table(folder / f"{table}.parquet").to_pylist()
        assert rows == [{**record} for record in records(table)]


def test_the_summary_has_students_t_and_holms_p(folder):
    rows = [row for row in own_study.read_study(folder).summary if row["table"] == "rules" and row["axis"] == "True"]
    tested = [row for row in rows if row["p"]]
    assert [float(row["holm"]) for row in tested] == pytest.approx(holm([float(row["p"]) for row in tested]))
    mean = next(row for row in rows if row["row"] == "mean")
    values = [r["fd-mobilenetv2"] for r in records("rules") if r["row"] == "mean"]
    assert (float(mean["mean"]), float(mean["low"])) == pytest.approx(student(values)[:2])
    default = next(row for row in rows if row["row"] == "beta-0.2")
    assert default["compared_with"] == "default"
    assert default["difference"] == ""  # another name of the same runs


def test_figures_show_ours_open_and_the_papers_filled(folder):
    figure = own_study.figures(own_study.read_study(folder))["scaling"]
    marks = [trace for trace in figure.data if trace.mode == "markers"]
    paper = [trace for trace in marks if trace.marker.symbol is None]
    assert [list(trace.y) for trace in paper] == [
        pytest.approx([row.rfid / 0.57 for row in rows]) for rows in (published.WIDTHS, published.LAYERS)
    ]
    ours = [trace for trace in marks if trace.marker.symbol]
    assert all(trace.marker.symbol.endswith("-open") for trace in ours)
    # both encoders by width; then the deepest layers of both, and the first one's shallowest
    assert [len(trace.x) for trace in ours] == [7, 3, 12, 12, 4]
    widest = ours[0].y[-1] * 150
    assert widest == pytest.approx(100 - 20 * np.log10(2), abs=0.2)
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    assert [(trace.line.dash, len(trace.x)) for trace in lines] == [
        ("solid", 8),
        ("dot", 7),
        ("dot", 3),
        ("solid", 12),
        ("dot", 12),
        ("dot", 4),
    ]
    planted_at_widest = (100 - 20 * np.log10(2)) / 150
    assert (lines[1].x[-1], lines[1].y[-1]) == pytest.approx((ours[0].x[-1], planted_at_widest), rel=2e-3)


def test_latents_stand_beside_the_papers_fusions(folder):
    """Shares of RAE's distance and loss, ours open and with intervals, every latent once."""
    figure = own_study.figures(own_study.read_study(folder))["generation"]
    paper, ours = figure.data
    assert paper.marker.symbol is None
    assert ours.marker.symbol == "diamond-open"
    assert dict(zip(paper.text, paper.y, strict=True)) == pytest.approx(
        {each.name: each.loss / 0.43 for each in published.VARIANTS if each.loss}
    )
    assert set(ours.text) == {
        "rae", "beta-0.1", "default", "beta-0.3", "beta-0.5", "beta-1", "softmax-0.2", "softmax-1", "router-deepest",
        "budgets", "mean", "joint",
    }  # fmt: skip
    at = dict(zip(ours.text, zip(ours.x, ours.y, strict=True), strict=True))
    assert at["rae"] == (1, 1)
    assert at["joint"] == pytest.approx((50 / 150, 0.5 / 0.4), abs=2e-3)
    joint = ours.text.index("joint")
    values = [record["fd-mobilenetv2"] / 150 for record in records("generation") if record["row"] == "joint"]
    assert ours.error_x.array[joint] == pytest.approx(student(values).high - np.mean(values))
    names = (folder / "generation.svg").read_text()
    assert all(f">{name}</text>" in names for name in (*ours.text, *paper.text))


def test_a_study_without_latents_has_no_chart_of_them(tmp_path):
    write_table(records("rules"), tmp_path, "rules")
    write_report(tmp_path)
    study_ = own_study.read_study(tmp_path)
    assert list(own_study.figures(study_)) == own_study.figure_names(study_) == ["scaling", "rules"]
    assert own_study.latent_rows(study_) == ([], [])
    assert own_study.decoder_rows(study_)[1] == []
    rows = {row["key"]: row for row in study_.claims}
    assert {rows[key]["verdict"] for key in ("cost-probe", "cost-viv", "joint-probe", "decoders")} == {"not run"}
    assert "samples through the decoders of `rae-other-seeds`" in rows["decoders"]["sentence"]


@pytest.mark.parametrize(
    ("samples", "photos", "said", "words"),
    [
        ((30.0, 1.0), (0.5, 2.0), CONFIRMED, "samples +30 [+29, +31], photos +0.5 [-1.5, +2.5]"),
        ((0.5, 1.0), (0.5, 2.0), UNDECIDED, "samples +0.5 [-0.5, +1.5]"),
        ((30.0, 1.0), (9.0, 2.0), UNDECIDED, "none of the decoders of other seeds rebuilds equally well"),
        ((-30.0, 1.0), (0.5, 2.0), CONTRADICTED, "samples -30 [-31, -29]"),
    ],
)
def test_the_verdict_on_decoders_goes_by_both_intervals(tmp_path, samples, photos, said, words):
    found = records("generation")
    for record in found:
        if record["row"] == "rae-other-seeds":
            record |= painted("rae-other-seeds", 1, samples, photos)
    write_table(found, tmp_path, "generation")
    write_report(tmp_path)
    row = next(row for row in own_study.read_study(tmp_path).claims if row["key"] == "decoders")
    assert row["verdict"] == said
    assert words in row["sentence"]
    assert "1,500 samples of one denoiser" in row["sentence"]


def test_the_report_lists_the_decoders(folder):
    text = (folder / "README.md").read_text()
    assert "The same 1,500 samples through decoders of the last layer's latent:" in text
    line = next(line for line in text.splitlines() if "`rae-other-seeds`: RAE, phase 1 from other seeds | 1 |" in line)
    assert line.endswith("| 0.5 [-1.5, 2.5] | 230 [221, 239] | 30 [29, 31] |")
    header, rows = own_study.decoder_rows(own_study.read_study(folder))
    assert len(header) == 5
    assert rows[1] == ["rae-other-seeds", "1", "0.5 [-1.5, 2.5]", "230 [221, 239]", "30 [29, 31]"]


def test_latents_of_other_probes_are_not_compared(tmp_path):
    found = records("generation")
    found[-1]["probe_recipe"] = "p1"
    write_table(found, tmp_path, "generation")
    with pytest.raises(RunError, match="differ in probe_recipe \\(p0, p1\\)"):
        write_report(tmp_path)


def test_a_figure_file_has_every_mark_and_interval(folder):
    """The SVG beside the plotly figure that it was made of."""
    for name, figure in own_study.figures(own_study.read_study(folder)).items():
        tree = ET.fromstring((folder / f"{name}.svg").read_text())
        text = ET.tostring(tree, encoding="unicode")
        marks = sum(len(trace.x) for trace in figure.data if "markers" in trace.mode)
        assert text.count("polyline") == sum(trace.mode == "lines" for trace in figure.data)
        bars = sum(len(trace.x) for trace in figure.data if trace.error_x.array is not None)
        bars += sum(len(trace.x) for trace in figure.data if trace.error_y.array is not None)
        several = len(figure.data) > 1  # plotly then names those, too, of which nothing is said
        in_legend = len({t.name for t in figure.data if t.showlegend or (several and t.showlegend is None)})
        assert len(re.findall(r"translate\([\d.-]+ [\d.-]+\)\" d=|<ns0:circle|<circle", text)) == marks + in_legend
        coloured = re.findall(r'd="M[\d.-]+ [\d.-]+[HV][\d.-]+" stroke="#(?!dcdcd8|15171a)', text)
        assert len(coloured) == bars


def test_what_cannot_be_compared_is_refused(tmp_path):
    rows = records("rules")
    rows[-1]["encoder"] = "e1"
    write_table(rows, tmp_path, "rules")
    with pytest.raises(RunError, match="differ in encoder \\(e0, e1\\)"):
        write_report(tmp_path)


def test_tables_that_are_not_there_or_not_tables_are_said(tmp_path):
    with pytest.raises(RunError, match="no table of the study"):
        write_report(tmp_path)
    (tmp_path / "rules.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RunError, match="is not a table of the study"):
        write_report(tmp_path)


def test_a_page_without_a_study_has_none(tmp_path):
    assert own_study.read_study(tmp_path) is None
    (tmp_path / own_study.SUMMARY).write_text("row\n")
    assert own_study.read_study(tmp_path) is None


def test_the_page_shows_results_where_there_are_some(folder, monkeypatch):
    """As text and as charts, in as many places as are drawn; none without them."""
    without = len(study_tab.all_charts(next(iter(charts.PLANES)), None))
    found = own_study.read_study(folder)
    monkeypatch.setattr(study_tab, "results", lambda: found)
    drawn = study_tab.all_charts(next(iter(charts.PLANES)), None)
    assert len(drawn) == without + len(own_study.FIGURES)
    with gr.Blocks() as demo:
        tab = study_tab.build(None)
    assert len(tab.fixed) == len(drawn) - 2
    texts = [block.value for block in demo.blocks.values() if isinstance(block, gr.Markdown)]
    report = next(text for text in texts if "a study of small models" in text)
    assert all(claim["sentence"] in report for claim in found.claims)
    numbers = next(block.value for block in demo.blocks.values() if block.elem_id == "study-results-latents")
    loss = next(float(row["mean"]) for row in found.summary if (row["row"], row["measure"]) == ("joint", "probe"))
    assert f"| joint | {loss:.4g} ± " in numbers
    assert "| rae-other-seeds | 1 | 0.5 [-1.5, 2.5] | 230 [221, 239] | 30 [29, 31] |" in numbers
