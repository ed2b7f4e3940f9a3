"""Make an icon generator to share: ``python -m train.publish_text --preset tiny --to assets/drorae-tiny-text``.

Takes the finished run ``text`` of a preset, stores it in fp16 as a pipeline that holds its text encoder and names its
tokenizer, measures whether *those* weights draw what held-out captions ask for, and writes the model card with an
unpicked grid of fixed prompts.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from drorae import DRoRAETextPipeline
from drorae.checkpoints import CheckpointError
from drorae.explorer.chosen import weights_of
from train.curves import save_curves
from train.data.icons import STYLES
from train.data.sources import load_photos
from train.derived import record_built
from train.engine.run_folder import CHECKPOINT, LOG, RECORD
from train.engine.session import ICONS, SHARED, main_guard, number_of, read_scale
from train.icon_evidence import measure_choices
from train.icon_evidence import table as choices_table
from train.icon_prompts import PLAIN, UNSEEN, grid_prompts
from train.measure.kept import measure_once
from train.presets import PRESETS
from train.publish import PUBLISHED, REPORT, duration_words, hours
from train.publish_class import lineage, loss_curve, loss_points, run_row, settings_words
from train.text_evidence import evidence, table

STEPS, COLUMNS = 25, 8
CARD = """---
license: apache-2.0
library_name: drorae
tags: [text-to-image, diffusion, drorae]
---

# {name}

A small generator of icons from text, in the latent space of `{tokenizer}`: DiT^DH with the text in context, and a
{encoder_kind} of {encoder_parameters} parameters, which is part of this folder, with a vocabulary of {vocabulary:,}
tokens. Stored in fp16, computed in fp32. Prompts are written as in training: {styles}.

```python
from drorae import DRoRAETextPipeline
pipeline = DRoRAETextPipeline.from_pretrained("assets/{name}")
pipeline("{first}", num_inference_steps={steps}, seed=0).images[0]  # guidance of scale {scale} is saved with it
```

## {count} fixed prompts, seed 0, unpicked

Each with classifier-free guidance of scale {scale} (left of a pair) and without (right), {steps} steps. Made by
`python -m train.publish_text`.

![{count} prompts, guided and unguided](grid.jpg)

In reading order: {prompts}.

The first {combinations} combine what training has seen apart only; then come {plain} that it has seen, and {unseen}
with a word that no caption and no tag holds.

## Is it what was asked?

Held-out captions, seeds in order, none picked. In EfficientNet-Lite2's features each drawn icon chooses the nearest of
the real icons of its style: among those that differ from the caption in the role alone, in the gender alone, in the
tone alone, and among all.

{choices}

Printed by

```
{choices_command}
```

## Does it listen?

The loss on held-out pictures with their own caption, against the same pictures, times and noise with another picture's
caption, and with none; positive differences mean that the right caption helps.

{table}

Printed by

```
{evaluation}
```

## Training

| run | command | parameters | steps x latents | optimiser, lr | hours | device |
|---|---|---:|---|---|---:|---|
{runs}

Loss on held-out pictures by step: {curves}

![Loss on held-out pictures by step](curves.svg)

Data: {data}, {views}, without the held-out captions; a caption or tags, one drawn per step. Text dropout {dropout},
EMA {ema}, {precision}.

## Limits

