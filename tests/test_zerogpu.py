"""The page where a GPU is lent to a fork of it: the same answers, found in another process and kept in this one."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from conftest import ROOT
from gate import PATIENCE, answers, first_line
from gradio_client import Client, handle_file
from PIL import Image

from drorae.explorer.chosen import FIRST, weights_of
from drorae.explorer.interventions import InterventionError
from drorae.explorer.sampling import Request
from drorae.explorer.standing import Spread
from drorae.images import opening
from drorae.ui import durations, endpoints, generate, generators, gpu, many_photos
from drorae.ui.generators import CLASS, TEXT, Generator
from drorae.ui.models import Shelf
from drorae.ui.photo import Photos, answering
from drorae.ui.tokenizers import Tokenizers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="ZeroGPU forks a process of Linux")

STAND_IN = ROOT / "tests" / "stand_in"
CAT = str(ROOT / "assets" / "examples" / "cat.jpg")
WISH = {"key": "cat", "example": "cat", "name": "cat", "id": "taef2"}
OWN = {
    "intervene": {"layers": [1, 3], "beta": 0.4},
    "similar": {"token": 3, "second": {"key": "b", "example": "rocket"}},
}
KINDS = ("routes", "tiles", "standing", "frames", "intervene", "tokenizers", "similar", "arrays", "report")
PASSING = {"seconds", "moment", "made by"}
MADE = {
    "pictures": {},
    "grid": {"scales": [1, 2]},
    "walk": {"end": "golf ball"},
    "photo": {"photos": [{"example": "cat"}], "time": 0.99},
    "morph": {"photos": [{"example": "cat"}, {"example": "coffee"}]},
}


def stand_in() -> ModuleType:
    spec = importlib.util.spec_from_file_location("spaces_stand_in", STAND_IN / "spaces.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


class Page:
    """All that visitors can ask for, as plain functions."""

    def __init__(self, tiny, pipeline, text_pipeline):
        self.shelf = Shelf(tiny, "tiny", open_to_all=False)
        self.photos = Photos(self.shelf, Tokenizers(False, ["taef2"]))
        self.photos.spreads["tiny"] = Spread(64, np.zeros(1), "none") if tiny.config.any_size else None
        self.made = [Generator("classes", CLASS, lambda: pipeline), Generator("texts", TEXT, lambda: text_pipeline)]
        for each in self.made:
            each.load()

    def kinds(self, kind: str) -> list[dict]:
        function = self.photos.answers()[kind]
        return [update["answer"] for update in answering(function)({**WISH, **OWN.get(kind, {})})]

    def make(self, what: str, **changes) -> list[dict]:
        wish = {"key": "1", "what": what, "generator": "classes", "subject": "church", "seeds": [3, 8], "steps": 3}
        wish |= {"guidance": "cfg", "scale": 2, **MADE[what], **changes}
        return [update["answer"] for update in generate.answer(self.shelf, self.made, wish)]

    def rows(self, count: int) -> list[dict]:
        wish = {"id": 1, "files": [{"example": "cat"}, None, *[{"example": "coffee"}] * count]}
        return [update["answer"] for update in many_photos.answer(self.shelf, wish)]

    def calls(self) -> Iterator[tuple[Callable, tuple]]:
        """The endpoints, and what they are asked."""
        model = self.shelf.get("tiny")
        yield endpoints.reconstruct, (model, CAT)
        yield endpoints.routing, (model, CAT)
        yield endpoints.intervene, (model, CAT, [1], 0.5)
        yield endpoints.batch, (model, [CAT, CAT])
        yield endpoints.sample_class, (self.made, "church", 3, 2, "cfg", 2.0)
        yield endpoints.sample_text, (self.made, "a church", "", 3, 2, "none", 1.0)


def plain(value: Any) -> Any:
    """An answer without times, numbers rounded; sprites and pictures as they are."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items() if name not in PASSING and name != "text"}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, float):
        return round(value, 3)
    return np.asarray(value).tolist() if isinstance(value, Image.Image) else value


