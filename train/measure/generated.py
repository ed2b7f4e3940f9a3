"""Measure generated pictures against real ones: ``python -m train.evaluate --generated FOLDER...``.

Two networks that nothing here is trained with judge alike: how often they see the asked class, the Frechet distance of
their features to those of held-out photos, precision and recall, and how near the nearest training photo is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from drorae.images import load_image, to_tensor
from train.data.held_out import ValidationPhotos, load_held_out
from train.data.picture_files import RECORD, read_record
from train.data.prefetching import prefetch
from train.data.sources import class_names, load_photos
from train.engine.session import SHARED
from train.errors import DataError
from train.measure.efficientnet import WEIGHTS as EFFICIENTNET
from train.measure.efficientnet import EfficientNetLite2
from train.measure.frechet import FrechetDistance, check_count
from train.measure.manifold import NEIGHBOURS, nearest_distances, precision_recall
from train.measure.mobilenet import WEIGHTS as MOBILENET
from train.measure.mobilenet import MobileNetV2
from train.measure.reference_statistics import check_pictures

DATA = SHARED / "photos20"
NAMES = "imagenet_labels_1001.txt"
INCEPTION_METRICS = {
    "frechet_inception_distance": "gFID",
    "inception_score_mean": "IS",
    "precision": "precision",
    "recall": "recall",
}
REAL = "real photos"
QUANTILES = (0.01, 0.1, 0.5)  # of the distances to the nearest training photo


@dataclass
class GeneratedSet:
    """Pictures of one folder or npz file, as :mod:`train.generate` writes them.

    Attributes:
        pictures: PNG files, or an array (n, H, W, 3) uint8.
        labels: class number of every picture; ``None`` where that is not known.
        names: names of the classes, by number.
    """

    name: str
    pictures: list[Path] | np.ndarray
    labels: list[int] | None
    names: list[str] | None
    settings: dict = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.pictures)

    def batches(self, batch_size: int) -> Iterator[Tensor]:
        """Images (B, 3, H, W) in [0, 1].

        Raises:
            ImageError: a picture cannot be read.
            DataError: pictures of several sizes.
        """

        def read(index: int) -> Tensor:
            picture = self.pictures[index]
            return to_tensor(load_image(picture) if isinstance(picture, Path) else Image.fromarray(picture))

        waiting: list[Tensor] = []
        shape = None
        for image in prefetch(read, range(len(self)), threads=2):
            shape = shape or image.shape
            if image.shape != shape:
                sizes = " and ".join(f"{width} x {height}" for _, height, width in (shape, image.shape))
                raise DataError(f"--generated {self.name}: its pictures have several sizes, {sizes}; give one size.")
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
    settings = read_record(place if place.is_dir() else place.parent) or {}
    classes, names = settings.get("classes"), settings.get("names")
    if not (_is_list(classes, int) and _is_list(names, str)):
        raise DataError(f"--generated {path}: its {RECORD} is not one that train.generate writes; make it again.")
    if place.suffix == ".npz" and place.is_file():
        try:
            arrays = np.load(place, allow_pickle=False)
            pictures = arrays["arr_0"]
            labels = arrays["arr_1"] if "arr_1" in arrays.files else None
        except (KeyError, ValueError, OSError, BadZipFile) as error:
            raise DataError(f"--generated {path}: it holds no pictures in ADM's layout ({error}).") from error
        check_pictures(pictures, f"--generated {path}")
        if labels is not None and (labels.shape != pictures.shape[:1] or not np.issubdtype(labels.dtype, np.integer)):
            raise DataError(
                f"--generated {path}: 'arr_1' is {list(labels.shape)} of {labels.dtype}, and not one class number for "
                f"each of {len(pictures)} pictures."
            )
        return GeneratedSet(path, pictures, None if labels is None else labels.tolist(), names, settings)
    files = sorted(file for file in place.glob("*.png") if file.stem.isdecimal())
    if not files:
        raise DataError(
            f"--generated {path}: there are no PNG files and it is not an npz file; run train.generate first."
        )
    labels = [classes[int(file.stem) % len(classes)] for file in files] if classes else None
    return GeneratedSet(path, files, labels, names, settings)


def _is_list(value: Any, kind: type) -> bool:
    """Whether a setting is a list of a kind, or is not given."""
    return value is None or (isinstance(value, list) and all(type(each) is kind for each in value))


def class_numbers(names: list[str], weights: Path) -> list[int] | None:
    """Numbers of these classes among ImageNet's 1,000, which both judges know; ``None`` where a name is not there."""
    lines = (weights / NAMES).read_text(encoding="utf-8").splitlines()[1:]  # the first is "background"
    # a class may be called by another's synonym, so whole lines come before first words, and those before all others
    known: dict[str, int] = {}
    for called in (lambda line: [line], lambda line: line.split(",")[:1], lambda line: line.split(",")):
        for number, line in enumerate(lines):
            for text in called(line):
                known.setdefault(text.strip().lower(), number)
    numbers = [known.get(name.strip().lower(), known.get(name.split(",")[0].strip().lower())) for name in names]
    found = [number for number in numbers if number is not None]
    return found if len(found) == len(names) else None


