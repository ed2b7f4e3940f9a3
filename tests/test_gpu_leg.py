"""The script for one GPU, rehearsed on the CPU: data on the device, a schedule that fits, parts that travel."""

import dataclasses
import json
import shutil

import pytest
import torch
from accelerate import Accelerator
from conftest import PHASES, smoke
from PIL import Image

from drorae import AutoencoderDRoRAE, DRoRAEClassPipeline
from drorae.images import to_tensor
from train.data.crops import Crop
from train.data.latent_cache import encode_raw
from train.data.sources import GeneratedPictures
from train.data.text_cache import CachedText
from train.engine.legs import read_leg
from train.errors import RunError
from train.gpu import latents as latents_module
from train.gpu import leg, pack
from train.gpu.latents import DeviceLatents, encode_views
from train.gpu.pictures import DevicePictures, decode_all
from train.gpu.texts import DeviceText
from train.presets import PRESETS
from train.settings import Schedule

CPU = torch.device("cpu")


class LinearTask(torch.nn.Module):
    """One weight with a constant gradient; remembers whether a step has moved it."""

    adversary = None

    def __init__(self):
        super().__init__()
        self.trainable = torch.nn.Linear(1, 1, bias=False)
        self.first, self.moved = self.trainable.weight.item(), False

    def loss(self, batch, step):
        self.moved = self.moved or self.trainable.weight.item() != self.first
        return self.trainable.weight.sum(), {}

    def adversary_loss(self, step):
        return iter(())


def rehearse(out, run: str, *more: str) -> dict:
    """Run the script with small numbers; its report."""
    small = ["--steps", "12", "--batch-size", "4", "--limit", "12", "--threads", "2", "--views", "2", "--minutes", "90"]
    leg.main([*smoke(out), "--run", run, *small, "--result", str(out / "result"), *more])
    return json.loads((out / "result" / f"smoke-{run}.report.json").read_text())


def test_legs_lead_from_the_encoder_to_the_whole_model(tmp_path, monkeypatch):
    """As on a card that is lent for minutes: each run finds the legs of those before, and leaves one."""
    monkeypatch.setattr(leg, "TIMED_STEPS", 1)
    legs = tmp_path / "legs"
    legs.mkdir()
    for run in ("encoder", *PHASES):
        report = rehearse(tmp_path / run, run, "--legs", str(legs))
        assert (report["pictures"], report["started_from"]) == (48, None)
        shutil.copy(tmp_path / run / "result" / f"smoke-{run}.safetensors", legs)
    model = AutoencoderDRoRAE.from_pretrained(tmp_path / "finetune" / "smoke" / "finetune" / "checkpoint")
    for run, part in zip(PHASES, (model.decoder, model.fusion_module, model.decoder_finetuned), strict=True):
        trained = read_leg(legs / f"smoke-{run}.safetensors").weights
        for name, value in part.state_dict().items():
            torch.testing.assert_close(value, trained[name], rtol=1e-3, atol=1e-4)
    again = rehearse(tmp_path / "again", "encoder", "--legs", str(legs))
    assert again["started_from"] == "step 12 of 12"


@pytest.mark.parametrize("run", ["class", pytest.param("class-guide", marks=pytest.mark.slow), "text"])
def test_denoisers_are_trained_on_latents_that_lie_on_the_device(generators, tmp_path, run):
    shutil.copytree(generators / "smoke" / "finetune", tmp_path / "smoke" / "finetune")
    twice = ["--data", "generated", "generated"] if run == "text" else []  # icons are of two styles, each a file
    report = rehearse(tmp_path, run, *twice)
    assert report["run"] == f"smoke/{run}"
    rows = (tmp_path / "result" / f"smoke-{run}.log.jsonl").read_text().splitlines()
    assert all("validation_loss" in json.loads(row) for row in rows)
    if run == "class":
        folder = tmp_path / "smoke" / run / "checkpoint"
        assert DRoRAEClassPipeline.from_pretrained(folder).config.labels == list(GeneratedPictures.CLASSES)


def pictures(scale=(1.0, 1.0), flip=False, shares=None) -> DevicePictures:
    sources = [GeneratedPictures(5, 0), GeneratedPictures(3, 1)]
    stored, labels, notes = decode_all(sources, 48, threads=2)
    assert notes == []
    return DevicePictures(stored, labels, [5, 3], Crop(None, scale, flip), 0, CPU, shares)


