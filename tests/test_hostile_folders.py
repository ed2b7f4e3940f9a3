"""Models that mean harm are refused in a sentence; the full command takes all of them."""

import os
import sys

import pytest

from tests.hostile.folders import SECONDS, Case, Trial, corpus

EVERY = 41  # th of them
# one of each way in which a model did harm
NAMED = {
    ("ours", "config.json: decoder_num_layers = huge"): "'decoder_num_layers' must be a whole number from 1 to 1,000",
    ("ours", "config.json: encoder_args.depth = huge"): "'encoder_args' must be",
    ("ours", "config.json: decoder_patch_size = negative"): "'decoder_patch_size' must be a whole number from 1 to 256",
    ("ours", "config.json: fusion_beta = NaN"): "says nan for 'fusion_beta', which is not a usable number",
    ("ours", "config.json: 'os.system'"): "holds a model of the kind 'os.system'",
    ("kl", "config.json: 'os.system'"): "is not an autoencoder of pictures that diffusers knows",
    ("kl", "config.json: layers_per_block = huge"): "it has many more tensors than the",
    ("class", "['diffusers', 'DiffusionPipeline']"): "'scheduler' must be a list of 'diffusers' and FlowMatchEuler",
    ("class", "['diffusers', 'DEISMultistepScheduler']"): "'scheduler' must be",
    ("class", "a scheduler of its own choice: ['planted', 'Planted']"): "'scheduler' must be",
    ("text", "tokenizer/tokenizer_config.json: auto_map"): "has 'auto_map', which is never followed here",
    ("text", "text_encoder/config.json: auto_map"): "has 'auto_map', which is never followed here",
    ("text", "'timm_wrapper'"): "which is not a known text encoder",
    ("ours", "one NaN"): "holds values that are not finite",
    ("rae", "complex numbers"): "is of the type 'C64'; weights are floating-point numbers",
    ("ours", "a pipe"): "is not an ordinary file",
    ("ours", "a link to endless zeros"): "is not an ordinary file",
    ("ours", "outside"): "lists files that are not beside it",
}


@pytest.fixture(scope="module")
def trial(tmp_path_factory) -> Trial:
    if sys.platform == "win32":
        pytest.skip("Windows has neither the pipes nor the devices that are tried")
    return Trial(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return corpus()


def test_what_did_harm_is_refused_by_name(trial, cases):
    for (door, what), sentence in NAMED.items():
        case = next(case for case in cases if case.door == door and f"{case.kind}: {case.what}".endswith(what))
        result, said = trial.outcome(case)
        assert result == "refused", (case.what, said)
        assert sentence in said


def test_a_sample_is_refused_or_read_as_it_was(trial, cases):
    found = {case: trial.outcome(case) for case in cases[::EVERY]}
    assert {f"{case.door}, {case.what}": said for case, (result, said) in found.items() if result == "wrong"} == {}
    assert {result for result, _ in found.values()} == {"read", "refused"}


def test_attention_is_fixed_whatever_a_configuration_says(trial, cases):
    for case in cases:
        if case.kind == "attention of its own choice":
            assert trial.outcome(case)[0] == "read", case.what
            break
    else:
        pytest.fail("there is none")


def test_what_runs_is_seen(trial, tmp_path):
    """A case that writes the file of planted code is wrong, whatever else comes of it."""

    def run(folder):
        (folder / "planted").write_text("ran")

    result, said = trial.outcome(Case("a class of its own choice", "ours", "planted", run, may_read=True))
    assert result == "wrong"
    assert said.startswith("its code ran")


def test_the_corpus_is_as_large_as_it_says_and_always_the_same(cases):
    assert len(cases) >= 2500
    assert [(case.kind, case.what) for case in cases] == [(case.kind, case.what) for case in corpus()]
    assert SECONDS <= 60
    assert os.environ["HF_HUB_OFFLINE"] == "1"
