"""The recipe is the recipe: schedule, clipping, decay, average and losses in closed form, through ``fit``."""

import dataclasses
import json
import math
from itertools import pairwise

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import nn

from drorae import AutoencoderDRoRAE
from drorae.building import UnfilledMeta
from drorae.models.fusion import CrossAttentionFusion, MeanFusion
from train import stage1
from train.data.batches import Batch
from train.data.crops import Crop
from train.data.held_out import ValidationPhotos
from train.data.positions import TrainingPositions
from train.data.sources import GeneratedPictures
from train.engine.run import fit
from train.engine.run_folder import CHECKPOINT, LOG
from train.presets import PHASES, PRESETS
from train.settings import Schedule
from train.tasks.reconstruction import Reconstruction

STEPS, WARMUP, LR, FLOOR = 9, 3, 0.1, 0.2


class Toy(nn.Module):
    """One parameter w with the loss g * w: its gradient is g, whatever w is."""

    adversary, image_size = None, 1

    def __init__(self, gradients: list[float]):
        super().__init__()
        self.trainable, self.gradients = nn.Module(), gradients
        self.trainable.w = nn.Parameter(torch.tensor(2.0))
        self.seen: list[float] = []  # w before every step

    def compile(self):
        raise AssertionError("the toy is not compiled")

    def use(self, trainable, discriminator):
        pass

    def loss(self, batch, step):
        self.seen.append(self.trainable.w.item())
        loss = self.gradients[step] * self.trainable.w
        return loss, {"loss": loss.detach()}

    def adversary_loss(self, step):
        return iter(())

    def validate(self):
        return {"w": self.trainable.w.item()}

    def pictures(self):
        return None

    def export(self, folder):
        save_file({"w": self.trainable.w.detach().clone()}, folder / "w.safetensors")


class Nothing:
    """Positions without data."""

    def batches(self, schedule, start_step, rank, world):
        for step in range(start_step, schedule.steps):
            yield Batch(None, torch.tensor([step]), [])


def schedule(**changes) -> Schedule:
    settings = {"ema_decay": 0.7, "max_grad_norm": None, "precision": "no", "save_every": STEPS, "lr_floor": FLOOR}
    return Schedule(STEPS, 1, LR, WARMUP, **{**settings, **changes})


def run(folder, gradients, **changes) -> Toy:
    toy = Toy(gradients)
    fit(toy, Nothing(), schedule(**changes), folder, Accelerator(cpu=True))
    return toy


def rate(step: int) -> float:
    """Linear warm-up that ends at the full rate, then half a cosine that ends at the floor."""
    if step < WARMUP:
        return LR * (step + 1) / WARMUP
    done = (step + 1 - WARMUP) / (STEPS - WARMUP)
    return LR * (FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * done)) / 2)


def path(gradients, weight_decay=0.0, clip=math.inf, betas=(0.9, 0.95)) -> list[float]:
    """w after every step of AdamW (arXiv 1711.05101), in double precision, beginning with the start."""
    w, m, v, values = 2.0, 0.0, 0.0, [2.0]
    for step, gradient in enumerate(gradients):
        g = gradient * min(1.0, clip / abs(gradient))
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g * g
        w *= 1 - rate(step) * weight_decay
        corrected = m / (1 - betas[0] ** (step + 1)), v / (1 - betas[1] ** (step + 1))
        w -= rate(step) * corrected[0] / (math.sqrt(corrected[1]) + 1e-8)
        values.append(w)
    return values


def average(values: list[float], decay: float) -> float:
    """The exponential moving average of weights, from the first ones on."""
    mean = values[0]
    for value in values[1:]:
        mean = decay * mean + (1 - decay) * value
    return mean


CONSTANT = [1.0] * STEPS
GROWING = [0.5, 1.0, 4.0, 0.25, 8.0, 2.0, 16.0, 0.5, 1.0]


