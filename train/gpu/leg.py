"""Train one run of a preset on one GPU within a time limit: ``python -m train.gpu.leg --preset tiny --run fusion``.

The whole schedule (warm-up, cosine, floor) is fitted into ``--minutes``: a few steps are timed first, then as many are
planned as fit. The pictures are decoded once and stay on the card. What comes out is a leg (see
:mod:`train.engine.legs`) in ``--result``, cut into parts that are small enough to carry, the run's log and record, and
a report with throughput and utilisation. docs/gpu.md has the whole sequence of commands.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import Subset
from torch.utils.flop_counter import FlopCounterMode

from drorae.pretrained.adapter import load_tokenizer
from train import encoder, stage1, stage2
from train.data.batches import Batch
from train.data.captions import all_captions
from train.data.crops import Crop
from train.data.sources import load_photos
from train.data.text_cache import load_features
from train.engine.dry_run import PEAK_FLOPS
from train.engine.legs import LEG, find_leg
from train.engine.optimisation import Optimisation, PlainEMA
from train.engine.run import fit
from train.engine.run_folder import CHECKPOINT, LOG, RECORD, hold
from train.engine.session import (
    add_data_arguments,
    add_run_arguments,
    amount_of,
    main_guard,
    number_of,
    record_run,
    shares_of,
)
from train.engine.task import Task
from train.errors import RunError
from train.gpu.latents import DeviceLatents, encode_views
from train.gpu.pictures import STORED_SIDE, DevicePictures, decode_all
from train.gpu.texts import DeviceText
from train.presets import PHASES, PRESETS
from train.settings import Schedule, Stage2Preset
from train.tasks.conditions import TextCondition
from train.tasks.generation import FlowMatching
from train.tasks.reconstruction import Reconstruction

COUNTED = 16  # pictures whose operations are counted
PART = 15 * 2**20  # bytes; a file that is carried
WARM_STEPS, TIMED_STEPS = 4, 12
RESERVE = 0.88  # of the time that is left for steps: what timing misjudges, saving and validating


class Timer:
    """Seconds since the start, with the device's work done."""

    def __init__(self, device: torch.device):
        self.device, self.start = device, time.monotonic()

    def seconds(self) -> float:
        """Seconds so far."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.monotonic() - self.start


def scaled_rate(row: Schedule, batch_size: int) -> float:
    """The learning rate for another batch: times the square root of the ratio, at most 2.5 times, with Muon 1.5 times:
    its updates have one size, whatever the noise in the gradients."""
    most = 1.5 if row.optimizer == "muon" else 2.5
    return row.lr * min(most, (batch_size / row.batch_size) ** 0.5)


def plan_schedule(row: Schedule, batch_size: int, steps: int) -> Schedule:
    """A preset's schedule with other batches and another number of steps, everything else in proportion."""
    ratio = steps / row.steps
    sides = tuple((int(start * ratio), sides) for start, sides in row.sides)
    return dataclasses.replace(
        row,
        steps=steps,
        batch_size=batch_size,
        lr=scaled_rate(row, batch_size),
        warmup_steps=max(1, min(int(row.warmup_steps * ratio), steps // 10)),
        ema_decay=min(row.ema_decay, max(0.0, 1 - 10 / steps)),
        sides=sides,
        save_every=max(1, steps // 4),
        workers=0,
        compile=False,  # it has been, before the timing
    )


def count_operations(task: Task, batch: Batch, accelerator: Accelerator, step: int) -> float:
    """Floating point operations of a picture in a training step."""
    with FlopCounterMode(display=False) as counter, torch.compiler.set_stance("force_eager"), accelerator.autocast():
        task.loss(batch, step)[0].backward()
        for against, _ in task.adversary_loss(step):
            against.backward()
    for network in (task.trainable, task.adversary):
        if network is not None:
            network.zero_grad(set_to_none=True)
    return counter.get_total_flops() / len(batch.positions)


def time_steps(
    task: Task, batch: Callable[[int], Batch], accelerator: Accelerator, schedule: Schedule, adversary_lr: float | None
) -> float:
    """Seconds of a whole step, optimisers and average included; the weights are afterwards what they were.

    Args:
        batch: gives the batch of a step.
    """
    networks = [network for network in (task.trainable, task.adversary) if network is not None]
    before = [{name: value.clone() for name, value in network.state_dict().items()} for network in networks]
    main = Optimisation(task.trainable, schedule.lr, schedule, schedule.optimizer)
    rate = adversary_lr or schedule.lr
    opponent = Optimisation(task.adversary, rate, schedule) if task.adversary is not None else None
    ema = PlainEMA(main.parameters, decay=schedule.ema_decay, foreach=True)
    ema.to(accelerator.device)

    def run_step(number: int) -> None:
        with accelerator.autocast():
            loss, _ = task.loss(batch(number), schedule.steps)
        loss.backward()
        accelerator.clip_grad_norm_(main.parameters, schedule.max_grad_norm or math.inf)
        main.step()
        ema.step(main.parameters)
        for against, _ in task.adversary_loss(schedule.steps):
            against.backward()
        if opponent is not None:
            opponent.step()

    for number in range(WARM_STEPS):
        run_step(number)
    timer = Timer(accelerator.device)
    for number in range(WARM_STEPS, WARM_STEPS + TIMED_STEPS):
        run_step(number)
    seconds = timer.seconds() / TIMED_STEPS
    for network, weights in zip(networks, before, strict=True):
        network.zero_grad(set_to_none=True)
        network.load_state_dict(weights)
    return seconds


def build_stage2(args: argparse.Namespace, row, accelerator: Accelerator) -> FlowMatching:
    """The task of a denoiser, as ``train.stage2`` builds it."""
    model = load_tokenizer(stage2.resolve_tokenizer(args, row))
    make = stage2.class_condition if args.condition == "class" else stage2.text_condition
    condition = make(args, model, row)
    validation, labelled = stage2.load_held_out_photos(args, model, condition, accelerator.print)
    name = stage2.resolve_tokenizer(args, row)
    return FlowMatching(model, condition, row, model.statistics, validation, name, labelled=labelled)


def load_pictures(args: argparse.Namespace, schedule: Schedule, device: torch.device) -> DevicePictures:
    """All pictures of ``--data`` on the device."""
    sources = [load_photos(path, "train") for path in args.data]
    texts = all_captions(sources) if args.condition == "text" else None
    if args.limit:
        starts = [0, *np.cumsum(list(map(len, sources)))]
        texts = texts and [text for start in starts[:-1] for text in texts[start : start + args.limit]]
        sources = [Subset(source, range(min(args.limit, len(source)))) for source in sources]
    pictures, labels, notes = decode_all(sources, STORED_SIDE, args.threads)
    for note in notes:
        print(f"skipped: {note}")
    crop = Crop(None, schedule.crop_scale, schedule.flip)
    loaded = DevicePictures(pictures, labels, list(map(len, sources)), crop, schedule.seed, device, shares_of(args))
    loaded.captions = texts
    return loaded


def load_texts(
    args: argparse.Namespace, condition: TextCondition, captions: Sequence[list[str]], accelerator: Accelerator
) -> DeviceText:
    """The frozen text encoder's tokens of all captions on the device."""
    texts = ["", *(text for each in captions for text in each)]
    encoder, parent = condition.text_encoder.to(accelerator.device), args.out / "latents"
    cached = load_features(condition.tokenizer, encoder, condition.max_tokens, texts, parent, accelerator)
    return DeviceText(cached, accelerator.device)


def main(argv: list[str] | None = None) -> None:
    started = time.monotonic()
    runs = ("encoder", *PHASES, "class", "class-guide", "text")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=PRESETS, required=True, help="preset whose recipe is followed")
    parser.add_argument("--run", choices=runs, required=True, help="part to train")
    parser.add_argument(
        "--minutes", type=amount_of("minutes"), default=8.0, help="time from now to the end of the program (default: 8)"
    )
    parser.add_argument(
        "--batch-size", type=number_of("pictures"), default=512, help="pictures at once (default: %(default)s)"
    )
    parser.add_argument("--steps", type=number_of("steps"), help="at most so many, whatever fits (rehearsals)")
    parser.add_argument(
        "--limit", type=number_of("pictures"), help="at most so many pictures of each source (rehearsals)"
    )
    parser.add_argument(
        "--threads", type=number_of("threads"), default=16, help="threads that decode pictures (default: 16)"
    )
    parser.add_argument(
        "--views", type=number_of("views"), help="views of every picture, for denoisers (default: the preset's)"
    )
    parser.add_argument("--result", type=Path, required=True, help="folder for the leg and the report")
    parser.add_argument("--tokenizer", help="tokenizer of a denoiser (default: the preset's)")
    parser.add_argument("--classes", type=number_of("classes"), help="number of classes, where the data does not say")
    add_data_arguments(parser)
    add_run_arguments(parser)
    parser.set_defaults(stream=False, start=None)
    args = parser.parse_args(argv)
    preset = PRESETS[args.preset]
    row = {"encoder": preset.encoder, **preset.stage1, **preset.stage2}.get(args.run)
    if row is None:
        raise RunError(f"preset '{args.preset}' has no run '{args.run}'.")
    denoiser = args.run in preset.stage2
    args.condition = args.run.removesuffix("-guide") if denoiser else None

    on_gpu = torch.cuda.is_available()
    torch.set_float32_matmul_precision("high" if on_gpu else "highest")
    precision = args.precision or ("bf16" if on_gpu else "no")
    accelerator = Accelerator(mixed_precision=precision, log_with=None)
    device = accelerator.device
    if denoiser:
        task: Task = build_stage2(args, row, accelerator)
    else:
        task = (encoder if args.run == "encoder" else stage1).build_task(args, preset, row)
    task = task.to(device)
    leg = find_leg(args.legs, args.preset, args.run)
    if leg is not None:
        leg.load_into(task)
        print(f"starting from {leg.file}, step {leg.step} of {leg.steps}")
    pictures = load_pictures(args, row.schedule, device)
    print(f"{pictures.count} pictures on {device} after {time.monotonic() - started:.0f} s")

    adversary = getattr(row, "adversary", None)
    base = plan_schedule(row.schedule, args.batch_size, row.schedule.steps)
    if not base.sides:
        base = dataclasses.replace(base, sides=((0, (task.image_size,)),))
    if isinstance(task, FlowMatching):
        latents = encode_views(task.model, pictures, args.views or task.preset.views)
        positions: DevicePictures | DeviceLatents = DeviceLatents(
            latents, pictures.labels, row.schedule.seed, pictures.captions, pictures.sources
        )
        del pictures
        if isinstance(task.condition, TextCondition) and not task.condition.trained:
            task.condition.features = load_texts(args, task.condition, positions.captions or [], accelerator)
        print(f"{latents.shape[0]} views of {latents.shape[1]} latents after {time.monotonic() - started:.0f} s")
    else:
        positions = pictures
    if row.schedule.compile and on_gpu:
        task.compile()

    costs = []  # of each stretch of the schedule: share of the steps, seconds and operations of one
    stretches = [*base.sides, (base.steps, ())]
    for (first, sides), (end, _) in pairwise(stretches):
        several = []
        for side in dict.fromkeys(sides):

            def batch(step: int, size: int = args.batch_size, side: int = side) -> Batch:
                numbers = range(step * size, (step + 1) * size)
                if isinstance(positions, DeviceLatents):
                    return positions.batch(numbers).to(device)
                return positions.batch(numbers, side, step).to(device)

            few = min(args.batch_size, COUNTED)
            flops = count_operations(task, batch(0, few), accelerator, row.schedule.steps) * args.batch_size
            seconds = time_steps(task, batch, accelerator, base, adversary.lr if adversary else None)
            several.append((sides.count(side) / len(sides), seconds, flops))
            print(f"side {side}: {args.batch_size / seconds:.0f} pictures/s, {flops / args.batch_size / 1e9:.1f} GFLOP")
        mean = [sum(share * values[i] for share, *values in several) for i in range(2)]
        costs.append(((end - first) / base.steps, *mean))
    step_seconds = sum(share * seconds for share, seconds, _ in costs)
    left = args.minutes * 60 - (time.monotonic() - started)
    steps = int(left * RESERVE / step_seconds)
    steps = min(steps, args.steps or steps)
    if steps < 10:
        raise RunError(f"--minutes {args.minutes}: {left:.0f} s are left for steps of {step_seconds:.1f} s; give more.")
    schedule = plan_schedule(base, args.batch_size, steps)
    schedule = dataclasses.replace(schedule, lr=base.lr, precision=precision)

    folder = args.out / args.preset / args.run
    if (folder / CHECKPOINT).exists():
        raise RunError(f"{folder} is finished; remove it, or give another --out.")
    if isinstance(task, Reconstruction) and adversary is not None:
        ratio = steps / row.schedule.steps
        starts = {name: int(getattr(adversary, name) * ratio) for name in ("discriminator_start", "generator_start")}
        adversary = dataclasses.replace(adversary, **starts)
        task.preset = dataclasses.replace(task.preset, adversary=adversary)
    trained = dataclasses.replace(row, schedule=schedule)
    if isinstance(trained, Stage2Preset):
        trained = dataclasses.replace(trained, views=args.views or trained.views)
    settings = {"model": preset.model, "row": dataclasses.asdict(trained)}
    given = f" --views {args.views}" if args.views else ""
    with hold(folder):
        record_run(
            args,
            f"train.gpu.leg --preset {args.preset} --run {args.run}{given}",
            folder,
            accelerator,
            settings,
            positions,
        )
        rate, start = (adversary.lr, adversary.discriminator_start) if adversary else (None, 0)
        timer = Timer(device)
        fit(task, positions, schedule, folder, accelerator, rate, start)
    seconds = timer.seconds()

    pictures_seen = steps * args.batch_size
    flops = sum(share * steps * operations for share, _, operations in costs)
    report = {
        "run": f"{args.preset}/{args.run}",
        "started_from": None if leg is None else f"step {leg.step} of {leg.steps}",
        "device": torch.cuda.get_device_name() if on_gpu else "CPU",
        "steps": steps,
        "batch_size": args.batch_size,
        "pictures": pictures_seen,
        "seconds": round(seconds, 1),
        "pictures_per_second": round(pictures_seen / seconds, 1),
        "model_flops_utilisation": round(flops / seconds / PEAK_FLOPS, 4) if on_gpu else None,
        "log": (folder / LOG).read_text(encoding="utf-8").splitlines()[-1],
    }
    args.result.mkdir(parents=True, exist_ok=True)
    write_parts(folder / LEG, args.result / f"{args.preset}-{args.run}.safetensors")
    for file in (LOG, RECORD):
        shutil.copy(folder / file, args.result / f"{args.preset}-{args.run}.{file}")
    written = json.dumps(report, indent=2)
    (args.result / f"{args.preset}-{args.run}.report.json").write_text(written + "\n", encoding="utf-8")
    print(written)


def write_parts(file: Path, target: Path) -> list[Path]:
    """Copy a file, in parts ``.0``, ``.1`` ... where it is too large to carry; ``cat`` joins them."""
    content = file.read_bytes()
    if len(content) <= PART:
        target.write_bytes(content)
        return [target]
    parts = [content[start : start + PART] for start in range(0, len(content), PART)]
    files = [target.with_name(f"{target.name}.{number}") for number in range(len(parts))]
    for part, each in zip(parts, files, strict=True):
        each.write_bytes(part)
    return files


if __name__ == "__main__":
    main_guard(main)
