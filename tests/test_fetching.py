"""Fetching from a hub: progress, cancelling, and what is said when it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from conftest import ROOT, build
from fake_hub import serve

from drorae import CheckpointError
from drorae.checkpoints import stored_folder
from drorae.pretrained.download import fetch

NAME = "somebody/a-tokenizer"
SCRIPT = """
import json, sys
from drorae.pretrained.adapter import load_tokenizer
from drorae.checkpoints import CheckpointError, stored_folder
from drorae.pretrained.download import fetch
name, stop_after = sys.argv[1], int(sys.argv[2])
try:
    states = fetch(name)
    seen = []
    for state in states:
        seen.append(state)
        if len(seen) == stop_after:
            states.close()
    again = [] if stop_after else list(fetch(name))
    model = None if stop_after else load_tokenizer(name).config.fusion_hidden_size
    told = {"seen": seen, "again": again, "model": model, "stored": str(stored_folder(name))}
    list(fetch("somebody/else"))
except CheckpointError as error:
    print(json.dumps({**told, "error": str(error)}))
"""


def run(address: str, cache, stop_after: int = 0) -> dict:
    """What a fresh process sees of a model that is there, and of one that is not: the library reads the hub's address
    once."""
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": address, "HF_HOME": str(cache), "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, NAME, str(stop_after)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repository")
    build().save_pretrained(folder)
    (folder / "README.md").write_text("# A tokenizer\n")
    return folder


def test_a_model_is_fetched_once_its_progress_seen_and_another_missed(repository, tmp_path):
    with serve(NAME, repository, seconds_per_piece=0.02) as address:
        told = run(address, tmp_path)
    done, total = zip(*told["seen"], strict=True)
    size = sum(path.stat().st_size for path in repository.glob("*"))
    assert set(total) == {size}
    assert list(done) == sorted(done)
    assert done[-1] == size
    assert any(0 < value < size for value in done)
    assert told["again"] == []
    assert told["model"] == build().config.fusion_hidden_size
    assert told["stored"].endswith("0123456789abcdef0123456789abcdef01234567")
    assert "There is no folder 'somebody/else'" in told["error"]
    assert told["error"].count("\n") == 0


def test_closing_stops_the_download(repository, tmp_path):
    with serve(NAME, repository, seconds_per_piece=1.0) as address:
        started = time.monotonic()
        told = run(address, tmp_path, stop_after=2)
        took = time.monotonic() - started
    needed = (repository / "diffusion_pytorch_model.safetensors").stat().st_size / 16384
    assert len(told["seen"]) == 2
    assert told["seen"][-1][0] < told["seen"][-1][1]
    assert took < needed


def test_without_a_network_it_is_one_sentence_too():
    with pytest.raises(CheckpointError, match="no folder 'nobody/nothing'"):
        list(fetch("nobody/nothing"))  # the tests are offline


def test_folders_and_bundled_models_need_no_network(repository):
    assert list(fetch(str(repository))) == list(fetch("assets/drorae-tiny")) == []
    assert stored_folder(str(repository)) == repository
    assert stored_folder("nobody/nothing") is None
    assert stored_folder("no name at all ..") is None
