"""Training on captions: where they come from, that training and sampling see the same text, frozen encoders."""

import dataclasses
import json
import shutil

import pytest
import torch
from accelerate import Accelerator
from conftest import SHAPE, build, photos, rows_of, smoke

from drorae import DRoRAETextPipeline
from drorae.pipelines.text_encoding import encode
from train import stage2
from train.data.captions import all_captions
from train.data.latent_cache import LatentPositions, load_cache
from train.data.sources import load_photos
from train.data.text_cache import load_features
from train.errors import DataError
from train.presets import PRESETS
from train.settings import TextPreset
from train.tasks.conditions import TextCondition
from train.tasks.text_encoder import build_encoder


@pytest.fixture(scope="module")
def text_run(generators):
    """The smoke preset's text denoiser, trained by its command."""
    stage2.main([*smoke(generators), "--condition", "text"])
    return generators / "smoke" / "text" / "checkpoint"


def test_the_text_command_leaves_a_pipeline(text_run):
    pipeline = DRoRAETextPipeline.from_pretrained(text_run)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.config.max_tokens == 16
    images = pipeline(["a warm disc", "a cold disc"], 2, seed=0, output_type="pt").images
    assert images.shape == (2, 3, 32, 32)
    log = [json.loads(line) for line in (text_run.parent / "log.jsonl").read_text().splitlines()]
    assert log[0]["validation_loss"] > log[1]["validation_loss"]


def test_the_text_encoder_is_trained_along(text_run, generators):
    pipeline = DRoRAETextPipeline.from_pretrained(text_run)
    fresh = build_encoder(len(pipeline.tokenizer), 32, 1, 16, seed=0)
    changed = [n for n, p in pipeline.text_encoder.named_parameters() if not torch.equal(p, fresh.state_dict()[n])]
    assert "layers.0.mlp.up_proj.weight" in changed
    assert "embed_tokens.weight" in changed


def test_captions_come_from_the_data(tmp_path):
    assert all_captions([rows_of(captions=[["a", " b "], []]), rows_of(text=["c", None])]) == [
        ["a", "b"],
        [],
        ["c"],
        [],
    ]
    photos(tmp_path / "p")
    folder = load_photos(str(tmp_path / "p"), "train")
    assert all_captions([folder])[0] == ["a photo of a cat", "a picture of a cat", "a cat", "this is a cat"]
    with pytest.raises(DataError, match="captions are looked for in captions, caption, text, txt"):
        all_captions([rows_of(other=[1, 2])])


def test_one_caption_is_drawn_per_step(tmp_path):
    source = photos(tmp_path / "p")
    source.captions = [[f"{i}-{j}" for j in range(4)] for i in range(7)]
    positions = LatentPositions(
        *load_cache(build(), source, tmp_path / "c", Accelerator()), [], seed=0, captions=source.captions
    )
    seen = positions.collate(range(70)).captions
    rows = [positions.whole[positions.index(p)] for p in range(70)]
    assert all(text.startswith(f"{row}-") for text, row in zip(seen, rows, strict=True))
    assert len(set(seen)) > 20  # of 28
    assert [source[p][4] for p in range(70)] == seen  # the same without a cache


def text_condition(text_pipeline, **changes) -> TextCondition:
    parts = (text_pipeline.denoiser, text_pipeline.tokenizer, text_pipeline.text_encoder)
    return TextCondition(*parts, **{"max_tokens": 8, "text_encoder_name": None, "examples": ["a red ball"], **changes})


@torch.no_grad()
@pytest.mark.parametrize("name", [None, "somewhere"])
def test_training_and_sampling_see_the_same_text(text_pipeline, name):
    """The network of the task, trained along with its encoder or not, is the pipeline's denoiser on the prompt."""
    condition = text_condition(text_pipeline, text_encoder_name=name)
    x, t = torch.randn(2, *SHAPE), torch.tensor([0.3, 0.8])
    told = condition.of(["a red ball", "grass"], torch.tensor([True, False]))
    got = condition.network(x, t, **told, return_dict=False)[0]
    for i, prompt in enumerate(("a red ball", "")):
        features = text_pipeline.encode_prompts([prompt])
        expected = text_pipeline.denoiser(x[i : i + 1], t[i : i + 1], **features).sample[0]
        torch.testing.assert_close(got[i], expected, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_features_of_a_frozen_encoder_are_kept(text_pipeline, tmp_path):
    texts = ["a red ball", "grass", "two dogs run on the grass", "grass", ""]
    arguments = (text_pipeline.tokenizer, text_pipeline.text_encoder, 8, texts, tmp_path, Accelerator())
    features = load_features(*arguments)
    for group in (["grass"], ["two dogs run on the grass", "a red ball"]):
        tokens, mask = features.get(group)
        expected = encode(text_pipeline.tokenizer, text_pipeline.text_encoder, group, 8)
        assert torch.equal(mask, expected.mask)
        torch.testing.assert_close(tokens[mask], expected.tokens[mask], atol=4e-3, rtol=2e-3)
    kept = text_condition(text_pipeline, text_encoder_name="somewhere")
    told = kept.of(["a red ball", "grass"], torch.tensor([True, False]))
    kept.features = features
    from_disk = kept.of(["a red ball", "grass"], torch.tensor([True, False]))
    x, t = torch.randn(2, *SHAPE), torch.tensor([0.3, 0.8])
    velocities = [kept.network(x, t, **arguments, return_dict=False)[0] for arguments in (told, from_disk)]
    torch.testing.assert_close(*velocities, atol=2e-2, rtol=1e-2)
    assert kept.of(["a text that is not there"], torch.tensor([True]))["encoder_hidden_states"].shape[0] == 1
    calls = []
    handle = text_pipeline.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    load_features(*arguments)
    handle.remove()
    assert not calls


@pytest.mark.parametrize("published", [False, True])
def test_a_frozen_text_encoder_by_name(generators, text_pipeline, tmp_path, monkeypatch, published):
    """The whole command. A folder of this machine is saved with the pipeline; a published encoder is named."""
    text_pipeline.text_encoder.save_pretrained(tmp_path / "encoder")
    text_pipeline.tokenizer.save_pretrained(tmp_path / "encoder")
    row = PRESETS["smoke"].stage2["text"]
    name = "somebody/encoder" if published else "encoder"
    frozen = dataclasses.replace(row, text=TextPreset(8, name, examples=("a warm disc",)))
    if published:  # there is no hub here
        load = stage2.load_text_encoder
        monkeypatch.setattr(stage2, "load_text_encoder", lambda asked: load(tmp_path / asked.split("/")[1]))
    monkeypatch.setitem(PRESETS["smoke"].stage2, "text", frozen)
    out = tmp_path / "runs"
    (out / "smoke").mkdir(parents=True)
    (out / "smoke" / "finetune").symlink_to(generators / "smoke" / "finetune")
    stage2.main([*smoke(out), "--condition", "text", "--weights", str(tmp_path)])
    assert len(list((out / "latents").glob("text-*/done"))) == 1
    folder = out / "smoke" / "text" / "checkpoint"
    assert (folder / "text_encoder").exists() != published
    if published:
        assert json.loads((folder / "model_index.json").read_text())["text_encoder_name"] == name
        return
    shutil.rmtree(tmp_path / "encoder")  # nothing outside the folder is needed
    pipeline = DRoRAETextPipeline.from_pretrained(folder)
    assert pipeline.config.text_encoder_name is None
    weight = text_pipeline.text_encoder.state_dict()["layers.0.mlp.up_proj.weight"]
    assert torch.equal(pipeline.text_encoder.state_dict()["layers.0.mlp.up_proj.weight"], weight)
