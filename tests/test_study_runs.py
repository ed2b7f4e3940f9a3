"""The study's runs: real ones of the smallest base, killed, resumed, measured again."""

import dataclasses
import json
import shutil

import pytest
import timm
import torch
from conftest import PHOTOS
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

import train.engine.run
import train.experiments.running
from train import evaluate, stage1, study
from train.data.batches import Batch
from train.engine.session import add_data_arguments, add_run_arguments
from train.errors import RunError
from train.experiments import generation
from train.experiments.experiment import FINETUNE, JOINT
from train.experiments.generation import GenerationMeasure
from train.experiments.rows import BASES, rows_of
from train.experiments.running import RESULT, TRAINED, Study, StudyTask, folder_of, hash_weights
from train.experiments.tables import read_table
from train.measure import inception
from train.presets import PRESETS

BASE = BASES["smoke"][0].name


def options(out, *more) -> list[str]:
    data = ["--data", "generated", "--validation", "generated", "--limit", "12"]
    return ["--base", "smoke", *data, "--out", str(out), "--to", str(out / "tables"), *more]


def experiment(name, table="generation", seed=0):
    return next(row for row in rows_of(table, "smoke") if row.name == name).runs[seed]


@pytest.fixture(scope="session")
def studied(tmp_path_factory):
    """Two seeds of the default row, RAE, and one of phase 3, by the command. Do not change it."""
    out = tmp_path_factory.mktemp("study")
    study.main(["rules", *options(out, "--rows", "rae", "default", "--seeds", "2")])
    study.main(["rules", *options(out, "--rows", "three-phases", "--seeds", "1")])
    return out


@pytest.fixture
def copied(studied, tmp_path):
    shutil.copytree(studied, tmp_path / "study")
    return tmp_path / "study"


def test_rows_are_trained_and_measured(studied):
    rows = read_table(studied / "tables", "rules")
    assert [(row["row"], row["seed"]) for row in rows] == [
        ("rae", None),
        ("default", 0),
        ("default", 1),
        ("beta-0.2", 0),  # another name of the same runs, which are trained once
        ("beta-0.2", 1),
        ("three-phases", 0),
    ]
    assert len({row["hash"] for row in rows}) == 4
    assert {folder.name for folder in (studied / BASE).iterdir()} == {"decoder", *(row["hash"] for row in rows)}
    psnr = {(row["row"], row["seed"]): row["psnr"] for row in rows}
    assert psnr["default", 0] == psnr["beta-0.2", 0] != psnr["default", 1]
    assert psnr["default", 0] != psnr["rae", None] != psnr["three-phases", 0]
    fusion = rows_of("rules", "smoke")[1].experiment.fusion
    assert rows[1]["parameters"] == 3 * (2 * 48 * fusion.width + fusion.width + 48 + 2 * fusion.width) + 48 * 9 + 3
    assert {row["photos"] for row in rows} == {12}
    assert len({(row["encoder"], row["decoder"]) for row in rows}) == 1


def test_the_numbers_are_those_that_the_evaluation_of_a_checkpoint_finds(studied, tmp_path):
    """RAE is a plain checkpoint: train.evaluate measures the same."""
    row = read_table(studied / "tables", "rules")[0]
    report = evaluate.measure_checkpoint(studied / BASE / "decoder" / "checkpoint", "generated", 12, metrics=["psnr"])
    assert row["psnr"] == pytest.approx(report["routes"]["rae"]["psnr"], abs=1e-4)
    assert row["effective_rank"] == pytest.approx(report["latent"]["effective_rank_base"], rel=1e-4)


def test_a_run_keeps_its_numbers_and_its_trained_part_alone(studied):
    for name in ("default", "three-phases"):
        folder = folder_of(studied, experiment(name))
        kept = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
        assert [name for name in kept if name not in ("lock", "log.jsonl", "run.json")] == [
            f"checkpoint/{TRAINED}",
            RESULT,
        ]


def test_what_is_there_is_not_trained_again(copied, monkeypatch, capsys):
    monkeypatch.setattr(train.experiments.running, "train", None)
    monkeypatch.setattr(Study, "measure", None)
    shutil.rmtree(copied / "tables")
    study.main(["rules", *options(copied, "--rows", "rae", "default", "beta-0.2", "--seeds", "2")])
    assert capsys.readouterr().out.count("psnr") == 3
    assert len(read_table(copied / "tables", "rules")) == 6  # those that this call leaves out, too


