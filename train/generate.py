"""Sample many pictures: ``python -m train.generate CHECKPOINT --count 2000 --out FOLDER``, or with ``--prompts FILE``
those of a text-to-image pipeline, see :mod:`train.generate_prompts`.

Picture i is of class i mod n (as many of each class, as RAE's evaluation) and has seed ``--seed`` + i, so any number of
processes (``accelerate launch``) makes the same pictures, and the same command again goes on where it stopped. They are
PNG files that hold their own settings, and with ``--npz`` also one array in ADM's layout.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from PIL import Image

from drorae import DiTDH, DRoRAEClassPipeline
from drorae.checkpoints import module_hash, resolve
from drorae.errors import count_of
from drorae.images import png_with_settings
from drorae.pipelines.base import SamplerSettings, picture_seeds
from train import generate_prompts
from train.data.picture_files import check_record, missing_batches, write, write_record
from train.engine.session import add_sampler_arguments, amount_of, main_guard, number_of

ARRAY = "samples.npz"


def load_generator(name: str, guide: str | None, device: str | torch.device) -> DRoRAEClassPipeline:
    """The pipeline in ``name``, with the denoiser of the pipeline or denoiser folder ``guide`` as weak network."""
    pipeline = DRoRAEClassPipeline.from_pretrained(name)
    if guide is not None:
        folder = resolve(guide)
        weak = DiTDH.from_pretrained(folder / "denoiser" if (folder / "denoiser").is_dir() else folder)
        kept = {name: pipeline.config[name] for name in ("labels", "autoencoder_name", "guidance", "guidance_scale")}
        pipeline = DRoRAEClassPipeline(pipeline.autoencoder, pipeline.denoiser, pipeline.scheduler, weak, **kept)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def write_npz(folder: Path, count: int, labels: list[int]) -> None:
    """All pictures in one file, as ADM's evaluator reads them: ``arr_0`` (n, H, W, 3) uint8, ``arr_1`` labels (n,)."""
    pictures = np.stack([np.asarray(Image.open(folder / f"{number:06d}.png")) for number in range(count)])
    np.savez(folder / ARRAY, pictures, np.asarray(labels[:count]))


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    if any(argument.partition("=")[0] == "--prompts" for argument in argv):
        generate_prompts.main(argv)
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="folder or hub id of a class-conditional pipeline")
    parser.add_argument("--guide", help="another pipeline or denoiser, as the weak network of AutoGuidance")
    parser.add_argument("--count", type=number_of("pictures"), required=True, help="pictures")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--classes", nargs="+", help="only these, by name or number")
    add_sampler_arguments(parser, "none", 1.5, batch_size=25)
    parser.add_argument(
        "--interval",
        type=amount_of("a flow time", most=1),
        nargs=2,
        default=(0.0, 1.0),
        help="flow times where guidance acts",
    )
    parser.add_argument("--npz", action="store_true", help=f"also write {ARRAY}")
    args = parser.parse_args(argv)
    state = PartialState()
    pipeline = load_generator(args.checkpoint, args.guide, state.device)
    classes = pipeline.label_numbers(args.classes or list(range(pipeline.denoiser.config.num_classes)))
    labels = [classes[number % len(classes)] for number in range(args.count)]
    settings = {"steps": args.steps, "guidance": args.guidance}
    if args.guidance != "none":
        settings |= {"scale": args.scale, "interval": list(args.interval)}
    settings |= {"decoder": args.decoder, "checkpoint": Path(args.checkpoint).name}
    pipeline.check(SamplerSettings(args.steps, args.guidance, args.scale, tuple(args.interval), args.decoder))
    record = settings | {"seed": args.seed, "classes": classes, "names": pipeline.config.labels}
    networks = {"denoiser": pipeline.denoiser, "guide": pipeline.guide, "tokenizer": pipeline.autoencoder}
    record["weights"] = {name: module_hash(network) for name, network in networks.items() if network is not None}
    seeds = picture_seeds(args.seed, args.count)
    check_record(args.out, record)
    args.out.mkdir(parents=True, exist_ok=True)
    state.wait_for_everyone()
    if state.is_main_process:
        write_record(args.out, record)

    def place(number: int) -> Path:
        return args.out / f"{number:06d}.png"

    for numbers in missing_batches(args.count, place, args.batch_size, state):
        pictures = pipeline(
            [labels[n] for n in numbers],
            args.steps,
            args.guidance,
            args.scale,
            tuple(args.interval),
            seed=[seeds[n] for n in numbers],
            decoder=args.decoder,
        ).images
        for n, picture in zip(numbers, pictures, strict=True):
            name = (pipeline.config.labels or {}) and pipeline.config.labels[labels[n]]
            details = {"class": name or labels[n], "seed": seeds[n], **settings}
            write(place(n), png_with_settings(picture, details))
    state.wait_for_everyone()
    if state.is_main_process:
        if args.npz:
            write_npz(args.out, args.count, labels)
        pictures, steps = count_of(args.count, "picture"), count_of(args.steps, "step")
        print(f"{args.out}: {pictures}, {count_of(len(classes), 'class', 'classes')}, {steps}, {args.guidance}.")


if __name__ == "__main__":
    main_guard(main)
