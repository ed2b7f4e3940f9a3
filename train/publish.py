"""Make a checkpoint to share: ``python -m train.publish --preset tiny --to assets/drorae-tiny``.

Takes the finished runs of a preset, stores the weights in fp16, measures *those* weights on the validation photos and
writes the model card from what the runs recorded. ``--mean-of tiny-mean4`` publishes the decoder of that preset beside
them, which was trained for the mean of some layers.
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import torch

from drorae import AutoencoderDRoRAE
from drorae.checkpoints import CheckpointError, module_hash, weights_hash
from drorae.errors import count_of
from drorae.explorer.standing import standing_size
from drorae.pretrained.adapter import cast_weights
from drorae.pretrained.mean_decoder import MeanDecoders, save_mean_decoders
from drorae.study.fits import MEASURED
from train.curves import save_curves
from train.engine.legs import load_strictly, read_leg
from train.engine.run_folder import CHECKPOINT, LOG, RECORD
from train.engine.session import VALIDATION_PHOTOS, add_data_arguments, main_guard, number_of
from train.errors import DataError
from train.evaluate import METRICS, measure_checkpoint, table
from train.fusion_bound import PHOTOS as BOUND_PHOTOS
from train.fusion_bound import bound_words, measure_bound
from train.latent_stats import RECORD as LATENT_RECORD
from train.measure.kept import measure_once
from train.measure.progress import SavedProgress
from train.presets import PHASES, PRESETS
from train.settings import Preset

REPORT = MEASURED  # the page reads it, too
PUBLISHED = "published"  # folder of the measurements made so far, among the runs

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

{sizes}, {layers} layers of {dim} channels, beta = {beta}.

## Measured

{table}

`rae` reads the last layer only; `phase2` reads all layers with the same, untouched decoder; `drorae` adds the decoder
finetuned on the fused latent.{mean} Printed by

```
{evaluation}
```

There is no Inception network and no LPIPS in these numbers: FD-MobileNetV2 is the Frechet distance of MobileNetV2's
pooled features, VGG11 perceptual a distance of channel-normalised VGG-11 features, ST-LPIPS the published metric of
that name. {judges}

{bound} Printed by

```
{bound_command}
```

## Training

Encoder: {encoder}. Loss of the three phases: L1 + {perceptual} + an
adversary with adaptive weight, whose discriminator is a set of heads on the frozen {backbone}. The last two see a
random {crop} px square of each picture. Latent noise: {noise}. Cosine schedule, EMA {ema}, {precision}.

| run | command | steps x pictures | optimiser, lr | adversary: from step, weight | hours | device |
|---|---|---:|---|---|---:|---|
{runs}

PSNR of each phase's own route while it trained ({photos} held-out photos, by step): {curves}

![PSNR on held-out photos by step](curves.svg)

Data: {data}. Random square crops and mirror images; these commands never train on the validation photos. photos20 comes
from ImageNet, on which the teacher was trained. {latent}.{notes}

## Limits

Its decoder saw {pictures:,} pictures in phase 1, and the three phases took {hours}. {seen}The photos carry
their own terms (non-commercial research).
"""


def hours(log: Path) -> float:
    """Training time over all sittings of a run, as its log counts it."""
    return json.loads(log.read_text(encoding="utf-8").splitlines()[-1])["seconds"] / 3600


def duration_words(time: float) -> str:
    """Hours as text; what a card did in less than an hour in minutes."""
    return f"{time:.1f} hours" if time >= 1 else count_of(max(1, round(60 * time)), "minute")


def psnr_points(log: Path) -> list[tuple[int, float]]:
    """Steps and validation PSNRs, as a run logged them."""
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return [(row["step"], row["validation_psnr"]) for row in rows if "validation_psnr" in row]


