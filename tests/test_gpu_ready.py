"""What a GPU needs of training, tested without one: on the meta device whatever makes the host wait is an error."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from threading import Barrier

import datasets
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import SHAPE, build, network, photos
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from drorae import LatentStatistics
from drorae.building import UnfilledMeta
from train import latent_stats, stage2
from train.data import held_out
from train.data.batches import Batch
from train.data.latent_cache import load_cache
from train.data.sources import load_photos
from train.data.text_cache import CachedText
from train.engine.dry_run import SavedBytes, build_on_meta, step_cost
from train.engine.run import CHECK_EVERY, fit
from train.errors import RunError
from train.latent_stats import latent_moments
from train.measure.latent_metrics import spatial_effective_rank
from train.presets import PRESETS
from train.settings import Schedule
from train.tasks.conditions import ClassCondition, TextCondition
from train.tasks.generation import FlowMatching
from train.tasks.text_encoder import build_encoder, train_tokenizer

META = torch.device("meta")
SMOKE = PRESETS["smoke"]
STEPS = 3


class OnMeta:
    """What the loop needs of an accelerator, on a device whose numbers nobody can look at."""

    device, is_main_process, num_processes, process_index, trackers = META, True, 1, 0, ()

    def wait_for_everyone(self):
        pass

    def print(self, *_):
        pass

    def prepare(self, *parts):
        return parts

    def register_for_checkpointing(self, *_):
        pass

    def autocast(self):
        return nullcontext()

    def no_sync(self, _):
        return nullcontext()

    def backward(self, loss):
        loss.backward()

    def clip_grad_norm_(self, parameters, norm):
        return torch.nn.utils.clip_grad_norm_(parameters, norm)


class Enough(Exception):  # noqa: N818 (not an error)
    """The steps that were to be seen are done."""


class OfHost:
    """Batches as a loader gives them, in the host's memory; after ``STEPS`` steps of them the test has seen enough."""

    def __init__(self, **parts):
        self.parts = parts

    def batches(self, schedule, start_step, rank, world):
        for number in range(STEPS * schedule.accumulation):
            yield Batch(**{"images": None, "positions": torch.arange(4) + 4 * number, "damaged": [], **self.parts})
        raise Enough


def loop(task, folder, parts, adversary_lr=None, **changes) -> None:
    """The loop's own steps, up to the first look at a number."""
    plan = Schedule(CHECK_EVERY, 8, 1e-3, 1, precision="no", accumulation=2, save_every=CHECK_EVERY, **changes)
    with pytest.raises(Enough):
        fit(task, OfHost(**parts), plan, folder, OnMeta(), adversary_lr)


def reconstruction(phase: str, **changes):
    row = SMOKE.stage1[phase]
    adversary = dataclasses.replace(row.adversary, discriminator_start=0, generator_start=0)
    adversary = changes.pop("adversary", adversary)
    plan = dataclasses.replace(row.schedule, **changes)
    options = {"router_smoothness": 0.1, "router_dropout": 0.3} if phase == "fusion" else {}
    return build_on_meta(SMOKE, dataclasses.replace(row, adversary=adversary, schedule=plan, **options))


@pytest.mark.parametrize("optimizer", [pytest.param("adamw", marks=pytest.mark.slow), "muon"])
@pytest.mark.parametrize("phase", ["decoder", "fusion", "finetune"])
def test_nothing_waits_for_the_device_while_a_tokenizer_trains(tmp_path, phase, optimizer):
    task, seen = reconstruction(phase), []
    against = task.adversary_loss
    task.adversary_loss = lambda step: (seen.append(each) or each for each in against(step))
    loop(task, tmp_path, {"images": torch.rand(4, 3, 32, 32)}, adversary_lr=1e-3, optimizer=optimizer)
    assert len(seen) == 2 * STEPS  # the adversary took part
    assert not list(tmp_path.iterdir())


def flow_matching(condition) -> FlowMatching:
    with UnfilledMeta(), META:
        model = build()
        statistics = LatentStatistics(SHAPE, has_mean=True)
    row = SMOKE.stage2["class"]
    return FlowMatching(model, condition, row, statistics, None, "none")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("cached", [False, True])
def test_nothing_waits_for_the_device_while_a_class_denoiser_trains(tmp_path, cached, optimizer):
    task = flow_matching(ClassCondition(network(0).to(META), ["a", "b", "c"]))
    pictures = {"latents": torch.randn(4, *SHAPE).half()} if cached else {"images": torch.rand(4, 3, 32, 32)}
    loop(task, tmp_path, pictures | {"labels": torch.tensor([0, 1, 2, -1])}, optimizer=optimizer)


@pytest.mark.parametrize("trained", [False, True])
def test_nothing_waits_for_the_device_while_a_text_denoiser_trains(tmp_path, trained):
    """With an encoder that is trained along, or with the tokens of a frozen one, which were computed before."""
    texts = ["a red ball", "two dogs", "", "run"]
    tokenizer = train_tokenizer(texts, 300)
    encoder = build_encoder(len(tokenizer), 32, 1, 8, seed=0).to(META)
    denoiser = network(0, num_classes=None, text_dim=32).to(META)
    condition = TextCondition(denoiser, tokenizer, encoder, 8, None, [], trained=trained)
    if not trained:
        places = {text: (2 * number, 2 * number + 2) for number, text in enumerate(texts)}
        condition.features = CachedText(np.zeros((8, 32), np.float16), places)
    parts = {"latents": torch.randn(4, *SHAPE).half(), "captions": texts, "labels": torch.full((4,), -1)}
    loop(flow_matching(condition), tmp_path, parts)


