"""Command-line arguments and data loading that the training scripts share."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator

from drorae.checkpoints import CheckpointError
from drorae.images import ImageError
from train.data import DataError, TrainingPositions, ValidationPhotos, load_photos
from train.presets import Schedule
from train.run import CHECKPOINT, RECORD, RunError

SHARED = Path("../shared/data")


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """``--data``, ``--validation``, ``--weights`` and ``--out``."""
    parser.add_argument(
        "--data",
        nargs="+",
        default=[str(SHARED / "photos20"), str(SHARED / "captions8k")],
        help="folders of train-*.parquet files or of pictures, or 'generated' (default: %(default)s)",
    )
    parser.add_argument(
        "--validation",
        default=str(SHARED / "photos20"),
        help="folder whose validation split is held out (default: %(default)s)",
    )
    parser.add_argument(
        "--weights", type=Path, default=SHARED / "weights", help="folder of pretrained weights (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where runs are kept (default: %(default)s)")


def load_positions(args: argparse.Namespace, size: int, schedule: Schedule) -> TrainingPositions:
    """The training stream of ``--data``."""
    sources = [load_photos(path, "train") for path in args.data]
    return TrainingPositions(sources, size, schedule.crop_scale, schedule.seed)


def load_validation(args: argparse.Namespace, size: int, limit: int | None = None) -> ValidationPhotos:
    """The held-out photos of ``--validation``."""
    return ValidationPhotos(load_photos(args.validation, "validation", "--validation"), size, limit)


def record_run(args: argparse.Namespace, command: str, folder: Path, accelerator: Accelerator) -> None:
    """Write what the run is trained with, for its model card. A finished run keeps its record."""
    if not accelerator.is_main_process or (folder / CHECKPOINT).is_dir():
        return
    device = accelerator.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    file = folder / RECORD
    before = json.loads(file.read_text())["data"] if file.is_file() else {}  # a continued run also saw those
    record = {
        "command": command,
        "data": before | {Path(path).name: len(load_photos(path, "train")) for path in args.data},
        "device": f"{accelerator.num_processes} x {name}" if accelerator.num_processes > 1 else name,
        "torch": torch.__version__,
    }
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record, indent=2) + "\n")


def main_guard(main: Callable[[], None]) -> None:
    """Run ``main``; problems a person can mend end in one sentence and exit code 2."""
    try:
        main()
    except (CheckpointError, DataError, FileNotFoundError, ImageError, RunError) as error:
        sys.exit(_fail(str(error)))


def _fail(message: str) -> int:
    print(message, file=sys.stderr)
    return 2
