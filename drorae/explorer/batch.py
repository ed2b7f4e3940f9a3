"""Many pictures, one row of numbers each: where fusion helps most, least, and harms."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from drorae.explorer.exploration import Exploration
from drorae.explorer.explore import explore
from drorae.explorer.reading import Cut, check_size
from drorae.images import ImageError, load_image, square
from drorae.models.autoencoder import AutoencoderDRoRAE

THUMBNAIL = 64  # pixels


@dataclass(frozen=True)
class BatchRow:
    """One picture.

    Attributes:
        name: name of its file, with as many of its folders as tell it from the other pictures'.
        metrics: route name to ``psnr`` (dB), ``ssim`` and ``mae``; empty where the picture could not be read.
        gain: PSNR of the last route over ``rae``, dB; ``None`` without fusion.
        harmed: share of pixels the last route moved away from the original; ``None`` without fusion.
        layer: number, from 1, of the layer with the largest mean share; ``None`` without fusion.
        thumbnail: (64, 64, 3) uint8; ``None`` where the picture could not be read.
        width, height: width and height of the picture as the model saw it, pixels; ``None`` where it could not be read.
        error: what was wrong with it.
    """

    name: str
    metrics: dict[str, dict[str, float]]
    gain: float | None
    harmed: float | None
    layer: int | None
    thumbnail: np.ndarray | None
    width: int | None
    height: int | None
    error: str | None = None


def explore_batch(
    paths: Sequence[Any],
    model: AutoencoderDRoRAE,
    size: int | None = None,
    whole: bool = False,
    names: Sequence[str] | None = None,
    read: Callable[[Any, str], Image.Image] = load_image,
) -> Iterator[BatchRow]:
    """Explore pictures one after another; nothing of a picture is kept but its row. Bad files become rows, too.

    Args:
        paths: paths of the pictures, or whatever else ``read`` takes.
        size, whole: as in :func:`drorae.explorer.explore.open_picture`.
        names: names of the rows; those of :func:`distinct_names` when ``None``.
        read: from a path and a name to the picture.

    Raises:
        ImageError: a size that the model does not work at, or whole pictures, where it takes squares only.
    """
    check_size(model, size, whole)
    for path, name in zip(paths, distinct_names(paths) if names is None else names, strict=True):
        try:
            yield row_of(read(path, name), model, name, size, whole)
        except ImageError as error:
            yield bad_row(name, error)


def row_of(
    picture: Image.Image | Cut, model: AutoencoderDRoRAE, name: str, size: int | None = None, whole: bool = False
) -> BatchRow:
    """The row of one picture; arguments and errors as those of :func:`drorae.explorer.explore.explore`."""
    return row_from(explore(picture, model, interventions=False, size=size, whole=whole), name)


def row_from(result: Exploration, name: str) -> BatchRow:
    """The row of a picture that was explored."""
    *_, last = result.metrics
    fused = last != "rae"
    small = square(Image.fromarray(result.original), THUMBNAIL)
    return BatchRow(
        name,
        result.metrics,
        result.metrics[last]["psnr"] - result.metrics["rae"]["psnr"] if fused else None,
        result.gains[last].harmed if fused else None,
        int(result.shares.mean(0).argmax()) + 1 if result.shares is not None else None,
        np.array(small),
        result.original.shape[1],
        result.original.shape[0],
    )


def bad_row(name: str, error: ImageError) -> BatchRow:
    """The row of a picture that cannot be used."""
    return BatchRow(name, {}, None, None, None, None, None, None, str(error))


def distinct_names(paths: Sequence[str | Path]) -> list[str]:
    """File names, each with as few of its last folders as tell it from those of other paths."""
    parts = [Path(path).parts for path in paths]
    names: dict[tuple[str, ...], str] = {}
    longest = max(map(len, parts), default=0)
    for count in range(1, longest + 1):
        tails = Counter(each[-count:] for each in set(parts))
        for each in parts:
            if each not in names and (tails[each[-count:]] == 1 or count == longest):
                names[each] = str(Path(*each[-count:]))
    return [names[each] for each in parts]


def to_csv(rows: Iterable[BatchRow]) -> str:
    """The rows as a table with one line per picture. A name that a spreadsheet would take for a formula gets a quote
    before it."""
    rows = list(rows)
    routes = list(dict.fromkeys(route for row in rows for route in row.metrics))
    columns = [f"{route}_{metric}" for route in routes for metric in ("psnr", "ssim", "mae")]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["picture", "width", "height", *columns, "gain_db", "harmed", "dominant_layer", "error"])
    for row in rows:
        numbers = [row.metrics.get(route, {}).get(key) for route in routes for key in ("psnr", "ssim", "mae")]
        cells = [*numbers, row.gain, row.harmed]
        shown = ["" if value is None else f"{value:.6g}" for value in cells]
        size = [row.width or "", row.height or ""]
        writer.writerow([_as_text(row.name), *size, *shown, row.layer or "", _as_text(row.error or "")])
    return stream.getvalue()


def _as_text(cell: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
