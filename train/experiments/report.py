"""The study's report, from its tables alone: means with intervals, lines, sentences, figures and a README."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from importlib.util import find_spec
from io import StringIO
from operator import itemgetter
from pathlib import Path
from typing import Any

from drorae.study.own_study import CLAIMS, DECODERS, FITS, LABELS, PROTOCOL, SUMMARY, figures, read_study
from train.errors import RunError, writing
from train.experiments.claims import (
    TITLES,
    Outcome,
    Tables,
    all_records,
    axis_of,
    by_seed,
    claims_of,
    interval,
    judge,
    painters,
    seed_differences,
    signed_text,
)
from train.experiments.drawings import figure_svg
from train.experiments.experiment import AGAIN
from train.experiments.generation import OF_LATENT, OF_SAMPLES
from train.experiments.rows import BASES, GENERATION, LONG, OTHER_SEEDS, TABLES
from train.experiments.statistics import Estimate, holm, same_order, student
from train.experiments.tables import LATENT, MEASURES, Record, check_alike, read_table

README = "README.md"
HEADINGS = {
    "scaling": "Width of the experts",
    "layers": "Which layers",
    "rules": "How layers are weighted, and what trains",
    "generation": "What becomes of the latent",
}
ReportLine = dict[str, Any]


def write_report(folder: Path) -> str:
    """Write everything that follows from the tables in ``folder`` beside them; what was found, as text.

    Raises:
        RunError: there is no table, or no plotly.
    """
    if find_spec("plotly") is None:
        raise RunError("the report draws its figures with plotly, which is not installed; pip install plotly")
    tables = {name: records for name in TABLES if (records := read_table(folder, name))}
    if not tables:
        raise RunError(f"there is no table of the study in '{folder}'; run python -m train.study first, or give --to.")
    check_alike([record for table in tables.values() for record in table], folder)
    bases = bases_of(tables)
    records = all_records(tables)
    outcomes = [judge(claim, records, bases) for claim in claims_of(bases)]
    summary = summarise(tables)
    with writing(folder):
        write_csv(folder / SUMMARY, summary)
        write_csv(folder / FITS, describe_lines(outcomes))
        write_csv(folder / CLAIMS, describe_claims(outcomes, records, bases))
        write_csv(folder / DECODERS, describe_decoders(records, bases))
        study = read_study(folder)
        if study is None:
            raise RunError(f"the report in '{folder}' cannot be read back; remove {SUMMARY} and {CLAIMS} there.")
        names = []
        for name, figure in figures(study).items():
            (folder / f"{name}.svg").write_text(figure_svg(figure, LABELS[name]), encoding="utf-8")
            names.append((name, LABELS[name]))
        (folder / README).write_text(readme(tables, summary, outcomes, names, bases), encoding="utf-8")
    return "\n".join(outcome.sentence for outcome in outcomes)


def bases_of(tables: Tables) -> str:
    """The pair of base models that the tables are of.

    Raises:
        RunError: they are of none, or of several.
    """
    found = {record["base"] for table in tables.values() for record in table}
    for name, pair in BASES.items():
        if found <= {base.name for base in pair}:
            return name
    raise RunError(f"the tables are of several studies ({', '.join(sorted(found))}); keep one, or give another --to.")


def summarise(tables: Tables) -> list[ReportLine]:
    """One line per table, base, row and measure: the mean over seeds with its interval, and the difference to the row
    it is compared with. Holm's adjustment is over the rows of a table, base and measure."""
    axis, lines = axis_of(all_records(tables)), []
    for table, records in tables.items():
        for base in dict.fromkeys(record["base"] for record in records):
            names = dict.fromkeys(record["row"] for record in records if record["base"] == base)
            for measure in (*MEASURES, *LATENT, *OF_LATENT):
                found = [_line(table, records, base, name, measure, axis) for name in names]
                some = [line for line in found if line is not None]
                tested = [line for line in some if line["p"] is not None]
                for line, adjusted in zip(tested, holm([line["p"] for line in tested]), strict=True):
                    line["holm"] = adjusted
                lines += some
    return lines


