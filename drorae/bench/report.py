"""The ratios as a table, or as JSON."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator, Sequence

import torch

from drorae.bench.contests import BenchError, contests
from drorae.bench.timing import Result, time_in_turns
from drorae.devices import best_device


def print_ratios(names: Sequence[str] | None, rounds: int, device_name: str | None, as_json: bool) -> None:
    """Measure and print, each ratio as soon as it is there; what is left out, and why, on the error stream.

    Args:
        names: names out of :data:`drorae.choices.CONTESTS`; all when ``None``.
        rounds: how often each is timed.
        device_name: as torch names it; the best that is there when ``None``.

    Raises:
        BenchError: there is no such device; two ways to do one thing gave different results.
    """
    device = find_device(device_name)
    machine, left_out = about_machine(device), []

    def results() -> Iterator[Result]:
        for each in contests(device, names):
            if isinstance(each, str):
                left_out.append(each)
            else:
                yield time_in_turns(each, rounds, device)

    if as_json:
        for result in results():
            print(json.dumps({**result._asdict(), "machine": machine}), flush=True)
    else:
        print(machine, end="\n\n")
        for line in table(results()):
            print(line, flush=True)
    for sentence in left_out:
        print(sentence, file=sys.stderr)


def find_device(name: str | None) -> torch.device:
    """The device of this name; the best that is there when ``None``.

    Raises:
        BenchError: there is none.
    """
    try:
        device = best_device() if name is None else torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # it depends on how torch was built
        raise BenchError(f"--device '{name}' is not a device of this machine; leave it out, or use cpu.") from error
    return device


def table(results: Iterator[Result]) -> Iterator[str]:
    """Lines of a Markdown table, each when its result is there."""
    yield "| ours / theirs | ratio of times | middle half | by operations | aim | ours | theirs |"
    yield "|---|---|---|---|---|---|---|"
    for each in results:
        counted, aim = ("" if value is None else f"{value:.2f}" for value in (each.floating, each.aim))
        yield (
            f"| {each.title} | {each.ratio:.2f} | {each.low:.2f} to {each.high:.2f} | {counted} | {aim} "
            f"| {duration(each.ours)} | {duration(each.theirs)} |"
        )


def duration(value: float) -> str:
    """Seconds for reading."""
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.1f} ms"


def about_machine(device: torch.device) -> str:
    """The device, its threads, and the libraries, in a line."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    return f"{device.type} ({name}{threads}), torch {torch.__version__}, Python {platform.python_version()}"
