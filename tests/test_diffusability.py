"""The command that measures any tokenizer's latents, and its probe."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from conftest import build
from PIL import Image

from drorae.pretrained.taef2 import AutoencoderTAEF2
from train import diffusability, evaluate
from train.data.held_out import load_held_out
from train.errors import DataError
from train.measure.intervals import Interval
from train.measure.latent_sources import DEFAULT_SIZE, FUSED, LAST, ONLY, encode_photos, load_sources
from train.measure.probe import LabelledLatents, probe_errors
from train.presets import PRESETS

PHOTOS = ["--validation", "generated", "--limit", "24"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("models") / "ours"
    build(finetuned_decoder=True).save_pretrained(folder)
    return str(folder)


def rows_of(text: str) -> dict[str, list[str]]:
    return {
        line.split("|")[1].strip(" `"): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in text.splitlines()
        if line.startswith("| `")
    }


# ---- latents of any tokenizer -------------------------------------------------------------------------------------


def test_routes_of_a_checkpoint_are_its_latents_before_normalisation(model, tmp_path):
    model.set_statistics(torch.full((48, 4, 4), 2.0))
    model.save_pretrained(tmp_path / "model")
    (source,) = load_sources([str(tmp_path / "model")], [1, 2])
    images = torch.rand(2, 3, 32, 32)
    found = source.encode(images)
    assert list(found) == [LAST, FUSED, "mean of 1", "mean of 2"]
    model.statistics = None
    with torch.no_grad():
        torch.testing.assert_close(found[FUSED], model.encode(images).latent)
        torch.testing.assert_close(found[LAST], model.encode(images, fusion=False).latent)
    torch.testing.assert_close(found["mean of 1"], found[LAST])
    assert not torch.allclose(found["mean of 2"], found[LAST], atol=1e-2)


def test_a_tokenizer_for_pixels_gives_what_its_encoder_does(small_folder):
    ours, other = load_sources(["taef2", small_folder])
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = AutoencoderTAEF2.from_pretrained().encode(images * 2 - 1).latents
    torch.testing.assert_close(ours.encode(images)[ONLY], expected)
    assert other.encode(images)[ONLY].shape == (2, 5, 32, 32)
    assert (ours.size, other.size) == (DEFAULT_SIZE, DEFAULT_SIZE)


def test_others_get_the_pictures_of_the_first_of_ours(checkpoint):
    assert [source.size for source in load_sources(["taef2", checkpoint])] == [32, 32]


def test_labels_are_those_of_the_photos_that_can_be_read(checkpoint):
    (source,) = load_sources([checkpoint])
    found = encode_photos(source, load_held_out("generated", "validation", 32, 6), batch_size=4)
    assert {name: tuple(each.latents.shape) for name, each in found.items()} == dict.fromkeys(
        (LAST, FUSED), (6, 48, 4, 4)
    )
    photos = load_held_out("generated", "validation", 32, 6)
    assert found[LAST].labels.tolist() == [photos.row(i)["label"] for i in range(6)]


def test_photos_without_classes_are_said(checkpoint, tmp_path):
    (tmp_path / "mine" / "validation").mkdir(parents=True)
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "mine" / "validation" / f"{number}.png")
    with pytest.raises(DataError, match="need the class of every photo"):
        diffusability.main([checkpoint, "--validation", str(tmp_path / "mine")])


# ---- the probe ----------------------------------------------------------------------------------------------------


def latents(count: int, seed: int, scale=1.0) -> LabelledLatents:
    """Noise around a mean of its class, scaled."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    noise = torch.randn(count, 4, 4, 4, generator=generator)
    return LabelledLatents(scale * (noise + 3 * labels.view(-1, 1, 1, 1)), labels)


def row(steps: int, seed: int = 0):
    return diffusability.probe_row("smoke", steps, seed)


def test_the_probe_starts_at_2_and_learns():
    """Normalised latents and noise have variance 1 each, and a fresh denoiser predicts nothing."""
    training, held_out = latents(64, 0), latents(200, 1)
    first = probe_errors(training, held_out, row(1))
    assert first.shape == (200,)
    assert first.mean().item() == pytest.approx(2, rel=0.05)
    later = probe_errors(training, held_out, row(40))
    assert later.mean() < 0.9 * first.mean()


def test_the_probe_does_not_see_the_scale_of_a_latent():
    one = probe_errors(latents(32, 0), latents(16, 1), row(5))
    other = probe_errors(latents(32, 0, 100), latents(16, 1, 100), row(5))
    torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def test_latents_that_are_one_value_are_easier_than_noise():
    """All positions and channels alike: one number a picture to be learned in the place of 64."""
    training, held_out = latents(64, 0), latents(64, 1)
    flat = [LabelledLatents(part.latents[:, :1, :1, :1].expand(-1, 4, 4, 4).clone(), part.labels) for part in
            (training, held_out)]  # fmt: skip
    easy, hard = probe_errors(*flat, row(40)).mean(), probe_errors(training, held_out, row(40)).mean()
    assert easy < hard - 0.1


