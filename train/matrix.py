"""Write ``docs/reproduction.md``, every row of the paper's tables with what it takes: ``python -m train.matrix``.

Commands, runs that a row stands on, and results of ours come from the presets; the paper's numbers from
``drorae/study/published.py``; costs are those of ``--dry-run``. The same is written for the page, as
``drorae/study/paper_rows.json``.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from drorae.study import published
from drorae.study.paper_rows import FILE, NOT_RUN, PaperRows, read_rows, table_title
from drorae.study.published import Quoted, RouteScores
from train.engine.dry_run import (
    PEAK_FLOPS,
    PEAK_TF32,
    UTILISATION,
    build_denoiser_on_meta,
    build_on_meta,
    count_parameters,
    denoiser_cost,
    estimate_hours,
    step_cost,
)
from train.engine.session import main_guard
from train.paper_presets import DESIGNS, DINOV2_B_MODEL, NAME, PROBE_EPOCHS
from train.presets import PRESETS
from train.settings import NOT_TRAINED, Preset, Stage1Preset, Stage2Preset

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "reproduction.md"
GPUS = 8
IMAGENET, CAPTIONED = "ILSVRC/imagenet-1k", "CAPTIONED"
DECODER, FUSION, FINETUNE = (f"{NAME}/{phase}" for phase in ("decoder", "fusion", "finetune"))
CLASS, GUIDE = f"{NAME}/class", f"{NAME}/class-guide"
LAST_LAYER, LAST_LAYER_GUIDE = f"{NAME}-rae/class", f"{NAME}-rae/class-guide"
WIDTH = DINOV2_B_MODEL["fusion_hidden_size"]
LAUNCH = f"accelerate launch --multi_gpu --num_processes {GPUS} -m"


class Samples(NamedTuple):
    """How the pictures of a row's gFID are drawn: by which runs, and which decoder paints."""

    denoiser: str
    guide: str | None
    decoder: str | None = None


class Row(NamedTuple):
    """A row of one of the paper's tables.

    Attributes:
        paper: its numbers, as text.
        runs: runs of presets ("dinov2-b/fusion"), whose results it has; none where nothing here trains it.
        note: what has to be known to compare.
        samples: samples of rows with a gFID.
    """

    name: str
    paper: str
    runs: tuple[str, ...] = ()
    note: str = ""
    samples: Samples | None = None


class Table(NamedTuple):
    """One of the paper's tables with results; 5 and 6 have settings, which the presets hold."""

    number: str
    title: str
    rows: list[Row]
    note: str = ""


class Run(NamedTuple):
    """A run that a preset has: of ``train.stage1`` or of ``train.stage2``."""

    preset: Preset
    row: Stage1Preset | Stage2Preset
    command: str


def find_run(name: str) -> Run:
    """The run of a name such as ``"dinov2-b/fusion"``, and its command without data."""
    preset, _, run = name.partition("/")
    made = PRESETS[preset]
    if run in made.stage1:
        return Run(made, made.stage1[run], f"train.stage1 --preset {preset} --phase {run}")
    condition, _, guide = run.partition("-")
    options = f"--preset {preset} --condition {condition}{' --guide' if guide else ''}"
    return Run(made, made.stage2[run], f"train.stage2 {options}")


def run_before(name: str) -> str | None:
    """The run that has to be finished first; ``None`` where only published weights are needed."""
    row = find_run(name).row
    start = row.tokenizer if isinstance(row, Stage2Preset) else row.starts_from
    return start if "/" in start else None


def lineage(name: str) -> list[str]:
    """All runs that have to be finished before, in order."""
    before = run_before(name)
    return [] if before is None else [*lineage(before), before]


# ---- the rows -----------------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """A distance with two decimals, or three where it has them."""
    return f"{value:.2f}" if round(value, 2) == value else f"{value:.3f}"