def test_a_number_that_is_looked_at_is_found_out(tmp_path):
    """The tests above can fail: a look at the loss is an error there."""
    task = flow_matching(ClassCondition(network(0).to(META), ["a", "b", "c"]))
    loss = task.loss

    def looks(batch, step):
        value, parts = loss(batch, step)
        return value, parts | {"seen": torch.tensor(value.item())}

    task.loss = looks
    parts = {"latents": torch.randn(4, *SHAPE).half(), "labels": torch.zeros(4, dtype=torch.long)}
    with pytest.raises(RuntimeError, match="meta"):
        loop(task, tmp_path, parts)


def test_positions_stay_with_the_host():
    batch = Batch(torch.rand(2, 3, 8, 8), torch.arange(2), [], torch.arange(2), torch.rand(2, *SHAPE)).to(META)
    assert batch.positions.device.type == "cpu"
    assert {batch.images.device, batch.labels.device, batch.latents.device} == {META}


def test_denoisers_train_in_tf32_on_a_gpu(monkeypatch):
    before = torch.get_float32_matmul_precision()
    try:
        for there, wanted in ((False, "highest"), (True, "high")):
            torch.set_float32_matmul_precision("highest")
            monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
            with pytest.raises(RunError, match="has no run 'text-guide'"):
                stage2.main(["--preset", "smoke", "--condition", "text", "--guide"])
            assert torch.get_float32_matmul_precision() == wanted
    finally:
        torch.set_float32_matmul_precision(before)


def test_bytes_kept_for_the_backward_pass_are_the_most_at_one_time():
    """exp keeps its result, which both factors of the square are, and nothing is kept after the backward pass."""
    weight = torch.ones(100, requires_grad=True)
    saved = SavedBytes({weight.untyped_storage()._cdata})
    with saved_tensors_hooks(saved.keep, lambda kept: kept.tensor):
        for _ in range(3):  # a storage that is freed leaves its address to the next one
            first = (weight * weight * torch.ones(100)).exp()  # keeps the ones, too; the weight is there anyway
            (first * first).sum().backward()
            assert saved.now == 0
            del first
        assert saved.peak == 2 * 400
        kept = [(weight * 2.0).exp() for _ in range(3)]
    assert (saved.now, saved.peak) == (1200, 1200)
    del kept
    assert saved.now == 0


@pytest.mark.parametrize("phase", ["fusion", "finetune"])
def test_a_preset_can_ask_for_checkpointing(phase):
    plain, asked = (reconstruction(phase, adversary=None, gradient_checkpointing=asked) for asked in (False, True))
    assert step_cost(asked).activations < step_cost(plain).activations
    row = SMOKE.stage2["class"]
    row = dataclasses.replace(row, schedule=dataclasses.replace(row.schedule, gradient_checkpointing=True))
    denoiser = network(0)
    FlowMatching(build(), ClassCondition(denoiser, ["a"]), row, None, None, "none")
    assert denoiser.gradient_checkpointing


def counted_stream(count: int, read: list[int]) -> datasets.IterableDataset:
    """Pictures of a data set that is not on this disk; ``read`` says which were asked for."""
    rows = load_photos("generated", "train")

    def generate():
        for number in range(count):
            read.append(number)
            yield {"image": rows[number % len(rows)]["image"], "label": 0}

    return datasets.IterableDataset.from_generator(generate)


def test_statistics_of_a_split_on_the_hub_keep_no_picture(monkeypatch):
    read: list[int] = []
    monkeypatch.setattr(held_out, "load_photos", lambda *_, **options: counted_stream(200, read))
    there = held_out.load_held_out("somebody/photos", "train", 32, in_memory=False)
    assert read == []
    model, seen = build(), []
    encoder = model.encoder.forward
    model.encoder.forward = lambda images: seen.append(len(read)) or encoder(images)
    _, count = latent_moments(model, there, batch_size=16)
    assert count == 400
    assert seen[0] < 50  # a batch and what two threads have read ahead


def meeting(count: int):
    """A function that goes on only where so many threads are in it at once, the first ``count`` times."""
    barrier, calls = Barrier(count), []

    def meet() -> None:
        calls.append(1)
        if len(calls) <= count:
            barrier.wait(timeout=60)

    return meet


def test_as_many_threads_read_pictures_for_the_statistics_as_are_asked_for(tmp_path, monkeypatch):
    build(any_size=True).save_pretrained(tmp_path)
    meet, picture = meeting(3), held_out.ValidationPhotos._picture
    monkeypatch.setattr(held_out.ValidationPhotos, "_picture", lambda *given: meet() or picture(*given))
    asked, load = [], latent_stats.load_held_out
    monkeypatch.setattr(latent_stats, "load_held_out", lambda *g, **o: asked.append(o["in_memory"]) or load(*g, **o))
    latent_stats.main([str(tmp_path), "--data", "generated", "--limit", "8", "--workers", "3"])
    assert asked == [False]


def test_as_many_threads_read_pictures_for_the_cache_as_are_asked_for(tmp_path):
    source, meet = photos(tmp_path / "p"), meeting(3)
    row = source.row
    source.row = lambda index: meet() or row(index)
    load_cache(build(), source, tmp_path / "cache", Accelerator(), workers=3)


class Operations(TorchDispatchMode):
    """The operations that ran."""

    def __init__(self):
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("shape", [(3, 20, 8), (3, 8, 20)])
def test_effective_ranks_take_eigenvalues_of_the_small_side(shape):
    tokens = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with Operations() as ran:
        found = spatial_effective_rank(tokens)
    share = torch.linalg.svdvals(tokens.double())
    share = share / share.sum(-1, keepdim=True)
    torch.testing.assert_close(found, torch.special.entr(share).sum(-1).exp())
    assert not [name for name in ran.names if "svd" in name]
    assert [name for name in ran.names if "eigh" in name]
