"""The model card of a fitted encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from drorae import AutoencoderDRoRAE
from train.engine.run_folder import LOG, RECORD
from train.fitting.encoders import EncoderFacts
from train.fitting.results import tables
from train.presets import PHASES
from train.publish import hours, sizes_words
from train.settings import Stage1Preset

CARD = """---
library_name: drorae
tags: [image-reconstruction, representation-autoencoder, drorae]
---

# {name}

A DRoRAE fusion (arXiv 2605.10780) of all layers of `{encoder}`, fitted to {train} pictures of '{photos}' by

```
{command}
```

Stored in fp16, computed in fp32. The encoder is frozen; its weights are {weights}, and their licence holds for them.

## Open it

In what follows, FOLDER is the folder of this card.

- The page, on this model: `python app.py --model FOLDER` (installed: `drorae app --model FOLDER`).
- Beside the embedded model: `python app.py`, then the view *Other tokenizers*, *Add a tokenizer*, FOLDER. Pictures have
  to be of a size that both take: sides that are multiples of {patch} pixels.
- In its place: *About*, *Another model*, FOLDER.

```python
from drorae import AutoencoderDRoRAE
model = AutoencoderDRoRAE.from_pretrained("FOLDER")
```

| part | what | parameters |
|---|---|---:|
{parts}

{sizes}, {layers} layers of {dim} channels, beta = {beta}. It was trained at {size} pixels; timm states {made_for}.

## Measured

{tables}

The held-out photos are {held_out}. {judges} Running the command again prints these numbers.

## Training

Each phase trains one part: the decoder on the last layer, which is RAE; then the fusion, that decoder frozen; then a
copy of the decoder on the fused latent. Loss: {loss}. Muon, cosine schedule, random squares of half to all of the
shorter side, mirrored half of the time. {latent}

| phase | steps x pictures | learning rate | minutes | device |
|---|---:|---:|---:|---|
{runs}

![PSNR on held-out photos by step](curves.svg)

## Limits

{minutes:.0f} minutes of training are few: the paper's decoders see 100 epochs of ImageNet. Numbers of other photos,
other sizes or other lengths cannot be compared with these.{damaged}
"""


def write_card(
    name: str,
    command: str,
    model: AutoencoderDRoRAE,
    facts: EncoderFacts,
    runs: Path,
    rows: dict[str, Stage1Preset],
    report: dict[str, Any],
    words: dict[str, str],
) -> str:
    """The text of the card.

    Args:
        runs: the folder of the run, with the logs of its phases.
        rows: the phases as they were trained.
        report: what :func:`train.fitting.results.measure` found.
        words: what only the command knows: ``photos``, ``train``, ``held_out``, ``weights``, ``latent``.
    """
    perceptual = rows["decoder"].perceptual
    parts = {
        "encoder": (model.encoder, "frozen"),
        "fusion": (model.fusion_module, "experts and router"),
        "decoder": (model.decoder, "original: trained on the last layer"),
        "finetuned decoder": (model.decoder_finetuned, "trained on the fused latent"),
    }
    damaged = len(report["damaged"])
    return CARD.format(
        name=name,
        command=command,
        encoder=facts.name,
        patch=facts.patch,
        size=facts.size,
        made_for=facts.made_for,
        layers=facts.layers,
        dim=facts.dim,
        beta=model.config.fusion_beta,
        sizes=sizes_words(model),
        parts="\n".join(
            f"| {part} | {what} | {sum(p.numel() for p in module.parameters()) / 1e6:.2f}M |"
            for part, (module, what) in parts.items()
            if module is not None
        ),
        tables=tables(report),
        judges="VGG11 perceptual is also in the training loss, the other measures are not."
        if perceptual and "vgg11" in report["routes"]["rae"]
        else "None of the measures but L1, which PSNR follows, is in the training loss.",
        loss=f"L1 + {perceptual.weight:g} x VGG11 perceptual" if perceptual else "L1",
        runs="\n".join(run_row(runs, phase, rows[phase]) for phase in PHASES),
        minutes=sum(60 * hours(runs / phase / LOG) for phase in PHASES),
        damaged=f" {damaged} of the held-out pictures could not be read." if damaged else "",
        **words,
    )


def run_row(runs: Path, phase: str, row: Stage1Preset) -> str:
    """A line of the table of phases."""
    schedule, record = row.schedule, json.loads((runs / phase / RECORD).read_text(encoding="utf-8"))
    cells = [
        phase,
        f"{schedule.steps} x {schedule.batch_size}",
        f"{schedule.lr:g}",
        f"{60 * hours(runs / phase / LOG):.1f}",
        ", ".join(record["devices"]),
    ]
    return f"| {' | '.join(cells)} |"
