"""Forced choices among real icons, colours, and the evaluator behind them."""

import json

import numpy as np
import pytest
import torch
from conftest import PHOTOS
from torch.nn import functional as F

from drorae.images import load_image, square, to_tensor
from train import icon_evidence
from train.data.icons import TONES, is_held_out, parse_role
from train.data.sources import load_photos
from train.icon_evidence import (
    COLOUR_SEEDS,
    COLOURS,
    THINGS,
    Gallery,
    colour_choices,
    coloured_icons,
    forced_choices,
    held_out_prompts,
    icon_colour,
    load_gallery,
    nearest_colour,
    table,
    unit_features,
)
from train.measure.efficientnet import EfficientNetLite2

WEIGHTS = PHOTOS / "weights"
NOTO = PHOTOS / "emoji" / "noto.parquet"
needs_data = pytest.mark.skipif(not (WEIGHTS.is_dir() and NOTO.is_file()), reason="weights and icons are not here")


def gallery(captions: list[str], dim: int = 32) -> Gallery:
    """Icons whose features are independent directions."""
    pictures = torch.ones(len(captions), 3, 8, 8)
    features = F.normalize(torch.randn(len(captions), dim, generator=torch.Generator().manual_seed(0)), dim=-1)
    return Gallery("flat icon", captions, pictures, features, [parse_role(c) for c in captions])


CAST = [f"{who} {what}: {tone} skin tone" for who in ("man", "woman") for what in ("cook", "judge") for tone in TONES]


def test_each_choice_is_among_icons_that_differ_in_one_part():
    icons = gallery([*CAST, "red apple"])
    wanted = icons.roles[0]  # man, cook, light
    assert [icons.captions[i] for i in icons.candidates(wanted, "role")] == [CAST[0], "man judge: light skin tone"]
    assert [icons.captions[i] for i in icons.candidates(wanted, "gender")] == [CAST[0], "woman cook: light skin tone"]
    assert [icons.captions[i] for i in icons.candidates(wanted, "tone")] == CAST[:5]
    assert len(icons.candidates(wanted, None)) == len(CAST) + 1


def test_the_nearest_candidate_decides():
    icons = gallery(CAST)
    wanted = [0, 7, 13]
    right = forced_choices(icons.features[wanted], wanted, icons)
    assert {name: numbers["right"] for name, numbers in right.items()} == dict.fromkeys(
        ("role", "gender", "tone", "all"), 1.0
    )
    assert {name: numbers["chance"] for name, numbers in right.items()} == pytest.approx(
        {"role": 1 / 2, "gender": 1 / 2, "tone": 1 / 5, "all": 1 / 20}
    )
    # a picture of the same person with another tone: the role and the gender are right, the tone is not
    other_tone = forced_choices(icons.features[[1]], [0], icons)
    assert other_tone["tone"]["right"] == other_tone["all"]["right"] == 0
    blend = F.normalize(icons.features[[0]] + 0.9 * icons.features[[1]], dim=-1)
    assert forced_choices(blend, [0], icons)["tone"]["right"] == 1


def test_colours_are_judged_by_icons_of_other_things():
    picture = torch.ones(3, 8, 8)
    picture[:, 2:6, 2:6] = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    lab = icon_colour(picture)
    assert lab == pytest.approx([53.24, 80.09, 67.20], abs=0.1)  # sRGB red
    assert icon_colour(torch.ones(3, 8, 8)) == pytest.approx([100, 0, 0], abs=0.1)
    red, blue = np.array([53.0, 80, 67]), np.array([32.0, 79, -108])
    references = [("red", "circle", red), ("blue", "circle", blue), ("red", "heart", blue), ("blue", "heart", red)]
    assert nearest_colour(lab, "heart", references) == "red"  # by the circles alone
    assert nearest_colour(lab, "circle", references) == "blue"


def test_the_prompts_are_captions_that_were_held_out():
    captions = [f"{who} {what}: {tone} skin tone" for who in ("man", "woman") for what in "abcdefgh" for tone in TONES]
    icons = gallery([*captions, "red circle", "cat"])
    chosen = [icons.captions[i] for i in held_out_prompts(icons)]
    assert chosen
    assert all(is_held_out(caption) for caption in chosen)
    assert chosen == [caption for caption in captions if is_held_out(caption)]


