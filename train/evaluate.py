"""Measure a tokenizer checkpoint: ``python -m train.evaluate assets/drorae-tiny --data FOLDER``.

Prints mean PSNR and SSIM of every route on the validation split, and what they were measured on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from drorae import AutoencoderDRoRAE
from drorae.checkpoints import DEFAULT_MODEL, WEIGHTS, resolve
from drorae.explore import reconstruct
from drorae.metrics import psnr, ssim
from train.arguments import SHARED, main_guard
from train.data import ValidationPhotos, load_photos


def evaluate(model: AutoencoderDRoRAE, photos: ValidationPhotos, batch_size: int = 32) -> dict[str, dict[str, float]]:
    """Mean over photos of per-photo PSNR (dB) and SSIM, per route; plus cos(z_fuse, z_base) where there is fusion."""
    scores: dict[str, list[torch.Tensor]] = {}
    cosines = []
    for images in tqdm(DataLoader(photos, batch_size=batch_size), desc="evaluate"):
        images = images.to(model.device)
        pictures, routing = reconstruct(model, images)
        for name, output in pictures.items():
            scores.setdefault(name, []).append(torch.stack([psnr(output, images), ssim(output, images)]).cpu())
        if routing is not None:
            cosines.append(torch.cosine_similarity(routing.fused, routing.base, dim=-1).mean(1).cpu())
    results = {}
    for name, parts in scores.items():
        values = torch.cat(parts, 1).double().mean(1)
        results[name] = {"psnr": values[0].item(), "ssim": values[1].item()}
    if cosines:
        results["latent"] = {"cosine_fused_base": torch.cat(cosines).double().mean().item()}
    return results


def measure(checkpoint: str | Path, data: str, limit: int | None = None) -> dict:
    """Evaluate a checkpoint on the validation split of ``data``: the numbers and how they were obtained."""
    folder = resolve(checkpoint)
    model = AutoencoderDRoRAE.from_pretrained(checkpoint)
    photos = ValidationPhotos(load_photos(data, "validation"), model.image_size, limit)
    routes = evaluate(model, photos)
    latent = routes.pop("latent", None)
    return {
        "checkpoint": folder.name,
        "sha256": hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()[:16],
        "reference": f"{Path(data).name} validation",
        "photos": len(photos),
        "crop": f"central square, Lanczos to {model.image_size} px",
        "rounding": "8-bit, rounded",
        "precision": str(model.dtype).removeprefix("torch."),
        "routes": routes,
        "latent": latent,
    }


def table(report: dict) -> str:
    """The report as a Markdown table with the protocol below it."""
    rae = report["routes"]["rae"]
    lines = ["| route | PSNR, dB | SSIM | PSNR over `rae` | SSIM over `rae` |", "|---|---:|---:|---:|---:|"]
    for name, row in report["routes"].items():
        gains = "| |" if name == "rae" else f"{row['psnr'] - rae['psnr']:+.2f} | {row['ssim'] - rae['ssim']:+.3f} |"
        lines.append(f"| `{name}` | {row['psnr']:.2f} | {row['ssim']:.3f} | {gains}")
    protocol = [f"{key} {report[key]}" for key in ("reference", "photos", "crop", "rounding", "precision", "sha256")]
    lines += ["", f"Measured with: {'; '.join(protocol)}."]
    if report["latent"]:
        lines.append(f"Mean cos(z_fuse, z_base) over all tokens: {report['latent']['cosine_fused_base']:.3f}.")
    return "\n".join(lines)


def positive(text: str) -> int:
    """A number of photos from the command line."""
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of photos; give 1 or more")
    return int(text)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="?", default=DEFAULT_MODEL)
    parser.add_argument("--data", default=str(SHARED / "photos20"), help="folder with a validation split")
    parser.add_argument("--limit", type=positive, help="use only this many photos, evenly spread")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args(argv)

    report = measure(args.checkpoint, args.data, args.limit)
    print(table(report))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main_guard(main)
