"""What starting costs: nothing is loaded before it is used, and little comes on top of what has to be."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import ROOT

HEAVY = {"torch", "numpy", "PIL", "diffusers", "timm", "transformers", "gradio", "plotly", "safetensors", "tqdm"}


@pytest.mark.parametrize(
    "start",
    [
        "import drorae; dir(drorae)",
        "from drorae import bundled, choices, errors; bundled.bundled_path('drorae-tiny')",
        "import sys; from drorae.cli import main; sys.argv[1:] = ['--help']; main()",
        "import runpy, sys; sys.argv[1:] = ['--help']; runpy.run_module('drorae', run_name='__main__')",
        "from drorae.cli import main; main(['routing', 'x.png', '--out', '.'])",
        "from drorae.cli import main; main(['sample', '--guidance', 'nonsense'])",
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_used(start):
    script = f"import atexit, sys; atexit.register(lambda: print('\\n', *sys.modules)); {start}"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, encoding="utf-8")
    loaded = done.stdout.splitlines()[-1].split()
    assert "drorae" in loaded, done.stderr
    assert not HEAVY & set(loaded)


# The libraries, files and networks of the first routes, and nothing else.
BARE = """
import sys
import numpy as np
import torch
import torchmetrics.functional.image
from PIL import Image
from diffusers.models.modeling_utils import ModelMixin
from drorae.models.autoencoder import AutoencoderDRoRAE

folder, picture, out = sys.argv[1:]
model = ModelMixin.from_pretrained.__func__(AutoencoderDRoRAE, folder, torch_dtype=torch.float32)
model.eval()
image = Image.open(picture).convert("RGB").resize((model.image_size,) * 2)
x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
with torch.inference_mode():
    fused, last = model.encode(x).latent, model.encode(x, fusion=False).latent
    for name, latent, decoder in (("rae", last, "original"), ("phase2", fused, "original"), ("drorae", fused, None)):
        painted = (model.decode(latent, decoder).sample[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
        Image.fromarray(painted.numpy()).save(f"{out}/{name}.png")
"""


def seconds(*arguments: str) -> float:
    """Processor time of a Python process, which other work on the machine does not lengthen."""
    before = os.times()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not count the time of child processes")
def test_the_first_routes_take_little_more_than_their_networks(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    picture = str(ROOT / "assets" / "examples" / "cat.jpg")
    bare = ("-c", BARE, str(ROOT / "assets" / "drorae-tiny"), picture, str(tmp_path))
    command = ("-m", "drorae", "reconstruct", picture, "--out", str(tmp_path / "out"))
    pairs = [(seconds(*bare), seconds(*command)) for _ in range(2)]
    least_bare, least_command = (min(times) for times in zip(*pairs, strict=True))
    print(f"bare script {least_bare:.2f} s, command {least_command:.2f} s, ratio {least_command / least_bare:.3f}")
    assert (tmp_path / "drorae.png").exists()
    assert least_command <= 1.15 * least_bare
