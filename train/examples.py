"""Results of the page's own examples, to be shipped with it: ``python -m train.examples assets/drorae-tiny``.

Writes a file per example beside its picture: routes, tiles of the layers, and where the photo stands among the
validation photos, if ``train.spread`` has measured them. To be run again whenever the embedded model changes.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path

from drorae.bundled import ASSETS, EXAMPLE_NAMES
from drorae.checkpoints import resolve
from drorae.explorer.standing import read_spread
from drorae.pretrained.adapter import load_tokenizer
from drorae.viewers.bundles import LIMIT, example_bundle
from train.derived import record_built
from train.engine.session import main_guard
from train.errors import DataError, writing


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="folder of the model, named as the page is started with it")
    parser.add_argument(
        "--out", type=Path, default=ASSETS / "examples", help="folder for the files (default: beside the pictures)"
    )
    args = parser.parse_args(argv)
    model = load_tokenizer(args.model)
    spread = read_spread(resolve(args.model))
    with writing(args.out):
        args.out.mkdir(parents=True, exist_ok=True)
    for name in EXAMPLE_NAMES:
        bundle = example_bundle(name, model, args.model, spread)
        text = json.dumps(bundle, separators=(",", ":"), allow_nan=False) + "\n"
        size = len(gzip.compress(text.encode()))
        if size > LIMIT:
            raise DataError(f"The results of '{name}' take {size:,} bytes; at most {LIMIT:,} may be shipped.")
        with writing(args.out):
            (args.out / f"{name}.json").write_text(text, encoding="utf-8")
        record_built(args.out / f"{name}.json")
        print(f"{name}: {size:,} bytes compressed, {', '.join(bundle['kinds'])}")


if __name__ == "__main__":
    main_guard(main)
