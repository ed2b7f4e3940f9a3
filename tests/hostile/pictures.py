"""Every malformed picture through :func:`drorae.load_image`: read, or refused in a sentence, within the limits.

``python -m tests.hostile.pictures`` takes all of them and prints, for each kind, how many were tried, refused and read,
and what was wrong; it ends with 1 if anything was.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from drorae.decoding import seconds_allowed
from drorae.decoding_cost import MEMORY
from drorae.images import ImageError, load_image
from tests.hostile.bombs import BOMBS, PHOTOS
from tests.hostile.damage import DAMAGES, FORMATS, small_picture
from tests.hostile.tally import HEADER, print_kind, print_total

SEEDS = 4
ROOT = Path(__file__).parents[2]
STARTS = 3  # as often as a process takes to start may a child take, beside decoding
START_BYTES = 100_000_000  # that it holds then
ROUNDING = 1.15  # of figures that a system keeps


def damaged(seeds: int = SEEDS) -> Iterator[tuple[str, str, bytes]]:
    """Kind of damage, format and file: each damage of each format with that many seeds."""
    wholes = {form: small_picture(form) for form in FORMATS}
    for number, (kind, damage) in enumerate(DAMAGES.items()):
        for form in FORMATS:
            for seed in range(seeds):
                rng = np.random.default_rng([seed, number, FORMATS.index(form)])
                yield kind, form, damage(wholes[form], rng)


def outcome(content: bytes | Path, name: str) -> tuple[str, str]:
    """ "read", "refused" or "wrong", and what was said."""
    try:
        picture = load_image(content, name)
    except ImageError as error:
        text = str(error)
        return ("refused" if name in text and text.endswith(".") and "\n" not in text else "wrong"), text
    except BaseException as error:
        return "wrong", f"{type(error).__name__}: {error}"
    right = type(picture) is Image.Image and picture.mode == "RGB" and min(picture.size) >= 8 and not picture.info
    return ("read" if right else "wrong"), str(picture.size)


def measured(name: str) -> dict[str, Any]:
    """Outcome, seconds of the processor and bytes of one of the bombs or photos, in a fresh process.

    ``seconds`` and ``bytes`` are this process's, without what it held before; ``child_seconds`` and ``child_bytes`` of
    the one that it started, if any, all in all; ``limit`` are the seconds allowed; ``sentence`` why it was refused.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture"
        path.write_bytes((BOMBS | PHOTOS)[name]())
        done = subprocess.run(
            [sys.executable, "-m", "tests.hostile.pictures", "--measure", str(path)],
            cwd=ROOT, capture_output=True, check=False, text=True, encoding="utf-8",
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
    if done.returncode:
        return {"outcome": "wrong", "said": f"ended with {done.returncode}: {done.stderr[-300:]}"}
    return json.loads(done.stdout)


@cache
def start_seconds() -> float:
    """Processor time that a process takes to start on this machine, with what decodes."""
    before = os.times()
    subprocess.run([sys.executable, "-c", "import drorae.images"], cwd=ROOT, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def within_limits(figures: dict[str, Any]) -> bool:
    """Whether time and memory are those that :mod:`drorae.decoding` promises."""
    limit = figures["limit"] * ROUNDING
    return (
        figures["seconds"] <= limit
        and figures["child_seconds"] <= limit + STARTS * start_seconds()
        and figures["bytes"] <= MEMORY
        and figures["child_bytes"] <= MEMORY + START_BYTES
    )


def _measure(path: Path) -> dict[str, Any]:
    import resource

    limit, size = seconds_allowed(), path.stat().st_size
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak
    held, start = _peak(), time.process_time()
    result, said = outcome(path, "picture")
    seconds, peak = time.process_time() - start, _peak() - held
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "outcome": result,
        "said": said,
        "file": size,
        "limit": limit,
        "seconds": seconds,
        "bytes": peak,
        "child_seconds": children.ru_utime + children.ru_stime,
        "child_bytes": children.ru_maxrss * 1024,
    }


def _peak() -> int:
    """Most bytes that this process held."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def _try_damaged() -> Counter[str]:
    kinds: dict[str, Counter[str]] = {kind: Counter() for kind in DAMAGES}
    for kind, form, content in damaged():
        result, said = outcome(content, "picture")
        kinds[kind][result] += 1
        if result == "wrong":
            print(f"{kind}, {form}: {said}")
    for kind, counts in kinds.items():
        print_kind(kind, counts)
    return sum(kinds.values(), Counter())


def _try_costly(names: list[str]) -> Counter[str]:
    total: Counter[str] = Counter()
    for name in names:
        figures = measured(name)
        result = figures["outcome"]
        if result != "wrong" and (not within_limits(figures) or (name in PHOTOS and result != "read")):
            result = "wrong"
        total[result] += 1
        print_kind(name, Counter([result]))
        if "limit" in figures:
            print(
                f"    file {figures['file'] / 1e6:.1f} MB; {figures['seconds']:.2f} s and"
                f" {figures['bytes'] / 1e6:.0f} MB here, {figures['child_seconds']:.2f} s and"
                f" {figures['child_bytes'] / 1e6:.0f} MB in a child, of {figures['limit']:.2f} s: {figures['said']}",
                flush=True,
            )
        else:
            print(f"    {figures['said']}")
    return total


def main(arguments: list[str]) -> int:
    """All of them; or those bombs and photos whose names contain what was given."""
    if arguments[:1] == ["--measure"]:
        print(json.dumps(_measure(Path(arguments[1]))))
        return 0
    print(HEADER)
    names = [name for name in BOMBS | PHOTOS if not arguments or any(part in name for part in arguments)]
    total = _try_costly(names) + (Counter() if arguments else _try_damaged())
    return print_total(total, len(names) + (0 if arguments else len(DAMAGES)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
