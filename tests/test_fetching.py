"""Fetching from a hub: progress, cancelling, and what is said when it fails."""

from __future__ import annotations

import pytest
from conftest import build
from fake_hub import COMMIT, reach, serve
from gate import Gate

import drorae.pretrained.download
from drorae import CheckpointError
from drorae.checkpoints import stored_folder
from drorae.pretrained.adapter import load_tokenizer
from drorae.pretrained.download import fetch

NAME = "somebody/a-tokenizer"


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repository")
    build().save_pretrained(folder)
    (folder / "README.md").write_text("# A tokenizer\n")
    return folder


def test_a_model_is_fetched_once_its_progress_seen_and_another_missed(repository, tmp_path, monkeypatch):
    pieces, seen = Gate(), []
    with serve(NAME, repository, pieces) as address:
        reach(address, tmp_path, monkeypatch)
        monkeypatch.setattr(drorae.pretrained.download, "SECONDS", 0.01)
        for state in fetch(NAME):
            seen.append(state)
            if 0 < state.done < state.total:  # the small files are here, and seen to be: now the weights
                pieces.open()
        assert list(fetch(NAME)) == []
        with pytest.raises(CheckpointError, match="There is no folder 'somebody/else'") as error:
            list(fetch("somebody/else"))
    done, total = zip(*seen, strict=True)
    size = sum(path.stat().st_size for path in repository.glob("*"))
    assert set(total) == {size}
    assert list(done) == sorted(done)
    assert done[-1] == size
    assert any(0 < value < size for value in done)
    assert load_tokenizer(NAME).config.fusion_hidden_size == build().config.fusion_hidden_size
    assert stored_folder(NAME).name == COMMIT
    assert str(error.value).count("\n") == 0


def test_closing_stops_the_download(repository, tmp_path, monkeypatch):
    pieces = Gate()
    with serve(NAME, repository, pieces) as address:
        downloads = reach(address, tmp_path, monkeypatch)
        states = fetch(NAME)
        first = next(states)
        pieces.wait_for(1)  # the weights are on their way
        assert downloads[-1].returncode is None
        states.close()
        assert downloads[-1].returncode < 0  # by a signal
        pieces.open()
    assert first.done < first.total
    assert stored_folder(NAME) is None


def test_without_a_network_it_is_one_sentence_too():
    with pytest.raises(CheckpointError, match="no folder 'nobody/nothing'"):
        list(fetch("nobody/nothing"))  # the tests are offline


def test_folders_and_bundled_models_need_no_network(repository):
    assert list(fetch(str(repository))) == list(fetch("assets/drorae-tiny")) == []
    assert stored_folder(str(repository)) == repository
    assert stored_folder("nobody/nothing") is None
    assert stored_folder("no name at all ..") is None
