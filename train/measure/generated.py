"""Measure generated pictures against real ones: ``python -m train.evaluate --generated FOLDER...``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from drorae.images import load_image, to_tensor
from train.data.held_out import ValidationPhotos, load_held_out
from train.data.picture_files import RECORD
from train.data.prefetching import prefetch
from train.data.sources import class_names, load_photos
from train.engine.session import SHARED
from train.errors import DataError
from train.measure.frechet import FrechetDistance, check_count
from train.measure.mobilenet import MobileNetV2

DATA = SHARED / "photos20"
NAMES = "imagenet_labels_1001.txt"
INCEPTION_METRICS = {
    "frechet_inception_distance": "gFID",
    "inception_score_mean": "IS",
    "precision": "precision",
    "recall": "recall",
}


@dataclass
class GeneratedSet:
    """Pictures of one folder or npz file, as :mod:`train.generate` writes them.

    Attributes:
        pictures: PNG files, or an array (n, H, W, 3) uint8.
        labels: class number of every picture; ``None`` where that is not known.
        names: of the classes, by number.
    """

    name: str
    pictures: list[Path] | np.ndarray
    labels: list[int] | None
    names: list[str] | None
    settings: dict = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.pictures)

    def batches(self, batch_size: int) -> Iterator[Tensor]:
        """Images (B, 3, H, W) in [0, 1]."""

        def read(index: int) -> Tensor:
            picture = self.pictures[index]
            return to_tensor(load_image(picture) if isinstance(picture, Path) else Image.fromarray(picture))

        waiting: list[Tensor] = []
        for image in prefetch(read, range(len(self)), threads=2):
            waiting.append(image)
            if len(waiting) == batch_size:
                yield torch.stack(waiting)
                waiting = []
        if waiting:
            yield torch.stack(waiting)


def load_generated(path: str) -> GeneratedSet:
    """A folder of PNG files or an npz file in ADM's layout.

    Raises:
        DataError: there is nothing of the kind.
    """
    place = Path(path)
    record = place / RECORD if place.is_dir() else place.with_name(RECORD)
    settings = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    if place.suffix == ".npz" and place.is_file():
        try:
            arrays = np.load(place, allow_pickle=False)
            pictures = arrays["arr_0"]
            labels = arrays["arr_1"].tolist() if "arr_1" in arrays.files else None
        except (KeyError, ValueError, OSError, BadZipFile) as error:
            raise DataError(f"--generated {path}: it holds no pictures in ADM's layout ({error}).") from error
        return GeneratedSet(path, pictures, labels, settings.get("names"), settings)
    files = sorted(file for file in place.glob("*.png") if file.stem.isdecimal())
    if not files:
        raise DataError(
            f"--generated {path}: there are no PNG files and it is not an npz file; run train.generate first."
        )
    classes = settings.get("classes")
    labels = [classes[int(file.stem) % len(classes)] for file in files] if classes else None
    return GeneratedSet(path, files, labels, settings.get("names"), settings)


def evaluator_classes(names: list[str], weights: Path) -> list[int] | None:
    """Numbers of the MobileNetV2 outputs that mean these classes; ``None`` where a name is not ImageNet's."""
    lines = (weights / NAMES).read_text(encoding="utf-8").splitlines()
    # a class may be called by another's synonym, so whole lines come before first words, and those before all others
    known: dict[str, int] = {}
    for called in (lambda line: [line], lambda line: line.split(",")[:1], lambda line: line.split(",")):
        for number, line in enumerate(lines):
            for text in called(line):
                known.setdefault(text.strip().lower(), number)
    numbers = [known.get(name.strip().lower(), known.get(name.split(",")[0].strip().lower())) for name in names]
    found = [number for number in numbers if number is not None]
    return found if len(found) == len(names) else None


