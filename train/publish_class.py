"""Make a generator to share: ``python -m train.publish_class --preset tiny --to assets/drorae-tiny-class``.

Takes the finished runs ``class`` and ``class-guide`` of a preset, stores them in fp16 as one pipeline that names its
tokenizer and the guidance to sample with, samples and measures *those* weights, and writes the model card: the grid of
all classes at seeds 0 to 3, the numbers, the training curve.
"""

from __future__ import annotations

import argparse
import json
import shlex
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from drorae import DiTDH, DRoRAEClassPipeline
from drorae.checkpoints import CheckpointError
from drorae.errors import count_of
from drorae.explorer.chosen import weights_of
from drorae.explorer.sampling import class_names
from train import generate
from train.curves import save_curves
from train.derived import record_built
from train.engine.run_folder import CHECKPOINT, LOG, RECORD
from train.engine.session import SHARED, add_data_arguments, main_guard, number_of, read_scale
from train.measure.generated import REAL, measure_generated, table
from train.presets import PRESETS
from train.publish import REPORT, duration_words, hours

GRID_SEEDS = 4
STEPS = 25

CARD = """---
license: apache-2.0
library_name: drorae
tags: [class-conditional-image-generation, diffusion, drorae]
---

# {name}

A small class-conditional generator in the latent space of `{tokenizer}`: DiT^DH (RAE, arXiv 2510.11690), flow matching,
and a smaller, less trained one as the guide of AutoGuidance (arXiv 2406.02507). Stored in fp16, computed in fp32.

```python
from drorae import DRoRAEClassPipeline
pipeline = DRoRAEClassPipeline.from_pretrained("assets/{name}")
pipeline("{first}", num_inference_steps={steps}, seed=0).images[0]  # AutoGuidance, scale {scale}, is saved with it
```

{classes} classes: {names}.

## All classes, seeds 0 to 3, unpicked

AutoGuidance, scale {scale}, {steps} steps; one row of the grid per class, in the order above. Made by
`python -m train.publish_class`.

![{classes} classes, 4 seeds each](grid.jpg)

## Measured

{table}

{agreement} AutoGuidance changes {changes}. Sampled with {steps} steps, seeds from 0 on, none picked:

```
{sampling}
{evaluation}
```

Neither network took part in the training; there is no Inception network in these numbers. {speed}

## Training

| run | command | parameters | steps x latents | optimiser, lr | hours | device |
|---|---|---:|---|---|---:|---|
{runs}

Loss on held-out photos by step: {curves}

![Loss on held-out photos by step](curves.svg)

Data: {data}, {views}, the training split only. Class dropout {dropout}, EMA {ema},
{precision}, logit-normal times shifted by {shift:.2f}.

## Limits

It saw {photos:,} photos of {classes} classes in {hours} ({devices}) and can draw nothing else. {seen}The
photos carry their own terms (non-commercial research).
"""


def assemble(runs: Path, tokenizer: str, scale: float) -> DRoRAEClassPipeline:
    """The pipeline of both finished runs, naming ``tokenizer``, guided by ``scale`` where a call says nothing else.

    Raises:
        CheckpointError: a run is not finished.
    """
    for run in ("class", "class-guide"):
        if not (runs / run / CHECKPOINT).is_dir():
            raise CheckpointError(f"'{runs / run / CHECKPOINT}' is not there; finish that run first.")
    whole = DRoRAEClassPipeline.from_pretrained(runs / "class" / CHECKPOINT)
    guide = DiTDH.from_pretrained(runs / "class-guide" / CHECKPOINT / "denoiser")
    parts = (None, whole.denoiser, whole.scheduler, guide, whole.config.labels, tokenizer)
    return DRoRAEClassPipeline(*parts, guidance="autoguidance", guidance_scale=scale)


def grid(pipeline: DRoRAEClassPipeline) -> Image.Image:
    """All classes, one per row, at the first seeds, with the pipeline's own guidance."""
    rows = []
    for label in range(pipeline.denoiser.config.num_classes):
        pictures = pipeline([label] * GRID_SEEDS, STEPS, seed=list(range(GRID_SEEDS))).images
        rows.append(np.concatenate([np.asarray(picture) for picture in pictures], axis=1))
    half = (len(rows) + 1) // 2  # two columns of classes, so that the grid is not a tower
    rows += [np.full_like(rows[0], 255)] * (2 * half - len(rows))
    gap = np.full((half * rows[0].shape[0], 24, 3), 255, np.uint8)
    return Image.fromarray(np.concatenate([np.concatenate(rows[:half]), gap, np.concatenate(rows[half:])], axis=1))


