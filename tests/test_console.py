"""The streams of a command: a reader that leaves, an encoding that is poor, Ctrl-C; and files that cannot be read."""

import csv
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TextIO

import pytest
from conftest import ROOT, build

import drorae.explorer.batch
from drorae.cli import main
from drorae.console import run_command
from drorae.explorer.explore import explore
from train.engine.session import main_guard
from train.errors import check_weights

CAT, COFFEE = (str(ROOT / "assets" / "examples" / f"{name}.jpg") for name in ("cat", "coffee"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    build(finetuned_decoder=True).save_pretrained(folder)
    return str(folder)


@contextmanager
def closed_output() -> Iterator[TextIO]:
    """An output that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", encoding="utf-8") as stream, redirect_stdout(stream):
        yield stream


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_reader_that_leaves_ends_the_work_without_a_word(checkpoint, tmp_path, capfd):
    arguments = ["reconstruct", CAT, COFFEE, "--model", checkpoint, "--out", str(tmp_path), "--json"]
    with closed_output() as stream:
        assert main(arguments) == 141
        stream.write("what is still written goes nowhere")
        stream.flush()
    assert not list(tmp_path.glob("coffee*"))
    assert capfd.readouterr().err == ""


def test_a_reader_that_leaves_before_the_last_line(checkpoint, tmp_path):
    """The output is short enough to wait in the buffer until the end."""
    with closed_output():
        assert main(["batch", CAT, "--model", checkpoint, "--out", str(tmp_path / "x.csv")]) == 141
    assert len(rows_of(tmp_path / "x.csv")) == 1


def test_letters_that_the_output_lacks_are_escaped(checkpoint, tmp_path):
    photo = tmp_path / "写真.jpg"
    photo.write_bytes(Path(CAT).read_bytes())
    with redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding="ascii")) as stream:
        assert main(["reconstruct", str(photo), "--model", checkpoint, "--out", str(tmp_path / "out")]) == 0
    assert "\\u5199\\u771f.jpg" in stream.buffer.getvalue().decode("ascii")


def test_names_that_are_not_unicode_are_escaped(checkpoint, tmp_path, capsys):
    photo = tmp_path / os.fsdecode(b"\xff.jpg")
    photo.write_bytes(Path(CAT).read_bytes())
    model = ["--model", checkpoint, "--out"]
    assert main(["batch", str(photo), *model, str(tmp_path / "x.csv")]) == 0
    assert [row["picture"] for row in rows_of(tmp_path / "x.csv")] == ["\\udcff.jpg"]
    assert main(["report", str(photo), *model, str(tmp_path / "x.html")]) == 0
    assert "\\udcff.jpg" in (tmp_path / "x.html").read_text(encoding="utf-8")
    assert main(["reconstruct", str(photo), *model, str(tmp_path / "out")]) == 0
    assert "\\udcff.jpg" in capsys.readouterr().out


def test_no_name_breaks_a_line_or_speaks_to_the_terminal(checkpoint, tmp_path, capsys):
    good, bad = (tmp_path / f"{name}\n\x1b[2J.jpg" for name in ("good", "bad"))
    good.write_bytes(Path(CAT).read_bytes())
    bad.write_bytes(b"")
    model = ["--model", checkpoint, "--out"]
    for command, place in (("reconstruct", "out"), ("batch", "x.csv"), ("gallery", "site")):
        assert main([command, str(good), str(bad), *model, str(tmp_path / place)]) == 2
        captured = capsys.readouterr()
        for line in [*captured.out.splitlines(), captured.err.splitlines()[-1]]:
            assert line.isprintable()
        assert "bad\\n\\x1b[2J.jpg' is empty" in captured.err.splitlines()[-1]
    assert {row["picture"] for row in rows_of(tmp_path / "x.csv")} == {good.name, bad.name}  # there as they are


def test_ctrl_c_keeps_the_rows_so_far(checkpoint, tmp_path, capsys, monkeypatch):
    calls = []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return explore(*args, **kwargs)

    monkeypatch.setattr(drorae.explorer.batch, "explore", interrupted)
    out = tmp_path / "x.csv"
    command = ["batch", CAT, COFFEE, CAT, "--model", checkpoint, "--out", str(out), "--json"]
    assert main(command) == 130
    printed = capsys.readouterr()
    assert [row["picture"] for row in rows_of(out)] == ["cat.jpg", "coffee.jpg"]
    assert [json.loads(line)["picture"] for line in printed.out.splitlines()[:2]] == ["cat.jpg", "coffee.jpg"]
    assert f"Stopped after 2 of 3 pictures; '{out}' has their rows.\n" in printed.err
    assert "Traceback" not in printed.err
    calls[:] = [1, 1]
    out.write_text("of an earlier batch")
    assert main(command) == 130
    assert out.read_text() == "of an earlier batch"  # nothing was done that could replace it


def test_ctrl_c_is_one_word_in_every_command(capsys, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("drorae.images.load_image", interrupted)
    monkeypatch.setattr("drorae.cli.routing.load_model", lambda name: None)
    assert main(["routing", CAT, "--out", "x.npz"]) == 130
    with pytest.raises(SystemExit) as caught:
        main_guard(interrupted)
    assert caught.value.code == 130
    assert capsys.readouterr().err == "Stopped.\nStopped.\n"


def test_training_commands_leave_the_same_way(capfd):
    with pytest.raises(SystemExit) as caught, closed_output():
        main_guard(lambda: print("a table"))
    assert caught.value.code == 141
    assert capfd.readouterr().err == ""


def test_what_the_system_says_of_a_file_is_a_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for path, reason in ((tmp_path / "file" / "x", "Not a directory"), (tmp_path / "no\nwhere", "No such file")):
        with pytest.raises(SystemExit) as caught:
            main_guard(path.read_text)
        assert caught.value.code == 2
        said = capsys.readouterr().err
        place = str(path).replace("\n", "\\n")
        assert said.startswith(f"'{place}' cannot be used ({reason}")
        assert said.count("\n") == 1
    with pytest.raises(SystemExit):
        main_guard(lambda: check_weights(tmp_path / "w", "a network needs it"))
    assert capsys.readouterr().err == "a network needs it; pass --weights FOLDER\n"


def test_codes_of_commands_pass(capsys):
    assert [run_command(lambda code=code: code) for code in (None, 0, 2)] == [0, 0, 2]


# ---- files that cannot be read ---------------------------------------------------------------------------------------


@pytest.fixture
def secret(tmp_path, monkeypatch):
    """A photo that this user may not read."""
    photo = tmp_path / "secret.jpg"
    photo.write_bytes(Path(CAT).read_bytes())
    usual = Path.open

    def refuse(self, *args, **kwargs):
        if self.name == "secret.jpg":
            raise PermissionError(13, "Permission denied", str(self))
        return usual(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    return str(photo)


def test_files_that_cannot_be_read_are_rows(checkpoint, tmp_path, capsys, secret):
    long, out = "x" * 300 + ".jpg", tmp_path / "new" / "x.csv"
    unreadable = [secret, long, "/proc/self/mem"] if Path("/proc/self/mem").exists() else [secret, long]
    assert main(["batch", CAT, *unreadable, COFFEE, "--model", checkpoint, "--out", str(out)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    rows = rows_of(out)
    assert [bool(row["error"]) for row in rows] == [False, *[True] * len(unreadable), False]
    assert rows[1]["error"] == "'secret.jpg' cannot be read (Permission denied); choose another picture."
    assert "cannot be read (File name too long)" in rows[2]["error"]
    assert [line for line in lines if "cannot be read" in line] == [row["error"] for row in rows[1:-1]]
    out = tmp_path / "pictures"
    out.mkdir()
    assert main(["reconstruct", CAT, *unreadable, COFFEE, "--model", checkpoint, "--out", str(out)]) == 2
    assert {file.name for file in out.glob("*-original.png")} == {"cat-original.png", "coffee-original.png"}
    assert f"'{secret}' cannot be read (Permission denied)" in capsys.readouterr().err


def test_a_loop_of_links_is_one_sentence(checkpoint, tmp_path, capsys):
    (tmp_path / "a.jpg").symlink_to(tmp_path / "b.jpg")
    (tmp_path / "b.jpg").symlink_to(tmp_path / "a.jpg")
    for command in ("reconstruct", "routing"):
        assert main([command, str(tmp_path / "a.jpg"), "--model", checkpoint, "--out", str(tmp_path / "x")]) == 2
        assert "There is no picture file" in capsys.readouterr().err


# ---- pictures of one name --------------------------------------------------------------------------------------------


def test_pictures_of_one_name_are_told_apart(checkpoint, tmp_path, capsys):
    files = [tmp_path / name for name in ("p1/x.jpg", "p2/x.jpg", "p2/y.jpg", "p1/bad.jpg", "p2/bad.jpg")]
    for file, source in zip(files[:3], (CAT, COFFEE, CAT), strict=True):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(Path(source).read_bytes())
    for file in files[3:]:
        file.write_text("no picture")
    out = tmp_path / "x.csv"
    assert main(["batch", *map(str, files), "--model", checkpoint, "--out", str(out), "--json"]) == 2
    expected = ["p1/x.jpg", "p2/x.jpg", "y.jpg", "p1/bad.jpg", "p2/bad.jpg"]
    printed = capsys.readouterr()
    assert [row["picture"] for row in rows_of(out)] == expected
    assert [json.loads(line)["picture"] for line in printed.out.splitlines()[:5]] == expected
    assert "'p1/bad.jpg' is not a picture" in printed.err
    assert "'p2/bad.jpg' is not a picture" in printed.err