def test_the_probe_is_the_same_again_and_another_with_another_seed():
    torch.manual_seed(1)
    one = probe_errors(latents(32, 0), latents(16, 1), row(4))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(one, probe_errors(latents(32, 0), latents(16, 1), row(4)))
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(one, probe_errors(latents(32, 0), latents(16, 1), row(4, seed=1)))


def test_the_probe_is_evaluated_by_its_average():
    """With a decay of 1 the average stays at the start, which predicts nothing."""
    moving = row(30)
    still = dataclasses.replace(moving, schedule=dataclasses.replace(moving.schedule, ema_decay=1.0))
    assert probe_errors(latents(32, 0), latents(200, 1), still).mean().item() == pytest.approx(2, rel=0.05)


def test_a_probe_of_latents_that_do_not_vary_is_refused():
    same = LabelledLatents(torch.ones(8, 4, 4, 4), torch.zeros(8, dtype=torch.long))
    with pytest.raises(DataError, match="equal latents somewhere"):
        probe_errors(same, same, row(1))
    wide = LabelledLatents(torch.randn(8, 4, 2, 4), torch.zeros(8, dtype=torch.long))
    with pytest.raises(DataError, match="square latents, not 2 x 4"):
        probe_errors(wide, wide, row(1))


# ---- the command --------------------------------------------------------------------------------------------------


def test_the_command_measures_every_route_and_repeats_itself(checkpoint, tmp_path, capsys):
    arguments = [checkpoint, *PHOTOS, "--mean-layers", "2", "--data", "generated", "--probe", "3", "--seeds", "2"]
    arguments += ["--preset", "smoke", "--training", "16"]
    texts = []
    for name in ("a.json", "b.json"):
        diffusability.main([*arguments, "--json", str(tmp_path / name)])
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    rows = rows_of(texts[0])
    assert list(rows) == [f"{checkpoint}, {route}" for route in (LAST, FUSED, "mean of 2")]
    assert "Latent 4 x 4 x 48 of 32 px" in texts[0]
    assert "not compared" not in texts[0]
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["command"].startswith(
        f"python -m train.diffusability {checkpoint} --mean-layers 2 --limit 24 --probe 3"
    )
    assert report["photos"] == 24
    numbers = report["latents"][f"{checkpoint}, {FUSED}"]
    assert numbers["viv"]["low"] < numbers["viv"]["value"] < numbers["viv"]["high"]
    assert numbers["probe"]["low"] < numbers["probe"]["value"]
    assert rows[f"{checkpoint}, {FUSED}"][0].startswith(f"{numbers['viv']['value']:.4g} [")


def test_numbers_are_those_that_the_evaluation_finds(checkpoint, tmp_path):
    diffusability.main([checkpoint, *PHOTOS, "--json", str(tmp_path / "numbers.json")])
    found = json.loads((tmp_path / "numbers.json").read_text())["latents"]
    latent = evaluate.measure_checkpoint(checkpoint, "generated", 24, metrics=["psnr"])["latent"]
    for route, side in ((LAST, "base"), (FUSED, "final")):
        for name in ("effective_rank", "high_frequency", "same_class"):
            value = found[f"{checkpoint}, {route}"][name]["value"]
            assert value == pytest.approx(latent[f"{name}_{side}"], rel=1e-4), (route, name)


def test_latents_of_other_sizes_stand_in_tables_of_their_own(checkpoint, capsys):
    diffusability.main([checkpoint, "taef2", *PHOTOS])
    text = capsys.readouterr().out
    assert "Latents of different sizes are not compared" in text
    assert text.index("Latent 4 x 4 x 48 of 32 px") < text.index("Latent 4 x 4 x 32 of 32 px")
    assert list(rows_of(text))[-1] == "taef2"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mean-layers", "4"], "--mean-layers 4: '.*' has 3 layers; use 3 at most"),
        (["--size", "48"], "--size 48: '.*': this model works at 32 pixels only"),
        (["--limit", "6"], "'.*': VIV needs classes of 5 pictures or more .* and the largest has 3"),
    ],
)
def test_what_cannot_be_measured_is_said(checkpoint, arguments, said):
    with pytest.raises(DataError, match=said):
        diffusability.main([checkpoint, "--validation", "generated", *arguments])


def test_cells_have_their_intervals():
    assert diffusability.cell(None) == "–"
    assert diffusability.cell(Interval(0.5)) == "0.5"
    assert diffusability.cell(Interval(0.51234, 0.5, 0.525)) == "0.5123 [0.5, 0.525]"


def test_presets_that_have_a_guide_have_a_probe():
    assert set(diffusability.PROBES) >= {"tiny", "study", "smoke", "study-smoke", "dinov2-b"}
    assert PRESETS["study"].stage2["class-guide"].schedule.steps == 600
