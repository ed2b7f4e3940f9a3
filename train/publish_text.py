"""Make a text-to-image generator to share: ``python -m train.publish_text --preset tiny --to assets/drorae-tiny-text``.

Takes the finished run ``text`` of a preset, stores it in fp16 as a pipeline that names its tokenizer, measures whether
*those* weights listen to their text, and writes the model card with an unpicked grid of fixed prompts.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from drorae import DRoRAETextPipeline
from drorae.checkpoints import CheckpointError
from train.engine.run_folder import CHECKPOINT, LOG, RECORD
from train.engine.session import ICONS, main_guard, number_of, read_scale
from train.presets import PRESETS
from train.publish import REPORT, hours
from train.publish_class import lineage, loss_curve, run_row, training_words
from train.text_evidence import evidence, table

STEPS, COLUMNS = 25, 8
PROMPTS = (
    "two dogs run on the grass",
    "a black dog runs through snow",
    "a brown dog swims in the water",
    "a white dog on the beach",
    "a dog jumps over a fence",
    "a man in a red shirt",
    "a woman in a blue dress",
    "a child plays in the snow",
    "a boy jumps into a pool",
    "a girl on a swing",
    "a man climbs a rock",
    "a man rides a bicycle",
    "a motorcycle on a dirt track",
    "a surfer on a wave",
    "a skier on a mountain",
    "a football player with a ball",
    "people on a street at night",
    "a crowd at a concert",
    "a boat on blue water",
    "a sunset over the sea",
    "a green field under a blue sky",
    "a mountain lake",
    "a forest in autumn",
    "a red car on a road",
    "a yellow flower",
    "a photo of a golden retriever",
    "a photo of a beagle",
    "a photo of a Samoyed",
    "a photo of a Shih-Tzu",
    "a photo of an Old English sheepdog",
    "a photo of a tench",
    "a photo of a church",
    "a photo of a golf ball",
    "a photo of a parachute",
    "a photo of a garbage truck",
    "a photo of a gas pump",
    "a photo of a French horn",
    "a photo of a chain saw",
    "a photo of a cassette player",
    "a blue ball and a red cube",
)

CARD = """---
license: apache-2.0
library_name: drorae
tags: [text-to-image, diffusion, drorae]
---

# {name}

A small text-to-image generator in the latent space of `{tokenizer}`: DiT^DH with the text in context, and a text
encoder of {encoder_parameters} parameters with its own byte-level BPE of {vocabulary:,} tokens, trained along. Stored
in fp16, computed in fp32.

```python
from drorae import DRoRAETextPipeline
pipeline = DRoRAETextPipeline.from_pretrained("assets/{name}")
pipeline("{first}", num_inference_steps=25, guidance_scale={scale}, seed=0).images[0]
```

## {count} fixed prompts, seed 0, unpicked

Each with classifier-free guidance of scale {scale} (left of a pair) and without (right), {steps} steps. Made by
`python -m train.publish_text`.

![{count} prompts, guided and unguided](grid.jpg)

In reading order: {prompts}.

## Does it listen?

The loss on held-out photos with their own caption, against the same photos, times and noise with another photo's
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

Loss on held-out photos by step: {curves}

Data: {data}, {views}, training split only; one caption per step, sentences made of the
class name where there are no captions. Text dropout {dropout}, EMA {ema}, {precision}.

## Limits

It is small and was trained for {hours:.1f} hours ({devices}) on few photos, by orders of magnitude less than such
networks need. {seen}The photos carry their own terms (non-commercial research).
"""


def assemble(runs: Path, tokenizer: str) -> DRoRAETextPipeline:
    """The pipeline of the finished run, naming ``tokenizer``.

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
    )


def grid(pipeline: DRoRAETextPipeline, scale: float) -> Image.Image:
    """All prompts in reading order, guided and unguided side by side."""
    pictures = {
        guidance: pipeline(list(PROMPTS), STEPS, guidance, scale, seed=[0] * len(PROMPTS)).images
        for guidance in ("cfg", "none")
    }
    size = pictures["cfg"][0].width
    pairs = COLUMNS // 2
    rows = -(-len(PROMPTS) // pairs)
    sheet = np.full((rows * size, COLUMNS * size + (pairs - 1) * size // 8, 3), 255, np.uint8)
    for number in range(len(PROMPTS)):
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
        help="whose recipe is followed",
    )
    parser.add_argument("--to", type=Path, required=True, help="folder to write")
    parser.add_argument("--tokenizer", help="name the card and the pipeline give (default: the preset's)")
    parser.add_argument(
        "--scale",
        type=read_scale,
        default=3.0,
        help="of guidance in the grid (default: %(default)s)",
    )
    parser.add_argument("--data", default=ICONS[0], help="captioned validation photos")
    parser.add_argument("--seen", default="", help="what somebody saw in the grid, sentences for the card's limits")
    parser.add_argument("--limit", type=number_of("pictures"), help="measure on this many of them only")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where runs are kept (default: %(default)s)")
    args = parser.parse_args(argv)
    runs = args.out / args.preset
    tokenizer = args.tokenizer or PRESETS[args.preset].stage2["text"].tokenizer
    stored = assemble(runs, tokenizer)
    for network in (stored.denoiser, stored.text_encoder):
        network.half()
    stored.denoiser.register_to_config(_name_or_path=args.to.name)
    stored.save_pretrained(args.to)
    pipeline = DRoRAETextPipeline.from_pretrained(args.to)
    pipeline.set_progress_bar_config(disable=True)
    grid(pipeline, args.scale).save(args.to / "grid.jpg", quality=90)
    pipeline.register_to_config(_name_or_path=str(args.to))
    report = evidence(pipeline, args.data, args.limit)
    (args.to / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    record = json.loads((runs / "text" / RECORD).read_text(encoding="utf-8"))
    text = CARD.format(
        name=args.to.name,
        tokenizer=tokenizer,
        encoder_parameters=f"{sum(p.numel() for p in pipeline.text_encoder.parameters()) / 1e6:.2f}M",
        vocabulary=len(pipeline.tokenizer),
        first=PROMPTS[0],
        scale=args.scale,
        count=len(PROMPTS),
        steps=STEPS,
        prompts="; ".join(PROMPTS),
        table=table(report),
        evaluation=report["command"],
        runs="\n".join(run_row(folder.name, folder, pipeline.denoiser) for folder in lineage(runs / "text")),
        curves=loss_curve(runs / "text"),
        data=", ".join(f"{name} ({count} photos)" for name, count in record["data"]),
        **training_words(record["settings"]["row"]),
        hours=sum(hours(folder / LOG) for folder in lineage(runs / "text")),
        devices=", ".join(record["devices"]),
        seen=f"{args.seen} " if args.seen else "",
    )
    (args.to / "README.md").write_text(text, encoding="utf-8")
    print(table(report))


if __name__ == "__main__":
    main_guard(main)
