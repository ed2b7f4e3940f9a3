"""What interventions do to held-out photos: ``python -m train.interventions CHECKPOINT --data FOLDER``.

On every photo the strengths of the explorer, each layer left out, and each layer alone are painted. Stored beside the
weights: what they do to PSNR, over the photos; and, in the configuration, up to which departure
(:mod:`drorae.explorer.compatibility`) the error hardly grows. These limits are chosen on every second photo and checked
on the others. Printed are also the rank correlations of the error's growth with this and the other numbers that are
known without the original picture.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import isotonic_regression
from scipy.stats import sem, spearmanr, t
from torch import Tensor
from tqdm.auto import tqdm

from drorae import AutoencoderDRoRAE
from drorae.checkpoints import CONFIG, read_config, resolve, weights_hash
from drorae.devices import best_device
from drorae.explorer.compatibility import GROWTH, SURE, Compatibility, compatibility
from drorae.explorer.evidence import HASH
from drorae.explorer.interventions import FusionParts, can_intervene, standard_interventions
from drorae.explorer.layer_usage import USAGE
from drorae.explorer.standing import standing_size
from drorae.metrics import psnr
from train.data.held_out import load_held_out
from train.engine.session import PHOTOS, main_guard, number_of
from train.errors import DataError, writing

BATCH = 8  # interventions that are painted together
LEAST = 4  # photos: two to choose the limits on, two to check them on
CONFIDENCE = 0.95  # of the intervals of means
NUMBERS = ("departure", "beyond", "cosine", "mean", "variance")  # whose rank correlations are told
USUAL = {
    "cosine": 1.0,
    "mean": 0.0,
    "variance": 1.0,
}  # that a photo's latent has, so that it is the distance that counts


class Cases(NamedTuple):
    """Interventions on photos.

    Attributes:
        kinds: kinds of the interventions, (K,).
        trained: PSNR of the photos as trained, dB, (M,).
        psnr: PSNR of the interventions, dB, (M, K).
        standings: standings of the interventions, M lists of K.
    """

    kinds: list[str]
    trained: np.ndarray
    psnr: np.ndarray
    standings: list[list[Compatibility]]

    @property
    def growth(self) -> np.ndarray:
        """How much each intervention adds to the root mean square error, (M, K): 0.25 for a quarter more."""
        return 10 ** ((self.trained[:, None] - self.psnr) / 20) - 1

    def numbers(self, name: str) -> np.ndarray:
        """A number of all standings, (M, K)."""
        return np.array([[getattr(standing, name) for standing in row] for row in self.standings], dtype=np.float64)

    def part(self, start: int) -> Cases:
        """Every second photo, from ``start`` on."""
        return Cases(self.kinds, self.trained[start::2], self.psnr[start::2], self.standings[start::2])


@torch.inference_mode()
def painted_cases(model: AutoencoderDRoRAE, photos: Iterator[Tensor], bar: tqdm) -> Cases:
    """The standard interventions on every photo of batches (B, 3, H, W)."""
    wanted = standard_interventions(model.encoder.num_layers, model.config.fusion_beta)
    kinds = [kind for kind, some in wanted.items() for _ in some]
    interventions = [one for some in wanted.values() for one in some]
    trained, rows, standings = [], [], []
    for batch in photos:
        for image in batch.to(model.device, model.dtype).split(1):
            grid = model.encoder.grid_of(image)
            parts = FusionParts(model, model.encoder(image), grid)
            base, quality, standing = parts.readout.base, [], []
            for start in range(0, len(interventions), BATCH):
                tokens = parts.mix(interventions[start : start + BATCH])
                pictures = parts.paint(tokens)
                quality += psnr(pictures, image.expand_as(pictures)).tolist()
                standing += compatibility(model, tokens, base, pictures, parts.trained, grid)
            trained.append(psnr(parts.trained, image).item())
            rows.append(quality)
            standings.append(standing)
            bar.update()
    return Cases(kinds, np.array(trained), np.array(rows), standings)


def choose_limits(departure: np.ndarray, harmless: np.ndarray) -> tuple[float, float]:
    """The departure up to which 95 in 100 cases or more are harmless, and the one above which at most 5 in 100 are.

    The share of harmless cases is taken to fall with the departure: isotonic regression.

    Args:
        departure: departure of the cases, 0 or more, (n,).
        harmless: whether the error hardly grew, boolean, (n,).
    """
    met, which, counts = np.unique(departure, return_inverse=True, return_counts=True)
    means = np.bincount(which, weights=harmless) / counts
    share = isotonic_regression(means, weights=counts, increasing=False).x
    surely, perhaps = met[share >= SURE], met[share > 1 - SURE]
    low = float(surely.max(initial=0.0))
    return low, max(low, float(perhaps.max(initial=0.0)))


def rank_correlations(cases: Cases) -> dict[str, float | None]:
    """Spearman's coefficient of the error's growth with each number of :class:`Compatibility`, over all cases and, of
    the departure, over those of a kind; ``None`` for a number that this model does not have."""
    found: dict[str, float | None] = {}
    for name in NUMBERS:
        values = cases.numbers(name)
        values = np.abs(values - USUAL[name]) if name in USUAL else values
        found[name] = None if np.isnan(values).any() else spearman(values, cases.growth)
    departure, growth = cases.numbers("departure"), cases.growth
    for kind in dict.fromkeys(cases.kinds):
        chosen = np.array(cases.kinds) == kind
        found[f"departure, {kind}"] = spearman(departure[:, chosen], growth[:, chosen])
    return found


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rank correlation of two arrays of the same shape, to three digits."""
    return round(float(spearmanr(x.ravel(), y.ravel()).statistic), 3)


