"""Training a denoiser: the loss against its formula, the cache of latents, resuming, and what a checkpoint holds."""

import dataclasses
import json
import math
import os
import pickle
import subprocess
import sys

import datasets
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import LABELS, ROOT, SHAPE, build, network, smoke
from PIL import Image
from safetensors.torch import load_file

from drorae import AutoencoderDRoRAE, DRoRAEClassPipeline, DRoRAETextPipeline, LatentStatistics
from drorae.images import square, to_tensor
from drorae.text import encode
from train import dit_probe, generate, stage2
from train.captions import all_captions
from train.conditions import ClassCondition, TextCondition
from train.data import Batch, Crop, TrainingPositions, normal_draws, uniform_draws
from train.generation import Generation, logit_normal
from train.latent_cache import DAMAGED_LABEL, LatentPositions, cache_key, encode_raw, load_cache, tokenizer_hash
from train.presets import PRESETS, TextPreset
from train.run import RunError
from train.sources import DataError, GeneratedPictures, class_names, load_photos
from train.text_cache import load_features
from train.text_encoder import build_encoder

WHOLE = Crop(None, (1.0, 1.0), True, centre=True)


def task(**changes) -> Generation:
    statistics = LatentStatistics.of(SHAPE, torch.full(SHAPE, 0.8), torch.full(SHAPE, 0.1))
    settings = {"statistics": statistics, "validation": None, "autoencoder_name": "somewhere"}
    condition = ClassCondition(network(1), LABELS)
    return Generation(build(), condition, PRESETS["smoke"].stage2["class"], **{**settings, **changes})


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


# ---- the cache ------------------------------------------------------------------------------------------------------


def photos(folder, count=7, damaged=(), seed=0) -> TrainingPositions:
    rng = np.random.default_rng(seed)
    for i in range(count):
        place = folder / "train" / ("cat", "dog")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(place / f"{i}.png")
        if i in damaged:
            (place / f"{i}.png").write_bytes(b"not a picture")
    return TrainingPositions([load_photos(str(folder), "train")], 32, WHOLE, seed=0)


def test_cached_latents_are_those_of_the_pictures(tmp_path):
    model, source = build(), photos(tmp_path / "p")
    latents, labels, damaged = load_cache(model, source, tmp_path / "cache", Accelerator(), batch_size=3)
    assert latents.shape == (7, 2, *SHAPE)
    assert latents.dtype == np.float16
    assert sorted(labels.tolist()) == [0, 0, 0, 0, 1, 1, 1]
    assert damaged == []
    for i in (0, 6):
        row = source.row(i)
        picture = to_tensor(square(Image.open(row["image"]["path"]), 32))[None]
        for view, image in enumerate((picture, picture.flip(-1))):
            torch.testing.assert_close(
                torch.tensor(latents[i, view]).float(), encode_raw(model, image)[0], atol=4e-3, rtol=2e-3
            )
        assert labels[i] == row["label"]
    positions = LatentPositions(latents, labels, [], source.sources, flip=True, seed=0)
    schedule = PRESETS["smoke"].stage2["class"].schedule
    batches = list(positions.batches(schedule, 0, 0, 1))
    assert len(batches) == 6
    assert batches[0].images is None
    again = next(iter(positions.batches(schedule, 3, 0, 1)))
    assert torch.equal(again.latents, batches[3].latents)
    assert torch.equal(again.labels, batches[3].labels)
    plain = LatentPositions(latents, labels, [], source.sources, flip=False, seed=0)
    index = [positions.whole[positions.index(p)] for p in range(4)]
    assert np.array_equal(next(iter(plain.batches(schedule, 0, 0, 1))).latents, latents[index, 0])


def test_with_and_without_cache_the_same_views_are_seen(tmp_path):
    model, source = build(), photos(tmp_path / "p")
    positions = LatentPositions(
        *load_cache(model, source, tmp_path / "cache", Accelerator()), source.sources, flip=True, seed=0
    )
    schedule = PRESETS["smoke"].stage2["class"].schedule
    pairs = zip(positions.batches(schedule, 0, 0, 1), source.batches(schedule, 0, 0, 1), strict=True)
    for cached, plain in pairs:
        torch.testing.assert_close(cached.latents.float(), encode_raw(model, plain.images), atol=4e-3, rtol=2e-3)
        assert torch.equal(cached.labels, plain.labels)
        assert torch.equal(cached.positions, plain.positions)


