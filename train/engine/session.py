"""Command-line arguments, data loading and the record of a run, which the training scripts share."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import datasets
import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from torch import nn

from drorae.checkpoints import CheckpointError
from drorae.choices import DECODERS, GUIDANCE
from drorae.console import fail, run_command
from drorae.errors import count_of
from drorae.images import ImageError
from drorae.pipelines.base import MAX_SCALE, MAX_SEED, SamplingError
from train.data.captions import all_captions, captions_of
from train.data.crops import Crop
from train.data.held_out import ValidationPhotos, load_held_out
from train.data.latent_cache import LatentPositions
from train.data.positions import TrainingPositions
from train.data.sources import load_photos
from train.data.stream import TrainingStream
from train.engine.legs import find_leg
from train.engine.random_state import unchanged_random_state
from train.engine.run import fit
from train.engine.run_folder import RECORD, hold, is_finished
from train.engine.task import PeriodicMeasure, Task, TrainingData
from train.errors import DataError, RunError, writing
from train.settings import EncoderPreset, Schedule, Stage1Preset, Stage2Preset

SHARED = Path("../shared/data")
PHOTOS = str(SHARED / "photos20")
ICONS = [str(SHARED / "emoji" / f"{style}.parquet") for style in ("fluent3d", "noto")]
DATA, DATA_SHARES = [PHOTOS, *ICONS], (12, 1, 1)  # one picture in seven is an icon
VALIDATION_PHOTOS = 128  # while a tokenizer trains; enough to see a tenth of a dB, since they are always the same
TRACKERS = ("tensorboard", "wandb")
PATIENCE = timedelta(hours=12)
AnyPreset = TypeVar("AnyPreset", EncoderPreset, Stage1Preset, Stage2Preset)
AnyTask = TypeVar("AnyTask", bound=Task)


def number_of(what: str, least: int = 1) -> Callable[[str], int]:
    """A reader of how many of something, ``least`` or more, from the command line; argparse names the option."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or int(text) < least:
            raise argparse.ArgumentTypeError(f"'{text}' is not a number of {what}; give a whole number from {least} on")
        return int(text)

    return read


def read_seed(text: str) -> int:
    """A seed from the command line."""
    if not (text.isascii() and text.isdecimal()) or int(text) > MAX_SEED:
        raise argparse.ArgumentTypeError(f"'{text}' is not a seed; give a whole number from 0 to {MAX_SEED}")
    return int(text)


def amount_of(what: str, least: float = 0.0, most: float = math.inf, exclusive: bool = False) -> Callable[[str], float]:
    """A reader of a number from ``least`` to ``most`` from the command line; argparse names the option.

    Args:
        exclusive: ``least`` itself is not enough.
    """

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        fits = (least < number if exclusive else least <= number) and number <= most  # not where it is not a number
        if not fits or math.isinf(number):
            upper = "" if math.isinf(most) else f" to {most:g}"
            wanted = f"above {least:g}{upper}" if exclusive else f"from {least:g}{upper or ' on'}"
            raise argparse.ArgumentTypeError(f"'{text}' is not {what}; give a number {wanted}")
        return number

    return read


