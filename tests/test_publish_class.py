"""Publishing a generator: what is written, and that the card says what was measured."""

import json
import re
import shlex

import numpy as np
import pytest
import torch
from conftest import smoke
from PIL import Image
from safetensors.torch import load_file
from test_evaluate_generated import Mean

from drorae import DRoRAEClassPipeline
from drorae.checkpoints import CheckpointError
from drorae.explorer.chosen import weights_of
from drorae.explorer.sampling import usual_guidance
from train import generate, publish_class
from train.engine.run_folder import LOG, RECORD
from train.measure import generated
from train.measure.generated import Judge, table


def test_a_generator_is_stored_sampled_measured_and_described(generators, tmp_path, monkeypatch, capsys):
    """With a judge that sees the mean colour; the real ones are in test_evaluate_generated.py."""
    monkeypatch.setattr(generated, "load_judges", lambda weights, device: ({"mean": Judge("Mean", Mean(), 0)}, {}))
    monkeypatch.setattr(generated, "class_numbers", lambda names, weights: [5, 6])
    tokenizer = str(generators / "smoke" / "finetune" / "checkpoint")
    to = tmp_path / "published"
    arguments = [*smoke(generators), "--to", str(to), "--samples", "6", "--limit", "6", "--scale", "2.5"]
    publish_class.main([*arguments, "--tokenizer", tokenizer, "--seen", "Discs."])
    stored = load_file(to / "denoiser" / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float16}
    pipeline = DRoRAEClassPipeline.from_pretrained(to)
    assert pipeline.config.autoencoder_name == tokenizer
    assert pipeline.guide is not None
    assert usual_guidance(pipeline) == ("autoguidance", 2.5)
    assert Image.open(to / "grid.jpg").size == (2 * 4 * 32 + 24, 32)
    sheet = publish_class.grid(pipeline)
    for label, seed, left in ((0, 2, 64), (1, 3, 4 * 32 + 24 + 96)):
        expected = pipeline(label, publish_class.STEPS, "autoguidance", 2.5, seed=seed).images[0]
        shown = np.asarray(sheet.crop((left, 0, left + 32, 32))).astype(int)
        assert np.abs(shown - np.asarray(expected)).max() <= 1
    report = json.loads((to / "measured.json").read_text())
    unguided, guided = (str(generators / "smoke" / "samples" / name) for name in ("unguided", "autoguidance"))
    assert set(report["sets"]) == {"real photos", unguided, guided}
    assert report["sets"][guided]["settings"]["scale"] == 2.5
    assert report["weights"] == weights_of(pipeline)
    for name in (unguided, guided):
        assert {"frechet", "precision", "recall", "asked", "nearest"} <= set(report["sets"][name]["mean"])
    card = (to / "README.md").read_text()
    assert table(report) in card
    assert report["speed"] in card
    assert "Four pictures took" in report["speed"]
    assert re.search(r"classes in 1 minute \(CPU, \d+ threads?\) and", card)
    assert "can draw nothing else. Discs. The" in card
    commands = re.search(r"none picked:\n\n```\n(.*?)\n```", card, re.S)[1].splitlines()
    assert commands[-1] == report["command"]
    assert report["command"].endswith("--data generated --limit 6 --copies")
    arguments = shlex.split(commands[1])[3:]  # what the card says makes the guided samples
    arguments[arguments.index("--out") + 1] = str(tmp_path / "again")
    generate.main(arguments)
    for file in sorted((tmp_path / "again").glob("*.png")):
        assert np.array_equal(
            Image.open(file), Image.open(generators / "smoke" / "samples" / "autoguidance" / file.name)
        )
    assert "`python -m train.stage2 --preset smoke --condition class --guide`" in card
    losses = publish_class.loss_points(generators / "smoke" / "class")
    assert f"class {losses[-1][1]:.4g}" in (to / "curves.svg").read_text()
    assert table(report) in capsys.readouterr().out


def test_sentences_repeat_the_numbers():
    judges = {"a": "Net A", "b": "Net B"}
    sets = {
        "real photos": {"a": {"asked": 0.92}, "b": {"asked": 0.96}},
        "x": {"a": {"asked": 0.25, "frechet": 200.0}, "b": {"asked": 0.1, "frechet": 300.0}},
        "y": {"a": {"asked": 0.5, "frechet": 100.0}, "b": {"frechet": 400.0}},
    }
    report = {"judges": judges, "sets": sets}
    words = publish_class.agreement_words(report, {"real photos": "real photos", "x": "unguided", "y": "guided"})
    assert words == (
        "Net A, asked which of the classes it sees, is right on 92.0 % of real photos, 25.0 % of unguided, 50.0 % of "
        "guided. Net B, asked which of the classes it sees, is right on 96.0 % of real photos, 10.0 % of unguided."
    )
    changes = publish_class.changes_words(report, "x", "y")
    assert (
        changes
        == "the Frechet distance of Net A from 200.00 to 100.00 and the Frechet distance of Net B from 300.00 to 400.00"
    )


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
    ("flip", "precision", "count", "views", "said"),
    [
        (True, "no", None, "central squares and their mirror images", "fp32"),
        (False, "bf16", 1, "central squares", "bf16"),
        (False, "bf16", 4, "central squares and 3 smaller copies of each on white", "bf16"),
        (True, "bf16", 6, "central squares and 2 random ones of each photo and their mirror images", "bf16"),
    ],
)
def test_the_card_says_how_a_run_was_trained(flip, precision, count, views, said):
    trained = {"dropout": 0.1, "schedule": {"flip": flip, "precision": precision, "ema_decay": 0.99}, "views": count}
    words = publish_class.settings_words(trained)
    assert words == {"views": views, "precision": said, "dropout": "0.1", "ema": "0.99"}


def test_what_took_minutes_is_said_in_minutes():
    assert [publish_class.duration_words(hours) for hours in (10.19, 1, 0.065, 0.001)] == [
        "10.2 hours",
        "1.0 hours",
        "4 minutes",
        "1 minute",
    ]