def test_whole_pictures_are_those_of_the_data_in_the_order_of_the_run():
    here = pictures(shares=(2, 1))
    batch = here.batch(range(6), 48, 0)
    sources = [GeneratedPictures(5, 0), GeneratedPictures(3, 1)]
    rows = [row for source in sources for row in source]
    for i, image in enumerate(batch.images):
        row = rows[here.index(i)]
        torch.testing.assert_close(image, to_tensor(row["image"]))
        assert batch.labels[i] == row["label"]
    assert [here.index(p) >= 5 for p in range(6)] == [False, False, True] * 2


def test_crops_have_one_scale_a_step_and_their_own_places():
    here = pictures(scale=(0.5, 1.0), flip=True)
    assert here.batch(range(4), 24, 0).images.shape == (4, 3, 24, 24)
    again, other = here.batch(range(2, 4), 24, 0).images, here.batch(range(2, 4), 24, 1).images
    assert torch.equal(here.batch(range(4), 24, 0).images[2:], again)  # whatever the batch
    assert not torch.equal(again, other)
    plan = Schedule(6, 4, 1e-3, 1, sides=((0, (24,)), (4, (32,))))
    sides = [batch.images.shape[-1] for batch in here.batches(plan, 2, 0, 1)]
    assert sides == [24, 24, 32, 32]


def test_damaged_pictures_are_grey_and_named():
    rows = [{"image": Image.new("RGB", (40, 40), (9, 9, 9))}, {"image": {"bytes": b"broken", "path": "x.png"}}]
    stored, labels, notes = decode_all([rows], 32, threads=1)
    assert stored[0].unique().tolist() == [9]
    assert stored[1].unique().tolist() == [128]
    assert labels.tolist() == [-1, -1]
    assert len(notes) == 1
    assert "x.png" in notes[0]


def test_views_are_whole_pictures_their_mirror_images_and_crops(model):
    here = pictures(scale=(0.7, 0.9), flip=True)
    latents = encode_views(model, here, 4)
    assert latents.shape == (4, 8, 48, 4, 4)
    whole = here.batch(range(0, 1), 32, 0)  # 48 px to 32: its own scale is 1
    cut = DevicePictures(here.pictures, here.labels, [8], Crop(None, (1.0, 1.0), False), 0, CPU)
    images = cut.batch(range(8), 32, 0).images
    number = [cut.index(p) for p in range(8)]
    for view, seen in ((0, images), (1, images.flip(-1))):
        expected = encode_raw(model, seen)
        torch.testing.assert_close(latents[view, number].float(), expected, atol=4e-3, rtol=2e-3)
    assert not torch.allclose(latents[2], latents[0], atol=1e-2)
    assert whole.images.shape == (1, 3, 32, 32)
    positions = DeviceLatents(latents, here.labels, seed=0, captions=[[f"caption {i}"] for i in range(8)])
    batch = positions.batch(range(16))
    for i, text in enumerate(batch.captions):
        row = int(text.split()[1])
        assert batch.labels[i] == here.labels[row]
        assert any(torch.equal(batch.latents[i], latents[view, row]) for view in range(4))


def test_drawings_are_not_mirrored_but_made_smaller_on_white(model, monkeypatch):
    here = pictures(scale=(0.7, 0.9))
    seen = []
    monkeypatch.setattr(latents_module, "encode_raw", lambda model, images: seen.append(images) or images[:, :1])
    encode_views(model, here, 3)
    whole = DevicePictures(here.pictures, here.labels, [8], Crop(None, (1.0, 1.0), False), 0, CPU)
    number = [whole.index(p) for p in range(8)]
    torch.testing.assert_close(seen[0][number], whole.batch(range(8), 32, 0).images)
    for images in seen[1:]:
        inked = (images < 1).any(1).any(0)  # the discs lie on colours, never on white
        rows, columns = (inked.any(axis).nonzero().flatten() for axis in (1, 0))
        side = len(rows)
        assert 22 <= side <= 29  # 0.7 to 0.9 of 32 px
        assert side == len(columns)
        cut = images[number][..., rows[0] : rows[0] + side, columns[0] : columns[0] + side]
        torch.testing.assert_close(cut, whole.batch(range(8), side, 0).images)
    assert not torch.equal(seen[1], seen[2])


