"""Runs that survive: real kills, full disks, changed presets, several processes, gradient accumulation."""

import argparse
import dataclasses
import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from accelerate import Accelerator
from conftest import ROOT, same, smoke, weights
from dying import in_a_process, killed, without_space

import train.engine.run
import train.engine.run_folder
from drorae import AutoencoderDRoRAE
from train import stage1
from train.data.crops import Crop
from train.data.held_out import ValidationPhotos
from train.data.positions import TrainingPositions
from train.data.sources import GeneratedPictures
from train.engine.optimisation import Optimisation
from train.engine.run import fit
from train.engine.session import check_precision
from train.errors import RunError
from train.presets import PRESETS
from train.settings import Schedule
from train.tasks.reconstruction import Reconstruction


def after(runs, out, before="decoder"):
    """A folder in which the runs up to ``before`` are finished."""
    (out / "smoke").mkdir()
    for name in ("encoder", "decoder", "fusion"):
        (out / "smoke" / name).symlink_to(runs / "smoke" / name)
        if name == before:
            return out
    raise ValueError(before)


def test_bf16_that_would_be_emulated_is_refused_unless_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    plain, asked = argparse.Namespace(precision=None), argparse.Namespace(precision="bf16")
    half = PRESETS["tiny"].stage2["class"].schedule
    with pytest.raises(RunError, match="give --precision no"):
        check_precision(plain, half)
    check_precision(asked, half)
    check_precision(plain, dataclasses.replace(half, precision="no"))
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    check_precision(plain, half)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    check_precision(plain, half)


# ---- kills --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "number", "saved"),
    [
        pytest.param("step", 5, 3, marks=pytest.mark.slow),
        pytest.param("half a state", 6, None, marks=pytest.mark.slow),
        ("half a state", 12, 3),
        ("between renames", 1, 3),
        ("half a checkpoint", 1, 6),
    ],
)
def test_a_killed_run_continues_to_the_same_weights(runs, tmp_path, capsys, moment, number, saved):
    after(runs, tmp_path, "fusion")
    assert in_a_process(killed, moment, number, smoke(tmp_path, "finetune")) == -signal.SIGKILL
    assert not (tmp_path / "smoke" / "finetune" / "checkpoint").exists()
    torch.manual_seed(123)  # whatever the process did in between
    stage1.main(smoke(tmp_path, "finetune"))
    # starting over gives the same weights, too, and is right only where no whole state had been saved
    printed = capsys.readouterr().out
    assert f"continuing after step {saved} of 6" in printed if saved else "continuing" not in printed
    assert same(weights(runs, "finetune"), weights(tmp_path, "finetune"))
    heads = [next((r / "smoke" / "finetune" / "checkpoint").glob("discriminator*")) for r in (runs, tmp_path)]
    assert heads[0].read_bytes() == heads[1].read_bytes()


