"""Conventions stated in ``drorae/__init__.py``, and names: functions are verbs or nouns, one fact has one home."""

import ast

import pytest
import torch
from conftest import ROOT

from drorae import AutoencoderDRoRAE
from drorae.errors import count_of

SOURCES = [path for folder in ("drorae", "train") for path in sorted((ROOT / folder).rglob("*.py"))]


def test_tokens_are_row_major(model):
    tokens = torch.arange(16.0).view(1, 16, 1).expand(1, 16, 48)
    latent = model.tokens_to_latent(tokens)
    assert latent.shape == (1, 48, 4, 4)
    assert latent[0, 0, 1].tolist() == [4, 5, 6, 7]
    assert model.latent_to_tokens(latent).equal(tokens)


def test_layers_are_blocks_and_not_the_patch_embedding(model, images):
    assert len(model.encoder(images)) == len(model.encoder.model.blocks) == 3


def test_defaults_are_the_papers_model():
    with torch.device("meta"):
        model = AutoencoderDRoRAE()
    assert (model.encoder.num_layers, model.encoder.dim, model.grid_size, model.image_size) == (12, 768, 16, 256)
    assert model.fusion_module.beta == 0.2
    count = lambda module: sum(p.numel() for p in module.parameters()) / 1e6  # noqa: E731
    assert 56.8 < count(model.fusion_module) < 56.9
    assert 85 < count(model.encoder) < 87
    assert 414 < count(model.decoder) < 416  # RAE's ViT-XL decoder


NOUNS = {"embed", "feed", "need", "seed", "speed"}  # that end as participles do, and the verbs among them
DESCRIPTIONS = {"told", "done", "whole", "shown", "sent", "known", "given", "made", "found", "kept", "said", "seen"}
DESCRIPTIONS |= {"soon", "plain", "similar", "relative", "slower", "optional", "once", "together", "beside", "inside"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def bare_descriptions(code: str) -> set[str]:
    """Names of functions that are a lone participle, adjective or adverb. Properties may be: they describe."""
    made = {node for node in ast.walk(ast.parse(code)) if isinstance(node, FUNCTIONS)}
    plain = {node for node in made if not any("property" in ast.unparse(each) for each in node.decorator_list)}
    names = {node.name.strip("_") for node in plain} - NOUNS
    return {name for name in names if name in DESCRIPTIONS or ("_" not in name and name.endswith("ed"))}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("def mix(): ...", set()),
        ("def whole_picture(): ...", set()),
        ("class A:\n  @cached_property\n  def fused(self): ...", set()),
        ("def mix():\n  async def _mixed(): ...", {"mixed"}),
        ("class A:\n  def done(self): ...", {"done"}),
    ],
)
def test_what_a_bare_description_is(code, found):
    assert bare_descriptions(code) == found


def test_functions_are_verbs_or_nouns():
    found = {path.name: bare_descriptions(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert {name: names for name, names in found.items() if names} == {}


def test_numbers_agree_with_their_nouns():
    assert [count_of(number, "seed") for number in (0, 1, 2)] == ["0 seeds", "1 seed", "2 seeds"]
    assert [count_of(number, "class", "classes") for number in (1, 2)] == ["1 class", "2 classes"]


def test_errors_of_the_library_keep_their_cause():
    """The page and the commands, which show sentences to people, hide it."""
    shells = (ROOT / "drorae" / "ui", ROOT / "drorae" / "cli")
    library = [path for path in SOURCES if not any(path.is_relative_to(shell) for shell in shells)]
    assert [path.name for path in library if " from None" in path.read_text(encoding="utf-8")] == []


def test_the_reason_of_an_error_is_taken_in_one_place():
    """:func:`drorae.errors.reason_of`; the first line of a module's own docstring is something else."""
    lines = {
        path.name: line.strip()
        for path in SOURCES
        for line in path.read_text(encoding="utf-8").splitlines()
        if "splitlines()" in line and "[0]" in line and "__doc__" not in line
    }
    assert list(lines) == ["errors.py"], lines


def test_several_words_may_stand_after_the_options():
    """As the docs have them: ``parse_args`` takes those before the first option alone."""
    refused = []
    for path in SOURCES:
        code = path.read_text(encoding="utf-8")
        calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
        several = any(
            isinstance(call.func, ast.Attribute)
            and call.func.attr == "add_argument"
            and not ast.literal_eval(call.args[0]).startswith("-")
            and any(word.arg == "nargs" and ast.literal_eval(word.value) in ("*", "+") for word in call.keywords)
            for call in calls
            if call.args and isinstance(call.args[0], ast.Constant)
        )
        if several and ".parse_args(" in code:
            refused.append(path.name)
    assert refused == []
