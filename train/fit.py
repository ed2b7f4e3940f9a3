"""Fit a fusion to any timm ViT on your own pictures, within minutes that you give:
``python -m train.fit ENCODER FOLDER``.

The encoder's sizes come from timm, a few steps are timed, and the minutes are shared between three phases: a decoder
on the last layer (this is RAE), the fusion with that decoder frozen, a copy of the decoder on the fused latent. Then
the model is measured on photos that were held out, and stored with a card. The same command goes on after a stop.
"""

from __future__ import annotations

import argparse
import shlex
import time
from pathlib import Path

import torch
from accelerate import Accelerator

from drorae.checkpoints import CheckpointError
from train.engine.session import SHARED, TRACKERS, amount_of, main_guard, number_of, train
from train.fitting.job import Job, read_job
from train.fitting.model import stored_report, write_model
from train.fitting.plan import Clock, duration
from train.fitting.progress import Plan, describe, make_plan, read_plan
from train.fitting.recipe import Length
from train.fitting.results import tables
from train.presets import PHASES
from train.stage1 import load_encoder, start_model
from train.tasks.reconstruction import Reconstruction


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0].replace("\n", " "))
    parser.add_argument("encoder", help="a vision transformer of timm, by name")
    parser.add_argument(
        "folder",
        help="your pictures: a folder of them, of train-*.parquet or of train-*.tar shards, or one parquet file",
    )
    parser.add_argument(
        "--weights",
        help="file of the encoder's weights, timm's state dict as .safetensors (default: timm's own, fetched)",
    )
    parser.add_argument(
        "--minutes",
        type=amount_of("minutes", exclusive=True),
        default=60.0,
        help="time for everything, from now to the card (default: 60)",
    )
    parser.add_argument("--dry-run", action="store_true", help="time a few steps, print the plan, and do nothing else")
    parser.add_argument(
        "--size",
        type=number_of("pixels"),
        help="side of the pictures, pixels (default: what timm states, or about 224 where that is more than 256)",
    )
    parser.add_argument(
        "--held-out",
        type=amount_of("a percentage", least=1, most=50),
        default=10.0,
        help="percent of the pictures that are measured on and not trained on, where there is no validation split "
        "(default: 10)",
    )
    parser.add_argument("--batch-size", type=number_of("pictures"), default=16, help="pictures a step (default: 16)")
    parser.add_argument(
        "--decoder-width",
        type=_width,
        help="channels of the decoder, a multiple of 64 (default: the encoder's, from 256 to 512)",
    )
    parser.add_argument(
        "--decoder-layers", type=number_of("layers"), default=4, help="layers of the decoder (default: %(default)s)"
    )
    parser.add_argument(
        "--fusion-width",
        type=number_of("channels"),
        help="width of an expert (default: four times the encoder's channels)",
    )
    parser.add_argument(
        "--precision", choices=("no", "bf16"), help="'no' is fp32 (default: bf16 on a CUDA GPU, else fp32)"
    )
    parser.add_argument(
        "--workers", type=number_of("processes", least=0), default=1, help="processes that read pictures (default: 1)"
    )
    parser.add_argument(
        "--networks",
        type=Path,
        default=SHARED / "weights",
        help="folder of the pretrained networks that judge pictures (default: %(default)s)",
    )
    parser.add_argument(
        "--log",
        nargs="*",
        choices=TRACKERS,
        default=["tensorboard"],
        help="where the curves are logged (default: tensorboard)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs"), help="folder where runs are kept (default: %(default)s)"
    )
    parser.add_argument(
        "--to", type=Path, help="folder of the finished model (default: 'model' in the folder of the run)"
    )
    return parser


def _width(text: str) -> int:
    width = number_of("channels")(text)
    if width % 64:
        raise argparse.ArgumentTypeError(f"'{text}' is not a multiple of 64; use {max(64, round(width / 64) * 64)}")
    return width


def check_weights(job: Job) -> None:
    """Check that the encoder's weights can be fetched or read, and fit it.

    Raises:
        CheckpointError: why not, and what to do.
    """
    try:
        load_encoder(job.preset({}), job.args.networks)
    except CheckpointError as error:
        if job.weights is not None:
            raise
        raise CheckpointError(f"{str(error).removesuffix('.')}, or give --weights FILE.safetensors.") from error


def train_phase(job: Job, plan: Plan, phase: str, length: Length) -> None:
    """Train a phase by the loop that all commands share; a finished one is left alone."""
    row = job.row(phase, length)
    preset, checked = job.preset({phase: row}), plan.photos_to_check(job)

    def build(_: Accelerator) -> Reconstruction:
        torch.manual_seed(row.schedule.seed)
        model = start_model(preset, row, job.args.out, None, None, job.args.networks)
        return Reconstruction(model, row, job.args.networks, job.held_out(checked))

    options = {**vars(job.args), "preset": job.run, "data": [job.photos.name], "legs": None}
    command = job.command.removeprefix("python -m ")
    train(
        argparse.Namespace(**options),
        command,
        phase,
        preset.model,
        row,
        build,
        lambda task, accelerator: job.positions(row.schedule.seed),
    )


def main(argv: list[str] | None = None, clock: Clock = time.perf_counter) -> None:
    args = build_parser().parse_args(argv)
    started = clock()
    job = read_job(args)
    report = None if args.dry_run else stored_report(job)
    if report is None:
        plan = read_plan(job)
        if plan is None:
            if not args.dry_run or args.weights is not None:
                check_weights(job)  # before anybody waits
            plan = make_plan(job, started, clock)
        print(describe(job, plan), flush=True)
        if args.dry_run:
            return
        for phase in PHASES:
            length = plan.lengths.get(phase) or plan.to_come(job, strict=not plan.lengths)[phase]
            plan.lengths[phase] = length
            plan.save(job)
            train_phase(job, plan, phase, length)
        report = write_model(job, plan)
    print(f"\n{tables(report)}\n\nThis sitting took {duration(clock() - started)}. {opening(job)}")


def opening(job: Job) -> str:
    """How to open the model, for the end of the output."""
    place = shlex.quote(str(job.to))
    return (
        f"Stored in {job.to}, with a card (README.md).\n"
        f"Open it on the page:            python app.py --model {place}\n"
        f"Beside the embedded model:      python app.py, then Other tokenizers, Add a tokenizer, {place}\n"
        f"In the place of another model:  About, Another model, {place}"
    )


if __name__ == "__main__":
    main_guard(main)
