"""A gallery: a folder of files that any web server can show. One index, and one report for each photo."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from PIL import Image

from drorae.errors import count_of
from drorae.explorer.batch import BatchRow, row_from
from drorae.explorer.exploration import Exploration
from drorae.explorer.reading import Reading
from drorae.study import published
from drorae.viewers import static_files
from drorae.viewers.report import Frames, report
from drorae.viewers.values import scaled_size

LIMIT = 800_000  # bytes of a report
FRAME = 128  # pixels: the longer side of a picture of an intervention
QUALITIES = (90, 80, 65, 45)  # of these pictures; the first one that keeps a report within its limit
THUMBNAIL = 240  # pixels: the longer side of each of the pictures side by side
PANELS = {"original": "the photo", "rae": "what the last layer keeps", "best": "what all layers keep"}


@dataclass(frozen=True)
class Entry:
    """One photo of a gallery.

    Attributes:
        slug: name of its files, without an ending.
        row: its numbers.
        caption: what it shows, and whose it is; empty where nobody said.
        thumbnail: a WebP file: the photo and what its routes keep of it, side by side.
        size: width and height of the thumbnail, pixels.
        panels: how many pictures stand side by side in it.
        report: HTML.
    """

    slug: str
    row: BatchRow
    caption: str
    thumbnail: bytes
    size: tuple[int, int]
    panels: int
    report: str

    @property
    def title(self) -> str:
        """What it is called."""
        return self.row.name

    @property
    def alt(self) -> str:
        """The thumbnail in words."""
        shown = [*PANELS.values()][: self.panels]
        return f"{self.caption or self.title}: {', '.join(shown[:-1])}, and {shown[-1]} of it, side by side"


def entry(reading: Reading, model_name: str, picture_name: str, slug: str, name: str, caption: str = "") -> Entry:
    """A photo as a gallery shows it.

    Args:
        model_name, picture_name: see :func:`drorae.viewers.report.report`.
        slug: one of :func:`slugs`.
        name: that people read.
        caption: what the photo shows, and whose it is.
    """
    pictures = side_by_side(reading.routes)
    stream = io.BytesIO()
    strip = Image.fromarray(np.concatenate(pictures, axis=1))
    strip.save(stream, "WEBP", quality=82, method=4)
    text = small_report(reading, model_name, picture_name)
    row = row_from(reading.routes, name)
    return Entry(slug, row, caption, stream.getvalue(), strip.size, len(pictures), text)


def side_by_side(result: Exploration) -> list[np.ndarray]:
    """The photo, its last layer, and the best route where there is another, as small as thumbnails are."""
    *_, last = result.pictures
    shown = [result.original, *(result.pictures[route] for route in dict.fromkeys(("rae", last)))]
    height, width, _ = result.original.shape
    size = scaled_size(width, height, min(THUMBNAIL, max(width, height)))
    return [np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)) for picture in shown]


def small_report(reading: Reading, model_name: str, picture_name: str) -> str:
    """A report of at most ``LIMIT`` bytes, or of the lowest quality where that is not enough."""
    for quality in QUALITIES:
        text = report(reading, model_name, picture_name, frames=Frames(FRAME, quality))
        if len(text.encode()) <= LIMIT:
            break
    return text


def slugs(names: Sequence[str]) -> list[str]:
    """File names without an ending, in small letters, digits and hyphens, of which no two are the same."""
    found: list[str] = []
    for name in names:
        plain = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\.\w+$", "", name.lower())).strip("-") or "photo"
        slug, number = plain, 2
        while slug in found:
            slug, number = f"{plain}-{number}", number + 1
        found.append(slug)
    return found


def files(entries: Sequence[Entry], facts: Mapping[str, str]) -> dict[str, bytes]:
    """Content by path of everything but the reports: the index and the thumbnails."""
    thumbnails = {f"thumbnails/{each.slug}.webp": each.thumbnail for each in entries}
    return {"index.html": index(entries, facts).encode(), **thumbnails}


def index(entries: Sequence[Entry], facts: Mapping[str, str]) -> str:
    """The page that lists all photos. It asks for nothing from elsewhere, and shows the list also without scripts.

    Args:
        entries: in any order; they are listed by gain, the largest first.
        facts: what was done, as a table at the end.
    """
    ordered = sorted(entries, key=lambda each: (-_number(each.row.gain, -np.inf), each.title.lower()))
    layers = sorted({each.row.layer for each in entries if each.row.layer is not None})
    options = "".join(f'<option value="{layer}">layer {layer}</option>' for layer in layers)
    table = "".join(f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in facts.items())
    values = {
        "style": static_files.page_style() + static_files.read_static("gallery.css"),
        "script": static_files.read_static("gallery.js"),
        "paper": f"https://arxiv.org/abs/{published.PAPER}",
        "summary": escape(summary(entries)),
        "layers": options,
        "cards": "\n".join(map(photo_card, ordered)),
        "facts": table,
    }
    text = static_files.read_static("gallery.html")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], text)


def summary(entries: Iterable[Entry]) -> str:
    """How many photos there are, and what fusion gains on them."""
    entries = list(entries)
    gains = [each.row.gain for each in entries if each.row.gain is not None]
    mean = f", a mean gain of {np.mean(gains):+.1f} dB over the last layer" if gains else ""
    return f"{count_of(len(entries), 'photo')}{mean}"


def photo_card(each: Entry) -> str:
    """One photo of the list, as HTML."""
    row, (width, height) = each.row, each.size
    known = {"gain": row.gain, "harmed": row.harmed, "layer": row.layer}
    numbers = {"name": each.title} | {key: text for key, value in known.items() if (text := _script_number(value))}
    data = " ".join(f'data-{key}="{escape(value)}"' for key, value in numbers.items())
    facts = [("last layer", f"{row.metrics['rae']['psnr']:.1f} dB")]
    if row.gain is not None and row.harmed is not None:
        *_, last = row.metrics
        facts += [("all layers", f"{row.metrics[last]['psnr']:.1f} dB"), ("gain", f"{row.gain:+.1f} dB")]
        facts += [("harmed", f"{100 * row.harmed:.0f} %")]
    if row.layer is not None:
        facts += [("most weight", f"layer {row.layer}")]
    listed = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    caption = f'<p class="soft">{escape(each.caption)}</p>' if each.caption else ""
    return (
        f'<li class="photo" {data}><a href="photos/{each.slug}.html">'
        f'<img src="thumbnails/{each.slug}.webp" width="{width}" height="{height}" alt="{escape(each.alt)}" '
        f'loading="lazy" decoding="async"><h2>{escape(each.title)}</h2></a>{caption}<dl class="num">{listed}</dl></li>'
    )


def _script_number(value: float | None) -> str:
    """A number as JavaScript reads it; empty for none, and for a gain from infinite to infinite."""
    if value is None or math.isnan(value):
        return ""
    return "Infinity" if value == math.inf else str(value)


def _number(value: float | None, without: float) -> float:
    return without if value is None else value
