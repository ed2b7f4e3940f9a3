"""A run whose folder is damaged, or in use, stops in one sentence that says what to do."""

import multiprocessing
import os
import shutil
import signal

import pytest
from conftest import smoke, weights

import train.engine.run
import train.engine.run_folder
from train import encoder, stage1
from train.engine.run_folder import hold, is_finished
from train.engine.session import main_guard
from train.errors import RunError


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that was stopped after its first state."""
    out = tmp_path_factory.mktemp("stopped")
    save = train.engine.run.save_state

    def save_and_stop(*args):
        save(*args)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.engine.run, "save_state", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            encoder.main([*smoke(out), "--log"])
    return out


@pytest.fixture
def run(stopped, tmp_path):
    """A copy of it, free to be damaged: the folder of the run."""
    shutil.copytree(stopped, tmp_path / "out")
    return tmp_path / "out" / "smoke" / "encoder"


def error(run, capsys) -> str:
    """What is said when the run is continued."""
    with pytest.raises(SystemExit) as caught:
        main_guard(lambda: encoder.main([*smoke(run.parent.parent), "--log"]))
    assert caught.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "Traceback" not in said
    return said


PARTS = [
    "optimizer.bin",
    "model.safetensors",
    "random_states_0.pkl",
    *(f"custom_checkpoint_{number}.pkl" for number in range(4)),
]


def damage(file, how: str) -> None:
    content = file.read_bytes()
    if how == "missing":
        file.unlink()
    else:
        file.write_bytes(content[: len(content) // 2] if how == "half" else b"x" * len(content))


@pytest.mark.parametrize("how", ["half", "missing", "foreign"])
@pytest.mark.parametrize("part", PARTS)
def test_a_damaged_state_is_one_sentence(run, capsys, part, how):
    assert {file.name for file in (run / "state").iterdir()} == set(PARTS)
    damage(run / "state" / part, how)
    said = error(run, capsys)
    assert said.startswith(f"The state in '{run / 'state'}' is damaged (")
    assert said.endswith(f"; remove {run} to start this run again.")


def test_a_checkpoint_without_weights_is_not_a_finished_run(run, capsys):
    (run / "checkpoint").mkdir()
    (run / "checkpoint" / "config.json").write_text("{}")
    expected = f"'{run / 'checkpoint'}' holds no weights; remove that folder, then run the same command again."
    assert error(run, capsys) == expected
    shutil.rmtree(run / "checkpoint")
    assert not is_finished(run)


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_damaged_record_is_one_sentence(run, capsys, text):
    (run / "run.json").write_text(text)
    assert error(run, capsys) == f"'{run / 'run.json'}' cannot be read; remove {run} to start this run again."


@pytest.mark.parametrize("how", ["half", "missing", "foreign"])
def test_damaged_weights_of_an_earlier_run_are_named(runs, tmp_path, how):
    shutil.copytree(runs / "smoke" / "encoder" / "checkpoint", tmp_path / "smoke" / "encoder" / "checkpoint")
    damage(tmp_path / "smoke" / "encoder" / "checkpoint" / "model.safetensors", how)
    with pytest.raises(RuntimeError, match=r"model\.safetensors' is (missing|damaged or incomplete)"):
        stage1.main(smoke(tmp_path, "decoder"))


# ---- two at once --------------------------------------------------------------------------------------------------


def test_a_second_training_is_told_that_the_folder_is_in_use(run, capsys, monkeypatch):
    monkeypatch.setattr(train.engine.run_folder, "LOCK_SECONDS", 0.1)
    with hold(run):
        said = error(run, capsys)
    assert said.startswith(f"{run} is in use by another training; wait for its end, or give another --out.")
    encoder.main([*smoke(run.parent.parent), "--log"])  # and goes on when the first has ended
    assert weights(run.parent.parent, "encoder")


def hold_for_ever(folder, held) -> None:
    with hold(folder):
        held.set()
        signal.pause()


def test_a_folder_is_free_again_after_its_owner_was_killed(tmp_path, monkeypatch):
    context = multiprocessing.get_context("fork")
    held = context.Event()
    owner = context.Process(target=hold_for_ever, args=(tmp_path, held))
    owner.start()
    assert held.wait(60)
    monkeypatch.setattr(train.engine.run_folder, "LOCK_SECONDS", 0.1)
    with pytest.raises(RunError, match="is in use by another training"), hold(tmp_path):
        pass
    os.kill(owner.pid, signal.SIGKILL)
    owner.join(60)
    assert owner.exitcode == -signal.SIGKILL
    with hold(tmp_path):
        pass
    with hold(tmp_path):  # and after it was let go
        pass


def test_a_folder_that_cannot_be_written_is_not_in_use(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(RunError, match="could not write"), hold(tmp_path / "file"):
        pass