class Judge(NamedTuple):
    """A network that looks at pictures.

    Attributes:
        title: its name for people.
        network: images (B, 3, H, W) in [0, 1] to features (B, D) and class logits.
        classes: number of the logit of ImageNet's first class; what comes before it is not a class.
    """

    title: str
    network: nn.Module
    classes: int


class Sight(NamedTuple):
    """What a judge sees of a set: features (n, D) and the logits of ImageNet's 1,000 classes (n, 1000)."""

    features: Tensor
    logits: Tensor


def load_judges(weights: Path, device: str) -> tuple[dict[str, Judge], dict[str, str]]:
    """The judges by name, and why others are left out.

    Raises:
        FileNotFoundError: the weights of neither are there.
    """
    known: dict[str, tuple[str, Callable[[Path], nn.Module], str, int]] = {
        "mobilenetv2": ("MobileNetV2", MobileNetV2, MOBILENET, 1),
        "efficientnet-lite2": ("EfficientNet-Lite2", EfficientNetLite2, EFFICIENTNET, 0),
    }
    judges, left_out = {}, {}
    for name, (title, build, file, classes) in known.items():
        if (weights / file).is_file():
            judges[name] = Judge(title, build(weights).to(device), classes)
        else:
            left_out[title] = f"'{weights / file}' is not there"
    if not judges:
        raise FileNotFoundError(f"no judge: {'; '.join(left_out.values())}; pass --weights FOLDER")
    return judges, left_out


@torch.inference_mode()
def look(batches: Iterable[Tensor], count: int, name: str, judges: dict[str, Judge], device: str) -> dict[str, Sight]:
    """What every judge sees of ``count`` pictures in batches (B, 3, H, W) in [0, 1]."""
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {judge: [] for judge in judges}
    with tqdm(total=count, desc=name) as bar:
        for images in batches:
            for judge, (_, network, first) in judges.items():
                features, logits = network(images.to(device))
                seen[judge].append((features.cpu(), logits[:, first:].cpu()))
            bar.update(len(images))
    return {judge: Sight(*map(torch.cat, zip(*parts, strict=True))) for judge, parts in seen.items()}


def agreement(logits: Tensor, labels: Tensor, numbers: list[int]) -> dict[str, float]:
    """How often the first class is the asked one: of ``all`` 1,000, and of the ``asked`` ones alone, in [0, 1].

    Args:
        logits: (n, 1000).
        labels: asked classes, (n,).
        numbers: numbers of the classes among ImageNet's.
    """
    outputs = torch.tensor(numbers)
    return {
        "all": float((logits.argmax(1) == outputs[labels]).double().mean()),
        "asked": float((logits[:, outputs].argmax(1) == labels).double().mean()),
    }


def compare(features: Tensor, real: Tensor) -> dict[str, float]:
    """Frechet distance of two sets of features, (n, D) and (m, D), and precision and recall of as many of each."""
    distance = FrechetDistance(features.shape[1])
    distance.add(real, real=True)
    distance.add(features, real=False)
    count = min(len(features), len(real))
    chosen = np.linspace(0, len(real) - 1, count).round().astype(int)
    both = precision_recall(real[chosen], features[:count])
    return {"frechet": distance.compute(), "precision": both.precision, "recall": both.recall}


def nearness(distances: Tensor, usual: Tensor) -> dict[str, float]:
    """Quantiles of distances to the nearest training photo, (n,), and the share of those that are ``nearer`` than the
    lowest of these quantiles of what is ``usual`` for held-out photos, (m,)."""
    found = {f"{q:g}": float(distances.quantile(q)) for q in QUANTILES}
    return found | {"nearer": float((distances < usual.quantile(QUANTILES[0])).double().mean())}


