"""How well can a latent be generated? ``python -m train.diffusability TOKENIZER...``

Without a generator: VIV, label neighbours, spectrum and rank of any tokenizer's latents on held-out photos; with
``--probe STEPS`` also the loss of a small denoiser that learns them. Rows are compared at equal latent sizes only.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from drorae.checkpoints import stored_folder, weights_hash
from drorae.devices import best_device
from train.data.held_out import load_held_out
from train.engine.session import PHOTOS, main_guard, number_of
from train.errors import DataError
from train.experiments.statistics import student
from train.measure.diffusability import PER_CLASSES, TITLES, chosen_classes, measure_latents
from train.measure.intervals import GROUPS, Interval
from train.measure.latent_sources import ONLY, LatentSource, encode_photos, load_sources
from train.measure.probe import LabelledLatents, probe_errors
from train.presets import PRESETS
from train.settings import Stage2Preset

LIMIT, TRAINING = 1000, 2000  # photos
SEEDS, MOST_SEEDS = 3, 100
PROBES = [name for name, preset in PRESETS.items() if "class-guide" in preset.stage2]


class Size(NamedTuple):
    """What must be equal where latents are compared: side of the pictures, pixels, and the shape of the latent."""

    pixels: int
    channels: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.height} x {self.width} x {self.channels} of {self.pixels} px"


class Found(NamedTuple):
    """What was measured of one route, on how many photos; of how many classes VIV is, and how many there are."""

    size: Size
    photos: int
    classes: tuple[int, int]
    numbers: dict[str, Interval]


def probe_row(preset: str, steps: int, seed: int) -> Stage2Preset:
    """The probe: a preset's guide network and its schedule, for so many steps; warm-up in the first tenth at most."""
    row = PRESETS[preset].stage2["class-guide"]
    warmup = min(row.schedule.warmup_steps, max(1, steps // 10))
    decay = min(row.schedule.ema_decay, max(0.5, 1 - 10 / steps))
    schedule = dataclasses.replace(row.schedule, steps=steps, warmup_steps=warmup, ema_decay=decay, seed=seed)
    return dataclasses.replace(row, schedule=schedule)


def probe_loss(
    training: LabelledLatents, held_out: LabelledLatents, preset: str, steps: int, seeds: int, name: str
) -> Interval:
    """Mean loss of the probe over seeds, with Student's t over them; without an interval where there is one."""
    losses = []
    for seed in range(seeds):
        row = probe_row(preset, steps, seed)
        errors = probe_errors(training, held_out, row, best_device(), f"{name}, seed {seed}")
        losses.append(errors.double().mean().item())
    estimate = student(losses)
    return Interval(estimate.mean, estimate.low, estimate.high)


def measure_source(source: LatentSource, args: argparse.Namespace) -> dict[str, Found]:
    """All routes of a tokenizer by name."""
    photos = load_held_out(args.validation, "validation", source.size, args.limit, option="--validation")
    held_out = encode_photos(source, photos, args.batch_size)
    training: dict[str, LabelledLatents] = {}
    if args.probe:
        rows = load_held_out(args.data, "train", source.size, args.training, option="--data")
        training = encode_photos(source, rows, args.batch_size)
    found = {}
    for route in list(held_out):
        latents = held_out.pop(route)  # one route's latents are let go before the next one's are looked at
        name = source.name if route == ONLY else f"{source.name}, {route}"
        numbers = measure_latents(latents)
        if args.probe:
            numbers["probe"] = probe_loss(training.pop(route), latents, args.preset, args.probe, args.seeds, name)
        channels, height, width = latents.latents.shape[1:]
        classes = len(chosen_classes(latents)), len(latents.labels.unique())
        found[name] = Found(Size(source.size, channels, height, width), len(latents.labels), classes, numbers)
    return found


def cell(number: Interval | None) -> str:
    """A number with its interval; a dash where there is none."""
    if number is None:
        return "–"
    ends = "" if number.low is None else f" [{number.low:.3g}, {number.high:.3g}]"
    return f"{number.value:.4g}{ends}"


def tables(found: Mapping[str, Found]) -> str:
    """One Markdown table for each size, and a sentence where there are several."""
    sizes = list(dict.fromkeys(row.size for row in found.values()))
    lines = []
    if len(sizes) > 1:
        lines += ["Latents of different sizes are not compared: VIV and the loss depend on the size. A table for each:"]
    for size in sizes:
        rows = {name: row.numbers for name, row in found.items() if row.size == size}
        there = [name for name in TITLES if any(name in numbers for numbers in rows.values())]
        lines += ["", f"Latent {size}", "", f"| latent | {' | '.join(TITLES[name] for name in there)} |"]
        lines.append("|---|" + "---:|" * len(there))
        lines += [
            f"| `{name}` | {' | '.join(cell(numbers.get(key)) for key in there)} |" for name, numbers in rows.items()
        ]
        used, total = next(row.classes for row in found.values() if row.size == size)
        if used < total:
            lines += [
                "",
                f"The first {len(PER_CLASSES)} columns are of the {used} of {total} classes that have enough photos.",
            ]
    return "\n".join(lines).strip()


def protocol(args: argparse.Namespace, photos: int) -> str:
    """How it was measured, in sentences."""
    said = (
        f"Measured on {photos} photos of {Path(args.validation).name} validation. A lower VIV, variance and loss, and "
        "more neighbours of the same class, are easier to generate. Few photos in a class make VIV too small, for all "
        f"latents of a table alike. Intervals are of 95 %: of the first {len(PER_CLASSES)} columns a jackknife over "
        f"{GROUPS} groups of photos, of the others a bootstrap over photos"
    )
    if not args.probe:
        return f"{said}."
    return (
        f"{said}, of the loss Student's t over {args.seeds} seeds. The probe is the guide of '{args.preset}', "
        f"{args.probe:,} steps on {args.training:,} photos of {Path(args.data).name}."
    )


def report_of(found: Mapping[str, Found], args: argparse.Namespace, photos: int, seconds: float) -> dict[str, Any]:
    """The numbers for machines."""
    options: dict[str, object] = {"--mean-layers": " ".join(map(str, args.mean_layers)), "--size": args.size}
    options |= {"--limit": args.limit if args.limit != LIMIT else None, "--probe": args.probe}
    options |= {"--validation": args.validation if args.validation != PHOTOS else None}
    if args.probe:
        options |= {"--data": args.data if args.data != PHOTOS else None, "--preset": args.preset}
        options |= {"--training": args.training, "--seeds": args.seeds}
    given = "".join(f" {option} {value}" for option, value in options.items() if value)
    folders = {name: stored_folder(name) for name in args.tokenizers}
    return {
        "command": f"python -m train.diffusability {' '.join(args.tokenizers)}{given}",
        "sha256": {name: weights_hash(folder) for name, folder in folders.items() if folder is not None},
        "photos": photos,
        "seconds": round(seconds, 1),
        "latents": {
            name: {**row.size._asdict(), "classes": row.classes[0], **_plain_numbers(row.numbers)}
            for name, row in found.items()
        },
    }


def _plain_numbers(numbers: Mapping[str, Interval]) -> dict[str, dict[str, float | None]]:
    return {name: number._asdict() for name, number in numbers.items()}


def read_seeds(text: str) -> int:
    """How many seeds, from the command line."""
    number = number_of("seeds")(text)
    if number > MOST_SEEDS:
        raise argparse.ArgumentTypeError(f"'{text}' is more than {MOST_SEEDS} seeds; give fewer")
    return number


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "tokenizers",
        nargs="+",
        help="folders, bundled names ('taef2') or hub ids (id:subfolder), as for train.evaluate",
    )
    parser.add_argument(
        "--validation", default=PHOTOS, help="data with a validation split that has classes (default: %(default)s)"
    )
    parser.add_argument(
        "--limit", type=number_of("photos"), default=LIMIT, help="photos, evenly spread (default: %(default)s)"
    )
    parser.add_argument(
        "--mean-layers", type=number_of("layers"), nargs="+", default=[], help="also the mean of the last K layers"
    )
    parser.add_argument(
        "--size", type=number_of("pixels"), help="side of the photos, pixels (default: each model's own)"
    )
    parser.add_argument("--probe", type=number_of("steps"), metavar="STEPS", help="also train a small denoiser so long")
    parser.add_argument(
        "--seeds", type=read_seeds, default=SEEDS, help="seeds of the probe, from 0 on (default: %(default)s)"
    )
    parser.add_argument("--preset", choices=PROBES, default="tiny", help="preset whose guide is the probe")
    parser.add_argument("--data", default=PHOTOS, help="data with the probe's training split (default: %(default)s)")
    parser.add_argument(
        "--training", type=number_of("photos"), default=TRAINING, help="photos the probe learns (default: %(default)s)"
    )
    parser.add_argument(
        "--batch-size", type=number_of("photos"), default=32, help="photos at once (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_intermixed_args(argv)
    started = time.monotonic()
    args.tokenizers = list(dict.fromkeys(args.tokenizers))
    found: dict[str, Found] = {}
    for source in load_sources(args.tokenizers, args.mean_layers, args.size, best_device()):
        try:
            found |= measure_source(source, args)
        except DataError as error:
            raise DataError(f"'{source.name}': {error}") from error
    photos = max(row.photos for row in found.values())
    print(tables(found))
    print(f"\n{protocol(args, photos)}")
    if args.json:
        report = report_of(found, args, photos, time.monotonic() - started)
        fresh = args.json.with_name(f"{args.json.name}.new")
        fresh.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        fresh.replace(args.json)


if __name__ == "__main__":
    main_guard(main)
