"""The shipped generator: its card, its grid, what was measured of it, and that a laptop can sample it."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from drorae import DRoRAEClassPipeline, cli
from drorae.explorer.sampling import class_names
from train.measure.generated import table

GENERATOR = ROOT / "assets" / "drorae-tiny-class"
STEPS = 25


@pytest.fixture(scope="module")
def pipeline(embedded) -> DRoRAEClassPipeline:
    made = DRoRAEClassPipeline.from_pretrained("assets/drorae-tiny-class", autoencoder=embedded)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def report() -> dict:
    return json.loads((GENERATOR / "measured.json").read_text())


def scale() -> float:
    return float(re.search(r"AutoGuidance, scale ([\d.]+), \d+ steps", (GENERATOR / "README.md").read_text())[1])


def test_it_belongs_to_the_embedded_tokenizer_and_knows_its_classes(pipeline, embedded):
    assert pipeline.denoiser.config.latent_fingerprint == embedded.statistics.fingerprint()
    assert pipeline.guide.config.latent_fingerprint == embedded.statistics.fingerprint()
    names = list(class_names(pipeline))
    assert len(names) == 20
    assert {"golf ball", "church", "golden retriever"} <= set(names)


def test_the_grid_of_the_card_is_what_it_samples(pipeline):
    sheet, cell = np.asarray(Image.open(GENERATOR / "grid.jpg").convert("RGB")).astype(int), 128
    for label, seed in ((8, 0), (13, 3)):  # one of each half of the sheet
        left = (4 * cell + 24 if label >= 10 else 0) + seed * cell
        shown = sheet[label % 10 * cell :][:cell, left : left + cell]
        made = np.asarray(pipeline(label, STEPS, "autoguidance", scale(), seed=seed).images[0]).astype(int)
        assert np.abs(shown - made).mean() < 6  # JPEG


def test_one_picture_takes_less_than_thirty_gigaflop(pipeline):
    """A second or two of a laptop. Every step costs the same, and the decoder comes on top."""
    flops = []
    for steps in (1, 2):
        with FlopCounterMode(display=False) as counter:
            pipeline("golf ball", steps, "autoguidance", scale(), seed=0)
        flops.append(counter.get_total_flops())
    assert 0 < flops[0] + (STEPS - 1) * (flops[1] - flops[0]) < 30e9


def test_the_card_says_what_was_measured(report):
    card = (GENERATOR / "README.md").read_text()
    assert table(report) in card
    assert report["command"] in card
    assert "--condition class" in card
    assert "Loss on held-out photos by step: class " in card


def test_autoguidance_brings_samples_closer_to_the_photos(report):
    sets = {row["settings"]["guidance"]: row for row in report["sets"].values() if row.get("settings")}
    unguided, guided = sets["none"], sets["autoguidance"]
    assert unguided["pictures"] == guided["pictures"] == 2000
    for judge in report["judges"]:
        assert guided[judge]["frechet"] < unguided[judge]["frechet"]
        assert guided[judge]["asked"] > unguided[judge]["asked"]


def test_the_command_of_the_readme_works_offline(tmp_path):
    out = tmp_path / "ball.png"
    assert cli.main(["sample", "--class", "golf ball", "--seed", "0", "--out", str(out)]) == 0
    picture = Image.open(out)
    assert picture.size == (128, 128)
    assert np.asarray(picture).std() > 20  # neither empty nor one colour