def measure_generated(
    paths: list[str],
    data: str,
    split: str,
    limit: int | None = None,
    *,
    weights: Path,
    copies: bool = False,
    inception: bool = False,
    device: str = "cpu",
    batch_size: int = 32,
) -> dict:
    """Every set against the same real photos, by every judge.

    Args:
        limit: number of real photos, evenly spread over ``split`` of ``data``.
        copies: also the distances to the nearest photo of the training split, of all sets and of the real photos.
        inception: also gFID, IS, precision and recall.

    Raises:
        DataError: too few pictures for the distance, sets of different sizes, or ``copies`` of the training split.
        FileNotFoundError: no judge has its weights.
    """
    if copies and split == "train":
        raise DataError("--copies compares with photos that were not trained on; give another --split than 'train'.")
    sets = [load_generated(path) for path in paths]
    judges, left_out = load_judges(weights, device)
    widest = max(judge.network.num_features for judge in judges.values())
    for each in sets:
        check_count(len(each), widest)
    sizes = {next(each.batches(1)).shape[-1] for each in sets}
    if len(sizes) > 1:
        raise DataError(f"--generated: the sets have pictures of {sorted(sizes)} pixels; measure them one by one.")
    (size,) = sizes
    photos = load_held_out(data, split, size, limit)
    check_count(len(photos), widest)
    real = look(photos.batches(batch_size), len(photos), REAL, judges, device)
    labels, names = photos.labels(), class_names([load_photos(data, split)])
    numbers = class_numbers(names, weights)
    seen = {each.name: look(each.batches(batch_size), len(each), each.name, judges, device) for each in sets}
    rows: dict[str, dict[str, Any]] = {REAL: {"pictures": len(photos) - len(photos.damaged)}}
    for judge in judges:
        rows[REAL][judge] = {}
        if numbers is not None and labels is not None:
            rows[REAL][judge] = agreement(real[judge].logits, labels, numbers)
    for each in sets:
        numbers = class_numbers(each.names, weights) if each.names else None
        rows[each.name] = {"pictures": len(each), "settings": each.settings}
        for judge, (features, logits) in seen[each.name].items():
            row = compare(features, real[judge].features)
            if numbers and each.labels:
                row |= agreement(logits, torch.tensor(each.labels), numbers)
            rows[each.name][judge] = row
        if inception:
            rows[each.name]["inception"] = inception_metrics(each, photos, device)
    trained = 0
    if copies:
        training = load_held_out(data, "train", size)
        known_photos = look(training.batches(batch_size), len(training), "training photos", judges, device)
        trained = len(training) - len(training.damaged)
        for judge, (of, _) in known_photos.items():
            usual = nearest_distances(real[judge].features, of)
            rows[REAL][judge]["nearest"] = nearness(usual, usual)
            for name, sights in seen.items():
                rows[name][judge]["nearest"] = nearness(nearest_distances(sights[judge].features, of), usual)
    options: dict[str, object] = {
        "--data": data if data != str(DATA) else None,
        "--split": split if split != "validation" else None,
        "--limit": limit,
        "--copies": "" if copies else None,
        "--inception": "" if inception else None,
    }
    given = "".join(f" {option} {value}".rstrip() for option, value in options.items() if value is not None)
    return {
        "command": f"python -m train.evaluate --generated {' '.join(paths)}{given}",
        "reference": f"{Path(data).name} {split}, {len(photos)} photos, central square to {size} px",
        "training_photos": trained,
        "judges": {name: judge.title for name, judge in judges.items()},
        "left_out": left_out,
        "sets": rows,
    }


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
    """The report as Markdown, one row per judge and set."""
    judges, sets = report["judges"], report["sets"]
    columns = {"frechet": "Frechet distance", "all": "agreement of 1,000", "asked": "of the asked classes"}
    columns |= {"precision": "precision", "recall": "recall"}
    found = {key for row in sets.values() for judge in judges for key in row[judge]}
    columns = {key: head for key, head in columns.items() if key in found}
    lines = [f"| judge | set | pictures | {' | '.join(columns.values())} |", "|---|---|" + "---:|" * (len(columns) + 1)]
    for judge, title in judges.items():
        for name, row in sets.items():
            cells = [_cell(key, row[judge].get(key)) for key in columns]
            lines.append(f"| {title} | `{name}` | {row['pictures']:,} | {' | '.join(cells)} |")
    lines += ["", f"Reference: {report['reference']}."]
    if "asked" in columns:
        lines.append("Agreement: a judge's first class is the asked one, of all 1,000 or of the asked classes alone.")
    if "precision" in columns:
        lines.append(f"Precision and recall: {NEIGHBOURS} neighbours, as many pictures of each set as the smaller has.")
    lines += [f"Left out: {title} ({reason})." for title, reason in report.get("left_out", {}).items()]
    for name, row in sets.items():
        if "inception" in row:
            values = ", ".join(f"{key} {value:.2f}" for key, value in row["inception"].items())
            lines.append(f"Inception, `{name}`: {values}.")
    if any("nearest" in row[judge] for row in sets.values() for judge in judges):
        lines += ["", *_nearest_rows(report)]
    return "\n".join(lines)


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if key == "frechet" else f"{100 * value:.1f} %"


def _nearest_rows(report: dict) -> list[str]:
    """Distances to the nearest training photo, one row per judge and set."""
    heads = [f"{100 * q:g} % below" for q in QUANTILES]
    nearer = f"nearer than {100 * QUANTILES[0]:g} % of the real ones are"
    lines = [f"| judge | set | {' | '.join(heads)} | {nearer} |", "|---|---|" + "---:|" * (len(heads) + 1)]
    for judge, title in report["judges"].items():
        for name, row in report["sets"].items():
            found = row[judge]["nearest"]
            cells = [f"{found[f'{q:g}']:.2f}" for q in QUANTILES] + [f"{100 * found['nearer']:.1f} %"]
            lines.append(f"| {title} | `{name}` | {' | '.join(cells)} |")
    photos = f"{report['training_photos']:,} training photos"
    return [*lines, "", f"Distance of each picture's features to those of the nearest of {photos}."]
