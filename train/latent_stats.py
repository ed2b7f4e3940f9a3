"""Statistics of a checkpoint's latent: ``python -m train.latent_stats CHECKPOINT --data FOLDER``.

Mean and variance over all pictures, exact (Chan, Golub and LeVeque's update of batches in float64), stored in the
checkpoint, whose latents are normalised with them from then on. They are per channel and position, as RAE's; of a model
for pictures of any size, whose grids differ, per channel alone. ``--no-mean`` keeps the
standard deviation alone, as RAE published it for DINOv2-B.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from drorae import AutoencoderDRoRAE
from drorae.checkpoints import WEIGHTS, load_weights, resolve
from drorae.devices import best_device
from drorae.pretrained.adapter import cast_weights
from train.data.held_out import ValidationPhotos, load_held_out
from train.engine.session import SHARED, main_guard, number_of
from train.errors import DataError

RECORD = "latent_stats.json"


class StreamingMoments:
    """Exact mean and population variance of a stream of batches, in float64.

    The result does not depend on how the stream is cut into batches, up to rounding.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros((), dtype=torch.float64)
        self._squares = torch.zeros((), dtype=torch.float64)  # sum of squared deviations from the mean

    def update(self, values: Tensor) -> None:
        """Add a batch (B, ...)."""
        values = values.double()
        count, mean = len(values), values.mean(0)
        squares = (values - mean).square().sum(0)
        total = self.count + count
        difference = mean - self.mean
        self.mean = self.mean + difference * (count / total)
        self._squares = self._squares + squares + difference.square() * (self.count * count / total)
        self.count = total

    @property
    def variance(self) -> Tensor:
        """Population variance, (...)."""
        return self._squares / self.count


@torch.inference_mode()
def latent_moments(
    model: AutoencoderDRoRAE, photos: ValidationPhotos, batch_size: int = 32
) -> tuple[StreamingMoments, int]:
    """Moments of the latent before any normalisation, over all pictures and their mirror images, and how many latents
    these were. They have the model's ``statistics_shape``: (C, h, w), or over all positions as well, (C, 1, 1)."""
    moments, count = StreamingMoments(), 0
    bar = tqdm(total=photos.count, desc="latent statistics")
    for images in photos.batches(batch_size):
        for view in (images, images.flip(-1)):
            tokens = model.fuse(model.encoder(view.to(model.device))).tokens.cpu()  # (B, N, C)
            samples = tokens.flatten(0, 1) if model.config.any_size else tokens.transpose(1, 2)
            moments.update(samples.reshape(-1, *model.statistics_shape))
            count += len(view)
        bar.update(len(images))
    bar.close()
    return moments, count


def stored_dtype(folder: Path) -> torch.dtype:
    """The precision a checkpoint's weights are stored in."""
    return load_weights(folder)["decoder.decoder_pred.weight"].dtype


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help="folder; its weights and configuration are written again")
    parser.add_argument("--data", default=str(SHARED / "photos20"), help="data with a training split")
    parser.add_argument("--split", default="train", help="split of --data (default: %(default)s)")
    parser.add_argument("--limit", type=number_of("pictures"), help="use only this many photos, evenly spread")
    parser.add_argument(
        "--workers", type=number_of("threads"), default=2, help="threads that read pictures (default: 2)"
    )
    parser.add_argument("--no-mean", action="store_true", help="keep the standard deviation alone")
    parser.add_argument("--out", type=Path, help="write the checkpoint here, not in place")
    args = parser.parse_args(argv)

    model = AutoencoderDRoRAE.from_pretrained(args.checkpoint)
    model = model.to(best_device())
    photos = load_held_out(args.data, args.split, model.image_size, args.limit, workers=args.workers, in_memory=False)
    moments, latents = latent_moments(model, photos)
    if latents < 4:
        raise DataError(f"--data {args.data}: statistics need more than {latents // 2} readable pictures")
    for note in photos.damaged:
        print(f"skipped: {note}")
    std = moments.variance.sqrt()
    if not std.min() > 0:
        raise DataError(f"--data {args.data}: all pictures have equal latents somewhere; use different pictures")
    model.set_statistics(std.float(), None if args.no_mean else moments.mean.float())
    out = args.out or resolve(args.checkpoint)
    cast_weights(model.cpu(), stored_dtype(resolve(args.checkpoint)))
    if not out.exists():
        model.save_pretrained(out)
    else:  # beside the old weights, then in their place; shards and variants are the old ones
        old = {*out.glob(f"{Path(WEIGHTS).stem}*.safetensors"), *out.glob(f"{WEIGHTS}.index*.json")}
        with tempfile.TemporaryDirectory(dir=out.parent) as folder:
            model.save_pretrained(folder)
            written = [file.name for file in Path(folder).iterdir()]
            for name in written:
                (Path(folder) / name).replace(out / name)
            for file in old - {out / name for name in written}:
                file.unlink()
    given = "".join(f" --{name} {value}" for name, value in (("split", args.split), ("limit", args.limit)) if value)
    record = {
        "command": f"python -m train.latent_stats {args.checkpoint}{given}{' --no-mean' * args.no_mean}",
        "data": f"{Path(args.data).name} {args.split}",
        "latents": latents,
    }
    (out / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(
        f"{latents} latents ({latents // 2} pictures and their mirror images): mean of std "
        f"{std.mean():.4f}, from {std.min():.4f} to {std.max():.4f}; mean of |mean| {moments.mean.abs().mean():.4f}. "
        f"Stored in {out}."
    )


if __name__ == "__main__":
    main_guard(main)
