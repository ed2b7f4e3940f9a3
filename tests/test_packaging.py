"""What the project declares is what its files do: requirements, names, versions, encodings."""

from __future__ import annotations

import ast
import importlib
import itertools
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import drorae
from drorae import bundled

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CORE, EXTRAS = PROJECT["dependencies"], PROJECT["optional-dependencies"]
ALL = [*CORE, *itertools.chain.from_iterable(EXTRAS.values())]

UI = sorted((ROOT / "drorae" / "ui").glob("*.py"))
PARTS = {  # files, the requirements they may use, and those of them that are this part's own
    "core": ([p for p in sorted((ROOT / "drorae").rglob("*.py")) if p not in UI], CORE, CORE),
    "ui": ([*UI, ROOT / "app.py"], CORE + EXTRAS["ui"], EXTRAS["ui"]),
    "train": (sorted((ROOT / "train").rglob("*.py")), CORE + EXTRAS["train"], EXTRAS["train"]),
    "test": (sorted((ROOT / "tests").glob("*.py")), ALL, EXTRAS["test"]),
}
# what a library brings along by its own declaration, and is part of how it is used
CARRIED = {
    "anyio": "gradio",
    "gradio-client": "gradio",
    "httpx": "gradio",
    "mcp": "gradio",
    "packaging": "pytest",
    "pyarrow": "datasets",
    "pydantic": "gradio",
    "tokenizers": "transformers",
}
# imported in a function, where it is missing with a sentence that names it, or tried, where all works without it
OPTIONAL = {
    "core": {"pillow-heif", "plotly"},
    "ui": {"spaces"},
    "train": {"resvg-py", "torch-fidelity"},
    "test": {"pillow-heif"},
}
# required without being imported
NOT_IMPORTED = {
    "core": {"accelerate": "diffusers loads with it", "torchvision": "timm imports it"},
    "ui": {"plotly": "drorae.study draws the tab Study with it"},
    "train": {"tensorboard": "accelerate writes with it"},
    "test": {"hatchling": "builds the wheel", "mypy": "types", "pytest-xdist": "pytest -n", "ruff": "lint"},
}


def imported(path: Path) -> Iterator[tuple[str, bool]]:
    """Top-level names a file imports when it runs, and whether that happens inside a function or is only tried."""
    nodes: list[tuple[ast.AST, bool]] = [(ast.parse(path.read_text(encoding="utf-8")), False)]
    while nodes:
        node, inside = nodes.pop()
        if isinstance(node, ast.If) and getattr(node.test, "id", None) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0], inside
        inside = inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or is_attempt(node)
        nodes += [(child, inside) for child in ast.iter_child_nodes(node)]


def is_attempt(node: ast.AST) -> bool:
    """Whether a block goes on where an import fails."""
    return isinstance(node, ast.Try) and any(getattr(each.type, "id", "") == "ImportError" for each in node.handlers)


def names(lines: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in lines}


@pytest.mark.parametrize("part", PARTS)
def test_what_is_imported_is_required_and_nothing_else(part):
    files, allowed, own = PARTS[part]
    distributions = packages_distributions()
    here = {"drorae", "train", "app", "tests", *sys.stdlib_module_names, *(path.stem for path in PARTS["test"][0])}
    used = set()
    for path in files:
        for module, inside in imported(path):
            if module in here:
                continue
            found = {canonicalize_name(name) for name in distributions.get(module, [module])}
            found = {CARRIED.get(name, name) if name not in names(allowed) else name for name in found}
            where = names(allowed) | (OPTIONAL.get(part, set()) if inside else set())
            assert found & where, f"{path.relative_to(ROOT)} imports {module}, which is not required"
            used |= found
    assert names(own) - used == set(NOT_IMPORTED.get(part, {}))


def test_what_is_carried_is_declared_by_its_carrier():
    for name, carrier in CARRIED.items():
        assert name in names(requires(carrier)), f"{carrier} no longer requires {name}"


def lines_of(name: str) -> list[str]:
    """Requirements in a file."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_the_requirements_are_the_core_and_the_page():
    assert lines_of("requirements.txt") == CORE + EXTRAS["ui"]


def locked() -> dict[str, list[tuple[Requirement, list[str]]]]:
    """What the lock pins, by name: requirements with their hashes."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    found: dict[str, list[tuple[Requirement, list[str]]]] = {}
    for line in re.sub(r" *\\\n *", " ", re.sub(r"^#.*\n", "", text, flags=re.M)).splitlines():
        stated, *hashes = line.split(" --hash=")
        requirement = Requirement(stated)
        found.setdefault(canonicalize_name(requirement.name), []).append((requirement, hashes))
    return found


