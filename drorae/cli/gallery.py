"""``drorae gallery``: a static site of pictures and their reports."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from drorae.cli.options import add_model, add_pictures, load_model
from drorae.cli.outputs import ESCAPED, misdirected_site
from drorae.console import fail
from drorae.errors import DRoRAEError

HELP = "a static site: an index of pictures, and a report for each"


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(command)
    add_pictures(command)
    command.add_argument(
        "--captions",
        type=Path,
        metavar="FILE",
        help="JSON: a sentence for each file name, what the picture shows and whose it is",
    )
    command.add_argument("--out", type=Path, required=True, help="folder for the site; any web server can show it")
    command.set_defaults(misdirected=misdirected_site)


def run(args: argparse.Namespace) -> int:
    """The exit code, once the site is written."""
    from tqdm.auto import tqdm

    from drorae.explorer.batch import distinct_names
    from drorae.explorer.reading import Reading
    from drorae.images import ImageError, open_photo
    from drorae.viewers import gallery
    from drorae.viewers.report import model_facts

    captions = _read_captions(args.captions)
    unknown = sorted(set(captions) - {path.name for path in args.images})
    if unknown:
        return fail(f"--captions '{args.captions}' speaks of '{unknown[0]}', which is not among the pictures.")
    model = load_model(args.model)
    names = distinct_names(args.images)
    entries, bad = [], []
    (args.out / "photos").mkdir(parents=True, exist_ok=True)
    (args.out / "thumbnails").mkdir(exist_ok=True)
    told = zip(args.images, names, gallery.slugs(names), strict=True)
    for path, name, slug in tqdm(list(told), disable=None):
        try:
            reading = Reading(open_photo(path, str(path)), model, args.size, args.whole)
            each = gallery.entry(reading, args.model, str(path), slug, name, captions.get(path.name, ""))
        except ImageError as error:  # the other pictures are still worth doing
            bad.append(str(error))
            continue
        (args.out / "photos" / f"{slug}.html").write_text(each.report, encoding="utf-8", errors=ESCAPED)
        entries.append(each)
    if not entries:
        return fail(*bad)
    facts = model_facts(model, args.model)
    for name, content in gallery.files(entries, facts).items():
        (args.out / name).write_bytes(content)
    largest = max((args.out / "photos" / f"{each.slug}.html").stat().st_size for each in entries)
    print(f"{args.out / 'index.html'}: {gallery.summary(entries)}; reports of at most {largest / 1e6:.2f} MB")
    return fail(*bad) if bad else 0


def _read_captions(path: Path | None) -> dict[str, str]:
    """Sentences by file name.

    Raises:
        DRoRAEError: the file cannot be read, or holds something else.
    """
    if path is None:
        return {}
    try:
        captions = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DRoRAEError(f"--captions '{path}' cannot be read ({error.strerror}).") from None
    except ValueError:  # not JSON, or not UTF-8
        captions = None
    if not isinstance(captions, dict) or not all(isinstance(each, str) for each in captions.values()):
        raise DRoRAEError(f'--captions \'{path}\' must be JSON of sentences by file name: {{"cat.jpg": "A cat"}}.')
    return captions
