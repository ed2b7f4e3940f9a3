"""Runs that go on from weights alone, on another machine."""

import json
import shutil

import pytest
import torch
from conftest import PHASES, same, smoke, weights
from safetensors import safe_open
from safetensors.torch import load_file

import train.engine.optimisation
import train.engine.run
from drorae import AutoencoderDRoRAE, CheckpointError, DRoRAEClassPipeline, DRoRAETextPipeline
from train import assemble, encoder, stage1, stage2
from train.engine.legs import LEG, find_leg, read_leg
from train.engine.optimisation import Optimisation
from train.engine.run_folder import LOG
from train.errors import RunError
from train.presets import PRESETS
from train.settings import Schedule


@pytest.fixture(scope="session")
def legs(runs, tmp_path_factory):
    """The legs of all smoke runs, as one would carry them. Do not change the folder."""
    folder = tmp_path_factory.mktemp("legs")
    for run in ("encoder", *PHASES):
        shutil.copy(runs / "smoke" / run / LEG, folder / f"smoke-{run}.safetensors")
    return folder


def test_a_leg_holds_the_averaged_trained_part_and_nothing_else(runs, legs):
    for phase, part in zip(PHASES, ("decoder", "fusion_module", "decoder_finetuned"), strict=True):
        leg = find_leg(legs, "smoke", phase)
        final = {name.removeprefix(f"{part}."): value for name, value in weights(runs, phase).items()}
        assert (leg.step, leg.steps) == (6, 6)
        assert leg.weights
        for name, value in leg.weights.items():
            torch.testing.assert_close(value, final[name].half().float(), rtol=0, atol=0)
        heads = load_file(next((runs / "smoke" / phase / "checkpoint").glob("discriminator*")))
        assert set(leg.adversary) == set(heads)
        with safe_open(legs / f"smoke-{phase}.safetensors", "pt") as file:
            assert all(name.startswith(("trained.", "adversary.")) for name in file.keys())  # noqa: SIM118
            assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118


def stopped_after_three(monkeypatch, command, arguments):
    """Run a command until its first save."""
    save = train.engine.run.save_state

    def save_and_count(*args):
        if save_and_count.called:
            raise KeyboardInterrupt
        save_and_count.called = True
        save(*args)

    save_and_count.called = False
    monkeypatch.setattr(train.engine.run, "save_state", save_and_count)
    with pytest.raises(KeyboardInterrupt):
        command(arguments)
    monkeypatch.undo()


@pytest.mark.parametrize("phase", PHASES)
def test_a_run_goes_on_from_a_leg_without_anything_else(runs, legs, tmp_path, monkeypatch, capsys, phase):
    """On the other machine there are neither the runs before nor this run's state."""
    first, second, carried = tmp_path / "first", tmp_path / "second", tmp_path / "legs"
    (first / "smoke").mkdir(parents=True)
    for run in ("encoder", *PHASES[: PHASES.index(phase)]):
        (first / "smoke" / run).symlink_to(runs / "smoke" / run)
    stopped_after_three(monkeypatch, stage1.main, smoke(first, phase))
    shutil.copytree(legs, carried)
    shutil.copy(first / "smoke" / phase / LEG, carried / f"smoke-{phase}.safetensors")
    leg = read_leg(carried / f"smoke-{phase}.safetensors")
    assert leg.step == 3

    seen = []
    start = train.engine.optimisation.PlainEMA.__init__

    def noted(self, parameters, **settings):
        start(self, parameters, **settings)
        seen.append([p.detach().clone() for p in parameters])

    monkeypatch.setattr(train.engine.optimisation.PlainEMA, "__init__", noted)
    stage1.main([*smoke(second, phase), "--legs", str(carried)])
    assert "going on from" in capsys.readouterr().out
    named = AutoencoderDRoRAE(**PRESETS["smoke"].model, finetuned_decoder=True)
    part = getattr(named, {"decoder": "decoder", "fusion": "fusion_module", "finetune": "decoder_finetuned"}[phase])
    names = [name for name, _ in part.named_parameters()]
    assert all(torch.equal(value, leg.weights[name]) for name, value in zip(names, seen[0], strict=True))

    rows = [json.loads(line) for line in (second / "smoke" / phase / LOG).read_text().splitlines()]
    whole = [json.loads(line) for line in (runs / "smoke" / phase / LOG).read_text().splitlines()]
    assert [row["step"] for row in rows] == [3, 6]
    assert rows[0]["validation_psnr"] == pytest.approx(whole[0]["validation_psnr"], abs=1e-4)  # carried along
    assert rows[1]["lr"] == whole[1]["lr"]  # the schedule goes on where it was
    assert rows[1]["seconds"] >= rows[0]["seconds"]
    # what it stands on came from the legs too
    made = AutoencoderDRoRAE.from_pretrained(second / "smoke" / phase / "checkpoint").state_dict()
    for run, prefix in (("encoder", "encoder."), ("decoder", "decoder."), ("fusion", "fusion_module.")):
        if ("encoder", *PHASES).index(run) < ("encoder", *PHASES).index(phase):
            before = {n: v.half().float() for n, v in weights(runs, phase).items()}
            assert same(before, {n: v.half().float() for n, v in made.items()}, prefix)


