"""Seeds of a generator that are shown first, chosen by looking at them.

Two commands, with the looking in between::

    python -m train.choose_seeds assets/drorae-tiny-class --look 16 --to runs/sheets "golden retriever" tench
    python -m train.choose_seeds assets/drorae-tiny-class --chosen "golden retriever=7,9,14" "tench=1,8,14"

The first draws one sheet per class (or prompt) with the seeds 0 to 15. The second writes ``chosen.json`` beside the
weights, with how many were looked at, and ``first.json``: the finished pictures of the first of them, with those of the
seeds 0 to 2, which the page shows before anything is sampled. Both name the weights they belong to.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from drorae import DRoRAEClassPipeline, DRoRAETextPipeline
from drorae.checkpoints import CheckpointError, resolve
from drorae.explorer.chosen import CHOSEN, FIRST, weights_of
from drorae.explorer.sampling import Request, sample_to_end, usual_guidance
from drorae.pipelines.base import INDEX, DRoRAEPipeline, SamplingError
from drorae.viewers.values import generation_value
from train.engine.session import main_guard, number_of

STEPS, UNPICKED, ACROSS, NUMBER = 25, 3, 8, 14
KINDS = {kind.__name__: kind for kind in (DRoRAEClassPipeline, DRoRAETextPipeline)}


def load_pipeline(name: str) -> DRoRAEPipeline:
    """The pipeline of a folder, whichever kind it is."""
    index = json.loads((resolve(name) / INDEX).read_text(encoding="utf-8"))
    if index.get("_class_name") not in KINDS:
        raise CheckpointError(f"'{name}' holds the class {index.get('_class_name')}, not a generator of drorae.")
    pipeline = KINDS[index["_class_name"]].from_pretrained(name)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def usual_request(pipeline: DRoRAEPipeline, subject: str, seeds: list[int]) -> Request:
    """The sampling that the page does when nothing is set."""
    guidance, scale = usual_guidance(pipeline)
    return Request(subject, steps=STEPS, guidance=guidance, scale=scale, compare=False, seeds=tuple(seeds))


def draw_sheet(pipeline: DRoRAEPipeline, subject: str, count: int) -> Image.Image:
    """The seeds 0 to ``count`` - 1 of a class or prompt, each under its number."""
    pictures: list[np.ndarray] = []
    for start in range(0, count, ACROSS):
        seeds = list(range(start, min(start + ACROSS, count)))
        row = sample_to_end(pipeline, usual_request(pipeline, subject, seeds), "").rows[0]
        pictures.extend(list(row.pictures.values())[-1])
    side = pictures[0].shape[0]
    sheet = Image.new("RGB", (min(ACROSS, count) * side, -(-count // ACROSS) * (side + NUMBER)))
    draw = ImageDraw.Draw(sheet)
    for number, picture in enumerate(pictures):
        x, y = number % ACROSS * side, number // ACROSS * (side + NUMBER)
        sheet.paste(Image.fromarray(picture), (x, y + NUMBER))
        draw.text((x + 2, y), str(number), fill="white")
    return sheet


def read_choice(text: str) -> tuple[str, list[int]]:
    """``"golden retriever=7,9,14"`` as subject and seeds.

    Raises:
        SamplingError: it is not of that form.
    """
    subject, _, numbers = text.rpartition("=")
    try:
        seeds = [int(number) for number in numbers.split(",")]
    except ValueError:
        seeds = []
    if not subject or not seeds:
        raise SamplingError(f"A choice is written 'subject=seed,seed,seed', not '{text}'.")
    return subject.lower(), seeds


def chosen_value(pipeline: DRoRAEPipeline, choices: dict[str, list[int]], looked_at: int) -> dict[str, Any]:
    """What ``chosen.json`` holds."""
    request = usual_request(pipeline, "", [])
    settings = {"steps": request.steps, "guidance": request.guidance, "scale": request.scale}
    return {"weights": weights_of(pipeline), "looked_at": looked_at, "settings": settings, "seeds": choices}


def first_value(pipeline: DRoRAEPipeline, name: str, subject: str, seeds: list[int]) -> dict[str, Any]:
    """What ``first.json`` holds: pictures as the page gets them, of the chosen seeds and of the first ones."""
    wanted = sorted({*seeds, *range(UNPICKED)})
    value = generation_value(sample_to_end(pipeline, usual_request(pipeline, subject, wanted), name))
    used = value["decoders"][-1]
    for row in value["rows"]:
        row["pictures"] = {used: row["pictures"][used]}
    return {"weights": weights_of(pipeline), "subject": subject, "values": [{**value, "decoders": [used]}]}


def main(arguments: list[str] | None = None) -> None:
    """Draw sheets to look at, or write down what was chosen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="folder of a generator")
    parser.add_argument("subjects", nargs="*", help="classes or prompts to look at")
    parser.add_argument(
        "--look", type=number_of("seeds"), default=16, help="how many seeds to look at, or that were looked at"
    )
    parser.add_argument("--to", type=Path, default=Path("runs/sheets"), help="folder of the sheets")
    parser.add_argument("--chosen", nargs="+", default=[], metavar="SUBJECT=SEEDS", help="what was chosen, in order")
    options = parser.parse_intermixed_args(arguments)
    pipeline = load_pipeline(options.folder)
    if options.chosen:
        choices = dict(read_choice(text) for text in options.chosen)
        folder = resolve(options.folder)
        value = chosen_value(pipeline, choices, options.look)
        (folder / CHOSEN).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        subject, seeds = next(iter(choices.items()))
        first = first_value(pipeline, options.folder.removeprefix("assets/"), subject, seeds)
        (folder / FIRST).write_text(json.dumps(first) + "\n", encoding="utf-8")
        print(f"{folder / CHOSEN}, {folder / FIRST}")
    for subject in options.subjects:
        options.to.mkdir(parents=True, exist_ok=True)
        file = options.to / f"{re.sub(r'[^0-9A-Za-z]+', '-', subject)}.png"  # a name on every system
        draw_sheet(pipeline, subject, options.look).save(file)
        print(file)


if __name__ == "__main__":
    main_guard(main)
