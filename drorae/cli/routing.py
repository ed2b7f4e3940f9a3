"""``drorae routing``: the routing weights of a picture, as a file of NumPy arrays."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from drorae.cli.options import add_model, add_picture, load_model
from drorae.cli.outputs import misdirected_file, size_text
from drorae.console import fail
from drorae.whole_file import whole_file

HELP = "save the routing weight of every layer and token"


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(command)
    add_picture(command)
    command.add_argument("--out", type=Path, required=True, help="file to write (.npz)")
    command.add_argument("--json", action="store_true", help="print everything as JSON instead of a sentence")
    command.set_defaults(misdirected=misdirected_file(".npz"))


def run(args: argparse.Namespace) -> int:
    """The exit code, once the weights are written."""
    import numpy as np

    from drorae.explorer.answers import routing_answer
    from drorae.explorer.explore import explore
    from drorae.images import load_image

    model = load_model(args.model)
    picture = load_image(args.image, str(args.image))
    result = explore(picture, model, interventions=False, size=args.size, whole=args.whole)
    if result.weights is None:
        return fail(f"'{args.model}' has no fusion, so there is no routing; use a model with fusion.")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    # through a handle, so that NumPy does not append .npz to the name that was asked for
    with whole_file(args.out) as file:
        np.savez_compressed(
            file,
            weights=result.weights,
            shares=result.shares,
            grid=np.array(result.grid_size),
            layers=np.arange(1, result.num_layers + 1),
        )
    if args.json:
        print(json.dumps(routing_answer(result)))
        return 0
    rows, columns = result.grid_size
    shape = f"weights {result.weights.shape} (tokens, layers), grid {rows} x {columns} (rows, columns)"
    print(f"{args.out}: {shape}, {size_text(result.original)}")
    return 0
