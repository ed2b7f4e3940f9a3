"""What hangs on the embedded models' weights: which file is of which weights, and whether it is of those of now.

A JSON file says itself which weights it is of. Pictures cannot, so ``assets/built.json`` says it for them, with the
hash of the picture. :mod:`train.rebuild` makes what is stale, and a test fails while anything is.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from drorae.bundled import DEFAULT_GENERATOR, DEFAULT_MODEL, DEFAULT_TEXT_GENERATOR, EXAMPLE_NAMES
from drorae.checkpoints import module_hash, weights_hash
from drorae.explorer.chosen import CHOSEN, FIRST, weights_of
from drorae.explorer.evidence import HASH
from drorae.explorer.layer_usage import USAGE
from drorae.explorer.standing import SPREAD
from drorae.pretrained.adapter import load_tokenizer
from drorae.study.fits import MEASURED
from drorae.viewers.report import model_hash
from train.choose_seeds import load_pipeline as load_generator
from train.latent_distance import RECORD as LATENT_DISTANCE

ROOT = Path(__file__).resolve().parent.parent
BUILT = "assets/built.json"
GRID = "grid.jpg"
CARD, MOVIE = "assets/card.png", "assets/screenshots/explorer.webp"
FILES, STATE, ENCODER, PIPELINE = "files", "state", "encoder", "pipeline"  # which weights of a folder


class Weights(NamedTuple):
    """The weights of a model, by its folder, and which of them are named: its files, what a tokenizer loads from them,
    its encoder alone, or all networks of a generator, the tokenizer included."""

    kind: str
    folder: str


class Derived(NamedTuple):
    """Files that are made from weights together.

    Attributes:
        title: what they are, for people.
        files: places below the root.
        of: the weights.
        key: key of the JSON files, where they name the weights; ``""`` where a text holds that name anywhere, ``None``
            where ``assets/built.json`` does for them.
        command: arguments of Python that make them; empty where a person has to do something.
        by_hand: what a person has to do.
        inputs: other derived files that they were made from, recorded for the first file.
        complete: that the command which a file states is this one, and not one on fewer photos.
        optional: they need not be there.
    """

    title: str
    files: tuple[str, ...]
    of: Weights
    key: str | None
    command: tuple[str, ...] = ()
    by_hand: str = ""
    inputs: tuple[str, ...] = ()
    complete: bool = False
    optional: bool = False


def _paths_in(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for name in names)


TOKENIZER = Weights(FILES, DEFAULT_MODEL)
PUBLISH = f"python -m train.publish --preset tiny --to {DEFAULT_MODEL} --baseline taef2 --mean-of tiny-mean4"
PUBLISH_CLASS = f"python -m train.publish_class --preset tiny --to {DEFAULT_GENERATOR}"
PUBLISH_TEXT = f"python -m train.publish_text --preset tiny --to {DEFAULT_TEXT_GENERATOR}"
CHOOSE = "python -m train.choose_seeds {} --look 16 SUBJECT..., look at the sheets, then again with --chosen"
DERIVED = (  # in the order in which they are made
    Derived("measurements of the tokenizer", _paths_in(DEFAULT_MODEL, MEASURED), TOKENIZER, HASH, by_hand=PUBLISH),
    Derived("card of the tokenizer", _paths_in(DEFAULT_MODEL, "README.md"), TOKENIZER, "", by_hand=PUBLISH),
    Derived(
        "decoder of the mean of four layers",
        _paths_in(DEFAULT_MODEL, "mean-4/config.json"),
        Weights(ENCODER, DEFAULT_MODEL),
        "encoder",
        by_hand=PUBLISH,
        optional=True,
    ),
    Derived(
        "distance that held-out tokens keep",
        _paths_in(DEFAULT_MODEL, LATENT_DISTANCE),
        TOKENIZER,
        HASH,
        ("-m", "train.latent_distance", DEFAULT_MODEL, "--limit", "1000"),
        complete=True,
    ),
    Derived(
        "gains of all held-out photos",
        _paths_in(DEFAULT_MODEL, SPREAD),
        TOKENIZER,
        HASH,
        ("-m", "train.spread", DEFAULT_MODEL),
        complete=True,
    ),
    Derived(
        "interventions on held-out photos",
        _paths_in(DEFAULT_MODEL, USAGE),
        TOKENIZER,
        HASH,
        ("-m", "train.interventions", DEFAULT_MODEL, "--photos", "200"),
        complete=True,
    ),
    Derived(
        "results of the examples",
        tuple(f"assets/examples/{name}.json" for name in EXAMPLE_NAMES),
        Weights(STATE, DEFAULT_MODEL),
        "model",
        ("-m", "train.examples", DEFAULT_MODEL),
        inputs=_paths_in(DEFAULT_MODEL, SPREAD),
    ),
    Derived(
        "measurements of the class generator",
        _paths_in(DEFAULT_GENERATOR, MEASURED),
        Weights(PIPELINE, DEFAULT_GENERATOR),
        "weights",
        by_hand=PUBLISH_CLASS,
    ),
    Derived(
        "grid of the class generator",
        _paths_in(DEFAULT_GENERATOR, GRID),
        Weights(PIPELINE, DEFAULT_GENERATOR),
        None,
        by_hand=PUBLISH_CLASS,
    ),
    Derived(
        "seeds of the class generator, chosen by looking",
        _paths_in(DEFAULT_GENERATOR, CHOSEN, FIRST),
        Weights(PIPELINE, DEFAULT_GENERATOR),
        "weights",
        by_hand=CHOOSE.format(DEFAULT_GENERATOR),
    ),
    Derived(
        "measurements of the text generator",
        _paths_in(DEFAULT_TEXT_GENERATOR, MEASURED),
        Weights(PIPELINE, DEFAULT_TEXT_GENERATOR),
        "weights",
        by_hand=PUBLISH_TEXT,
    ),
    Derived(
        "grid of the text generator",
        _paths_in(DEFAULT_TEXT_GENERATOR, GRID),
        Weights(PIPELINE, DEFAULT_TEXT_GENERATOR),
        None,
        by_hand=PUBLISH_TEXT,
    ),
    Derived(
        "seeds of the text generator, chosen by looking",
        _paths_in(DEFAULT_TEXT_GENERATOR, CHOSEN, FIRST),
        Weights(PIPELINE, DEFAULT_TEXT_GENERATOR),
        "weights",
        by_hand=CHOOSE.format(DEFAULT_TEXT_GENERATOR),
        optional=True,
    ),
    Derived(
        "tables of the README",
        ("README.md",),
        TOKENIZER,
        "",
        ("-m", "train.readme"),
        inputs=_paths_in(DEFAULT_MODEL, MEASURED),
    ),
    Derived("picture of a shared link", (CARD,), TOKENIZER, None, ("docs/card.py",)),
    Derived("moving picture of the README", (MOVIE,), TOKENIZER, None, ("docs/movie.py",)),
)


@cache
def name_weights(weights: Weights, root: Path = ROOT) -> str:
    """16 hexadecimal digits that name weights."""
    folder = root / weights.folder
    if weights.kind == FILES:
        return weights_hash(folder) or ""
    if weights.kind == PIPELINE:
        return weights_of(load_generator(str(folder)))
    model = load_tokenizer(folder)
    return model_hash(model) if weights.kind == STATE else module_hash(model.encoder)


def file_hash(file: Path) -> str:
    """16 hexadecimal digits that name a file's content."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def find_derived(file: str) -> Derived | None:
    """What a file, a place below the root, belongs to; ``None`` where that is nothing."""
    return next((derived for derived in DERIVED if file in derived.files), None)


