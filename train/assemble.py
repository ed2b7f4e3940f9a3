"""Assemble legs into a checkpoint: ``python -m train.assemble --preset tiny --run fusion --legs FOLDER --to FOLDER``.

The legs may come from several machines and need not be finished; what is printed says how far each came.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from train.engine.legs import find_leg
from train.engine.session import SHARED, main_guard
from train.errors import RunError
from train.presets import PHASES, PRESETS
from train.stage1 import ENCODER, load_run


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=PRESETS, required=True, help="preset whose recipe is followed")
    parser.add_argument("--run", choices=PHASES, required=True, help="the last phase whose part is wanted")
    parser.add_argument("--legs", type=Path, required=True, help="folder of {preset}-{run}.safetensors")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="runs that are there go before legs")
    parser.add_argument("--to", type=Path, required=True, help="folder to write; must not exist")
    parser.add_argument("--weights", type=Path, default=SHARED / "weights", help="folder of the encoder's weights")
    args = parser.parse_args(argv)
    if args.to.exists():
        raise RunError(f"--to '{args.to}' is there already; remove it or name another folder.")
    model = load_run(PRESETS[args.preset], f"{args.preset}/{args.run}", "assemble", args.out, args.legs, args.weights)
    model.save_pretrained(args.to)
    for run in (ENCODER, *PHASES[: PHASES.index(args.run) + 1]):
        leg = find_leg(args.legs, args.preset, run)
        if leg is not None:
            print(f"{run}: step {leg.step} of {leg.steps}, {leg.seconds / 3600:.2f} h")
    print(f"written to {args.to}")


if __name__ == "__main__":
    main_guard(main)