def test_every_step_is_as_long_as_the_schedule_says(tmp_path):
    """Of a constant gradient AdamW makes steps of exactly the learning rate."""
    seen = run(tmp_path / "run", CONSTANT).seen
    steps = [before - after for before, after in pairwise(seen)]
    assert steps == pytest.approx([rate(step) for step in range(STEPS - 1)], rel=1e-5)
    assert steps[0] == pytest.approx(LR / WARMUP, rel=1e-5)  # the first one moves already
    last = json.loads((tmp_path / "run" / LOG).read_text())
    assert rate(STEPS - 1) == pytest.approx(LR * FLOOR)
    assert last["grad_norm"] == pytest.approx(1.0)


def test_a_run_that_stops_early_is_the_beginning_of_the_whole_one(tmp_path):
    whole, begun = run(tmp_path / "whole", GROWING), run(tmp_path / "begun", GROWING, stop=5)
    assert begun.seen == whole.seen[:5]
    weights = load_file(tmp_path / "begun" / CHECKPOINT / "w.safetensors")["w"].item()
    assert weights == pytest.approx(average(whole.seen[:6], 0.7), rel=1e-6)


@pytest.mark.parametrize(
    "recipe",
    [{}, {"weight_decay": 0.3}, {"max_grad_norm": 1.0}, {"betas": (0.5, 0.9)}],
    ids=lambda r: next(iter(r), ""),
)
def test_clipping_decay_and_betas_are_those_of_the_preset(tmp_path, recipe):
    seen = run(tmp_path / "run", GROWING, **recipe).seen
    renamed = {"clip" if name == "max_grad_norm" else name: value for name, value in recipe.items()}
    expected = path(GROWING, **renamed)
    assert seen == pytest.approx(expected[:-1], rel=1e-5)
    if recipe:  # and it matters here
        assert max(abs(a - b) for a, b in zip(expected, path(GROWING), strict=True)) > 0.02


@pytest.mark.parametrize("decay", [0.0, 0.7, 0.95])
def test_what_is_exported_and_validated_is_the_plain_average(tmp_path, decay):
    run(tmp_path / "run", CONSTANT, ema_decay=decay)
    expected = average(path(CONSTANT), decay)
    exported = load_file(tmp_path / "run" / "checkpoint" / "w.safetensors")["w"].item()
    assert exported == pytest.approx(expected, rel=1e-5)
    assert json.loads((tmp_path / "run" / LOG).read_text())["validation_w"] == pytest.approx(expected, rel=1e-5)


