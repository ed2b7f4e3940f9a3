"""The shipped text-to-image generator: its card, its grid, whether it listens, and that the command samples it."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from conftest import PHOTOS, ROOT
from PIL import Image

from drorae import DRoRAETextPipeline, cli
from drorae.ui.generate import PROMPTS as EXAMPLES
from train.publish_text import COLUMNS, STEPS
from train.text_evidence import evidence, table

GENERATOR = ROOT / "assets" / "drorae-tiny-text"
CELL = 128


@pytest.fixture(scope="module")
def pipeline(embedded) -> DRoRAETextPipeline:
    made = DRoRAETextPipeline.from_pretrained("assets/drorae-tiny-text", autoencoder=embedded)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def card() -> str:
    return (GENERATOR / "README.md").read_text()


@pytest.fixture(scope="module")
def report() -> dict:
    return json.loads((GENERATOR / "measured.json").read_text())


@pytest.fixture(scope="module")
def prompts(card) -> list[str]:
    return re.search(r"In reading order: (.*)\.$", card, re.M)[1].split("; ")


def test_it_belongs_to_the_embedded_tokenizer(pipeline, embedded):
    assert pipeline.denoiser.config.latent_fingerprint == embedded.statistics.fingerprint()


def test_the_vocabulary_has_the_words_of_its_examples(pipeline):
    """Whole words, which were frequent in the captions; others would be spelt in pieces it has hardly seen."""
    words = {word for prompt in EXAMPLES for word in prompt.split()}
    pieces = {word: len(pipeline.tokenizer.tokenize(f" {word}")) for word in words}
    assert set(pieces.values()) == {1}, pieces


def test_the_grid_of_the_card_is_what_it_samples(pipeline, card, prompts):
    sheet = np.asarray(Image.open(GENERATOR / "grid.jpg").convert("RGB")).astype(int)
    scale = float(re.search(r"classifier-free guidance of scale ([\d.]+)", card)[1])
    for number, guidance in ((0, "cfg"), (31, "none")):
        row, column = divmod(number, COLUMNS // 2)
        left = column * (2 * CELL + CELL // 8) + CELL * (guidance == "none")
        shown = sheet[row * CELL : (row + 1) * CELL, left : left + CELL]
        made = np.asarray(pipeline(prompts[number], STEPS, guidance, scale, seed=0).images[0]).astype(int)
        assert np.abs(shown - made).mean() < 6  # JPEG


def test_the_card_says_what_was_measured(card, report):
    assert table(report) in card
    assert report["command"] in card
    assert "--condition text" in card


def test_forty_prompts_are_shown(prompts):
    assert len(set(prompts)) == 40


def test_the_right_caption_helps_by_far_more_than_chance(report):
    assert report["data"].startswith("captions8k validation, 1000 photos")
    for wrong in ("shuffled", "none"):
        assert report["all"][wrong]["ratio"] >= 5


@pytest.mark.data
@pytest.mark.skipif(not (PHOTOS / "captions8k").is_dir(), reason="captions8k is not at ../shared/data")
def test_and_does_so_here_on_twenty_photos(pipeline, report):
    here = evidence(pipeline, [str(PHOTOS / "captions8k")], 20)["all"]
    for wrong in ("shuffled", "none"):
        stated, now = report["all"][wrong], here[wrong]
        assert now["ratio"] > 2
        assert abs(now["difference"] - stated["difference"]) < 4 * now["standard_error"]


def test_the_command_of_the_readme_works_offline(tmp_path):
    out = tmp_path / "dogs.png"
    assert cli.main(["sample", "--prompt", "two dogs run on grass", "--seed", "0", "--out", str(out)]) == 0
    picture = Image.open(out)
    assert picture.size == (CELL, CELL)
    assert np.asarray(picture).std() > 20  # neither empty nor one colour
