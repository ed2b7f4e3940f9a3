"""One place chooses where networks run."""

import re

import pytest
import torch
from conftest import ROOT

from drorae.devices import best_device


@pytest.mark.parametrize(("found", "wanted"), [(None, "cpu"), ("cuda", "cuda"), ("mps", "mps")])
def test_the_accelerator_is_taken_where_there_is_one(monkeypatch, found, wanted):
    device = None if found is None else torch.device(found)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: device)
    assert best_device() == torch.device(wanted)


def test_it_is_a_device_that_computes():
    assert torch.ones(3, device=best_device()).sum().item() == 3


def test_nobody_else_chooses():
    """Training leaves it to accelerate; the scripts for one GPU ask for that GPU."""
    chooser = re.compile(r"""["']cuda["'] if|else ["']cpu["']|["']mps["']""")
    files = [path for folder in ("drorae", "train") for path in (ROOT / folder).rglob("*.py")]
    assert [path.name for path in files if chooser.search(path.read_text(encoding="utf-8"))] == []
