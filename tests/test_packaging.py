"""What the project declares is what its files do: requirements, names, versions, encodings."""

from __future__ import annotations

import ast
import itertools
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
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


def test_a_space_installs_the_core_and_the_page():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == CORE + EXTRAS["ui"]


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
        assert bundled.bundled(name) == inside / "small"
        assert bundled.is_bundled(name)
    for name in ("of-somebody-else", "assets", "", "../drorae", "assets/../assets", str(inside / "small")):
        assert bundled.bundled(name) is None
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
        return owner not in ("Image", "tarfile") and not binary
    return name in ("read_text", "write_text") or any(
        keyword.arg == "text" and getattr(keyword.value, "value", None) is True for keyword in call.keywords
    )


@pytest.mark.parametrize("part", ["core", "ui", "train"])
def test_no_module_of_one_system_is_needed_to_import_ours(part):
    """They may be imported in a function that says what it does elsewhere."""
    unix = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix", "syslog", "winreg", "msvcrt"}
    for path in PARTS[part][0]:
        assert not unix & {module for module, inside in imported(path) if not inside}, path
