"""The study's tables: one record per row and seed, as CSV and as parquet."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from drorae.errors import reason_of
from train.errors import RunError, writing
from train.experiments.experiment import Experiment
from train.experiments.generation import OF_LATENT, OF_SAMPLES, read_more
from train.experiments.rows import StudyRow
from train.experiments.running import read_result

SHARED_COLUMNS = ("encoder", "decoder", "validation", "photos", "size")  # alike for all runs of a base
MEASURES = ("psnr", "ssim", "st-lpips", "fd-mobilenetv2", "rfid")
LATENT = ("cosine_final_base", "cosine_fused_base", "effective_rank", "high_frequency", "same_class")
RECIPES = ("probe_recipe", "learned", "sampler", "samples")  # alike where they are there
TEXT, WHOLE, NUMBER = pa.string(), pa.int64(), pa.float64()
COLUMNS = {
    "base": TEXT,
    "row": TEXT,
    "title": TEXT,
    "compared_with": TEXT,  # a row of the same base, seed by seed
    "hash": TEXT,
    "seed": WHOLE,  # none of what is not trained
    "phase": TEXT,
    "pictures": WHOLE,
    "layers": TEXT,  # from 1
    "rule": TEXT,
    "width": WHOLE,
    "beta": NUMBER,
    "router": TEXT,
    "activation": pa.bool_(),
    "parameters": WHOLE,  # trained
    **dict.fromkeys((*MEASURES, *LATENT), NUMBER),
    **dict.fromkeys(OF_LATENT, NUMBER),  # of the rows of "generation"
    "probe_recipe": TEXT,
    "learned": WHOLE,  # photos the probe learns from
    **dict.fromkeys(OF_SAMPLES, NUMBER),  # of the decoders of the last layer's latent there
    "sampler": TEXT,  # the run whose samples they paint
    "samples": WHOLE,
    "seconds": NUMBER,
    "measuring_seconds": NUMBER,
    "precision": TEXT,
    "devices": TEXT,
    "data": TEXT,
    "validation": TEXT,
    "photos": WHOLE,
    "size": WHOLE,
    "encoder": TEXT,
    "decoder": TEXT,
}
SCHEMA = pa.schema(list(COLUMNS.items()))
Record = dict[str, Any]


def collect(rows: Iterable[StudyRow], out: Path, fits: Callable[[dict[str, Any]], bool]) -> list[Record]:
    """What was measured of some rows so far, one record per row and seed, in their order.

    Args:
        fits: whether a result is one of those to compare; others, measured on other photos, are left out.

    Raises:
        RunError: results that cannot be compared: of other frozen weights, photos or data.
    """
    records = []
    for row in rows:
        for experiment in row.runs:
            result = read_result(out, experiment)
            if result is not None and fits(result):
                records.append(_record(row, experiment, result, read_more(out, experiment, result)))
    check_alike(records, out)
    return records


def _record(row: StudyRow, experiment: Experiment, result: dict[str, Any], more: dict[str, Any]) -> Record:
    one = experiment.canonical
    record: Record = {"base": one.base, "row": row.name, "title": row.title, "compared_with": row.reference}
    record |= {"hash": one.hash, "seed": one.seed if one.trains else None, "phase": one.phase, "pictures": one.pictures}
    if one.fusion is not None:
        fusion = {**vars(one.fusion), "layers": " ".join(map(str, one.fusion.layers))}
        record |= fusion
    record |= {name: result.get(name) for name in COLUMNS if name not in record and name in result}
    record |= {name: result["numbers"].get(name) for name in (*MEASURES, *LATENT)}
    record |= {name: more.get(name) for name in (*OF_LATENT, *OF_SAMPLES, *RECIPES)}
    return {name: record.get(name) for name in COLUMNS}


def check_alike(records: list[Record], place: Path) -> None:
    """Refuse records whose differences are not those of their rows.

    Raises:
        RunError: names what differs.
    """
    for base in dict.fromkeys(record["base"] for record in records):
        mine = [record for record in records if record["base"] == base]
        trained = [record for record in mine if record["phase"] != "rae"]
        alike = [*((name, mine) for name in SHARED_COLUMNS), ("data", trained), ("precision", trained)]
        alike += [(name, [record for record in mine if record[name] is not None]) for name in RECIPES]
        for name, some in alike:
            found = list(dict.fromkeys(record[name] for record in some))
            if len(found) > 1:
                raise RunError(
                    f"{place}: runs of '{base}' differ in {name} ({found[0]}, {found[1]}), so that they cannot be "
                    "compared; run the command again with one --validation, --limit and --data, or give another --out."
                )


def write_table(records: list[Record], folder: Path, name: str) -> None:
    """Write ``NAME.csv`` and ``NAME.parquet``, the same in both."""
    table = pa.Table.from_pylist(records, SCHEMA)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        options = pyarrow.csv.WriteOptions(quoting_style="needed")
        pyarrow.csv.write_csv(table, folder / f"{name}.csv", options)
        pyarrow.parquet.write_table(table, folder / f"{name}.parquet")


def read_table(folder: Path, name: str) -> list[Record]:
    """The records of a table; none where it is not there.

    Raises:
        RunError: the file is not such a table.
    """
    file = folder / f"{name}.csv"
    if not file.is_file():
        return []
    options = pyarrow.csv.ConvertOptions(column_types=COLUMNS, strings_can_be_null=True, null_values=[""])
    try:
        table = pyarrow.csv.read_csv(file, convert_options=options)
        return table.select(list(COLUMNS)).to_pylist()
    except (pa.ArrowInvalid, KeyError) as error:
        reason = reason_of(error)
        raise RunError(
            f"'{file}' is not a table of the study ({reason}); write it again by the same command."
        ) from error
