"""What is said of a number on the command line that cannot be used: the option, the value, its unit."""

import importlib
from pathlib import Path

import pytest
from conftest import ROOT

COMMANDS = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for file in sorted((ROOT / "train").rglob("*.py"))
    if "add_argument(" in file.read_text(encoding="utf-8") and file.name != "session.py"
]


def said(command: str, arguments: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as caught:
        importlib.import_module(command).main(arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("command", "option", "value", "unit"),
    [
        ("train.evaluate", "--batch-size", "0", "a number of pictures; give a whole number from 1 on"),
        ("train.evaluate", "--mean-layers", "0", "a number of layers"),
        ("train.evaluate", "--size", "-8", "a number of pixels"),
        ("train.generate", "--batch-size", "0", "a number of pictures"),
        ("train.generate", "--steps", "0", "a number of steps"),
        ("train.generate", "--seed", "-1", "a seed; give a whole number from 0 to 4294967295"),
        ("train.generate", "--scale", "nan", "a scale of guidance; give a number from 0 to 100"),
        ("train.generate_prompts", "--batch-size", "0", "a number of pictures"),
        ("train.generate_prompts", "--per-prompt", "two", "a number of pictures"),
        ("train.gpu.leg", "--batch-size", "0", "a number of pictures"),
        ("train.gpu.leg", "--minutes", "-1", "minutes; give a number from 0 on"),
        ("train.gpu.pack", "--limit-mib", "0", "mebibytes; give a number above 0"),
        ("train.latent_stats", "--limit", "0", "a number of pictures"),
        ("train.stage1", "--processes", "0", "a number of processes"),
        ("train.stage1", "--accumulation", "0", "a number of micro-batches"),
        ("train.stage1", "--workers", "-1", "a number of processes; give a whole number from 0 on"),
        ("train.stage1", "--shares", "0", "a number of turns"),
        ("train.stage2", "--classes", "\u00b2", "a number of classes"),
        ("train.dit_probe", "--steps", "0.5", "a number of steps"),
        ("train.diffusability", "--probe", "0", "a number of steps"),
        ("train.diffusability", "--training", "0", "a number of photos"),
        ("train.study", "--seeds", "0", "a number of seeds"),
        ("train.study", "--limit", "0", "a number of photos"),
        ("train.study", "--rate", "0", "pictures a second; give a number above 0"),
    ],
)
def test_a_number_that_cannot_be_used_is_said_in_its_unit(command, option, value, unit, capsys):
    text = said(command, [f"{option}={value}"], capsys)
    assert f"argument {option}: '{value}' is not {unit}" in text


def test_both_ends_of_an_interval_are_flow_times(capsys):
    text = said("train.generate", ["--interval", "0.2", "2"], capsys)
    assert "argument --interval: '2' is not a flow time; give a number from 0 to 1" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_number_has_a_reader_of_its_own(command):
    """argparse's own readers say "invalid int value", and let 0 and nan pass."""
    file = Path(importlib.import_module(command).__file__)
    text = file.read_text(encoding="utf-8")
    assert "type=int" not in text
    assert "type=float" not in text