def sizes_words(model: AutoencoderDRoRAE) -> str:
    """Which pictures a model takes, as text."""
    tokens = f"{model.grid_size**2} tokens"
    if not model.config.any_size:
        return f"Pictures are {model.image_size} x {model.image_size} pixels, {tokens}"
    return (
        f"Pictures may have any height and width that are multiples of {model.encoder.patch_size} pixels: "
        f"{model.image_size} x {model.image_size} are {tokens}"
    )


def psnr_curves(runs: Path) -> dict[str, list[tuple[int, float]]]:
    """The curves of the phases whose logs are there."""
    return {phase: psnr_points(runs / phase / LOG) for phase in PHASES if (runs / phase / LOG).is_file()}


def training_time(runs: Path) -> dict[str, Any]:
    """Hours of all phases together, and on which devices."""
    folders = [runs / phase for phase in PHASES if (runs / phase / RECORD).is_file()]
    devices = [json.loads((folder / RECORD).read_text(encoding="utf-8"))["devices"] for folder in folders]
    found = list(dict.fromkeys(device for each in devices for device in each))
    return {"hours": round(sum(hours(folder / LOG) for folder in folders), 2), "devices": found}


def judges_words(network: str | None) -> str:
    """Which of the numbers are of what was trained on, as a sentence."""
    titles = {"vgg11": METRICS["vgg11"][0], "lpips": METRICS["lpips-vgg"][0]}
    if network is None:
        return "None of these distances is in the training loss."
    return f"{titles[network]} is also in the training loss, the others are not."


def mean_words(report: dict) -> str:
    """What the rows of the mean of layers are, as a sentence; nothing where there are none."""
    own = [name for name in report["routes"] if "own decoder" in name]
    if own:
        return (
            " `mean of K` is the plain mean of the last K layers through the decoder of `rae`; the rows with a number "
            "of steps are decoders that were trained alike for so long, one for that mean and one for the last layer."
        )
    if any(name.startswith("mean of") for name in report["routes"]):
        return " `mean of K` is the plain mean of the last K layers through the decoder of `rae`."
    return ""


def publish_mean(args: argparse.Namespace, model: AutoencoderDRoRAE) -> int:
    """Write the decoder of ``--mean-of``, and RAE's after as many steps, beside the model; the number of layers.

    Raises:
        CheckpointError: that run is not finished, or it and the leg were not trained for as long.
    """
    preset, folder = PRESETS[args.mean_of], args.out / args.mean_of / "decoder"
    layers = preset.model.get("fusion_mean_layers")
    if preset.model.get("fusion") != "mean" or layers is None:
        raise CheckpointError(f"--mean-of {args.mean_of}: this preset does not average a number of layers.")
    if not (folder / CHECKPOINT).is_dir():
        raise CheckpointError(
            f"'{folder / CHECKPOINT}' is not there; finish phase 'decoder' of '{args.mean_of}' first."
        )
    trained = AutoencoderDRoRAE.from_pretrained(folder / CHECKPOINT)
    if module_hash(trained.encoder) != module_hash(model.encoder):
        raise CheckpointError(f"'{folder / CHECKPOINT}' was trained on another encoder than '{args.preset}'.")
    steps, rae = preset.stage1["decoder"].schedule.last_step, None
    if args.rae_leg is not None:
        leg = read_leg(args.rae_leg)
        if leg.step != steps:
            raise CheckpointError(
                f"'{args.rae_leg}' is of step {leg.step} and '{folder}' of step {steps}; take equal ones."
            )
        rae = copy.deepcopy(model.decoder)
        load_strictly(rae, leg.weights, leg.file)
    command = json.loads((folder / RECORD).read_text(encoding="utf-8"))["command"]
    save_mean_decoders(args.to, model, layers, MeanDecoders(trained.decoder, rae, steps), command)
    return layers


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
            f"{schedule.last_step} x {schedule.batch_size}",
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


