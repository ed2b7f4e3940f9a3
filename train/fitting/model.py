"""The model that a fit leaves: its statistics, its weights in half precision, what it is worth, and its card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import torch

from drorae import AutoencoderDRoRAE
from drorae.devices import best_device
from drorae.pretrained.adapter import cast_weights
from train.curves import save_curves
from train.data.held_out import ValidationPhotos
from train.engine.run_folder import CHECKPOINT, write_folder
from train.errors import RunError
from train.fitting.card import write_card
from train.fitting.job import Job, weights_words
from train.fitting.progress import Plan
from train.fitting.results import add_statistics, measure
from train.publish import REPORT, psnr_curves
from train.spread import store_gains


def write_model(job: Job, plan: Plan) -> dict[str, Any]:
    """Give the trained model its latent statistics, store it in fp16, measure it as it is stored, and write its card:
    the report."""
    measured, summed = plan.photos_to_measure(job)
    rows = {phase: job.row(phase, length) for phase, length in plan.lengths.items()}
    model = AutoencoderDRoRAE.from_pretrained(job.folder / "finetune" / CHECKPOINT).to(best_device())
    train_rows = job.photos.train
    if isinstance(train_rows, datasets.IterableDataset):
        train_rows = list(train_rows.take(summed))
    latents = add_statistics(model, ValidationPhotos(train_rows, job.facts.size, summed))
    cast_weights(model.cpu(), torch.float16).register_to_config(_name_or_path=job.to.name)
    reference = f"{job.photos.name} validation" if job.photos.own_split else f"{job.photos.name} held out"
    found: dict[str, Any] = {}

    def write(folder: Path) -> None:
        model.save_pretrained(folder)
        report = measure(folder, job.held_out(measured), job.args.networks, reference)
        found.update({**report, "checkpoint": job.to.name, "command": job.command, "fit": job.settings})
        gains = torch.tensor(found["gains"]["drorae"], dtype=torch.float64)
        store_gains(folder, gains, job.facts.size, reference, job.command)
        save_curves(folder / "curves.svg", psnr_curves(job.folder), "PSNR, dB")
        held_out = "those of its own validation split" if job.photos.own_split else "chosen by their content"
        words = {
            "photos": job.photos.name,
            "train": f"{job.photos.train_count:,}",
            "held_out": held_out,
            "weights": weights_words(job),
            "latent": f"The latent is normalised with the statistics of {latents} fused latents of training pictures.",
        }
        text = write_card(job.to.name, job.command, model, job.facts, job.folder, rows, found, words)
        (folder / "README.md").write_text(text, encoding="utf-8")
        (folder / REPORT).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")

    write_folder(job.to, write)
    return found


def stored_report(job: Job) -> dict[str, Any] | None:
    """The report of a model that this job left before; ``None`` where there is none.

    Raises:
        RunError: something else is there.
    """
    if not job.to.exists():
        return None
    try:
        report = json.loads((job.to / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        report = {}
    if report.get("fit") != job.settings:
        raise RunError(f"'{job.to}' holds something else than this fit; give another --to, or remove it.")
    return report
