"""Everything that is made from the embedded models is of the weights that are there; and one command makes it."""

import json
import re
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from drorae.checkpoints import weights_hash
from train import derived, rebuild
from train.derived import DERIVED, FILES, Derived, Weights, file_hash, record_built, stale_because
from train.errors import RunError

NAMING = ("sha256", "weights", "model", "encoder")  # keys under which files name weights


@pytest.mark.parametrize("each", DERIVED, ids=lambda each: each.title)
def test_nothing_is_stale(each):
    reason = stale_because(each)
    assert reason is None, f"{reason}; run python -m train.rebuild" + (f", or {each.by_hand}" if each.by_hand else "")


def test_every_file_that_names_weights_is_known():
    known = {file for each in DERIVED for file in each.files}
    for file in (ROOT / "assets").rglob("*.json"):
        content = json.loads(file.read_text(encoding="utf-8"))
        name = file.relative_to(ROOT).as_posix()
        if name != derived.BUILT and any(re.fullmatch("[0-9a-f]{16}", str(content.get(key))) for key in NAMING):
            assert name in known, f"{name} names weights; say in train/derived.py how it is made again"
    pictures = {f.relative_to(ROOT).as_posix() for end in ("png", "webp") for f in (ROOT / "assets").rglob(f"*.{end}")}
    pictures |= {f.relative_to(ROOT).as_posix() for f in (ROOT / "assets").rglob("grid.jpg")}
    assert pictures <= known


# ---- by a model of one file ---------------------------------------------------------------------------------------

MODEL = Weights(FILES, "assets/m")
WRITE = "import json, sys; json.dump({'sha256': sys.argv[2], 'command': sys.argv[3]}, open(sys.argv[1], 'w'))"


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    (tmp_path / "assets" / "m").mkdir(parents=True)
    (tmp_path / "assets" / "m" / "model.safetensors").write_bytes(b"first weights")
    monkeypatch.setattr(derived, "name_weights", lambda weights, root: weights_hash(root / weights.folder))
    return tmp_path


def now(root: Path) -> str:
    return weights_hash(root / "assets" / "m")


def test_a_file_that_names_its_weights(root):
    each = Derived("numbers", ("assets/m/numbers.json",), MODEL, "sha256", ("-m", "x", "--photos", "9"), complete=True)
    assert stale_because(each, root) == "assets/m/numbers.json is not there"
    file = root / "assets" / "m" / "numbers.json"
    file.write_text(json.dumps({"sha256": now(root), "command": "python -m x --photos 3"}))
    assert stale_because(each, root) is None
    assert "by another command (python -m x --photos 3)" in stale_because(each, root, complete=True)
    file.write_text(json.dumps({"sha256": now(root), "command": "python -m x --photos 9"}))
    assert stale_because(each, root, complete=True) is None
    (root / "assets" / "m" / "model.safetensors").write_bytes(b"other weights")
    assert stale_because(each, root).endswith(f", and these are {now(root)}")
    for damaged in ("{}", "[]", "{"):
        file.write_text(damaged)
        assert "is of the weights unknown" in stale_because(each, root)


def test_a_text_that_names_weights(root):
    each = Derived("text", ("README.md",), MODEL, "")
    (root / "README.md").write_text(f"weights {now(root)}.")
    assert stale_because(each, root) is None
    (root / "assets" / "m" / "model.safetensors").write_bytes(b"other weights")
    assert "does not name the weights" in stale_because(each, root)


def test_what_need_not_be_there_must_fit_once_it_is(root):
    each = Derived("seeds", ("assets/m/a.json", "assets/m/b.json"), MODEL, "weights", optional=True)
    assert stale_because(each, root) is None
    (root / "assets" / "m" / "b.json").write_text(json.dumps({"weights": now(root)}))
    assert stale_because(each, root) == "assets/m/a.json is not there"


