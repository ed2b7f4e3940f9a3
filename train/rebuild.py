"""Make again what hangs on the embedded models' weights: ``python -m train.rebuild``.

In order, and only what is stale: gains and interventions of held-out photos, results of the examples, tables of the
README, its pictures. What is fresh is left alone, so a rebuild that was stopped goes on when it is run again. What
needs a person or a finished training is named: measurements and cards come from the ``publish`` commands, and seeds are
chosen by looking.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from train.derived import DERIVED, MOVIE, ROOT, Derived, stale_because
from train.engine.session import main_guard
from train.errors import RunError

SECONDS = 180  # for the page to open


@contextmanager
def serve_page(root: Path) -> Iterator[str]:
    """The explorer on this machine while it is needed; yields its address.

    Raises:
        RunError: it does not open.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([sys.executable, "app.py", "--port", str(port)], cwd=root, stdout=subprocess.DEVNULL)
    try:
        started = time.monotonic()
        while not _answers(address):
            if process.poll() is not None or time.monotonic() - started > SECONDS:
                raise RunError(f"the page did not open at {address}; run python app.py to see why.")
            time.sleep(1)
        yield address
    finally:
        process.terminate()
        process.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=10):
            return True
    except OSError:
        return False


def make(derived: Derived, root: Path) -> None:
    """Run the command of derived files.

    Raises:
        RunError: it fails.
    """
    arguments = [sys.executable, *derived.command]
    if derived.files == (MOVIE,):
        if shutil.which("chromium") is None:
            raise RunError("the moving picture needs Debian's chromium; install it, then run this again.")
        with serve_page(root) as address:
            code = subprocess.run([*arguments, address], cwd=root, check=False).returncode
    else:
        code = subprocess.run(arguments, cwd=root, check=False).returncode
    if code:
        raise RunError(f"python {' '.join(derived.command)} ended with code {code}; fix that, then run this again.")


def rebuild(
    wanted: Sequence[Derived], root: Path, make: Callable[[Derived, Path], None] = make, dry_run: bool = False
) -> list[Derived]:
    """Go through derived files in order and make what is stale; those that are left for a person are returned.

    Raises:
        RunError: a command fails, or leaves its files stale.
    """
    left = []
    for derived in wanted:
        reason = stale_because(derived, root, complete=True)
        if reason is None:
            print(f"fresh: {derived.title}")
        elif not derived.command:
            print(f"by hand: {derived.title} ({reason})\n  {derived.by_hand}")
            left.append(derived)
        elif dry_run:
            print(f"stale: {derived.title} ({reason})\n  python {' '.join(derived.command)}")
            left.append(derived)
        else:
            print(f"making: {derived.title} ({reason})\n  python {' '.join(derived.command)}", flush=True)
            make(derived, root)
            reason = stale_because(derived, root, complete=True)
            if reason is not None:
                raise RunError(f"python {' '.join(derived.command)} ran, and yet {reason}.")
    return left


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="say what is stale, and make nothing")
    args = parser.parse_args(argv)
    left = rebuild(DERIVED, ROOT, dry_run=args.dry_run)
    if left:
        raise RunError(f"{len(left)} of {len(DERIVED)} are still stale: {', '.join(each.title for each in left)}.")
    print("Everything is up to date with the weights.")


if __name__ == "__main__":
    main_guard(main)