def _line(table: str, records: Sequence[Record], base: str, name: str, measure: str, axis: str) -> ReportLine | None:
    values = by_seed(records, base, name, measure)
    if values is None:
        return None
    mine = [record for record in records if (record["base"], record["row"]) == (base, name)]
    first = mine[0]
    estimate = student(list(values.values())) if isinstance(values, dict) else student([values])
    other = first["compared_with"]
    hashes = [{r["hash"] for r in records if (r["base"], r["row"]) == (base, one)} for one in (name, other)]
    equal = bool(hashes[0] & hashes[1])  # another name for the same runs
    change = seed_differences(records, base, name, other, measure) if other and not equal else None
    return {
        "table": table,
        "base": base,
        "row": name,
        "title": first["title"],
        "parameters": first["parameters"],
        "count": len((first["layers"] or "").split()),
        "pictures": first["pictures"],
        "measure": measure,
        "measure_title": TITLES[measure],
        "axis": measure == axis,
        **_estimate(estimate),
        "compared_with": other,
        "difference": change and change.mean,
        "difference_low": change and change.low,
        "difference_high": change and change.high,
        "p": change and change.p,
        "holm": None,
    }


def _estimate(estimate: Estimate) -> ReportLine:
    return {"seeds": estimate.seeds, "mean": estimate.mean, "low": estimate.low, "high": estimate.high}


def describe_lines(outcomes: Sequence[Outcome]) -> list[ReportLine]:
    """The fitted lines, one line per row of each: with the residual of the row, and the slope without it."""
    lines: list[ReportLine] = []
    for outcome in outcomes:
        if outcome.fitted is None:
            continue
        line, rows, paper = outcome.fitted
        for row, residual, without in zip(rows, line.residuals, line.without, strict=True):
            lines.append(
                {
                    "fit": outcome.claim.key,
                    "base": outcome.base.name,
                    "measure": outcome.measure,
                    "slope": line.fit.slope,
                    "low": line.low,
                    "high": line.high,
                    "intercept": line.fit.intercept,
                    "r2": line.fit.r2,
                    "row": row.name,
                    "x": row.size,
                    "residual": residual,
                    "slope_without": without,
                    "paper_slope": paper.slope,
                    "paper_r2": paper.r2,
                }
            )
    return lines or [{"fit": ""}]


def describe_claims(outcomes: Sequence[Outcome], records: Sequence[Record], bases: str) -> list[ReportLine]:
    """The sentence that says how all was measured, then one for each claim, and one on the length of the runs."""
    empty: ReportLine = {"verdict": "", "measure": "", "estimate": None, "low": None, "high": None, "seeds": None}
    lines = [{"key": PROTOCOL, **empty, "sentence": protocol(records, bases)}]
    for outcome in outcomes:
        estimate = outcome.estimate
        numbers = {
            "estimate": estimate and estimate.mean,
            "low": estimate and estimate.low,
            "high": estimate and estimate.high,
            "seeds": estimate and estimate.seeds,
        }
        line = {"key": outcome.claim.key, "verdict": outcome.verdict, "measure": outcome.measure, **numbers}
        lines.append({**line, "sentence": outcome.sentence})
    return [*lines, {"key": "longer", **empty, "sentence": order_kept(records)}]


def describe_decoders(records: Sequence[Record], bases: str) -> list[ReportLine]:
    """The decoders that painted one set of samples, one line each; differences are to the first, on the same
    pictures."""
    columns = ("base", "row", "title", "seed", "fd-mobilenetv2", "samples", "sampler", *OF_SAMPLES)
    found = [record for base in BASES[bases] for record in painters(records, base.name)]
    return [{name: record[name] for name in columns} for record in found] or [dict.fromkeys(columns, "")]