def test_damaged_pictures_are_left_out_and_named(tmp_path):
    source = photos(tmp_path / "p", damaged=(2, 5))
    latents, labels, damaged = load_cache(build(), source, tmp_path / "cache", Accelerator())
    assert (labels == DAMAGED_LABEL).sum() == 2
    assert len(damaged) == 2
    assert all("2.png" in note or "5.png" in note for note in damaged)
    positions = LatentPositions(latents, labels, damaged, source.sources, True, 0)
    assert positions.count == 5
    assert set(labels[[positions.whole[positions.index(p)] for p in range(50)]]) == {0, 1}
    assert positions.collate([0, 1]).damaged == damaged
    with pytest.raises(DataError, match="no picture of the training split can be read"):
        LatentPositions(latents, np.full(7, DAMAGED_LABEL), damaged, source.sources, True, 0)


def test_workers_are_told_where_the_latents_are(tmp_path):
    source = photos(tmp_path / "p")
    positions = LatentPositions(*load_cache(build(), source, tmp_path / "c", Accelerator()), [], flip=True, seed=0)
    message = pickle.dumps(positions)
    assert len(message) < positions.latents.nbytes / 10
    assert torch.equal(pickle.loads(message).collate([3, 4]).latents, positions.collate([3, 4]).latents)


@pytest.mark.parametrize("harm", [None, "progress", "record"])
def test_a_stopped_cache_goes_on(tmp_path, harm):
    model, source = build(), photos(tmp_path / "p", count=60)
    reading, original = [], source.row
    source.row = lambda index: reading.append(index) or (original(index) if len(reading) < 40 else stop())
    folder = tmp_path / "cache"

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_cache(model, source, folder, Accelerator(), batch_size=2)
    done = int((folder / "done-0-of-1").read_text())
    assert 0 < done < 60
    if harm is not None:  # as a kill in the middle of writing without the rename would leave it
        file = folder / ("done-0-of-1" if harm == "progress" else "cache.json")
        file.write_text("" if harm == "progress" else file.read_text()[:10])
    again: list[int] = []
    source.row = lambda index: again.append(index) or original(index)
    latents, labels, _ = load_cache(model, source, folder, Accelerator(), batch_size=2)
    assert sorted(again) == list(range(0 if harm else done, 60))  # two threads read them
    source.row = original
    whole, names, _ = load_cache(model, source, tmp_path / "other", Accelerator(), batch_size=2)
    assert np.array_equal(latents, whole)
    assert np.array_equal(labels, names)


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RunError, match="No space left on device"):
        load_cache(build(), photos(tmp_path / "p"), tmp_path / "cache", Accelerator())


def test_whatever_makes_another_latent_has_another_hash():
    plain = build()
    assert tokenizer_hash(build().half()) == tokenizer_hash(plain)
    painted = build()
    painted.decoder.decoder_pred.weight.data += 1
    painted.register_to_config(finetuned_decoder=True)
    assert tokenizer_hash(painted) == tokenizer_hash(plain)
    others = [
        build(fusion=None),
        build(fusion="mean", fusion_mean_layers=2),
        build(fusion="mean", fusion_mean_layers=3),
        build(fusion="depth-routed-softmax"),
        build(fusion_beta=0.9),
        build(encoder_mean=(0.5, 0.5, 0.5)),
    ]
    changed = build()
    changed.fusion_module.router.weight.data[0, 0] += 1
    hashes = [tokenizer_hash(model) for model in (plain, *others, changed)]
    assert len(set(hashes)) == len(hashes)


def test_other_pictures_precision_or_route_are_another_cache(tmp_path):
    model, source = build(), photos(tmp_path / "a" / "p")
    keys = {cache_key(model, source, "no", True), cache_key(model, source, "bf16", True)}
    keys |= {cache_key(model, source, "no", False)}
    keys.add(cache_key(model, photos(tmp_path / "b" / "p", seed=1), "no", True))
    assert len(keys) == 4
    load_cache(model, source, tmp_path / "cache", Accelerator())
    with pytest.raises(RunError, match="latents of another tokenizer or other data"):
        load_cache(build(fusion_beta=0.9), source, tmp_path / "cache", Accelerator())


def test_class_names_come_from_the_data(tmp_path):
    photos(tmp_path / "p")
    folder = load_photos(str(tmp_path / "p"), "train")
    assert class_names([folder]) == ["cat", "dog"]
    assert class_names([GeneratedPictures(4, 0)]) == ["warm", "cold"]
    with pytest.raises(DataError, match="different classes"):
        class_names([folder, GeneratedPictures(4, 0)])


def rows_of(**columns):
    picture = {"bytes": b"", "path": None}
    count = len(next(iter(columns.values())))
    return datasets.Dataset.from_dict({"image": [picture] * count, **columns})


