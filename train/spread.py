"""How much fusion gains on each held-out photo: ``python -m train.spread CHECKPOINT --data FOLDER``.

The gains, PSNR of the checkpoint's last route over the last layer alone, are stored beside its weights; the explorer
then says where a photo stands among them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from drorae import AutoencoderDRoRAE
from drorae.checkpoints import resolve, weights_hash
from drorae.devices import best_device
from drorae.explorer.evidence import HASH
from drorae.explorer.standing import DIGITS, SPREAD, fusion_gains, standing_size
from train.data.held_out import load_held_out
from train.engine.session import PHOTOS, main_guard, number_of
from train.errors import DataError, writing


def store_gains(folder: Path, gains: Tensor, size: int, data: str, command: str) -> None:
    """Store the gains of photos, dB (M,), beside the weights in a folder.

    Args:
        size: side of the photos, pixels.
        data: which photos these were.
        command: that measured them.
    """
    content = {
        "command": command,
        HASH: weights_hash(folder),
        "data": data,
        "photos": len(gains),
        "size": size,
        "gains": [round(gain, DIGITS) for gain in gains.tolist()],
    }
    (folder / SPREAD).write_text(json.dumps(content) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help=f"folder; {SPREAD} is written there")
    parser.add_argument("--data", default=PHOTOS, help="data with a validation split (default: %(default)s)")
    parser.add_argument("--photos", type=number_of("photos"), help="use only this many, evenly spread (default: all)")
    parser.add_argument(
        "--batch-size", type=number_of("photos"), default=16, help="photos at once (default: %(default)s)"
    )
    args = parser.parse_args(argv)
    model = AutoencoderDRoRAE.from_pretrained(args.checkpoint).to(best_device())
    if model.fusion_module is None:
        raise DataError(f"'{args.checkpoint}' has no fusion, so there is no gain to measure.")
    size = model.check_size(standing_size(model), DataError)
    photos = load_held_out(args.data, "validation", size, args.photos)
    found = []
    with tqdm(total=len(photos), desc="gains") as bar:
        for images in photos.batches(args.batch_size):
            found.append(fusion_gains(model, images).cpu())
            bar.update(len(images))
    gains = torch.cat(found).double()
    folder = resolve(args.checkpoint)
    given = f" --photos {args.photos}" if args.photos else ""
    command = f"python -m train.spread {args.checkpoint}{given}"
    with writing(folder):
        store_gains(folder, gains, size, f"{Path(args.data).name} validation", command)
    share = (gains <= 0).double().mean().item()
    tenth, half, most = gains.quantile(torch.tensor([0.1, 0.5, 0.9], dtype=gains.dtype)).tolist()
    print(
        f"{len(gains)} photos at {size} pixels: fusion gains {gains.mean():.2f} dB on average, {half:.2f} on half of "
        f"them or more, 10 % below {tenth:.2f}, 10 % above {most:.2f}, nothing on {share:.1%}. Stored in {folder}."
    )


if __name__ == "__main__":
    main_guard(main)
