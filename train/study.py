"""The study: what each part of the method is worth, every row trained from several seeds.

``python -m train.study scaling`` trains and measures the rows of a table that are not there yet, in any number of
sittings, and writes ``assets/study/scaling.csv`` and ``.parquet``. Equal rows are trained once: a run is named by the
hash of its row. ``--report`` trains nothing and makes every figure and sentence anew from the tables alone.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from statistics import median

from train.engine.session import add_data_arguments, add_run_arguments, amount_of, main_guard, number_of
from train.errors import RunError
from train.experiments.experiment import Experiment
from train.experiments.generation import GenerationMeasure
from train.experiments.report import write_report
from train.experiments.rows import BASES, GENERATION, SEEDS, TABLES, StudyRow, all_runs, rows_of
from train.experiments.running import Study, read_result
from train.experiments.tables import collect, write_table

STUDY = Path("assets/study")
MOST_SEEDS = 32  # that are looked for


def read_seeds(text: str) -> int:
    """How many seeds, from the command line."""
    number = number_of("seeds")(text)
    if number > MOST_SEEDS:
        raise argparse.ArgumentTypeError(f"'{text}' is more than {MOST_SEEDS} seeds; give fewer")
    return number


def chosen_rows(table: str, args: argparse.Namespace) -> list[StudyRow]:
    """The rows of a table that the options leave, with as many seeds as they ask for.

    Raises:
        RunError: a name that no row of any asked table has.
    """
    rows = rows_of(table, args.base)
    if args.rows:
        rows = [row for row in rows if row.name in args.rows]
    return [dataclasses.replace(row, seeds=args.seeds if row.seeds == SEEDS else row.seeds) for row in rows]


def describe_runs(runs: dict[str, Experiment], rows: list[StudyRow], out: Path, rate: float | None) -> str:
    """What is done and what is not, and how long the rest takes at ``rate`` pictures a second; the measured one when
    ``None``."""
    names: dict[str, str] = {}
    for row in rows:
        for experiment in row.runs:
            names.setdefault(experiment.hash, f"{experiment.base} {row.name}")
    results = {name: read_result(out, experiment) for name, experiment in runs.items()}
    lines, left = [], 0.0
    rates = {base: _rate(runs, results, base) for base in {experiment.base for experiment in runs.values()}}
    known = True
    for name, experiment in runs.items():
        done = results[name] is not None
        if not done:
            pace = rate or rates[experiment.base]
            known = known and (pace is not None or not experiment.trains)
            left += experiment.pictures / pace if pace else 0.0
        seed = f"seed {experiment.seed}" if experiment.trains else "not trained"
        what = names.get(name, f"{experiment.base} {experiment.phase}")
        lines.append(f"{name}  {'done' if done else 'to do':5}  {what}, {seed}, {experiment.pictures:,} pictures")
    finished = sum(result is not None for result in results.values())
    measuring = [result["measuring_seconds"] for result in results.values() if result is not None]
    left += (len(runs) - finished) * (median(measuring) if measuring else 0.0)
    time = f"about {left / 3600:.1f} h for the others" if known else "give --rate to know how long the others take"
    more = ", the sampler and the probes" if any(row.table == GENERATION for row in rows) else ""
    return "\n".join([*lines, f"finished: {finished} of {len(runs)} runs; {time}, without phase 1{more}."])


def _rate(runs: dict[str, Experiment], results: dict[str, dict | None], base: str) -> float | None:
    """Pictures a second that the finished runs of a base were trained with, the median."""
    paces = [
        experiment.pictures / result["seconds"]
        for name, experiment in runs.items()
        if experiment.base == base and (result := results[name]) is not None and result["seconds"]
    ]
    return median(paces) if paces else None


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", nargs="?", choices=(*TABLES, "all"), default="all", help="(default: %(default)s)")
    parser.add_argument("--base", choices=BASES, default="study", help="base models (default: %(default)s)")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="only these, by their names")
    parser.add_argument(
        "--seeds", type=read_seeds, default=SEEDS, help="seeds of every row, from 0 on (default: %(default)s)"
    )
    parser.add_argument("--limit", type=number_of("photos"), help="measure on this many validation photos only")
    parser.add_argument(
        "--rfid", action="store_true", help="measure rFID, too: with torch-fidelity, on more than 2,048 photos"
    )
    parser.add_argument("--dry-run", action="store_true", help="list the runs with their hashes, and do nothing")
    parser.add_argument(
        "--rate",
        type=amount_of("pictures a second", exclusive=True),
        help="pictures a second that --dry-run counts with (default: as measured)",
    )
    parser.add_argument("--report", action="store_true", help="train nothing: figures and sentences from the tables")
    parser.add_argument(
        "--to", type=Path, default=STUDY, help="folder of the tables and the report (default: %(default)s)"
    )
    add_data_arguments(parser)
    add_run_arguments(parser)
    parser.set_defaults(log=[])
    args = parser.parse_args(argv)
    if args.report:
        print(write_report(args.to))
        return
    tables = {name: chosen_rows(name, args) for name in (TABLES if args.table == "all" else (args.table,))}
    rows = [row for some in tables.values() for row in some]
    for name in args.rows or ():
        if name not in {row.name for row in rows}:
            known = ", ".join(dict.fromkeys(row.name for table in tables for row in rows_of(table, args.base)))
            raise RunError(f"--rows {name}: there is no such row; they are {known}.")
    runs = all_runs(rows)
    if args.dry_run:
        print(describe_runs(runs, rows, args.out, args.rate))
        return
    study = Study(args)
    generation, generated = (
        GenerationMeasure(study),
        {run.hash for row in tables.get(GENERATION, ()) for run in row.runs},
    )
    for number, experiment in enumerate(runs.values(), 1):
        found = study.run(experiment)["numbers"]
        found |= generation.measure(experiment) if experiment.hash in generated else {}
        numbers = ", ".join(f"{key} {value:.4g}" for key, value in found.items())
        print(f"{number} of {len(runs)}, {experiment.base}/{experiment.hash}: {numbers}")
        for name, some in tables.items():
            if experiment.hash in {one.hash for row in some for one in row.runs}:
                write_table(collect(rows_of_all(name, args), args.out, study.fits), args.to, name)


def rows_of_all(table: str, args: argparse.Namespace) -> list[StudyRow]:
    """All rows and seeds of a table, whatever the options leave out now: what was run before stays in it."""
    return [dataclasses.replace(row, seeds=MOST_SEEDS) for row in rows_of(table, args.base)]


if __name__ == "__main__":
    main_guard(main)
