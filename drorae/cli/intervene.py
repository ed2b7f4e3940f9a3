"""``drorae intervene``: a picture rebuilt with layers left out, another strength, or at some tokens only."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from drorae.cli.options import add_model, add_picture, load_model
from drorae.cli.outputs import misdirected_file, size_text, write_file

HELP = "rebuild a picture with other layers or strength"
# How a verdict is said in a sentence.
STANDING = {
    "yes": "its error is about that of the picture as trained",
    "partly": "its error may be larger than that of the picture as trained",
    "no": "its error is larger than that of the picture as trained",
    "unknown": "how its error compares with the picture as trained was not measured for this model",
}


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(command)
    add_picture(command)
    layers = command.add_mutually_exclusive_group()
    layers.add_argument("--layers", type=int, nargs="+", help="numbers, from 1, of the layers that stay in the sum")
    layers.add_argument("--without", type=int, nargs="+", help="numbers of the layers that are left out")
    command.add_argument("--beta", type=float, help="strength of the correction, 0 to 1 (default: as trained)")
    command.add_argument("--tokens", type=int, nargs="+", help="change only these, numbered row by row from 0")
    command.add_argument("--out", type=Path, required=True, help="file to write (PNG, it holds the settings)")
    command.add_argument("--json", action="store_true", help="print one JSON object instead of a sentence")
    command.set_defaults(misdirected=misdirected_file(".png"))


def run(args: argparse.Namespace) -> int:
    """The exit code, once the picture is written."""
    from PIL import Image

    from drorae.explorer.answers import intervention_answer
    from drorae.explorer.explore import intervene
    from drorae.explorer.interventions import Intervention
    from drorae.images import load_image, png_with_settings

    model = load_model(args.model)
    layers = args.layers
    if args.without is not None:
        Intervention(tuple(args.without)).check(model.encoder.num_layers)
        layers = [n for n in range(1, model.encoder.num_layers + 1) if n not in args.without]
    as_tuple = [None if values is None else tuple(values) for values in (layers, args.tokens)]
    intervention = Intervention(as_tuple[0], args.beta, as_tuple[1])
    frame = intervene(load_image(args.image, str(args.image)), model, intervention, args.size, args.whole)
    settings = {"model": args.model, "layers": layers, "beta": args.beta, "tokens": args.tokens}
    settings |= {"size": args.size, "whole": args.whole or None}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    kept = {key: value for key, value in settings.items() if value is not None}
    write_file(args.out, png_with_settings(Image.fromarray(frame.picture), kept))
    if args.json:
        print(json.dumps({"image": str(args.image), **settings, **intervention_answer(frame), "file": str(args.out)}))
    else:
        print(
            f"{args.out}: {size_text(frame.picture)}, {frame.metrics['psnr']:.2f} dB, "
            f"SSIM {frame.metrics['ssim']:.3f}; {STANDING[frame.compatibility.verdict]}"
        )
    return 0
