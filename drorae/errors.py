"""What errors meant for people have in common."""

from __future__ import annotations

import unicodedata

QUOTED = 1000  # letters, at most, of an error that a sentence quotes


class DRoRAEError(Exception):
    """An error whose message is one sentence for a person: what is wrong, which value, what to do."""


def printable(text: str) -> str:
    """A text on one line, for a message or a terminal: line breaks and control characters, which names of files may
    have, are escaped as in Python's strings."""
    return "".join(
        letter.encode("unicode_escape").decode() if unicodedata.category(letter) in ("Cc", "Zl", "Zp") else letter
        for letter in text
    )


def count_of(number: int, noun: str, plural: str | None = None) -> str:
    """``"1 seed"``, ``"2 seeds"``: a number with its noun, in English; ``plural`` where it takes more than an s."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def reason_of(error: BaseException) -> str:
    """The first line of an error's message without a full stop, for a sentence that quotes it; its type's name where it
    has none."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return (line if len(line) <= QUOTED else f"{line[:QUOTED]} ...").removesuffix(".")
