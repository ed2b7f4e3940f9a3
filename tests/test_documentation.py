"""What README and docs repeat is what the code says."""

import ast
import importlib
import importlib.util
import re

import pytest
from conftest import ROOT

from train.engine.dry_run import estimate_hours
from train.presets import PRESETS
from train.readme import GPUS, REPRODUCED, reproduction_table
from train.settings import Schedule

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = sorted((ROOT / "docs").glob("*.md"))


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_docs_state_the_options_of_the_commands():
    spec = importlib.util.spec_from_file_location("commands", ROOT / "docs" / "commands.py")
    commands = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(commands)
    assert commands.TARGET.read_text(encoding="utf-8") == commands.document(), "run: python docs/commands.py"


def test_help_says_what_an_option_is():
    """Not "of the sampler" or "that read pictures", whose noun is missing."""
    rows = re.findall(r"^\| (.+) \| (.+) \|$", (ROOT / "docs" / "commands.md").read_text(encoding="utf-8"), re.M)
    assert len(rows) > 300
    assert [row for row in rows if re.match(r"(of|that|for|from|whose|to) ", row[1])] == []


def reproduction_rows() -> list[list[str]]:
    block = re.search(r"<!-- reproduction -->\n(.*?)\n<!-- /reproduction -->", README, re.S)[1]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()[2:]]


def test_the_reproduction_table_has_every_run_with_the_papers_number_and_ours():
    preset = PRESETS[REPRODUCED]
    runs = {**preset.stage1, **preset.stage2}
    assert [row[0] for row in reproduction_rows()] == list(runs)
    for name, command, hardware, _, paper, ours in reproduction_rows():
        assert command.startswith("`train.stage")
        assert hardware == f"{GPUS} H100"
        assert (paper, ours) == (runs[name].expected, runs[name].measured)


@pytest.mark.slow
def test_the_reproduction_table_has_the_hours_that_are_counted():
    assert reproduction_table() in README, "run: python -m train.readme"


def test_hours_are_those_of_the_peak_at_the_stated_share():
    schedule = Schedule(steps=1000, batch_size=256, lr=1e-4, warmup_steps=0)
    # 1 TFLOP a picture: 256,000 TFLOP on 8 GPUs that do 0.4 * 989 TFLOP/s each
    assert estimate_hours(10**12, schedule, 8) == pytest.approx(256_000 / (8 * 0.4 * 989) / 3600)
    slow = Schedule(steps=1000, batch_size=256, lr=1e-4, warmup_steps=0, precision="no")
    assert estimate_hours(10**12, slow, 8) == pytest.approx(2 * estimate_hours(10**12, schedule, 8))


@pytest.mark.parametrize("path", [ROOT / "README.md", *DOCS], ids=lambda path: path.name)
def test_links_and_files_that_texts_name_are_there(path):
    text = path.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", text)
    files = re.findall(r"`((?:drorae|train|tests|docs|assets)/[\w./-]+\.(?:py|md))`", text)
    assert not [link for link in links if not (path.parent / link).exists()]
    assert not [file for file in files if not (ROOT / file).exists()]


@pytest.mark.parametrize("path", [ROOT / "README.md", *DOCS], ids=lambda path: path.name)
def test_names_that_python_examples_import_are_there(path):
    for block in re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.S):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ("drorae", "train"):
                module = importlib.import_module(node.module)
                assert not [alias.name for alias in node.names if not hasattr(module, alias.name)]