def test_a_picture_is_recorded_with_its_weights_and_its_inputs(root, monkeypatch):
    each = Derived("picture", ("assets/p.png",), MODEL, None, inputs=("assets/m/numbers.json",))
    monkeypatch.setattr(derived, "DERIVED", (each,))
    numbers, picture = root / "assets" / "m" / "numbers.json", root / "assets" / "p.png"
    numbers.write_text("{}")
    picture.write_bytes(b"picture")
    assert "is of the weights unknown" in stale_because(each, root)
    record_built(picture, root)
    assert stale_because(each, root) is None
    picture.write_bytes(b"another picture")
    assert "is not the file that assets/built.json speaks of" in stale_because(each, root)
    record_built(picture, root)
    numbers.write_text('{"other": 1}')
    assert stale_because(each, root) == "assets/p.png was made from another assets/m/numbers.json"
    record_built(picture, root)
    (root / "assets" / "m" / "model.safetensors").write_bytes(b"other weights")
    assert "is of the weights" in stale_because(each, root)
    record_built(root / "assets" / "else.png", root)  # is not derived
    record_built(Path("/dev/null"), root)
    built = json.loads((root / derived.BUILT).read_text())
    assert list(built) == ["assets/p.png"]
    assert built["assets/p.png"]["sha256"] == file_hash(picture)


def step(root: Path, name: str, code: str = WRITE) -> Derived:
    """Numbers that a command of Python writes."""
    file = f"assets/m/{name}.json"
    return Derived(name, (file,), MODEL, "sha256", ("-c", code, file, now(root), name))


def test_only_what_is_stale_is_made_and_a_stopped_rebuild_goes_on(root, capsys):
    seeds = Derived("seeds", ("assets/m/seeds.json",), MODEL, "weights", by_hand="look at them")
    steps = [step(root, "a"), seeds, step(root, "b", "raise SystemExit(3)"), step(root, "c")]
    assert rebuild.rebuild(steps, root, dry_run=True) == steps
    assert not list((root / "assets" / "m").glob("*.json"))
    with pytest.raises(RunError, match="ended with code 3; fix that, then run this again"):
        rebuild.rebuild(steps, root)
    assert sorted(file.stem for file in (root / "assets" / "m").glob("*.json")) == ["a"]
    assert "by hand: seeds (assets/m/seeds.json is not there)\n  look at them" in capsys.readouterr().out
    steps[2] = step(root, "b")
    made = (root / "assets" / "m" / "a.json").stat().st_mtime_ns
    assert rebuild.rebuild(steps, root) == [seeds]
    printed = capsys.readouterr().out
    assert [line.split(":")[0] for line in printed.splitlines() if ": " in line and line[0] != " "] == [
        "fresh",
        "by hand",
        "making",
        "making",
    ]
    assert (root / "assets" / "m" / "a.json").stat().st_mtime_ns == made
    with pytest.raises(RunError, match=r"ran, and yet assets/m/d\.json is not there"):
        rebuild.rebuild([step(root, "d", "pass")], root)


def test_the_movie_is_played_on_a_page_of_its_own(root, monkeypatch):
    """A page of three lines stands for the explorer; the command is given its address."""
    (root / "app.py").write_text(
        "import http.server, sys\n"
        "assert sys.argv[1] == '--port'\n"
        "http.server.HTTPServer(('127.0.0.1', int(sys.argv[2])), http.server.SimpleHTTPRequestHandler).serve_forever()"
    )
    code = "import pathlib, sys; from urllib.request import urlopen\n"
    code += "pathlib.Path('seen').write_bytes(urlopen(sys.argv[1]).read())"
    movie = Derived("movie", (derived.MOVIE,), MODEL, None, ("-c", code))
    monkeypatch.setattr(rebuild.shutil, "which", lambda name: sys.executable)
    rebuild.make(movie, root)
    assert b"app.py" in (root / "seen").read_bytes()  # the listing of its folder
    (root / "app.py").write_text("raise SystemExit(1)")
    with pytest.raises(RunError, match="the page did not open"):
        rebuild.make(movie, root)
    monkeypatch.setattr(rebuild.shutil, "which", lambda name: None)
    with pytest.raises(RunError, match="needs Debian's chromium"):
        rebuild.make(movie, root)
