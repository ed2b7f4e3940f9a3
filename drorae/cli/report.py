"""``drorae report``: one HTML file with everything that the page shows of a picture."""

from __future__ import annotations

import argparse
from pathlib import Path

from drorae.cli.options import add_model, add_picture, load_model
from drorae.cli.outputs import ESCAPED, misdirected_file, size_text, write_file

HELP = "one HTML file with everything the page shows"


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(command)
    add_picture(command)
    command.add_argument(
        "--centre",
        type=float,
        nargs=2,
        default=(0.5, 0.5),
        metavar=("X", "Y"),
        help="centre of the square, as a share of the picture's width and height (default: 0.5 0.5)",
    )
    command.add_argument("--out", type=Path, required=True, help="file to write (.html)")
    command.set_defaults(misdirected=misdirected_file(".html", ".htm"))


def run(args: argparse.Namespace) -> int:
    """The exit code, once the file is written."""
    from drorae.explorer.reading import Reading
    from drorae.images import open_photo
    from drorae.viewers.report import report

    model = load_model(args.model)
    reading = Reading(open_photo(args.image, str(args.image)), model, args.size, args.whole, args.centre)
    text = report(reading, args.model, str(args.image))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_file(args.out, text.encode("utf-8", ESCAPED))
    shown = size_text(reading.routes.original)
    print(f"{args.out}: {shown}, {len(text) / 2**20:.1f} MiB, to be opened in any browser")
    return 0
