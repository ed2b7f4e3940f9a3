"""The scaling study's fits against scipy and the numbers others derived, and the charts against the published rows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import linregress

from drorae.bundled import ASSETS
from drorae.study import charts, paper_rows, published
from drorae.study.fits import MEASURED, least_squares, magnitudes, read_measurements, refits
from drorae.ui import study_tab as tab


def test_a_fit_is_scipys():
    rng = np.random.default_rng(0)
    x = rng.uniform(6, 8, 20)
    y = 2 - 0.3 * x + 0.01 * rng.standard_normal(20)
    ours, theirs = least_squares(x, y), linregress(x, y)
    assert ours == pytest.approx((theirs.slope, theirs.intercept, theirs.rvalue**2))
    assert ours.at([0.0, 1.0]) == pytest.approx([theirs.intercept, theirs.intercept + theirs.slope])


def test_the_refits_are_those_of_the_tables():
    fits = refits()
    # to the two or three digits that the tables' rounding of sizes leaves
    assert fits.widths == pytest.approx((-0.0563, 0.919, 0.860), rel=5e-3)
    assert (fits.layers.slope, fits.layers.r2) == pytest.approx((-6.17e-3, 0.484), rel=2e-3)
    assert fits.unified == pytest.approx((-0.0582, 0.945, 0.581), rel=5e-3)


def test_the_stated_intercept_misses_the_papers_own_point():
    slope, intercept, _ = published.STATED_WIDTH_FIT
    default = next(row for row in published.WIDTHS if row.setting == 3072)
    stated = slope * magnitudes([default])[0] + intercept
    assert stated == pytest.approx(0.520, abs=5e-4)
    assert default.rfid == 0.471
    text = tab.scaling_table()
    assert "| h = 3072 | 56.7 | 0.471 | -0.011 | -0.049 |" in text


def test_the_chart_shows_every_row_and_residual():
    figure = charts.scaling()
    marks = [trace for trace in figure.data if trace.type == "scatter" and trace.mode == "markers"]
    assert [list(trace.y) for trace in marks] == [
        [row.rfid for row in rows] for rows in (published.WIDTHS, published.LAYERS)
    ]
    bars, lines = (
        [t for t in figure.data if t.type == "bar"],
        [t for t in figure.data if t.name == "refit from the tables"],
    )
    for mark, bar, line in zip(marks, bars, lines, strict=True):
        assert np.array(mark.y) == pytest.approx(np.array(line.y) + np.array(bar.y))
        assert sum(bar.y) == pytest.approx(0, abs=1e-9)  # of a line with an intercept


@pytest.mark.parametrize("plane", charts.PLANES)
def test_a_plane_has_everyone_who_published_both_numbers(plane):
    x, y = charts.PLANES[plane]
    figure = charts.peers(plane, None)
    shown = {
        name: (a, b) for trace in figure.data[:-1] for name, a, b in zip(trace.text, trace.x, trace.y, strict=True)
    }
    assert shown == {
        peer.name: (getattr(peer, x), getattr(peer, y))
        for peer in published.PEERS
        if None not in (getattr(peer, x), getattr(peer, y))
    }
    assert list(figure.data[-1].x) == [getattr(route, x) for route in published.ROUTE_SCORES]
    squares = {name for trace in figure.data[:-1] if trace.marker.symbol == "square" for name in trace.text}
    behind = {"gfid": "epochs", "guided": "guided_epochs"}.get(y)
    known = {peer.name: peer for peer in published.PEERS if peer.name in shown}
    assert squares == {name for name, peer in known.items() if behind and getattr(peer, behind) != 80}


def test_what_was_measured_here_is_drawn_otherwise():
    own = read_measurements(ASSETS / "drorae-tiny")
    routes = json.loads((ASSETS / "drorae-tiny" / MEASURED).read_text())["routes"]
    paper, mine = charts.phases(own).data[:2]
    assert (paper.marker.symbol or "circle") == "circle"
    assert mine.marker.symbol == "diamond-open"
    assert list(mine.y) == [routes[key]["psnr"] for key in ("rae", "phase2", "drorae")]
    assert paper.marker.color != mine.marker.color
    lines = [shape.x0 for shape in charts.peers("PSNR and rFID", own).layout.shapes]
    assert lines == list(mine.y)
    assert f"{routes['drorae']['psnr']:.2f}" in tab.phases_table(own)
    assert len(charts.phases(None).data) == 2  # of the paper alone


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"routes": 1}', '{"routes": {"rae": {}}, "checkpoint": "x"}'])
def test_measurements_that_cannot_be_read_are_none(tmp_path, content):
    assert read_measurements(tmp_path) is None
    (tmp_path / MEASURED).write_text(content)
    assert read_measurements(tmp_path) is None
    assert "no measurements beside" in tab.phases_text(None)


def test_names_from_a_checkpoint_are_text():
    own = read_measurements(ASSETS / "drorae-tiny")._replace(
        name="<img src=x onerror=alert(1)> [a](javascript:b) | `c`"
    )
    for text in (tab.phases_text(own), tab.phases_table(own)):
        assert "<img" not in text
        assert "](javascript" not in text
    assert tab.phases_table(own).count("\n| ") == 7  # a pipe in the name adds no cell


def test_a_command_can_be_copied():
    own = read_measurements(ASSETS / "drorae-tiny")._replace(
        name="my_model_v2", command="python -m train.evaluate my_model_v2"
    )
    assert "`my_model_v2`" in tab.phases_text(own)
    command = "<span>python</span> <span>-m</span> <span>train.evaluate</span> <span>my_model_v2</span>"
    assert f'<code class="command">{command}</code>' in tab.phases_text(own)


@pytest.mark.parametrize("plane", charts.PLANES)
def test_no_name_in_a_plane_lies_on_another_or_on_a_mark(plane):
    figure = charts.peers(plane, None)
    axes = [figure.layout.xaxis, figure.layout.yaxis]
    middles, boxes = [], []
    for trace in figure.data:
        for name, place, *values in zip(trace.text, trace.textposition, trace.x, trace.y, strict=True):
            shares = []
            for value, axis in zip(values, axes, strict=True):
                low, high = axis.range
                shares.append(((np.log10(value) if axis.type == "log" else value) - low) / (high - low))
            x, y = shares[0] * 800, (1 - shares[1]) * 400
            vertical, horizontal = place.split()
            left = x + {"left": -6 * len(name) - 6, "center": -3 * len(name), "right": 6}[horizontal]
            top = y + {"top": -18, "middle": -6, "bottom": 6}[vertical]
            middles.append((x, y))
            boxes.append((left, top, left + 6 * len(name), top + 12))
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            assert min(one[2], other[2]) <= max(one[0], other[0]) or min(one[3], other[3]) <= max(one[1], other[1])
        assert not any(one[0] < x < one[2] and one[1] < y < one[3] for x, y in middles)


def test_every_peer_has_a_source_that_can_be_followed():
    text = tab.peers_table()
    assert "| FuseReg | [arXiv 2609.31620](https://arxiv.org/abs/2609.31620) | – | – | 2.21 (not stated) | – |" in text
    card = "[model card Hongyang-Du/FuseLift](https://huggingface.co/Hongyang-Du/FuseLift)"
    assert f"| FuseLift | {card} | – | – | – | 0.98 (80) |" in text
    for peer in published.PEERS:
        assert f"| {peer.name} | {tab.link(peer.source)} |" in text
    labels = [
        row[0] for trace in charts.peers("rFID and gFID with guidance", None).data[:-1] for row in trace.customdata
    ]
    assert labels
    assert all(label.startswith(("arXiv 2", "model card ")) for label in labels)


def test_scale_rae_is_text_with_its_source():
    assert "[arXiv 2601.16208](https://arxiv.org/abs/2601.16208)" in tab.GENEVAL_TEXT
    assert not any("Scale-RAE" in peer.name for peer in published.PEERS)


def test_the_matrix_on_the_page_has_every_row_and_command():
    matrix = paper_rows.read_rows()
    assert "**0 of 44 rows have been run.**" in tab.rows_text(matrix)
    assert "at 40% of its peak" in " ".join(tab.rows_text(matrix).split())
    for table in matrix["tables"]:
        lines = tab.rows_table(table["rows"], matrix["runs"]).splitlines()[2:]
        assert len(lines) == len(table["rows"])
        for line, row in zip(lines, table["rows"], strict=True):
            assert f"| {row['paper']} | {row['ours']} |" in line
            assert line.startswith(f"| {row['name']}")
            for name in row["runs"]:
                words = f"python -m {matrix['runs'][name]['command']}".split()
                spans = " ".join(f"<span>{word}</span>" for word in words)
                assert f"{spans}</code> {matrix['runs'][name]['hours']:,.0f}&nbsp;h" in line
            assert line.endswith(" – |") == (not row["runs"])


def test_no_mark_of_geneval_hides_another():
    places = [(x, trace.name) for trace in charts.geneval().data for x in trace.x]
    assert len({x for x, _ in places}) == len(places)
