"""rFID and gFID while a run trains: right, of the averaged weights, and without a trace in what is trained."""

import json
import random
import shutil

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import LABELS, network, same, smoke, weights
from dying import TwoNumbers, in_two_processes, measured
from safetensors.torch import load_file
from test_recipe import Nothing, Toy, schedule
from torch import nn

import train.engine.run
from drorae import AutoencoderDRoRAE, DRoRAEClassPipeline
from train import stage1, stage2
from train.data.held_out import load_held_out
from train.engine.observation import was_logged
from train.engine.random_state import unchanged_random_state
from train.engine.run import fit
from train.engine.run_folder import CHECKPOINT, LOG
from train.errors import DataError, RunError
from train.measure import inception
from train.measure.while_training import ReconstructionDistance
from train.tasks.conditions import ClassCondition, TextCondition


class StandIn(TwoNumbers):
    """It draws from every random state, which a training must not notice."""

    def __init__(self):
        super().__init__()
        self.noise = nn.Linear(3, 3)
        np.random.random()

    def forward(self, images):
        torch.rand(3)
        np.random.random()
        return super().forward(images)


@pytest.fixture
def stand_in(monkeypatch):
    monkeypatch.setattr(inception, "load_inception", lambda folder=None: StandIn())
    monkeypatch.setattr(inception, "NUM_FEATURES", 2)


def two_numbers(pictures: torch.Tensor) -> torch.Tensor:
    return StandIn()((pictures.clamp(0, 1) * 255).round().to(torch.uint8))


def frechet(a: torch.Tensor, b: torch.Tensor) -> float:
    """Of features (n, 2) and (m, 2), by the formula."""
    covariances = [part.T.cov() for part in (a, b)]
    root = torch.linalg.eigvals(covariances[0] @ covariances[1]).real.clamp(min=0).sqrt().sum()
    return ((a.mean(0) - b.mean(0)).square().sum() + sum(c.trace() for c in covariances) - 2 * root).item()


def rows_of(folder, name) -> dict[int, float]:
    """Step to number, as logged."""
    rows = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    assert all("seconds" in row for row in rows)
    return {row["step"]: row[name] for row in rows if name in row}


def after(runs, out, *before):
    (out / "smoke").mkdir(parents=True)
    for name in before:
        (out / "smoke" / name).symlink_to(runs / "smoke" / name)
    return out


# ---- the loop -----------------------------------------------------------------------------------------------------


class Drawing(Toy):
    """A toy whose gradient is drawn from torch's random state, so that whoever draws from it changes the result."""

    def loss(self, batch, step):
        loss = torch.rand(()) * self.trainable.w
        return loss, {"loss": loss.detach()}


class Noisy:
    """A measure that draws from every random state, and sees the weights it is given."""

    name, every = "w", 2

    def __init__(self):
        self.seen = []

    def measure(self, task):
        torch.rand(7)
        np.random.random()
        random.random()
        self.seen.append(task.trainable.w.item())
        return {"w": self.seen[-1]}


def trained(folder, periodic) -> Drawing:
    toy = Drawing([])
    fit(toy, Nothing(), schedule(), folder, Accelerator(cpu=True), periodic=periodic)
    return toy


def test_a_measure_leaves_no_trace(tmp_path):
    """A training that draws random numbers ends at the same weight, to the bit, and the measure saw the averages."""
    noisy = Noisy()
    states = []
    for name, periodic in (("plain", None), ("measured", noisy)):
        toy = trained(tmp_path / name, periodic)
        states.append((toy.trainable.w.item(), torch.get_rng_state(), random.getstate(), np.random.get_state()[1]))
    (w, *rest), (again, *others) = states
    assert w == again
    assert torch.equal(rest[0], others[0])
    assert rest[1] == others[1]
    assert np.array_equal(rest[2], others[2])
    assert list(rows_of(tmp_path / "measured", "validation_w")) == [2, 4, 6, 8, 9]
    exported = load_file(tmp_path / "measured" / CHECKPOINT / "w.safetensors")["w"].item()
    assert noisy.seen[-1] == exported != again


