"""From the words of a command line to an exit code."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from drorae import __version__
from drorae.cli import batch, bench, compare, gallery, intervene, reconstruct, report, routing, sample
from drorae.console import fail, run_command
from drorae.errors import DRoRAEError

COMMANDS = {
    "reconstruct": reconstruct,
    "routing": routing,
    "intervene": intervene,
    "report": report,
    "batch": batch,
    "bench": bench,
    "gallery": gallery,
    "compare": compare,
    "sample": sample,
}


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: its words without the program's name; those of the process when ``None``.

    Returns:
        The exit code: 0, 2 after a sentence on the error stream, 130 after Ctrl-C, 141 when nobody reads the output.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["app"]:
        return _app(arguments[1:])
    return run_command(lambda: _run(_parser().parse_args(arguments)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="drorae", description="Depth-routed representation autoencoders.")
    parser.add_argument("--version", action="version", version=f"drorae {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        command = commands.add_parser(name, help=module.HELP)
        module.add_options(command)
        command.set_defaults(run=module.run)
    commands.add_parser("app", help="serve the explorer (drorae app --help lists its options)")
    return parser


def _run(args: argparse.Namespace) -> int:
    try:
        wrong = None if args.out is None else _impossible(args.out) or args.misdirected(args.out, _pictures(args))
        return fail(wrong) if wrong else args.run(args)
    except DRoRAEError as error:
        return fail(str(error))
    except BrokenPipeError:  # the output's, not --out
        raise
    except OSError as error:
        if args.out is None:
            raise
        reason = error.strerror or type(error).__name__
        return fail(f"--out '{args.out}' cannot be written ({reason}); choose another place.")


def _impossible(out: Path) -> str | None:
    """What is wrong with a name that no file or folder can have."""
    return f"--out '{out}' has a null character, which no name can have; choose another." if "\0" in str(out) else None


def _pictures(args: argparse.Namespace) -> list[Path]:
    """The pictures that a command reads."""
    return args.images if "images" in args else [args.image] if "image" in args else []


def _app(arguments: list[str]) -> int:
    missing = [name for name in ("gradio", "plotly") if find_spec(name) is None]
    if missing:
        return fail(f"The explorer needs {' and '.join(missing)}; install it with: pip install 'drorae[ui]'")
    from drorae.ui.app import main as serve

    return serve(arguments)
