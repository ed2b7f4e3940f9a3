"""Make a checkpoint to share: ``python -m train.publish --preset tiny --to assets/drorae-tiny``.

Takes the finished runs of a preset, stores the weights in fp16, measures *those* weights on the validation photos and
writes the model card from what the runs recorded.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from drorae import AutoencoderDRoRAE
from drorae.checkpoints import CheckpointError
from train.arguments import add_data_arguments, main_guard
from train.evaluate import measure, table
from train.presets import PHASES, PRESETS
from train.run import CHECKPOINT, LOG, RECORD

CARD = """---
license: apache-2.0
library_name: drorae
tags: [image-reconstruction, representation-autoencoder, drorae]
---

# {name}

A small DRoRAE tokenizer (arXiv 2605.10780): frozen ViT encoder, depth-routed fusion of all its layers, the original
(phase 1) and the finetuned (phase 3) pixel decoder. Trained by the commands below, stored in fp16, computed in fp32.

```python
from drorae import AutoencoderDRoRAE
model = AutoencoderDRoRAE.from_pretrained("assets/{name}")
```

| part | what | parameters |
|---|---|---:|
{parts}

Pictures are {size} x {size} pixels, {tokens} tokens, {layers} layers of {dim} channels, beta = {beta}.

## Measured

{table}

`rae` reads the last layer only; `phase2` reads all layers with the same, untouched decoder; `drorae` adds the decoder
finetuned on the fused latent. Printed by

```
python -m train.evaluate assets/{name}
```

## Training

Teacher of the encoder: {teacher}. Loss of the decoder and the fusion: L1 + {perceptual} x VGG11 perceptual distance
(no GAN, no LPIPS). Optimiser AdamW, cosine schedule, EMA {ema}; precision {precision}.

| run | command | steps x pictures | hours | device |
|---|---|---:|---:|---|
{runs}

Data: {data}. Random square crops and mirror images; these commands never train on the validation photos. They come from
ImageNet, on which the teacher was trained.

## Limits

It is small and was trained briefly on few photos ({classes}): expect visible 8-pixel patches, a faint dot pattern,
missing fine detail, no legible small text. It shows the method; it is no production codec. The photos carry their own
terms (non-commercial research).
"""


def hours(log: Path) -> float:
    """Training time over all sittings of a run, as its log counts it."""
    return json.loads(log.read_text().splitlines()[-1])["seconds"] / 3600


def card(name: str, model: AutoencoderDRoRAE, preset_name: str, runs: Path, report: dict) -> str:
    """The model card."""
    preset = PRESETS[preset_name]
    schedules = {"encoder": preset.encoder.schedule} | {phase: preset.stage1[phase].schedule for phase in PHASES}
    rows, data = [], {}
    for run, schedule in schedules.items():
        record = json.loads((runs / run / RECORD).read_text())
        data |= record["data"]
        amount = f"{schedule.steps} x {schedule.batch_size}"
        rows.append(
            f"| {run} | `{record['command']}` | {amount} | {hours(runs / run / LOG):.2f} | {record['device']} |"
        )
    parts = {
        "encoder": (model.encoder, "distilled, then frozen"),
        "fusion": (model.fusion_module, "experts and router"),
        "decoder": (model.decoder, "original: trained on the last layer"),
        "finetuned decoder": (model.decoder_finetuned, "trained on the fused latent"),
    }
    finetune = preset.stage1["finetune"]
    return CARD.format(
        name=name,
        parts="\n".join(
            f"| {part} | {what} | {sum(p.numel() for p in module.parameters()) / 1e6:.2f}M |"
            for part, (module, what) in parts.items()
        ),
        size=model.image_size,
        tokens=model.grid_size**2,
        layers=model.encoder.num_layers,
        dim=model.encoder.dim,
        beta=model.config.fusion_beta,
        table=table(report),
        teacher=preset.encoder.teacher_weights or preset.encoder.teacher,
        perceptual=finetune.perceptual_weight,
        ema=finetune.schedule.ema_decay,
        precision=finetune.schedule.precision,
        runs="\n".join(rows),
        data=", ".join(f"{name} ({count} photos)" for name, count in data.items()),
        classes=" and ".join(data),
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=PRESETS, required=True)
    parser.add_argument("--to", type=Path, required=True, help="folder to write")
    add_data_arguments(parser)
    args = parser.parse_args(argv)
    runs = args.out / args.preset
    checkpoint = runs / "finetune" / CHECKPOINT
    if not checkpoint.is_dir():
        raise CheckpointError(f"'{checkpoint}' is not there; finish phase 'finetune' of preset '{args.preset}' first.")
    model = AutoencoderDRoRAE.from_pretrained(checkpoint)
    model.half().save_pretrained(args.to)
    report = measure(args.to, args.validation)
    (args.to / "README.md").write_text(card(args.to.name, model, args.preset, runs, report), encoding="utf-8")
    print(table(report))


if __name__ == "__main__":
    main_guard(main)
