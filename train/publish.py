"""Make a checkpoint to share: ``python -m train.publish --preset tiny --to assets/drorae-tiny``.

Takes the finished runs of a preset, stores the weights in fp16, measures *those* weights on the validation photos and
writes the model card from what the runs recorded.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from drorae import AutoencoderDRoRAE
from drorae.checkpoints import CheckpointError
from drorae.pretrained.adapter import cast_weights
from drorae.study.fits import MEASURED
from train.engine.run_folder import CHECKPOINT, LOG, RECORD
from train.engine.session import VALIDATION_PHOTOS, add_data_arguments, main_guard, number_of
from train.evaluate import measure_checkpoint, table
from train.latent_stats import RECORD as LATENT_RECORD
from train.presets import PHASES, PRESETS
from train.settings import Preset

REPORT = MEASURED  # the page reads it, too

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
{evaluation}
```

There is no Inception network and no LPIPS in these numbers: FD-MobileNetV2 is the Frechet distance of MobileNetV2's
pooled features, VGG11 perceptual a distance of channel-normalised VGG-11 features. The latter is also in the training
loss.

## Training

Encoder: {encoder}. Loss of the three phases: L1 + {perceptual} + an
adversary with adaptive weight, whose discriminator is a set of heads on the frozen {backbone}. The last two see a
random {crop} px square of each picture. Latent noise: {noise}. Cosine schedule, EMA {ema}, {precision}.

| run | command | steps x pictures | optimiser, lr | adversary: from step, weight | hours | device |
|---|---|---:|---|---|---:|---|
{runs}

PSNR of each phase's own route while it trained ({photos} held-out photos, by step): {curves}

Data: {data}. Random square crops and mirror images; these commands never train on the validation photos. photos20 comes
from ImageNet, on which the teacher was trained. {latent}.{notes}

## Limits

It is small and was trained briefly on few photos ({classes}) with 128 pixels a side: {limits} It shows the method; it
is no production codec. The photos carry their own terms (non-commercial research).
"""

LIMITS = "expect soft or invented fine detail, visible 8-pixel patches in flat areas, no legible small text."


def hours(log: Path) -> float:
    """Training time over all sittings of a run, as its log counts it."""
    return json.loads(log.read_text(encoding="utf-8").splitlines()[-1])["seconds"] / 3600


def curve(log: Path) -> str:
    """Validation PSNR by step, as a run logged it."""
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return " -> ".join(f"{row['validation_psnr']:.2f}" for row in rows if "validation_psnr" in row)


