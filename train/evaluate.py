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


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="?", default=DEFAULT_MODEL)
    parser.add_argument("--data", default=str(SHARED / "photos20"), help="folder with a validation split")
    parser.add_argument("--limit", type=int, help="use only this many photos, evenly spread")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args(argv)

    folder = resolve(args.checkpoint)
    model = AutoencoderDRoRAE.from_pretrained(args.checkpoint)
    photos = ValidationPhotos(load_photos(args.data, "validation"), model.image_size, args.limit)
    routes = evaluate(model, photos)
    latent = routes.pop("latent", None)
    report = {
        "checkpoint": str(args.checkpoint),
        "sha256": hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()[:16],
        "reference": f"{Path(args.data).name} validation",
        "photos": len(photos),
        "crop": f"central square, Lanczos to {model.image_size} px",
        "rounding": "8-bit, rounded",
        "precision": str(model.dtype).removeprefix("torch."),
        "routes": routes,
        "latent": latent,
    }
    for key in ("checkpoint", "sha256", "reference", "photos", "crop", "rounding", "precision"):
        print(f"{key:12}{report[key]}")
    print(f"\n{'route':10}{'PSNR dB':>10}{'SSIM':>9}{'vs rae':>10}{'':>9}")
    rae = routes["rae"]
    for name, row in routes.items():
        gain = "" if name == "rae" else f"{row['psnr'] - rae['psnr']:+10.2f}{row['ssim'] - rae['ssim']:+9.3f}"
        print(f"{name:10}{row['psnr']:10.2f}{row['ssim']:9.3f}{gain}")
    if latent:
        print(f"\nmean cos(z_fuse, z_base) {latent['cosine_fused_base']:.3f}")
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main_guard(main)
