"""The order of the packages that the README's map draws: each imports those to its right only."""

import ast
from pathlib import Path

import pytest
from conftest import ROOT

ORDER = {
    "drorae": "cli ui bench viewers explorer study pipelines pretrained models .",
    "train": "commands measure engine tasks data .",
}
SHELLS = {"drorae": {"__main__"}, "train": set()}
BOTTOM = {
    "drorae": {
        "building",
        "bundled",
        "choices",
        "console",
        "decoding",
        "decoding_cost",
        "devices",
        "errors",
        "images",
        "metrics",
        "model_files",
        "rules",
        "whole_file",
        "checkpoints",
    },
    "train": {"presets", "paper_presets", "settings", "errors"},
}
UPWARD = {("drorae.models.autoencoder", "drorae.pretrained.rae_tokenizer")}  # from_rae builds the class it belongs to

FILES = [path for folder in ORDER for path in sorted((ROOT / folder).rglob("*.py"))]
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in FILES}


def imports(path: Path) -> set[str]:
    """Every module and name a file imports, anywhere in it, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def line_of(module: str) -> str:
    """The word of ORDER that a module belongs to."""
    top, _, rest = module.partition(".")
    first, _, inner = rest.partition(".")
    if inner and first not in BOTTOM[top] and (ROOT / top / first).is_dir():
        return "commands" if first in ("gpu", "experiments", "fitting") else first
    if first in SHELLS[top]:
        return "cli"
    return "." if first in BOTTOM[top] else "commands"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    names = imports(path)
    outside = {name.split(".")[0] for name in names}
    if module.startswith("drorae."):
        assert not outside & {"train", "accelerate", "datasets", "tests"}
    if not module.startswith("drorae.ui."):
        assert "gradio" not in outside
    if module.startswith("train."):
        assert not any(name.startswith(("drorae.ui", "drorae.cli")) or name == "app" for name in names)
    if path.name == "__init__.py":  # lazy names, or a sentence about the package
        return
    order = ORDER[module.split(".")[0]].split()
    place = order.index(line_of(module))
    for name in names & MODULES:
        if name.split(".")[0] == module.split(".")[0] and (module, name) not in UPWARD:
            assert order.index(line_of(name)) >= place, f"{module} imports {name}"
