"""What a fitted model is worth on held-out photos, and how much that differs from photo to photo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from drorae import AutoencoderDRoRAE
from drorae.devices import best_device
from drorae.explorer.routes import ROUTES
from train.data.held_out import ValidationPhotos
from train.errors import DataError
from train.evaluate import Measure, choose_metrics, evaluate, protocol, table
from train.experiments.statistics import student
from train.latent_stats import latent_moments

BATCH = 16
FEWEST = 2  # pictures, of which there are mirror images: one alone has no spread
RANGE = (0.1, 0.5, 0.9)  # quantiles that are printed
TITLES = {  # of the routes, as the phases made them
    "rae": "RAE: the last layer, its decoder",
    "phase2": "fused, the same decoder, frozen",
    "drorae": "fused, the decoder finetuned",
}


def add_statistics(model: AutoencoderDRoRAE, photos: ValidationPhotos) -> int:
    """Normalise the latents of a model with the statistics of these photos; how many latents they are of.

    Raises:
        DataError: the photos are too few or too equal.
    """
    moments, count = latent_moments(model, photos, BATCH)
    std = moments.variance.sqrt()
    if count < 2 * FEWEST or not std.min() > 0:
        raise DataError("FOLDER: the readable pictures are too few or all the same; give some hundred different ones.")
    model.set_statistics(std.float(), moments.mean.float())
    return count


def measure(folder: Path, photos: ValidationPhotos, networks: Path, reference: str) -> dict[str, Any]:
    """The report of a checkpoint on held-out photos, as ``train.evaluate`` has it, with two more entries: ``spread``,
    the quantiles of every route's PSNR, and ``gains``, of every photo the gain over ``rae``, dB.

    Args:
        folder: folder of the checkpoint.
        networks: folder of the offline networks that measure.
        reference: what the photos are called.
    """
    model = AutoencoderDRoRAE.from_pretrained(folder).to(best_device())
    chosen, left_out = choose_metrics(None, networks, len(photos))
    instruments = Measure(chosen, networks, str(model.device))
    routes, latent = evaluate(model, photos, instruments, batch_size=BATCH)
    for name in set(chosen) - set(routes["rae"]):
        left_out[name] = f"{len(photos) - len(photos.damaged)} readable pictures are too few"
    psnr = {route: torch.cat(scores["psnr"]).double() for route, scores in instruments.scores.items()}
    return {
        **protocol(folder, model, photos, reference),
        "routes": routes,
        "latent": latent,
        "left_out": left_out,
        "spread": {route: values.quantile(torch.tensor(RANGE).double()).tolist() for route, values in psnr.items()},
        "gains": {route: (psnr[route] - psnr["rae"]).tolist() for route in psnr if route != "rae"},
    }


def tables(report: dict[str, Any]) -> str:
    """The report as Markdown: the routes, then the spread over photos."""
    lines = [
        "| route | PSNR, dB: mean | a tenth of the photos below | half below | a tenth above |",
        "|---|---:|---:|---:|---:|",
    ]
    for route in (route.name for route in ROUTES):
        if route in report["spread"]:
            low, half, high = report["spread"][route]
            mean = report["routes"][route]["psnr"]
            lines.append(f"| {TITLES[route]} (`{route}`) | {mean:.2f} | {low:.2f} | {half:.2f} | {high:.2f} |")
    return "\n".join([*lines, "", gains_words(report), "", table(report)])


def gains_words(report: dict[str, Any]) -> str:
    """What fusion gains over the last layer, photo by photo, in sentences."""
    sentences = []
    for route, what in (("phase2", "with the decoder frozen"), ("drorae", "with the decoder finetuned")):
        gains = report["gains"].get(route)
        if gains is None:
            continue
        estimate = student(gains)
        share = sum(gain <= 0 for gain in gains) / len(gains)
        interval = ""
        if estimate.low is not None:
            interval = f" (95 % interval of the mean {estimate.low:+.2f} to {estimate.high:+.2f})"
        sentences.append(
            f"Over `rae`, fusion {what} gains {estimate.mean:+.2f} dB on {len(gains)} held-out photos{interval}, and "
            f"nothing on {share:.0%} of them."
        )
    return " ".join(sentences)
