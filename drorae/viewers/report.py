"""One self-contained HTML file of an exploration: the viewers of the page, and how to make it again."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import shlex
from collections.abc import Callable, Mapping
from html import escape
from importlib.metadata import version

import torch

from drorae import __version__
from drorae.checkpoints import stored_folder, weights_hash
from drorae.explorer.explore import Exploration, default_size
from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.viewers import static_files, values

VIEWERS: dict[str, tuple[str, Callable[[Exploration], dict | None]]] = {
    "compare": ("What was lost, and what came back", values.compare_value),
    "routing": ("Which layer, where", values.routing_value),
    "intervene": ("What if", values.intervene_value),
    "frequency": ("At which size of detail", values.frequency_value),
}
PACKAGES = ("torch", "timm", "diffusers")
NOT_HERE = "Not precomputed for this report; open the explorer."

# What Gradio gives the viewers' scripts: an element, the value, and a way to ask; here nobody answers but this file.
START = """
<script>
for (const name of %(names)s) {
  const element = document.getElementById(name);
  const props = { value: JSON.parse(document.getElementById(name + "-value").textContent) };
  const watching = {};
  const watch = (prop, callback) => { watching[prop] = callback; };
  const trigger = (event, asked) => {
    props.answer = { id: asked && asked.id, error: %(not_here)s };
    if (watching.answer) watching.answer();
  };
  scripts[name](element, props, watch, trigger);
}
</script>
"""


def report(result: Exploration, model: AutoencoderDRoRAE, model_name: str, picture_name: str) -> str:
    """The HTML text. It asks for nothing from outside; what was computed for the page can be moved in it.

    Args:
        result: with its interventions, where the model can have them.
        model_name, picture_name: as they are to be named, and as the command that makes the report again takes them.
    """
    shown = {
        name: (title, value) for name, (title, value_of) in VIEWERS.items() if (value := value_of(result)) is not None
    }
    argument = f"./{picture_name}" if picture_name.startswith("-") else picture_name  # or it would be an option
    height, width, _ = result.original.shape
    size = [] if width == height == default_size(model) else ["--size", str(round(math.sqrt(width * height)))]
    options = [*size, *(["--whole"] if result.whole else []), "--out", "report.html"]
    command = shlex.join(["python", "-m", "drorae", "report", argument, "--model", model_name, *options])
    versions = {
        "drorae": __version__,
        **{name: version(name) for name in PACKAGES},
        "Python": platform.python_version(),
    }
    facts = {
        "picture": f"{picture_name}, {'all of it' if result.whole else 'central square'} at {width} x {height} pixels",
        "model": f"{model_name}, sha256 of its weights {model_hash(model)}{_files_hash(model_name)}",
        "layers": f"{model.encoder.num_layers}, of {model.config.encoder_name}; {math.prod(result.grid_size)} tokens",
        "computed in": f"{str(model.dtype).removeprefix('torch.')} on {model.device.type}",
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
        "made by": command,
    }
    styles = [static_files.style("page"), static_files.shared_style(), *map(static_files.style, shown)]
    sections = "".join(
        f'<h2>{escape(title)}</h2>\n<div id="{name}">{static_files.markup(name)}</div>\n'
        f'<script type="application/json" id="{name}-value">{_json(value)}</script>\n'
        for name, (title, value) in shown.items()
    )
    scripts = f"<script>{static_files.library()}</script>\n" + "".join(
        f"<script>(window.scripts ??= {{}}).{name} = function (element, props, watch, trigger) {{\n"
        f"{static_files.script(name)}\n}};</script>\n"
        for name in shown
    )
    start = START % {"names": json.dumps(list(shown)), "not_here": json.dumps(NOT_HERE)}
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>DRoRAE: {escape(picture_name)}</title>\n<style>{''.join(styles)}</style></head>\n<body>\n"
        f"<h1>What the layers see in {escape(picture_name)}</h1>\n{_table(facts)}\n{sections}"
        f"{scripts}{start}</body>\n</html>\n"
    )


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


def _json(value: dict) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value).replace("<", "\\u003c")


def _table(facts: Mapping[str, str]) -> str:
    cells = (f"<tr><th>{escape(key)}</th><td><code>{escape(value)}</code></td></tr>" for key, value in facts.items())
    return f'<table class="facts">{"".join(cells)}</table>'