def protocol(records: Sequence[Record], bases: str) -> str:
    """How all was trained and measured, in sentences."""
    said = []
    for base in BASES[bases]:
        mine = {record["hash"]: record for record in records if record["base"] == base.name}
        if not mine:
            continue
        one = next(iter(mine.values()))
        runs = [record for record in mine.values() if record["seed"] is not None]
        hours = sum(record["seconds"] + record["measuring_seconds"] for record in mine.values()) / 3600
        usual = sorted({record["pictures"] for record in runs})
        apart = f" but those of `{OTHER_SEEDS}`" if any(record["phase"] == AGAIN for record in runs) else ""
        said.append(
            f"`{base.name}` ({base.title}): encoder {one['encoder']}, decoder of phase 1 {one['decoder']}, both shared "
            f"by all {len(runs)} runs{apart}, which differ in the seed of everything after them; "
            f"{' or '.join(f'{count:,}' for count in usual) or 'no'} pictures a run; measured on {one['photos']:,} "
            f"photos of {one['validation']} at {one['size']} px; {hours:.1f} hours."
        )
        probed = next((record for record in mine.values() if record["probe"] is not None), None)
        if probed is not None:
            said.append(
                f"The probe (recipe {probed['probe_recipe']}) is one small denoiser for every latent, from one start, "
                f"on {probed['learned']:,} photos; intervals hold what another seed of the tokenizer changes, not what "
                "another seed of the probe would."
            )
    axis = axis_of(records)
    title = TITLES[axis]
    stand_in = "" if axis == "rfid" else f", which stands in for the paper's rFID: {title} is not rFID"
    said.append(
        f"What decides is {title}{stand_in}. Intervals are of 95 %: Student's t over the seeds of one row, or over the "
        "differences of two rows seed by seed; of a slope, from resampled seeds."
    )
    return " ".join(said)


def order_kept(records: Sequence[Record]) -> str:
    """Whether runs on more pictures keep the order of the usual ones."""
    axis, pairs = axis_of(records), []
    for record in records:
        name = record["row"].removesuffix(LONG)
        usual = [
            other
            for other in records
            if (other["base"], other["row"], other["seed"]) == (record["base"], name, record["seed"])
        ]
        if name != record["row"] and usual:
            pairs.append((name, usual[0][axis], record[axis], record["pictures"] / usual[0]["pictures"]))
    if len(pairs) < 2:
        return "Whether longer runs keep the order of the rows has not been run."
    tau = same_order([pair[1] for pair in pairs], [pair[2] for pair in pairs])
    by = [", ".join(f"`{pair[0]}`" for pair in sorted(pairs, key=itemgetter(place))) for place in (1, 2)]
    kept = "the same order" if tau == 1 else "another order"
    return (
        f"{len(pairs)} runs on {pairs[0][3]:.0f} times as many pictures come in {kept} (Kendall's tau {tau:.2f}; from "
        f"the least {TITLES[axis]}: {by[0]}; longer: {by[1]})."
    )


def readme(
    tables: Tables,
    summary: Sequence[ReportLine],
    outcomes: Sequence[Outcome],
    names: Sequence[tuple[str, str]],
    bases: str,
) -> str:
    """The report as Markdown."""
    records = all_records(tables)
    lines = [
        "# The study",
        "",
        "Written by `python -m train.study --report` from the tables in this folder, which `python -m train.study all` "
        "trained and measured. Open marks and all numbers here are this project's; filled circles are the paper's.",
        "",
        protocol(records, bases),
        "",
        order_kept(records),
        "",
        "## Claims",
        "",
        "*Confirmed*: the interval leaves out 0 with the claim's sign; *contradicted*: with the other sign; *not "
        "decided at this scale*: it includes 0.",
        "",
        *(f"- {outcome.sentence}" for outcome in outcomes),
    ]
    for name, label in names:
        lines += ["", f"![{label}]({name}.svg)"]
    for table in tables:
        mine = [line for line in summary if line["table"] == table]
        lines += [
            "",
            f"## {HEADINGS[table]}",
            "",
            f"`{table}.csv`, `{table}.parquet`; mean ± half of the interval.",
            "",
        ]
        lines += table_lines(mine, (*LATENT, *OF_LATENT) if table == GENERATION else ())
        lines += decoder_lines(records, bases) if table == GENERATION else []
    lines += ["", "## Lines", "", *line_lines(outcomes)]
    return "\n".join(lines) + "\n"


