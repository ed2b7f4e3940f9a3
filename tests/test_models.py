"""Which model a page has: what is kept, who may load, what the card and the command line say."""

from __future__ import annotations

import os
from http.server import HTTPServer, SimpleHTTPRequestHandler
from threading import Thread

import httpx
import pytest
from conftest import build

from drorae import CheckpointError
from drorae.ui import app
from drorae.ui.about_tab import NO_CARD, model_card
from drorae.ui.models import KEPT, Shelf, model_line


@pytest.fixture
def folders(tmp_path):
    names = [tmp_path / f"model-{number}" for number in range(KEPT + 1)]
    for width, folder in zip((32, 64, 96), names, strict=True):
        build(fusion_hidden_size=width).save_pretrained(folder)
    return [str(name) for name in names]


def test_the_first_stays_and_the_oldest_of_the_others_goes(tiny, folders):
    shelf = Shelf(tiny, "tiny", open_to_all=True)
    for name in folders[:KEPT]:
        first, *_ = shelf.load(name)
        assert first == f"Looking for {name} ..."
    shelf.get(folders[0])  # used again: now the other is the oldest
    list(shelf.load(folders[KEPT]))
    assert shelf.get("tiny") is tiny
    assert shelf.get(folders[0]).config.fusion_hidden_size == 32
    assert shelf.get(folders[KEPT]).config.fusion_hidden_size == 96
    with pytest.raises(CheckpointError, match="is no longer loaded; load it again"):
        shelf.get(folders[1])
    assert list(shelf.load(folders[0])) == []  # it is there


def test_a_fixed_page_loads_nothing_whoever_asks(tiny, folders):
    shelf = Shelf(tiny, "tiny", open_to_all=False)
    with pytest.raises(CheckpointError, match="the model is fixed"):
        list(shelf.load(folders[0]))
    with pytest.raises(CheckpointError, match="Name a folder"):
        list(Shelf(tiny, "tiny", open_to_all=True).load(""))


def test_a_model_is_described_by_its_size(tiny):
    count = sum(parameter.numel() for parameter in tiny.parameters())
    assert (
        model_line(tiny, "x")
        == f"x: {count / 1e6:.1f} M parameters, {4 * count / 1e3:,.0f} kB in fp32 on the CPU, 3 layers fused."
    )


@pytest.mark.parametrize(
    ("arguments", "space", "switch"),
    [
        ([], None, True),
        (["--host", "0.0.0.0"], None, False),
        ([], "me/space", False),
        (["--host", "::", "--any-model"], None, True),
    ],
)
def test_others_may_load_models_only_where_it_is_said(monkeypatch, tiny, arguments, space, switch):
    def stop(*_, **options):
        raise CheckpointError(f"switch is {options['switch']}")

    monkeypatch.setattr(app, "build_demo", stop)
    monkeypatch.setattr(app, "load_tokenizer", lambda name: tiny)
    monkeypatch.delenv("SPACE_ID", raising=False)
    if space:
        monkeypatch.setenv("SPACE_ID", space)
    told = []
    monkeypatch.setattr("builtins.print", lambda text, **_: told.append(str(text)))
    assert app.main(arguments) == 2
    assert told == [f"switch is {switch}"]


@pytest.mark.parametrize("known", [None, "example.org, 10.0.0.1", "*"])
def test_the_page_asks_itself_past_any_proxy(monkeypatch, known):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        if known:
            monkeypatch.setenv(name, known)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody is there
    app.bypass_proxies("192.168.1.5")
    kept = [] if known is None else [part.strip() for part in known.split(",")]
    assert os.environ["no_proxy"].split(",") == [*kept, "127.0.0.1", "localhost", "192.168.1.5"]
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        Thread(target=server.handle_request, daemon=True).start()
        assert httpx.get(f"http://127.0.0.1:{server.server_port}/nothing-here", timeout=30).status_code == 404


def test_a_start_behind_a_proxy_reaches_the_page(monkeypatch, tiny):
    class Page:
        def launch(self, **options):
            launched.append(os.environ["no_proxy"])

    launched: list[str] = []
    monkeypatch.setattr(app, "build_demo", lambda *_, **__: Page())
    monkeypatch.setattr(app, "load_tokenizer", lambda name: tiny)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    assert app.main([]) == 0
    assert launched == ["127.0.0.1,localhost"]


def test_a_card_loses_its_head_and_its_pictures_only(tmp_path):
    assert model_card(str(tmp_path)) == NO_CARD
    (tmp_path / "README.md").write_text("---\na: b\n---\n\n# Title\n\n![grid](grid.jpg)\n\n## Part\ntext --- more\n")
    assert model_card(str(tmp_path)) == "### Title\n\n\n#### Part\ntext --- more"
