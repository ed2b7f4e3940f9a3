"""The shipped model: it is what its card and the README say."""

import json
import re

import pytest
import torch
from conftest import PHOTOS, ROOT
from PIL import Image
from safetensors import safe_open

import train.evaluate
from drorae.explorer.explore import explore
from drorae.images import load_image, square, to_tensor
from train.data.held_out import ValidationPhotos
from train.data.sources import load_photos
from train.evaluate import Measure, evaluate, table

MODEL = ROOT / "assets" / "drorae-tiny"
needs_photos = pytest.mark.skipif(not (PHOTOS / "photos20").is_dir(), reason="photos20 is not at ../shared/data")


def test_it_is_the_model_the_design_names(embedded):
    assert (embedded.image_size, embedded.grid_size) == (128, 16)
    assert (embedded.encoder.num_layers, embedded.encoder.dim) == (12, 192)
    assert embedded.config.fusion == "depth-routed"
    assert not embedded.training


def test_weights_are_half_precision_safetensors_and_assets_stay_small():
    with safe_open(MODEL / "diffusion_pytorch_model.safetensors", framework="pt") as file:
        names = [name for name in file.keys() if not name.startswith("statistics.")]  # noqa: SIM118
        assert {file.get_slice(name).get_dtype() for name in names} == {"F16"}
    sizes = [path.stat().st_size for path in (ROOT / "assets").rglob("*") if path.is_file()]
    assert sum(sizes) < 120 * 2**20
    assert max(sizes) < 48 * 2**20


def test_every_route_is_better_than_the_one_before_on_the_examples(embedded):
    """None of these pictures was trained on."""
    for path in sorted((ROOT / "assets" / "examples").glob("*.jpg")):
        metrics = explore(load_image(path), embedded, interventions=False).metrics
        assert metrics["rae"]["psnr"] < metrics["phase2"]["psnr"] < metrics["drorae"]["psnr"], path.name


def test_the_router_suppresses_as_well_as_adds(explored):
    assert (explored.weights > 0).mean() > 0.1
    assert (explored.weights < 0).mean() > 0.1


@torch.no_grad()
def test_fusion_is_a_bounded_correction_of_the_last_layer(embedded, cat):
    images = to_tensor(square(cat, 128))[None]
    routing = embedded.encode(images, return_routing=True)
    final, base = embedded.latent_to_tokens(routing.latent), routing.routing.base
    # z_final is (1 - beta) z_base + beta z_fuse, both of one length: the angle is at most asin(beta / (1 - beta))
    bound = (1 - (0.2 / 0.8) ** 2) ** 0.5
    assert torch.cosine_similarity(final, base, dim=-1).min() > bound - 1e-4


@pytest.mark.data
@needs_photos
def test_the_gains_hold_on_every_hundred_and_twentieth_validation_photo(embedded):
    photos = ValidationPhotos(load_photos(str(PHOTOS / "photos20"), "validation"), 128, limit=33)
    routes, _ = evaluate(embedded, photos, Measure(("psnr", "ssim"), PHOTOS / "weights"))
    stated = json.loads((MODEL / "measured.json").read_text())["routes"]
    for route in ("phase2", "drorae"):
        for metric, slack in (("psnr", 0.4), ("ssim", 0.03)):
            gain = routes[route][metric] - routes["rae"][metric]
            assert gain == pytest.approx(stated[route][metric] - stated["rae"][metric], abs=slack)
    assert routes["phase2"]["psnr"] - routes["rae"]["psnr"] >= 2.5
    assert routes["drorae"]["psnr"] - routes["rae"]["psnr"] >= 4
    assert routes["drorae"]["ssim"] - routes["rae"]["ssim"] >= 0.12


@pytest.mark.slow
@pytest.mark.data
@needs_photos
def test_the_card_states_what_its_command_prints(tmp_path, monkeypatch):
    stated = json.loads((MODEL / "measured.json").read_text())
    arguments = stated["command"].split()[3:]
    monkeypatch.chdir(ROOT)
    train.evaluate.main([*arguments, "--json", str(tmp_path / "now.json")])
    now = json.loads((tmp_path / "now.json").read_text())
    assert table(now) == table(stated)
    assert table(stated) in (MODEL / "README.md").read_text()


def test_the_readme_repeats_the_numbers_of_the_card():
    card = (MODEL / "README.md").read_text()
    readme = (ROOT / "README.md").read_text()
    block = re.search(r"<!-- results -->\n(.*?)\n<!-- /results -->", readme, re.S)[1].strip()
    assert len(block.splitlines()) > 4
    assert block in card
    photos = int(re.search(r"photos (\d+)", block)[1])
    assert f"on {photos:,} held-out photos" in readme
    assert json.loads((MODEL / "measured.json").read_text())["command"] in readme


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert Image.open("drorae.png").size == Image.open("rae.png").size == (128, 128)


def test_the_card_lists_the_four_runs_with_their_commands():
    card = (MODEL / "README.md").read_text()
    for command in ("train.encoder --preset tiny", *(f"--phase {p}" for p in ("decoder", "fusion", "finetune"))):
        assert command in card
    assert json.loads((MODEL / "config.json").read_text())["_class_name"] == "AutoencoderDRoRAE"
