"""Training a denoiser: the loss against its formula, the classes of the data, resuming, and what a checkpoint holds."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from conftest import LABELS, SHAPE, build, network, photos, rows_of, save_noise, smoke
from dying import in_two_processes
from PIL import Image
from safetensors.torch import load_file

from drorae import AutoencoderDRoRAE, DRoRAEClassPipeline, LatentStatistics
from drorae.pipelines.base import SamplingError
from train import dit_probe, generate, stage2
from train.data.batches import Batch
from train.data.draws import normal_draws, uniform_draws
from train.data.sources import GeneratedPictures, class_names, load_photos
from train.errors import DataError, RunError
from train.presets import PRESETS
from train.tasks.conditions import ClassCondition
from train.tasks.generation import FlowMatching, logit_normal


def task(**changes) -> FlowMatching:
    statistics = LatentStatistics.of(SHAPE, torch.full(SHAPE, 0.8), torch.full(SHAPE, 0.1))
    settings = {"statistics": statistics, "validation": None, "autoencoder_name": "somewhere"}
    condition = ClassCondition(network(1), LABELS)
    return FlowMatching(build(), condition, PRESETS["smoke"].stage2["class"], **{**settings, **changes})


def test_the_loss_is_flow_matching_written_out():
    made = task()
    raw, labels = torch.randn(6, *SHAPE), torch.tensor([0, 1, 2, 0, 1, -1])
    positions = torch.arange(6) + 100
    loss, parts = made.loss(Batch(None, positions, [], labels, raw), 0)
    draws = uniform_draws(0, positions, 2, "flow")
    normal = torch.distributions.Normal(0.0, 1.0).icdf(draws[:, 0])
    t = 1 / (1 + torch.exp(-normal))
    shift = math.sqrt(48 * 16 / 4096)
    t = shift * t / (1 + (shift - 1) * t)
    clean = (raw - 0.1) / (0.8 + 1e-5)
    errors = []
    for i in range(6):
        e = normal_draws(0, positions[i : i + 1], SHAPE, torch.device("cpu"))[0]
        label = 3 if draws[i, 1] < 0.1 or labels[i] < 0 else int(labels[i])
        x = (1 - t[i]) * clean[i] + t[i] * e
        v = made.network(x[None], t[i : i + 1], torch.tensor([label])).sample[0]
        errors.append((v - (e - clean[i])).square().mean())
    torch.testing.assert_close(loss, torch.stack(errors).mean(), atol=1e-4, rtol=1e-4)
    assert torch.equal(parts["loss"], loss.detach())


def test_images_are_encoded_and_normalised():
    made, images = task(), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        tokens = made.model.fuse(made.model.encoder(images)).tokens
    expected = (tokens.transpose(1, 2).reshape(2, *SHAPE) - 0.1) / (0.8 + 1e-5)
    latents = made.latents(Batch(images, torch.arange(2), [], torch.tensor([0, 1])))
    torch.testing.assert_close(latents, expected)
    last = task(fused=False).latents(Batch(images, torch.arange(2), [], torch.tensor([0, 1])))
    assert not torch.allclose(last, latents, atol=1e-2)


def test_times_are_logit_normal():
    t = logit_normal(torch.linspace(0.0005, 0.9995, 1000))
    logits = torch.log(t / (1 - t))
    assert logits.mean().abs() < 1e-3
    assert logits.std() == pytest.approx(1, abs=0.01)
    assert logit_normal(torch.tensor([0.0, 1.0])).isfinite().all()


def test_labels_are_dropped_as_often_as_asked(monkeypatch):
    made, seen = task(), []
    monkeypatch.setattr(made, "velocity_error", lambda clean, t, noise, told: seen.append(told) or torch.zeros(1))
    for start in range(0, 2000, 100):
        made.loss(
            Batch(None, torch.arange(start, start + 100), [], torch.ones(100).long(), torch.zeros(100, *SHAPE)), 0
        )
    labels = torch.cat([told["class_labels"] for told in seen])
    assert (labels == 3).float().mean() == pytest.approx(0.1, abs=0.02)
    assert set(labels.tolist()) == {1, 3}


def test_class_names_come_from_the_data(tmp_path):
    photos(tmp_path / "p")
    folder = load_photos(str(tmp_path / "p"), "train")
    assert class_names([folder]) == ["cat", "dog"]
    assert class_names([GeneratedPictures(4, 0)]) == ["warm", "cold"]
    with pytest.raises(DataError, match="different classes"):
        class_names([folder, GeneratedPictures(4, 0)])


def test_labels_without_names_are_counted_or_refused():
    assert class_names([rows_of(label=[0, 3, 1])]) == ["0", "1", "2", "3"]
    assert class_names([rows_of(other=[0, 3, 1])]) == []
    for labels in (["cat", "dog"], [1, None], [-1, 2]):
        with pytest.raises(DataError, match="the labels in 'label' are not class numbers"):
            class_names([rows_of(label=labels)])
    stream = rows_of(cls=[0, 3]).to_iterable_dataset()
    with pytest.raises(DataError, match="a stream does not say how many classes it has; give --classes"):
        class_names([stream])
    assert class_names([stream], 4) == ["0", "1", "2", "3"]


def test_data_without_classes_is_refused_naming_its_columns(tmp_path):
    model = build()
    model.set_statistics(torch.ones(SHAPE))
    model.save_pretrained(tmp_path / "tokenizer")
    for number in range(2):
        save_noise(tmp_path / "mine" / "train" / f"{number}.jpg")
    arguments = [*smoke(tmp_path / "runs"), "--condition", "class", "--tokenizer", str(tmp_path / "tokenizer")]
    with pytest.raises(DataError, match=r"columns are \['image'\].*label, labels, fine_label, cls.*train/class"):
        stage2.main([*arguments, "--data", str(tmp_path / "mine")])


def test_labels_beyond_the_classes_are_no_label(monkeypatch):
    made, seen = task(), []
    monkeypatch.setattr(made, "velocity_error", lambda clean, t, noise, told: seen.append(told) or torch.zeros(1))
    made.loss(Batch(None, torch.arange(4), [], torch.tensor([3, 7, -2, 2]), torch.zeros(4, *SHAPE)), 0)
    assert seen[0]["class_labels"].tolist() == [3, 3, 3, 2]


def test_held_out_photos_of_other_classes_are_measured_without_labels(generators, tmp_path, capsys):
    out = tmp_path / "runs"
    (out / "smoke").mkdir(parents=True)
    (out / "smoke" / "finetune").symlink_to(generators / "smoke" / "finetune")
    photos(tmp_path / "mine")
    (tmp_path / "mine" / "train").rename(tmp_path / "mine" / "validation")
    stage2.main([*smoke(out), "--condition", "class", "--validation", str(tmp_path / "mine")])
    assert "have other classes; their loss is measured without labels" in capsys.readouterr().out


def test_a_run_can_go_on_from_a_finished_pipeline(generators, tmp_path):
    out, before = tmp_path / "runs", generators / "smoke" / "class" / "checkpoint"
    (out / "smoke").mkdir(parents=True)
    (out / "smoke" / "finetune").symlink_to(generators / "smoke" / "finetune")
    model = AutoencoderDRoRAE.from_pretrained(generators / "smoke" / "finetune" / "checkpoint")
    condition = ClassCondition(
        stage2.build_denoiser(model, PRESETS["smoke"].stage2["class"], num_classes=2), ["warm", "cold"]
    )
    stage2.start_from(str(before), condition, False, model)
    saved = load_file(before / "denoiser" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(value, saved[name]) for name, value in condition.denoiser.state_dict().items())
    stage2.main([*smoke(out), "--condition", "class", "--start", str(before)])
    record = json.loads((out / "smoke" / "class" / "run.json").read_text())
    assert record["command"].endswith(f"--start {before}")
    log = [json.loads(line) for line in (out / "smoke" / "class" / "log.jsonl").read_text().splitlines()]
    first = json.loads((generators / "smoke" / "class" / "log.jsonl").read_text().splitlines()[0])
    assert log[0]["validation_loss"] < first["validation_loss"]


def test_a_start_of_another_kind_is_refused_in_a_sentence(generators):
    model = AutoencoderDRoRAE.from_pretrained(generators / "smoke" / "finetune" / "checkpoint")
    before = str(generators / "smoke" / "class" / "checkpoint")
    row = PRESETS["smoke"].stage2["class"]
    same = stage2.build_denoiser(model, row, num_classes=2)
    with pytest.raises(RunError, match="its classes are not those of --data"):
        stage2.start_from(before, ClassCondition(same, ["cold", "warm"]), False, model)
    with pytest.raises(RunError, match="it has no guide"):
        stage2.start_from(before, ClassCondition(same, ["warm", "cold"]), True, model)
    deeper = stage2.build_denoiser(
        model, dataclasses.replace(row, denoiser={**row.denoiser, "depth": (3, 1)}), num_classes=2
    )
    with pytest.raises(RunError, match="another shape"):
        stage2.start_from(before, ClassCondition(deeper, ["warm", "cold"]), False, model)


def test_the_commands_leave_a_pipeline(generators):
    pipeline = DRoRAEClassPipeline.from_pretrained(generators / "smoke" / "class" / "checkpoint")
    assert pipeline.config.labels == ["warm", "cold"]
    assert pipeline.config.autoencoder_name == str(generators / "smoke" / "finetune" / "checkpoint")
    assert pipeline.denoiser.config.latent_fingerprint == pipeline.autoencoder.statistics.fingerprint()
    log = [json.loads(line) for line in (generators / "smoke" / "class" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log] == [3, 6]
    assert log[0]["validation_loss"] > log[1]["validation_loss"]
    assert list((generators / "smoke" / "class" / "log").rglob("events.out.tfevents.*"))  # with the sample grids
    assert (generators / "smoke" / "class-guide" / "checkpoint" / "denoiser").is_dir()


def test_resuming_gives_the_same_weights(generators, tmp_path, monkeypatch):
    out = tmp_path / "runs"
    (out / "smoke").mkdir(parents=True)
    (out / "smoke" / "finetune").symlink_to(generators / "smoke" / "finetune")
    calls, original = [], FlowMatching.loss

    def stops(self, batch, step):
        calls.append(step)
        if step == 4:
            raise KeyboardInterrupt
        return original(self, batch, step)

    monkeypatch.setattr(FlowMatching, "loss", stops)
    with pytest.raises(KeyboardInterrupt):
        stage2.main([*smoke(out), "--condition", "class"])
    monkeypatch.setattr(
        FlowMatching, "loss", lambda self, batch, step: calls.append(step) or original(self, batch, step)
    )
    stage2.main([*smoke(out), "--condition", "class"])
    assert calls == [0, 1, 2, 3, 4, 3, 4, 5]
    part = "class/checkpoint/denoiser/diffusion_pytorch_model.safetensors"
    first, second = load_file(generators / "smoke" / part), load_file(out / "smoke" / part)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_run_is_recorded_without_what_changes_by_itself(generators, tmp_path, monkeypatch):
    """diffusers keeps a set in its configurations, whose order differs between processes: runs would not continue."""
    out = tmp_path / "runs"
    (out / "smoke").mkdir(parents=True)
    (out / "smoke" / "finetune").symlink_to(generators / "smoke" / "finetune")
    seen = []
    monkeypatch.setattr(stage2, "train", lambda args, command, run, settings, *_: seen.append(settings))
    stage2.main([*smoke(out), "--condition", "class"])
    assert seen[0]["denoiser"]["hidden_size"] == (32, 64)
    assert not [key for key in seen[0]["denoiser"] if key.startswith("_")]
    recorded = json.loads((generators / "smoke" / "class" / "run.json").read_text())["settings"]["model"]
    assert recorded == json.loads(json.dumps(seen[0]))


def test_without_cache_the_pictures_are_encoded_in_training(generators, tmp_path):
    out = tmp_path / "runs"
    (out / "smoke").mkdir(parents=True)
    (out / "smoke" / "finetune").symlink_to(generators / "smoke" / "finetune")
    stage2.main([*smoke(out), "--condition", "class", "--no-cache"])
    assert not (out / "latents").exists()
    assert (out / "smoke" / "class" / "checkpoint" / "model_index.json").is_file()


def test_a_tokenizer_without_statistics_is_refused(generators, tmp_path):
    model = AutoencoderDRoRAE.from_pretrained(generators / "smoke" / "finetune" / "checkpoint")
    model.statistics = None
    model.register_to_config(latent_statistics=None)
    model.save_pretrained(tmp_path / "bare")
    with pytest.raises(RunError, match=r"has no latent statistics.*train\.latent_stats"):
        stage2.main([*smoke(tmp_path), "--condition", "class", "--tokenizer", str(tmp_path / "bare")])


def test_samples_are_balanced_resumed_and_packed(generators, tmp_path, capsys):
    out, checkpoint = tmp_path / "samples", str(generators / "smoke" / "class" / "checkpoint")
    options = ["--count", "6", "--steps", "2", "--out", str(out), "--batch-size", "4", "--npz"]
    guided = ["--guidance", "autoguidance", "--guide", str(generators / "smoke" / "class-guide" / "checkpoint")]
    generate.main([checkpoint, *options, *guided])
    files = sorted(out.glob("*.png"))
    assert len(files) == 6
    arrays = np.load(out / "samples.npz")
    assert arrays["arr_0"].shape == (6, 32, 32, 3)
    assert arrays["arr_1"].tolist() == [0, 1, 0, 1, 0, 1]
    assert np.array_equal(arrays["arr_0"][3], np.asarray(Image.open(files[3])))
    settings = json.loads(Image.open(files[3]).info["drorae"])
    assert settings["class"] == "cold"
    assert settings["seed"] == 3
    assert settings["guidance"] == "autoguidance"
    before = files[0].read_bytes()
    files[2].write_bytes(files[2].read_bytes()[:100])  # killed in the middle
    files[4].unlink()
    generate.main([checkpoint, *options, *guided])
    after = np.load(out / "samples.npz")["arr_0"]
    assert files[0].read_bytes() == before
    assert np.abs(after.astype(int) - arrays["arr_0"]).max() <= 1  # in another batch
    with pytest.raises(RunError, match="made with other settings"):
        generate.main([checkpoint, *options])
    with pytest.raises(RunError, match="made with other settings"):  # the same, but for the weights of the guide
        generate.main([checkpoint, *options, *guided[:2], "--guide", checkpoint])
    assert "6 pictures, 2 classes, 2 steps, autoguidance" in capsys.readouterr().out


def test_what_would_end_the_sampling_is_said_before_it_begins(generators, tmp_path):
    """A damaged record of an earlier sampling; seeds of which the last ones are too large."""
    checkpoint = str(generators / "smoke" / "class" / "checkpoint")
    options = [checkpoint, "--count", "6", "--steps", "2", "--out", str(tmp_path / "samples")]
    with pytest.raises(SamplingError, match="6 seeds from 4294967293 on go beyond 4294967295; start lower"):
        generate.main([*options, "--seed", str(2**32 - 3)])
    assert not (tmp_path / "samples").exists()
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "settings.json").write_text('{"half')
    with pytest.raises(RunError, match=r"settings\.json' cannot be read; remove '.*samples' and make"):
        generate.main(options)


def test_the_probe_compares_latents(generators, tmp_path, capsys):
    checkpoint = generators / "smoke" / "finetune" / "checkpoint"
    arguments = [*smoke(tmp_path), "--steps", "4"]
    dit_probe.main([str(checkpoint), *arguments])
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in lines if line.startswith("| `")}
    assert list(rows) == ["`last layer`", f"`{checkpoint}`"]
    assert all(len(cells) == 4 for cells in rows.values())
    for cells in rows.values():
        losses = [float(cell) for cell in cells]
        assert losses[-1] < losses[0] == pytest.approx(2, abs=0.3)  # 2 before it has learned, and less in the end
    assert rows["`last layer`"] != rows[f"`{checkpoint}`"]


def test_the_probe_trains_on_normalised_latents(generators, tmp_path, monkeypatch):
    seen, original = [], FlowMatching.latents
    monkeypatch.setattr(FlowMatching, "latents", lambda self, batch: seen.append(original(self, batch)) or seen[-1])
    arguments = [*smoke(tmp_path), "--steps", "20"]
    dit_probe.main([str(generators / "smoke" / "finetune" / "checkpoint"), *arguments])
    for latents in (torch.cat(seen[: len(seen) // 2]), torch.cat(seen[len(seen) // 2 :])):  # both routes
        assert latents.std().item() == pytest.approx(1, abs=0.03)
        assert latents.mean(dim=(0, 2, 3)).abs().max() < 0.3


def test_the_probe_normalises_every_latent_with_its_own_statistics():
    latents = np.random.default_rng(0).normal(3, 2, (50, 2, 2, 4, 4)).astype(np.float16)
    rows = np.arange(50)
    statistics = dit_probe.statistics_of(latents, rows)
    flat = latents.reshape(100, 2, 4, 4).astype(np.float64)
    np.testing.assert_allclose(statistics.mean, flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(statistics.std, flat.std(0), rtol=1e-5)


@pytest.mark.slow
def test_two_processes(generators, tmp_path):
    """With the environment torchrun makes. Both see their own share, and the cache is filled by both."""
    out = tmp_path / "runs"
    (out / "smoke").mkdir(parents=True)
    (out / "smoke" / "finetune").symlink_to(generators / "smoke" / "finetune")
    assert in_two_processes(stage2.main, [*smoke(out), "--condition", "class"]) == [0, 0]
    assert json.loads((out / "smoke" / "class" / "run.json").read_text())["devices"][0].startswith("2 x CPU")
    (cache,), (alone,) = ((place / "latents").iterdir() for place in (out, generators))
    np.testing.assert_allclose(np.load(cache / "latents.npy"), np.load(alone / "latents.npy"), atol=4e-3)
    assert np.array_equal(np.load(cache / "labels.npy"), np.load(alone / "labels.npy"))
    pipeline = DRoRAEClassPipeline.from_pretrained(out / "smoke" / "class" / "checkpoint")
    single = DRoRAEClassPipeline.from_pretrained(generators / "smoke" / "class" / "checkpoint")
    for name, value in single.denoiser.state_dict().items():
        torch.testing.assert_close(value, pipeline.denoiser.state_dict()[name], atol=2e-4, rtol=1e-2)