def test_an_encoder_goes_on_from_a_leg(legs, tmp_path, monkeypatch):
    stopped_after_three(monkeypatch, encoder.main, smoke(tmp_path / "first"))
    carried = tmp_path / "legs"
    carried.mkdir()
    shutil.copy(tmp_path / "first" / "smoke" / "encoder" / LEG, carried / "smoke-encoder.safetensors")
    encoder.main([*smoke(tmp_path / "second"), "--legs", str(carried)])
    rows = (tmp_path / "second" / "smoke" / "encoder" / LOG).read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [3, 6]


def test_a_state_goes_before_a_leg(runs, legs, tmp_path, capsys):
    shutil.copytree(runs / "smoke", tmp_path / "smoke")
    shutil.rmtree(tmp_path / "smoke" / "fusion" / "checkpoint")
    stage1.main([*smoke(tmp_path, "fusion"), "--legs", str(legs)])
    assert "continuing after step 6 of 6" in capsys.readouterr().out
    assert same(weights(runs, "fusion"), weights(tmp_path, "fusion"))


def test_the_rates_of_a_run_that_goes_on_are_those_it_would_have_had():
    schedule = Schedule(20, 1, 0.1, 4, optimizer="muon")
    networks = [torch.nn.Linear(3, 3) for _ in range(2)]
    through, skipped = (Optimisation(network, 0.1, schedule, "muon") for network in networks)
    for _ in range(7):
        networks[0].weight.grad, networks[0].bias.grad = torch.ones(3, 3), torch.ones(3)
        through.step()
    skipped.skip(7)
    for _ in range(5):
        rates = [[g["lr"] for o in each.optimizers for g in o.param_groups] for each in (through, skipped)]
        assert rates[0] == rates[1]
        for network, each in zip(networks, (through, skipped), strict=True):
            network.weight.grad, network.bias.grad = torch.ones(3, 3), torch.ones(3)
            each.step()


@pytest.mark.parametrize("content", [b"", b"no safetensors"])
def test_a_damaged_leg_is_one_sentence(tmp_path, content):
    (tmp_path / "smoke-decoder.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="is not a leg of a run"):
        find_leg(tmp_path, "smoke", "decoder")


def test_weights_that_are_not_a_leg_and_legs_of_another_run(runs, legs, tmp_path):
    plain = next((runs / "smoke" / "decoder" / "checkpoint").glob("*model.safetensors"))
    with pytest.raises(CheckpointError, match="is not a leg of a run"):
        read_leg(plain)
    for run in ("encoder", "decoder"):
        shutil.copy(legs / "smoke-encoder.safetensors", tmp_path / f"smoke-{run}.safetensors")
    with pytest.raises(CheckpointError, match="does not fit this preset"):
        stage1.main([*smoke(tmp_path / "out", "decoder"), "--legs", str(tmp_path)])


def test_without_run_and_leg_it_says_what_is_missing(tmp_path):
    with pytest.raises(CheckpointError, match=r"is not there .nor is there a leg in .*run that first"):
        stage1.main([*smoke(tmp_path, "fusion"), "--legs", str(tmp_path)])


@pytest.mark.parametrize("run", PHASES)
def test_legs_are_put_together_to_a_checkpoint(runs, legs, tmp_path, capsys, run):
    to = tmp_path / "checkpoint"
    arguments = ["--preset", "smoke", "--run", run, "--legs", str(legs), "--out", str(tmp_path), "--to", str(to)]
    assemble.main(arguments)
    printed = capsys.readouterr().out
    assert f"{run}: step 6 of 6" in printed
    made, whole = AutoencoderDRoRAE.from_pretrained(to).state_dict(), weights(runs, run)
    assert set(made) == set(whole)
    for name, value in whole.items():
        torch.testing.assert_close(made[name], value.half().float(), rtol=0, atol=0)
    with pytest.raises(RunError, match="is there already"):
        assemble.main(arguments)


@pytest.mark.parametrize("run", ["class", "text"])
def test_the_leg_of_a_denoiser_becomes_a_pipeline_of_its_tokenizer(generators, tmp_path, capsys, run):
    runs, to = generators / "smoke", tmp_path / "pipeline"
    if run == "text":
        shutil.copytree(runs / "finetune", tmp_path / "smoke" / "finetune")
        stage2.main([*smoke(tmp_path), "--condition", "text"])
        runs = tmp_path / "smoke"
    made_by_training = runs / run
    shutil.copy(made_by_training / "leg.safetensors", tmp_path / f"smoke-{run}.safetensors")
    tokenizer = str(generators / "smoke" / "finetune" / "checkpoint")
    places = ["--legs", str(tmp_path), "--tokenizer", tokenizer, "--data", "generated", "--to", str(to)]
    assemble.main(["--preset", "smoke", "--run", run, *places])
    assert f"{run}: step 6 of 6" in capsys.readouterr().out
    kind = DRoRAEClassPipeline if run == "class" else DRoRAETextPipeline
    made, trained = (kind.from_pretrained(folder) for folder in (to, made_by_training / "checkpoint"))
    assert made.config.autoencoder_name == tokenizer
    assert made.config.get("labels") == trained.config.get("labels")
    for name, value in trained.denoiser.state_dict().items():
        torch.testing.assert_close(made.denoiser.state_dict()[name], value.half().float(), rtol=0, atol=0)


def test_a_denoiser_without_a_leg_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no smoke-class.safetensors; copy the leg there"):
        assemble.main(["--preset", "smoke", "--run", "class", "--legs", str(tmp_path), "--to", str(tmp_path / "to")])
