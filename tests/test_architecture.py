"""The import directions that the README's architecture section promises."""

import ast

import pytest
from conftest import ROOT

FILES = [path for folder in ("drorae", "train") for path in sorted((ROOT / folder).rglob("*.py"))]

# Who may import whom inside the package; what is not listed here may be imported by the layers above only.
ALLOWED = {
    "images": set(),
    "encoder": set(),
    "fusion": set(),
    "fusions": {"fusion"},
    "latents": set(),
    "decoder": set(),
    "checkpoints": set(),
    "metrics": {"images"},
    "rae": {"checkpoints"},
    "autoencoder": {"checkpoints", "decoder", "encoder", "fusion", "fusions", "latents", "rae"},
    "adapter": {"autoencoder", "checkpoints"},
    "denoiser": {"checkpoints"},
    "flow": set(),
    "guidance": set(),
    "pipeline": {"adapter", "autoencoder", "checkpoints", "denoiser", "flow", "guidance", "images"},
    "class_pipeline": {"autoencoder", "checkpoints", "denoiser", "flow", "guidance", "pipeline"},
    "text": {"checkpoints"},
    "text_pipeline": {"autoencoder", "checkpoints", "denoiser", "flow", "guidance", "pipeline", "text"},
    "rae_denoiser": {"adapter", "autoencoder", "checkpoints", "class_pipeline", "denoiser", "flow", "rae"},
    "generate": {"autoencoder", "class_pipeline", "flow", "images", "pipeline", "text_pipeline"},
    "compatibility": {"autoencoder"},
    "spectrum": set(),
    "layer_maps": {"fusion"},
    "intervene": {"autoencoder", "fusion"},
    "explore": {
        "autoencoder",
        "compatibility",
        "fusion",
        "images",
        "intervene",
        "layer_maps",
        "metrics",
        "spectrum",
    },
    "batch": {"autoencoder", "explore", "images"},
    "answers": {"batch", "explore"},
    "bundle": {"answers", "batch", "explore", "generate", "images", "spectrum"},
    "report": {"autoencoder", "bundle", "checkpoints", "explore"},
    "plots": set(),
    "published": set(),
    "study": {"published"},
    "study_plots": {"plots", "published", "study"},
    "fetching": {"checkpoints"},
    "cli": {
        "answers",
        "autoencoder",
        "batch",
        "checkpoints",
        "class_pipeline",
        "explore",
        "generate",
        "images",
        "intervene",
        "pipeline",
        "report",
        "text_pipeline",
    },
}


def imports(path) -> set[str]:
    """Every module a file imports, anywhere in it, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def top(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_import_directions(path):
    names = imports(path)
    where = path.relative_to(ROOT).parts
    if where[0] == "drorae":
        assert not top(names) & {"train", "accelerate", "tests"}
        if where[1] != "ui":
            assert "gradio" not in top(names)
            assert not any(name.startswith("drorae.ui") for name in names)
    else:
        assert not any(name.startswith("drorae.ui") for name in names)
        assert "gradio" not in top(names)


@pytest.mark.parametrize("module", ALLOWED)
def test_layers_of_the_package(module):
    modules = {path.stem for path in (ROOT / "drorae").glob("*.py")}
    names = {name.split(".")[1] for name in imports(ROOT / "drorae" / f"{module}.py") if name.startswith("drorae.")}
    assert names & modules <= ALLOWED[module]


def test_every_module_of_the_package_has_a_place():
    modules = {path.stem for path in (ROOT / "drorae").glob("*.py")} - {"__init__", "__main__"}
    assert modules == set(ALLOWED)
