"""How much could any fusion gain? ``python -m train.fusion_bound CHECKPOINT --data FOLDER``.

Equation 5 leaves z_final within a fixed distance of z_base, and in phase 2 the decoder is frozen. Here z_fuse is not
computed from the layers but chosen freely for every picture, by gradient descent on its own reconstruction error from
where the trained fusion ends: what that reaches is out of reach for a fusion that sees the layers only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from drorae import AutoencoderDRoRAE
from drorae.devices import best_device
from drorae.metrics import psnr
from drorae.models.decoder import decode_tokens
from drorae.models.fusion import layer_norm
from drorae.pretrained.adapter import load_tokenizer
from train.data.held_out import load_held_out
from train.engine.session import SHARED, main_guard, number_of
from train.errors import DataError

LR = 0.03
BATCH = 16


def chosen_freely(model: AutoencoderDRoRAE, images: Tensor, steps: int, bar: tqdm) -> dict[str, Tensor]:
    """PSNR (B,) of images (B, 3, H, H) from the last layer, the trained fusion and the best z_fuse found, original
    decoder each."""
    layers = model.encoder(images)
    with torch.no_grad():
        base = model.fuse(layers, fusion=False).tokens
        fused = model.fuse(layers, return_routing=True)
    assert fused.routing is not None, "it was asked for"
    beta, eps = model.config.fusion_beta, model.encoder.norm_eps

    def paint(tokens: Tensor) -> Tensor:
        return decode_tokens(model.decoder, tokens, model.encoder.mean, model.encoder.std).float()

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


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="folder or hub id of a tokenizer with fusion")
    parser.add_argument("--data", default=str(SHARED / "photos20"), help="where a validation split is")
    parser.add_argument(
        "--limit", type=number_of("pictures"), default=32, help="photos, evenly spread (default: %(default)s)"
    )
    parser.add_argument("--steps", type=number_of("steps"), default=150, help="of the descent (default: %(default)s)")
    args = parser.parse_args(argv)
    device = str(best_device())
    model = load_tokenizer(args.checkpoint).to(device).requires_grad_(False)
    if model.config.fusion != "depth-routed":
        raise DataError(f"'{args.checkpoint}' has no depth-routed fusion, so there is nothing to compare with.")
    photos = load_held_out(args.data, "validation", model.image_size, args.limit)
    collected: dict[str, list[Tensor]] = {}
    bar = tqdm(total=-(-len(photos) // BATCH) * args.steps, desc="descent")
    for images in photos.batches(BATCH):
        for name, values in chosen_freely(model, images.to(device), args.steps, bar).items():
            collected.setdefault(name, []).append(values.cpu())
    bar.close()
    means = {name: torch.cat(values).double().mean().item() for name, values in collected.items()}
    base = means["last layer"]
    print(f"{Path(args.data).name} validation, {len(photos)} photos, {args.steps} steps, original decoder, PSNR in dB:")
    for name, value in means.items():
        print(f"  {name:22}{value:6.2f}{'' if value == base else f' ({value - base:+.2f})'}")


if __name__ == "__main__":
    main_guard(main)
