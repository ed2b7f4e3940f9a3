"""The study of this project as figures and text: read from ``assets/study``, never computed here.

``python -m train.study --report`` writes what is read. Marks of this project are open, published ones filled.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from drorae.bundled import ASSETS
from drorae.study import published
from drorae.study.charts import label_places, legend_above
from drorae.study.colours import OTHER, OURS, PAPER, STATED
from drorae.study.fits import magnitudes, refits
from drorae.study.plots import apply_style

if TYPE_CHECKING:
    import plotly.graph_objects as go  # which is loaded when a chart is drawn

FOLDER = ASSETS / "study"
SUMMARY, FITS, CLAIMS, DECODERS = "summary.csv", "fits.csv", "claims.csv", "decoders.csv"
PROTOCOL = "protocol"  # key of the sentence that says how all was measured
RFID_OF_RAE = published.ROUTE_SCORES[0].rfid
LATENT_TABLE, LOSS = "generation", "probe"  # the table of latents, and the loss of the denoiser that learned them
SAME_LATENT = ("rae-retrained", "rae-other-seeds", "three-phases")  # as another row of that table has
LOSS_OF_RAE = next(each.loss for each in published.VARIANTS if each.loss and each.rfid == RFID_OF_RAE)
LABELS = {
    "scaling": "Distance against the size of the fusion",
    "rules": "What each change does",
    "generation": "How hard a latent is to learn against how well it rebuilds",
}
CsvRows = list[dict[str, str]]


class OwnStudy(NamedTuple):
    """What the report left: means with intervals, lines, sentences, decoders that painted one set of samples. Numbers
    are texts, empty where there is none."""

    summary: CsvRows
    fits: CsvRows
    claims: CsvRows
    decoders: CsvRows


def read_study(folder: Path = FOLDER) -> OwnStudy | None:
    """The study's results; ``None`` where there are none that can be read."""
    try:
        parts = []
        for name in (SUMMARY, FITS, CLAIMS, DECODERS):
            with (folder / name).open(encoding="utf-8", newline="") as file:
                parts.append(list(csv.DictReader(file)))
        study = OwnStudy(*parts)
        # everything that is read later is looked at once
        for figure in (relative_points(study, "scaling", "width-"), relative_points(study, "layers", "deepest-")):
            assert all(len(point) == 4 for point in figure)
        trade_points(study), decoder_rows(study)
        return study if study.summary and {"key", "sentence"} <= set(study.claims[0]) else None
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None


def study_text(study: OwnStudy) -> str:
    """How it was measured, and a sentence for each claim, as Markdown."""
    protocol = [row["sentence"] for row in study.claims if row["key"] == PROTOCOL]
    claims = [f"- {row['sentence']}" for row in study.claims if row["key"] != PROTOCOL]
    return "\n\n".join([*protocol, "\n".join(claims)])


def bases(study: OwnStudy) -> list[str]:
    """The base models, in order."""
    return list(dict.fromkeys(row["base"] for row in study.summary))


def axis_title(study: OwnStudy) -> str:
    """Name of the measure that decides."""
    return next((row["measure_title"] for row in study.summary if row["axis"] == "True"), "")


class Point(NamedTuple):
    """A row on a chart: size (parameters, or layers), the measure as a share of RAE's, and both ends of its interval
    (the mean itself where there is none)."""

    x: float
    y: float
    low: float
    high: float


def relative_points(study: OwnStudy, table: str, prefix: str, base: str | None = None) -> list[Point]:
    """The rows of a table whose names begin with ``prefix``, in order of size; none where RAE has no number."""
    base = base or (bases(study) or [""])[0]
    mine = [row for row in study.summary if (row["table"], row["base"], row["axis"]) == (table, base, "True")]
    alone = [float(row["mean"]) for row in mine if row["row"] == "rae"]
    points = []
    for row in mine:
        if not alone or not row["row"].startswith(prefix) or row["row"].endswith("-longer"):
            continue
        x = float(row["parameters"]) / 1e6 if table == "scaling" else float(row["count"])
        values = [float(row[key] or row["mean"]) / alone[0] for key in ("mean", "low", "high")]
        points.append(Point(x, *values))
    return sorted(points)


