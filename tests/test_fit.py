"""``train.fit``: an encoder as timm states it, photos split by content, a plan of counted steps, a model that opens."""

import json
import re
import shutil
import tarfile

import numpy as np
import pytest
import timm
import torch
from conftest import ROOT
from safetensors.torch import save_file

import drorae
import train.engine.run
from drorae import AutoencoderDRoRAE
from drorae.checkpoints import CheckpointError
from drorae.explorer.standing import read_spread
from drorae.explorer.tokenizers import load_picture_tokenizer
from drorae.images import square, to_tensor
from drorae.study.fits import read_measurements
from drorae.ui import app
from train import fit
from train.data.rows import picture_of
from train.data.sources import GeneratedPictures
from train.engine.run_folder import CHECKPOINT, LOG
from train.errors import DataError, RunError
from train.fitting import plan
from train.fitting.encoders import read_encoder
from train.fitting.photos import SPAN, place_of, split_photos, threshold
from train.fitting.plan import FEWEST, SHARES, PhaseTime, checked_photos, phase_seconds, share_out
from train.fitting.progress import PLAN
from train.fitting.recipe import Length
from train.fitting.results import gains_words
from train.presets import PHASES

SIZE, SMALL_SAVES = 32, 8.0
ROUTES = {"rae": (False, "original"), "phase2": (True, "original"), "drorae": (True, "finetuned")}


def draw(folder, count, seed=0):
    """So many drawn pictures as files."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = GeneratedPictures(count, seed)
    for number in range(count):
        pictures[number]["image"].save(folder / f"{seed}-{number}.png")
    return folder


def options(folder, out, *more):
    sizes = ["--size", str(SIZE), "--decoder-width", "64", "--decoder-layers", "1", "--batch-size", "4"]
    rest = ["--weights", "random", "--minutes", "1", "--workers", "0", "--networks", str(out / "none"), "--log"]
    return ["test_vit", str(folder), *sizes, *rest, "--out", str(out), *more]


def ticking(seconds=0.5):
    """A clock that moves on whenever it is looked at."""
    now = [0.0]

    def clock():
        now[0] += seconds
        return now[0]

    return clock


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Drawn pictures in a folder without splits."""
    return draw(tmp_path_factory.mktemp("mine") / "my photos", 40)


@pytest.fixture(scope="module")
def fitted(pictures, tmp_path_factory):
    """A fit from beginning to end, with several states in each phase. Do not change it."""
    out = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "SAVE_SECONDS", SMALL_SAVES)
        fit.main(options(pictures, out), ticking())
    return out / "fit-test_vit-my-photos"


# ---- the encoder --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size", "made_for", "patch", "grid", "layers", "dim", "prefix"),
    [
        ("test_vit", 160, 160, 16, 10, 6, 64, 1),
        ("test_vit2", 160, 160, 16, 10, 8, 64, 1),  # no class token, one register
        ("vit_tiny_patch16_224.augreg_in21k_ft_in1k", 224, 224, 16, 14, 12, 192, 1),
        ("vit_base_patch14_reg4_dinov2", 224, 518, 14, 16, 12, 768, 5),  # read at less than timm states
        ("vit_base_patch16_siglip_224", 224, 224, 16, 14, 12, 768, 0),
        ("deit_tiny_distilled_patch16_224", 224, 224, 16, 14, 12, 192, 2),
        ("eva02_tiny_patch14_224", 224, 224, 14, 16, 12, 192, 1),
    ],
)
def test_an_encoder_has_the_sizes_that_timm_states(name, size, made_for, patch, grid, layers, dim, prefix):
    facts = read_encoder(name)
    assert facts[:5] == (name, size, made_for, patch, grid)
    assert (facts.layers, facts.dim, facts.prefix) == (layers, dim, prefix)


