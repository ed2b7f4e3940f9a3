"""One self-contained HTML file of a photo: the views of the page, still movable, and how to make it again."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import shlex
from collections.abc import Mapping
from html import escape
from importlib.metadata import version
from typing import Any, NamedTuple

import torch

from drorae import __version__
from drorae.checkpoints import stored_folder, weights_hash
from drorae.devices import precision_name
from drorae.explorer.reading import Reading, default_size
from drorae.explorer.recent import Found
from drorae.images import CENTRE
from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.viewers import static_files
from drorae.viewers.values import frames_value, routes_value, tiles_value

# what a visitor chose and a report shows
STATE = ("token", "pinned", "layer", "off", "beta", "region", "decoder", "split")

VIEWS = ("strip", "picture", "layers", "weights", "frequency")  # those that need no more than the file holds
PACKAGES = ("torch", "timm", "diffusers")
NOT_HERE = "Not precomputed for this report; open the explorer."

# What Gradio gives the views' scripts: an element, and ways to ask. Here nobody answers but this file.
START = """
store.configure(%(config)s);
store.set({ step: 9 });
Object.assign(store.add({ key: %(key)s, name: %(name)s, example: null }).kinds, %(kinds)s);
for (const kind of ["intervene", "similar"]) {
  store.open(kind, ({ key, id }) => store.receive(kind, { key, id, error: %(not_here)s }));
}
for (const name of Object.keys(views)) {
  views[name](document.getElementById(name), {}, () => {}, () => {}, async () => ({}));
}
store.show(%(key)s);
store.set(%(state)s);
"""


class Frames(NamedTuple):
    """How small the pictures of interventions are.

    Attributes:
        side: the longer one, pixels.
        quality: of the picture that holds them all, 1 to 100.
    """

    side: int
    quality: int


def report(
    reading: Reading | Found,
    model_name: str,
    picture_name: str,
    state: Mapping[str, Any] | None = None,
    standing: Mapping[str, Any] | None = None,
    frames: Frames | None = None,
    code: str | None = None,
) -> str:
    """A report as the text of one HTML file. It asks for nothing from outside, and what was computed for the page
    can be moved in it.

    Args:
        reading: the photo as the model reads it, whose interventions are painted where the model can have them; or all
            that was found in it, for which nothing is computed.
        model_name, picture_name: as they are to be named, and as the command that makes the report again takes them.
        state: what was chosen on the page, to begin with (see ``store/state.js``).
        standing: the kind ``standing`` of the photo, where it is known.
        frames: how the pictures of interventions are made smaller; ``None`` keeps all their pixels.
        code: the model's :func:`model_hash`, where that is known.
    """
    model, result = reading.model, reading.routes
    value = routes_value(
        result,
        key="photo",
        name=picture_name,
        model={"name": model_name, "hash": code or model_hash(model)},
        facts=reading.facts,
    )
    kinds = {"routes": value, **({"standing": dict(standing)} if standing else {})}
    if reading.can_intervene():
        *_, made = reading.interventions()
        kinds["frames"] = frames_value(result, made, *(frames or ()))
        kinds["tiles"] = tiles_value(reading.tiles())
    argument = f"./{picture_name}" if picture_name.startswith("-") else picture_name  # or it would be an option
    height, width, _ = result.original.shape
    size = [] if reading.size == default_size(model) else ["--size", str(reading.size)]
    moved = reading.facts["crop"] is not None and reading.centre != CENTRE
    part = ["--whole"] if result.whole else ["--centre", *map(str, reading.centre)] if moved else []
    options = [*size, *part, "--out", "report.html"]
    command = shlex.join(["python", "-m", "drorae", "report", argument, "--model", model_name, *options])
    known = model_facts(model, model_name, value["model"]["hash"])
    facts = {
        "picture": f"{picture_name}, {'all of it' if result.whole else 'a square of it'} at {width} x {height} pixels",
        **known,
        "layers": f"{known['layers']}; {math.prod(result.grid_size)} tokens",
        "made by": command,
    }
    if frames is not None and reading.can_intervene():
        facts["what if"] = f"pictures at most {frames.side} pixels wide or high, quality {frames.quality} of 100, to "
        facts["what if"] += "keep this file small; their numbers are those of the full pictures"
    shown = [name for name in VIEWS if name in ("strip", "picture") or reading.can_intervene()]
    config = {
        "layers": model.encoder.num_layers,
        "channels": model.encoder.dim,
        "precision": precision_name(model.dtype),
        "model": value["model"],
        "report": True,
    }
    styles = [static_files.page_style(), static_files.read_static("report.css"), *map(static_files.style, shown)]
    functions = ",\n".join(
        f'"{name}": function (element, props, watch, trigger, upload) {{\n{static_files.script(name)}\n}}'
        for name in shown
    )
    start = START % {
        "config": _json(config),
        "key": _json("photo"),
        "name": _json(picture_name),
        "kinds": _json(kinds),
        "not_here": _json(NOT_HERE),
        "state": _json({key: each for key, each in (state or {}).items() if key in STATE}),
    }
    sections = "".join(f'<div id="{name}">{static_files.markup(name)}</div>\n' for name in shown)
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>DRoRAE: {escape(picture_name)}</title>\n<style>{''.join(styles)}</style></head>\n<body>\n"
        f'<p class="visually-hidden" id="said" role="status"></p>\n{sections}'
        f'<footer class="drorae"><div class="inner"><h2>How this was made</h2>{_table(facts)}</div></footer>\n'
        f"<script>\ndocument.body.classList.toggle('dark', matchMedia('(prefers-color-scheme: dark)').matches);\n"
        f"{static_files.page_script()}\nconst views = {{\n{functions}\n}};\n{start}</script>\n</body>\n</html>\n"
    )


def model_facts(model: AutoencoderDRoRAE, name: str, code: str | None = None) -> dict[str, str]:
    """Which model computed something, in which precision and where, and versions of what it ran with.

    Args:
        name: as it is to be named.
        code: its :func:`model_hash`, where that is known.
    """
    versions = {
        "drorae": __version__,
        **{package: version(package) for package in PACKAGES},
        "Python": platform.python_version(),
    }
    return {
        "model": f"{name}, sha256 of its weights {code or model_hash(model)}{_files_hash(name)}",
        "layers": f"{model.encoder.num_layers}, of {model.config.encoder_name}",
        "computed in": f"{str(model.dtype).removeprefix('torch.')} on {model.device.type}",
        "versions": ", ".join(f"{package} {number}" for package, number in versions.items()),
    }


def model_hash(model: AutoencoderDRoRAE) -> str:
    """First 16 digits of the sha256 of all weights, in the order of their names."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _files_hash(model_name: str) -> str:
    """The hash that ``train.evaluate`` and the model cards name, where the weights are files here."""
    folder = stored_folder(model_name)
    known = None if folder is None else weights_hash(folder)
    return f", of the files {known}" if known else ""


def _json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value).replace("<", "\\u003c")


def _table(facts: Mapping[str, str]) -> str:
    cells = (f"<tr><th>{escape(key)}</th><td><code>{escape(value)}</code></td></tr>" for key, value in facts.items())
    return f'<table class="facts">{"".join(cells)}</table>'