def test_other_photos_are_measured_again_without_training(copied, monkeypatch):
    monkeypatch.setattr(train.experiments.running, "train", None)
    study.main(["rules", *options(copied, "--rows", "rae", "--limit", "5")])
    assert json.loads((folder_of(copied, experiment("rae")) / RESULT).read_text())["photos"] == 5
    rows = read_table(copied / "tables", "rules")
    assert [(row["row"], row["photos"]) for row in rows] == [("rae", 5)]  # the others wait for their turn


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(copied, monkeypatch, capsys):
    run = folder_of(copied, experiment("default", seed=1))
    before = load_file(run / "checkpoint" / TRAINED)
    shutil.rmtree(run)
    arguments = ["rules", *options(copied, "--rows", "default", "--seeds", "2")]
    save = train.engine.run.save_state

    def save_and_stop(*args):
        save(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train.engine.run, "save_state", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            study.main(arguments)
    assert not (run / "checkpoint").exists()
    study.main(arguments)
    assert "continuing after step 3 of 6" in capsys.readouterr().out
    after = load_file(run / "checkpoint" / TRAINED)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_run_that_was_stopped_before_it_was_measured_is_measured(copied, monkeypatch):
    file = folder_of(copied, experiment("default")) / RESULT
    before = json.loads(file.read_text())["numbers"]
    file.unlink()
    monkeypatch.setattr(train.experiments.running, "train", None)
    study.main(["rules", *options(copied, "--rows", "default", "--seeds", "1")])
    assert json.loads(file.read_text())["numbers"] == before


def test_another_phase_1_is_refused(copied):
    file = copied / BASE / "decoder" / "checkpoint" / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    name = next(name for name in state if name.startswith("decoder."))
    save_file({**state, name: state[name] + 1}, file)
    with pytest.raises(RunError, match="trained upon another phase 1"):
        study.main(["rules", *options(copied, "--rows", "default", "--seeds", "1")])


def test_phase_1_may_come_from_a_leg(studied, tmp_path, capsys):
    (tmp_path / "legs").mkdir()
    shutil.copy(studied / BASE / "decoder" / "leg.safetensors", tmp_path / "legs" / f"{BASE}-decoder.safetensors")
    study.main(["rules", *options(tmp_path / "out", "--rows", "rae", "--legs", str(tmp_path / "legs"))])
    assert "going on from" in capsys.readouterr().out
    rows = [read_table(place / "tables", "rules")[0] for place in (studied, tmp_path / "out")]
    assert rows[0]["psnr"] == pytest.approx(rows[1]["psnr"], abs=0.02)  # a leg is in half precision


def task(studied, name, seed=0) -> StudyTask:
    one = experiment(name, seed=seed)
    return study_of(studied).build(one, one.row(), None)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("default", {"fusion_module"}),
        ("budgets", {"fusion_module"}),
        ("rae-retrained", {"decoder"}),
        ("mean", {"decoder"}),
        ("rae-other-seeds", {"decoder"}),
        ("three-phases", {"decoder_finetuned"}),
        ("joint", {"fusion_module", "decoder"}),
    ],
)
def test_what_trains_is_what_the_row_says(studied, name, parts):
    one = task(studied, name)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    loss, _ = one.loss(Batch(images, torch.arange(2), []), 0)
    loss.backward()
    felt = {key.split(".")[0] for key, p in one.model.named_parameters() if p.grad is not None and p.grad.any()}
    assert felt == parts
    trained = {id(p) for p in one.trainable.parameters()}
    assert {key.split(".")[0] for key, p in one.model.named_parameters() if id(p) in trained} == parts


def test_phase_3_stands_on_the_fusion_of_its_seed(studied):
    one = task(studied, "three-phases")
    fusion = load_file(folder_of(studied, experiment("default")) / "checkpoint" / TRAINED)
    assert all(torch.equal(value, fusion[name]) for name, value in one.model.fusion_module.state_dict().items())
    assert experiment("three-phases").phase == FINETUNE
    assert hash_weights(one.model.decoder) == hash_weights(one.model.decoder_finetuned)


def test_seeds_start_from_one_decoder_and_their_own_fusion(studied):
    one, other, again = (task(studied, "joint", seed) for seed in (0, 1, 0))
    assert experiment("joint").phase == JOINT
    assert hash_weights(one.model.decoder) == hash_weights(other.model.decoder)
    assert hash_weights(one.model.encoder) == hash_weights(other.model.encoder)
    assert hash_weights(one.model.fusion_module) == hash_weights(again.model.fusion_module)
    assert hash_weights(one.model.fusion_module) != hash_weights(other.model.fusion_module)


