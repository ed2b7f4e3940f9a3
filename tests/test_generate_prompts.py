"""Sampling of prompt files: GenEval's layout, resuming, and what is refused."""

import json

import numpy as np
import pytest
from PIL import Image

from drorae.images import png_settings
from train import generate
from train.errors import DataError, RunError
from train.generate_prompts import read_prompts


@pytest.fixture
def checkpoint(text_pipeline, tmp_path):
    text_pipeline.save_pretrained(tmp_path / "pipeline")
    return str(tmp_path / "pipeline")


def test_the_layout_is_genevals(checkpoint, text_pipeline, tmp_path, capsys):
    rows = [{"tag": "colors", "prompt": "a red ball", "include": [{"class": "ball"}]}, {"prompt": "grass"}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "out"
    command = [
        checkpoint,
        "--prompts",
        str(tmp_path / "p.jsonl"),
        "--out",
        str(out),
        "--steps",
        "2",
        "--per-prompt",
        "3",
    ]
    generate.main([*command, "--batch-size", "4"])
    assert [json.loads((out / f"{i:05d}" / "metadata.jsonl").read_text()) for i in range(2)] == rows
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.png")) == [
        f"{i:05d}/samples/{j:05d}.png" for i in range(2) for j in range(3)
    ]
    expected = text_pipeline("grass", 2, "cfg", 6.0, seed=4).images[0]
    picture = np.asarray(Image.open(out / "00001" / "samples" / "00001.png")).astype(int)
    assert np.abs(picture - np.asarray(expected)).max() <= 1
    assert png_settings(out / "00001" / "samples" / "00001.png")["seed"] == 4
    first = (out / "00000" / "samples" / "00000.png").read_bytes()
    (out / "00001" / "samples" / "00002.png").unlink()
    generate.main(command)
    assert (out / "00001" / "samples" / "00002.png").is_file()
    assert (out / "00000" / "samples" / "00000.png").read_bytes() == first
    with pytest.raises(RunError, match="made with other settings"):
        generate.main([*command, "--negative", "grass"])
    assert "6 pictures of 2 prompts, 2 steps, cfg" in capsys.readouterr().out
    with pytest.raises(DataError, match="--clip needs the weights of 'openai/clip-vit-base-patch16'"):
        generate.main([*command, "--clip"])


def test_lines_may_be_plain_text(tmp_path):
    (tmp_path / "p.txt").write_text("a red ball\n\n  two dogs \n")
    assert read_prompts(tmp_path / "p.txt") == [{"prompt": "a red ball"}, {"prompt": "two dogs"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it has no lines"),
        ('{"prompt": 3}', "line 1 has no 'prompt'"),
        ('fine\n{"prompt"', "line 2 is not JSON"),
        (None, r"it cannot be read \(FileNotFoundError\)"),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "p").write_text(text)
    with pytest.raises(DataError, match=message):
        read_prompts(tmp_path / "p")


def test_a_prompt_is_a_line_of_the_file_whatever_letters_it_has(tmp_path):
    """U+2028 and others end a line of text, and stand in JSON as they are."""
    file = tmp_path / "p.txt"
    file.write_text('a\u2028b\n{"prompt": "c\u2028d"}\n', encoding="utf-8")
    assert [row["prompt"] for row in read_prompts(file)] == ["a\u2028b", "c\u2028d"]
    file.write_text('{"prompt": ' + "[" * 100_000)
    with pytest.raises(DataError, match="line 1 is not JSON"):
        read_prompts(file)
