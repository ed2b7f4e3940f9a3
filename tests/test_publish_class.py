"""Publishing a generator: what is written, and that the card says what was measured."""

import json

import numpy as np
import pytest
import torch
from conftest import PHOTOS, smoke
from PIL import Image
from safetensors.torch import load_file

from drorae import DRoRAEClassPipeline
from drorae.checkpoints import CheckpointError
from train import publish_class
from train.engine.run_folder import LOG, RECORD
from train.measure.generated import table
from train.measure.mobilenet import MobileNetV2

WEIGHTS = PHOTOS / "weights"


@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="the evaluator's weights are not there")
def test_a_generator_is_stored_sampled_measured_and_described(generators, tmp_path, monkeypatch, capsys):
    original = MobileNetV2.forward
    monkeypatch.setattr(MobileNetV2, "num_features", 2)
    monkeypatch.setattr(MobileNetV2, "forward", lambda self, x: (original(self, x)[0][:, :2], original(self, x)[1]))
    tokenizer = str(generators / "smoke" / "finetune" / "checkpoint")
    to = tmp_path / "published"
    arguments = [*smoke(generators), "--to", str(to), "--samples", "6", "--limit", "6", "--scale", "2.5"]
    publish_class.main([*arguments, "--weights", str(WEIGHTS), "--tokenizer", tokenizer])
    stored = load_file(to / "denoiser" / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float16}
    pipeline = DRoRAEClassPipeline.from_pretrained(to)
    assert pipeline.config.autoencoder_name == tokenizer
    assert pipeline.guide is not None
    assert Image.open(to / "grid.jpg").size == (2 * 4 * 32 + 24, 32)
    sheet = publish_class.grid(pipeline, 2.5)
    for label, seed, left in ((0, 2, 64), (1, 3, 4 * 32 + 24 + 96)):
        expected = pipeline(label, publish_class.STEPS, "autoguidance", 2.5, seed=seed).images[0]
        shown = np.asarray(sheet.crop((left, 0, left + 32, 32))).astype(int)
        assert np.abs(shown - np.asarray(expected)).max() <= 1
    report = json.loads((to / "measured.json").read_text())
    guided = str(generators / "smoke" / "samples" / "autoguidance")
    assert set(report["sets"]) == {"real photos", str(generators / "smoke" / "samples" / "unguided"), guided}
    assert report["sets"][guided]["settings"]["scale"] == 2.5
    card = (to / "README.md").read_text()
    assert table(report) in card
    assert report["command"] in card
    assert "`python -m train.stage2 --preset smoke --condition class --guide`" in card
    assert table(report) in capsys.readouterr().out


def test_unfinished_runs_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="class/checkpoint' is not there; finish that run first"):
        publish_class.main([*smoke(tmp_path), "--to", str(tmp_path / "x")])


def test_the_curve_goes_through_the_runs_that_were_gone_on_from(tmp_path):
    runs = {"first": ("", [(4, 1.1), (6, 1.05)]), "second": (f" --start '{tmp_path}/first/checkpoint'", [(3, 1.02)])}
    for name, (start, losses) in runs.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / RECORD).write_text(json.dumps({"command": f"python -m train.stage2 --condition class{start}"}))
        rows = [{"step": step, "validation_loss": loss} for step, loss in losses]
        (folder / LOG).write_text("\n".join(map(json.dumps, rows)))
    assert publish_class.lineage(tmp_path / "second") == [tmp_path / "first", tmp_path / "second"]
    assert publish_class.lineage(tmp_path / "first") == [tmp_path / "first"]
    assert publish_class.loss_curve(tmp_path / "second") == "4: 1.1000, 6: 1.0500, 9: 1.0200"


@pytest.mark.parametrize(
    ("flip", "precision", "views", "said"),
    [(True, "no", "central squares and their mirror images", "fp32"), (False, "bf16", "central squares", "bf16")],
)
def test_the_card_says_how_a_run_was_trained(flip, precision, views, said):
    trained = {"dropout": 0.1, "schedule": {"flip": flip, "precision": precision, "ema_decay": 0.99}}
    words = publish_class.training_words(trained)
    assert words == {"views": views, "precision": said, "dropout": "0.1", "ema": "0.99"}