def scaling_figure(study: OwnStudy) -> go.Figure:
    """Distance against the size of the fusion, by width and by layers, as a share of RAE's; the paper's beside ours."""
    from plotly.subplots import make_subplots

    figure = make_subplots(1, 2, horizontal_spacing=0.1, shared_yaxes=True, subplot_titles=("by width", "by layers"))
    fits = refits()
    for column, (table, rows, name, fit, xs) in enumerate(
        (
            ("scaling", published.WIDTHS, "table 8", fits.widths, magnitudes(published.WIDTHS)),
            ("layers", published.LAYERS, "table 9", fits.layers, np.array([row.setting for row in published.LAYERS])),
        ),
        1,
    ):
        _add_line(
            figure, chart_sizes(xs, column), fit.at(xs) / RFID_OF_RAE, "refit of the paper's points", PAPER, column
        )
        figure.add_scatter(
            x=[row.parameters if column == 1 else row.setting for row in rows],
            y=[row.rfid / RFID_OF_RAE for row in rows],
            mode="markers",
            marker={"color": PAPER, "size": 9},
            hovertemplate="%{x}: %{y:.3f} of RAE's rFID<extra>the paper, " + name + "</extra>",
            name="the paper: rFID",
            legendgroup="paper",
            showlegend=column == 1,
            row=1,
            col=column,
        )
        kinds = (
            [("width-", "diamond-open")]
            if column == 1
            else [("deepest-", "diamond-open"), ("shallowest-", "square-open")]
        )
        for base, colour in zip(bases(study), (OURS, OTHER), strict=False):
            line = fit_values(study, {1: "widths", 2: "layers"}[column], base)
            if line is not None:
                _add_line(figure, chart_sizes(line[0], column), line[1], f"{base}: least squares", colour, column)
            for prefix, symbol in kinds:
                points = relative_points(study, table, prefix, base)
                if points:
                    words = f"{base}{', shallowest layers' if prefix == 'shallowest-' else ''}: {axis_title(study)}"
                    _add_points(figure, points, words, colour, symbol, column, prefix != "deepest-")
    figure.update_xaxes(type="log", title="millions of parameters", row=1, col=1)
    figure.update_xaxes(title="layers fused", row=1, col=2)
    figure.update_yaxes(title="share of RAE's distance", row=1, col=1)
    return legend_above(apply_style(figure, 420), titles=True)


def chart_sizes(sizes: np.ndarray, column: int) -> np.ndarray:
    """Sizes as the charts have them: millions of parameters instead of their log10, or layers."""
    return 10.0**sizes / 1e6 if column == 1 else sizes


def fit_values(study: OwnStudy, name: str, base: str) -> tuple[np.ndarray, np.ndarray] | None:
    """A fitted line at the rows it was fitted to: their sizes, and its values as shares of RAE's distance; ``None``
    where none was fitted."""
    rows = [row for row in study.fits if row["fit"].startswith(name) and row.get("base") == base]
    alone = [
        float(row["mean"])
        for row in study.summary
        if rows and (row["base"], row["row"], row["measure"]) == (base, "rae", rows[0]["measure"])
    ]
    if not alone:
        return None
    x = np.array([float(row["x"]) for row in rows])
    return x, (float(rows[0]["slope"]) * x + float(rows[0]["intercept"])) / alone[0]


def _add_line(figure: go.Figure, x: np.ndarray, y: np.ndarray, name: str, colour: str, column: int) -> None:
    figure.add_scatter(
        x=x.tolist(),
        y=y.tolist(),
        mode="lines",
        line={"color": colour, "width": 1.5, "dash": "solid" if colour == PAPER else "dot"},
        hovertemplate="%{y:.3f}<extra>" + name + "</extra>",
        name=name,
        showlegend=False,
        row=1,
        col=column,
    )