@pytest.fixture(scope="module")
def elsewhere(anysize, pipeline, text_pipeline) -> dict[str, Any]:
    """Every answer of the page as it is everywhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the fork, so that sums have one order
    page = Page(anysize, pipeline, text_pipeline)
    found = {kind: page.kinds(kind) for kind in KINDS} | {what: page.make(what) for what in MADE}
    found |= {"rows": page.rows(18), "text": page.make("pictures", generator="texts", subject="a church")}
    found |= {f"/{call.__name__}": call(*args) for call, args in page.calls()}
    torch.set_num_threads(threads)
    return found


@pytest.fixture
def zerogpu(elsewhere, anysize, pipeline, text_pipeline, monkeypatch) -> Iterator[tuple[Page, ModuleType]]:
    """The page where a GPU is lent, and the stand-in for who lends it."""
    lent = stand_in()
    monkeypatch.setattr(gpu, "ON_ZEROGPU", True)
    monkeypatch.setattr(gpu, "_compute", lent.GPU(gpu._task, duration=gpu._duration))
    page = Page(anysize, pipeline, text_pipeline)
    page.photos.others.load_allowed(anysize.device)
    page.shelf.hash("tiny")  # as when a page is built
    lent.pack()
    yield page, lent
    lent.unpack()


def asked(lent: ModuleType) -> list[str]:
    """The functions that a GPU was asked for, call by call."""
    return [args[1].__name__ for _, args in lent.calls]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_answered_as_elsewhere(elsewhere, zerogpu, kind):
    page, lent = zerogpu
    found = page.kinds(kind)
    json.dumps(found)
    assert "error" not in elsewhere[kind][-1]
    assert plain(found[-1]) == plain(elsewhere[kind][-1])
    if kind == "report":  # measured where the weights are, and hashed while they were here
        texts = [answers[-1]["value"]["text"] for answers in (found, elsewhere[kind])]
        hashes = [re.search(r"sha256 of its weights (\w{16})", text)[1] for text in texts]
        assert hashes[0] == hashes[1] == page.shelf.hash("tiny")
        assert ": NaN" not in texts[0]
    assert lent.calls


def test_what_was_found_is_kept_on_this_side(zerogpu):
    page, lent = zerogpu
    for kind in ("routes", "tiles", "standing", "frames"):
        page.kinds(kind)
    assert asked(lent) == ["routes", "tiles", "gain", "interventions"]
    assert len(page.photos.recent) == 0  # readings are the fork's
    lent.stop()  # and with it all that it has
    for kind in ("routes", "tiles", "standing", "frames", "arrays", "report"):
        assert "value" in page.kinds(kind)[-1]
    assert len(lent.calls) == 4


def test_a_report_asks_for_what_is_missing_alone_and_the_page_keeps_it(zerogpu):
    page, lent = zerogpu
    page.kinds("routes")
    first = page.kinds("report")[-1]["value"]["text"]
    assert asked(lent) == ["routes", "tiles", "interventions"]
    page.kinds("tiles")
    page.kinds("frames")
    assert page.kinds("report")[-1]["value"]["text"] == first
    assert len(lent.calls) == 3


def test_who_looks_elsewhere_ends_the_painting(zerogpu):
    page, _ = zerogpu
    frames = page.photos.frames(WISH)
    next(frames)
    frames.close()
    assert page.kinds("tiles")[-1]["value"]["psnr"]  # the fork takes the next question
    assert page.photos.look(WISH).findings.interventions is None


@pytest.mark.parametrize("what", MADE)
def test_everything_that_is_made_is_as_elsewhere(elsewhere, zerogpu, what):
    page, lent = zerogpu
    found = page.make(what)
    assert "error" not in elsewhere[what][-1]
    assert plain(found) == plain(elsewhere[what])
    assert len(lent.calls) == 1


def test_a_text_is_made_as_elsewhere(elsewhere, zerogpu):
    page, _ = zerogpu
    assert plain(page.make("pictures", generator="texts", subject="a church")) == plain(elsewhere["text"])


def test_endpoints_answer_as_elsewhere(elsewhere, zerogpu):
    page, lent = zerogpu
    for call, args in page.calls():
        assert plain(call(*args)) == plain(elsewhere[f"/{call.__name__}"]), call.__name__
    sampled = ["sample_with_progress"] * 2
    assert asked(lent) == ["explore", "explore", "intervene", "rows", "rows", *sampled]


def test_many_photos_are_decoded_on_this_side_and_share_calls(elsewhere, zerogpu, monkeypatch):
    monkeypatch.setattr(
        opening, "is_cheap", lambda stream: False
    )  # each in a process of its own, which a fork may not start
    page, lent = zerogpu
    found = page.rows(18)
    assert plain(found[-1]) == plain(elsewhere["rows"][-1])
    assert asked(lent) == ["rows", "rows", "rows"]  # 1, 16 with a bad one, 3
    assert [len(args[3]) for _, args in lent.calls] == [1, 15, 3]


def test_errors_keep_their_sentences(zerogpu):
    page, lent = zerogpu
    with pytest.raises(InterventionError, match="There is no layer 9; layers are numbered 1 to 3"):
        page.photos.intervene({**WISH, "layers": [9]})
    assert "no class 'unicorn'" in page.make("pictures", subject="unicorn")[-1]["error"].lower()
    lent.refusals.append('You have exceeded your quota. <a href="https://example.org">Sign up</a>')
    assert page.kinds("routes")[-1]["error"] == "You have exceeded your quota. Sign up"


def test_the_device_s_own_errors_come_back(zerogpu, monkeypatch):
    page, _ = zerogpu

    def overflow(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(page.made[0].load()), "steps", overflow)
    assert "could not run here: CUDA out of memory" in page.make("pictures")[-1]["error"]


def test_more_work_is_given_more_time(zerogpu):
    page, lent = zerogpu
    for kind in ("routes", "frames"):
        page.kinds(kind)
    page.make("pictures")
    page.make("pictures", steps=100, seeds=[1, 2, 3, 4])
    routes, frames, few, many = (seconds for seconds, _ in lent.calls)
    assert gpu.START < routes < frames <= gpu.LONGEST
    assert gpu.START < few < many <= gpu.LONGEST
    assert durations.sampling_seconds(Request(0, steps="x")) == durations.READING  # which is refused


def questions() -> set[str]:
    """Functions that the page's modules have computed where a GPU is."""
    found = set()
    for path in (ROOT / "drorae" / "ui").glob("*.py"):
        if path.name == "gpu.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if name in ("gpu.run", "gpu.stream", "self.ask"):
                asked_for = node.args[1 if name == "self.ask" else 0]
                found.add(getattr(asked_for, "attr", None) or asked_for.id)
    return found - {"function"}  # passed on by Photos.ask