def run_rows(preset: Preset, runs: Path) -> tuple[list[str], dict[str, int]]:
    """One line of the training table per run, and the photos all of them saw."""
    rows: list[str] = []
    data: dict[str, int] = {}
    for run in ("encoder", *PHASES):
        row = preset.encoder if run == "encoder" else preset.stage1[run]
        if row is None or not (runs / run / RECORD).is_file():  # started from published weights
            continue
        schedule, adversary = row.schedule, getattr(row, "adversary", None)
        record = json.loads((runs / run / RECORD).read_text(encoding="utf-8"))
        data |= dict(record["data"])
        cells = [
            run,
            f"`{record['command']}`",
            f"{schedule.steps} x {schedule.batch_size}",
            f"{schedule.optimizer}, {schedule.lr:g}",
            f"{adversary.generator_start}, {adversary.weight}" if adversary else "none",
            f"{hours(runs / run / LOG):.2f}",
            ", ".join(record["devices"]),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows, data


def run_notes(runs: Path) -> list[str]:
    """What somebody wrote under ``note`` in a run's record, for instance that its code has changed since."""
    files = [runs / run / RECORD for run in ("encoder", *PHASES)]
    notes = [json.loads(file.read_text(encoding="utf-8")).get("note") for file in files if file.is_file()]
    return list(dict.fromkeys(note for note in notes if note))


def card(name: str, model: AutoencoderDRoRAE, preset_name: str, runs: Path, report: dict, latent: str) -> str:
    """The model card."""
    preset = PRESETS[preset_name]
    rows, data = run_rows(preset, runs)
    parts = {
        "encoder": (model.encoder, "distilled, then frozen"),
        "fusion": (model.fusion_module, "experts and router"),
        "decoder": (model.decoder, "original: trained on the last layer"),
        "finetuned decoder": (model.decoder_finetuned, "trained on the fused latent"),
    }
    finetune = preset.stage1["finetune"]
    perceptual = finetune.perceptual
    curves = "; ".join(f"{phase} {curve(runs / phase / LOG)}" for phase in PHASES if (runs / phase / LOG).is_file())
    return CARD.format(
        name=name,
        parts="\n".join(
            f"| {part} | {what} | {sum(p.numel() for p in module.parameters()) / 1e6:.2f}M |"
            for part, (module, what) in parts.items()
            if module is not None
        ),
        size=model.image_size,
        tokens=model.grid_size**2,
        layers=model.encoder.num_layers,
        dim=model.encoder.dim,
        beta=model.config.fusion_beta,
        table=table(report),
        evaluation=report["command"],
        encoder=f"distilled from `{preset.encoder.teacher_weights or preset.encoder.teacher}`"
        if preset.encoder
        else f"`{model.config.encoder_name}`, as published",
        perceptual=f"{perceptual.weight} x {perceptual.network}" if perceptual else "nothing",
        backbone=f"`{finetune.adversary.backbone}`" if finetune.adversary else "no backbone",
        crop=finetune.loss_crop or model.image_size,
        noise=f"tau = {finetune.noise_tau}" if finetune.noise_tau else "none (192 channels leave no room for it)",
        ema=finetune.schedule.ema_decay,
        precision=finetune.schedule.precision,
        runs="\n".join(rows),
        curves=curves,
        photos=VALIDATION_PHOTOS,
        data=", ".join(f"{name} ({count} photos)" for name, count in data.items()),
        classes=" and ".join(data),
        latent=latent,
        notes="".join(f"\n\n{note}" for note in run_notes(runs)),
        limits=LIMITS,
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=PRESETS, required=True, help="whose recipe is followed")
    parser.add_argument("--to", type=Path, required=True, help="folder to write")
    parser.add_argument("--limit", type=number_of("pictures"), help="measure on this many photos only, evenly spread")
    parser.add_argument("--baseline", nargs="+", help="also measure these, as in train.evaluate")
    parser.add_argument("--mean-layers", type=number_of("layers"), help="also measure the mean of the last K layers")
    add_data_arguments(parser)
    args = parser.parse_args(argv)
    runs = args.out / args.preset
    if "finetune" not in PRESETS[args.preset].stage1:
        raise CheckpointError(f"preset '{args.preset}' has no phase 'finetune', so there is no whole model to publish.")
    checkpoint = runs / "finetune" / CHECKPOINT
    if not checkpoint.is_dir():
        raise CheckpointError(f"'{checkpoint}' is not there; finish phase 'finetune' of preset '{args.preset}' first.")
    model = AutoencoderDRoRAE.from_pretrained(checkpoint)
    cast_weights(model, torch.float16).register_to_config(_name_or_path=args.to.name)
    model.save_pretrained(args.to)
    report = measure_checkpoint(
        args.to,
        args.validation,
        args.limit,
        weights=args.weights,
        baselines=args.baseline,
        mean_layers=args.mean_layers,
    )
    if model.statistics is None:
        latent = "No statistics of the latent are stored"
    else:
        record = json.loads((checkpoint / LATENT_RECORD).read_text(encoding="utf-8"))
        latent = f"`{record['command']}` stored the statistics of {record['latents']} fused latents"
    text = card(args.to.name, model, args.preset, runs, report, latent)
    (args.to / "README.md").write_text(text, encoding="utf-8")
    (args.to / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(table(report))


if __name__ == "__main__":
    main_guard(main)
