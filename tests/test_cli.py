"""The command line: files, JSON and exit codes, on a tiny saved model."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, build
from PIL import Image

from drorae.cli import main
from drorae.cli.outputs import misdirected_file
from drorae.cli.reconstruct import _stems
from drorae.explorer.explore import explore, intervene
from drorae.explorer.interventions import Intervention
from drorae.images import load_image, png_settings

CAT = str(ROOT / "assets" / "examples" / "cat.jpg")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    build(finetuned_decoder=True).save_pretrained(folder)
    return str(folder)


def test_reconstruct_writes_pictures_and_prints_one_json_object_each(tmp_path, capsys, checkpoint):
    coffee = str(ROOT / "assets" / "examples" / "coffee.jpg")
    assert main(["reconstruct", CAT, coffee, "--model", checkpoint, "--out", str(tmp_path), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["image"] for row in rows] == [CAT, coffee]
    original = np.array(Image.open(rows[0]["original"]["file"])).astype(float)
    for name in ("rae", "phase2", "drorae"):
        picture = np.array(Image.open(rows[0][name]["file"])).astype(float)
        assert picture.shape == (32, 32, 3)
        psnr = 10 * np.log10(255**2 / ((picture - original) ** 2).mean())
        assert rows[0][name]["psnr"] == pytest.approx(psnr, abs=1e-3)
        assert -1 <= rows[0][name]["ssim"] <= 1


def test_two_pictures_of_one_name_do_not_overwrite_each_other(tmp_path, capsys, checkpoint):
    other = tmp_path / "other" / "cat.png"
    other.parent.mkdir()
    Image.new("RGB", (40, 40), "red").save(other)
    assert main(["reconstruct", CAT, str(other), "--model", checkpoint, "--out", str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out").glob("*-original.png"))) == 2
    assert "phase2" in capsys.readouterr().out


def test_routing_file_holds_the_weights_grid_and_layers(tmp_path, checkpoint):
    file = tmp_path / "new" / "weights.npz"
    assert main(["routing", CAT, "--model", checkpoint, "--out", str(file)]) == 0
    from drorae import AutoencoderDRoRAE

    expected = explore(load_image(CAT), AutoencoderDRoRAE.from_pretrained(checkpoint))
    with np.load(file) as saved:
        assert np.array_equal(saved["weights"], expected.weights)
        assert saved["weights"].shape == (16, 3)
        assert saved["grid"].tolist() == [4, 4]
        assert saved["layers"].tolist() == [1, 2, 3]


def test_bad_input_is_exit_code_2_and_one_sentence(tmp_path, capsys, checkpoint):
    text = tmp_path / "text.png"
    text.write_text("no picture")
    out = ["--model", checkpoint, "--out", str(tmp_path / "out")]
    assert main(["reconstruct", str(text), CAT, *out, "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "text.png" in captured.err
    assert json.loads(captured.out)["image"] == CAT  # the good picture was done all the same

    file = ["--model", checkpoint, "--out", str(tmp_path / "w.npz")]
    assert main(["routing", str(tmp_path / "nowhere.jpg"), *file]) == 2
    assert "no picture file" in capsys.readouterr().err


def test_a_missing_model_is_exit_code_2(tmp_path, capsys):
    assert main(["reconstruct", CAT, "--model", "nowhere", "--out", str(tmp_path)]) == 2
    assert "no checkpoint folder 'nowhere'" in capsys.readouterr().err


def test_routing_of_a_model_without_fusion_is_refused(tmp_path, capsys):
    build(fusion=None).save_pretrained(tmp_path / "rae")
    assert main(["routing", CAT, "--model", str(tmp_path / "rae"), "--out", str(tmp_path / "w.npz")]) == 2
    assert "has no fusion" in capsys.readouterr().err
    assert not (tmp_path / "w.npz").exists()


def test_an_output_that_cannot_be_written_is_one_sentence(tmp_path, capsys, checkpoint):
    (tmp_path / "file").write_text("")
    assert main(["reconstruct", CAT, "--model", checkpoint, "--out", str(tmp_path / "file")]) == 2
    assert main(["routing", CAT, "--model", checkpoint, "--out", str(tmp_path / "file" / "w.npz")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all("cannot be written" in line and "choose another place" in line for line in lines)


def test_pictures_are_never_overwritten(tmp_path, capsys, checkpoint):
    picture = tmp_path / "mine.png"
    Image.new("RGB", (40, 40), "red").save(picture)
    assert main(["reconstruct", str(picture), "--model", checkpoint, "--out", str(tmp_path)]) == 2
    assert "choose another folder" in capsys.readouterr().err
    before = picture.read_bytes()
    other = tmp_path / "link.png"
    other.symlink_to(picture)
    for command in (["routing"], ["intervene", "--beta", "0.1"], ["report"], ["batch", CAT]):
        for out in (picture, other):
            assert main([*command, str(picture), "--model", checkpoint, "--out", str(out)]) == 2
            assert "which would be overwritten; choose another name" in capsys.readouterr().err
    assert picture.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [other, picture]


def test_an_impossible_name_is_one_sentence(capsys):
    assert main(["routing", CAT, "--out", "x" * 300 + ".npz"]) == 2
    assert "cannot be written (File name too long)" in capsys.readouterr().err


def test_an_output_that_no_file_can_be_called_is_one_sentence(capsys):
    for command in ("reconstruct", "batch", "routing"):
        assert main([command, CAT, "--out", "a\0b"]) == 2
        assert (
            capsys.readouterr().err == "--out 'a\\x00b' has a null character, which no name can have; choose another.\n"
        )


def test_a_folder_is_no_file_to_write_and_said_before_any_computing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("drorae.explorer.explore.explore", None)
    for command in (["routing", CAT], ["report", CAT], ["batch", CAT], ["sample", "--class", "0"]):
        assert main([*command, "--out", str(tmp_path)]) == 2
        assert capsys.readouterr().err == f"--out '{tmp_path}' is a folder; name a file in it.\n"


@pytest.mark.parametrize(
    ("command", "name", "ending"),
    [
        (["intervene", CAT, "--without", "2"], "x.jpg", ".png"),
        (["sample", "--class", "0"], "x.WebP", ".png"),
        (["routing", CAT], "x.json", ".npz"),
        (["report", CAT], "x.pdf", ".html"),
        (["batch", CAT], "x.xlsx", ".csv"),
    ],
)
def test_a_name_of_another_kind_of_file_is_refused_before_any_computing(command, name, ending, tmp_path, capsys):
    out = tmp_path / name
    assert main([*command, "--out", str(out)]) == 2
    kind = out.suffix.lower()
    assert (
        capsys.readouterr().err == f"--out '{out}' cannot be {kind}: this command writes {ending}; call it x{ending}.\n"
    )
    assert not out.exists()


@pytest.mark.parametrize("name", ["picture", "v1.5", "x.html", "x.HTM"])
def test_names_that_say_nothing_of_their_kind_are_taken(name):
    assert misdirected_file(".html", ".htm")(Path(name), []) is None


def test_names_stay_different():
    paths = [Path(name) for name in ("x/a.png", "y/a.png", "a-2.png", "z/a.jpg")]
    assert _stems(paths) == ["a", "a-2", "a-2-2", "a-3"]


def test_sample_writes_the_pipelines_picture_and_its_settings(pipeline, tmp_path, capsys):
    pipeline.save_pretrained(tmp_path / "generator")
    command = ["sample", "--generator", str(tmp_path / "generator"), "--class", "tinca tinca", "--seed", "7"]
    assert main([*command, "--steps", "3", "--out", str(tmp_path / "a" / "x.png")]) == 0
    expected = pipeline(0, 3, "autoguidance", 1.5, seed=7).images[0]
    with Image.open(tmp_path / "a" / "x.png") as picture:
        assert np.abs(np.asarray(picture).astype(int) - np.asarray(expected)).max() <= 1
    settings = png_settings(tmp_path / "a" / "x.png")
    assert settings["class"] == "tench"
    assert {key: settings[key] for key in ("seed", "steps", "guidance", "scale", "decoder")} == {
        "seed": 7,
        "steps": 3,
        "guidance": "autoguidance",
        "scale": 1.5,
        "decoder": "finetuned",
    }
    assert "class tench, seed 7, steps 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--class", "chirch"], "There is no class 'chirch'; use for example 'church'."),
        (["--class", "church", "--steps", "0"], "num_inference_steps is a whole number from 1 to 1000, not 0."),
        (["--class", "church", "--scale", "nan"], "guidance_scale is a number from 0 to 100, not nan"),
        (["--class", "church", "--seed", "-1"], "A seed is a whole number from 0"),
        (["--class", "church", "--negative", "a dog"], "--negative leads away from a text; use it with --prompt"),
        (["--class", "church", "--guidance", "none", "--scale", "7"], "--scale 7 has nothing to act on"),
    ],
)
def test_sample_refuses_in_one_sentence(pipeline, tmp_path, capsys, options, message):
    pipeline.save_pretrained(tmp_path / "generator")
    out = tmp_path / "x.png"
    assert main(["sample", "--generator", str(tmp_path / "generator"), "--out", str(out), *options]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith(message)
    assert "\n" not in error
    assert not out.exists()


def test_sample_of_a_text(text_pipeline, tmp_path, capsys):
    text_pipeline.save_pretrained(tmp_path / "generator")
    command = ["sample", "--generator", str(tmp_path / "generator"), "--prompt", "a red ball", "--negative", "grass"]
    assert main([*command, "--steps", "3", "--seed", "2", "--out", str(tmp_path / "x.png")]) == 0
    expected = text_pipeline("a red ball", 3, "cfg", 3.0, negative_prompt="grass", seed=2).images[0]
    with Image.open(tmp_path / "x.png") as picture:
        assert np.abs(np.asarray(picture).astype(int) - np.asarray(expected)).max() <= 1
    settings = png_settings(tmp_path / "x.png")
    assert (settings["prompt"], settings["negative"], settings["scale"]) == ("a red ball", "grass", 3.0)
    assert main(["sample", "--generator", str(tmp_path / "generator"), "--class", "3", "--out", "x.png"]) == 2
    assert "holds the class DRoRAETextPipeline, not DRoRAEClassPipeline" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["sample", "--out", "x.png"])
    for text in (
        ["--prompt", "a \udcff dog"],
        ["--prompt", "a dog", "--negative", "\udcff"],
    ):  # bytes that are not UTF-8
        assert (
            main(["sample", "--generator", str(tmp_path / "generator"), *text, "--out", str(tmp_path / "y.png")]) == 2
        )
        assert "is half a character (U+DCFF); type it again." in capsys.readouterr().err
        assert not (tmp_path / "y.png").exists()


def test_an_intervention_is_the_librarys_and_the_file_remembers_it(tmp_path, capsys, embedded, cat):
    out = tmp_path / "new" / "cat.png"
    arguments = ["intervene", CAT, "--without", "12", "3", "--beta", "0.3", "--out", str(out), "--json"]
    assert main(arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    kept = (1, 2, 4, 5, 6, 7, 8, 9, 10, 11)
    frame = intervene(cat, embedded, Intervention(kept, 0.3))
    saved = Image.open(out)
    assert np.array_equal(np.array(saved), frame.picture)
    assert png_settings(out) == {"model": "assets/drorae-tiny", "layers": list(kept), "beta": 0.3}
    assert printed["psnr"] == frame.metrics["psnr"]
    assert printed["departure"] == frame.compatibility.departure
    assert main(["intervene", CAT, "--layers", "1", "2", "--tokens", "0", "--out", str(out)]) == 0
    assert "its error is about that of the picture as trained" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--without", "13"], "There is no layer 13; layers are numbered 1 to 12."),
        (["--without", *map(str, range(1, 13))], "Keep at least one layer"),
        (["--beta", "nan"], "not nan"),
        (["--tokens", "256"], "There is no token 256"),
    ],
)
def test_an_impossible_intervention_is_one_sentence(tmp_path, capsys, options, sentence):
    assert main(["intervene", CAT, *options, "--out", str(tmp_path / "x.png")]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()
