"""``drorae reconstruct``: pictures through every route, as files and with their metrics."""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING

from drorae.cli.options import add_model, add_pictures, load_model
from drorae.cli.outputs import misdirected_folder, save_picture, size_text
from drorae.console import fail
from drorae.errors import printable

if TYPE_CHECKING:
    from drorae.explorer.explore import Exploration

HELP = "rebuild pictures from the last layer and from all layers"


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(command)
    add_pictures(command)
    command.add_argument("--out", type=Path, required=True, help="folder for the pictures (PNG)")
    command.add_argument("--json", action="store_true", help="print one JSON object per picture instead of a table")
    command.set_defaults(misdirected=misdirected_folder)


def run(args: argparse.Namespace) -> int:
    """The exit code, once the pictures are written."""
    from drorae.explorer.explore import explore
    from drorae.images import ImageError, load_image

    model = load_model(args.model)
    code = 0
    for path, stem in zip(args.images, _stems(args.images), strict=True):
        try:
            picture = load_image(path, str(path))
            result = explore(picture, model, interventions=False, size=args.size, whole=args.whole)
        except ImageError as error:  # the other pictures are still worth doing
            code = fail(str(error))
            continue
        args.out.mkdir(parents=True, exist_ok=True)
        files = {"original": args.out / f"{stem}-original.png"}
        save_picture(result.original, files["original"])
        for name, picture in result.pictures.items():
            files[name] = args.out / f"{stem}-{name}.png"
            save_picture(picture, files[name])
        if args.json:
            print(json.dumps(_as_json(path, result, files)), flush=True)
        else:
            _print_table(path, result)
    return code


def _stems(paths: list[Path]) -> list[str]:
    """File stems, numbered where two pictures would overwrite each other."""
    stems: list[str] = []
    for path in paths:
        numbered = (f"{path.stem}-{number}" for number in itertools.count(2))
        stems.append(next(stem for stem in itertools.chain([path.stem], numbered) if stem not in stems))
    return stems


def _as_json(path: Path, result: Exploration, files: dict[str, Path]) -> dict:
    from drorae.explorer.answers import reconstruction_answer

    row = {"image": str(path), **reconstruction_answer(result), "original": {}}
    for name, file in files.items():
        row[name] |= {"file": str(file)}
    return row


def _print_table(path: Path, result: Exploration) -> None:
    from drorae.explorer.explore import ROUTES

    print(f"{printable(str(path))}  ({size_text(result.original)}, {result.seconds:.2f} s)")
    for route in ROUTES:
        if route.name in result.metrics:
            numbers = result.metrics[route.name]
            print(f"  {route.name:8}{numbers['psnr']:7.2f} dB  SSIM {numbers['ssim']:.3f}  {route.explanation}")