def test_texts_on_the_device_are_those_of_the_cache():
    tokens = torch.randn(6, 5).half().numpy()
    cached = CachedText(tokens, {"": (0, 1), "a cat": (1, 4), "dogs": (4, 6)})
    texts = ["dogs", "a cat", "dogs", ""]
    expected, mask = cached.get(texts)
    here = DeviceText(cached, CPU).get(texts)
    torch.testing.assert_close(here[0], expected)
    assert torch.equal(here[1], mask)


def test_timing_leaves_the_weights_as_they_were(monkeypatch):
    monkeypatch.setattr(leg, "WARM_STEPS", 1)
    monkeypatch.setattr(leg, "TIMED_STEPS", 1)
    task = LinearTask()
    before = task.trainable.weight.clone()
    seen = []
    seconds = leg.time_steps(
        task, lambda number: seen.append(number), Accelerator(cpu=True), Schedule(10, 2, 1.0, 1, ema_decay=0.5), None
    )
    assert seconds > 0
    assert seen == [0, 1]
    assert task.moved, "the optimiser is part of what is timed"
    assert torch.equal(task.trainable.weight, before)


def test_another_batch_and_length_keep_the_proportions():
    row = PRESETS["tiny"].stage1["decoder"].schedule
    plan = leg.plan_schedule(row, 16 * row.batch_size, row.steps // 10)
    assert plan.sides[1][0] / plan.steps == pytest.approx(row.sides[1][0] / row.steps, abs=1 / plan.steps)
    assert plan.warmup_steps == row.warmup_steps // 10
    assert plan.lr == pytest.approx(1.5 * row.lr)  # of Muon; a root of 16 would be 4
    assert leg.scaled_rate(row, 2 * row.batch_size) == pytest.approx(2**0.5 * row.lr)
    adamw = dataclasses.replace(row, optimizer="adamw")
    assert leg.scaled_rate(adamw, 16 * row.batch_size) == pytest.approx(2.5 * row.lr)
    assert leg.scaled_rate(adamw, 4 * row.batch_size) == pytest.approx(2 * row.lr)
    assert plan.ema_decay == pytest.approx(1 - 10 / plan.steps)


def test_too_little_time_is_one_sentence(tmp_path):
    with pytest.raises(RunError, match=r"--minutes 0.0: .* s are left for steps of .*; give more"):
        rehearse(tmp_path, "encoder", "--minutes", "0")


def test_large_files_travel_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(leg, "PART", 100)
    (tmp_path / "leg").write_bytes(bytes(range(250)))
    parts = leg.write_parts(tmp_path / "leg", tmp_path / "out")
    assert [part.name for part in parts] == ["out.0", "out.1", "out.2"]
    assert b"".join(part.read_bytes() for part in parts) == bytes(range(250))


def test_packets_hold_everything_once_and_none_is_too_large(tmp_path, capsys):
    sizes = {
        "photos20/train-0.parquet": 40,
        "photos20/train-1.parquet": 35,
        "emoji/noto.parquet": 30,
        "weights/v.json": 5,
    }
    for name, size in sizes.items():
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(bytes([size]) * size)
    (tmp_path / "data" / "weights" / "mobilenet_judge.json").write_bytes(b"1")
    (tmp_path / "data" / "weights" / "tf_efficientnet.json").write_bytes(b"1")
    mib = 60 / 2**20
    pack.main(["--data", str(tmp_path / "data"), "--to", str(tmp_path / "out"), "--limit-mib", str(mib)])
    assert len(capsys.readouterr().out.splitlines()) == 3
    for packet in (tmp_path / "out").iterdir():
        assert sum(file.stat().st_size for file in packet.rglob("*") if file.is_file()) <= 60
        shutil.copytree(packet, tmp_path / "joined", dirs_exist_ok=True)
    joined = {str(f.relative_to(tmp_path / "joined")): f.stat().st_size for f in (tmp_path / "joined").rglob("*.*")}
    assert joined == sizes
    with pytest.raises(RunError, match="is there already"):
        pack.main(["--data", str(tmp_path / "data"), "--to", str(tmp_path / "out")])
    with pytest.raises(RunError, match=r"train-0.parquet' has 0 MiB, more than a packet"):
        pack.main(["--data", str(tmp_path / "data"), "--to", str(tmp_path / "o"), "--limit-mib", str(mib / 2)])