def verdict_rows(cases: Cases, limits: tuple[float, float]) -> list[dict[str, Any]]:
    """By kind of intervention, and for ``all``, and by verdict: how many cases there are, and in which share of them
    the error grew by less than a quarter (``None`` of none)."""
    kinds = np.broadcast_to(np.array(cases.kinds), cases.psnr.shape)
    verdicts = np.array([[each._replace(limits=limits).verdict for each in row] for row in cases.standings])
    harmless = cases.growth < GROWTH
    rows = []
    for kind in (*dict.fromkeys(cases.kinds), "all"):
        for verdict in ("yes", "partly", "no"):
            chosen = (verdicts == verdict) & ((kinds == kind) | (kind == "all"))
            share = round(float(harmless[chosen].mean()), 3) if chosen.any() else None
            rows.append({"kind": kind, "verdict": verdict, "cases": int(chosen.sum()), "harmless": share})
    return rows


def distribution(values: np.ndarray) -> dict[str, float]:
    """Mean of values (M,), ends of its 95 % interval (Student's t), and quantiles of 10 % and 90 %, to 0.001."""
    mean, error = float(values.mean()), float(sem(values))
    low, high = t.interval(CONFIDENCE, len(values) - 1, mean, error) if error else (mean, mean)
    q10, q90 = np.quantile(values, (0.1, 0.9))
    numbers = {"mean": mean, "low": low, "high": high, "q10": q10, "q90": q90}
    return {name: round(float(value), 3) for name, value in numbers.items()}