def test_every_event_that_computes_asks_for_a_gpu_and_no_function_is_left_over(zerogpu):
    """With the weights gone, whatever computed on this side would have no numbers: the tests above would fail."""
    page, lent = zerogpu
    for kind in KINDS:
        page.kinds(kind)
    for what in MADE:
        page.make(what)
    page.rows(1)
    for call, args in page.calls():
        call(*args)
    assert set(asked(lent)) == questions()
    assert len(lent.decorated) == 1


def test_pictures_that_ship_with_a_generator_are_known_without_its_weights(zerogpu, pipeline, tmp_path):
    _, lent = zerogpu
    lent.unpack()
    (tmp_path / FIRST).write_text(json.dumps({"weights": weights_of(pipeline)}))
    generator = Generator("x", CLASS, lambda: pipeline, folder=tmp_path)
    generator.load()
    lent.pack()
    assert generator.first() is not None


def test_what_a_fork_would_lose_again_is_not_offered(anysize, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [each.title for each in generators.available_generators(None, None, anysize)] == [generators.RAE_TITLE]
    monkeypatch.setattr(gpu, "ON_ZEROGPU", True)
    assert generators.available_generators(None, None, anysize) == []


# the program, as a Space starts it

START = """
import sys, threading
import app
import spaces, torch
assert not spaces.TORCH_WAS_HERE, "spaces comes before torch"
launch = app.main.__globals__["build_demo"].__globals__["gr"].Blocks.launch
def packed_launch(self, *args, **kwargs):
    spaces.pack()
    print("decorated", len(spaces.decorated), kwargs["ssr_mode"], flush=True)
    return launch(self, *args, **kwargs)
app.main.__globals__["build_demo"].__globals__["gr"].Blocks.launch = packed_launch
sys.exit(app.main())
"""


@pytest.mark.slow
def test_a_space_serves_the_page_from_a_checkout(tmp_path, explored):
    """It has the files that are pushed, and variables instead of options; the package is not installed."""
    for name in ("app.py", "drorae", "assets"):
        (tmp_path / name).symlink_to(ROOT / name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {
        "SPACES_ZERO_GPU": "true",
        "SPACE_ID": "somebody/drorae",
        "GRADIO_SSR_MODE": "True",
        "DRORAE_DEVICE": "cpu",
        "SYSTEM": "spaces",
    }
    given |= {"GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1", "PYTHONPATH": str(STAND_IN)}
    given |= {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", START], cwd=tmp_path, env=os.environ | given, stdout=subprocess.PIPE, text=True
    )
    try:
        assert first_line(process.stdout) == "decorated 1 False\n"
        address = f"http://127.0.0.1:{port}/"
        assert answers(address, process)
        _, numbers = Client(address, verbose=False).predict(handle_file(CAT), api_name="/reconstruct")
        assert numbers["drorae"]["psnr"] == pytest.approx(explored.metrics["drorae"]["psnr"], abs=0.01)
        assert httpx.get(f"{address}config").json()["space_id"] == "somebody/drorae"
    finally:
        process.terminate()
        process.wait(PATIENCE)


@pytest.mark.slow
def test_zerogpu_takes_no_models_of_visitors():
    given = {"SPACES_ZERO_GPU": "true", "PYTHONPATH": str(STAND_IN)}
    command = [sys.executable, "app.py", "--any-model"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | given, capture_output=True, encoding="utf-8")
    assert done.returncode == 2
    assert done.stderr.endswith("leave --any-model out and name them with --model and --tokenizers.\n")
