"""Does a denoiser listen to its caption? ``python -m train.text_evidence CHECKPOINT --data FOLDER``.

The flow-matching loss of held-out pictures with their own caption, against the same pictures, times and noise with the
caption of another picture of the same source and with none: mean difference, its standard error over the pictures, and
their ratio. Of icons, held-out pictures are those whose captions no training has seen.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from drorae import DRoRAETextPipeline
from drorae.devices import best_device
from drorae.pipelines import flow
from drorae.pipelines.text_to_image import same_length
from train.data.captions import captions_of
from train.data.draws import normal_draws
from train.data.held_out import load_held_out
from train.data.latent_cache import encode_raw
from train.engine.session import ICONS, main_guard, number_of
from train.errors import DataError

TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)  # before the shift
BATCH = 32


def loss_difference(right: Tensor, wrong: Tensor) -> dict[str, float]:
    """Mean of wrong - right over pictures (n,), its standard error, and how many of those it is."""
    difference = (wrong - right).double()
    mean, error = difference.mean().item(), difference.std().item() / math.sqrt(len(difference))
    return {"difference": mean, "standard_error": error, "ratio": mean / error if error else 0.0}


def derangement(count: int, seed: int) -> Tensor:
    """An order in which nothing keeps its place: a random cycle."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    result = torch.empty_like(order)
    result[order] = order.roll(1)
    return result


@torch.no_grad()
def errors(pipeline: DRoRAETextPipeline, latents: Tensor, prompts: list[str], t: float, seed: int) -> Tensor:
    """Mean squared error of the velocity per latent (n, C, h, w), (n,), at one time with fixed noise."""
    result = []
    for start in range(0, len(latents), BATCH):
        clean = latents[start : start + BATCH]
        noise = normal_draws(seed, torch.arange(start, start + len(clean)), clean.shape[1:], clean.device)
        (condition,) = same_length(pipeline.encode_prompts(prompts[start : start + BATCH]))
        x = (1 - t) * clean + t * noise
        velocity = pipeline.denoiser(x, torch.full((len(clean),), t, device=x.device), **condition).sample
        result.append((velocity - (noise - clean)).square().flatten(1).mean(1).cpu())
    return torch.cat(result)


@torch.no_grad()
def evidence(pipeline: DRoRAETextPipeline, data: Sequence[str], limit: int | None, seed: int = 0) -> dict:
    """The report: per time and over all times, the loss with the right caption and both paired differences.

    Args:
        data: sources with a captioned validation split.
        limit: pictures of each, evenly spread.

    Raises:
        DataError: the data has no captions, or a source too few pictures.
    """
    autoencoder = pipeline.autoencoder
    found: list[Tensor] = []
    right: list[str] = []
    wrong: list[str] = []
    counts = []
    for source in data:
        photos = load_held_out(source, "validation", autoencoder.image_size, limit)
        of = captions_of(photos.rows)
        with tqdm(total=len(photos), desc="latents") as bar:
            for images in photos.batches(BATCH):
                found.append(autoencoder.statistics.normalize(encode_raw(autoencoder, images.to(autoencoder.device))))
                bar.update(len(images))
        captions = photos.captions(of)
        if len(captions) < 3:
            raise DataError(f"--data {source}: too few pictures to compare captions, {len(captions)}; use more.")
        right += captions
        wrong += [captions[i] for i in derangement(len(captions), seed).tolist()]
        counts.append(f"{len(captions)} of {Path(source).stem}")
    latents = torch.cat(found)
    shift = flow.time_shift(*latents.shape[1:])
    rows: list[dict] = []
    all_of: dict[str, list[Tensor]] = {"right": [], "wrong": [], "none": []}
    for number, base in enumerate(tqdm(TIMES, desc="times")):
        t = float(flow.shift_time(torch.tensor(base), shift))
        losses = {
            name: errors(pipeline, latents, prompts, t, seed * len(TIMES) + number)
            for name, prompts in (("right", right), ("wrong", wrong), ("none", [""] * len(right)))
        }
        for name, values in losses.items():
            all_of[name].append(values)
        rows.append({"t": t, **summarise(losses)})
    overall = summarise({name: torch.stack(values).mean(0) for name, values in all_of.items()})
    given = "" if list(data) == ICONS else f" --data {' '.join(data)}"
    given += f" --limit {limit}" if limit else ""
    return {
        "command": f"python -m train.text_evidence {pipeline.name_or_path}{given}",
        "data": f"held-out pictures ({', '.join(counts)}), first caption of each",
        "times": rows,
        "all": overall,
    }


def summarise(losses: dict[str, Tensor]) -> dict:
    """Mean loss with the right caption, and the paired differences."""
    return {
        "loss": losses["right"].mean().item(),
        "shuffled": loss_difference(losses["right"], losses["wrong"]),
        "none": loss_difference(losses["right"], losses["none"]),
    }


def table(report: dict) -> str:
    """The report as Markdown."""
    lines = ["| t | loss, own caption | another's caption: difference | in SE | no caption: difference | in SE |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    for row in [*report["times"], {"t": "all", **report["all"]}]:
        t = row["t"] if isinstance(row["t"], str) else f"{row['t']:.3f}"
        cells = [t, f"{row['loss']:.4f}"]
        for name in ("shuffled", "none"):
            numbers = row[name]
            cells += [f"{numbers['difference']:+.5f} ± {numbers['standard_error']:.5f}", f"{numbers['ratio']:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"Measured on {report['data']}; t is flow time, 1 is noise."])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="folder or hub id of a text-to-image pipeline")
    parser.add_argument(
        "--data", nargs="+", default=ICONS, help="data with captioned validation splits (default: %(default)s)"
    )
    parser.add_argument("--limit", type=number_of("pictures"), help="use only this many of each, evenly spread")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args(argv)
    pipeline = DRoRAETextPipeline.from_pretrained(args.checkpoint)
    pipeline.to(best_device()).register_to_config(_name_or_path=args.checkpoint)
    report = evidence(pipeline, args.data, args.limit)
    print(table(report))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main_guard(main)
