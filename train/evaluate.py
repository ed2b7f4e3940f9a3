"""Measure a tokenizer: ``python -m train.evaluate assets/drorae-tiny --data FOLDER``; or pictures that
``train.generate`` made: ``python -m train.evaluate --generated FOLDER...``.

Every route of the checkpoint and the baselines are rebuilt from the same pictures in one run. Printed are the mean
PSNR, SSIM and perceptual distance, the Frechet distance, diagnostics of the latent, and the whole protocol.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from drorae import AutoencoderDRoRAE
from drorae.bundled import DEFAULT_MODEL
from drorae.checkpoints import resolve, weights_hash
from drorae.devices import best_device
from drorae.explorer.explore import ROUTES, paint_routes
from drorae.explorer.tokenizers import PictureTokenizer, load_picture_tokenizer
from drorae.images import to_uint8
from drorae.metrics import psnr, ssim
from drorae.models.decoder import decode_tokens
from drorae.models.fusion import FusionOutput, MeanFusion
from drorae.pretrained.adapter import cast_weights, load_tokenizer
from drorae.pretrained.mean_decoder import load_mean_decoders
from train.data.held_out import ValidationPhotos, load_held_out
from train.engine.session import SHARED, main_guard, number_of
from train.errors import DataError
from train.measure import inception
from train.measure.against_reference import measure_against
from train.measure.against_reference import table as reference_table
from train.measure.frechet import FrechetDistance, check_count
from train.measure.generated import measure_generated
from train.measure.generated import table as generated_table
from train.measure.latent_metrics import high_frequency_energy, same_class_neighbours, spatial_effective_rank
from train.measure.mobilenet import WEIGHTS as MOBILENET
from train.measure.mobilenet import MobileNetV2
from train.measure.progress import SavedProgress, name_of, parts_of
from train.measure.st_lpips import STLPIPS
from train.measure.st_lpips import WEIGHTS as ST_LPIPS
from train.tasks.losses import LPIPS, VGG11Perceptual

VGG11 = "vgg11_bn_conv1to4.safetensors"
METRICS = {  # name to title, and whether more is better
    "psnr": ("PSNR, dB", True),
    "ssim": ("SSIM", True),
    "vgg11": ("VGG11 perceptual", False),
    "st-lpips": ("ST-LPIPS", False),
    "lpips-vgg": ("LPIPS (VGG)", False),
    "lpips-alex": ("LPIPS (Alex)", False),
    "fd-mobilenetv2": ("FD-MobileNetV2", False),
    "rfid": ("rFID", False),
}
FEATURES = {"fd-mobilenetv2": 1280, "rfid": inception.NUM_FEATURES}
TWO_DIGITS = ("psnr", *FEATURES)
DISTANCES = ("vgg11", "st-lpips", "lpips-vgg", "lpips-alex", *FEATURES)
TAPPED = ("vgg11", "st-lpips")  # whose features of the original serve for all routes
ROUTE_NAMES = tuple(route.name for route in ROUTES)
ROUNDINGS = ("round", "truncate")
CROP_NAMES = {"square": "central square, Lanczos", "adm": "ADM centre crop"}
DATA, WEIGHTS_FOLDER = SHARED / "photos20", SHARED / "weights"


def quantize(images: Tensor, rounding: str) -> Tensor:
    """Images around [0, 1] to what an 8-bit file would hold, in [0, 1]; RAE's evaluation truncates."""
    if rounding == "truncate":
        return (images.float().clamp(0, 1) * 255).floor() / 255
    return to_uint8(images).float() / 255