read_scale = amount_of("a scale of guidance", most=MAX_SCALE)


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """``--data``, ``--shares``, ``--validation``, ``--stream``, ``--weights`` and ``--out``."""
    parser.add_argument(
        "--data",
        nargs="+",
        default=DATA,
        help="folders of train-*.parquet, of train-*.tar shards or of pictures (train/class/picture.jpg), parquet "
        "files, or names of data sets on the hub, or 'generated' (default: %(default)s)",
    )
    parser.add_argument(
        "--shares",
        nargs="+",
        type=number_of("turns"),
        help="how often each of --data is drawn, in whole numbers (default: by their sizes; "
        f"{' '.join(map(str, DATA_SHARES))} for the default data)",
    )
    parser.add_argument(
        "--validation",
        default=PHOTOS,
        help="data whose validation split is held out, in the same forms",
    )
    parser.add_argument("--stream", action="store_true", help="read the training data while training, without a copy")
    parser.add_argument(
        "--weights", type=Path, default=SHARED / "weights", help="folder of pretrained weights (default: %(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs"), help="folder where runs are kept (default: %(default)s)"
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """``--accumulation``, ``--workers``, ``--precision``, ``--log``, ``--legs`` ...: how a preset runs here."""
    parser.add_argument(
        "--accumulation", type=number_of("micro-batches"), help="micro-batches per step, where a batch is too large"
    )
    parser.add_argument("--workers", type=number_of("processes", least=0), help="processes that read pictures")
    parser.add_argument(
        "--precision", choices=("no", "bf16"), help="instead of the preset's, for what is trained; 'no' is fp32"
    )
    parser.add_argument(
        "--gradient-checkpointing",
        action="store_true",
        default=None,
        help="compute blocks again in the backward pass: about a third slower, far less memory, the same result",
    )
    parser.add_argument(
        "--log",
        nargs="*",
        choices=TRACKERS,
        default=["tensorboard"],
        help="where the curves are logged (default: tensorboard)",
    )
    parser.add_argument(
        "--legs",
        type=Path,
        help="folder of {preset}-{run}.safetensors, copies of the leg.safetensors that runs on other machines left: "
        "what has no run in --out is taken from there",
    )


def add_dry_run_arguments(parser: argparse.ArgumentParser) -> None:
    """``--dry-run`` and ``--processes``."""
    parser.add_argument("--dry-run", action="store_true", help="print configuration, sizes and cost, and do nothing")
    parser.add_argument(
        "--processes", type=number_of("processes"), default=8, help="GPUs that --dry-run counts with (default: 8)"
    )


def add_sampler_arguments(parser: argparse.ArgumentParser, guidance: str, scale: float, batch_size: int) -> None:
    """``--steps``, ``--guidance``, ``--scale``, ``--decoder``, ``--seed`` and ``--batch-size``, with these defaults."""
    parser.add_argument(
        "--steps", type=number_of("steps"), default=50, help="steps of the sampler (default: %(default)s)"
    )
    parser.add_argument(
        "--guidance", choices=GUIDANCE, default=guidance, help="kind of guidance (default: %(default)s)"
    )
    parser.add_argument(
        "--scale", type=read_scale, default=scale, help="strength of the guidance; 1 means none (default: %(default)s)"
    )
    parser.add_argument(
        "--decoder", choices=DECODERS, help="decoder that paints (default: finetuned, where there is one)"
    )
    parser.add_argument("--seed", type=read_seed, default=0, help="seed of the first picture")
    parser.add_argument(
        "--batch-size", type=number_of("pictures"), default=batch_size, help="pictures at once (default: %(default)s)"
    )


def with_arguments(row: AnyPreset, args: argparse.Namespace) -> AnyPreset:
    """The preset row with the command line's changes to its schedule."""
    names = ("accumulation", "workers", "precision", "gradient_checkpointing")
    changes = {name: getattr(args, name) for name in names if getattr(args, name, None) is not None}
    return dataclasses.replace(row, schedule=dataclasses.replace(row.schedule, **changes))


