"""Train a denoiser: ``python -m train.stage2 --preset tiny --condition class``, and its guide with ``--guide``.

Flow matching on the latents of a frozen tokenizer (paper section 4.2, with RAE's recipe). The latents are computed once
and kept under ``--out``/latents. Run the same command again to continue a run that was
stopped. The checkpoint is the folder of a pipeline: ``DRoRAEClassPipeline.from_pretrained``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from accelerate import Accelerator

from drorae import AutoencoderDRoRAE, DiTDH
from drorae.adapter import load_tokenizer
from train.arguments import (
    SHARED,
    add_data_arguments,
    add_run_arguments,
    load_positions,
    load_validation,
    main_guard,
    train,
    with_arguments,
)
from train.data import TrainingPositions
from train.evaluate import positive
from train.generation import Generation
from train.latent_cache import LatentPositions, cache_key, fits, load_cache, size_in_bytes, tokenizer_hash
from train.presets import PRESETS, Stage2Preset
from train.run import CHECKPOINT, RunError
from train.sources import DataError, class_names, load_photos

CONDITIONS = ("class",)
VALIDATION_PHOTOS = 256


def find_tokenizer(args: argparse.Namespace, row: Stage2Preset) -> str:
    """The tokenizer of the command line, else the preset's: a finished run of ``--out``, or a checkpoint."""
    if args.tokenizer is not None:
        return args.tokenizer
    run = args.out / row.tokenizer / CHECKPOINT
    return str(run) if run.is_dir() else row.tokenizer


def build_denoiser(model: AutoencoderDRoRAE, row: Stage2Preset, num_classes: int) -> DiTDH:
    """A fresh denoiser for the latents of ``model``."""
    torch.manual_seed(row.schedule.seed)
    return DiTDH(
        sample_size=model.grid_size,
        in_channels=model.encoder.dim,
        num_classes=num_classes,
        latent_fingerprint=None if model.statistics is None else model.statistics.fingerprint(),
        **row.denoiser,
    )


def load_latents(
    args: argparse.Namespace, model: AutoencoderDRoRAE, row: Stage2Preset, accelerator: Accelerator, fused: bool = True
):
    """The training data: cached latents, or with ``--no-cache`` photos, which are encoded while training.

    Raises:
        RunError: the latents cannot be kept.
    """
    photos = load_positions(args, model.image_size, row.schedule, centre=True)
    if args.no_cache:
        return photos
    if not isinstance(photos, TrainingPositions):
        raise RunError("the latents of a stream cannot be kept; give --no-cache, or a copy of the data on this disk.")
    names = [Path(path).name for path in args.data]
    folder = args.out / "latents" / f"{'-'.join(names)}-{cache_key(model, photos, row.schedule.precision, fused)}"
    if not folder.is_dir() and not fits(model, photos.count, folder):
        raise RunError(
            f"the latents take {size_in_bytes(model, photos.count) / 2**30:.1f} GiB, more than half of what is free at "
            f"'{args.out}'; give --no-cache to compute them anew in every epoch, or another --out."
        )
    cache = load_cache(model, photos, folder, accelerator, fused=fused)
    return LatentPositions(*cache, photos.sources, row.schedule.flip, row.schedule.seed)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=[name for name, preset in PRESETS.items() if preset.stage2], required=True)
    parser.add_argument("--condition", choices=CONDITIONS, required=True)
    parser.add_argument("--guide", action="store_true", help="train the weak network of AutoGuidance")
    parser.add_argument("--tokenizer", help="checkpoint or hub id to train upon (default: the preset's)")
    parser.add_argument("--classes", type=positive, help="how many there are, where the data does not say")
    parser.add_argument("--no-cache", action="store_true", help="compute the latents anew in every epoch")
    parser.add_argument("--precision", choices=("no", "bf16"), help="the denoiser's; 'no' is fp32")
    add_data_arguments(parser)
    add_run_arguments(parser)
    parser.set_defaults(data=[str(SHARED / "photos20")], validation=None)
    args = parser.parse_args(argv)
    args.validation = args.validation or args.data[0]  # classes of other data would be other classes
    run = f"{args.condition}-guide" if args.guide else args.condition
    row = with_arguments(PRESETS[args.preset].stage2[run], args)
    tokenizer = find_tokenizer(args, row)
    model = load_tokenizer(tokenizer)
    if model.statistics is None:
        raise RunError(
            f"'{tokenizer}' has no latent statistics, which denoisers need; run python -m train.latent_stats on it."
        )
    names = class_names([load_photos(path, "train", streaming=args.stream) for path in args.data], args.classes)
    denoiser = build_denoiser(model, row, len(names))

    def build(accelerator: Accelerator) -> Generation:
        try:
            validation = load_validation(args, model.image_size, limit=VALIDATION_PHOTOS)
        except DataError as error:  # one's own folder may have nothing held out
            accelerator.print(f"There will be no held-out loss: {error}")
            validation = None
        labelled = validation is not None and class_names([validation.rows], len(names), "--validation") == names
        if validation is not None and not labelled:
            accelerator.print("The held-out photos have other classes; their loss is measured without labels.")
        return Generation(model, denoiser, row, model.statistics, validation, names, tokenizer, labelled=labelled)

    def load(task: Generation, accelerator: Accelerator):
        return load_latents(args, task.model, row, accelerator)

    given = "".join(
        f" {option} {value}"
        for option, value in (("--tokenizer", args.tokenizer), ("--precision", args.precision))
        if value
    )
    command = f"train.stage2 --preset {args.preset} --condition {args.condition}{' --guide' * args.guide}{given}"
    shape = {key: value for key, value in denoiser.config.items() if not key.startswith("_")}
    settings = {"denoiser": shape, "tokenizer": tokenizer_hash(model), "classes": names, "cached": not args.no_cache}
    train(args, command, run, settings, row, build, load)


if __name__ == "__main__":
    main_guard(main)
