"""The table that the corpora print: how many of each kind were tried, refused and read, and what was wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

HEADER = f"{'':50}{'tried':>6}{'refused':>9}{'read':>6}{'wrong':>7}"


def print_kind(kind: str, counts: Counter[str]) -> None:
    """One row."""
    print(f"{kind:50}{counts.total():6}{counts['refused']:9}{counts['read']:6}{counts['wrong']:7}", flush=True)


def print_total(total: Counter[str], kinds: int) -> int:
    """The last row; 1 if anything was wrong, for the exit code."""
    print_kind(f"all, {kinds} kinds", total)
    return 1 if total["wrong"] else 0


def print_table(kinds: Mapping[str, Counter[str]]) -> int:
    """All rows; 1 if anything was wrong."""
    print(HEADER)
    for kind, counts in kinds.items():
        print_kind(kind, counts)
    return print_total(sum(kinds.values(), Counter()), len(kinds))
