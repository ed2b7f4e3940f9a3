"""What errors meant for people have in common."""

from __future__ import annotations


class DRoRAEError(Exception):
    """An error whose message is one sentence for a person: what is wrong, which value, what to do."""


def count_of(number: int, noun: str) -> str:
    """``"1 seed"``, ``"2 seeds"``: a number with its noun, in English."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
