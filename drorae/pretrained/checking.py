"""The process that fetches a model and loads it for the first time; see :func:`drorae.pretrained.download.prepare`.

It imports everything once, and then splits off another process for each model (where it cannot, it is for one model):
that is told a name by one line of JSON, and says by such lines how far it is; the last one has the files that it read,
or the sentence that says why it could not.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from huggingface_hub import constants, snapshot_download
from huggingface_hub.file_download import repo_folder_name

from drorae.checkpoints import PATTERNS, CheckpointError, local_folder, resolve, split_revision
from drorae.errors import reason_of
from drorae.model_files import noted_files
from drorae.pretrained.adapter import load_tokenizer
from drorae.pretrained.autoencoders import load_autoencoder
from drorae.pretrained.download import TOKENIZER, size_of

IDLE = 120  # seconds after which nobody is waited for: it holds half a gigabyte, and starts anew in seconds

Say = Callable[..., None]


def fetch(name: str, patterns: Sequence[str], say: Say) -> Path:
    """The folder of a model, as :func:`drorae.checkpoints.resolve` finds it, after ``say`` was told how large it is.

    Raises:
        CheckpointError: there is no such repository, or it cannot be reached or stored.
    """
    if local_folder(name) is not None:
        return resolve(name)
    repository, revision = split_revision(name)
    wanted: dict[str, Any] = {"revision": revision, "allow_patterns": list(patterns)}
    try:
        files = snapshot_download(repository, **wanted, dry_run=True)
    except Exception:  # no network, no such repository, a proxy's refusal: many types, one thing to do
        try:
            return Path(snapshot_download(repository, **wanted, local_files_only=True))
        except Exception as error:
            raise CheckpointError(
                f"There is no folder '{name}', and no Hub repository of that name could be reached "
                f"({type(error).__name__}); check the name and the network."
            ) from error
    total = sum(file.file_size or 0 for file in files)
    missing = sum(file.file_size or 0 for file in files if file.will_download)
    blobs = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model") / "blobs"
    if missing:
        say(here=total - missing, total=total, blobs=str(blobs), before=size_of(blobs))
    try:
        folder = Path(snapshot_download(repository, **wanted))
    except Exception as error:  # the network, the disk
        raise CheckpointError(f"'{name}' could not be fetched: {reason_of(error)}.") from error
    say(here=0, total=0, blobs="", before=0)
    return folder


def check_model(name: str, kind: str, say: Say) -> None:
    """Fetch and load a model, and say how it went."""
    try:
        with noted_files() as states:
            if kind == TOKENIZER:
                fetch(name, PATTERNS, say)
                load_tokenizer(name)
            else:
                load_autoencoder(name, lambda place, patterns: fetch(place, patterns, say))
    except CheckpointError as error:
        say(sentence=str(error))
    except Exception as error:  # whatever a model makes of libraries, it makes it here
        say(sentence=f"'{name}' could not be loaded: {reason_of(error)}.")
    else:
        say(states=states)


def answer_checks(heard: BinaryIO, told: BinaryIO) -> None:
    """Check what the first line names; the process ends with it, and ends when nobody holds the other end any more."""

    def say(**values: Any) -> None:
        told.write(json.dumps(values).encode() + b"\n")
        told.flush()

    try:
        say(pid=os.getpid())
        wish = json.loads(heard.readline())
    except (OSError, ValueError):  # whoever asked has gone
        os._exit(1)
    threading.Thread(target=_end_with, args=(heard,), daemon=True).start()
    check_model(wish["name"], wish["kind"], say)
    os._exit(0)  # not waiting for what libraries still do


def _end_with(heard: BinaryIO) -> None:
    with suppress(OSError):
        while heard.read(1):
            pass
    os._exit(1)


def serve_checks(control: socket.socket) -> None:
    """Split off a process for every connection that is sent, until nobody sends any more."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that have ended are gone
    control.settimeout(IDLE)
    while True:
        try:
            _, received, *_ = socket.recv_fds(control, 1, 1)
        except TimeoutError:
            return
        if not received:
            return
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            control.close()
            connection = socket.socket(fileno=received[0])
            answer_checks(connection.makefile("rb"), connection.makefile("wb"))
        os.close(received[0])


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started it
    if sys.argv[1] == "-":  # for one model, which standard input names
        told = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)  # what libraries print is not for who listens
        answer_checks(sys.stdin.buffer, told)
    serve_checks(socket.socket(fileno=int(sys.argv[1])))
