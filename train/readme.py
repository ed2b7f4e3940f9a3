"""Write the results table of the README from what ``train.publish`` measured: ``python -m train.readme``."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from train.engine.session import main_guard
from train.errors import RunError
from train.evaluate import table
from train.publish import REPORT

BLOCK = re.compile(r"(<!-- results -->\n).*?(\n<!-- /results -->)", re.S)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path, nargs="?", default=Path("assets/drorae-tiny"))
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    args = parser.parse_args(argv)
    report = json.loads((args.checkpoint / REPORT).read_text(encoding="utf-8"))
    text = args.readme.read_text(encoding="utf-8")
    if not BLOCK.search(text):
        raise RunError(f"{args.readme} has no '<!-- results -->' block to write to")
    text = BLOCK.sub(lambda match: match[1] + table(report) + match[2], text)
    text = re.sub(r"on [\d,]+ held-out photos", f"on {report['photos']:,} held-out photos", text)
    text = re.sub(r"(as printed by\n`)[^`]+(`:)", lambda match: match[1] + report["command"] + match[2], text)
    args.readme.write_text(text, encoding="utf-8")
    print(f"{args.readme}: {len(report['routes'])} routes, {report['photos']} photos, weights {report['sha256']}.")


if __name__ == "__main__":
    main_guard(main)
