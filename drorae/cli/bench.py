"""``drorae bench``: how fast this is here, see :mod:`drorae.bench`."""

from __future__ import annotations

import argparse

from drorae.choices import CONTESTS
from drorae.console import fail

HELP = "how fast this is here, as ratios against what one would otherwise use"


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of this command."""
    command.add_argument(
        "--only",
        nargs="+",
        choices=CONTESTS,
        metavar="NAME",
        help=f"contests to run, of {', '.join(CONTESTS)} (default: all)",
    )
    command.add_argument("--rounds", type=int, default=7, help="how often each is timed (default: %(default)s)")
    command.add_argument("--device", help="cpu, cuda, ... (default: the best that is there)")
    command.add_argument("--json", action="store_true", help="print one JSON object per ratio instead of a table")
    command.set_defaults(out=None)


def run(args: argparse.Namespace) -> int:
    """The exit code, once the ratios are printed."""
    from drorae.bench.report import print_ratios

    if args.rounds < 1:
        return fail(f"--rounds must be at least 1, not {args.rounds}.")
    print_ratios(args.only, args.rounds, args.device, args.json)
    return 0
