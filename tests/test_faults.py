"""What breaks around a page: it goes on, says what happened, and leaves nothing half done."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from conftest import ROOT, build
from gate import PATIENCE, VISIT, in_thread, result_of

from drorae import AutoencoderDRoRAE, CheckpointError, decoding
from drorae.cli import main
from drorae.images import ImageError, load_image
from drorae.whole_file import whole_file
from tests.hostile.bombs import icc, jpeg

CAT = str(ROOT / "assets" / "examples" / "cat.jpg")
WEIGHTS = "diffusion_pytorch_model.safetensors"


# ---- files ----------------------------------------------------------------------------------------------------------


def write_half(place, error):
    before = place.exists()
    with whole_file(place) as file:
        file.write(b"half")
        assert place.exists() == before
        raise error


def test_a_file_has_its_name_once_it_is_whole(tmp_path):
    place = tmp_path / "x.png"
    for error in (OSError(errno.ENOSPC, "full"), KeyboardInterrupt("full")):
        with pytest.raises(type(error), match="full"):
            write_half(place, error)
    assert [*tmp_path.iterdir()] == []
    with whole_file(place) as file:
        file.write(b"whole")
    with pytest.raises(KeyboardInterrupt):
        write_half(place, KeyboardInterrupt())
    assert place.read_bytes() == b"whole"
    assert [*tmp_path.iterdir()] == [place]


@pytest.mark.skipif(os.name != "posix", reason="links and devices are those of Unix")
def test_links_and_devices_stay_what_they_are(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "x")
    with whole_file(tmp_path / "link") as file:
        file.write(b"1")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "x").read_bytes() == b"1"
    with whole_file(os.devnull) as file:
        file.write(b"1")
    assert not Path(os.devnull).is_file()


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_disk_that_takes_no_more_leaves_what_was_there(tmp_path):
    """The real thing: files of a process may not grow beyond a few bytes."""
    script = (
        "import resource, signal, sys; from drorae.whole_file import whole_file\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))\n"
        "with whole_file(sys.argv[1]) as file: file.write(bytes(100_000))"
    )
    (tmp_path / "x").write_bytes(b"before")
    command = [sys.executable, "-c", script, str(tmp_path / "x")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=VISIT)
    assert "File too large" in done.stderr
    assert (tmp_path / "x").read_bytes() == b"before"
    assert [*tmp_path.iterdir()] == [tmp_path / "x"]


@pytest.mark.parametrize(
    "command", [["reconstruct"], ["report"], ["routing"], ["intervene", "--without", "1"], ["batch"]]
)
def test_commands_that_find_the_disk_full_leave_nothing(tmp_path, monkeypatch, capsys, command):
    """The disk is full where a whole file is about to get its name, so that all of them write by it."""
    build(finetuned_decoder=True).save_pretrained(tmp_path / "model")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    out = tmp_path / "out" / "x"
    arguments = [*command[:1], CAT, *command[1:], "--model", str(tmp_path / "model"), "--out", str(out)]
    assert main(arguments) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


# ---- models that change ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["truncated", "overwritten", "removed"])
def test_a_loaded_model_does_not_care_for_its_files(tmp_path, damage):
    """Nothing of it is mapped: a mapped file that is cut short ends the process."""
    expected = build(finetuned_decoder=True)
    expected.save_pretrained(tmp_path)
    model = AutoencoderDRoRAE.from_pretrained(tmp_path)
    file = tmp_path / WEIGHTS
    if damage == "truncated":
        os.truncate(file, 10)
    elif damage == "overwritten":
        file.write_bytes(b"\xff" * file.stat().st_size)
    else:
        file.unlink()
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(model(images).sample, expected(images).sample)


def test_a_model_that_is_cut_short_while_it_is_read_is_a_sentence(tmp_path, monkeypatch):
    build().save_pretrained(tmp_path)
    check_fit = "drorae.checkpoints.loading.check_fit"
    monkeypatch.setattr(check_fit, lambda *args: os.truncate(tmp_path / WEIGHTS, 5000))
    with pytest.raises(CheckpointError, match=f"'{WEIGHTS}' of .* changed while the model was being loaded"):
        AutoencoderDRoRAE.from_pretrained(tmp_path)


# ---- decoding -------------------------------------------------------------------------------------------------------

COSTLY = jpeg(*icc(200_000))  # which a process of its own decodes


def test_no_more_pictures_are_decoded_at_once_than_there_is_memory_for(monkeypatch):
    together, most, lock = [0], [0], threading.Lock()
    meet = threading.Barrier(decoding.CHILDREN)
    decoded = decoding._decode

    def counted(*args):
        with lock:
            together[0] += 1
            most[0] = max(most[0], together[0])
        meet.wait(PATIENCE)  # as many as may are here together
        try:
            return decoded(*args)
        finally:
            with lock:
                together[0] -= 1

    monkeypatch.setattr(decoding, "_decode", counted)
    for thread in [in_thread(load_image, COSTLY) for _ in range(2 * decoding.CHILDREN)]:
        result_of(thread, VISIT)
    assert most[0] == decoding.CHILDREN


def test_who_waits_too_long_is_told(monkeypatch):
    monkeypatch.setattr(decoding, "_places", threading.BoundedSemaphore(1))
    monkeypatch.setattr(decoding, "START", 0)
    monkeypatch.setattr(decoding, "PATIENCE", 0)
    with (
        decoding._places,
        pytest.raises(ImageError, match=r"'a\.jpg' has to wait too long .*; try again in a minute\.$"),
    ):
        load_image(COSTLY, "a.jpg")


def test_a_childs_arguments_name_no_picture(monkeypatch):
    commands, popen = [], subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda args, **more: commands.append(args) or popen(args, **more))
    with pytest.raises(ImageError, match=r"'my secret\.jpg' is damaged"):
        load_image(COSTLY[:-300], "my secret.jpg")
    assert "secret" not in str(commands)
    assert len(commands) == 1


def test_a_killed_child_is_a_sentence_and_the_next_picture_is_read(monkeypatch):
    popen = subprocess.Popen

    def killed(*args, **more):
        child = popen(*args, **more)
        child.kill()
        return child

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", killed)
        for _ in range(decoding.CHILDREN + 1):  # none keeps its place
            with pytest.raises(ImageError, match="is damaged or cut off, or takes too much memory"):
                load_image(COSTLY, "a.jpg")
    assert load_image(COSTLY).size == (64, 48)


@pytest.mark.skipif(sys.platform != "linux", reason="the full disk is Linux's")
def test_a_full_temporary_folder_is_a_sentence(monkeypatch):
    def full(*args, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(decoding.tempfile, "TemporaryFile", full)
    with pytest.raises(ImageError, match=r"could not be started \(No space left on device\)"):
        load_image(COSTLY, "a.jpg")
