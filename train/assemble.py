"""Assemble legs into a checkpoint: ``python -m train.assemble --preset tiny --run fusion --legs FOLDER --to FOLDER``.

The legs may come from several machines and need not be finished; what is printed says how far each came. Of a phase of
the tokenizer the checkpoint is a model, of a denoiser a pipeline that names its tokenizer.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from drorae.checkpoints import CheckpointError
from drorae.pretrained.adapter import load_tokenizer
from train import stage2
from train.engine.legs import find_leg
from train.engine.session import SHARED, main_guard, number_of
from train.errors import RunError
from train.presets import PHASES, PRESETS
from train.stage1 import ENCODER, load_run
from train.tasks.generation import FlowMatching

DENOISERS = ("class", "class-guide", "text")


def assemble_denoiser(args: argparse.Namespace) -> None:
    """Write the pipeline of a denoiser's leg.

    Raises:
        CheckpointError: there is no such leg, or it does not fit.
        RunError: the preset has no such run.
    """
    row = PRESETS[args.preset].stage2.get(args.run)
    if row is None:
        raise RunError(f"preset '{args.preset}' has no run '{args.run}'.")
    leg = find_leg(args.legs, args.preset, args.run)
    if leg is None:
        raise CheckpointError(f"'{args.legs}' holds no {args.preset}-{args.run}.safetensors; copy the leg there.")
    name, kind = stage2.resolve_tokenizer(args, row), args.run.removesuffix("-guide")
    args.data = args.data or stage2.DATA[kind]
    model = load_tokenizer(name)
    condition = (stage2.class_condition if kind == "class" else stage2.text_condition)(args, model, row)
    task = FlowMatching(model, condition, row, model.statistics, None, name)
    leg.load_into(task)
    task.export(args.to)


def assemble_tokenizer(args: argparse.Namespace) -> None:
    """Write the model of a tokenizer's legs."""
    model = load_run(PRESETS[args.preset], f"{args.preset}/{args.run}", "assemble", args.out, args.legs, args.weights)
    model.save_pretrained(args.to)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=PRESETS, required=True, help="preset whose recipe is followed")
    parser.add_argument(
        "--run", choices=(*PHASES, *DENOISERS), required=True, help="the last phase whose part is wanted, or a denoiser"
    )
    parser.add_argument("--legs", type=Path, required=True, help="folder of {preset}-{run}.safetensors")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="runs that are there go before legs")
    parser.add_argument("--to", type=Path, required=True, help="folder to write; must not exist")
    parser.add_argument("--weights", type=Path, default=SHARED / "weights", help="folder of the encoder's weights")
    parser.add_argument("--tokenizer", help="tokenizer of a denoiser (default: the preset's)")
    parser.add_argument("--data", nargs="+", help="what a denoiser was trained on, for the names of its classes")
    parser.add_argument("--classes", type=number_of("classes"), help="number of classes, where the data does not say")
    parser.set_defaults(stream=False)
    args = parser.parse_args(argv)
    if args.to.exists():
        raise RunError(f"--to '{args.to}' is there already; remove it or name another folder.")
    parts: tuple[str, ...] = (args.run,)
    if args.run in DENOISERS:
        assemble_denoiser(args)
    else:
        parts = (ENCODER, *PHASES[: PHASES.index(args.run) + 1])
        assemble_tokenizer(args)
    for run in parts:
        leg = find_leg(args.legs, args.preset, run)
        if leg is not None:
            print(f"{run}: step {leg.step} of {leg.steps}, {leg.seconds / 3600:.2f} h")
    print(f"written to {args.to}")


if __name__ == "__main__":
    main_guard(main)