class Agreement:
    """How often the evaluator sees the asked class: first of its 1,000 classes, and first among the asked ones."""

    def __init__(self, outputs: list[int]):
        self.outputs = torch.tensor(outputs)
        self.hits = {"all": 0, "asked": 0}
        self.count = 0

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add logits (B, 1001) of pictures of classes ``labels`` (B,)."""
        logits = logits.cpu()
        self.count += len(labels)
        self.hits["all"] += int((logits[:, 1:].argmax(1) + 1 == self.outputs[labels]).sum())
        self.hits["asked"] += int((logits[:, self.outputs].argmax(1) == labels).sum())

    def shares(self) -> dict[str, float]:
        """Both in [0, 1]."""
        return {name: hits / self.count for name, hits in self.hits.items()}


@torch.inference_mode()
def measure_generated(
    paths: list[str],
    data: str,
    split: str,
    limit: int | None = None,
    *,
    weights: Path,
    inception: bool = False,
    device: str = "cpu",
    batch_size: int = 32,
) -> dict:
    """FD-MobileNetV2 and class agreement of every set, against the same real photos.

    Args:
        limit: number of real photos, evenly spread over ``split`` of ``data``.
        inception: also gFID, IS, precision and recall.

    Raises:
        DataError: too few pictures for the distance, or sets of different sizes.
    """
    sets = [load_generated(path) for path in paths]
    evaluator = MobileNetV2(weights).to(device)
    for each in sets:
        check_count(len(each), evaluator.num_features)
    sizes = {next(each.batches(1)).shape[-1] for each in sets}
    if len(sizes) > 1:
        raise DataError(f"--generated: the sets have pictures of {sorted(sizes)} pixels; measure them one by one.")
    (size,) = sizes
    photos = load_held_out(data, split, size, limit)
    check_count(len(photos), evaluator.num_features)
    names = class_names([load_photos(data, split)])
    real = RealPhotos(photos, evaluator, evaluator_classes(names, weights), device, batch_size)
    rows: dict[str, dict] = {"real photos": {"pictures": len(photos) - len(photos.damaged), **real.agreement}}
    for each in sets:
        distance = FrechetDistance(evaluator.num_features)
        distance.add(real.features, real=True)
        outputs = evaluator_classes(each.names, weights) if each.names else None
        agreement = Agreement(outputs) if outputs and each.labels else None
        labels = torch.tensor(each.labels if agreement else [])
        bar, seen = tqdm(total=len(each), desc=each.name), 0
        for images in each.batches(batch_size):
            features, logits = evaluator(images.to(device))
            distance.add(features, real=False)
            if agreement:
                agreement.update(logits, labels[seen : seen + len(images)])
            seen += len(images)
            bar.update(len(images))
        bar.close()
        row: dict[str, float] = {"pictures": len(each), "fd-mobilenetv2": distance.compute()}
        if inception:
            row |= inception_metrics(each, photos, device)
        rows[each.name] = row | (agreement.shares() if agreement else {}) | {"settings": each.settings}
    options: dict[str, object] = {
        "--data": data if data != str(DATA) else None,
        "--split": split if split != "train" else None,
    }
    options |= {"--limit": limit, "--inception": "" if inception else None}
    given = "".join(f" {option} {value}".rstrip() for option, value in options.items() if value is not None)
    return {
        "command": f"python -m train.evaluate --generated {' '.join(paths)}{given}",
        "reference": f"{Path(data).name} {split}, {len(photos)} photos, central square to {size} px",
        "sets": rows,
    }


class RealPhotos:
    """Features (n, 1280) of the reference and how often the evaluator sees its classes, computed once for all sets."""

    def __init__(
        self,
        photos: ValidationPhotos,
        evaluator: MobileNetV2,
        outputs: list[int] | None,
        device: str,
        batch_size: int,
    ):
        features: list[Tensor] = []
        logits: list[Tensor] = []
        bar = tqdm(total=len(photos), desc="real photos")
        for images in photos.batches(batch_size):
            for collected, value in zip((features, logits), evaluator(images.to(device)), strict=True):
                collected.append(value.cpu())
            bar.update(len(images))
        bar.close()
        self.features = torch.cat(features)
        labels = photos.labels()
        self.agreement: dict[str, float] = {}
        if outputs is not None and labels is not None:
            agreement = Agreement(outputs)
            agreement.update(torch.cat(logits), labels)
            self.agreement = agreement.shares()


class EightBit(Dataset):
    """Batches of images in [0, 1] as torch-fidelity reads pictures: (3, H, W) uint8, all in memory."""

    def __init__(self, batches: Iterator[Tensor]):
        self.images = [image for images in batches for image in (images * 255).round().to(torch.uint8)]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def inception_metrics(generated: GeneratedSet, photos: ValidationPhotos, device: str) -> dict[str, float]:
    """gFID, IS, precision and recall through torch-fidelity.

    Raises:
        DataError: the package is not installed, or its Inception weights could not be fetched.
    """
    try:
        from torch_fidelity import calculate_metrics
    except ModuleNotFoundError as error:
        raise DataError("--inception needs the package torch-fidelity: pip install torch-fidelity") from error
    sets = {"input1": EightBit(generated.batches(64)), "input2": EightBit(photos.batches(64))}
    try:
        values = calculate_metrics(**sets, isc=True, fid=True, prc=True, cuda=device.startswith("cuda"), verbose=False)
    except OSError as error:
        raise DataError(f"--inception needs the Inception weights, which could not be fetched ({error}).") from error
    return {INCEPTION_METRICS[name]: float(value) for name, value in values.items() if name in INCEPTION_METRICS}


def table(report: dict) -> str:
    """The report as Markdown, one row per set."""
    columns = {"pictures": "pictures", "fd-mobilenetv2": "FD-MobileNetV2", "all": "agreement of 1,000"}
    columns |= {"asked": "agreement of its classes"}
    columns |= {name: name for row in report["sets"].values() for name in row if name in INCEPTION_METRICS.values()}
    lines = [f"| set | {' | '.join(columns.values())} |", "|---|" + "---:|" * len(columns)]
    for name, row in report["sets"].items():
        cells = []
        for key in columns:
            value = row.get(key)
            if value is None:
                cells.append("")
            elif key == "pictures":
                cells.append(f"{value:,}")
            else:
                cells.append(f"{100 * value:.1f} %" if key in ("all", "asked") else f"{value:.2f}")
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    lines += ["", f"Reference: {report['reference']}."]
    lines.append(
        "Agreement: MobileNetV2's first class is the asked one, of all 1,000 or of the generator's classes alone."
    )
    return "\n".join(lines)
