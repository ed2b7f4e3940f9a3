"""The wheel, installed into an environment that has its requirements and nothing else, works from any folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import httpx
import numpy as np
import pytest
from conftest import ROOT, served
from packaging.requirements import Requirement
from PIL import Image

from drorae.explorer.explore import explore
from drorae.ui.page import build_demo

MAX_BYTES = 110e6


class Environment:
    """A virtual environment; links stand for what pip would have fetched."""

    def __init__(self, folder: Path):
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        paths = sysconfig.get_paths("venv", vars={"base": str(folder), "platbase": str(folder)})
        self.scripts, self.packages = Path(paths["scripts"]), Path(paths["purelib"])
        self.python = self.scripts / Path("python").with_suffix(Path(sys.executable).suffix)

    def install(self, wheel: Path) -> None:
        pip = [sys.executable, "-m", "pip", "--python", self.python, "install", "-q", "--no-deps", "--no-index"]
        subprocess.run([*pip, wheel], check=True)

    def link(self, requirements: list[Requirement]) -> None:
        """Link what is required, with what that requires in turn."""
        seen: set[tuple[str, str]] = set()
        while requirements:
            requirement = requirements.pop()
            for extra in ["", *requirement.extras]:
                if (requirement.name.lower(), extra) not in seen:
                    seen.add((requirement.name.lower(), extra))
                    requirements += self._link_one(requirement.name, extra)

    def _link_one(self, name: str, extra: str) -> list[Requirement]:
        try:
            found = distribution(name)
        except PackageNotFoundError:  # what a library works without
            return []
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (self.packages / top).exists():
                (self.packages / top).symlink_to(found.locate_file(top))
        return required(found.requires or [], extra)

    def run(self, *command: object, cwd: Path) -> subprocess.CompletedProcess:
        """A script of this environment, or Python for ``-c``, offline, in a folder."""
        program = self.python if command[0] == "-c" else self.scripts / str(command[0])
        rest = command if command[0] == "-c" else command[1:]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "HF_", "VIRTUAL_ENV"))}
        arguments = [str(program), *map(str, rest)]
        return subprocess.run(
            arguments, cwd=cwd, env=kept | {"HF_HUB_OFFLINE": "1"}, capture_output=True, encoding="utf-8"
        )


def required(lines: list[str], extra: str = "") -> list[Requirement]:
    """The requirements that hold here, with an extra or with none."""
    all_of_them = map(Requirement, lines)
    return [one for one in all_of_them if one.marker is None or one.marker.evaluate({"extra": extra})]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "-w", folder, ROOT], check=True)
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Environment:
    made = Environment(tmp_path_factory.mktemp("environment"))
    made.install(wheel)
    made.link(required(metadata(wheel, "Requires-Dist")))
    return made


def metadata(wheel: Path, field: str) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        head, _, _ = archive.read(name).decode().partition("\n\n")
    return re.findall(rf"^{field}: (.*)$", head, re.M)


def test_a_wheel_holds_package_models_and_examples_and_nothing_else(wheel):
    assert wheel.stat().st_size < MAX_BYTES
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}
    here = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, encoding="utf-8").stdout.split()
    if not here:
        pytest.skip("this is not a checkout, so there is nothing to compare with")
    left_out = ("assets/legs/", "assets/screenshots/")
    expected = {name for name in here if name.startswith("drorae/")}
    expected |= {f"drorae/{name}" for name in here if name.startswith("assets/") and not name.startswith(left_out)}
    assert {name for name in expected if (ROOT / name).exists() or "/assets/" in name} <= files
    assert all(name.startswith("drorae/") for name in files)
    assert not [name for name in files if any(part in name for part in left_out)]
    assert {"drorae/assets/drorae-tiny/config.json", "drorae/assets/README.md", "drorae/py.typed"} <= files


def test_the_installed_command_rebuilds_a_picture_in_another_folder(environment, tmp_path, cat, embedded):
    cat.save(tmp_path / "photo.png")
    done = environment.run("drorae", "reconstruct", "photo.png", "--out", "o", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    row = json.loads(done.stdout)
    explored = explore(cat, embedded, interventions=False)
    for route in ("rae", "phase2", "drorae"):
        picture = np.asarray(Image.open(tmp_path / row[route]["file"])).astype(int)
        assert np.abs(picture - explored.pictures[route]).max() <= 1  # another process may sum in another order


def test_installed_names_and_pictures_are_those_of_the_package(environment, tmp_path):
    script = (
        "from drorae import bundled; import drorae, json; "
        "names = ['drorae-tiny', 'assets/drorae-tiny', 'assets/examples/cat.jpg', 'assets/legs', '../viewers']; "
        "print(json.dumps([drorae.__file__, *[str(bundled.bundled_path(name)) for name in names]]))"
    )
    done = environment.run("-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    package, *places = json.loads(done.stdout)
    assets = Path(package).parent / "assets"
    assert ROOT not in assets.parents
    model, cat = str(assets / "drorae-tiny"), str(assets / "examples" / "cat.jpg")
    assert places == [model, model, cat, "None", "None"]
    assert Path(cat).read_bytes() == (ROOT / "assets" / "examples" / "cat.jpg").read_bytes()


def test_without_the_extra_the_command_app_says_what_to_install(environment, tmp_path):
    done = environment.run("drorae", "app", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "The explorer needs gradio and plotly; install it with: pip install 'drorae[ui]'\n"


def test_only_the_core_is_there(environment, tmp_path):
    """What the other tests of this file rest on."""
    names = ("torch", "gradio", "plotly", "datasets", "tensorboard", "pytest")
    script = f"from importlib.util import find_spec; print([name for name in {names} if find_spec(name)])"
    assert environment.run("-c", script, cwd=tmp_path).stdout == "['torch']\n"


def test_a_link_opens_an_example_wherever_the_page_was_started(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # Gradio serves files below both
    with served(build_demo(tiny, "tiny")) as address:
        picture = httpx.get(f"{address}drorae/examples/rocket.jpg")
    assert picture.content == (ROOT / "assets" / "examples" / "rocket.jpg").read_bytes()
