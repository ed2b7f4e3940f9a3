"""``drorae batch``: a table of many pictures."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from drorae.cli.options import add_model, add_pictures, load_model
from drorae.cli.outputs import ESCAPED, misdirected_file, write_file
from drorae.console import INTERRUPTED, fail
from drorae.errors import count_of

HELP = "a table of many pictures"


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(command)
    add_pictures(command)
    command.add_argument("--out", type=Path, required=True, help="file to write (.csv)")
    command.add_argument("--json", action="store_true", help="print one JSON object per picture, too")
    command.set_defaults(misdirected=misdirected_file(".csv"))


def run(args: argparse.Namespace) -> int:
    """The exit code, once the table is written."""
    import numpy as np
    from tqdm.auto import tqdm

    from drorae.explorer.answers import batch_answer
    from drorae.explorer.batch import explore_batch, to_csv

    model = load_model(args.model)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rows, stopped = [], False
    try:
        with tqdm(total=len(args.images), disable=None) as progress:
            for row in explore_batch(args.images, model, args.size, args.whole):
                rows.append(row)
                progress.update()
    except KeyboardInterrupt:
        if not rows:
            raise
        stopped = True
    write_file(args.out, to_csv(rows).encode("utf-8", ESCAPED))
    for row in rows if args.json else ():
        print(json.dumps(batch_answer(row)))
    gains = [row.gain for row in rows if row.gain is not None]
    mean = f", mean gain {np.mean(gains):+.2f} dB" if gains else ""
    sizes = [f"{row.width} x {row.height} px" for row in rows if row.error is None]
    size = f" of {sizes[0]}" if len(set(sizes)) == 1 else ""  # else the table has them
    print(f"{args.out}: {count_of(len(sizes), 'picture')}{size}{mean}")
    bad = [row.error for row in rows if row.error is not None]
    code = fail(*bad) if bad else 0
    if stopped:
        fail(f"Stopped after {len(rows)} of {len(args.images)} pictures; '{args.out}' has their rows.")
    return INTERRUPTED if stopped else code