def _add_points(
    figure: go.Figure, points: Sequence[Point], name: str, colour: str, symbol: str, column: int, legend: bool
) -> None:
    figure.add_scatter(
        x=[point.x for point in points],
        y=[point.y for point in points],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [point.high - point.y for point in points],
            "arrayminus": [point.y - point.low for point in points],
            "color": colour,
            "thickness": 1.2,
        },
        mode="markers",
        marker={"color": colour, "size": 11, "symbol": symbol, "line": {"width": 2}},
        hovertemplate="%{x:.3g}: %{y:.3f} of RAE's<extra>" + name + "</extra>",
        name=name,
        legendgroup=name,
        showlegend=legend,
        row=1,
        col=column,
    )


def rules_figure(study: OwnStudy) -> go.Figure:
    """What each change does to the measure that decides, with its interval, against the row it is compared with."""
    import plotly.graph_objects as go

    rows = [row for row in study.summary if row["table"] == "rules" and row["axis"] == "True" and row["difference"]]
    names = [f"{row['row']} − {row['compared_with']}" for row in rows]
    means = [float(row["difference"]) for row in rows]
    ends = [[float(row[key] or row["difference"]) for row in rows] for key in ("difference_low", "difference_high")]
    figure = go.Figure(
        go.Scatter(
            x=means,
            y=names,
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [high - mean for high, mean in zip(ends[1], means, strict=True)],
                "arrayminus": [mean - low for low, mean in zip(ends[0], means, strict=True)],
                "color": OURS,
                "thickness": 1.2,
            },
            mode="markers",
            marker={"color": OURS, "size": 11, "symbol": "diamond-open", "line": {"width": 2}},
            hovertemplate="%{y}: %{x:.3g}<extra>measured here</extra>",
            name="measured here",
        )
    )
    figure.add_vline(0, line={"color": STATED, "width": 1.5, "dash": "dash"})
    figure.update_xaxes(title=f"difference in {axis_title(study)}")
    figure.update_yaxes(autorange="reversed")
    figure = apply_style(figure, 140 + 26 * max(1, len(rows)))
    return figure.update_layout(margin={"l": 230})


class Traded(NamedTuple):
    """A row on the chart of latents: distance (``x``) and the denoiser's loss (``y``), both as shares of RAE's, with
    both ends of their intervals (the mean itself where there is none)."""

    row: str
    x: Point
    y: Point


def trade_points(study: OwnStudy) -> list[Traded]:
    """The rows whose latents a denoiser has learned, each latent once; none where RAE's was not."""
    base = (bases(study) or [""])[0]
    mine = [row for row in study.summary if (row["table"], row["base"]) == (LATENT_TABLE, base)]
    axis = {row["row"]: row for row in mine if row["axis"] == "True"}
    loss = {row["row"]: row for row in mine if row["measure"] == LOSS}
    if "rae" not in axis or "rae" not in loss:
        return []
    same, found = {*SAME_LATENT, "beta-0.2" if "default" in loss else ""}, []
    for name in [name for name in loss if name in axis and name not in same]:
        ends = []
        for row, alone in ((axis[name], axis["rae"]), (loss[name], loss["rae"])):
            share = [float(row[key] or row["mean"]) / float(alone["mean"]) for key in ("mean", "low", "high")]
            ends.append(Point(0.0, *share))
        found.append(Traded(name, *ends))
    return found