def scores(row: RouteScores | Quoted) -> str:
    """A row of table 1 as text."""
    parts = [
        f"rFID {number(row.rfid)}",
        None if row.psnr is None else f"PSNR {row.psnr} dB",
        None if row.lpips is None else f"LPIPS {row.lpips:.3f}",
        None if row.ssim is None else f"SSIM {row.ssim:.3f}",
        f"gFID {number(row.gfid)}",
        None if row.guided is None else f"guided {number(row.guided)}",
    ]
    return ", ".join(part for part in parts if part)


def tables() -> list[Table]:
    """Every table of the paper that has results, with all rows."""
    last, phase2, full = published.ROUTE_SCORES
    latents = "the latents, and so the denoiser, are those of the full model; phase 1's decoder paints"
    first = [Row(row.name, scores(row), note=f"quoted by the paper; {row.generator}") for row in published.QUOTED]
    first += [
        Row(
            last.name,
            scores(last),
            (DECODER, LAST_LAYER, LAST_LAYER_GUIDE),
            "quoted by the paper; here phase 1 and a denoiser on the last layer",
            Samples(LAST_LAYER, LAST_LAYER_GUIDE),
        ),
        Row(phase2.name, scores(phase2), (FUSION, CLASS, GUIDE), latents, Samples(CLASS, GUIDE, "original")),
        Row(full.name, scores(full), (FINETUNE, CLASS, GUIDE), "", Samples(CLASS, GUIDE)),
    ]
    texts = {"RAE": (f"{NAME}-rae/text",), "DRoRAE": (f"{NAME}/text",)}
    stand_in = "DiT^DH-XL with a frozen Qwen3-0.6B in the place of BAGEL with Qwen2.5-0.5B"
    geneval = [
        Row(name, f"GenEval {values[-1]:.2f}", texts.get(name, ()), stand_in if name in texts else "other tokenizer")
        for name, values in published.GENEVAL.items()
    ]
    return [
        Table("1", "Tokenizers and generators, ImageNet at 256 pixels", first),
        Table("2, 7", "Text to image, GenEval", geneval),
        Table(
            "3",
            "Fusion designs",
            _designs(),
            f"The loss is the denoiser's after {PROBE_EPOCHS} epochs. The paper does not say whether it is that of "
            "training or of held-out pictures; a run's log has both.",
        ),
        Table("4", "What is trained", _strategies()),
        Table("8", "Width of the experts", _scaling(published.WIDTHS, NAME, "h = {}", WIDTH)),
        Table(
            "9", "The deepest layers", _scaling(published.LAYERS, f"{NAME}-deepest", "{} of 12 layers", published.DEPTH)
        ),
    ]


def _designs() -> list[Row]:
    """Table 3."""
    default = published.VARIANTS[-1].name
    runs = {row: (f"{NAME}-{name}/fusion", f"{NAME}-{name}/class") for name, (row, _) in DESIGNS.items()}
    runs |= {published.VARIANTS[0].name: (DECODER, LAST_LAYER), default: (FUSION, CLASS)}
    notes = {"cross-attention": "the paper names neither heads, nor projections, nor what is around the attention"}
    rows = []
    for row in published.VARIANTS:
        loss = "" if row.loss is None else f", loss {row.loss}"
        rows.append(Row(row.name, f"rFID {number(row.rfid)}{loss}", runs[row.name][: 1 if row.loss is None else 2],
                        notes.get(row.name, "")))  # fmt: skip
    return rows


def _strategies() -> list[Row]:
    """Table 4."""
    whole = f"{NAME}-backbone/class"
    silent = "the paper states neither its start nor its length: here from phase 2, as long as phase 3"
    kinds = [
        ((FUSION, CLASS, GUIDE), "", Samples(CLASS, GUIDE, "original")),
        ((FINETUNE, CLASS, GUIDE), "", Samples(CLASS, GUIDE)),
        ((f"{NAME}-backbone/backbone", whole), silent, Samples(whole, None)),
    ]
    rows = []
    for row, (runs, note, samples) in zip(published.STRATEGIES, kinds, strict=True):
        guided = "" if row.guided is None else f", guided {number(row.guided)}"
        rows.append(Row(row.name, f"rFID {number(row.rfid)}, gFID {number(row.gfid)}{guided}", runs, note, samples))
    return rows


