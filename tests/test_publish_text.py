"""Publishing a text-to-image generator: what is written, and that the card says what was measured."""

import json

import numpy as np
import pytest
import torch
from conftest import PHOTOS, SHAPE, build, network, smoke
from PIL import Image
from safetensors.torch import load_file
from test_icon_evidence import NOTO, keep_galleries_small
from torch import nn
from torch.nn import functional as F

from drorae import DRoRAETextPipeline
from drorae.checkpoints import CheckpointError
from drorae.explorer.chosen import weights_of
from drorae.explorer.sampling import usual_guidance
from drorae.pipelines import flow
from drorae.pipelines.text_encoding import encode, load_text_encoder
from train import icon_evidence, publish_text, stage2
from train.tasks.conditions import TextCondition
from train.text_evidence import table

WEIGHTS = PHOTOS / "weights"


class Coarse(nn.Module):
    """A judge that sees 4 x 4 colours; the real one is in test_icon_evidence.py."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return F.adaptive_avg_pool2d(images, 4).flatten(1), torch.zeros(len(images), 1000)


@pytest.mark.data
@pytest.mark.skipif(not (WEIGHTS.is_dir() and NOTO.is_file()), reason="weights and icons are not here")
def test_a_generator_is_stored_measured_and_described(generators, tmp_path, monkeypatch, capsys):
    """On a few dozen icons, with a denoiser that was trained on discs."""
    monkeypatch.setattr(publish_text, "STEPS", 2)
    monkeypatch.setattr(icon_evidence, "EfficientNetLite2", lambda weights: Coarse())
    keep_galleries_small(monkeypatch)
    if not (generators / "smoke" / "text" / "checkpoint").is_dir():
        stage2.main([*smoke(generators), "--condition", "text"])
    tokenizer, to = str(generators / "smoke" / "finetune" / "checkpoint"), tmp_path / "published"
    arguments = ["--preset", "smoke", "--out", str(generators), "--to", str(to), "--tokenizer", tokenizer]
    options = ["--data", str(NOTO), "--weights", str(WEIGHTS), "--limit", "4", "--seen", "Discs.", "--scale", "2.5"]
    publish_text.main([*arguments, *options])
    for part in ("denoiser/diffusion_pytorch_model", "text_encoder/model"):
        assert {value.dtype for value in load_file(to / f"{part}.safetensors").values()} == {torch.float16}
    pipeline = DRoRAETextPipeline.from_pretrained(to)
    assert pipeline.dtype == torch.float32
    assert pipeline.config.autoencoder_name == tokenizer
    assert usual_guidance(pipeline) == ("cfg", 2.5)
    assert Image.open(to / "grid.jpg").size == (8 * 32 + 3 * 4, 10 * 32)
    report = json.loads((to / "measured.json").read_text())
    card = (to / "README.md").read_text()
    assert report["weights"] == weights_of(pipeline)
    assert "; ".join(report["prompts"]) in card
    assert len(report["prompts"]) == 40
    assert set(report["icons"]["styles"]["flat icon"]["choices"]) >= {"drawn", "copy of the nearest", "true icon"}
    printed = capsys.readouterr().out
    for text in (table(report), icon_evidence.table(report["icons"])):
        assert text in card
        assert text in printed
    assert "nothing else. Discs. Fluent" in card
    assert f"python -m train.text_evidence {to} --data {NOTO} --limit 4" in card
    assert f"python -m train.icon_evidence {to} --steps 2 --scale 2.5 --limit 4 --data {NOTO}" in card
    assert "`python -m train.stage2 --preset smoke --condition text`" in card
    assert "<polyline" in (to / "curves.svg").read_text()


@pytest.mark.skipif(not (WEIGHTS / "minilm-l3").is_dir(), reason="the sentence encoder is not here")
def test_the_frozen_sentence_encoder_is_part_of_the_folder(tmp_path):
    """Saved as ``train.stage2`` saves it, the pipeline reads as the encoder did, and names no place on this disk."""
    tokenizer, encoder = load_text_encoder(WEIGHTS / "minilm-l3")
    denoiser = network(3, num_classes=None, text_dim=384)
    checkpoint = tmp_path / "smoke" / "text" / "checkpoint"
    condition = TextCondition(denoiser, tokenizer, encoder, 32, None, (), False)
    condition.export(flow.build_scheduler(*SHAPE), "assets/any", checkpoint)
    index = json.loads((checkpoint / "model_index.json").read_text())
    index["autoencoder_name"] = str(tmp_path / "tokenizer")
    (checkpoint / "model_index.json").write_text(json.dumps(index))
    build(finetuned_decoder=True).save_pretrained(tmp_path / "tokenizer")
    stored = publish_text.assemble(tmp_path / "smoke", "assets/any", 3.0)
    stored.text_encoder.half()
    stored.denoiser.register_to_config(_name_or_path="asset")
    stored.save_pretrained(tmp_path / "asset")
    publish_text.check_self_contained(tmp_path / "asset")
    own, read = load_text_encoder(
        tmp_path / "asset" / "text_encoder", tokenizer_folder=tmp_path / "asset" / "tokenizer"
    )
    prompts = ["3D icon of woman astronaut: dark skin tone", "grumpy motorbike"]
    ours, theirs = encode(own, read, prompts, 32), encode(tokenizer, encoder, prompts, 32)
    assert torch.equal(ours.mask, theirs.mask)
    torch.testing.assert_close(ours.tokens, theirs.tokens, atol=0.02, rtol=0)  # stored in half precision
    config = tmp_path / "asset" / "text_encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"_name_or_path": str(tmp_path)}))
    with pytest.raises(CheckpointError, match=r"names '.*' as _name_or_path, which exists on this machine only"):
        publish_text.check_self_contained(tmp_path / "asset")
    (tmp_path / "asset" / "text_encoder" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="is missing; train the run with a text encoder of its own"):
        publish_text.check_self_contained(tmp_path / "asset")


def test_the_grid_shows_guided_and_unguided_pictures_side_by_side(text_pipeline, monkeypatch):
    """On random weights, where guidance changes much; after six steps of training it hardly does."""
    monkeypatch.setattr(publish_text, "STEPS", 2)
    prompts = [f"icon {number}" for number in range(12)]
    sheet = publish_text.grid(text_pipeline, prompts)
    assert sheet.size == (8 * 32 + 3 * 4, 3 * 32)
    shown = {}
    for guidance, left in (("cfg", 2 * 68), ("none", 2 * 68 + 32)):
        shown[guidance] = np.asarray(sheet.crop((left, 32, left + 32, 64))).astype(int)
        expected = text_pipeline(prompts[6], 2, guidance, 6.0, seed=0).images[0]
        assert np.abs(shown[guidance] - np.asarray(expected)).max() <= 1
    assert np.abs(shown["cfg"] - shown["none"]).max() > 10


def test_an_unfinished_run_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="text/checkpoint' is not there; finish that run first"):
        publish_text.main(["--preset", "smoke", "--out", str(tmp_path), "--to", str(tmp_path / "x")])
