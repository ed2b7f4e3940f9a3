"""Write ``docs/commands.md`` from the parsers of all commands: ``python docs/commands.py``."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "commands.md"
PAGE = ("drorae.ui.app", "python app.py")
LIBRARY = ("drorae.cli", "python -m drorae")


class Found(Exception):  # noqa: N818 (not an error)
    """Carries a parser out of the command that has built it."""


def parser_of(main: Callable[[list[str]], object]) -> argparse.ArgumentParser:
    """The parser that a command builds, which it is stopped at."""

    def stop(self: argparse.ArgumentParser, *args: object, **kwargs: object) -> None:
        raise Found(self)

    with (
        patch.object(argparse.ArgumentParser, "parse_args", stop),
        patch.object(argparse.ArgumentParser, "parse_known_args", stop),
    ):
        try:
            main([])
        except Found as found:
            return found.args[0]
    raise ValueError(f"{main} parses no arguments")


def commands() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Command lines and their parsers: the page, the library's commands, the training scripts."""
    module, name = PAGE
    yield name, parser_of(importlib.import_module(module).main)
    module, name = LIBRARY
    parser = parser_of(importlib.import_module(module).main)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                sub = action.choices[choice.dest]
                sub.description = sub.description or choice.help
                yield f"{name} {choice.dest}", sub
    for path in sorted((ROOT / "train").rglob("*.py")):
        if "argparse.ArgumentParser(" in path.read_text(encoding="utf-8"):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield f"python -m {module}", parser_of(importlib.import_module(module).main)


def rows(parser: argparse.ArgumentParser) -> Iterator[str]:
    """One table row for each option."""
    for action in parser._actions:
        if isinstance(action, (argparse._HelpAction, argparse._VersionAction, argparse._SubParsersAction)):
            continue
        names = ", ".join(f"`{name}`" for name in action.option_strings) or f"`{action.metavar or action.dest}`"
        if action.choices is not None:
            names += " " + escape(" | ".join(map(str, action.choices)))
        default = " ".join(map(str, action.default)) if isinstance(action.default, (list, tuple)) else action.default
        text = (action.help or "") % {**vars(action), "default": default, "prog": parser.prog}
        required = " (required)" if action.required and action.option_strings else ""
        yield f"| {names} | {escape(text)}{required} |"


def sentence_of(description: str) -> str:
    """The sentence of a description, without the command line that follows it in a module's docstring."""
    text = description.strip().partition("``python -m")[0].strip(" :")
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?")) else ".")


def escape(text: str) -> str:
    """A text for a cell of a table."""
    return text.replace("|", "\\|")


def document() -> str:
    """All of the file."""
    parts = ["# Commands", "", "Written by `python docs/commands.py` from the commands themselves."]
    for command, parser in commands():
        parts += ["", f"## `{command}`", "", sentence_of(parser.description or "")]
        found = list(rows(parser))
        if found:
            parts += ["", "| option | meaning |", "|---|---|", *found]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    TARGET.write_text(document(), encoding="utf-8")
