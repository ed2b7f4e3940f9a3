"""How far held-out photos lie out: ``python -m train.latent_distance CHECKPOINT --validation FOLDER``.

Measures the distance (:func:`drorae.explorer.compatibility.distances`) that 99 % of the tokens of held-out photos keep,
and stores it in the checkpoint's configuration; the explorer then says when an intervention leaves that range.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from drorae import AutoencoderDRoRAE
from drorae.checkpoints import resolve, weights_hash
from drorae.devices import best_device
from drorae.explorer.compatibility import QUANTILE, distances
from drorae.explorer.evidence import HASH
from train.data.held_out import ValidationPhotos, load_held_out
from train.engine.session import SHARED, main_guard, number_of
from train.errors import DataError

RECORD, CONFIG = "latent_distance.json", "config.json"


@torch.inference_mode()
def token_distances(model: AutoencoderDRoRAE, photos: ValidationPhotos, batch_size: int = 32) -> torch.Tensor:
    """Distance of every token of every photo, (photos * N,)."""
    found = []
    with tqdm(total=len(photos), desc="latent distance") as bar:
        for images in photos.batches(batch_size):
            found.append(distances(model, model.fuse(model.encoder(images.to(model.device))).tokens).flatten().cpu())
            bar.update(len(images))
    return torch.cat(found) if found else torch.empty(0)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help="folder; its configuration is written again")
    parser.add_argument("--validation", default=str(SHARED / "photos20"), help="data with a validation split")
    parser.add_argument("--limit", type=number_of("pictures"), help="use only this many photos, evenly spread")
    args = parser.parse_args(argv)

    model = AutoencoderDRoRAE.from_pretrained(args.checkpoint)
    if model.statistics is None:
        raise DataError(f"'{args.checkpoint}' has no latent statistics; run python -m train.latent_stats on it first.")
    model = model.to(best_device())
    photos = load_held_out(args.validation, "validation", model.image_size, args.limit, option="--validation")
    found = token_distances(model, photos)
    if not len(found):
        raise DataError(f"--validation {args.validation}: no picture there can be read")
    # NumPy's: torch's quantile takes no more than 16 million values
    distance = round(float(np.quantile(found.numpy(), QUANTILE)), 4)
    folder = resolve(args.checkpoint)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8")) | {"latent_distance": distance}
    record = {
        "command": f"python -m train.latent_distance {args.checkpoint}{f' --limit {args.limit}' if args.limit else ''}",
        HASH: weights_hash(folder),
        "data": f"{Path(args.validation).name} validation",
        "photos": len(found) // model.grid_size**2,
        "quantile": QUANTILE,
        "distance": distance,
        "mean": round(float(found.mean()), 4),
    }
    for name, content in ((CONFIG, config), (RECORD, record)):
        fresh = folder / f"{name}.new"
        fresh.write_text(json.dumps(content, indent=2, sort_keys=name == CONFIG) + "\n", encoding="utf-8")
        fresh.replace(folder / name)
    print(
        f"{record['photos']} photos: the mean token lies at {record['mean']:.3f}, {QUANTILE:.0%} of all tokens within "
        f"{distance:.3f}. Stored in {folder}."
    )


if __name__ == "__main__":
    main_guard(main)
