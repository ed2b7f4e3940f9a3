"""What visitors send is gone within two hours, however a page ends, and is in no log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import ROOT
from gate import PATIENCE, first_line, until
from starlette.testclient import TestClient

from drorae.ui import about_tab, app, upload_folder
from drorae.ui.malformed import Malformed
from drorae.ui.quiet_logs import where_raised
from drorae.ui.upload_folder import EVERY, KEPT, VARIABLE, Sweeper, own_upload_folder, sweep_dead

unix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

# a page's process without a page: what keeps uploads, as ``drorae app`` has it around everything
PROCESS = """
import signal, sys
from pathlib import Path
from drorae.ui.upload_folder import ending_as_interrupted, own_upload_folder
with ending_as_interrupted(), own_upload_folder(Path(sys.argv[1])) as folder:
    (folder / "a").mkdir()
    (folder / "a" / "photo.jpg").write_bytes(b"x")
    (folder / "tmp-part").write_bytes(b"half an upload")
    print(folder, flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        pass
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


@contextmanager
def started(root: Path) -> Iterator[tuple[subprocess.Popen, Path]]:
    """A page's process and its folder; it is ended afterwards, whatever comes of it."""
    process = subprocess.Popen([sys.executable, "-c", PROCESS, str(root)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield process, Path(first_line(process.stdout).strip())
    finally:
        process.kill()
        process.wait(PATIENCE)
        process.stdout.close()


@unix
def test_uploads_go_with_their_process_and_after_a_kill_with_the_next_one(tmp_path):
    with started(tmp_path) as (ended, folder), started(tmp_path) as (killed, left):
        assert folder != left
        assert (folder / "a" / "photo.jpg").is_file()
        ended.send_signal(signal.SIGTERM)
        assert ended.wait(PATIENCE) == 0
        assert not folder.exists()
        sweep_dead(tmp_path)
        assert (left / "tmp-part").is_file()  # of a process that lives
        killed.kill()
        killed.wait(PATIENCE)
        assert (left / "tmp-part").is_file()
    with own_upload_folder(tmp_path) as mine:
        assert not left.exists()
        assert os.environ[VARIABLE] == str(mine)
        assert mine.stat().st_mode & 0o077 == 0
    assert [*tmp_path.iterdir()] == []
    assert VARIABLE not in os.environ


def test_files_go_after_an_hour_whatever_the_clock_says(tmp_path):
    now = [1000.0]
    sweeper = Sweeper(tmp_path, lambda: now[0])
    old, new = tmp_path / "a" / "old.jpg", tmp_path / "b" / "new.jpg"
    for path in (old, new):
        path.parent.mkdir()
    old.write_bytes(b"x")
    os.utime(old, (4e9, 4e9))  # of a clock that was set back since
    sweeper.sweep()
    now[0] += KEPT - 1
    new.write_bytes(b"x")
    os.utime(new, (0, 0))  # and of one that was set forward
    sweeper.sweep()
    assert old.is_file()
    now[0] += 1
    sweeper.sweep()
    assert not old.parent.exists()
    assert new.is_file()
    now[0] += KEPT
    sweeper.sweep()
    assert not new.exists()
    assert KEPT + 2 * EVERY < 2 * 3600


def test_old_files_and_folders_of_ended_processes_go_while_a_page_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(upload_folder, "EVERY", 0.001)
    monkeypatch.setattr(upload_folder, "KEPT", 0)
    with own_upload_folder(tmp_path) as mine:
        (tmp_path / "1-ended").mkdir()
        (tmp_path / "1-ended.lock").touch()
        (mine / "photo.jpg").write_bytes(b"x")
        until(lambda: not (mine / "photo.jpg").exists(), lambda: time.sleep(0.001), "the old file is gone")
        until(lambda: not (tmp_path / "1-ended").exists(), lambda: time.sleep(0.001), "the left folder is gone")
        assert mine.is_dir()


def test_the_clock_of_a_page_is_one_that_nobody_sets(tmp_path):
    assert Sweeper(tmp_path).clock is time.monotonic


@unix
def test_the_program_keeps_uploads_in_a_folder_of_its_own_and_tidies_up_when_it_is_ended(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    seen = []

    def serve(argv):
        seen.append((Path(os.environ[VARIABLE]).parent, signal.getsignal(signal.SIGTERM)))
        return 0

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(app, "serve", serve)
    assert app.main([]) == 0
    assert seen == [(tmp_path, signal.default_int_handler)]
    assert signal.getsignal(signal.SIGTERM) == before
    assert [*tmp_path.iterdir()] == []


def test_a_file_that_goes_while_it_is_looked_at_is_gone(tmp_path):
    sweeper = Sweeper(tmp_path)
    (tmp_path / "link").symlink_to("nowhere")
    sweeper.sweep()
    sweeper.sweep()
    assert (tmp_path / "link").is_symlink()


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of Unix")
def test_without_a_place_for_uploads_the_page_starts_and_says_so(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with own_upload_folder(tmp_path / "file" / "below") as folder:
        assert folder is None
        assert VARIABLE not in os.environ
    said = capsys.readouterr().err
    assert "There is no place for uploads here (Not a directory)" in said
    assert str(tmp_path) not in said


SECRET = "a-prompt-that-nobody-should-see"


def test_errors_are_logged_without_their_messages():
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            raise ValueError(f"in {SECRET}.png") from error
    except ValueError as error:
        text = where_raised(error)
    assert SECRET not in text.replace("raise KeyError(SECRET)", "")
    assert "builtins.ValueError" in text
    assert "builtins.KeyError" in text
    assert "test_errors_are_logged_without_their_messages" in text


def test_gradio_prints_no_messages(capsys):
    import gradio.queueing
    import gradio.routes

    from drorae.ui.quiet_logs import keep_logs_quiet

    keep_logs_quiet()
    for module in (gradio.queueing, gradio.routes):
        secret = SECRET
        try:
            raise ValueError(secret)
        except ValueError:
            module.traceback.print_exc()
        said = capsys.readouterr().err
        assert "builtins.ValueError" in said
        assert SECRET not in said


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError(SECRET), 400), (MemoryError(), 503), (OSError(28, "No space left"), 503)]
)
def test_a_request_that_fails_is_a_sentence_and_its_words_are_not_logged(error, status, caplog):
    async def app(scope, receive, send):
        raise error

    with caplog.at_level("INFO"):
        response = TestClient(Malformed(app)).get(f"/?{SECRET}")
    assert response.status_code == status
    assert response.text.endswith(".\n")
    (record,) = [record for record in caplog.records if record.name.startswith("drorae")]
    assert "A request failed" in record.getMessage()
    assert SECRET not in record.getMessage()


def test_an_upload_without_room_is_a_sentence():
    from drorae.ui.reach import UPLOAD, OwnUploads

    async def app(scope, receive, send):
        raise OSError(28, "No space left on device")

    response = TestClient(OwnUploads(app)).post(UPLOAD)
    assert response.status_code == 507
    assert response.text == "There is no room for files here just now (No space left on device); examples still work.\n"


@pytest.mark.parametrize(
    ("card", "shown"),
    [
        ('a <img src="http://example.invalid/x"> b', 'a <\N{ZERO WIDTH SPACE}img src="http://example.invalid/x"> b'),
        ("a ![alt](http://example.invalid/x) b", "a [alt](http://example.invalid/x) b"),
        ("a ![alt][ref] b\n\n[ref]: http://example.invalid/x", "a [alt][ref] b\n\n[ref]: http://example.invalid/x"),
        ("</div><form action=x>", "<\N{ZERO WIDTH SPACE}/div><\N{ZERO WIDTH SPACE}form action=x>"),
        ("<!-- x --> <?x?>", "<\N{ZERO WIDTH SPACE}!-- x --> <\N{ZERO WIDTH SPACE}?x?>"),
        ("`<script>`", "`<\N{ZERO WIDTH SPACE}script>`"),
        ("![a](x)\nb", "b"),
        ("1 < 2 and a! [b]", "1 < 2 and a! [b]"),
    ],
)
def test_cards_have_neither_pictures_nor_html(tmp_path, card, shown):
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    assert about_tab.model_card(str(tmp_path)) == shown


def test_two_sentences_say_what_becomes_of_a_photo(tiny):
    facts = " ".join(about_tab.facts_text(tiny, "tiny").split())
    assert "is deleted there within two hours; neither its name nor what you type is written down." in facts
    assert "Your own browser keeps the last eight, so that a reload brings them back." in facts
