"""A bounded load on the page, from this machine: ``python -m tests.hostile.load``.

Fifty visitors with addresses of their own, as a configured proxy forwards them, choose photos for four minutes and
think three seconds between answers; every fifth opens Layers, and some sample. Every answer is compared with what its
picture must give. The table says how many answers came, how long they took, what was refused, and what the page itself
did meanwhile; the program ends with 1 where something was wrong.

A server of one's own is measured with ``--url``: it has to run on this machine with ``DRORAE_PROXIES=127.0.0.1``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from drorae.bundled import DEFAULT_MODEL
from drorae.pretrained.adapter import load_tokenizer
from tests.hostile.crowd import ROUTES, SAMPLES, Behaviour, Tally, crowd, wrong_answers
from tests.page_figures import free_port, server

WARM = 14  # pictures that fill what the page keeps, before its memory is taken
IDLE = 20  # times that the page is opened before there is a load
GROWTH, SLOWER = 1.25, 3.0  # that memory and the page may become
# in a process of its own, which the visitors do not slow down: opens the page until its input ends
PROBE = """
import sys, threading, time, urllib.request
url, ended = sys.argv[1], threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
while not ended.wait(1.0):
    started = time.perf_counter()
    try:
        with urllib.request.urlopen(url, timeout=60) as page:
            page.read()
        print(time.perf_counter() - started, flush=True)
    except OSError:
        print("inf", flush=True)
"""


def main(argv: list[str] | None = None) -> int:
    """Measure and print the table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.load", description=__doc__)
    parser.add_argument("--clients", type=int, default=50, help="visitors who look at photos (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=4.0, help="for how long (default: %(default)s)")
    parser.add_argument("--think", type=float, default=3.0, help="seconds between answers (default: %(default)s)")
    parser.add_argument("--each", type=int, default=2, help="photos of each visitor (default: %(default)s)")
    parser.add_argument("--samplers", type=int, default=1, help="visitors of Generate (default: %(default)s)")
    parser.add_argument("--size", type=int, help="side of the photos; pages take their own and the model's")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="that the page shows (default: %(default)s)")
    parser.add_argument("--url", help="of a page that runs already")
    parser.add_argument("--pid", type=int, help="of its process, whose memory is measured")
    arguments = parser.parse_args(argv)
    with page(arguments.url, arguments.pid, arguments.model) as (url, pid):
        rows, fine = measure(url, pid, arguments)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    return 0 if fine else 1


@contextmanager
def page(url: str | None, pid: int | None, model: str) -> Iterator[tuple[str, int | None]]:
    """Address and process of the page: the one that runs, or one that is started for this."""
    if url is not None:
        yield url, pid
        return
    os.environ["DRORAE_PROXIES"] = "127.0.0.1"
    port = free_port()
    options = ("--model", model, "--host", "127.0.0.1", "--port", str(port))
    with server("app.py", *options, port=port) as started:
        yield started.url, started.process.pid


def measure(url: str, pid: int | None, arguments: argparse.Namespace) -> tuple[list[tuple[str, str]], bool]:
    """The rows of the table, and whether all is as it should be."""
    # photos of nobody's, looked at twice as long as the page keeps any
    warm = Behaviour(0.0, lambda number: number < WARM, arguments.size)
    asyncio.run(crowd(url, 1, WARM, warm, samplers=min(1, arguments.samplers), first=5000 + 4))
    memory = resident(pid)
    idle = [opened(url) for _ in range(IDLE)]
    end = time.monotonic() + 60 * arguments.minutes
    behaviour = Behaviour(arguments.think, lambda _: time.monotonic() < end, arguments.size)
    started = time.monotonic()
    with probe(url) as times:
        tally, pictures = asyncio.run(crowd(url, arguments.clients, arguments.each, behaviour, arguments.samplers))
    seconds = time.monotonic() - started
    after = resident(pid)
    compared, wrong = wrong_answers(tally, load_tokenizer(arguments.model), arguments.size)
    sampled = len({digest for (kind, _), known in tally.values.items() if kind == SAMPLES for digest in known})
    seeds = sum(kind == SAMPLES for kind, _ in tally.values)
    growth = after / memory if memory and after else None
    slower = ninetieth(times) / ninetieth(idle)
    checks = {
        "every question ended in an answer or a refusal": not tally.broken,
        "every answer is right": wrong == 0 and sampled == seeds,
        f"memory grew by less than {GROWTH - 1:.0%}": growth is None or growth <= GROWTH,
        f"the page took less than {SLOWER:g} times as long": slower <= SLOWER,
        "sampling was never refused": not tally.refused[SAMPLES],
    }
    rows = [
        ("visitors, photos", f"{arguments.clients} and {arguments.samplers} sampling, {pictures}"),
        ("seconds", f"{seconds:.0f}"),
        *kinds(tally, seconds),
        ("compared, wrong", f"{compared}, {wrong}"),
        ("sampled seeds, different pictures", f"{seeds}, {sampled}"),
        ("memory before, after", f"{gigabytes(memory)}, {gigabytes(after)}"),
        ("page idle, median and 90th percentile", spread(idle)),
        ("page under load, the same", f"{spread(times)} ({len(times)} times)"),
        *((f"  {count} x", reason) for reason, count in reasons(tally)),
        *((name, "yes" if fine else "NO") for name, fine in checks.items()),
    ]
    return rows, all(checks.values())


def kinds(tally: Tally, seconds: float) -> Iterator[tuple[str, str]]:
    """A row for every kind of question."""
    known = sorted({*tally.answered, *tally.refused, *tally.broken}, key=lambda kind: (kind != ROUTES, kind))
    for kind in known:
        count = tally.answered[kind]
        ends = f"{count} answers, {tally.refused[kind]} refused, {tally.broken[kind]} broken"
        times = tally.waited.get(kind)
        yield kind, f"{ends}; {count / seconds:.2f} a second" + (f"; waited {spread(times)}" if times else "")


def reasons(tally: Tally) -> Iterator[tuple[str, int]]:
    """Why something was broken, all of it, and the commonest refusals."""
    known = tally.reasons.most_common()
    yield from ((reason, count) for reason, count in known if reason.startswith("broken"))
    yield from [(reason, count) for reason, count in known if not reason.startswith("broken")][:12]


@contextmanager
def probe(url: str) -> Iterator[list[float]]:
    """Seconds that the page took to open, every second; filled when the block ends."""
    times: list[float] = []
    process = subprocess.Popen(
        [sys.executable, "-c", PROBE, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield times
    finally:
        output, _ = process.communicate()
        times += map(float, output.split())


def opened(url: str) -> float:
    """Seconds that the page takes to open."""
    started = time.perf_counter()
    httpx.get(url, timeout=60, trust_env=False).raise_for_status()
    return time.perf_counter() - started


def resident(pid: int | None) -> float | None:
    """Memory of a process, bytes; ``None`` where it is not known."""
    if pid is None:
        return None
    return float(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def ninetieth(times: list[float]) -> float:
    """The 90th percentile; the only one there is, where there is one."""
    return statistics.quantiles(times, n=10, method="inclusive")[-1] if len(times) > 1 else times[0]


def spread(times: list[float]) -> str:
    """Median and 90th percentile of seconds."""
    return f"{statistics.median(times):.3f} s, {ninetieth(times):.3f} s"


def gigabytes(size: float | None) -> str:
    """Bytes for the table."""
    return "not known" if size is None else f"{size / 1e9:.2f} GB"


if __name__ == "__main__":
    raise SystemExit(main())
