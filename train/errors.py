"""What stops a training command, in one sentence that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from drorae.errors import reason_of

WRITE_ERRORS = (OSError, SafetensorError, RuntimeError)  # torch.save reports a full disk as a RuntimeError


class DataError(ValueError):
    """A data set that cannot be used. The message says what was looked for and where."""


class RunError(RuntimeError):
    """A run that has to stop. The message says why and what to do."""


def check_weights(file: Path, needed: str) -> None:
    """Check that the file of a network's weights is there.

    Args:
        needed: how the message begins, which names the network and the file.

    Raises:
        FileNotFoundError: it is not.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{needed}; pass --weights FOLDER")


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what a full or broken disk raises into one sentence."""
    try:
        yield
    except WRITE_ERRORS as error:
        reason = reason_of(error)
        raise RunError(
            f"{folder}: could not write ({reason}); the last saved state is kept. Free space or fix the disk, then run "
            "the same command again."
        ) from error