def _scaling(rows: Sequence[published.Scaling], preset: str, title: str, default: int) -> list[Row]:
    """Table 8 or 9. The row of the default is the run of the other tables: it is trained once."""
    found = []
    for row in rows:
        run = FUSION if row.setting == default else f"{preset}-{row.setting}/fusion"
        note = "phase 2 of table 1" if row.setting == default else ""
        found.append(Row(title.format(row.setting), f"rFID {number(row.rfid)}, {row.parameters}M", (run,), note))
    return found


# ---- what they cost -----------------------------------------------------------------------------------------------


class Count(NamedTuple):
    """Counted on the meta device: parameters that train, and operations of a step with one picture or latent."""

    trained: int
    flops: int
    recipe: str


def recipe_hash(name: str) -> str:
    """Twelve digits that name all of a preset that a count depends on."""
    preset, row, _ = find_run(name)
    content = dataclasses.asdict(row)
    checkpointing = content.pop("schedule")["gradient_checkpointing"]
    for key in ("expected", "measured", "starts_from", "tokenizer"):
        content.pop(key, None)
    text = json.dumps([preset.model, content, checkpointing], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def count(name: str) -> Count:
    """What ``--dry-run`` counts of a run."""
    preset, row, _ = find_run(name)
    if isinstance(row, Stage2Preset):
        network = build_denoiser_on_meta(preset, row).network
        return Count(count_parameters(network), denoiser_cost(preset, row), recipe_hash(name))
    task = build_on_meta(preset, row)
    return Count(count_parameters(task.trainable), step_cost(task).flops, recipe_hash(name))


def all_runs() -> list[str]:
    """Every run of the tables and those that they stand on, once each, in an order in which they can be trained."""
    wanted = [run for table in tables() for row in table.rows for run in row.runs]
    return list(dict.fromkeys(run for name in wanted for run in (*lineage(name), name)))


def stored_counts(content: PaperRows) -> dict[str, Count]:
    """The counts that were written down."""
    return {name: Count(run["trained"], run["flops"], run["recipe"]) for name, run in content["runs"].items()}


def build_rows(counts: dict[str, Count]) -> PaperRows:
    """All that is written, from the presets and the counts.

    Raises:
        KeyError: a run has not been counted.
    """
    runs: dict[str, Any] = {}
    for name in all_runs():
        run, counted = find_run(name), counts[name]
        runs[name] = {
            "command": run.command,
            "after": lineage(name),
            "trained": counted.trained,
            "flops": counted.flops,
            "hours": round(estimate_hours(counted.flops, run.row.schedule, 1), 1),  # of one GPU
            "recipe": counted.recipe,
            "ours": run.row.measured,
        }
    return {
        "utilisation": UTILISATION,
        "runs": runs,
        "tables": [
            {
                "number": table.number,
                "title": table.title,
                "note": table.note,
                "rows": [
                    {"name": row.name, "paper": row.paper, "ours": ours(row), "runs": list(row.runs), "note": row.note}
                    for row in table.rows
                ],
            }
            for table in tables()
        ],
    }


def ours(row: Row) -> str:
    """What was measured here of a row."""
    measured = [find_run(name).row.measured for name in row.runs]
    return "; ".join(text for text in measured if text != NOT_TRAINED) or NOT_RUN


# ---- the document -------------------------------------------------------------------------------------------------

HEAD = """# The paper's rows

Written by `python -m train.matrix`. Every row of the paper's tables with what it takes here: the command, the
parameters that train, the operations of one step with one picture, and the hours of one H100. Tables 5 and 6 have
settings and no results. **{run} of {total} rows have been run.**

Costs are counted, not measured: `--dry-run` runs one step on torch's `meta` device, and the hours are those of dense
products at {share:.0%} of the card's peak ({bf16:.0f} TFLOP/s in bf16, {tf32:.0f} in TF32, in which the denoisers of
classes train). They are of the row's own runs; what these stand on, in brackets, is trained once for all rows. All
{runs} runs together take {hours:,.0f} hours of one H100.

A command as it stands in the tables wants the data and, on several GPUs, `accelerate`:

```bash
{launch} train.stage1 --preset dinov2-b --phase fusion --data {imagenet} --validation {imagenet}
python -m train.stage1 --preset dinov2-b --phase fusion --dry-run   # what it would do, and what that costs
```

Rows without a command are of other tokenizers, which nothing here trains.
"""

SILENT = f"""## Where the paper is silent

- **All rows**: warm-up, floor of the rate, average of the weights, latent noise, crops and the adversary's first steps
  are RAE's. Denoisers follow RAE's recipe throughout, which the baseline of table 1 was made with; table 5 states
  another.
- **Table 1, gFID**: which epoch of the guide is taken; RAE takes its 14th. Phases 2 and 3 share their latents, and so
  one denoiser here; the paper lists two gFIDs without guidance and one IS.
- **Table 3**: "no incremental" is beta = 1. Cross-attention is "last layer as query, multi-head", no more: here each
  token attends to its own position in all layers, with heads of 64 channels and no residual. Over which steps the loss
  of {PROBE_EPOCHS} epochs is averaged is not said.
- **Table 4**: what backbone, fusion and decoder start from when all three train, and for how long.
- **Tables 2 and 7**: which phase's DRoRAE was used. The network is another one here ([generation.md](generation.md)).
- **Tables 8 and 9**: the number of seeds.
"""

COMMANDS = f"""## All commands

In an order that works. `{CAPTIONED}` is any captioned set ([training.md](training.md#data)); the paper's is
CC12M-LLaVA-Next. `VIRTUAL_imagenet256_labeled.npz` are ADM's reference statistics ([evaluation.md](evaluation.md)).
"""


def document(content: PaperRows) -> str:
    """All of ``docs/reproduction.md``."""
    rows = [row for table in content["tables"] for row in table["rows"]]
    head = HEAD.format(
        run=sum(row["ours"] != NOT_RUN for row in rows),
        total=len(rows),
        share=content["utilisation"],
        bf16=PEAK_FLOPS / 1e12,
        tf32=PEAK_TF32 / 1e12,
        runs=len(content["runs"]),
        hours=sum(run["hours"] for run in content["runs"].values()),
        launch=LAUNCH,
        imagenet=IMAGENET,
    )
    parts = [head]
    for table in content["tables"]:
        parts.append(f"## {table_title(table)}\n")
        if table["note"]:
            parts.append(table["note"] + "\n")
        parts.append("\n".join(table_lines(table["rows"], content["runs"])) + "\n")
    return "\n".join([*parts, SILENT, COMMANDS, "```bash", *commands(content), "```"]) + "\n"


def table_lines(rows: Sequence[dict[str, Any]], runs: dict[str, Any]) -> list[str]:
    """The lines of a Markdown table; a row with several runs has a line of each cell for each."""
    heads = ("row", "paper", "ours", "command", "trained, M", "GFLOP a step", "H100 hours", "note")
    lines = [f"| {' | '.join(heads)} |", "|---|---|---|---|---:|---:|---:|---|"]
    for row in rows:
        own = [runs[name] for name in row["runs"]]
        known = [name for each in own for name in each["after"] if name not in row["runs"]]
        after = f" (after {', '.join(f'`{name}`' for name in dict.fromkeys(known))})" if known else ""
        cells = [
            row["name"],
            row["paper"],
            row["ours"],
            "<br>".join(f"`python -m {run['command']}`" for run in own) + after if own else "none",
            "<br>".join(f"{run['trained'] / 1e6:.1f}" for run in own),
            "<br>".join(f"{run['flops'] / 1e9:,.0f}" for run in own),
            "<br>".join(f"{run['hours']:,.0f}" for run in own),
            row["note"],
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def commands(content: PaperRows) -> list[str]:
    """Every run with its data, what comes between runs, and how each is measured, as lines for a shell."""
    lines, normalised = [], set()
    for name, run in content["runs"].items():
        row, checkpoint = find_run(name).row, f"runs/{name}/checkpoint"
        lines += ["", f"# {name}: {row.expected}"]
        if isinstance(row, Stage2Preset) and row.tokenizer not in normalised:
            normalised.add(row.tokenizer)
            lines.append(f"python -m train.latent_stats runs/{row.tokenizer}/checkpoint --data {IMAGENET}")
        data = CAPTIONED if isinstance(row, Stage2Preset) and row.text else IMAGENET
        lines.append(f"{LAUNCH} {run['command']} --data {data} --validation {data}")
        if isinstance(row, Stage1Preset):
            lines.append(
                f"python -m train.evaluate {checkpoint} --data {IMAGENET} --metrics psnr ssim lpips-vgg rfid "
                "--crop adm --rounding truncate"
            )
        elif row.text:
            lines.append(f"python -m train.generate {checkpoint} --prompts PROMPTS --out samples/{name}  # GenEval's")
    rows = [row for table in tables() for row in table.rows]
    samples = {row.samples: row.name for row in reversed(rows) if row.samples}  # by the name that it has first
    for drawn, title in reversed(samples.items()):
        lines += ["", f"# gFID of {title}", *sampling_commands(drawn)]
    return lines[1:]


def sampling_commands(samples: Samples) -> list[str]:
    """50,000 pictures without guidance, as many with AutoGuidance where there is a guide, and their gFID."""
    paint = f" --decoder {samples.decoder}" if samples.decoder else ""
    start = f"{LAUNCH} train.generate runs/{samples.denoiser}/checkpoint --count 50000{paint}"
    place = f"samples/{samples.denoiser}{'-' + samples.decoder if samples.decoder else ''}"
    lines, places = [f"{start} --out {place}"], [place]
    if samples.guide:
        places.append(f"{place}-guided")
        guide = f"--guide runs/{samples.guide}/checkpoint --guidance autoguidance --scale 1.5"
        lines.append(f"{start} {guide} --out {places[1]}")
    reference = "--reference VIRTUAL_imagenet256_labeled.npz"
    return [*lines, f"python -m train.evaluate --generated {' '.join(places)} {reference}"]


def write_rows(content: PaperRows, document_file: Path, rows_file: Path) -> None:
    """Write both files, each whole or not at all."""
    for file, text in (
        (rows_file, json.dumps(content, indent=1, ensure_ascii=False) + "\n"),
        (document_file, document(content)),
    ):
        fresh = file.with_suffix(".new")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(file)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="count all runs anew, also those whose presets are the same")
    parser.add_argument("--document", type=Path, default=TARGET, help="file for people")
    parser.add_argument("--rows", type=Path, default=FILE, help="file for the page")
    args = parser.parse_args(argv)
    stored = read_rows(args.rows)
    known = {} if stored is None or args.all else stored_counts(stored)
    counts = {}
    for name in all_runs():
        fresh = name not in known or known[name].recipe != recipe_hash(name)
        counts[name] = count(name) if fresh else known[name]
        if fresh:
            print(f"{name}: {counts[name].trained / 1e6:.1f}M, {counts[name].flops / 1e9:,.0f} GFLOP", flush=True)
    content = build_rows(counts)
    write_rows(content, args.document, args.rows)
    print(f"{args.document}: {sum(len(table['rows']) for table in content['tables'])} rows, {len(counts)} runs.")


if __name__ == "__main__":
    main_guard(main)