def card_text(
    name: str, model: AutoencoderDRoRAE, preset_name: str, runs: Path, report: dict, latent: str, seen: str
) -> str:
    """The model card; ``seen`` is what somebody saw of the pictures."""
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
    curves = psnr_curves(runs)
    decoder = preset.stage1["decoder"].schedule if "decoder" in preset.stage1 else None
    return CARD.format(
        name=name,
        parts="\n".join(
            f"| {part} | {what} | {sum(p.numel() for p in module.parameters()) / 1e6:.2f}M |"
            for part, (module, what) in parts.items()
            if module is not None
        ),
        sizes=sizes_words(model),
        layers=model.encoder.num_layers,
        dim=model.encoder.dim,
        beta=model.config.fusion_beta,
        table=table(report),
        evaluation=report["command"],
        mean=mean_words(report),
        judges=judges_words(perceptual.network if perceptual else None),
        bound=bound_words(report["fusion_bound"]),
        bound_command=report["fusion_bound"]["command"],
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
        curves="; ".join(f"{run} {' -> '.join(f'{value:.2f}' for _, value in curves[run])}" for run in curves),
        photos=VALIDATION_PHOTOS,
        data=", ".join(f"{name} ({count} photos)" for name, count in data.items()),
        latent=latent,
        notes="".join(f"\n\n{note}" for note in run_notes(runs)),
        pictures=decoder.last_step * decoder.batch_size if decoder else 0,
        hours=duration_words(report["training"]["hours"]),
        seen=f"{seen} " if seen else "",
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=PRESETS, required=True, help="preset whose recipe is followed")
    parser.add_argument("--to", type=Path, required=True, help="folder to write")
    parser.add_argument("--limit", type=number_of("pictures"), help="measure on this many photos only, evenly spread")
    parser.add_argument("--baseline", nargs="+", help="also measure these, as in train.evaluate")
    parser.add_argument("--mean-layers", type=number_of("layers"), help="also measure the mean of the last K layers")
    parser.add_argument("--mean-of", choices=PRESETS, help="also publish the decoder that this preset trained")
    parser.add_argument(
        "--rae-leg", type=Path, help="with --mean-of: the leg of phase 'decoder' after as many steps, to compare with"
    )
    parser.add_argument(
        "--size", type=number_of("pixels"), help="side of the measured photos (default: 224 for models of any size)"
    )
    parser.add_argument("--seen", default="", help="what somebody saw of its pictures, sentences for the card's limits")
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
    layers = publish_mean(args, model) if args.mean_of else args.mean_layers
    model.save_pretrained(args.to)
    size = model.check_size(args.size or standing_size(model), DataError)
    of = [weights_hash(args.to), str(args.to), args.validation, args.size]
    beside = [args.baseline, layers, weights_hash(args.to / f"mean-{layers}")]
    of_photos = [*of, args.limit, str(args.weights), *beside]
    progress = SavedProgress(runs / PUBLISHED / "evaluation.safetensors", of_photos)

    def measure() -> dict[str, Any]:
        return measure_checkpoint(
            args.to,
            args.validation,
            args.limit,
            weights=args.weights,
            baselines=args.baseline,
            mean_layers=layers,
            size=size,
            progress=progress,
        )

    def bound() -> dict[str, Any]:
        return measure_bound(str(args.to), args.validation, BOUND_PHOTOS, size=args.size)

    report = measure_once(runs / PUBLISHED / "evaluation.json", of_photos, measure)
    progress.remove()
    report["fusion_bound"] = measure_once(runs / PUBLISHED / "bound.json", [*of, BOUND_PHOTOS], bound)
    report["training"] = training_time(runs)
    if model.statistics is None:
        latent = "No statistics of the latent are stored"
    else:
        record = json.loads((checkpoint / LATENT_RECORD).read_text(encoding="utf-8"))
        latent = f"`{record['command']}` stored the statistics of {record['latents']} fused latents"
    save_curves(args.to / "curves.svg", psnr_curves(runs), "PSNR, dB")
    text = card_text(args.to.name, model, args.preset, runs, report, latent, args.seen)
    (args.to / "README.md").write_text(text, encoding="utf-8")
    (args.to / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(table(report))


if __name__ == "__main__":
    main_guard(main)
