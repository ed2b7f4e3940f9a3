"""``drorae sample``: a picture of a class or of a text."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from drorae.bundled import DEFAULT_GENERATOR, DEFAULT_TEXT_GENERATOR
from drorae.choices import DECODERS, GUIDANCE
from drorae.cli.outputs import misdirected_file, write_file
from drorae.console import fail
from drorae.errors import printable

HELP = "make a picture of a class or of a text"


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of this command."""
    command.add_argument("--generator", help="pipeline folder or Hub id (default: the embedded one)")
    subject = command.add_mutually_exclusive_group(required=True)
    subject.add_argument("--class", dest="label", help="class, by name or number")
    subject.add_argument("--prompt", help="what to show")
    command.add_argument("--negative", default="", help="what to lead away from, with --prompt")
    command.add_argument("--seed", type=int, default=0, help="seed of the noise (default: %(default)s)")
    command.add_argument("--steps", type=int, default=25, help="steps of the sampler (default: %(default)s)")
    command.add_argument(
        "--guidance",
        choices=GUIDANCE,
        help="kind of guidance (default: the generator's own, else autoguidance where there is a guide, else cfg)",
    )
    command.add_argument(
        "--scale",
        type=float,
        help="strength of guidance; 1 means none (default: the generator's own, else 1.5 for a class, 3 for a text)",
    )
    command.add_argument(
        "--decoder", choices=DECODERS, help="decoder that paints (default: finetuned, where there is one)"
    )
    command.add_argument("--out", type=Path, required=True, help="file to write (PNG, it holds the settings)")
    command.set_defaults(misdirected=misdirected_file(".png"))


def run(args: argparse.Namespace) -> int:
    """The exit code, once the picture is written."""
    if args.negative and args.prompt is None:
        return fail("--negative leads away from a text; use it with --prompt, not with --class.")
    if args.guidance == "none" and args.scale is not None:
        return fail(f"--scale {args.scale:g} has nothing to act on with --guidance none; leave one of them out.")
    from drorae.devices import best_device
    from drorae.explorer.sampling import class_name, decoder_names, usual_guidance
    from drorae.images import png_with_settings
    from drorae.pipelines.class_to_image import DRoRAEClassPipeline
    from drorae.pipelines.text_to_image import DRoRAETextPipeline

    started = time.perf_counter()
    name = args.generator or (DEFAULT_GENERATOR if args.prompt is None else DEFAULT_TEXT_GENERATOR)
    if args.prompt is None:
        pipeline = DRoRAEClassPipeline.from_pretrained(name).to(best_device())
        (number,) = pipeline.label_numbers(args.label)
        subject, about = number, {"class": class_name(pipeline, number)}
    else:
        pipeline = DRoRAETextPipeline.from_pretrained(name).to(best_device())
        subject, about = args.prompt, {"prompt": args.prompt}
    guidance, scale = usual_guidance(pipeline)
    guidance, scale = args.guidance or guidance, scale if args.scale is None else args.scale
    more = {"negative_prompt": args.negative} if args.prompt is not None and args.negative else {}
    images = pipeline(subject, args.steps, guidance, scale, seed=args.seed, decoder=args.decoder, **more).images
    settings = about | {"seed": args.seed, "steps": args.steps, "guidance": guidance}
    settings |= {"scale": scale} if guidance != "none" else {}
    settings |= {"negative": args.negative} if more else {}
    settings |= {"decoder": args.decoder or decoder_names(pipeline.autoencoder)[-1]}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_file(args.out, png_with_settings(images[0], {"model": name, **settings}))
    listed = printable(", ".join(f"{key} {value}" for key, value in settings.items()))
    print(f"{args.out}: {listed}, {time.perf_counter() - started:.1f} s")
    return 0