def test_a_run_interrupted_twice_continues_to_the_same_weights(runs, tmp_path, monkeypatch):
    after(runs, tmp_path)
    save = train.engine.run.save_state

    def save_and_stop(*args):
        save(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(train.engine.run, "save_state", save_and_stop)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            stage1.main(smoke(tmp_path, "fusion"))
    monkeypatch.undo()
    stage1.main(smoke(tmp_path, "fusion"))
    assert same(weights(runs, "fusion"), weights(tmp_path, "fusion"))


def test_a_finished_run_is_left_alone(runs, capsys):
    before = weights(runs, "fusion")
    stage1.main(smoke(runs, "fusion"))
    assert "finished before" in capsys.readouterr().out
    assert same(before, weights(runs, "fusion"))


# ---- clear stops --------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_state(runs, tmp_path, monkeypatch):
    after(runs, tmp_path)
    loss = Reconstruction.loss

    def fails_at_step_5(self, batch, step):
        value, parts = loss(self, batch, step)
        return (value, parts | {"l1": parts["l1"] * float("nan")}) if step == 4 else (value, parts)

    monkeypatch.setattr(Reconstruction, "loss", fails_at_step_5)
    with pytest.raises(RunError, match=r"l1 nan.* at step 5 are not all finite"):
        stage1.main(smoke(tmp_path, "fusion"))
    assert (tmp_path / "smoke" / "fusion" / "state").is_dir()
    assert not (tmp_path / "smoke" / "fusion" / "checkpoint").exists()
    monkeypatch.undo()
    stage1.main(smoke(tmp_path, "fusion"))
    assert same(weights(runs, "fusion"), weights(tmp_path, "fusion"))


def test_a_full_disk_is_one_sentence_and_keeps_the_last_state(runs, tmp_path, capsys):
    after(runs, tmp_path)
    errors = tmp_path / "errors.txt"
    assert in_a_process(without_space, [*smoke(tmp_path, "fusion"), "--log"], str(errors)) == 2
    said = errors.read_text()
    assert "could not write" in said
    assert "the last saved state is kept" in said
    assert "Traceback" not in said
    stage1.main(smoke(tmp_path, "fusion"))
    assert "continuing after step 3 of 6" in capsys.readouterr().out
    assert same(weights(runs, "fusion"), weights(tmp_path, "fusion"))


def test_a_changed_preset_is_refused_on_resume_and_named(runs, tmp_path, monkeypatch):
    after(runs, tmp_path)
    monkeypatch.setattr(train.engine.run, "write_folder", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        stage1.main(smoke(tmp_path, "fusion"))
    monkeypatch.undo()
    before = json.loads((tmp_path / "smoke" / "fusion" / "run.json").read_text())
    row = PRESETS["smoke"].stage1["fusion"]
    changed = dataclasses.replace(row, schedule=dataclasses.replace(row.schedule, lr=1e-2))
    monkeypatch.setitem(PRESETS["smoke"].stage1, "fusion", changed)
    with pytest.raises(RunError, match=r"other settings \(settings.row.schedule.lr was 0.001 and is 0.01\)"):
        stage1.main(smoke(tmp_path, "fusion"))
    monkeypatch.undo()
    with pytest.raises(RunError, match=r"data.*generated"):
        stage1.main([*smoke(tmp_path, "fusion"), "--data", "generated", "generated"])
    # another model to start from, though of the same shape
    other = AutoencoderDRoRAE.from_pretrained(runs / "smoke" / "decoder" / "checkpoint")
    other.decoder.decoder_norm.weight.data += 0.1
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(RunError, match=r"settings.frozen was .* and is"):
        stage1.main([*smoke(tmp_path, "fusion"), "--start", str(tmp_path / "other")])
    assert json.loads((tmp_path / "smoke" / "fusion" / "run.json").read_text()) == before
    stage1.main([*smoke(tmp_path, "fusion"), "--workers", "1"])  # how it is read may change
    assert same(weights(runs, "fusion"), weights(tmp_path, "fusion"))


def test_a_state_that_was_half_swapped_is_recovered(tmp_path):
    (tmp_path / "state.old").mkdir()
    (tmp_path / "state.new").mkdir()
    train.engine.run_folder.recover_state(tmp_path)
    assert (tmp_path / "state").is_dir()


# ---- curves and pictures ------------------------------------------------------------------------------------------


def test_curves_and_pictures_are_in_tensorboard(runs):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = runs / "smoke" / "fusion" / "log" / "drorae"
    events = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    log = [json.loads(line) for line in (runs / "smoke" / "fusion" / "log.jsonl").read_text().splitlines()]
    scalars = events.Scalars("validation_psnr")
    assert [event.step for event in scalars] == [3, 6]
    assert [event.value for event in scalars] == pytest.approx([row["validation_psnr"] for row in log])
    assert events.Tags()["images"]


# ---- accumulation and processes -----------------------------------------------------------------------------------


def trained(folder, accumulation: int) -> dict[str, torch.Tensor]:
    """Fusion weights after three steps of phase ``fusion`` with noise, in float64 and without adversary."""
    preset = PRESETS["smoke"]
    schedule = Schedule(3, 8, 1e-3, 1, precision="no", accumulation=accumulation, save_every=3, workers=0)
    row = dataclasses.replace(preset.stage1["fusion"], schedule=schedule, adversary=None, noise_tau=0.3)
    torch.manual_seed(0)
    model = AutoencoderDRoRAE(**preset.model)
    validation = ValidationPhotos(GeneratedPictures(4, 1), 32)
    task = Reconstruction(model, row, None, validation)
    positions = TrainingPositions([GeneratedPictures(64, 0)], 32, Crop(None, (0.8, 1.0), True), 0)
    fit(task, positions, schedule, folder, Accelerator(cpu=True))
    return model.fusion_module.state_dict()


def test_accumulated_micro_batches_equal_the_large_batch(tmp_path):
    whole = trained(tmp_path / "whole", 1)
    for parts in (2, 4):
        split = trained(tmp_path / str(parts), parts)
        for name, value in whole.items():
            torch.testing.assert_close(split[name], value, rtol=0, atol=2e-6)
    start = AutoencoderDRoRAE(**PRESETS["smoke"].model).fusion_module.state_dict()
    moved = max((whole[name] - start[name]).abs().max().item() for name in whole)
    assert moved > 1e-3  # it trained far more than the tolerance


def test_muon_takes_the_matrices_and_adamw_the_rest():
    schedule = Schedule(10, 8, 1e-3, 1)
    network = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.LayerNorm(6))
    optimisation = Optimisation(network, 1e-3, schedule, "muon")
    muon, adamw = optimisation.optimizers
    assert isinstance(muon, torch.optim.Muon)
    assert [p.shape for group in muon.param_groups for p in group["params"]] == [(6, 4)]
    assert len([p for group in adamw.param_groups for p in group["params"]]) == 3


def test_a_stack_of_matrices_is_trained_as_separate_matrices():
    """Against torch's Muon on separate parameters with the same gradients."""
    torch.manual_seed(0)
    schedule = Schedule(10, 8, 1e-2, 2)
    network = torch.nn.Module()
    network.stack = torch.nn.Parameter(torch.randn(3, 4, 6))
    network.bias = torch.nn.Parameter(torch.randn(3, 1, 6))
    apart = [torch.nn.Parameter(matrix.detach().clone()) for matrix in network.stack]
    start = network.stack.detach().clone()
    optimisation = Optimisation(network, 1e-2, schedule, "muon")
    reference = torch.optim.Muon(apart, lr=1e-2, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        gradient = torch.randn(3, 4, 6)
        network.stack.grad, network.bias.grad = gradient.clone(), torch.randn(3, 1, 6)
        for parameter, part in zip(apart, gradient, strict=True):
            parameter.grad = part.clone()
        reference.param_groups[0]["lr"] = optimisation.schedulers[0].get_last_lr()[0]
        optimisation.step()
        reference.step()
        assert network.stack.grad is None
        # the iteration rounds to bf16, where the CPU has it ours does, too; a step is about the learning rate, 1e-2
        torch.testing.assert_close(network.stack.detach(), torch.stack([p.detach() for p in apart]), rtol=0, atol=1e-3)
    assert (network.stack - start).abs().max() > 1e-3


@pytest.mark.slow  # five processes import torch
def test_every_phase_runs_on_two_processes(tmp_path):
    """By torchrun: ``accelerate launch --cpu --num_processes 2`` starts a single process (seen with 1.15)."""
    phases = ["encoder", "decoder", "fusion", "finetune", "backbone"]
    script = tmp_path / "phases.py"
    script.write_text(
        "import sys\nfrom train import encoder, stage1\n"
        f"base = {smoke(tmp_path)!r}\n"
        "encoder.main(base)\n"
        f"for phase in {phases[1:]!r}:\n    stage1.main([*base, '--phase', phase])\n"
    )
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [sys.executable, *launcher, str(script)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    for phase in phases:
        assert (tmp_path / "smoke" / phase / "checkpoint").is_dir()
    record = json.loads((tmp_path / "smoke" / "finetune" / "run.json").read_text())
    assert record["devices"][0].startswith("2 x CPU")
    assert record["command"].startswith("accelerate launch -m train.stage1")