def test_the_lock_has_one_version_and_hashes_for_all_that_is_needed_and_no_address():
    assert "://" not in (ROOT / "requirements.lock").read_text(encoding="utf-8")
    for entries in locked().values():
        for requirement, hashes in entries:
            assert [specifier.operator for specifier in requirement.specifier] == ["=="], requirement
            assert requirement.url is None
            assert hashes, requirement
            assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), requirement


PLATFORMS = [("Linux", "linux", "x86_64"), ("Linux", "linux", "aarch64"), ("Darwin", "darwin", "arm64")]
PLATFORMS += [("Windows", "win32", "AMD64")]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("platform", PLATFORMS, ids=lambda platform: "-".join(platform[1:]))
def test_the_lock_pins_versions_in_the_ranges_on_every_platform(platform, python):
    keys = ("platform_system", "sys_platform", "platform_machine")
    here = dict(zip(keys, platform, strict=True)) | {"python_version": python, "python_full_version": f"{python}.0"}
    pinned = {}
    for name, entries in locked().items():
        held = [each for each, _ in entries if each.marker is None or each.marker.evaluate(here)]
        assert len(held) <= 1, held
        if held:
            pinned[name] = next(iter(held[0].specifier)).version
    for line in CORE + EXTRAS["ui"]:
        requirement = Requirement(line)
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{line} does not hold {version}; renew requirements.lock"


# a Space

SPACE = ".github/space"
ZEROGPU = {"torch": "2.11.0", "torchvision": "0.26.0"}  # the newest pair that ZeroGPU lists
PYTHON = "3.12"  # of those that it lists, the one that the package works with


def front_matter() -> dict[str, str]:
    """One-line fields at the top of the Space's README."""
    text = (ROOT / SPACE / "README.md").read_text(encoding="utf-8")
    block = re.match(r"---\n(.*?)\n---\n", text, re.S)[1]
    return {name: value.strip('"') for name, value in re.findall(r"^(\w+): +(.+)$", block, re.M)}


def test_a_space_installs_the_same_but_gradio_and_torch_as_zerogpu_has_it():
    brought = [line for line in CORE + EXTRAS["ui"] if Requirement(line).name not in ("gradio", *ZEROGPU)]
    pins = [f"{name}=={version}" for name, version in ZEROGPU.items()]
    assert lines_of(f"{SPACE}/requirements.txt") == [*pins, *brought, "spaces>=0.51,<1"]
    ranges = {Requirement(line).name: Requirement(line).specifier for line in CORE + EXTRAS["ui"]}
    assert all(ranges[name].contains(version) for name, version in ZEROGPU.items())


def test_the_front_matter_of_a_space_is_within_its_rules():
    fields = front_matter()
    gradio = next(each for each, _ in locked()["gradio"])
    assert fields["sdk"] == "gradio"
    assert gradio.specifier.contains(fields["sdk_version"])
    assert fields["python_version"] == PYTHON
    assert SpecifierSet(PROJECT["requires-python"]).contains(PYTHON)
    assert (ROOT / fields["app_file"]).is_file()
    assert len(fields["short_description"]) <= 60
    assert PROJECT["license"].lower() == fields["license"]
    assert not (ROOT / "README.md").read_text(encoding="utf-8").startswith("---")  # GitHub would show it as a table


def test_a_space_gets_the_page_its_models_and_its_own_readme(tmp_path):
    program = [sys.executable, ROOT / SPACE / "collect.py", tmp_path / "space"]
    done = subprocess.run(program, capture_output=True, encoding="utf-8")
    if "not a git repository" in done.stderr:
        pytest.skip("this is not a checkout, so it is not known what belongs to it")
    assert done.returncode == 0, done.stderr
    files = {path.relative_to(tmp_path / "space").as_posix(): path for path in (tmp_path / "space").rglob("*.*")}
    assert {"app.py", "README.md", "requirements.txt", "drorae/ui/app.py", "assets/drorae-tiny/config.json"} <= set(
        files
    )
    assert not [name for name in files if name.startswith(("tests", "train", "assets/legs", "assets/screenshots"))]
    assert files["README.md"].read_bytes() == (ROOT / SPACE / "README.md").read_bytes()
    large = [name for name, path in files.items() if path.is_file() and path.stat().st_size > 10_000_000]
    assert all(name.endswith(".safetensors") for name in large)  # which the Hub stores apart, without being told
    assert sum(path.stat().st_size for path in files.values() if path.is_file()) < 120 * 2**20
    again = subprocess.run(program, capture_output=True, encoding="utf-8")
    assert again.returncode == 1
    assert "not there yet" in again.stderr