def test_mean_and_std_are_those_of_the_weights():
    facts = read_encoder("vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    assert (facts.mean, facts.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert read_encoder("vit_base_patch14_reg4_dinov2").mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    ("name", "size", "said"),
    [
        ("resnet18", None, "is not a plain vision transformer"),
        ("swin_tiny_patch4_window7_224", None, "is not a plain vision transformer"),
        ("vit_tinny_patch16_224", None, "did you mean .*vit_tiny_patch16_224"),
        ("hf-hub:someone/model", None, "--weights FILE.safetensors"),
        ("test_vit.nothing", None, "no such weights"),
        ("test_vit", 100, "multiples of 16 pixels; use 96"),
        ("test_vit", 16, "use 32"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(name, size, said):
    with pytest.raises(RunError, match=said) as found:
        read_encoder(name, size)
    assert "\n" not in str(found.value)


def test_weights_of_a_file_are_those_of_timm_at_another_size(pictures, tmp_path):
    """Stored in fp16 for 160 pixels with a classifier; read at 32 without one."""
    torch.manual_seed(1)
    published = timm.create_model("test_vit", pretrained=False).eval()
    torch.nn.init.normal_(published.pos_embed)
    save_file({key: value.half() for key, value in published.state_dict().items()}, tmp_path / "mine.safetensors")
    published.half().float()
    arguments = [*options(pictures, tmp_path), "--weights", str(tmp_path / "mine.safetensors")]
    job = fit.read_job(fit.build_parser().parse_args(arguments))
    model = fit.load_encoder(job.preset({}), tmp_path)
    images = torch.rand(2, 3, SIZE, SIZE)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (job.facts.mean, job.facts.std))
    published.set_input_size((SIZE, SIZE))  # timm's own resampling
    with torch.no_grad():
        expected = published.forward_intermediates(
            (images - mean) / std, norm=False, output_fmt="NLC", intermediates_only=True
        )
    found = model.encoder(images)
    assert len(found) == 6
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert job.command.startswith("python -m train.fit test_vit 'my photos' --weights mine.safetensors --minutes 1")


@pytest.mark.parametrize(("name", "said"), [("test_vit2", "lacks 'cls_token'"), ("test_vit3", "does not hold")])
def test_weights_of_another_encoder_are_refused(name, said, pictures, tmp_path):
    file = tmp_path / "other.safetensors"
    save_file(timm.create_model(name, pretrained=False).state_dict(), file)
    with pytest.raises(CheckpointError, match=said):
        fit.main([*options(pictures, tmp_path), "--weights", str(file)])


def test_weights_that_are_nowhere_are_one_sentence(pictures, tmp_path):
    arguments = options(pictures, tmp_path)
    at = arguments.index("--weights")
    with pytest.raises(CheckpointError, match=r"could not be fetched.*or give --weights FILE\.safetensors"):
        fit.main(arguments[:at] + arguments[at + 2 :])
    with pytest.raises(CheckpointError, match="there is no such file"):
        fit.main([*arguments, "--weights", "nowhere.safetensors"])


# ---- the photos ---------------------------------------------------------------------------------------------------


def sides(folder, share=0.3):
    """The content of the photos of each side."""
    photos = split_photos(str(folder), share)
    return [{place_of(row) for row in rows} for rows in (photos.train, photos.held_out)]


def test_a_photo_stays_on_its_side(pictures, tmp_path):
    """Whatever is added, renamed or copied."""
    folder = tmp_path / "photos"
    shutil.copytree(pictures, folder)
    trained, held_out = sides(folder)
    assert len(trained) + len(held_out) == 40
    assert 4 <= len(held_out) <= 24
    draw(folder, 30, seed=5)
    for number, file in enumerate(sorted(folder.glob("0-*.png"))):
        if number % 2:
            file.rename(folder / f"{number}.png")
        else:
            shutil.copy(file, folder / f"copy of {number}.png")
    more_trained, more_held_out = sides(folder)
    assert trained <= more_trained
    assert held_out <= more_held_out
    assert not more_trained & more_held_out


def test_the_share_is_that_of_the_range_and_four_at_least():
    places = [round(SPAN * (number + 0.5) / 100) for number in range(100)]
    assert sum(place <= threshold(places, 0.25) for place in places) == 25
    assert sum(place <= threshold(places, 0.01) for place in places) == 4


def test_a_validation_split_is_kept(tmp_path):
    draw(tmp_path / "train", 20)
    draw(tmp_path / "validation", 5, seed=1)
    photos = split_photos(str(tmp_path), 0.5)
    assert photos.own_split
    assert (photos.train_count, len(photos.held_out)) == (20, 5)


def test_folders_that_hold_too_little_are_one_sentence(pictures, tmp_path, capsys):
    for name in ("empty", "few", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("nothing")
    draw(tmp_path / "few", 12)
    for file in sorted(draw(tmp_path / "broken", 30).iterdir())[:20]:
        file.write_bytes(b"not a picture")
    for name, said in {
        "empty": "no 'train' pictures there",
        "few": "too few pictures to train and to measure on, 12, of which",
        "broken": r"of \d+ pictures that were tried cannot be read; the first: ",
        "missing": "there is no such folder",
    }.items():
        with pytest.raises(DataError, match=said) as found:
            fit.main(options(tmp_path / name, tmp_path))
        assert "\n" not in str(found.value)


def test_shards_are_split_too(pictures, tmp_path, capsys):
    """By the same photos as the folder that they were made of."""
    folder = tmp_path / "shards"
    folder.mkdir()
    with tarfile.open(folder / "train-000.tar", "w") as tar:
        for number, file in enumerate(sorted(pictures.iterdir())):
            tar.add(file, f"{number:03}.png")
    fit.main([*options(folder, tmp_path), "--dry-run"], ticking())
    expected = [len(side) for side in sides(pictures, 0.1)]
    assert f"'shards': {expected[0]} to train on, {expected[1]} held out" in capsys.readouterr().out


# ---- the plan -----------------------------------------------------------------------------------------------------


def test_steps_are_counted_from_what_one_takes():
    times = {"decoder": PhaseTime(2.0, 6.0, 0.1), "fusion": PhaseTime(3.0, 6.0, 0.1), "finetune": PhaseTime(1.0, 0, 0)}
    lengths = share_out(3600.0, times, 20)
    # 1,440 s for the decoder, five states of 6 s and 20 looks of 0.1 s each: 1,400 s for steps of 2 s
    assert lengths["decoder"] == (700, 140)
    assert lengths["fusion"] == ((900 - 3 * 8) // 3, 98)
    assert lengths["finetune"] == (1260, 252)
    for phase, length in lengths.items():
        assert phase_seconds(length, times[phase], 20) <= 3600 * SHARES[phase]
    half = share_out(3600.0, {**times, "decoder": PhaseTime(1.0, 6.0, 0.1)}, 20)
    assert half["decoder"].steps == 2 * lengths["decoder"].steps
    # of the phases that are left, in the same proportions
    assert share_out(600.0, {"fusion": times["finetune"], "finetune": times["finetune"]}, 0)["fusion"].steps == 250


def test_a_time_that_is_too_short_says_how_much_is_missing():
    times = dict.fromkeys(SHARES, PhaseTime(60.0, 0.0, 0.0))
    # ten steps of the shortest phase take 600 s, which is a quarter of the time: 40 minutes
    with pytest.raises(RunError, match="up to 60 s here; give 30 minutes more"):
        share_out(600.0, times, 0)
    assert {length.steps for length in share_out(600.0, times, 0, strict=False).values()} == {FEWEST}


def test_held_out_photos_are_looked_at_as_often_as_time_allows():
    assert checked_photos(0.01, 1000) == 128
    assert checked_photos(0.5, 1000) == 30  # 5 % of 300 s
    assert checked_photos(10.0, 1000) == 8
    assert checked_photos(0.01, 5) == 5


def test_the_plan_is_proportional_to_the_steps_that_were_timed(pictures, tmp_path, monkeypatch, capsys):
    """On a clock that moves by three seconds with every step of training, and with nothing else."""
    steps = [0]
    forward = fit.Reconstruction.loss

    def loss(task, batch, step):
        steps[0] += 1
        return forward(task, batch, step)

    monkeypatch.setattr(fit.Reconstruction, "loss", loss)
    out = tmp_path / "runs"
    fit.main([*options(pictures, out), "--minutes", "20", "--dry-run"], lambda: 3.0 * steps[0])
    text = capsys.readouterr().out
    left = 20 * 60 * 0.95 - 3.0 * steps[0]
    for phase, share in SHARES.items():
        # the last timed step ends after its batch was handed over, so that saving seems to take nothing
        counted = re.search(rf"^{phase} +3\.00 +(\d+) +(\d+)", text, re.M)
        assert int(counted[1]) == int(left * share / 3)
        assert int(counted[2]) == 4 * int(counted[1])
    assert "of 20 min" in text
    assert "6 layers of 64 channels, 2 x 2 patches of 16 px and 1 other token," in text
    assert not out.exists()


@pytest.mark.parametrize("seconds", [5.0, 12.0, 40.0, 600.0])
def test_phases_after_a_slow_one_are_shorter(seconds, pictures, tmp_path):
    job = fit.read_job(fit.build_parser().parse_args(options(pictures, tmp_path)))
    found = fit.Plan(0.0, dict.fromkeys(PHASES, PhaseTime(0.1, 0.0, 0.0)), {"decoder": Length(100, 100)})
    (job.folder / "decoder" / CHECKPOINT).mkdir(parents=True)
    (job.folder / "decoder" / CHECKPOINT / "model.safetensors").write_bytes(b"")
    (job.folder / "decoder" / LOG).write_text(json.dumps({"step": 100, "seconds": seconds}) + "\n")
    left, step = 60 * 0.95 - seconds, 0.1 * max(1, seconds / 10)  # ten seconds were planned
    lengths = found.to_come(job, strict=False)
    assert list(lengths) == ["fusion", "finetune"]
    assert lengths["fusion"].steps == max(FEWEST, int(left * 0.25 / 0.6 / step + 1e-9))
    assert lengths["finetune"].steps == max(FEWEST, int(left * 0.35 / 0.6 / step + 1e-9))


# ---- from beginning to end ----------------------------------------------------------------------------------------


def test_the_card_has_the_numbers_of_the_stored_model(fitted, pictures):
    """PSNR by its formula, of the model as anybody loads it."""
    model = AutoencoderDRoRAE.from_pretrained(fitted / "model")
    held_out = split_photos(str(pictures), 0.1).held_out
    images = torch.stack([to_tensor(square(picture_of(row, "photo"), SIZE)) for row in held_out])
    card = (fitted / "model" / "README.md").read_text(encoding="utf-8")
    for route, (fusion, decoder) in ROUTES.items():
        with torch.inference_mode():
            painted = model.decode(model.encode(images, fusion=fusion).latent, decoder=decoder).sample
        levels = (painted.clamp(0, 1) * 255).round().double() - (images * 255).round().double()
        values = 10 * torch.log10(255**2 / levels.square().mean((1, 2, 3)))
        shown = re.search(rf"\(`{route}`\) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", card)
        assert float(shown[1]) == pytest.approx(values.mean().item(), abs=0.006)
        for text, share in zip(shown.groups()[1:], (0.1, 0.5, 0.9), strict=True):
            assert float(text) == pytest.approx(np.quantile(values.numpy(), share), abs=0.006)
    assert model.config.any_size
    assert model.statistics is not None
    assert "python app.py --model FOLDER" in card
    assert "Other tokenizers" in card
    assert str(fitted) not in card


def test_every_phase_trains_its_part_upon_the_one_before(fitted):
    decoder, fusion, finetune = (
        AutoencoderDRoRAE.from_pretrained(fitted / phase / CHECKPOINT).state_dict() for phase in PHASES
    )
    for later in (fusion, finetune):
        assert all(later[key].equal(decoder[key]) for key in decoder)  # encoder and first decoder
    assert all(finetune[key].equal(fusion[key]) for key in fusion)
    moved = [key for key in finetune if key.startswith("decoder_finetuned") and key.endswith("weight")]
    assert moved
    assert not all(finetune[key].equal(decoder[key.replace("decoder_finetuned", "decoder")]) for key in moved)


def test_it_opens_on_the_page(fitted, monkeypatch):
    """In the place of the embedded model, and beside it at sizes that both take."""
    folder = str(fitted / "model")
    seen = []

    def build_demo(model, *args, **kwargs):
        seen.append(model)
        raise drorae.CheckpointError("seen")

    monkeypatch.setattr(app, "build_demo", build_demo)
    assert app.main(["--model", folder]) == 2
    assert seen[0].config.finetuned_decoder
    tokenizer = load_picture_tokenizer(folder)
    for size in (SIZE, 48):
        trip = tokenizer.rebuild(torch.rand(1, 3, size, size))
        assert trip.pictures.shape == (1, 3, size, size)
    measured = read_measurements(fitted / "model")
    spread = read_spread(fitted / "model")
    assert set(measured.psnr) == set(ROUTES)
    gain = measured.psnr["drorae"] - measured.psnr["rae"]
    assert spread.gains.mean() == pytest.approx(gain, abs=0.006)


def test_gains_are_counted_photo_by_photo():
    words = gains_words({"gains": {"phase2": [1.0, 2.0, -3.0, 4.0]}})
    # mean 1, standard deviation sqrt(26 / 3), t(3) = 3.182
    half = 3.1824 * (26 / 3 / 4) ** 0.5
    assert (
        f"gains +1.00 dB on 4 held-out photos (95 % interval of the mean {1 - half:+.2f} to {1 + half:+.2f})" in words
    )
    assert "nothing on 25% of them" in words


def test_a_stopped_fit_goes_on_where_it_stopped(fitted, pictures, tmp_path, monkeypatch):
    """To the same decoder, bit for bit, without timing anything again."""
    monkeypatch.setattr(plan, "SAVE_SECONDS", SMALL_SAVES)
    log, logged = train.engine.run.log_numbers, []

    def interrupt(accelerator, folder, numbers, pictures):
        log(accelerator, folder, numbers, pictures)
        if "timing" not in folder.name:
            logged.append(numbers["step"])
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train.engine.run, "log_numbers", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit.main(options(pictures, tmp_path), ticking())
    folder = tmp_path / fitted.name
    steps = json.loads((folder / PLAN).read_text())["lengths"]["decoder"][0]
    assert 0 < logged[0] < steps
    monkeypatch.setattr(fit, "make_plan", None)
    fit.main(options(pictures, tmp_path), ticking())
    found, expected = (
        AutoencoderDRoRAE.from_pretrained(place / "decoder" / CHECKPOINT).state_dict() for place in (folder, fitted)
    )
    assert all(found[key].equal(expected[key]) for key in expected)
    assert (folder / "model" / "README.md").is_file()


def test_a_finished_fit_prints_its_numbers_again(fitted, pictures, monkeypatch, capsys):
    monkeypatch.setattr(fit, "train", None)
    fit.main(options(pictures, fitted.parent))
    text = capsys.readouterr().out
    report = json.loads((fitted / "model" / "measured.json").read_text())
    assert f"| {report['routes']['drorae']['psnr']:.2f} |" in text
    assert f"python app.py --model {fitted / 'model'}" in text.replace("'", "")


def test_other_settings_are_refused(fitted, pictures, tmp_path):
    with pytest.raises(RunError, match=r"minutes was 1\.0 and is 2\.0"):
        fit.main([*options(pictures, fitted.parent), "--minutes", "2", "--to", str(tmp_path / "other")])
    file = tmp_path / "other.safetensors"
    save_file(timm.create_model("test_vit", pretrained=False).state_dict(), file)
    with pytest.raises(RunError, match=r"weights was random and is [0-9a-f]{16}"):
        fit.main([*options(pictures, fitted.parent), "--weights", str(file), "--to", str(tmp_path / "other")])
    with pytest.raises(RunError, match="holds something else than this fit"):
        fit.main([*options(pictures, fitted.parent), "--to", str(tmp_path)])


# ---- the notebook -------------------------------------------------------------------------------------------------


def test_the_notebook_runs(monkeypatch, capsys):
    """Its cells in order, in one namespace; steps are as many as if each took 1.2 seconds."""

    def make_plan(job, started, clock):
        return fit.Plan(0.0, dict.fromkeys(PHASES, PhaseTime(1.2, 0.0, 0.01)), {})

    monkeypatch.setattr(fit, "make_plan", make_plan)
    monkeypatch.chdir(ROOT)
    notebook = json.loads((ROOT / "docs" / "fit.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    names = {"__name__": "__main__"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec(compile("".join(cell["source"]), "docs/fit.ipynb", "exec"), names)
    text = capsys.readouterr().out
    assert "Other tokenizers, Add a tokenizer" in text
    assert set(names["result"].metrics) == set(ROUTES)
    assert names["side_by_side"].size == (4 * names["result"].size, names["result"].size)