def generation_figure(study: OwnStudy) -> go.Figure:
    """How hard a latent is to learn against how well it rebuilds, as shares of RAE's; the paper's beside ours."""
    import plotly.graph_objects as go

    ours = trade_points(study)
    papers = [(each.name, each.rfid / RFID_OF_RAE, each.loss / LOSS_OF_RAE) for each in published.VARIANTS if each.loss]
    points = {f"paper: {name}": (x, y) for name, x, y in papers} | {each.row: (each.x.y, each.y.y) for each in ours}
    spans = []
    for index, ends in enumerate(([p.x for p in ours], [p.y for p in ours])):
        values = [*(point[index] for point in points.values()), *(v for p in ends for v in (p.low, p.high))]
        room = 0.12 * (max(values) - min(values))
        spans.append({"range": [min(values) - room, max(values) + room]})
    places = label_places(points, spans)
    figure = go.Figure()
    figure.add_scatter(
        x=[x for _, x, _ in papers],
        y=[y for _, _, y in papers],
        mode="markers+text",
        text=[name for name, _, _ in papers],
        textposition=[places[f"paper: {name}"] for name, _, _ in papers],
        textfont={"size": 11, "color": PAPER},
        marker={"color": PAPER, "size": 9},
        hovertemplate="%{text}: %{y:.3g} of RAE's loss at %{x:.3g} of its rFID<extra>the paper, table 3</extra>",
        name="the paper: rFID, loss of its generator",
    )
    figure.add_scatter(
        x=[each.x.y for each in ours],
        y=[each.y.y for each in ours],
        error_x=_whiskers([each.x for each in ours]),
        error_y=_whiskers([each.y for each in ours]),
        mode="markers+text",
        text=[each.row for each in ours],
        textposition=[places[each.row] for each in ours],
        textfont={"size": 11, "color": OURS},
        marker={"color": OURS, "size": 11, "symbol": "diamond-open", "line": {"width": 2}},
        hovertemplate="%{text}: %{y:.3g} of RAE's loss at %{x:.3g} of its distance<extra>measured here</extra>",
        name=f"measured here: {axis_title(study)}, loss of the probe",
    )
    figure.update_xaxes(title="share of RAE's distance: left rebuilds better", **spans[0])
    figure.update_yaxes(title="share of RAE's loss: low is easier to learn", **spans[1])
    return legend_above(apply_style(figure, 460))


def _whiskers(points: Sequence[Point]) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [point.high - point.y for point in points],
        "arrayminus": [point.y - point.low for point in points],
        "color": OURS,
        "thickness": 1.2,
    }


LATENT_COLUMNS = (
    "probe",
    "viv",
    "variance_within",
    "covariance_rank",
    "same_class",
    "energy_25",
    "effective_rank",
)


def latent_rows(study: OwnStudy) -> tuple[list[str], list[list[str | None]]]:
    """Header and rows of the table of latents, mean ± half of the interval; no rows where none was measured."""
    mine = [row for row in study.summary if row["table"] == LATENT_TABLE]
    titles = {row["measure"]: row["measure_title"] for row in mine if row["measure"] in LATENT_COLUMNS}
    there = [name for name in LATENT_COLUMNS if name in titles]
    if LOSS not in there:
        return [], []
    rows: list[list[str | None]] = []
    for base, name in dict.fromkeys((row["base"], row["row"]) for row in mine):
        cells = {row["measure"]: row for row in mine if (row["base"], row["row"]) == (base, name)}
        rows.append([name, *(_mean_cell(cells.get(measure)) for measure in there)])
    return ["latent of (measured here)", *(titles[measure] for measure in there)], rows


def _mean_cell(row: dict[str, str] | None) -> str | None:
    if row is None:
        return None
    half = f" ± {float(row['high']) - float(row['mean']):.2g}" if row["high"] else ""
    return f"{float(row['mean']):.4g}{half}"


def decoder_rows(study: OwnStudy) -> tuple[list[str], list[list[str | None]]]:
    """Header and rows of the decoders that painted one set of samples; no rows where none did."""
    header = ["decoder (measured here)", "seed", "photos: FD above the first's", "samples: FD", "above the first's"]
    rows: list[list[str | None]] = []
    for row in study.decoders:
        if row["row"]:
            values = (_ends_cell(row, name) for name in ("rebuilt_difference", "samples_fd", "samples_difference"))
            rows.append([row["row"], row["seed"] or None, *values])
    return header, rows


def _ends_cell(row: dict[str, str], name: str) -> str | None:
    if not row[name]:
        return None
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    ends = f" [{float(low):.4g}, {float(high):.4g}]" if low and high else ""
    return f"{float(row[name]):.4g}{ends}"


FIGURES = {"scaling": scaling_figure, "rules": rules_figure, "generation": generation_figure}


def figure_names(study: OwnStudy) -> list[str]:
    """The figures that there are numbers for."""
    return [name for name in FIGURES if name != "generation" or trade_points(study)]


def figures(study: OwnStudy) -> dict[str, go.Figure]:
    """The figures of the study by name, those of :func:`figure_names`."""
    return {name: FIGURES[name](study) for name in figure_names(study)}