def test_the_average_goes_on_where_a_run_was_stopped(tmp_path, monkeypatch):
    import train.engine.run

    save = train.engine.run.save_state

    def save_and_stop(*args):
        save(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(train.engine.run, "save_state", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", GROWING, save_every=4)
    monkeypatch.undo()
    run(tmp_path / "run", GROWING, save_every=4)
    exported = load_file(tmp_path / "run" / "checkpoint" / "w.safetensors")["w"].item()
    assert exported == pytest.approx(average(path(GROWING), 0.7), rel=1e-5)


def test_averages_are_short_enough_for_their_runs():
    """The first weights keep at most exp(-10) of an average whose decay is 1 - 10 / steps. RAE's own rows are RAE's."""
    for name, preset in PRESETS.items():
        if name.startswith("dinov2"):
            continue
        rows = [*preset.stage1.values(), *preset.stage2.values(), *([preset.encoder] if preset.encoder else [])]
        for row in rows:
            assert row.schedule.ema_decay <= max(0.5, 1 - 10 / row.schedule.steps), name


# ---- losses -------------------------------------------------------------------------------------------------------


class Distance(nn.Module):
    """A stand-in for a perceptual distance with a known value."""

    def forward(self, prediction, target):
        return (prediction - target).square().mean() + 3.0


def smoke_task(phase: str, model=None, validation=None, **changes) -> Reconstruction:
    torch.manual_seed(0)
    model = model or AutoencoderDRoRAE(**PRESETS["smoke"].model, finetuned_decoder=phase == "finetune")
    row = dataclasses.replace(PRESETS["smoke"].stage1[phase], **{"noise_tau": 0.0, "loss_crop": None} | changes)
    return Reconstruction(model, row, None, validation)


@pytest.mark.parametrize("phase", PHASES)
def test_the_parts_of_the_loss_add_up_with_their_weights(phase):
    task = smoke_task(phase, adversary=None, l1_weight=0.5)
    task.preset = dataclasses.replace(task.preset, perceptual=PRESETS["tiny"].stage1[phase].perceptual)
    task.perceptual = Distance()
    images, weight = torch.rand(2, 3, 32, 32), task.preset.perceptual.weight
    loss, parts = task.loss(Batch(images, torch.arange(2), []), 0)
    output = task.reconstruct(images, None)[0]
    l1, distance = (output - images).abs().mean(), (output - images).square().mean() + 3
    torch.testing.assert_close(parts["l1"], l1.detach())
    torch.testing.assert_close(parts["perceptual"], distance.detach())
    torch.testing.assert_close(loss, 0.5 * l1 + weight * distance)
    assert weight > 0
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in task.trainable.named_parameters() if p.grad is not None}
    task.zero_grad()
    (0.5 * l1 + weight * distance).backward()
    assert all(torch.allclose(gradients[n], p.grad) for n, p in task.trainable.named_parameters() if n in gradients)


def test_the_discriminator_learns_to_tell_real_from_fake(tmp_path, monkeypatch):
    """Every head moves, and on a generator that stands still the hinge falls and real pictures get the higher logit."""
    monkeypatch.setattr("train.tasks.reconstruction.augment", lambda pictures, draws: pictures)
    validation = ValidationPhotos(GeneratedPictures(4, 1), 32)
    task = smoke_task("decoder", validation=validation)
    adversary = dataclasses.replace(task.preset.adversary, discriminator_start=2, generator_start=10**6, lr=4e-3)
    task.preset = dataclasses.replace(task.preset, adversary=adversary)
    before = {name: value.clone() for name, value in task.adversary.heads.state_dict().items()}
    plan = Schedule(40, 8, 0.0, 0, precision="no", save_every=5, workers=0, ema_decay=0.0)
    positions = TrainingPositions([GeneratedPictures(8, 0)], 32, Crop(None, (1.0, 1.0), False), 0)
    fit(task, positions, plan, tmp_path / "run", Accelerator(cpu=True), adversary.lr, adversary.discriminator_start)
    rows = [json.loads(line) for line in (tmp_path / "run" / LOG).read_text().splitlines()]
    first, last = rows[0], rows[-1]
    assert last["discriminator"] < 0.7 * first["discriminator"]
    assert last["real_logit"] > last["fake_logit"] + 0.5
    for number, head in enumerate(task.adversary.heads):
        moved = [n for n, v in head.state_dict().items() if not torch.equal(v, before[f"{number}.{n}"])]
        assert {name.split(".")[0] for name in moved} == {"inlet", "residual", "logit"}


def test_the_adversary_starts_when_and_acts_as_often_as_the_preset_says():
    task = smoke_task("decoder")
    adversary = dataclasses.replace(task.preset.adversary, discriminator_start=3, generator_start=5, every=2)
    task.preset = dataclasses.replace(task.preset, adversary=adversary)
    batch = Batch(torch.rand(2, 3, 32, 32), torch.arange(2), [])
    felt, learned = [], []
    for step in range(9):
        _, parts = task.loss(batch, step)
        felt.append("generator" in parts)
        learned.append(len(list(task.adversary_loss(step))))
    assert [step for step, yes in enumerate(felt) if yes] == [6, 8]
    assert [step for step, count in enumerate(learned) if count] == [4, 6, 8]
    assert set(learned) == {0, 1}


def test_the_generators_pass_leaves_the_spectral_norms_alone():
    task = smoke_task("decoder")
    batch, step = Batch(torch.rand(2, 3, 32, 32), torch.arange(2), []), task.preset.adversary.generator_start
    before = {name: value.clone() for name, value in task.adversary.state_dict().items()}
    loss, _ = task.loss(batch, step)
    loss.backward()
    assert all(torch.equal(value, before[name]) for name, value in task.adversary.state_dict().items())
    (against,) = task.adversary_loss(step)
    against[0].backward()
    changed = [n for n, value in task.adversary.state_dict().items() if not torch.equal(value, before[n])]
    assert changed  # the vectors of the power iteration
    assert all(name.endswith(("_u", "_v")) for name in changed)


@pytest.mark.parametrize("phase", PHASES)
def test_the_discriminator_sees_pictures_without_noise_by_the_decoder_after_its_step(phase, monkeypatch):
    """The encoder does not run again for it: its tokens, from before the noise, are kept."""
    task = smoke_task(phase, noise_tau=0.8)
    images, positions, step = torch.rand(2, 3, 32, 32), torch.arange(2), task.preset.adversary.generator_start
    task.loss(Batch(images, positions, []), step)
    noisy = task._seen[0].output
    with torch.no_grad():
        for parameter in task.trainable.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    seen = []
    monkeypatch.setattr(task.discriminator, "forward", lambda real, fake: seen.append((real, fake)) or (real, fake))
    monkeypatch.setattr("train.tasks.reconstruction.augment", lambda pictures, draws: pictures)
    with torch.no_grad():
        now = task.reconstruct(images, None)[0]  # by the network after its step
    monkeypatch.setattr(task.model.encoder, "forward", lambda x: pytest.fail("the encoder ran again"))
    list(task.adversary_loss(step))
    ((real, fake),) = seen
    torch.testing.assert_close(fake, (now.clamp(0, 1) * 255).round() / 255)
    torch.testing.assert_close(real, images)
    assert (fake - noisy).abs().mean() > 0.01


# ---- models -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_every_phase_builds_the_model_of_its_preset(name, monkeypatch, tmp_path):
    preset = PRESETS[name]
    built = {}

    def load_run(preset, run, phase, runs, legs, weights):
        fused = phase in ("finetune", "backbone")
        return AutoencoderDRoRAE(**preset.model if fused else {**preset.model, "fusion": None, "fusion_layers": None})

    monkeypatch.setattr(stage1, "load_run", load_run)
    monkeypatch.setattr(stage1, "build_pretrained", lambda name, **arguments: timm_without_weights(name, **arguments))
    monkeypatch.setattr(stage1, "load_timm", lambda name, *_, **arguments: timm_without_weights(name, **arguments))
    for phase, row in preset.stage1.items():
        with UnfilledMeta(), torch.device("meta"):
            built[phase] = stage1.start_model(preset, row, tmp_path, None)
    defaults = {"fusion_hidden_size": None, "fusion_beta": 0.2, "fusion_layers": None}
    for phase, model in built.items():
        wanted = {**defaults, **preset.model}
        if wanted["fusion"] == "mean":
            assert (type(model.fusion_module), model.fusion_module.last) == (MeanFusion, wanted["fusion_mean_layers"])
        elif phase == "decoder":
            wanted |= {"fusion": None}
            assert model.fusion_module is None
        elif wanted["fusion"] == "cross-attention":
            assert type(model.fusion_module) is CrossAttentionFusion
        else:
            experts = model.fusion_module.experts
            width = wanted["fusion_hidden_size"] or 4 * model.encoder.dim
            layers = wanted["fusion_layers"] or model.encoder.num_layers
            assert experts.weight_in.shape == (layers, model.encoder.dim, width)
            assert model.fusion_module.num_layers == model.encoder.num_layers
            assert model.fusion_module.beta == wanted["fusion_beta"]
        assert (model.decoder_finetuned is not None) == (phase in ("finetune", "backbone"))
        for key, value in wanted.items():
            assert model.config[key] == value or (phase == "decoder" and key.startswith("fusion_")), key


def timm_without_weights(name: str, **arguments):
    import timm

    return timm.create_model(name, pretrained=False, **arguments)
