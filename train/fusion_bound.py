"""How much could any fusion gain? ``python -m train.fusion_bound CHECKPOINT --data FOLDER``.

Equation 5 leaves z_final within a fixed distance of z_base, and in phase 2 the decoder is frozen. Here z_fuse is not
computed from the layers but chosen freely for every picture, by gradient descent on its own reconstruction error from
where the trained fusion ends: what that reaches is out of reach for a fusion that sees the layers only.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from drorae import AutoencoderDRoRAE
from drorae.devices import best_device
from drorae.explorer.standing import standing_size
from drorae.metrics import psnr
from drorae.models.decoder import decode_tokens
from drorae.models.fusion import layer_norm
from drorae.pretrained.adapter import load_tokenizer
from train.data.held_out import load_held_out
from train.engine.session import SHARED, main_guard, number_of
from train.errors import DataError

LR = 0.03
BATCH, PHOTOS, STEPS = 16, 32, 150
DATA = str(SHARED / "photos20")


def chosen_freely(model: AutoencoderDRoRAE, images: Tensor, steps: int, bar: tqdm) -> dict[str, Tensor]:
    """PSNR (B,) of images (B, 3, H, H) from the last layer, the trained fusion and the best z_fuse found, original
    decoder each."""
    layers, grid = model.encoder(images), model.encoder.grid_of(images)
    with torch.no_grad():
        base = model.fuse(layers, fusion=False).tokens
        fused = model.fuse(layers, return_routing=True)
    assert fused.routing is not None, "it was asked for"
    beta, eps = model.config.fusion_beta, model.encoder.norm_eps

    def paint(tokens: Tensor) -> Tensor:
        return decode_tokens(model.decoder, tokens, model.encoder.mean, model.encoder.std, grid).float()

    z = fused.routing.fused.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([z], lr=LR)
    for _ in range(steps):
        final = layer_norm(base + beta * (layer_norm(z, eps) - base), eps)
        loss = (paint(final) - images).abs().mean((1, 2, 3)).sum()  # every picture by itself
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        bar.update()
    with torch.no_grad():
        final = layer_norm(base + beta * (layer_norm(z, eps) - base), eps)
        tokens = {"last layer": base, "trained fusion": fused.tokens, "z_fuse chosen freely": final}
        return {name: psnr(paint(value), images) for name, value in tokens.items()}


def measure_bound(
    checkpoint: str, data: str, limit: int = PHOTOS, steps: int = STEPS, size: int | None = None
) -> dict[str, Any]:
    """The report: mean PSNR on held-out photos by where the tokens come from, and how to repeat it.

    Args:
        limit: photos, evenly spread.
        steps: steps of the descent.
        size: side of the photos, pixels; as the explorer compares photos when ``None``.

    Raises:
        DataError: a checkpoint without depth-routed fusion, or a size it does not take.
    """
    device = str(best_device())
    model = load_tokenizer(checkpoint).to(device).requires_grad_(False)
    if model.config.fusion != "depth-routed":
        raise DataError(f"'{checkpoint}' has no depth-routed fusion, so there is nothing to compare with.")
    chosen = model.check_size(standing_size(model) if size is None else size, DataError)
    photos = load_held_out(data, "validation", chosen, limit)
    collected: dict[str, list[Tensor]] = {}
    bar = tqdm(total=-(-len(photos) // BATCH) * steps, desc="descent")
    for images in photos.batches(BATCH):
        for name, values in chosen_freely(model, images.to(device), steps, bar).items():
            collected.setdefault(name, []).append(values.cpu())
    bar.close()
    options: dict[str, object] = {"--limit": limit if limit != PHOTOS else None, "--size": size}
    options |= {"--steps": steps if steps != STEPS else None, "--data": data if data != DATA else None}
    given = "".join(f" {option} {value}" for option, value in options.items() if value is not None)
    return {
        "command": f"python -m train.fusion_bound {checkpoint}{given}",
        "data": f"{Path(data).name} validation",
        "photos": len(photos) - len(photos.damaged),
        "size": chosen,
        "steps": steps,
        "psnr": {name: torch.cat(values).double().mean().item() for name, values in collected.items()},
    }


def bound_words(report: dict[str, Any]) -> str:
    """The report as a sentence."""
    base, trained, best = report["psnr"].values()
    return (
        f"With z_fuse chosen freely for each of {report['photos']} photos ({report['size']} px), the untouched decoder "
        f"reaches {best - base:.2f} dB over the last layer, where the trained fusion reaches {trained - base:.2f} dB "
        "on the same photos."
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="folder or hub id of a tokenizer with fusion")
    parser.add_argument("--data", default=DATA, help="data with a validation split")
    parser.add_argument(
        "--limit", type=number_of("pictures"), default=PHOTOS, help="photos, evenly spread (default: %(default)s)"
    )
    parser.add_argument(
        "--steps", type=number_of("steps"), default=STEPS, help="steps of the descent (default: %(default)s)"
    )
    parser.add_argument(
        "--size", type=number_of("pixels"), help="side of the photos (default: 224 for models of any size)"
    )
    args = parser.parse_args(argv)
    report = measure_bound(args.checkpoint, args.data, args.limit, args.steps, args.size)
    base = report["psnr"]["last layer"]
    print(
        f"{report['data']}, {report['photos']} photos at {report['size']} pixels, {report['steps']} steps, original "
        "decoder, PSNR in dB:"
    )
    for name, value in report["psnr"].items():
        print(f"  {name:22}{value:6.2f}{'' if value == base else f' ({value - base:+.2f})'}")


if __name__ == "__main__":
    main_guard(main)