def record_built(file: Path, root: Path = ROOT) -> None:
    """Write into ``assets/built.json`` what a file cannot say itself: of which weights it is, and from which other
    files it was made. A file that is not derived, somewhere else for instance, is not recorded."""
    name = file.resolve().relative_to(root).as_posix() if file.resolve().is_relative_to(root) else ""
    derived = find_derived(name)
    if derived is None:
        return
    entry: dict[str, Any] = {}
    if derived.key is None:
        entry |= {"weights": name_weights(derived.of, root), "sha256": file_hash(root / name)}
    if derived.inputs and name == derived.files[0]:
        entry["from"] = {each: file_hash(root / each) for each in derived.inputs}
    if not entry:
        return
    known = _read_json(root / BUILT) | {name: entry}
    (root / BUILT).write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _read_json(file: Path) -> dict[str, Any]:
    """What a JSON file holds; nothing where it is not there, damaged or something else."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def stale_because(derived: Derived, root: Path = ROOT, complete: bool = False) -> str | None:
    """Why the files are not those of the weights of now; ``None`` where they are.

    Args:
        complete: also files of the right weights are stale that were made on fewer photos than they are to be.
    """
    if derived.optional and not any((root / file).is_file() for file in derived.files):
        return None
    name = name_weights(derived.of, root)
    for file in derived.files:
        place = root / file
        if not place.is_file():
            return f"{file} is not there"
        if derived.key == "":
            if name not in place.read_text(encoding="utf-8"):
                return f"{file} does not name the weights {name}"
            continue
        built = derived.key is None
        content = _read_json(root / BUILT).get(file, {}) if built else _read_json(place)
        found = content.get(derived.key or "weights")
        if found != name:
            return f"{file} is of the weights {found or 'unknown'}, and these are {name}"
        if built and content.get("sha256") != file_hash(place):
            return f"{file} is not the file that {BUILT} speaks of"
        if complete and derived.complete and content.get("command") != f"python {' '.join(derived.command)}":
            return f"{file} was made by another command ({content.get('command')})"
    known = _read_json(root / BUILT).get(derived.files[0], {}).get("from", {})
    for each in derived.inputs:
        if known.get(each) != file_hash(root / each):
            return f"{derived.files[0]} was made from another {each}"
    return None