def test_ranges_have_both_ends():
    for line in ALL:
        operators = {specifier.operator for specifier in Requirement(line).specifier}
        assert operators in ({">=", "<"}, {"=="}), line


def test_one_version_of_ruff():
    (pinned,) = (line.removeprefix("ruff==") for line in EXTRAS["test"] if line.startswith("ruff"))
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.search(r"ruff-pre-commit\n +rev: v(\S+)\n", hooks)[1] == pinned
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    assert "ruff==" not in workflow.replace("grep -o 'ruff==[0-9.]*' pyproject.toml", "")


def test_one_version_of_the_package():
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.search(r"^## (\d\S*), (\d{4}-\d\d-\d\d)$", changes, re.M)
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert released[1] == drorae.__version__
    assert f"version: {drorae.__version__}\n" in citation
    assert f'date-released: "{released[2]}"\n' in citation


def test_public_names_are_the_same_for_people_programs_and_type_checkers():
    tree = ast.parse(Path(drorae.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == {name: f"drorae.{home}" for name, home in drorae._HOMES.items()}
    assert set(drorae.__all__) == set(seen) <= set(dir(drorae))
    assert all(getattr(drorae, name).__name__ == name for name in drorae.__all__)
    with pytest.raises(AttributeError, match="module 'drorae' has no attribute 'Autoencoder'"):
        drorae.Autoencoder  # noqa: B018
    assert (ROOT / "drorae" / "py.typed").exists()


def test_bundled_files_lie_in_a_wheel_or_beside_a_checkout(tmp_path, monkeypatch):
    package = tmp_path / "packages" / "drorae"
    beside, inside = tmp_path / "packages" / "assets", package / "assets"
    (beside / "of-somebody-else").mkdir(parents=True)
    package.mkdir()
    assert bundled.assets_of(package) == beside
    (inside / "small").mkdir(parents=True)
    assert bundled.assets_of(package) == inside
    monkeypatch.setattr(bundled, "ASSETS", inside)
    (inside / "cat.jpg").touch()
    monkeypatch.chdir(tmp_path)
    for name in ("small", "assets/small", Path("assets", "small")):
        assert bundled.bundled_path(name) == inside / "small"
        assert bundled.is_bundled(name)
    for name in ("of-somebody-else", "assets", "", "../drorae", "assets/../assets", str(inside / "small")):
        assert bundled.bundled_path(name) is None
    assert bundled.is_bundled("cat.jpg") is False
    assert bundled.picture_path("assets/cat.jpg") == inside / "cat.jpg"
    assert bundled.picture_path("nowhere.jpg") == Path("nowhere.jpg")
    (tmp_path / "cat.jpg").touch()
    assert bundled.picture_path("cat.jpg") == Path("cat.jpg")  # what lies in the folder wins


@pytest.mark.parametrize("part", ["core", "ui", "train"])
def test_text_files_are_utf_8_on_every_system(part):
    """ruff's PLW1514 sees only what is plainly a path."""
    for path in PARTS[part][0]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and opens_text(node):
                given = {keyword.arg for keyword in node.keywords}
                assert "encoding" in given, f"{path}, line {node.lineno}: {ast.unparse(node)}"


def opens_text(call: ast.Call) -> bool:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if name in ("open", "fdopen"):
        owner = getattr(getattr(call.func, "value", None), "id", "")
        values = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
        modes = [value.value for value in values if isinstance(value, ast.Constant)]
        binary = any(re.fullmatch(r"[rwaxb+]+", str(mode)) and "b" in mode for mode in modes)
        return owner not in ("Image", "tarfile") and (owner, name) != ("os", "open") and not binary
    return name in ("read_text", "write_text") or any(
        keyword.arg == "text" and getattr(keyword.value, "value", None) is True for keyword in call.keywords
    )


@pytest.mark.parametrize("part", ["core", "ui", "train"])
def test_no_module_of_one_system_is_needed_to_import_ours(part):
    """They may be imported in a function that says what it does elsewhere."""
    unix = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix", "syslog", "winreg", "msvcrt"}
    for path in PARTS[part][0]:
        assert not unix & {module for module, inside in imported(path) if not inside}, path


@pytest.mark.parametrize("name", ["drorae-tiny-class", "drorae-tiny-text"])
def test_what_a_shipped_pipeline_names_of_ours_can_be_imported(name):
    """diffusers' ``custom_pipeline`` imports these; our own loader does not look them up."""
    index = json.loads((ROOT / "assets" / name / "model_index.json").read_text(encoding="utf-8"))
    parts = [part for part in index.values() if isinstance(part, list) and str(part[0]).startswith("drorae")]
    assert parts
    for library, kind in parts:
        assert getattr(importlib.import_module(library), kind).__name__ == kind