def load_positions(
    args: argparse.Namespace, size: int, schedule: Schedule, centre: bool = False, captions: bool = False
) -> TrainingPositions | TrainingStream:
    """The training data of ``--data``, in random crops or as central squares, with captions where they are wanted."""
    crop = Crop(schedule.crop_resize, schedule.crop_scale, schedule.flip, centre)
    sides = size if centre or not schedule.sides else lambda position: schedule.side(position // schedule.batch_size)
    sources = [load_photos(path, "train", streaming=args.stream) for path in args.data]
    streamed = [isinstance(source, datasets.IterableDataset) for source in sources]
    if not any(streamed):
        texts = all_captions(sources) if captions else None
        return TrainingPositions(sources, sides, crop, schedule.seed, texts, shares_of(args))
    if len(sources) > 1:
        raise DataError(f"--data: one streamed source at a time, not {len(sources)}; give one, or copies on this disk")
    return TrainingStream(sources[0], sides, crop, schedule.seed, captions_of(sources[0]) if captions else None)


def shares_of(args: argparse.Namespace) -> tuple[int, ...] | None:
    """How often each of ``--data`` is drawn; ``None``: by their sizes."""
    if args.shares is not None:
        return tuple(args.shares)
    return DATA_SHARES if args.data == DATA else None


def load_validation(
    args: argparse.Namespace, size: int, limit: int | None = None, crop: str = "square"
) -> ValidationPhotos:
    """The held-out photos of ``--validation``, cut by ``crop``, see :class:`ValidationPhotos`."""
    return load_held_out(args.validation, "validation", size, limit, crop, "--validation")


def train(
    args: argparse.Namespace,
    command: str,
    name: str,
    model: dict[str, Any],
    row: EncoderPreset | Stage1Preset | Stage2Preset,
    build: Callable[[Accelerator], AnyTask],
    load: Callable[[AnyTask, Accelerator], TrainingPositions | TrainingStream | LatentPositions] | None = None,
    observe: Callable[[AnyTask, Accelerator], PeriodicMeasure | None] | None = None,
) -> None:
    """Build the task of a preset row and train it in ``--out``/``--preset``/``name``.

    Args:
        load: gives the training data, where it is not the photos of ``--data`` in random crops.
        observe: gives what is measured now and then; it may fail before anything has been trained.

    Raises:
        RunError: a tracker that is not installed, a folder that another training uses, and what
            :func:`check_precision`, :func:`record_run` and ``fit`` raise.
    """
    check_precision(args, row.schedule)
    folder = args.out / args.preset / name
    if is_finished(folder):
        print(f"{folder}: finished before; remove the folder to train again.")
        return
    for tracker in args.log or ():
        if find_spec(tracker) is None:
            raise RunError(f"--log {tracker}: the package is not installed; pip install {tracker}")
    accelerator = Accelerator(
        mixed_precision=row.schedule.precision,
        log_with=args.log or None,
        project_dir=str(folder / "log"),
        # the other processes wait while the main one measures, longer than the ten minutes they would give it
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)] if observe else None,
    )
    with hold(folder) if accelerator.is_main_process else nullcontext():
        task = build(accelerator).to(accelerator.device)
        with unchanged_random_state():
            periodic = observe(task, accelerator) if observe else None
        positions = load(task, accelerator) if load else load_positions(args, task.image_size, row.schedule)
        settings = {"model": model, "row": dataclasses.asdict(row), "frozen": fingerprint(task)}
        record_run(args, command, folder, accelerator, settings, positions)
        if args.log:
            accelerator.init_trackers("drorae")
        adversary = getattr(row, "adversary", None)
        lr, start = (adversary.lr, adversary.discriminator_start) if adversary else (None, 0)
        leg = find_leg(args.legs, args.preset, name)
        fit(task, positions, row.schedule, folder, accelerator, lr, start, leg, periodic)
        for tracker in accelerator.trackers:
            tracker.finish()


def check_precision(args: argparse.Namespace, schedule: Schedule) -> None:
    """Refuse a preset's bf16 where it would be emulated, unless the command line asks for it.

    Raises:
        RunError: says what to give instead.
    """
    chosen = getattr(args, "precision", None) is not None
    # AVX2 is what x86 without AVX-512 reports: no bf16 there, and torch emulates it some fifty times slower than fp32
    emulated = not torch.accelerator.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX2"
    if schedule.precision == "bf16" and emulated and not chosen:
        raise RunError(
            "this CPU has no bf16 arithmetic, and emulating it is many times slower than fp32; give --precision no "
            "(or --precision bf16 to emulate it)."
        )