def test_random_states_are_restored_also_after_an_error():
    torch.manual_seed(1)
    before = (random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state())

    def fail():
        with unchanged_random_state():
            random.random()
            np.random.random()
            torch.rand(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert random.getstate() == before[0]
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert torch.equal(torch.get_rng_state(), before[2])


def test_what_was_logged(tmp_path):
    assert not was_logged(tmp_path, 2, "rfid")
    (tmp_path / LOG).write_text('{"step": 2, "loss": 1}\n{"step": 2, "rfid": 3}\n{"step": 4, "loss": 1}\n')
    assert was_logged(tmp_path, 2, "rfid")
    assert not was_logged(tmp_path, 4, "rfid")


# ---- stage 1 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["fusion", "finetune"])
def test_rfid_changes_no_weight_and_is_that_of_the_checkpoint(runs, tmp_path, stand_in, phase):
    """With and without: weights, heads and the averages of the states are equal to the bit."""
    after(runs, tmp_path, "decoder", *(["fusion"] if phase == "finetune" else []))
    stage1.main([*smoke(tmp_path, phase), "--rfid-every", "2", "--rfid-photos", "40"])
    folder = tmp_path / "smoke" / phase
    assert same(weights(runs, phase), weights(tmp_path, phase))
    plain = runs / "smoke" / phase
    for name in ("model.safetensors", "model_1.safetensors"):
        assert (folder / "state" / name).read_bytes() == (plain / "state" / name).read_bytes()
    found = rows_of(folder, "validation_rfid")
    assert list(found) == [2, 4, 6]
    assert set(rows_of(folder, "validation_rfid_photos").values()) == {40}
    assert list(rows_of(folder, "validation_psnr")) == [2, 3, 4, 6]
    assert list(rows_of(folder, "l1")) == [2, 3, 4, 6]

    photos = load_held_out("generated", "validation", 32, 40, "adm")
    images = torch.cat(list(photos.batches(40)))
    model = AutoencoderDRoRAE.from_pretrained(folder / CHECKPOINT)  # the averaged weights
    with torch.no_grad():
        decoder = "finetuned" if phase == "finetune" else "original"
        output = model.decode(model.encode(images).latent, decoder=decoder).sample
    assert found[6] == pytest.approx(frechet(two_numbers(images), two_numbers(output)), rel=1e-3)


def test_a_measure_that_a_kill_interrupted_is_taken_when_the_run_goes_on(runs, tmp_path, stand_in, monkeypatch):
    """Stopped in the midst of the measure at step 4, whose state is there."""
    after(runs, tmp_path, "decoder")
    measure, calls = ReconstructionDistance.measure, []

    def interrupted(self, task):
        calls.append(task.trainable.training)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measure(self, task)

    monkeypatch.setattr(ReconstructionDistance, "measure", interrupted)
    command = [*smoke(tmp_path, "fusion"), "--log", "--rfid-every", "2"]
    with pytest.raises(KeyboardInterrupt):
        stage1.main(command)
    folder = tmp_path / "smoke" / "fusion"
    assert list(rows_of(folder, "validation_rfid")) == [2]
    stage1.main(command)
    assert list(rows_of(folder, "validation_rfid")) == [2, 4, 6]
    assert calls == [False] * 4  # none was taken twice, all with the network in eval mode
    assert same(weights(runs, "fusion"), weights(tmp_path, "fusion"))


def test_a_run_may_go_on_with_rfid_and_end_without(runs, tmp_path, stand_in, monkeypatch):
    after(runs, tmp_path, "decoder")
    save = train.engine.run.save_state

    def save_and_stop(*args):
        save(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(train.engine.run, "save_state", save_and_stop)
    for options in ([], ["--rfid-every", "5"]):
        with pytest.raises(KeyboardInterrupt):
            stage1.main([*smoke(tmp_path, "fusion"), "--log", *options])
    monkeypatch.undo()
    stage1.main([*smoke(tmp_path, "fusion"), "--log"])
    assert same(weights(runs, "fusion"), weights(tmp_path, "fusion"))


def test_what_is_missing_is_said_before_anything_is_trained(runs, tmp_path, monkeypatch):
    after(runs, tmp_path, "decoder")
    command = [*smoke(tmp_path, "fusion"), "--log", "--rfid-every", "2"]
    monkeypatch.setattr(train.engine.run, "set_seed", None)
    with pytest.raises(DataError, match="needs more than 2048 pictures, and there are 64"):
        stage1.main([*command, "--weights", str(tmp_path)])
    monkeypatch.setattr(inception, "NUM_FEATURES", 2)

    def missing(*_):
        raise ModuleNotFoundError

    monkeypatch.setattr(inception, "NoTrainInceptionV3", missing)
    with pytest.raises(DataError, match="pip install torch-fidelity"):
        stage1.main(command)

    def offline(*_):
        raise OSError("no network")

    monkeypatch.setattr(inception, "NoTrainInceptionV3", offline)
    with pytest.raises(DataError, match=r"could not be fetched \(no network\); put weights-inception-2015-12-05"):
        stage1.main(command)
    with pytest.raises(SystemExit):
        stage1.main([*smoke(tmp_path, "fusion"), "--rfid-every", "0"])


def test_own_weights_are_taken_and_pictures_resized_as_tensorflow_did(tmp_path, monkeypatch):
    asked = []

    class Network(nn.Module):
        use_antialias = True

        def __init__(self, *arguments):
            super().__init__()
            asked.append(arguments)

    monkeypatch.setattr(inception, "NoTrainInceptionV3", Network)
    assert inception.load_inception(tmp_path).use_antialias is False
    file = tmp_path / inception.WEIGHTS
    file.write_bytes(b"")
    inception.load_inception(tmp_path)
    assert asked == [("inception-v3-compat", ["2048"], None), ("inception-v3-compat", ["2048"], str(file))]


# ---- stage 2 ------------------------------------------------------------------------------------------------------


def latents_of(generators, out):
    """The finished tokenizer and its cached latents, for a denoiser that is trained again."""
    after(generators, out, "finetune")
    shutil.copytree(generators / "latents", out / "latents")
    return [*smoke(out), "--condition", "class"]


def denoiser(out) -> dict[str, torch.Tensor]:
    return load_file(next((out / "smoke" / "class" / "checkpoint" / "denoiser").glob("*.safetensors")))


def test_gfid_changes_no_weight_and_is_that_of_the_checkpoints_samples(generators, tmp_path, stand_in):
    """35 samples in two batches, seeds 0 to 34, classes in turns, 50 steps, against all held-out pictures."""
    stage2.main([*latents_of(generators, tmp_path), "--gfid-every", "4", "--gfid-samples", "35"])
    assert same(denoiser(generators), denoiser(tmp_path))
    folder = tmp_path / "smoke" / "class"
    found = rows_of(folder, "validation_gfid")
    assert list(found) == [4, 6]
    pipeline = DRoRAEClassPipeline.from_pretrained(folder / CHECKPOINT)  # the averaged weights
    labels, seeds = [number % 2 for number in range(35)], list(range(35))
    made = pipeline(labels, num_inference_steps=50, guidance="none", seed=seeds, output_type="pt").images
    images = torch.cat(list(load_held_out("generated", "validation", 32, None, "adm").batches(64)))
    assert found[6] == pytest.approx(frechet(two_numbers(images), two_numbers(made)), rel=2e-2)


def test_classes_take_turns():
    turns = ClassCondition(network(1), LABELS).turns(range(2, 6), None)
    assert turns["class_labels"].tolist() == [2, 0, 1, 2]


def test_texts_of_the_photos_take_turns(text_pipeline):
    """Samples of a text-to-image generator, against the photos whose captions they have."""
    condition = TextCondition(
        text_pipeline.denoiser, text_pipeline.tokenizer, text_pipeline.text_encoder, 8, None, ["x"], trained=False
    )
    turns = condition.turns(range(1, 4), ["a red ball", "two dogs"])
    expected = condition.of(["two dogs", "a red ball", "two dogs"], torch.ones(3, dtype=torch.bool))
    assert turns.keys() == expected.keys()
    assert all(torch.equal(turns[name], expected[name]) for name in turns)


def test_statistics_stand_in_for_photos(generators, tmp_path, stand_in):
    np.savez(tmp_path / "r.npz", mu=np.array([0.5, 0.2]), sigma=np.diag([0.01, 0.02]))
    command = latents_of(generators, tmp_path / "runs")
    stage2.main(
        [*command, "--log", "--gfid-every", "6", "--gfid-samples", "8", "--gfid-reference", str(tmp_path / "r.npz")]
    )
    assert list(rows_of(tmp_path / "runs" / "smoke" / "class", "validation_gfid")) == [6]
    np.savez(tmp_path / "p.npz", arr_0=np.zeros((4, 8, 8, 3), np.uint8))
    again = [
        *smoke(tmp_path / "other"),
        "--condition",
        "class",
        "--tokenizer",
        str(generators / "smoke" / "finetune" / "checkpoint"),
    ]
    with pytest.raises(DataError, match=r"--gfid-reference .*p\.npz: it has pictures and no 'mu'"):
        stage2.main([*again, "--gfid-every", "6", "--gfid-reference", str(tmp_path / "p.npz")])
    with pytest.raises(DataError, match=r"--gfid-reference .*none\.npz: it is not an npz file"):
        stage2.main([*again, "--gfid-every", "6", "--gfid-reference", str(tmp_path / "none.npz")])
    for options in (["--condition", "class"], ["--condition", "text", "--gfid-every", "6"]):
        with pytest.raises(RunError, match="is for --condition class with --gfid-every"):
            stage2.main([*smoke(tmp_path / "other"), *options, "--gfid-reference", str(tmp_path / "r.npz")])


@pytest.mark.slow
def test_the_main_process_measures_and_the_other_waits(runs, tmp_path):
    after(runs, tmp_path, "decoder")
    command = [*smoke(tmp_path, "fusion"), "--log", "--rfid-every", "3"]
    assert in_two_processes(measured, command) == [0, 0]
    found = rows_of(tmp_path / "smoke" / "fusion", "validation_rfid")
    assert list(found) == [3, 6]
