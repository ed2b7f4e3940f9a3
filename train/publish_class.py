"""Make a generator to share: ``python -m train.publish_class --preset tiny --to assets/drorae-tiny-class``.

Takes the finished runs ``class`` and ``class-guide`` of a preset, stores them in fp16 as one pipeline that names its
tokenizer, samples and measures *those* weights, and writes the model card: the grid of all classes at seeds 0 to 3, the
numbers, the training curve.
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
from drorae.explorer.sampling import class_names
from train import generate
from train.engine.run_folder import CHECKPOINT, LOG, RECORD
from train.engine.session import SHARED, add_data_arguments, main_guard, number_of, read_scale
from train.measure.generated import measure_generated, table
from train.presets import PRESETS
from train.publish import REPORT, hours

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
pipeline("golden retriever", num_inference_steps=25, guidance="autoguidance", guidance_scale={scale}, seed=0).images[0]
```

{classes} classes: {names}.

## All classes, seeds 0 to 3, unpicked

AutoGuidance, scale {scale}, {steps} steps; one row of the grid per class, in the order above. Made by
`python -m train.publish_class`.

![{classes} classes, 4 seeds each](grid.jpg)

## Measured

{table}

Sampled with {steps} steps by `train.generate`, measured by

```
{evaluation}
```

FD-MobileNetV2 is the Frechet distance of MobileNetV2's pooled features; there is no Inception network in these numbers.
MobileNetV2 took no part in the training. {speed}

## Training

| run | command | parameters | steps x latents | optimiser, lr | hours | device |
|---|---|---:|---|---|---:|---|
{runs}

Loss on held-out photos by step: {curves}

Data: {data}, {views}, the training split only. Class dropout {dropout}, EMA {ema},
{precision}, logit-normal times shifted by {shift:.2f}.

## Limits

{limits} The photos carry their own terms (non-commercial research).
"""

LIMITS = (
    "It is small and was trained for {hours:.1f} hours ({devices}) on few photos, by orders of magnitude less than "
    "such networks need: colours and settings follow the class, but most objects and animals are smears of the right "
    "colour, and few pictures would be recognised without their label. It shows the method; it is no image generator "
    "to rely on."
)


def assemble(runs: Path, tokenizer: str) -> DRoRAEClassPipeline:
    """The pipeline of both finished runs, naming ``tokenizer``.

    Raises:
        CheckpointError: a run is not finished.
    """
    for run in ("class", "class-guide"):
        if not (runs / run / CHECKPOINT).is_dir():
            raise CheckpointError(f"'{runs / run / CHECKPOINT}' is not there; finish that run first.")
    whole = DRoRAEClassPipeline.from_pretrained(runs / "class" / CHECKPOINT)
    guide = DiTDH.from_pretrained(runs / "class-guide" / CHECKPOINT / "denoiser")
    return DRoRAEClassPipeline(None, whole.denoiser, whole.scheduler, guide, whole.config.labels, tokenizer)


def grid(pipeline: DRoRAEClassPipeline, scale: float) -> Image.Image:
    """All classes, one per row, at the first seeds."""
    rows = []
    for label in range(pipeline.denoiser.config.num_classes):
        pictures = pipeline(
            [label] * GRID_SEEDS, STEPS, "autoguidance", scale, seed=list(range(GRID_SEEDS)), output_type="pil"
        ).images
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
        f"{schedule['steps']} x {schedule['batch_size']}",
        f"{schedule['optimizer']}, {schedule['lr']:g}",
        f"{hours(folder / LOG):.2f}",
        ", ".join(record["devices"]),
    ]
    return f"| {' | '.join(cells)} |"


def training_words(trained: dict) -> dict[str, str]:
    """How the card says what the settings of a run were: ``views``, ``dropout``, ``ema`` and ``precision``."""
    schedule = trained["schedule"]
    return {
        "views": "central squares" + (" and their mirror images" if schedule["flip"] else ""),
        "dropout": str(trained["dropout"]),
        "ema": str(schedule["ema_decay"]),
        "precision": {"no": "fp32"}.get(schedule["precision"], schedule["precision"]),
    }


