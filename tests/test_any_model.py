"""Every place that takes a tokenizer takes every kind of it, by folder, by a path with an ``@``, or by id@revision."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import ROOT, network, smoke

import drorae.checkpoints
import drorae.cli
from drorae import AutoencoderDRoRAE, DRoRAEClassPipeline
from drorae.checkpoints import weights_hash
from drorae.pipelines import flow
from drorae.pretrained.adapter import load_tokenizer, save_fusion
from drorae.pretrained.rae_tokenizer import load_rae
from drorae.ui import app
from tests.hostile.samples import build_rae
from train import evaluate, stage2

CAT = str(ROOT / "assets" / "examples" / "cat.jpg")
KINDS = ("ours", "diffusers", "adapter")
SHAPE = (64, 4, 4)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory) -> Path:
    """One tokenizer of each kind, in folders below one with an ``@`` in its name."""
    root = tmp_path_factory.mktemp("models") / "mine@v2"
    torch.manual_seed(0)
    build_rae().save_pretrained(root / "diffusers")
    model = AutoencoderDRoRAE.from_rae(root / "diffusers", fusion="depth-routed", hidden_size=32)
    model.set_statistics(torch.rand(SHAPE) + 0.5)
    save_fusion(model, root / "adapter")
    model.save_pretrained(root / "ours")
    return root


@pytest.fixture(params=[*KINDS, "id@revision"])
def name(request, tokenizers, monkeypatch) -> str:
    """What a person types: a folder, or a Hub id at a revision, whose files are those of the kind ``ours``."""
    if request.param in KINDS:
        return str(tokenizers / request.param)

    def snapshot_download(repository, revision=None, **kwargs):
        assert (repository, revision) == ("someone/model", "v1")
        return str(tokenizers / "ours")

    monkeypatch.setattr(drorae.checkpoints.folders, "snapshot_download", snapshot_download)
    return "someone/model@v1"


def equal(a: AutoencoderDRoRAE, b: AutoencoderDRoRAE) -> bool:
    one, other = a.state_dict(), b.state_dict()
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


def test_the_command_line(name, tmp_path, capsys):
    assert drorae.cli.main(["reconstruct", CAT, "--model", name, "--out", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rae"]["psnr"] > 0


def test_the_app(name, monkeypatch):
    seen = []

    def build_demo(model, *args, **kwargs):
        seen.append(model)
        raise drorae.CheckpointError("seen")

    monkeypatch.setattr(app, "build_demo", build_demo)
    assert app.main(["--model", name]) == 2
    assert equal(seen[0], load_tokenizer(name))


def test_the_evaluation(name, tmp_path, capsys):
    file = tmp_path / "report.json"
    options = ["--data", "generated", "--limit", "2", "--metrics", "psnr", "--json", str(file)]
    evaluate.main([name, *options])
    report = json.loads(file.read_text())
    folder = drorae.checkpoints.resolve(name)
    assert report["sha256"] == weights_hash(folder)
    assert report["sha256"] is not None
    assert report["command"].startswith(f"python -m train.evaluate {name}")


def test_stage_2(name, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(stage2, "class_condition", lambda args, model, row: seen.append(model) or _stop())
    with pytest.raises(KeyboardInterrupt):
        stage2.main([*smoke(tmp_path), "--condition", "class", "--tokenizer", name])
    assert equal(seen[0], load_tokenizer(name))


def _stop():
    raise KeyboardInterrupt


def test_pipelines(name, tokenizers, tmp_path):
    denoiser = network(1, in_channels=64, hidden_size=(24, 64))
    parts = DRoRAEClassPipeline(None, denoiser, flow.build_scheduler(*SHAPE), None, None, name)
    parts.save_pretrained(tmp_path)
    assert equal(DRoRAEClassPipeline.from_pretrained(tmp_path).autoencoder, load_tokenizer(name))
    shutil.copytree(drorae.checkpoints.resolve(name), tmp_path / "autoencoder")
    assert equal(DRoRAEClassPipeline.from_pretrained(tmp_path).autoencoder, load_tokenizer(name))


def test_the_name_of_a_published_model_is_kept(tokenizers):
    model = load_rae(tokenizers / "diffusers")
    assert isinstance(model, AutoencoderDRoRAE)
    assert not model.training
    assert model.config.base_model == str(tokenizers / "diffusers")
    assert model.config.base_revision is None


def test_a_revision_is_measured_by_its_own_hash(generators, tmp_path, monkeypatch, capsys):
    """The weights of ``id@v1`` and those of ``main`` differ, and so do their hashes."""
    folders = {"v1": generators / "smoke" / "finetune" / "checkpoint", None: tmp_path / "main"}
    model = AutoencoderDRoRAE.from_pretrained(folders["v1"])
    model.decoder.decoder_pred.bias.data += 1
    model.save_pretrained(tmp_path / "main")
    monkeypatch.setattr(
        drorae.checkpoints.folders,
        "snapshot_download",
        lambda repository, revision=None, **kwargs: str(folders[revision]),
    )
    hashes = {}
    for name, revision in (("someone/model@v1", "v1"), ("someone/model", None)):
        report = evaluate.measure_checkpoint(name, "generated", 2, metrics=["psnr"])
        assert report["sha256"] == weights_hash(folders[revision])
        hashes[revision] = report["sha256"]
    assert hashes["v1"] != hashes[None]