class StandInInception(nn.Module):
    """Two numbers of a picture in the place of Inception's 2,048; it takes bytes, as Inception does."""

    def forward(self, images):
        assert images.dtype == torch.uint8
        values = images.double() / 255
        return torch.stack([values.mean((1, 2, 3)), values.std((1, 2, 3))], 1)


def test_rfid_is_the_frechet_distance_of_inceptions_features(copied, monkeypatch):
    """With two features in the place of Inception's, by the closed form; nothing is trained again."""
    monkeypatch.setattr(inception, "load_inception", lambda weights: StandInInception())
    monkeypatch.setitem(evaluate.FEATURES, "rfid", 2)
    monkeypatch.setattr(train.experiments.running, "train", None)
    seen = []
    update = train.experiments.running.StudyMeasure.update

    def spy(self, images, outputs, rounding):
        outputs = list(outputs)
        seen.append((images, outputs[0][1]))
        update(self, images, outputs, rounding)

    monkeypatch.setattr(train.experiments.running.StudyMeasure, "update", spy)
    study.main(["rules", *options(copied, "--rows", "rae", "default", "--seeds", "1", "--rfid")])
    study.main(["rules", *options(copied, "--rows", "rae", "--seeds", "1")])  # nothing is measured again, nothing lost
    assert len(seen) == 2
    # the originals' features are those of the first run, and both runs are measured by themselves
    for (images, output), name in zip(seen, ("rae", "default"), strict=True):
        features = [
            StandInInception()((picture.clamp(0, 1) * 255).round().to(torch.uint8)) for picture in (images, output)
        ]
        mean = [part.mean(0) for part in features]
        covariance = [part.T.cov() for part in features]
        root = torch.linalg.eigvals(covariance[0] @ covariance[1]).real.clamp(min=0).sqrt().sum()
        expected = (mean[0] - mean[1]).square().sum() + sum(c.trace() for c in covariance) - 2 * root
        result = json.loads((folder_of(copied, experiment(name)) / RESULT).read_text())
        assert result["numbers"]["rfid"] == pytest.approx(expected.item(), rel=1e-3)


def test_a_dry_run_lists_hashes_what_is_done_and_the_time(studied, capsys):
    study.main(
        ["rules", *options(studied, "--rows", "default", "softmax-1", "--seeds", "2"), "--dry-run", "--rate", "24"]
    )
    lines = capsys.readouterr().out.splitlines()
    for seed in (0, 1):
        assert f"{experiment('default', seed=seed).hash}  done   {BASE} default, seed {seed}, 24 pictures" in lines
        assert f"{experiment('softmax-1', seed=seed).hash}  to do  {BASE} softmax-1, seed {seed}, 24 pictures" in lines
    assert lines[-1].startswith("finished: 2 of 4 runs; about 0.0 h for the others")


def test_time_is_pictures_over_the_rate(capsys, tmp_path):
    study.main(["scaling", "--out", str(tmp_path), "--dry-run", "--rate", "10"])
    pictures = 7500 * (7 + 3) * 3 + 4 * 22500
    assert f"about {pictures / 10 / 3600:.1f} h" in capsys.readouterr().out.splitlines()[-1]
    study.main(["scaling", "--out", str(tmp_path), "--dry-run"])
    assert "give --rate" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["rules", "--rows", "width-7"], "there is no such row; they are rae, default, beta-0.1")],
)
def test_a_row_that_is_not_there_is_said(arguments, said, tmp_path):
    with pytest.raises(RunError, match=said):
        study.main([*arguments, *options(tmp_path)])


# ---- latents and decoders -----------------------------------------------------------------------------------------


class StandInJudge(nn.Module):
    """Two numbers of a picture in the place of MobileNetV2's 1,280, and no classes."""

    def __init__(self, _):
        super().__init__()

    def forward(self, images):
        return torch.stack([images.mean((1, 2, 3)), images.std((1, 2, 3))], 1).double(), None