def usage(cases: Cases, betas: list[float]) -> dict[str, Any]:
    """What interventions do to PSNR: distributions over the photos of PSNR (dB) as trained, and of PSNR and its change
    by every strength, by leaving out every layer, and with every layer alone."""
    found: dict[str, Any] = {"trained": distribution(cases.trained)}
    for kind in dict.fromkeys(cases.kinds):
        columns = np.flatnonzero(np.array(cases.kinds) == kind)
        found[kind] = [
            {"psnr": distribution(cases.psnr[:, k]), "change": distribution(cases.psnr[:, k] - cases.trained)}
            for k in columns
        ]
    for beta, row in zip(betas, found["strengths"], strict=True):
        row["beta"] = beta
    return found


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help=f"folder; {USAGE} and its configuration are written there")
    parser.add_argument("--data", default=PHOTOS, help="data with a validation split (default: %(default)s)")
    parser.add_argument(
        "--photos", type=number_of("photos", LEAST), help="use only this many, evenly spread (default: all)"
    )
    args = parser.parse_args(argv)
    model = AutoencoderDRoRAE.from_pretrained(args.checkpoint).to(best_device())
    if not can_intervene(model):
        raise DataError(f"'{args.checkpoint}' has no router, so there are no layers to leave out.")
    size = model.check_size(standing_size(model), DataError)
    photos = load_held_out(args.data, "validation", size, args.photos)
    if len(photos) < LEAST:
        raise DataError(f"--data {args.data}: too few photos, {len(photos)}; give {LEAST} or more.")
    with tqdm(total=len(photos), desc="interventions") as bar:
        cases = painted_cases(model, photos.batches(BATCH), bar)
    if len(cases.trained) < LEAST:
        raise DataError(f"--data {args.data}: too few readable photos, {len(cases.trained)}; give {LEAST} or more.")

    chosen, checked = cases.part(0), cases.part(1)
    low, high = choose_limits(chosen.numbers("departure").ravel(), chosen.growth.ravel() < GROWTH)
    limits = round(low, 3), round(high, 3)
    folder = resolve(args.checkpoint)
    betas = [one.beta for one in standard_interventions(0, model.config.fusion_beta)["strengths"]]
    given = f" --photos {args.photos}" if args.photos else ""
    record = {
        "command": f"python -m train.interventions {args.checkpoint}{given}",
        HASH: weights_hash(folder),
        "data": f"{Path(args.data).name} validation",
        "photos": len(cases.trained),
        "size": size,
        "beta": model.config.fusion_beta,
        **usage(cases, [beta for beta in betas if beta is not None]),
        "departure": {
            "limits": limits,
            "growth": GROWTH,
            "chosen_on": len(chosen.trained),
            "checked_on": len(checked.trained),
            "rank_correlations": rank_correlations(cases),
            "verdicts": verdict_rows(checked, limits),
        },
    }
    config = read_config(folder) | {"departure_limits": limits}
    with writing(folder):
        for name, content in ((USAGE, record), (CONFIG, config)):
            fresh = folder / f"{name}.new"
            fresh.write_text(json.dumps(content, indent=2, sort_keys=name == CONFIG) + "\n", encoding="utf-8")
            fresh.replace(folder / name)
    print(summary(record))
    print(f"Stored in {folder}.")


def summary(record: dict[str, Any]) -> str:
    """What was found, as text."""
    lines = [
        f"{record['data']}, {record['photos']} photos at {record['size']} pixels; PSNR in dB, mean and 95 % interval.",
        f"As trained {_interval(record['trained'])}.",
        "",
        "layer   left out, change           alone",
    ]
    for number, (removed, alone) in enumerate(zip(record["removed"], record["alone"], strict=True), 1):
        lines.append(f"{number:5}   {_interval(removed['change']):27} {_interval(alone['psnr'])}")
    found = record["departure"]
    lines += ["", "Rank correlation with the error's growth:"]
    for name, value in found["rank_correlations"].items():
        lines.append(f"  {name:22} {'not measured' if value is None else f'{value:+.3f}'}")
    lines += [
        "",
        f"Departures up to {found['limits'][0]:.3f} are a yes, above {found['limits'][1]:.3f} a no: chosen on "
        f"{found['chosen_on']} photos.",
        f"On {found['checked_on']} others the error grows by less than {found['growth']:.0%}:",
    ]
    for row in found["verdicts"]:
        share = "" if row["harmless"] is None else f" in {row['harmless']:.1%}"
        lines.append(f"  {row['kind']:10} {row['verdict']:7} of {row['cases']:5} cases{share}")
    return "\n".join(lines)


def _interval(numbers: dict[str, float]) -> str:
    return f"{numbers['mean']:6.2f} ({numbers['low']:.2f} to {numbers['high']:.2f})"


if __name__ == "__main__":
    main_guard(main)
