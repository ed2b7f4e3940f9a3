"""What every command does with its streams: quiet when nobody reads on, on Ctrl-C, and in any encoding."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable

from drorae.errors import printable

FAILED = 2
INTERRUPTED, NO_READER = 130, 141  # as shells say it of a program that SIGINT or SIGPIPE ended


def run_command(command: Callable[[], int | None]) -> int:
    """Exit code of a command: its own, 130 after Ctrl-C, 141 when nobody reads its output any more.

    Letters that the output's encoding does not have are escaped, as they are on the error stream.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = command() or 0
        sys.stdout.flush()  # here, where a closed pipe is understood
        return code
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # the rest of the output goes nowhere; Python would complain about it at its end
        # ValueError: a stream that is not a file
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return NO_READER


def fail(*messages: str) -> int:
    """The exit code of a command that could not do what it was asked, once the reasons are on the error stream, a line
    each whatever names they quote."""
    for message in messages:
        print(printable(message), file=sys.stderr)
    return FAILED