@pytest.fixture(scope="session")
def generated(studied, tmp_path_factory):
    """The table of latents and decoders, with a judge of two features, by the command. Do not change it.

    The second seed of the default row, which no such judge has seen, is not in it.
    """
    out = tmp_path_factory.mktemp("generated") / "study"
    shutil.copytree(studied, out)
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch)
        names = ["rae", "default", "three-phases", "rae-retrained", "rae-other-seeds"]
        study.main(["generation", *options(out, "--rows", *names, "--seeds", "1", "--weights", str(weights(out)))])
    return out


def weights(out):
    folder = out / "weights"
    folder.mkdir(exist_ok=True)
    (folder / evaluate.MOBILENET).touch()
    return folder


def stand_in(patch):
    patch.setattr(evaluate, "MobileNetV2", StandInJudge)
    patch.setitem(evaluate.FEATURES, "fd-mobilenetv2", 2)


def test_latents_and_decoders_are_measured(generated):
    rows = {(row["row"], row["seed"]): row for row in read_table(generated / "tables", "generation")}
    again = [("rae-other-seeds", seed) for seed in (1, 2)]
    assert set(rows) == {
        ("rae", None), ("default", 0), ("beta-0.2", 0), ("three-phases", 0),
        ("rae-retrained", 0), *again,
    }  # fmt: skip
    rae, default = rows["rae", None], rows["default", 0]
    for name in generation.OF_LATENT:
        assert rae[name] is not None
        assert rae[name] == rows["rae-retrained", 0][name] == rows[again[0]][name], name  # one latent
        assert default[name] == rows["three-phases", 0][name], name
    assert rae["probe"] != default["probe"]
    assert rae["viv"] != default["viv"]
    decoders = [rows["rae", None], rows["rae-retrained", 0], rows[again[0]], rows[again[1]]]
    assert len({row["samples_fd"] for row in decoders}) == 4
    assert {row["samples"] for row in decoders} == {12}
    assert len({row["sampler"] for row in decoders}) == 1
    for row in decoders[1:]:
        assert row["samples_difference"] == pytest.approx(row["samples_fd"] - rae["samples_fd"])
        assert row["samples_difference_low"] < row["samples_difference"] < row["samples_difference_high"]
        assert row["rebuilt_difference"] == pytest.approx(row["fd-mobilenetv2"] - rae["fd-mobilenetv2"], rel=1e-3)
    assert default["samples_fd"] is None  # its decoder paints another latent


def test_all_decoders_paint_the_same_samples(generated, monkeypatch):
    """The distance is that of the pictures which the stored latents give, by the closed form for two features."""
    stand_in(monkeypatch)
    sampler = folder_of(generated, generation_of(generated).sampler(BASE))
    kept = load_file(sampler / generation.SAMPLES)
    assert kept["latents"].shape == (12, 48, 4, 4)
    assert kept["labels"].tolist() == [0, 1] * 6
    tokens = kept["latents"].float().flatten(2).mT
    for name, seed in (("rae", 0), ("rae-other-seeds", 0), ("rae-other-seeds", 1)):
        one = experiment(name, seed=seed)
        made = study_of(generated).load(one)
        with torch.no_grad():
            pictures = (made.paint(tokens, (4, 4)).clamp(0, 1) * 255).round() / 255
        photos = torch.cat(list(study_of(generated).held_out(BASE).batches(12)))
        features = [StandInJudge(None)((p * 255).round() / 255)[0] for p in (photos, pictures)]
        covariance = [part.T.cov() for part in features]
        root = torch.linalg.eigvals(covariance[0] @ covariance[1]).real.clamp(min=0).sqrt().sum()
        expected = (features[0].mean(0) - features[1].mean(0)).square().sum()
        expected = expected + sum(c.trace() for c in covariance) - 2 * root
        content = json.loads((folder_of(generated, one) / generation.SAMPLES_FILE).read_text())
        assert content["numbers"]["samples_fd"] == pytest.approx(expected.item(), rel=1e-4)


def test_samples_follow_from_the_sampler_and_their_seeds(generated):
    measured = generation_of(generated)
    file = folder_of(generated, measured.sampler(BASE)) / generation.SAMPLES
    before = load_file(file)["latents"]
    file.unlink()
    again, _ = measured.samples(BASE)
    torch.testing.assert_close(again, before.float(), atol=2e-3, rtol=2e-3)


def test_what_was_measured_is_not_measured_again(generated, monkeypatch, capsys):
    stand_in(monkeypatch)
    for name in ("probe", "samples", "features"):
        monkeypatch.setattr(GenerationMeasure, name, None)
    monkeypatch.setattr(train.experiments.running, "train", None)
    monkeypatch.setattr(generation, "train", None)
    names = ["--rows", "rae", "rae-other-seeds", "--seeds", "1"]
    study.main(["generation", *options(generated, *names, "--weights", str(weights(generated)))])
    assert "samples_fd" in capsys.readouterr().out