# ---- with real icons and networks ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network() -> EfficientNetLite2:
    return EfficientNetLite2(WEIGHTS)


@pytest.mark.data
@needs_data
def test_the_network_knows_what_is_on_the_photos(network):
    """Two pictures of which everybody knows the class, ImageNet numbers 88 (macaw) and 281 to 285 (cats)."""
    macaw = to_tensor(square(load_image(PHOTOS / "kodak" / "kodim23.png"), 260))[None]
    cat = to_tensor(square(load_image("assets/examples/cat.jpg"), 260))[None]
    features, logits = network(torch.cat([macaw, cat]))
    assert features.shape == (2, 1280)
    assert logits[0].argmax() == 88
    assert logits[1].argmax() in range(281, 286)
    small = F.interpolate(macaw, (128, 128), mode="bicubic", antialias=True)
    assert network(small)[1].argmax() == 88


@pytest.mark.data
@needs_data
def test_without_its_weights_it_is_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="EfficientNet-Lite2 needs"):
        EfficientNetLite2(tmp_path)


@pytest.mark.slow  # features of 3,708 icons take minutes
@pytest.mark.data
@needs_data
def test_true_icons_are_recognised_and_others_are_not(network):
    icons = load_gallery(str(NOTO), network, 128)
    wanted = held_out_prompts(icons)
    assert len(wanted) > 200
    true = forced_choices(icons.features[wanted], wanted, icons)
    assert all(numbers["right"] == 1 for numbers in true.values())
    assert true["role"]["chance"] < 0.02
    assert true["tone"]["chance"] == pytest.approx(0.2, abs=0.01)
    rotated = forced_choices(icons.features[wanted].roll(1, 0), wanted, icons)
    assert rotated["all"]["right"] < 0.02
    assert rotated["role"]["right"] < 0.1
    colours = colour_choices(icons, lambda prompts, seeds: torch.ones(len(prompts), 3, 8, 8))
    assert colours["real"] > 0.9
    assert {thing for _, thing, _ in coloured_icons(icons)} >= set(THINGS)
    assert colours["drawn"] < 0.2  # white has none of the eight colours


@pytest.mark.data
@needs_data
def test_the_command_prints_all_kinds_of_pictures(text_pipeline, tmp_path, monkeypatch, capsys):
    """On a random generator and few icons: what it draws is as good as chance, a true icon is not."""
    keep_galleries_small(monkeypatch)
    text_pipeline.save_pretrained(tmp_path / "pipeline")
    out = tmp_path / "numbers.json"
    icon_evidence.main(
        [str(tmp_path / "pipeline"), "--data", str(NOTO), "--steps", "2", "--limit", "3", "--json", str(out)]
    )
    report = json.loads(out.read_text())
    numbers = report["styles"]["flat icon"]
    assert set(numbers["choices"]) == {"drawn", "copy of the nearest", "prompts rotated", "true icon"}
    assert numbers["choices"]["copy of the nearest"]["all"]["right"] == 0  # by definition
    assert "--limit 3" in report["command"]
    assert table(report) in capsys.readouterr().out
    assert len(COLOURS) * len(THINGS) * COLOUR_SEEDS == 120
    assert unit_features(torch.rand(1, 3, 32, 32), EfficientNetLite2(WEIGHTS)).norm().item() == pytest.approx(1)


def keep_galleries_small(monkeypatch) -> None:
    """Let the forced choices be among a few dozen icons, not all."""
    load = icon_evidence.load_gallery

    def small_gallery(file, network, size):
        rows = load_photos_of_roles(file)
        monkeypatch.setattr(icon_evidence, "load_photos", lambda *args: rows if args[1] == "train" else [])
        return load(file, network, size)

    monkeypatch.setattr(icon_evidence, "load_gallery", small_gallery)


def load_photos_of_roles(file: str) -> list[dict]:
    """A few dozen icons: two roles with all genders and tones, and the coloured ones."""
    rows = [row for split in ("train", "validation") for row in load_photos(file, split)]
    return [
        row
        for row in rows
        if ((role := parse_role(row["caption"])) and role.role in ("cook", "judge", "artist"))
        or icon_evidence.COLOURED.fullmatch(row["caption"])
    ]
