"""The program as a host starts it: with variables in the place of options, and with one folder to write to."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from conftest import ROOT
from gate import PATIENCE, answers
from gradio_client import Client, handle_file

from drorae import devices
from drorae.devices import best_device
from drorae.errors import DRoRAEError

CAT = str(ROOT / "assets" / "examples" / "cat.jpg")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")

# what a file system that is only read refuses
GUARD = """
import os, sys
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = ("os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.link", "os.symlink", "os.truncate", "os.chmod")
DATA = os.environ["HOME"]
def guard(event, arguments):
    if not (event in CHANGES or (event == "open" and arguments[2] & WRITES)):
        return
    for path in arguments[:2] if event in ("os.rename", "os.link") else arguments[:1]:
        if isinstance(path, int):
            continue
        path = os.path.abspath(os.fsdecode(path))
        if not path.startswith((DATA, "/dev/")):
            print("refused", event, path, file=sys.stderr, flush=True)
            raise OSError(30, "Read-only file system", path)
sys.addaudithook(guard)
import app
sys.exit(app.main())
"""


def variables(data: Path) -> dict[str, str]:
    """The environment that the Dockerfile sets, with another folder in the place of /data."""
    block = re.search(r"^ENV (.*?)\n[A-Z]", DOCKERFILE, re.S | re.M)[1].replace("\\\n", " ")
    return dict(each.replace("/data", str(data)).split("=", 1) for each in shlex.split(block))


def health_check() -> list[str]:
    """The command of the Dockerfile's health check."""
    text = re.search(r"^HEALTHCHECK .*? CMD (\[.*?\])$", DOCKERFILE.replace("\\\n", " "), re.M)[1]
    return [sys.executable, *[each.replace('\\"', '"') for each in re.findall(r'"((?:[^"\\]|\\.)*)"', text)][1:]]


@pytest.fixture(scope="module")
def hosted(tiny, tmp_path_factory) -> Iterator[tuple[str, dict[str, str], Path]]:
    """Address of a page as a container has it, its variables, and the file that has what was refused."""
    place = tmp_path_factory.mktemp("hosted")
    tiny.save_pretrained(place / "model")
    (place / "data").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    others = ("GRADIO_", "DRORAE_", "HF_", "TORCH")  # of this process
    kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    given = kept | variables(place / "data") | {"GRADIO_SERVER_PORT": str(port), "DRORAE_MODEL": str(place / "model")}
    given |= {"GRADIO_SERVER_NAME": "127.0.0.1", "DRORAE_DEVICE": "cpu", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with (place / "errors").open("w") as errors:
        process = subprocess.Popen([sys.executable, "-c", GUARD], cwd=ROOT, env=given, stderr=errors)
        try:
            address = f"http://127.0.0.1:{port}/"
            if not answers(address, process):
                pytest.fail((place / "errors").read_text())
            yield address, given, place / "errors"
        finally:
            process.terminate()
            process.wait(PATIENCE)


def test_a_page_writes_to_one_folder_alone(hosted):
    address, given, errors = hosted
    client = Client(address, verbose=False)
    _, numbers = client.predict(handle_file(CAT), api_name="/reconstruct")
    assert numbers["drorae"]["psnr"] > 0
    assert len(client.predict([handle_file(CAT)] * 2, api_name="/batch")) == 2
    assert any(Path(given["GRADIO_TEMP_DIR"]).rglob("cat.jpg"))
    assert "refused" not in errors.read_text()


def test_the_guard_of_these_tests_refuses(tmp_path):
    script = GUARD.replace("import app\nsys.exit(app.main())", "open(sys.argv[1], 'w')")
    command = [sys.executable, "-c", script, str(tmp_path / "file")]
    done = subprocess.run(command, env=os.environ | {"HOME": "/nowhere"}, capture_output=True, encoding="utf-8")
    assert done.returncode == 1
    assert f"refused open {tmp_path / 'file'}" in done.stderr


def test_the_health_check_sees_a_page_and_its_absence(hosted):
    _, given, _ = hosted
    assert subprocess.run(health_check(), env=given, capture_output=True).returncode == 0
    gone = given | {"GRADIO_SERVER_PORT": "9"}
    assert subprocess.run(health_check(), env=gone, capture_output=True).returncode != 0


def test_the_model_is_that_of_the_variable_and_cannot_be_changed(hosted):
    address, given, _ = hosted
    text = httpx.get(address).text
    assert given["DRORAE_MODEL"] in text
    assert "assets/drorae-tiny" not in re.findall(r'"model":\{"name":"([^"]*)"', text)


def test_the_image_holds_what_the_program_needs_and_no_more():
    copied = re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.M)
    names = {name for line in copied for name in line.split()}
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert names == set(allowed)
    assert (ROOT / ".dockerignore").read_text().startswith("*\n")
    assert "useradd --uid 1000 " in DOCKERFILE
    assert "--require-hashes -r requirements.lock" in DOCKERFILE
    assert re.search(r"^USER page$", DOCKERFILE, re.M)


def test_every_variable_is_in_the_docs_and_the_docs_name_no_other():
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "drorae").rglob("*.py")]
    read = {name for text in sources for name in re.findall(r'"(DRORAE_[A-Z_]+)"', text)}
    docs = (ROOT / "docs" / "hosting.md").read_text(encoding="utf-8")
    rows = "\n".join(re.findall(r"^\| (`DRORAE_.*?) \|", docs, re.M))
    assert set(re.findall(r"DRORAE_[A-Z_]+", rows)) == read
    assert set(re.findall(r"DRORAE_[A-Z_]+", docs)) == read


@pytest.mark.parametrize("name", ["cpu", "cpu:0"])
def test_a_device_that_is_named_is_taken(monkeypatch, name):
    monkeypatch.setenv(devices.DEVICE, name)
    assert best_device().type == "cpu"


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "xpu:7", "cpu:1", "meta"])
def test_a_device_that_is_not_here_is_a_sentence(monkeypatch, name):
    monkeypatch.setenv(devices.DEVICE, name)
    with pytest.raises(DRoRAEError, match=f"is cpu or an accelerator that this machine has, not '{name}'"):
        best_device()