def test_another_probe_is_measured_again(generated, tmp_path, monkeypatch):
    shutil.copytree(generated, tmp_path / "study")
    row = PRESETS[BASE].stage2["class-guide"]
    row = dataclasses.replace(row, schedule=dataclasses.replace(row.schedule, lr=3 * row.schedule.lr))
    monkeypatch.setitem(PRESETS[BASE].stage2, "class-guide", row)
    study.main(["generation", *options(tmp_path / "study", "--rows", "rae", "--seeds", "1")])
    file = folder_of(tmp_path / "study", experiment("rae")) / generation.LATENT_FILE
    before = folder_of(generated, experiment("rae")) / generation.LATENT_FILE
    contents = [json.loads(one.read_text()) for one in (before, file)]
    assert contents[0]["protocol"]["probe_recipe"] != contents[1]["protocol"]["probe_recipe"]
    assert contents[0]["numbers"]["probe"] != contents[1]["numbers"]["probe"]
    assert contents[0]["numbers"]["viv"] == contents[1]["numbers"]["viv"]


def test_another_phase_1_begins_as_phase_1_does(studied):
    """A decoder drawn from the seed after the frozen encoder, as train.stage1 draws it."""
    preset = PRESETS[BASE]
    torch.manual_seed(preset.stage1["decoder"].schedule.seed)
    start = stage1.start_model(preset, preset.stage1["decoder"], studied, None)
    one = study_of(studied)
    seeds = [one.build(experiment("rae-other-seeds", seed=seed), preset.stage1["decoder"], None) for seed in (0, 1)]
    hashes = [hash_weights(made.model.decoder) for made in seeds]
    assert len({*hashes, hash_weights(start.decoder), hash_weights(one.phase1(BASE).decoder)}) == 4
    assert {hash_weights(made.model.encoder) for made in seeds} == {hash_weights(start.encoder)}
    torch.manual_seed(experiment("rae-other-seeds").seed)
    other = stage1.start_model(preset, preset.stage1["decoder"], studied, None)
    assert hashes[0] == hash_weights(other.decoder)


def test_data_without_classes_cannot_train_denoisers(copied, tmp_path):
    (tmp_path / "mine" / "train").mkdir(parents=True)
    for number in range(2):
        Image.new("RGB", (32, 32), (number, 0, 0)).save(tmp_path / "mine" / "train" / f"{number}.png")
    measured = generation_of(copied)
    measured.study.args.data = [str(tmp_path / "mine")]
    with pytest.raises(RunError, match="no source has class numbers"):
        measured.measure(experiment("rae"))
    measured.study.args.data = [str(tmp_path / "mine"), "generated"]
    assert measured.labelled_data(BASE) == "generated"
    measured.study.args.stream = True
    with pytest.raises(RunError, match="read latents many times"):
        measured.measure(experiment("rae"))


def study_of(out) -> Study:
    parser = study.argparse.ArgumentParser()
    add_data_arguments(parser)
    add_run_arguments(parser)
    args = parser.parse_args(["--data", "generated", "--validation", "generated", "--out", str(out), "--log"])
    return Study(study.argparse.Namespace(**vars(args), limit=12, rfid=False))


def generation_of(out) -> GenerationMeasure:
    return GenerationMeasure(study_of(out))


@pytest.mark.data
def test_the_second_encoder_is_the_published_one_from_a_file():
    """Every block's output is timm's, of the weights in the folder; the classifier and the norm are left out."""
    file = PHOTOS / "weights" / PRESETS["study-ti16"].encoder_weights
    if not file.is_file():
        pytest.skip("the weights of ViT-Ti/16 are not here")
    model = stage1.load_encoder(PRESETS["study-ti16"], file.parent)
    published = timm.create_model("vit_tiny_patch16_224", pretrained=False).eval()
    published.load_state_dict({key: value.float() for key, value in load_file(file).items()})
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        layers = model.encoder(images)
        expected = published.forward_intermediates(
            (images - 0.5) / 0.5, norm=False, output_fmt="NLC", intermediates_only=True
        )
    assert len(layers) == 12
    for one, other in zip(layers, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert model.image_size == 224