def test_labels_without_names_are_counted_or_refused():
    assert class_names([rows_of(label=[0, 3, 1])]) == ["0", "1", "2", "3"]
    assert class_names([rows_of(other=[0, 3, 1])]) == ["anything"]
    for labels in (["cat", "dog"], [1, None], [-1, 2]):
        with pytest.raises(DataError, match="the labels in 'label' are no class numbers"):
            class_names([rows_of(label=labels)])
    stream = rows_of(cls=[0, 3]).to_iterable_dataset()
    with pytest.raises(DataError, match="a stream does not say how many classes it has; give --classes"):
        class_names([stream])
    assert class_names([stream], 4) == ["0", "1", "2", "3"]


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


# ---- the commands ---------------------------------------------------------------------------------------------------


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
    calls, original = [], Generation.loss

    def stops(self, batch, step):
        calls.append(step)
        if step == 4:
            raise KeyboardInterrupt
        return original(self, batch, step)

    monkeypatch.setattr(Generation, "loss", stops)
    with pytest.raises(KeyboardInterrupt):
        stage2.main([*smoke(out), "--condition", "class"])
    monkeypatch.setattr(Generation, "loss", lambda self, batch, step: calls.append(step) or original(self, batch, step))
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
        assert losses == sorted(losses, reverse=True)  # 2 before it has learned, and less with every step
        assert losses[0] > losses[-1]
    assert rows["`last layer`"] != rows[f"`{checkpoint}`"]


def test_the_probe_normalises_every_latent_with_its_own_statistics():
    latents = np.random.default_rng(0).normal(3, 2, (50, 2, 2, 4, 4)).astype(np.float16)
    rows = np.arange(50)
    statistics = dit_probe.statistics_of(latents, rows)
    flat = latents.reshape(100, 2, 4, 4).astype(np.float64)
    np.testing.assert_allclose(statistics.mean, flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(statistics.std, flat.std(0), rtol=1e-5)


def test_two_processes(generators, tmp_path):
    """As the README says: torchrun on a CPU. Both see their own share, and the cache is filled by both."""
    out = tmp_path / "runs"
    (out / "smoke").mkdir(parents=True)
    (out / "smoke" / "finetune").symlink_to(generators / "smoke" / "finetune")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29511"]
    command += ["-m", "train.stage2", *smoke(out), "--condition", "class"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    (cache,), (alone,) = ((place / "latents").iterdir() for place in (out, generators))
    np.testing.assert_allclose(np.load(cache / "latents.npy"), np.load(alone / "latents.npy"), atol=4e-3)
    assert np.array_equal(np.load(cache / "labels.npy"), np.load(alone / "labels.npy"))
    pipeline = DRoRAEClassPipeline.from_pretrained(out / "smoke" / "class" / "checkpoint")
    single = DRoRAEClassPipeline.from_pretrained(generators / "smoke" / "class" / "checkpoint")
    for name, value in single.denoiser.state_dict().items():
        torch.testing.assert_close(value, pipeline.denoiser.state_dict()[name], atol=2e-4, rtol=1e-2)


# ---- text -----------------------------------------------------------------------------------------------------------


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
        *load_cache(build(), source, tmp_path / "c", Accelerator()), [], flip=True, seed=0, captions=source.captions
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


def test_a_frozen_text_encoder_by_name(generators, text_pipeline, tmp_path, monkeypatch):
    """The whole command with a published encoder, which is a folder here."""
    text_pipeline.text_encoder.save_pretrained(tmp_path / "encoder")
    text_pipeline.tokenizer.save_pretrained(tmp_path / "encoder")
    row = PRESETS["smoke"].stage2["text"]
    frozen = dataclasses.replace(row, text=TextPreset(8, str(tmp_path / "encoder"), examples=("a warm disc",)))
    monkeypatch.setitem(PRESETS["smoke"].stage2, "text", frozen)
    out = tmp_path / "runs"
    (out / "smoke").mkdir(parents=True)
    (out / "smoke" / "finetune").symlink_to(generators / "smoke" / "finetune")
    stage2.main([*smoke(out), "--condition", "text"])
    assert len(list((out / "latents").glob("text-*/done"))) == 1
    folder = out / "smoke" / "text" / "checkpoint"
    assert not (folder / "text_encoder").exists()
    pipeline = DRoRAETextPipeline.from_pretrained(folder)
    assert pipeline.config.text_encoder_name == str(tmp_path / "encoder")
    weight = text_pipeline.text_encoder.state_dict()["layers.0.mlp.up_proj.weight"]
    assert torch.equal(pipeline.text_encoder.state_dict()["layers.0.mlp.up_proj.weight"], weight)
