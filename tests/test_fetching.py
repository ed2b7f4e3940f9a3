"""Fetching from a hub: progress, cancelling, and what is said when it fails."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest
from conftest import ROOT, build
from fake_hub import COMMIT, reach, serve
from gate import PATIENCE, VISIT, Gate, in_thread, result_of, until

import drorae.pretrained.download
from drorae import CheckpointError
from drorae.checkpoints import REVISIONS, split_revision, stored_folder
from drorae.pretrained import checking
from drorae.pretrained.adapter import load_tokenizer
from drorae.pretrained.download import TOKENIZER, build_checked, end_server, prepare, running
from drorae.pretrained.rae_tokenizer import MODELS
from drorae.ui.models import pin_note

NAME = "somebody/a-tokenizer"


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repository")
    build().save_pretrained(folder)
    (folder / "README.md").write_text("# A tokenizer\n")
    return folder


def test_a_model_is_fetched_once_its_progress_seen_and_another_missed(repository, tmp_path, monkeypatch):
    pieces, seen = Gate(), []
    with serve(NAME, repository, pieces) as address:
        reach(address, tmp_path, monkeypatch)
        monkeypatch.setattr(drorae.pretrained.download, "SECONDS", 0.01)
        for state in prepare(NAME):
            seen.append(state)
            if 0 < state.done < state.total:  # the small files are here, and seen to be: now the weights
                pieces.open()
        assert not any(state.is_fetching for state in prepare(NAME))
        with pytest.raises(CheckpointError, match="There is no folder 'somebody/else'") as error:
            list(prepare("somebody/else"))
    done, total = zip(*filter(lambda state: state.is_fetching, seen), strict=True)
    size = sum(path.stat().st_size for path in repository.glob("*"))
    assert set(total) == {size}
    assert list(done) == sorted(done)
    assert any(0 < value < size for value in done)
    assert load_tokenizer(NAME).config.fusion_hidden_size == build().config.fusion_hidden_size
    assert stored_folder(NAME).name == COMMIT
    assert str(error.value).count("\n") == 0


def test_closing_stops_the_download(repository, tmp_path, monkeypatch):
    pieces = Gate()
    with serve(NAME, repository, pieces) as address:
        reach(address, tmp_path, monkeypatch)
        states = prepare(NAME)
        first = next(state for state in states if state.is_fetching)
        pieces.wait_for(1)  # the weights are on their way
        (pid,) = running
        os.kill(pid, 0)  # it is there
        states.close()
        assert not running
        assert_gone(pid)
        pieces.open()
    assert first.done < first.total
    assert stored_folder(NAME) is None


def test_without_a_network_it_is_one_sentence_too():
    with pytest.raises(CheckpointError, match="no folder 'nobody/nothing'"):
        list(prepare("nobody/nothing"))  # the tests are offline


def test_what_is_here_needs_no_network(repository):
    assert stored_folder(str(repository)) == repository
    assert stored_folder("nobody/nothing") is None
    assert stored_folder("no name at all ..") is None


def checked(name: str, kind: str = TOKENIZER) -> dict:
    """The files that were seen."""
    steps = prepare(name, kind)
    while True:
        try:
            assert not next(steps).is_fetching
        except StopIteration as end:
            return end.value


def test_what_is_built_are_the_files_that_were_checked(tmp_path):
    folder, name = tmp_path / "model", str(tmp_path / "model")
    build().save_pretrained(folder)
    states = checked(name)
    assert set(states) == {str(folder / each) for each in ("config.json", "diffusion_pytorch_model.safetensors")}
    built = build_checked(load_tokenizer, name, states)
    assert built.config.fusion_hidden_size == build().config.fusion_hidden_size
    config = (folder / "config.json").read_bytes()
    for damage in (lambda file: file.write_bytes(config), lambda file: file.unlink()):
        states = checked(name)
        damage(folder / "config.json")  # the same bytes again are another file
        with pytest.raises(
            CheckpointError, match=r"'config\.json' of '.*model' changed while the model was being loaded"
        ):
            build_checked(load_tokenizer, name, states)
        (folder / "config.json").write_bytes(config)


def test_files_that_change_while_they_are_built_are_noticed(tmp_path):
    folder, name = tmp_path / "model", str(tmp_path / "model")
    build().save_pretrained(folder)
    states = checked(name)

    def load(name):
        model = load_tokenizer(name)
        (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"")
        return model

    with pytest.raises(CheckpointError, match="changed while the model was being loaded; load it again"):
        build_checked(load, name, states)


def assert_gone(pid: int) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)  # the system takes it away
    pytest.fail("the process is still there")


def test_a_process_that_is_killed_is_a_sentence(monkeypatch):
    here, there = socket.socketpair()
    sleeping = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    monkeypatch.setattr(drorae.pretrained.download, "_ask", lambda *wish: here)
    monkeypatch.setattr(drorae.pretrained.download, "SECONDS", 0)
    steps = prepare("a model")
    assert not next(steps).is_fetching  # it is not split off yet, and may be cancelled
    there.sendall(b'{"pid": %d}\n' % sleeping.pid)
    until(lambda: running, lambda: next(steps), "the process is known")
    there.sendall(b'{"here": 1')  # in the middle of a line
    there.close()
    with pytest.raises(CheckpointError, match="could not be checked: the process that did it was ended"):
        list(steps)
    assert not running
    sleeping.kill()
    sleeping.communicate(timeout=PATIENCE)


def test_closing_before_a_process_is_there_ends_the_line(monkeypatch):
    here, there = socket.socketpair()
    monkeypatch.setattr(drorae.pretrained.download, "_ask", lambda *wish: here)
    monkeypatch.setattr(drorae.pretrained.download, "SECONDS", 0)
    steps = prepare("a model")
    next(steps)
    steps.close()
    there.settimeout(PATIENCE)
    assert there.recv(1) == b""  # what is split off later finds nobody
    there.close()


def test_a_process_that_splits_off_others_is_replaced_when_it_is_gone(repository):
    assert checked(str(repository))
    drorae.pretrained.download._started.process.kill()
    drorae.pretrained.download._started.process.wait(PATIENCE)
    assert checked(str(repository))


def test_a_process_that_nobody_asks_for_a_while_ends(monkeypatch):
    here, there = socket.socketpair()
    monkeypatch.setattr(checking, "IDLE", 0.001)
    monkeypatch.setattr(checking.signal, "signal", lambda *_: None)  # it would be this process's
    with here, there:
        assert result_of(in_thread(checking.serve_checks, there)) is None


def test_without_processes_it_is_a_sentence(repository, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(1, "Operation not permitted")

    end_server()
    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(CheckpointError, match=r"needs a process of its own, .* \(Operation not permitted\)\.$"):
        list(prepare(str(repository)))


@pytest.mark.slow
def test_where_no_process_can_be_split_off_one_is_started_for_each_model(repository, monkeypatch):
    expected = checked(str(repository))
    monkeypatch.setattr(drorae.pretrained.download, "SPLITS", False)
    assert checked(str(repository)) == expected
    assert not running
    with pytest.raises(CheckpointError, match="no folder 'nobody/nothing'"):
        list(prepare("nobody/nothing"))
    steps = prepare(str(repository))
    next(step for step in steps if running)
    (pid,) = running
    steps.close()
    assert_gone(pid)
    assert not running
    monkeypatch.setattr(drorae.pretrained.download.sys, "executable", "/nowhere/python")
    with pytest.raises(CheckpointError, match=r"needs a process of its own, .* \(No such file or directory\)\.$"):
        list(prepare(str(repository)))


@pytest.mark.slow
def test_all_processes_end_with_whoever_asked():
    """The ends that it held are closed, as they are when it dies."""
    script = (
        "import os, sys; from drorae.pretrained import download; "
        "steps = download.prepare(sys.argv[1]); next(step for step in steps if download.running); "
        "print(download._started.process.pid, *download.running, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "assets/drorae-tiny"], cwd=ROOT, capture_output=True, text=True, timeout=VISIT
    )
    numbers = [int(number) for number in done.stdout.split()]
    assert len(numbers) == 2, done.stderr
    for number in numbers:
        assert_gone(number)


def test_published_models_are_pinned_where_their_commit_is_known():
    assert {split_revision(name)[1] is not None for name in REVISIONS} == {True}
    pinned = {key for key, name in MODELS.items() if split_revision(name)[1]}
    assert pinned == {"dinov2-base", "siglip2-base", "mae-base"}
    assert split_revision(f"{MODELS['mae-base']}@main") == (MODELS["mae-base"], "main")
    said = {key: pin_note(name) for key, name in MODELS.items()}
    assert {key for key, text in said.items() if not text} == pinned
    assert "not pinned to a revision" in said["dinov2-large"]