def table_lines(summary: Sequence[ReportLine], latent: Sequence[str]) -> list[str]:
    """A table of rows and measures as Markdown; differences and p of the measure that decides."""
    axis = next((line["measure"] for line in summary if line["axis"]), "psnr")
    there = [name for name in (*MEASURES, *latent) if any(line["measure"] == name for line in summary)]
    titles = [TITLES[name] for name in there]
    head = ["row", "base", "M trained", "seeds", *titles, f"{TITLES[axis]}, difference", "p", "Holm"]
    lines = [f"| {' | '.join(head)} |", "|---|---|" + "---:|" * (len(head) - 2)]
    for base, row in dict.fromkeys((line["base"], line["row"]) for line in summary):
        mine = {line["measure"]: line for line in summary if (line["base"], line["row"]) == (base, row)}
        first, deciding = next(iter(mine.values())), mine.get(axis)
        cells = [f"`{row}`: {first['title']}", f"`{base}`", f"{first['parameters'] / 1e6:.2f}", str(first["seeds"])]
        cells += [_mean_cell(mine.get(name)) for name in there]
        cells += _difference_cells(deciding)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def decoder_lines(records: Sequence[Record], bases: str) -> list[str]:
    """The decoders as a Markdown table; nothing where no samples were painted."""
    rows = [row for row in describe_decoders(records, bases) if row["row"]]
    if not rows:
        return []
    head = ["decoder", "seed", "photos, FD", "difference", "samples, FD", "difference"]
    lines = ["", f"The same {rows[0]['samples']:,} samples through decoders of the last layer's latent:", ""]
    lines += [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    for row in rows:
        cells = [f"`{row['row']}`: {row['title']}", "–" if row["seed"] is None else str(row["seed"])]
        cells += ["–" if row["fd-mobilenetv2"] is None else f"{row['fd-mobilenetv2']:.4g}"]
        for name in ("rebuilt_difference", "samples_fd", "samples_difference"):
            value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
            ends = "" if low is None else f" [{low:.4g}, {high:.4g}]"
            cells.append("–" if value is None else f"{value:.4g}{ends}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _mean_cell(line: ReportLine | None) -> str:
    if line is None:
        return "–"
    half = "" if line["high"] is None else f" ± {line['high'] - line['mean']:.2g}"
    return f"{line['mean']:.4g}{half}"


def _difference_cells(line: ReportLine | None) -> list[str]:
    if line is None or line["difference"] is None:
        return ["–"] * 3
    estimate = Estimate(line["difference"], line["difference_low"], line["difference_high"], line["p"], 0)
    p = [f"{line[name]:.2g}" if line[name] is not None else "–" for name in ("p", "holm")]
    return [f"{signed_text(estimate.mean)}{interval(estimate)} to `{line['compared_with']}`", *p]


def line_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """The fitted lines beside the paper's, and what each row leaves over, as Markdown."""
    fitted = [(outcome, *outcome.fitted) for outcome in outcomes if outcome.fitted is not None]
    if not fitted:
        return ["No line has been fitted: it takes three rows."]
    head = ["line", "slope", "R²", "slope without one row", "the paper's slope (rFID)", "R²"]
    lines = [f"| {' | '.join(head)} |", "|---|---:|---:|---|---:|---:|"]
    for outcome, line, _, paper in fitted:
        slope = signed_text(line.fit.slope) + (interval(outcome.estimate) if outcome.estimate else "")
        without = f"{signed_text(min(line.without))} to {signed_text(max(line.without))}"
        cells = [f"{outcome.claim.key}, {TITLES[outcome.measure]}", slope, f"{line.fit.r2:.2f}", without]
        lines.append(f"| {' | '.join([*cells, f'{paper.slope:.4f}', f'{paper.r2:.2f}'])} |")
    lines += ["", "What rows leave over:", ""]
    for outcome, line, rows, _ in fitted:
        pairs = zip(rows, line.residuals, strict=True)
        left = ", ".join(f"`{row.name}` {signed_text(value)}" for row, value in pairs)
        lines.append(f"- {outcome.claim.key}: {left}.")
    return lines


def write_csv(file: Path, lines: Sequence[ReportLine]) -> None:
    """Write records of equal keys; ``None`` is empty."""
    text = StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    file.write_text(text.getvalue(), encoding="utf-8")
