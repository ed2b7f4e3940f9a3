"""``drorae compare``: one picture through several tokenizers."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from drorae.cli.options import add_model, add_picture, load_model
from drorae.cli.outputs import misdirected_folder, save_picture
from drorae.console import fail
from drorae.errors import DRoRAEError, printable

HELP = "one picture through several tokenizers, and how much each of them stores"


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(command)
    add_picture(command)
    command.add_argument(
        "--with",
        dest="tokenizers",
        nargs="+",
        action="extend",
        metavar="TOKENIZER",
        help="taef2, mean-K (of the model's last K layers), or any autoencoder of diffusers or of this package, by "
        "folder or Hub id (id@revision, id:subfolder)",
    )
    command.add_argument("--out", type=Path, help="folder for the pictures (PNG)")
    command.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    command.set_defaults(misdirected=misdirected_folder)


def run(args: argparse.Namespace) -> int:
    """The exit code, once the table is printed."""
    from drorae.explorer.answers import column_answer
    from drorae.explorer.explore import explore, open_picture
    from drorae.explorer.tokenizers import find_tokenizer, measure_tokenizer, route_columns
    from drorae.images import load_image
    from drorae.pretrained.autoencoders import licence_of

    model, licence, code = load_model(args.model), licence_of(args.model), 0
    picture = load_image(args.image, str(args.image))
    result = explore(picture, model, interventions=False, size=args.size, whole=args.whole)
    images = open_picture(picture, model, args.size, args.whole)
    columns = route_columns(result, model, licence)
    for name in dict.fromkeys(args.tokenizers or ()):
        try:
            columns.append(measure_tokenizer(images, find_tokenizer(name, model, licence)))
        except DRoRAEError as error:  # the others are still worth doing
            code = fail(str(error))
    height, width, _ = result.original.shape
    answers = [column_answer(column) for column in columns]
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        save_picture(result.original, args.out / f"{args.image.stem}-original.png")
        for number, (column, answer) in enumerate(zip(columns, answers, strict=True), 1):
            title = re.sub(r"[^\w.]+", "-", column.title)
            answer["file"] = str(args.out / f"{args.image.stem}-{number}-{title}.png")
            save_picture(column.picture, answer["file"])
    if args.json:
        print(json.dumps({"image": str(args.image), "width": width, "height": height, "columns": answers}))
        return code
    print(f"{printable(str(args.image))}  ({width} x {height} px, {3 * width * height:,} numbers)")
    for column in columns:
        size = " x ".join(map(str, column.latent))
        print(
            f"  {column.title:34}{column.metrics['psnr']:6.2f} dB  SSIM {column.metrics['ssim']:.3f}  "
            f"MAE {column.metrics['mae']:5.2f}  latent {size:13} {column.stored:>9,} numbers, 1/{column.ratio:.1f}  "
            f"encoder: {column.encoder}; decoder: {column.decoder}; licence: {column.licence or 'not stated'}"
        )
    return code
