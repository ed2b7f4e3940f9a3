"""How hard is a latent to generate? ``python -m train.dit_probe CHECKPOINT...``

The probe of the paper's table 3: the same small denoiser, from the same start, on the latent of every checkpoint and
on the last-layer latent (RAE) of the first; the flow-matching loss on held-out photos says which is easier. Every
latent is normalised with its own statistics, so that the losses can be compared. Run the same command again to go on.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from drorae import AutoencoderDRoRAE, LatentStatistics
from drorae.pretrained.adapter import load_tokenizer
from train.data.latent_cache import LatentPositions
from train.engine.run_folder import LOG
from train.engine.session import (
    SHARED,
    add_data_arguments,
    add_run_arguments,
    check_precision,
    load_validation,
    main_guard,
    number_of,
    train,
    with_arguments,
)
from train.errors import RunError
from train.latent_stats import StreamingMoments
from train.presets import PRESETS
from train.settings import Stage2Preset
from train.stage2 import VALIDATION_PHOTOS, class_condition, load_latents
from train.tasks.generation import FlowMatching

BATCH = 64


def statistics_of(latents: np.ndarray, rows: np.ndarray) -> LatentStatistics:
    """Mean and standard deviation per channel and position over cached latents (n, 2, C, h, w), both views."""
    moments = StreamingMoments()
    for start in range(0, len(rows), BATCH):
        moments.update(torch.from_numpy(latents[rows[start : start + BATCH]]).flatten(0, 1))
    return LatentStatistics.of(latents.shape[2:], moments.variance.sqrt().float(), moments.mean.float())


def probe(args: argparse.Namespace, checkpoint: str, fused: bool, row: Stage2Preset) -> list[dict]:
    """Train the probe on one latent; the lines of its log."""
    model: AutoencoderDRoRAE = load_tokenizer(checkpoint)
    model.statistics = None
    condition = class_condition(args, model, row)
    accelerator = Accelerator(mixed_precision=row.schedule.precision)
    positions = load_latents(args, model.to(accelerator.device), row, accelerator, fused)
    assert isinstance(positions, LatentPositions), "the probe always keeps its latents"
    statistics = statistics_of(positions.latents, positions.whole).to(accelerator.device)
    name = f"probe-{Path(checkpoint).parent.parent.name}-{Path(checkpoint).parent.name}-{Path(checkpoint).name}"
    name += "" if fused else "-last-layer"

    def build(_: Accelerator) -> FlowMatching:
        validation = load_validation(args, model.image_size, limit=VALIDATION_PHOTOS, crop="adm")
        return FlowMatching(model, condition, row, statistics, validation, checkpoint, fused)

    settings = {"denoiser": row.denoiser, "checkpoint": checkpoint, "fused": fused}
    train(args, "train.dit_probe", name, settings, row, build, lambda task, accelerator: positions)
    return [json.loads(line) for line in (args.out / args.preset / name / LOG).read_text(encoding="utf-8").splitlines()]


def table(losses: dict[str, list[dict]]) -> str:
    """Held-out loss by step, one row per latent."""
    steps = [row["step"] for row in next(iter(losses.values()))]
    lines = [f"| latent | {' | '.join(f'step {step}' for step in steps)} |", "|---|" + "---:|" * len(steps)]
    for name, rows in losses.items():
        cells = [f"{row['validation_loss']:.4f}" for row in rows]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="+", help="tokenizers: folders or hub ids; all of one size")
    parser.add_argument(
        "--preset",
        choices=[name for name, preset in PRESETS.items() if preset.stage2],
        default="tiny",
        help="preset whose guide network is the probe (default: %(default)s)",
    )
    parser.add_argument(
        "--steps", type=number_of("steps"), default=600, help="steps to train each probe for (default: %(default)s)"
    )
    add_data_arguments(parser)
    add_run_arguments(parser)
    parser.set_defaults(data=[str(SHARED / "photos20")], validation=None, log=[], no_cache=False, classes=None)
    args = parser.parse_intermixed_args(argv)
    args.validation = args.validation or args.data[0]
    if args.stream:
        raise RunError("--stream: the probe reads its latents many times; give a copy of the data on this disk.")
    row = with_arguments(PRESETS[args.preset].stage2["class-guide"], args)
    schedule = dataclasses.replace(row.schedule, steps=args.steps, save_every=max(1, args.steps // 4))
    row = dataclasses.replace(row, schedule=schedule)
    check_precision(args, row.schedule)
    losses = {"last layer": probe(args, args.checkpoints[0], False, row)}
    losses |= {checkpoint: probe(args, checkpoint, True, row) for checkpoint in args.checkpoints}
    print(table(losses))


if __name__ == "__main__":
    main_guard(main)