def fingerprint(task: nn.Module) -> str:
    """A hash of everything a task holds fixed: a run goes on only upon the frozen parts it began with."""
    digest = hashlib.sha256()
    trained = {id(p) for p in task.trainable.parameters()}
    trained |= {id(p) for p in task.adversary.parameters()} if task.adversary is not None else set()
    for name, parameter in task.named_parameters():
        if id(parameter) not in trained:
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def record_run(
    args: argparse.Namespace,
    command: str,
    folder: Path,
    accelerator: Accelerator,
    settings: dict[str, Any],
    positions: TrainingData,
) -> None:
    """Write what the run is trained with, for its model card and for continuing it.

    Raises:
        RunError: the run in this folder was started with another preset, other data, other frozen weights or another
            number of processes; or its record cannot be read.
    """
    file = folder / RECORD
    processes = accelerator.num_processes
    streamed = isinstance(positions, TrainingStream)
    data = [
        [Path(path).name, "streamed" if streamed else len(source)]
        for path, source in zip(args.data, positions.sources, strict=True)
    ]
    shares = getattr(positions, "shares", None)
    fixed = json.loads(json.dumps({"settings": settings, "data": data, "shares": shares, "processes": processes}))
    devices: list[str] = []
    if file.is_file():
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
            devices = before["devices"]
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"'{file}' cannot be read; remove {folder} to start this run again.") from error
        differences = _differences({name: before.get(name) for name in fixed}, fixed, "")
        if differences:
            raise RunError(
                f"{folder} was started with other settings ({differences[0]}); remove the folder to start again, or go "
                "back to them to continue."
            )
    accelerator.wait_for_everyone()  # all have compared before one writes
    if not accelerator.is_main_process:
        return
    device = accelerator.device
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {count_of(torch.get_num_threads(), 'thread')}"
    )
    device_name = f"{processes} x {name}" if processes > 1 else name
    precision = f" --precision {args.precision}" if getattr(args, "precision", None) else ""
    record = {
        "command": f"{'python' if processes == 1 else 'accelerate launch'} -m {command}{precision}",
        "devices": list(dict.fromkeys([*devices, device_name])),  # of all sittings
        "torch": torch.__version__,
        **fixed,
    }
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        fresh = file.with_suffix(".new")  # so that a kill leaves the old or the new record, never half of one
        fresh.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        fresh.replace(file)


# What may differ between sittings: it changes neither the data nor the result.
MACHINE_ONLY = tuple(
    f".settings.row.{name}"
    for name in (
        "schedule.workers",
        "schedule.save_every",
        "schedule.gradient_checkpointing",
        "measured",
        "expected",
    )
)


def _differences(before: Any, now: Any, where: str) -> list[str]:
    """Leaves that differ, as ``name was a and is b``."""
    if where in MACHINE_ONLY:
        return []
    if isinstance(before, dict) and isinstance(now, dict):
        keys = dict.fromkeys([*before, *now])
        return [text for key in keys for text in _differences(before.get(key), now.get(key), f"{where}.{key}")]
    return [] if before == now else [f"{where.lstrip('.')} was {before} and is {now}"]


def main_guard(main: Callable[[], None]) -> None:
    """Run ``main``; problems a person can fix end in one sentence and exit code 2."""
    code = run_command(lambda: _code_of(main))
    if code:
        sys.exit(code)


def _code_of(main: Callable[[], None]) -> int:
    try:
        main()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        return 0
    except BrokenPipeError:  # the output's
        raise
    except OSError as error:
        return fail(_sentence(error))
    except (CheckpointError, DataError, ImageError, RunError, SamplingError) as error:
        return fail(str(error))


def _sentence(error: OSError) -> str:
    """What the system says of a file, in a sentence; an error of ours is one."""
    if error.errno is None or error.filename is None:
        return str(error)
    return f"'{error.filename}' cannot be used ({error.strerror}); check the path, or choose another."
