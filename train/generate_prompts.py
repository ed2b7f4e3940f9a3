"""Sample pictures of prompts: ``python -m train.generate CHECKPOINT --prompts FILE --out FOLDER``.

Writes the layout that GenEval reads: ``00000/metadata.jsonl`` and ``00000/samples/00000.png``, one folder per prompt.
``FILE`` has one prompt per line, or one JSON object with a ``prompt``, as GenEval's ``evaluation_metadata.jsonl``.
Picture j of prompt i has seed ``--seed`` + i * ``--per-prompt`` + j; any number of processes makes the same pictures,
and the same command again goes on where it stopped. ``--clip`` prints the mean CLIP score.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from PIL import Image
from tqdm.auto import tqdm

from drorae import DRoRAETextPipeline
from drorae.checkpoints import module_hash
from drorae.errors import count_of
from drorae.images import png_with_settings
from drorae.pipelines.base import SamplerSettings, picture_seeds
from drorae.pipelines.text_to_image import check_prompts
from train.data.picture_files import check_record, missing_batches, write, write_record
from train.engine.session import add_sampler_arguments, main_guard, number_of
from train.errors import DataError

METADATA = "metadata.jsonl"
CLIP = "openai/clip-vit-base-patch16"


def read_prompts(file: Path) -> list[dict]:
    """One dictionary with a ``prompt`` per line of the file.

    Raises:
        DataError: it is not there, or a line is neither a text nor an object with a prompt.
    """
    try:
        # not splitlines, which ends a line at letters that a text or JSON may hold
        lines = [line.strip() for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--prompts {file}: it cannot be read ({type(error).__name__}).") from error
    if not lines:
        raise DataError(f"--prompts {file}: it has no lines.")
    rows = []
    for number, line in enumerate(lines, start=1):
        row = {"prompt": line}
        if line.startswith("{"):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"--prompts {file}: line {number} is not JSON.") from error
        if not isinstance(row.get("prompt"), str):
            raise DataError(f"--prompts {file}: line {number} has no 'prompt'.")
        check_prompts(row["prompt"], "prompt")
        rows.append(row)
    return rows


def clip_score(folder: Path, rows: list[dict], per_prompt: int, device: str | torch.device) -> float:
    """Mean CLIP score of all pictures with their prompts, by torchmetrics.

    Raises:
        DataError: the weights could not be fetched.
    """
    from torchmetrics.multimodal.clip_score import CLIPScore

    try:
        metric = CLIPScore(model_name_or_path=CLIP).to(device)
    except Exception as error:  # no network, no weights: many types, one thing to say
        reason = type(error).__name__
        raise DataError(f"--clip needs the weights of '{CLIP}', which could not be fetched ({reason}).") from error
    for number, row in enumerate(tqdm(rows, desc="CLIP score")):
        files = [folder / f"{number:05d}" / "samples" / f"{j:05d}.png" for j in range(per_prompt)]
        images = [torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).to(device) for file in files]
        metric.update(images, [row["prompt"]] * per_prompt)
    return metric.compute().item()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="folder or hub id of a text-to-image pipeline")
    parser.add_argument("--prompts", type=Path, required=True, help="one prompt or JSON object per line")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--per-prompt", type=number_of("pictures"), default=4, help="pictures of each (default: %(default)s)"
    )
    parser.add_argument("--negative", default="", help="what to lead away from")
    add_sampler_arguments(parser, "cfg", 6.0, batch_size=16)
    parser.add_argument("--clip", action="store_true", help="also the CLIP score, whose weights are fetched")
    args = parser.parse_args(argv)
    state = PartialState()
    rows = read_prompts(args.prompts)
    pipeline = DRoRAETextPipeline.from_pretrained(args.checkpoint).to(state.device)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.check(SamplerSettings(args.steps, args.guidance, args.scale, decoder=args.decoder))
    settings = {"steps": args.steps, "guidance": args.guidance}
    settings |= {"scale": args.scale, "negative": args.negative} if args.guidance == "cfg" else {}
    settings |= {"decoder": args.decoder, "checkpoint": Path(args.checkpoint).name}
    networks = {"denoiser": pipeline.denoiser, "text_encoder": pipeline.text_encoder, "tokenizer": pipeline.autoencoder}
    record = settings | {"seed": args.seed, "per_prompt": args.per_prompt, "prompts": rows}
    record["weights"] = {name: module_hash(network) for name, network in networks.items()}
    count = len(rows) * args.per_prompt
    seeds = picture_seeds(args.seed, count)
    check_record(args.out, record)
    state.wait_for_everyone()
    if state.is_main_process:
        for number, row in enumerate(rows):
            (args.out / f"{number:05d}" / "samples").mkdir(parents=True, exist_ok=True)
            write(args.out / f"{number:05d}" / METADATA, (json.dumps(row) + "\n").encode())
        write_record(args.out, record)
    state.wait_for_everyone()

    def place(number: int) -> Path:
        prompt, picture = divmod(number, args.per_prompt)
        return args.out / f"{prompt:05d}" / "samples" / f"{picture:05d}.png"

    for numbers in missing_batches(count, place, args.batch_size, state):
        prompts = [rows[number // args.per_prompt]["prompt"] for number in numbers]
        pictures = pipeline(
            prompts,
            args.steps,
            args.guidance,
            args.scale,
            negative_prompt=args.negative if args.guidance == "cfg" else None,
            seed=[seeds[number] for number in numbers],
            decoder=args.decoder,
        ).images
        for number, prompt, picture in zip(numbers, prompts, pictures, strict=True):
            details = {"prompt": prompt, "seed": seeds[number], **settings}
            write(place(number), png_with_settings(picture, details))
    state.wait_for_everyone()
    if state.is_main_process:
        made, steps = f"{count_of(count, 'picture')} of {count_of(len(rows), 'prompt')}", count_of(args.steps, "step")
        print(f"{args.out}: {made}, {steps}, {args.guidance}.")
        if args.clip:
            print(f"CLIP score ({CLIP}): {clip_score(args.out, rows, args.per_prompt, state.device):.3f}")


if __name__ == "__main__":
    main_guard(main)
