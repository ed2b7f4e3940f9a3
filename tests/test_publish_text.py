"""Publishing a text-to-image generator: what is written, and that the card says what was measured."""

import json

import numpy as np
import pytest
import torch
from conftest import smoke
from PIL import Image
from safetensors.torch import load_file

from drorae import DRoRAETextPipeline
from drorae.checkpoints import CheckpointError
from train import publish_text, stage2
from train.text_evidence import table


def test_a_generator_is_stored_measured_and_described(generators, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(publish_text, "STEPS", 2)
    if not (generators / "smoke" / "text" / "checkpoint").is_dir():
        stage2.main([*smoke(generators), "--condition", "text"])
    tokenizer, to = str(generators / "smoke" / "finetune" / "checkpoint"), tmp_path / "published"
    arguments = ["--preset", "smoke", "--out", str(generators), "--to", str(to), "--tokenizer", tokenizer]
    publish_text.main([*arguments, "--data", "generated", "--limit", "8", "--seen", "Discs."])
    for part in ("denoiser/diffusion_pytorch_model", "text_encoder/model"):
        assert {value.dtype for value in load_file(to / f"{part}.safetensors").values()} == {torch.float16}
    pipeline = DRoRAETextPipeline.from_pretrained(to)
    assert pipeline.dtype == torch.float32
    assert pipeline.config.autoencoder_name == tokenizer
    assert Image.open(to / "grid.jpg").size == (8 * 32 + 3 * 4, 10 * 32)
    report = json.loads((to / "measured.json").read_text())
    card = (to / "README.md").read_text()
    assert table(report) in card
    assert "networks need. Discs. The photos" in card
    assert f"python -m train.text_evidence {to} --limit 8" in card
    assert "`python -m train.stage2 --preset smoke --condition text`" in card
    assert table(report) in capsys.readouterr().out


def test_the_grid_shows_guided_and_unguided_pictures_side_by_side(text_pipeline, monkeypatch):
    """On random weights, where guidance changes much; after six steps of training it hardly does."""
    monkeypatch.setattr(publish_text, "STEPS", 2)
    sheet = publish_text.grid(text_pipeline, 10.0)
    shown = {}
    for guidance, left in (("cfg", 2 * 68), ("none", 2 * 68 + 32)):
        shown[guidance] = np.asarray(sheet.crop((left, 32, left + 32, 64))).astype(int)
        expected = text_pipeline(publish_text.PROMPTS[6], 2, guidance, 10.0, seed=0).images[0]
        assert np.abs(shown[guidance] - np.asarray(expected)).max() <= 1
    assert np.abs(shown["cfg"] - shown["none"]).max() > 10


def test_an_unfinished_run_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="text/checkpoint' is not there; finish that run first"):
        publish_text.main(["--preset", "smoke", "--out", str(tmp_path), "--to", str(tmp_path / "x")])