def loss_curve(run: Path) -> str:
    """Held-out loss by step, as a run and those before it logged it; their steps count on."""
    points, before = [], 0
    for folder in lineage(run):
        rows = [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]
        points += [f"{before + row['step']}: {row['validation_loss']:.4f}" for row in rows if "validation_loss" in row]
        before += rows[-1]["step"]
    return ", ".join(points)


def sample_and_measure(args: argparse.Namespace, folder: Path) -> dict:
    """Balanced samples without guidance and with AutoGuidance, and how close they are to the training photos."""
    sets = []
    for name, options in (
        ("unguided", []),
        ("autoguidance", ["--guidance", "autoguidance", "--scale", str(args.scale)]),
    ):
        out = folder / name
        command = [str(args.to), "--count", str(args.samples), "--out", str(out), "--steps", str(STEPS), *options]
        generate.main(command)
        sets.append(str(out))
    return measure_generated(sets, args.data[0], "train", args.limit, weights=args.weights)


def time_one(pipeline: DRoRAEClassPipeline, scale: float) -> str:
    """A sentence on how long one picture takes here."""
    started = time.perf_counter()
    pipeline(0, STEPS, "autoguidance", scale, seed=0)
    seconds = time.perf_counter() - started
    return f"One picture took {seconds:.1f} s on {torch.get_num_threads()} CPU threads ({STEPS} steps, AutoGuidance)."


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--preset",
        choices=[name for name, preset in PRESETS.items() if preset.stage2],
        required=True,
        help="whose recipe is followed",
    )
    parser.add_argument("--to", type=Path, required=True, help="folder to write")
    parser.add_argument("--tokenizer", help="name the card and the pipeline give (default: the preset's)")
    parser.add_argument(
        "--scale",
        type=read_scale,
        default=1.5,
        help="of AutoGuidance (default: %(default)s)",
    )
    parser.add_argument(
        "--samples", type=number_of("pictures"), default=2000, help="per setting (default: %(default)s)"
    )
    parser.add_argument("--limit", type=number_of("pictures"), help="compare with this many real photos only")
    add_data_arguments(parser)
    parser.set_defaults(data=[str(SHARED / "photos20")])
    args = parser.parse_args(argv)
    preset, runs = PRESETS[args.preset], args.out / args.preset
    row = preset.stage2["class"]
    tokenizer = args.tokenizer or row.tokenizer
    stored = assemble(runs, tokenizer)
    for network in (stored.denoiser, stored.guide):
        network.half().register_to_config(_name_or_path=args.to.name)
    stored.save_pretrained(args.to)
    pipeline = DRoRAEClassPipeline.from_pretrained(args.to)
    pipeline.set_progress_bar_config(disable=True)
    grid(pipeline, args.scale).save(args.to / "grid.jpg", quality=90)
    speed = time_one(pipeline, args.scale)
    report = sample_and_measure(args, runs / "samples")
    (args.to / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    parts = {"class": pipeline.denoiser, "class-guide": pipeline.guide}
    record = json.loads((runs / "class" / RECORD).read_text(encoding="utf-8"))
    text = CARD.format(
        name=args.to.name,
        tokenizer=tokenizer,
        scale=args.scale,
        classes=pipeline.denoiser.config.num_classes,
        names=", ".join(class_names(pipeline)),
        steps=STEPS,
        table=table(report),
        evaluation=report["command"],
        speed=speed,
        runs="\n".join(
            run_row(folder.name, folder, network) for run, network in parts.items() for folder in lineage(runs / run)
        ),
        curves="; ".join(f"{run} {loss_curve(runs / run)}" for run in parts),
        data=", ".join(f"{name} ({count} photos)" for name, count in record["data"]),
        **training_words(record["settings"]["row"]),
        shift=pipeline.scheduler.config.shift,
        limits=LIMITS.format(
            hours=sum(hours(folder / LOG) for folder in lineage(runs / "class")),
            devices=", ".join(record["devices"]),
        ),
    )
    (args.to / "README.md").write_text(text, encoding="utf-8")
    print(table(report))


if __name__ == "__main__":
    main_guard(main)