@dataclass
class Measure:
    """Measures sets of rebuilt pictures against their originals.

    Args:
        metrics: names out of ``METRICS``.
        weights: folder of the offline networks.
    """

    metrics: tuple[str, ...]
    weights: Path
    device: str = "cpu"
    scores: dict[str, dict[str, list[Tensor]]] = field(default_factory=dict)
    frechet: dict[str, dict[str, FrechetDistance]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        networks = {
            "vgg11": lambda: VGG11Perceptual(self.weights / VGG11),
            "st-lpips": lambda: STLPIPS(self.weights / ST_LPIPS),
            "lpips-vgg": lambda: LPIPS("vgg"),
            "lpips-alex": lambda: LPIPS("alex"),
            "fd-mobilenetv2": lambda: MobileNetV2(self.weights),
            "rfid": lambda: inception.load_inception(self.weights),
        }
        # channels last: on a CPU convolutions are a third faster so
        self.networks = {
            name: networks[name]().to(self.device, memory_format=torch.channels_last)
            for name in self.metrics
            if name in networks
        }

    def features(self, name: str, images: Tensor) -> Tensor:
        """Features (B, C) of 8-bit images in [0, 1]."""
        if name == "fd-mobilenetv2":
            return self.networks[name](images)[0]
        return self.networks[name](inception.to_bytes(images))

    def features_of_originals(self, images: Tensor) -> dict[str, Tensor]:
        """Features of a batch of 8-bit originals by metric, see :meth:`features`."""
        return {name: self.features(name, images) for name in self.metrics if name in FEATURES}

    @torch.no_grad()
    def update(self, images: Tensor, outputs: Iterable[tuple[str, Tensor]], rounding: str) -> None:
        """Add a batch: originals (B, 3, H, W) in [0, 1] and, per route, what was rebuilt of them."""
        reference = quantize(images, "round")
        wanted = self.features_of_originals(reference)
        targets = dict.fromkeys(self.networks, reference)
        targets |= {name: self.networks[name].taps(reference) for name in TAPPED if name in self.networks}
        for route, output in outputs:
            output = quantize(output, rounding)
            scores = self.scores.setdefault(route, {name: [] for name in self.metrics if name not in FEATURES})
            for name, values in scores.items():
                if name in ("psnr", "ssim"):
                    values.append({"psnr": psnr, "ssim": ssim}[name](output, reference).cpu())
                else:
                    values.append(self.networks[name].per_picture(output, targets[name]).cpu())
            distances = self.frechet.setdefault(route, {name: FrechetDistance(FEATURES[name]) for name in wanted})
            for name, features in wanted.items():
                distances[name].update(features, self.features(name, output))

    def state(self) -> dict[str, Tensor]:
        """What was measured so far, for :meth:`restore`."""
        found = {
            name_of("scores", route, name): torch.cat(values)
            for route, scores in self.scores.items()
            for name, values in scores.items()
        }
        for route, distances in self.frechet.items():
            for name, distance in distances.items():
                found |= {name_of("frechet", route, name, key): value for key, value in distance.state().items()}
        return found

    def restore(self, found: dict[str, Tensor]) -> None:
        """Take up what :meth:`state` gave."""
        sums: dict[tuple[str, str], dict[str, Tensor]] = {}
        for key, value in found.items():
            kind, *where = parts_of(key)
            if kind == "scores":
                self.scores.setdefault(where[0], {})[where[1]] = [value]
            elif kind == "frechet":
                sums.setdefault((where[0], where[1]), {})[where[2]] = value
        for route in self.scores:
            self.frechet[route] = {}
        for (route, name), state in sums.items():
            self.frechet[route][name] = FrechetDistance(FEATURES[name])
            self.frechet[route][name].restore(state)

    def compute(self) -> dict[str, dict[str, float]]:
        """Route to metric to value: means over pictures, and distances of the sets."""
        return {
            route: {name: torch.cat(values).double().mean().item() for name, values in scores.items()}
            | {name: d.compute() for name, d in self.frechet[route].items() if d.count > d.num_features}
            for route, scores in self.scores.items()
        }


class LatentDiagnostics:
    """Mean of :mod:`train.measure.latent_metrics` for z_base and z_final, and of cos(z_fuse, z_base)."""

    def __init__(self) -> None:
        self.values: dict[str, list[Tensor]] = {}
        self.pooled: dict[str, list[Tensor]] = {}

    def update(self, base: Tensor, fused: FusionOutput | None, grid_size: tuple[int, int]) -> None:
        """Add the tokens (B, N, C) of the last layer and, where there is fusion, the fused ones with their routing."""
        tokens = {"base": base}
        if fused is not None:
            assert fused.routing is not None, "diagnostics need the routing"
            tokens["final"] = fused.tokens
            cosine = torch.cosine_similarity(fused.routing.fused, base, dim=-1).mean(1)
            self.values.setdefault("cosine_fused_base", []).append(cosine.cpu())
        for name, value in tokens.items():
            self.values.setdefault(f"effective_rank_{name}", []).append(spatial_effective_rank(value).cpu())
            self.values.setdefault(f"high_frequency_{name}", []).append(high_frequency_energy(value, grid_size))
            self.pooled.setdefault(name, []).append(value.mean(1).cpu())

    def state(self) -> dict[str, Tensor]:
        """What was measured so far, for :meth:`restore`."""
        parts = {"values": self.values, "pooled": self.pooled}
        return {name_of(kind, name): torch.cat(part) for kind, kept in parts.items() for name, part in kept.items()}

    def restore(self, found: dict[str, Tensor]) -> None:
        """Take up what :meth:`state` gave."""
        parts = {"values": self.values, "pooled": self.pooled}
        for key, value in found.items():
            kind, *where = parts_of(key)
            if kind in parts:
                parts[kind][where[0]] = [value]

    def compute(self, labels: Tensor | None) -> dict[str, float]:
        """Means over pictures, and the same-class share of 10 neighbours where there are ``labels`` (M,)."""
        numbers = {name: torch.cat(values).double().mean().item() for name, values in self.values.items()}
        if labels is not None and len(labels) > 10:
            for name, pooled in self.pooled.items():
                numbers[f"same_class_{name}"] = same_class_neighbours(torch.cat(pooled), labels)
        return numbers


@torch.inference_mode()
def evaluate(
    model: AutoencoderDRoRAE,
    photos: ValidationPhotos,
    measure: Measure,
    baselines: dict[str, PictureTokenizer] | None = None,
    mean_layers: int | None = None,
    rounding: str = "round",
    batch_size: int = 32,
    progress: SavedProgress | None = None,
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Every route of the model, the mean of the last ``mean_layers`` layers through the original decoder, baselines.
    Where decoders lie beside the model that were trained for that mean
    (:mod:`drorae.pretrained.mean_decoder`), also the mean through its own and RAE after as many steps.

    Args:
        progress: where it is kept how far this came; it goes on from there.

    Returns:
        Route to metric to value, and the diagnostics of the latent.
    """
    diagnostics = LatentDiagnostics()
    mean = MeanFusion(model.encoder.num_layers, mean_layers, model.encoder.norm_eps) if mean_layers else None
    trained = load_mean_decoders(model, mean_layers) if mean_layers else None
    bar = tqdm(total=len(photos), desc="evaluate")
    done, found = progress.load() if progress else (0, {})
    measure.restore(found)
    diagnostics.restore(found)
    for number, images in enumerate(photos.batches(batch_size), 1):
        if number <= done:
            bar.update(len(images))
            continue
        images = images.to(model.device)
        layers = model.encoder(images.to(model.dtype))
        base = model.fuse(layers, fusion=False).tokens
        fused = model.fuse(layers, return_routing=True) if model.fusion_module is not None else None
        grid = model.encoder.grid_of(images)
        outputs = paint_routes(model, base, fused, grid)
        if mean is not None:
            averaged = mean(layers).tokens
            painters = {f"mean of {mean_layers}": (model.decoder, averaged)}
            if trained is not None:
                painters[f"mean of {mean_layers}, own decoder, {trained.steps} steps"] = (trained.own, averaged)
            if trained is not None and trained.rae is not None:
                painters[f"rae, {trained.steps} steps"] = (trained.rae, base)
            for name, (decoder, tokens) in painters.items():
                outputs[name] = decode_tokens(decoder, tokens, model.encoder.mean, model.encoder.std, grid)
        for name, tokenizer in (baselines or {}).items():
            outputs[name] = tokenizer.rebuild(images).pictures
        diagnostics.update(base, fused, grid)
        measure.update(images, outputs.items(), rounding)
        bar.update(len(images))
        if progress and number % progress.every == 0:
            progress.save(number, measure.state() | diagnostics.state())
    bar.close()
    return measure.compute(), diagnostics.compute(photos.labels())


def choose_metrics(asked: list[str] | None, weights: Path, count: int) -> tuple[tuple[str, ...], dict[str, str]]:
    """The metrics to compute, and why others of the default set are left out.

    Raises:
        DataError: one that was asked for cannot be computed.
        FileNotFoundError: its weights are missing.
    """
    if asked:
        for name in asked:
            if name in FEATURES:
                check_count(count, FEATURES[name])
        return tuple(name for name in METRICS if name in asked), {}
    chosen, left_out = ["psnr", "ssim"], {}
    for name, file in (("vgg11", VGG11), ("st-lpips", ST_LPIPS), ("fd-mobilenetv2", MOBILENET)):
        if not (weights / file).is_file():
            left_out[name] = f"'{weights / file}' is not there"
        elif name in FEATURES and count <= FEATURES[name]:
            left_out[name] = f"too few pictures, {count}; it takes more than {FEATURES[name]:,}"
        else:
            chosen.append(name)
    return tuple(chosen), left_out


def measure_checkpoint(
    checkpoint: str | Path,
    data: str,
    limit: int | None = None,
    *,
    weights: Path = WEIGHTS_FOLDER,
    metrics: list[str] | None = None,
    baselines: list[str] | None = None,
    mean_layers: int | None = None,
    rounding: str = "round",
    crop: str = "square",
    precision: str = "float32",
    batch_size: int = 32,
    device: str = "cpu",
    size: int | None = None,
    split: str = "validation",
    progress: SavedProgress | None = None,
) -> dict:
    """Evaluate a checkpoint on a split of ``data``: the numbers and how they were obtained.

    Args:
        size: side of the pictures, pixels; the model's own when ``None``.
        progress: see :func:`evaluate`.

    Raises:
        DataError: a size the model does not take, or what :func:`load_held_out` and :func:`choose_metrics` raise.
    """
    model = cast_weights(load_tokenizer(checkpoint).to(device), getattr(torch, precision))
    if mean_layers is not None and not 1 <= mean_layers <= model.encoder.num_layers:
        raise DataError(f"--mean-layers {mean_layers}: use at most {model.encoder.num_layers}, the encoder's layers.")
    size = model.check_size(size, DataError)
    photos = load_held_out(data, split, size, limit, crop)
    chosen, left_out = choose_metrics(metrics, weights, len(photos))
    others = {name: load_picture_tokenizer(name, device) for name in baselines or ()}
    instruments = Measure(chosen, weights, device)
    routes, latent = evaluate(model, photos, instruments, others, mean_layers, rounding, batch_size, progress)
    for name in set(chosen) - set(routes["rae"]):
        left_out[name] = f"too few readable pictures, {len(photos) - len(photos.damaged)}"
    options: dict[str, object] = {"--baseline": " ".join(others), "--mean-layers": mean_layers, "--limit": limit}
    options |= {"--metrics": " ".join(metrics or ()), "--rounding": rounding if rounding != "round" else None}
    options |= {
        "--size": size if size != model.image_size else None,
        "--split": split if split != "validation" else None,
    }
    options |= {"--precision": precision if precision != "float32" else None}
    options |= {"--crop": crop if crop != "square" else None, "--data": data if data != str(DATA) else None}
    options |= {"--weights": weights if weights != WEIGHTS_FOLDER else None}
    given = "".join(f" {option} {value}" for option, value in options.items() if value)
    return {
        "command": f"python -m train.evaluate {checkpoint}{given}",
        **protocol(checkpoint, model, photos, f"{Path(data).name} {split}", crop, rounding),
        "routes": routes,
        "latent": latent,
        "left_out": left_out,
    }


def protocol(
    checkpoint: str | Path,
    model: AutoencoderDRoRAE,
    photos: ValidationPhotos,
    reference: str,
    crop: str = "square",
    rounding: str = "round",
) -> dict[str, Any]:
    """How a checkpoint was measured: on which photos, that were read once, cut and rounded how, with which weights."""
    return {
        "checkpoint": Path(checkpoint).name,
        "sha256": weights_hash(resolve(checkpoint)),
        "reference": reference,
        "photos": len(photos) - len(photos.damaged),
        "damaged": photos.damaged,
        "size": photos.size,
        "crop": f"{CROP_NAMES[crop]} to {photos.size} px",
        "rounding": "8-bit, rounded" if rounding == "round" else "8-bit, truncated",
        "precision": str(model.dtype).removeprefix("torch."),
        "seed": "nothing is drawn",
    }


def table(report: dict) -> str:
    """The report as Markdown: one row per route, what was gained over ``rae``, the latent, and the protocol."""
    routes = report["routes"]
    metrics = list(routes["rae"])
    head = ["route", *(METRICS[name][0] for name in metrics), "PSNR over `rae`", "SSIM over `rae`"]
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    for name, row in routes.items():
        cells = [f"{value:.{2 if metric in TWO_DIGITS else 3}f}" for metric, value in row.items()]
        for key, digits in (("psnr", 2), ("ssim", 3)):
            gain = key in row and name != "rae"
            cells.append(f"{row[key] - routes['rae'][key]:+.{digits}f}" if gain else "")
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    stated = ("reference", "photos", "crop", "rounding", "precision", "seed", "sha256")
    protocol = [f"{name} {report[name]}" for name in stated]
    lines += ["", f"Measured with: {'; '.join(protocol)}."]
    if report["damaged"]:
        lines.append(f"{len(report['damaged'])} damaged pictures were skipped: {'; '.join(report['damaged'][:5])}.")
    lines += [f"Left out: {METRICS.get(name, (name,))[0]} ({reason})." for name, reason in report["left_out"].items()]
    best = [name for name in routes if name in ROUTE_NAMES][-1]
    kept = [
        f"{routes[best][name] / routes['rae'][name]:.2f} in {METRICS[name][0]}"
        for name in DISTANCES
        if best != "rae" and routes["rae"].get(name)
    ]
    if kept:
        lines.append(f"Of the distance of `rae`, `{best}` keeps {', '.join(kept)}.")
    latent = report["latent"]
    if "cosine_fused_base" in latent:
        lines.append(f"Mean cos(z_fuse, z_base) over all tokens: {latent['cosine_fused_base']:.3f}.")
    if "effective_rank_final" in latent:
        names = {"effective_rank": "spatial effective rank", "high_frequency": "high-frequency energy"}
        names |= {"same_class": "same-class share of 10 neighbours"} if "same_class_base" in latent else {}
        parts = [f"{text} {latent[f'{k}_base']:.3f} -> {latent[f'{k}_final']:.3f}" for k, text in names.items()]
        lines.append(f"Latent, z_base -> z_final: {'; '.join(parts)}.")
    return "\n".join(lines)


def write_report(file: Path | None, report: dict) -> None:
    """The numbers for machines, where they are wanted."""
    if file is not None:
        file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="?", default=DEFAULT_MODEL, help="folder or id; RAE and adapters too")
    parser.add_argument("--data", default=str(DATA), help="data with a validation split (default: %(default)s)")
    parser.add_argument("--weights", type=Path, default=WEIGHTS_FOLDER, help="folder of the offline networks")
    parser.add_argument("--metrics", nargs="+", choices=METRICS, help="default: all that need no download")
    parser.add_argument(
        "--baseline",
        nargs="+",
        help="also 'taef2' or other autoencoders, by folder or id (id:subfolder)",
    )
    parser.add_argument(
        "--mean-layers", type=number_of("layers"), help="also the mean of the last K layers, same decoder and its own"
    )
    parser.add_argument(
        "--size", type=number_of("pixels"), help="side of the pictures, pixels (default: the model's own)"
    )
    parser.add_argument(
        "--rounding",
        choices=ROUNDINGS,
        default="round",
        help="how pictures are brought to 8 bits; RAE's evaluation truncates",
    )
    parser.add_argument("--crop", choices=CROP_NAMES, default="square", help="adm: as ImageNet's statistics were made")
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="precision of the computation (default: %(default)s)",
    )
    parser.add_argument("--limit", type=number_of("pictures"), help="use only this many photos, evenly spread")
    parser.add_argument(
        "--batch-size", type=number_of("pictures"), default=32, help="pictures at once (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--generated", nargs="+", metavar="SET", help="measure these folders or npz files instead")
    parser.add_argument("--split", default="validation", help="split of --data (default: %(default)s)")
    parser.add_argument(
        "--copies", action="store_true", help="with --generated: also how near the nearest training photo is"
    )
    parser.add_argument(
        "--inception", action="store_true", help="with --generated: also gFID, IS, precision and recall"
    )
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="FILE",
        help="gFID of --generated against these statistics, ADM's npz or one of its layout, in the place of --data",
    )
    args = parser.parse_args(argv)
    if args.json is not None and (args.json.is_dir() or not args.json.absolute().parent.is_dir()):
        raise DataError(f"--json {args.json}: no file can be written there; name one in a folder that is there.")
    device = str(best_device())
    if args.reference and not args.generated:
        raise DataError("--reference is what generated pictures are measured against; give --generated, too.")
    if args.reference:
        if args.copies or args.inception:
            raise DataError("--copies and --inception look at the photos of --data; leave them out, or --reference.")
        report = measure_against(args.generated, args.reference, weights=args.weights, device=device)
        print(reference_table(report))
        write_report(args.json, report)
        return
    if args.generated:
        report = measure_generated(
            args.generated,
            args.data,
            args.split,
            args.limit,
            weights=args.weights,
            copies=args.copies,
            inception=args.inception,
            device=device,
            batch_size=args.batch_size,
        )
        print(generated_table(report))
        write_report(args.json, report)
        return

    report = measure_checkpoint(
        args.checkpoint,
        args.data,
        args.limit,
        weights=args.weights,
        metrics=args.metrics,
        baselines=args.baseline,
        mean_layers=args.mean_layers,
        rounding=args.rounding,
        crop=args.crop,
        precision=args.precision,
        batch_size=args.batch_size,
        device=device,
        size=args.size,
        split=args.split,
    )
    print(table(report))
    write_report(args.json, report)


if __name__ == "__main__":
    main_guard(main)