def lineage(folder: Path) -> list[Path]:
    """A run and, before it, the runs that it went on from with ``--start``, where they are still there."""
    words = shlex.split(json.loads((folder / RECORD).read_text(encoding="utf-8"))["command"])
    start = Path(words[words.index("--start") + 1]).parent if "--start" in words else None
    return [*(lineage(start) if start is not None and (start / RECORD).is_file() else []), folder]


def run_row(run: str, folder: Path, network: DiTDH) -> str:
    """One line of the training table."""
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    schedule = record["settings"]["row"]["schedule"]
    cells = [
        run,
        f"`{record['command']}`",
        f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f}M",
        f"{schedule.get('stop') or schedule['steps']} x {schedule['batch_size']}",
        f"{schedule['optimizer']}, {schedule['lr']:g}",
        f"{hours(folder / LOG):.2f}",
        ", ".join(record["devices"]),
    ]
    return f"| {' | '.join(cells)} |"


def settings_words(trained: dict) -> dict[str, str]:
    """How the card says what the settings of a run were: ``views``, ``dropout``, ``ema`` and ``precision``."""
    schedule = trained["schedule"]
    views = trained.get("views") or 1 + schedule["flip"]
    if schedule["flip"]:
        others = -(-views // 2) - 1
        squares = f"central squares and {others} random ones of each photo" if others else "central squares"
        seen = f"{squares} and their mirror images"
    else:  # drawings, see train.gpu.latents
        copies = count_of(views - 1, "smaller copy", "smaller copies")
        seen = "central squares" + (f" and {copies} of each on white" if views > 1 else "")
    return {
        "views": seen,
        "dropout": str(trained["dropout"]),
        "ema": str(schedule["ema_decay"]),
        "precision": {"no": "fp32"}.get(schedule["precision"], schedule["precision"]),
    }


def loss_points(run: Path) -> list[tuple[int, float]]:
    """Steps and held-out losses, as a run and those before it logged them; their steps count on."""
    points, before = [], 0
    for folder in lineage(run):
        rows = [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]
        points += [(before + row["step"], row["validation_loss"]) for row in rows if "validation_loss" in row]
        before += rows[-1]["step"]
    return points


def loss_curve(run: Path) -> str:
    """Held-out loss by step, as text."""
    return ", ".join(f"{step}: {loss:.4f}" for step, loss in loss_points(run))


def sampling_commands(args: argparse.Namespace, folder: Path) -> dict[str, list[str]]:
    """Arguments of ``train.generate`` by the folder that they fill: without guidance and with AutoGuidance."""
    guided = ["--guidance", "autoguidance", "--scale", f"{args.scale:g}"]
    return {
        str(folder / name): [
            *(str(args.to), "--count", str(args.samples), "--out", str(folder / name), "--steps", str(STEPS)),
            *options,
        ]
        for name, options in (("unguided", []), ("autoguidance", guided))
    }


def agreement_words(report: dict, sets: dict[str, str]) -> str:
    """How often the judges see the asked class, as sentences; ``sets`` are how the report's sets are called."""
    sentences = []
    for judge, title in report["judges"].items():
        shares = [
            f"{100 * row[judge]['asked']:.1f} % of {sets[name]}"
            for name, row in report["sets"].items()
            if "asked" in row[judge]
        ]
        if shares:
            sentences.append(f"{title}, asked which of the classes it sees, is right on {', '.join(shares)}.")
    return " ".join(sentences)


def changes_words(report: dict, unguided: str, guided: str) -> str:
    """What guidance changes in the Frechet distances, as text."""
    rows = [
        (title, *(report["sets"][name][judge]["frechet"] for name in (unguided, guided)))
        for judge, title in report["judges"].items()
    ]
    return " and ".join(
        f"the Frechet distance of {title} from {before:.2f} to {after:.2f}" for title, before, after in rows
    )


def time_four(pipeline: DRoRAEClassPipeline) -> str:
    """A sentence on how long four pictures take here."""
    labels = [number % pipeline.denoiser.config.num_classes for number in range(4)]
    started = time.perf_counter()
    pipeline(labels, STEPS, seed=0)
    seconds, threads = time.perf_counter() - started, count_of(torch.get_num_threads(), "CPU thread")
    return f"Four pictures took {seconds:.1f} s on {threads} ({STEPS} steps, AutoGuidance)."


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--preset",
        choices=[name for name, preset in PRESETS.items() if preset.stage2],
        required=True,
        help="preset whose recipe is followed",
    )
    parser.add_argument("--to", type=Path, required=True, help="folder to write")
    parser.add_argument("--tokenizer", help="name the card and the pipeline give (default: the preset's)")
    parser.add_argument(
        "--scale",
        type=read_scale,
        default=1.5,
        help="strength of AutoGuidance, saved with the pipeline as its own (default: %(default)s)",
    )
    parser.add_argument(
        "--samples", type=number_of("pictures"), default=2000, help="per setting (default: %(default)s)"
    )
    parser.add_argument("--limit", type=number_of("pictures"), help="compare with this many held-out photos only")
    parser.add_argument("--seen", default="", help="what somebody saw in the grid, sentences for the card's limits")
    add_data_arguments(parser)
    parser.set_defaults(data=[str(SHARED / "photos20")])
    args = parser.parse_args(argv)
    preset, runs = PRESETS[args.preset], args.out / args.preset
    row = preset.stage2["class"]
    tokenizer = args.tokenizer or row.tokenizer
    stored = assemble(runs, tokenizer, args.scale)
    for network in (stored.denoiser, stored.guide):
        network.half().register_to_config(_name_or_path=args.to.name)
    stored.save_pretrained(args.to)
    pipeline = DRoRAEClassPipeline.from_pretrained(args.to)
    pipeline.set_progress_bar_config(disable=True)
    grid(pipeline).save(args.to / "grid.jpg", quality=90)
    speed = time_four(pipeline)
    commands = sampling_commands(args, runs / "samples")
    for command in commands.values():
        generate.main(command)
    data = args.data[0]
    report = measure_generated(list(commands), data, "validation", args.limit, weights=args.weights, copies=True)
    report |= {"weights": weights_of(pipeline), "speed": speed}
    (args.to / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    parts = {"class": pipeline.denoiser, "class-guide": pipeline.guide}
    save_curves(args.to / "curves.svg", {run: loss_points(runs / run) for run in parts}, "held-out loss")
    record = json.loads((runs / "class" / RECORD).read_text(encoding="utf-8"))
    called = dict(zip(commands, ("unguided samples", "guided ones"), strict=True))
    text = CARD.format(
        name=args.to.name,
        tokenizer=tokenizer,
        scale=f"{args.scale:g}",
        first=class_names(pipeline)[-1],
        classes=pipeline.denoiser.config.num_classes,
        names=", ".join(class_names(pipeline)),
        steps=STEPS,
        table=table(report),
        agreement=agreement_words(report, {REAL: "real photos"} | called),
        changes=changes_words(report, *commands),
        sampling="\n".join(f"python -m train.generate {' '.join(command)}" for command in commands.values()),
        evaluation=report["command"],
        speed=speed,
        runs="\n".join(
            run_row(folder.name, folder, network) for run, network in parts.items() for folder in lineage(runs / run)
        ),
        curves="; ".join(f"{run} {loss_curve(runs / run)}" for run in parts),
        data=", ".join(f"{name} ({count} photos)" for name, count in record["data"]),
        **settings_words(record["settings"]["row"]),
        shift=pipeline.scheduler.config.shift,
        photos=sum(count for _, count in record["data"]),
        hours=duration_words(sum(hours(folder / LOG) for folder in lineage(runs / "class"))),
        devices=", ".join(record["devices"]),
        seen=f"{args.seen} " if args.seen else "",
    )
    (args.to / "README.md").write_text(text, encoding="utf-8")
    record_built(args.to / "grid.jpg")
    print(table(report))


if __name__ == "__main__":
    main_guard(main)
