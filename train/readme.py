"""Write the tables of the README, from what was measured and from the presets: ``python -m train.readme``."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from train.derived import record_built
from train.engine.dry_run import build_on_meta, denoiser_cost, estimate_hours, step_cost
from train.engine.session import main_guard
from train.errors import RunError
from train.evaluate import table
from train.fusion_bound import bound_words
from train.presets import PRESETS
from train.publish import REPORT
from train.settings import Stage1Preset, Stage2Preset

REPRODUCED, GPUS = "dinov2-b", 8


def reproduction_table(name: str = REPRODUCED, gpus: int = GPUS) -> str:
    """What the paper's model takes: run, command, hardware, estimated hours, the paper's number and ours."""
    preset = PRESETS[name]
    rows: list[tuple[str, str, int, Stage1Preset | Stage2Preset]] = []
    for phase, tokenizer in preset.stage1.items():
        command = f"train.stage1 --preset {name} --phase {phase}"
        rows.append((phase, command, step_cost(build_on_meta(preset, tokenizer)).flops, tokenizer))
    for run, denoiser in preset.stage2.items():
        condition, _, guide = run.partition("-")
        command = f"train.stage2 --preset {name} --condition {condition}{' --guide' if guide else ''}"
        rows.append((run, command, denoiser_cost(preset, denoiser), denoiser))
    lines = ["| run | command | hardware | hours | paper | ours |", "|---|---|---|---:|---|---|"]
    for run, command, cost, row in rows:
        hours = estimate_hours(cost, row.schedule, gpus)
        lines.append(f"| {run} | `{command}` | {gpus} H100 | {hours:.0f} | {row.expected} | {row.measured} |")
    return "\n".join(lines)


def replace_block(text: str, name: str, content: str, file: Path) -> str:
    """A text with the content between ``<!-- name -->`` and ``<!-- /name -->`` replaced.

    Raises:
        RunError: there is no such block.
    """
    block = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.S)
    if not block.search(text):
        raise RunError(f"{file} has no '<!-- {name} -->' block to write to")
    return block.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text)


def training_words(report: dict, checkpoint: Path) -> str:
    """How long a model was trained, and what bounds phase 2, as text; empty of a model that says neither."""
    if "training" not in report or "fusion_bound" not in report:
        return ""
    training, bound = report["training"], report["fusion_bound"]
    return (
        f"Its three phases took {training['hours']:.1f} hours ({', '.join(training['devices'])}); its "
        f"[card]({checkpoint}/README.md) says on what.\n{bound_words(bound)}\n(`{bound['command']}`)"
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "checkpoint",
        type=Path,
        nargs="?",
        default=Path("assets/drorae-tiny"),
        help="model whose numbers are shown (default: %(default)s)",
    )
    parser.add_argument("--readme", type=Path, default=Path("README.md"), help="file to change (default: %(default)s)")
    args = parser.parse_args(argv)
    report = json.loads((args.checkpoint / REPORT).read_text(encoding="utf-8"))
    text = args.readme.read_text(encoding="utf-8")
    text = replace_block(text, "results", table(report), args.readme)
    words = training_words(report, args.checkpoint)
    text = replace_block(text, "training", words, args.readme) if words else text
    text = replace_block(text, "reproduction", reproduction_table(), args.readme)
    text = re.sub(r"on [\d,]+ held-out photos", f"on {report['photos']:,} held-out photos", text)
    text = re.sub(r"(held-out photos of \S+) \(\d+ px\)", rf"\1 ({report['size']} px)", text)
    text = re.sub(r"(as printed by\n`)[^`]+(`:)", lambda match: match[1] + report["command"] + match[2], text)
    args.readme.write_text(text, encoding="utf-8")
    record_built(args.readme)
    print(f"{args.readme}: {len(report['routes'])} routes, {report['photos']} photos, weights {report['sha256']}.")


if __name__ == "__main__":
    main_guard(main)