It saw {pictures:,} pictures in {hours} ({devices}) and can draw nothing else. {seen}Fluent Emoji (3D icons)
are MIT, Noto Emoji (flat icons) Apache-2.0; the tokenizer's training photos are for non-commercial research.
"""


def assemble(runs: Path, tokenizer: str, scale: float) -> DRoRAETextPipeline:
    """The pipeline of the finished run, naming ``tokenizer``, guided by ``scale`` where a call says nothing else.

    Raises:
        CheckpointError: the run is not finished.
    """
    folder = runs / "text" / CHECKPOINT
    if not folder.is_dir():
        raise CheckpointError(f"'{folder}' is not there; finish that run first.")
    whole = DRoRAETextPipeline.from_pretrained(folder)
    return DRoRAETextPipeline(
        None,
        whole.denoiser,
        whole.scheduler,
        whole.tokenizer,
        whole.text_encoder,
        max_tokens=whole.config.max_tokens,
        autoencoder_name=tokenizer,
        text_encoder_name=whole.config.text_encoder_name,
        guidance="cfg",
        guidance_scale=scale,
    )


def check_self_contained(folder: Path) -> None:
    """Check that a pipeline's folder holds its text encoder, and that none of its files names a place on this disk.

    Raises:
        CheckpointError: naming the file.
    """
    for part in ("text_encoder/model.safetensors", "tokenizer/tokenizer_config.json"):
        if not (folder / part).is_file():
            raise CheckpointError(f"'{folder / part}' is missing; train the run with a text encoder of its own.")
    for file in sorted(folder.rglob("*config.json")):
        for name, value in json.loads(file.read_text(encoding="utf-8")).items():
            if isinstance(value, str) and (Path(value).is_absolute() or value.startswith("..")):
                raise CheckpointError(
                    f"'{file}' names '{value}' as {name}, which exists on this machine only; save it again without."
                )


def grid(pipeline: DRoRAETextPipeline, prompts: list[str]) -> Image.Image:
    """All prompts in reading order, guided as the pipeline is and unguided side by side."""
    pictures = {
        guidance: pipeline(prompts, STEPS, guidance, seed=[0] * len(prompts)).images for guidance in ("cfg", "none")
    }
    size = pictures["cfg"][0].width
    pairs = COLUMNS // 2
    rows = -(-len(prompts) // pairs)
    sheet = np.full((rows * size, COLUMNS * size + (pairs - 1) * size // 8, 3), 255, np.uint8)
    for number in range(len(prompts)):
        row, column = divmod(number, pairs)
        left = column * (2 * size + size // 8)
        pair = np.concatenate([np.asarray(pictures[guidance][number]) for guidance in ("cfg", "none")], axis=1)
        sheet[row * size : (row + 1) * size, left : left + 2 * size] = pair
    return Image.fromarray(sheet)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--preset",
        choices=[n for n, p in PRESETS.items() if "text" in p.stage2],
        required=True,
        help="preset whose recipe is followed",
    )
    parser.add_argument("--to", type=Path, required=True, help="folder to write")
    parser.add_argument("--tokenizer", help="name the card and the pipeline give (default: the preset's)")
    parser.add_argument(
        "--scale",
        type=read_scale,
        default=3.0,
        help="strength of the guidance, saved with the pipeline as its own (default: %(default)s)",
    )
    parser.add_argument("--data", nargs="+", default=ICONS, help="icon files (default: %(default)s)")
    parser.add_argument(
        "--weights", type=Path, default=SHARED / "weights", help="folder of EfficientNet-Lite2 (default: %(default)s)"
    )
    parser.add_argument("--seen", default="", help="what somebody saw in the grid, sentences for the card's limits")
    parser.add_argument("--limit", type=number_of("pictures"), help="measure on this many of each file only")
    parser.add_argument(
        "--out", type=Path, default=Path("runs"), help="folder where runs are kept (default: %(default)s)"
    )
    args = parser.parse_args(argv)
    runs = args.out / args.preset
    row = PRESETS[args.preset].stage2["text"]
    tokenizer = args.tokenizer or row.tokenizer
    stored = assemble(runs, tokenizer, args.scale)
    for network in (stored.denoiser, stored.text_encoder):
        network.half()
    stored.denoiser.register_to_config(_name_or_path=args.to.name)
    stored.save_pretrained(args.to)
    check_self_contained(args.to)
    pipeline = DRoRAETextPipeline.from_pretrained(args.to)
    pipeline.set_progress_bar_config(disable=True)
    prompts = grid_prompts([row["caption"] for row in load_photos(args.data[0], "validation")])
    grid(pipeline, prompts).save(args.to / "grid.jpg", quality=90)
    pipeline.register_to_config(_name_or_path=str(args.to))
    weights = weights_of(pipeline)
    of = [weights, str(args.to), args.data, args.scale, args.limit]
    choices = measure_once(
        runs / PUBLISHED / "choices.json",
        [*of, str(args.weights)],
        lambda: measure_choices(pipeline, args.data, args.weights, STEPS, args.scale, args.limit),
    )
    report = measure_once(runs / PUBLISHED / "evidence.json", of, lambda: evidence(pipeline, args.data, args.limit))
    report |= {"icons": choices, "prompts": prompts, "weights": weights}
    (args.to / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    save_curves(args.to / "curves.svg", {"text": loss_points(runs / "text")}, "held-out loss")
    record = json.loads((runs / "text" / RECORD).read_text(encoding="utf-8"))
    encoder = row.text.encoder if row.text else None
    text = CARD.format(
        name=args.to.name,
        tokenizer=tokenizer,
        encoder_kind=f"frozen sentence encoder (`{encoder}`)" if encoder else "text encoder that was trained along,",
        encoder_parameters=f"{sum(p.numel() for p in pipeline.text_encoder.parameters()) / 1e6:.2f}M",
        vocabulary=len(pipeline.tokenizer),
        styles=", ".join(f'"{style} of ..."' for style in STYLES.values()),
        first=prompts[-len(UNSEEN) - len(PLAIN)],
        scale=f"{args.scale:g}",
        count=len(prompts),
        steps=STEPS,
        prompts="; ".join(prompts),
        combinations=len(prompts) - len(PLAIN) - len(UNSEEN),
        plain=len(PLAIN),
        unseen=len(UNSEEN),
        choices=choices_table(choices),
        choices_command=choices["command"],
        table=table(report),
        evaluation=report["command"],
        runs="\n".join(run_row(folder.name, folder, pipeline.denoiser) for folder in lineage(runs / "text")),
        curves=loss_curve(runs / "text"),
        data=", ".join(f"{Path(name).stem} ({count} pictures)" for name, count in record["data"]),
        **settings_words(record["settings"]["row"]),
        pictures=sum(count for _, count in record["data"]),
        hours=duration_words(sum(hours(folder / LOG) for folder in lineage(runs / "text"))),
        devices=", ".join(record["devices"]),
        seen=f"{args.seen} " if args.seen else "",
    )
    (args.to / "README.md").write_text(text, encoding="utf-8")
    record_built(args.to / "grid.jpg")
    print(choices_table(choices))
    print(table(report))


if __name__ == "__main__":
    main_guard(main)
