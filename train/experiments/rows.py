"""The rows of the study's tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from train.experiments.experiment import (
    AGAIN,
    BUDGETS,
    DECODER,
    DEEPEST,
    FINETUNE,
    FUSION,
    JOINT,
    MEAN,
    RAE,
    SOFTMAX,
    Experiment,
    FusionChoice,
    len_layers,
)
from train.presets import PRESETS, STUDY_PICTURES

GENERATION = "generation"  # the table whose latents are probed, and whose decoders paint samples
TABLES = ("scaling", "layers", "rules", GENERATION)
SEEDS = 3
DEFAULT, RETRAINED, PHASE3, TOGETHER = "default", "rae-retrained", "three-phases", "joint"
OTHER_SEEDS, DECODER_SEEDS = "rae-other-seeds", 2
WIDTHS = (24, 48, 96, 192, 384, 768, 1536)
BETAS = (0.1, 0.2, 0.3, 0.5, 1.0)
TI16_WIDTHS, TI16_COUNTS = (48, 192, 768), (1, 4, 8, 12)
LONGER, LONGER_WIDTHS, LONGER_COUNT = 3, (24, 192, 1536), 1
LONG = "-longer"  # at the end of a row's name


@dataclass(frozen=True)
class Base:
    """A base model and the sizes its experiments go through.

    Attributes:
        name: name of its preset.
        width: width of the experts, where they are not what changes.
        widths, counts: expert widths, and numbers of layers.
        whole: whether it has all rows, or the widths and the deepest layers alone.
        longer: the widths that are also trained ``LONGER`` times as long.
        samples: latents of the last layer that all its decoders paint; a Frechet distance needs more than features.
        learned: photos that the probe learns a latent from.
    """

    name: str
    title: str
    width: int
    widths: tuple[int, ...]
    counts: tuple[int, ...]
    pictures: int
    whole: bool
    longer: tuple[int, ...] = ()
    samples: int = 1500
    learned: int = 4000

    @property
    def layers(self) -> int:
        """Layers of its encoder."""
        return len_layers(self.name)


BASES = {
    "study": (
        Base("study", "128 px, patch 8", 768, WIDTHS, tuple(range(1, 13)), STUDY_PICTURES, True, LONGER_WIDTHS),
        Base("study-ti16", "ViT-Ti/16, 224 px", 768, TI16_WIDTHS, TI16_COUNTS, STUDY_PICTURES, False),
    ),
    "smoke": (
        Base("study-smoke", "smoke", 192, (24, 48, 192), (1, 2, 3), 24, True, (24,), samples=12, learned=16),
        Base("study-smoke-ti16", "smoke, patch 16", 192, (48, 192), (1, 3), 24, False),
    ),
}


@dataclass(frozen=True)
class StudyRow:
    """A row of a table.

    Attributes:
        name: within its base.
        reference: the row of the same base that it is compared with, seed by seed; ``None``: with none.
        experiment: with its first seed, 0 but for what the base has trained with seed 0 already.
    """

    table: str
    name: str
    title: str
    reference: str | None
    experiment: Experiment
    seeds: int = SEEDS

    @property
    def runs(self) -> list[Experiment]:
        """One experiment per seed."""
        if not self.experiment.trains:
            return [self.experiment.canonical]
        first = self.experiment.seed
        return [dataclasses.replace(self.experiment, seed=seed) for seed in range(first, first + self.seeds)]


def paper_fusion(base: Base, **changes: Any) -> FusionChoice:
    """The paper's fusion upon a base, with changes."""
    return dataclasses.replace(FusionChoice(tuple(range(1, base.layers + 1)), base.width), **changes)


def deepest(base: Base, count: int) -> tuple[int, ...]:
    """The deepest ``count`` layers, from 1."""
    return tuple(range(base.layers - count + 1, base.layers + 1))


def base_of(name: str) -> Base:
    """The base of this name."""
    return next(base for pair in BASES.values() for base in pair if base.name == name)


def rows_of(table: str, bases: str = "study") -> list[StudyRow]:
    """All rows of a table, for ``"study"`` or ``"smoke"`` bases."""
    return [row for base in BASES[bases] for row in _ROWS[table](base)]


def all_runs(rows: list[StudyRow]) -> dict[str, Experiment]:
    """Every experiment of some rows and those they go on from, once each, by hash, in the order to run them: the first
    seed of all rows, then the second, and so on."""
    found: dict[str, Experiment] = {}
    for seed in range(max((row.seeds for row in rows), default=0)):
        for row in rows:
            for experiment in row.runs[seed : seed + 1]:
                for one in (experiment.before, experiment):
                    if one is not None:
                        found.setdefault(one.hash, one.canonical)
    return found


def _row(
    table: str, base: Base, name: str, title: str, reference: str | None, fusion: FusionChoice | None, **changes: Any
):
    experiment = Experiment(base.name, FUSION, fusion, base.pictures)
    seeds = changes.pop("seeds", SEEDS)
    return StudyRow(table, name, title, reference, dataclasses.replace(experiment, **changes), seeds)


def _common(table: str, base: Base) -> Iterator[StudyRow]:
    yield _row(table, base, RAE, "RAE: the last layer, phase 1", None, None, phase=RAE)
    title = f"all layers, width {base.width}, signed, beta 0.2"
    yield _row(table, base, DEFAULT, title, RAE, paper_fusion(base))


def _scaling(base: Base) -> list[StudyRow]:
    rows = list(_common("scaling", base))
    for width in base.widths:
        rows.append(_row("scaling", base, f"width-{width}", f"width {width}", DEFAULT, paper_fusion(base, width=width)))
    more = {f"width-{width}": paper_fusion(base, width=width) for width in base.longer}
    more |= {f"deepest-{LONGER_COUNT}": paper_fusion(base, layers=deepest(base, LONGER_COUNT))} if more else {}
    for name, fusion in more.items():
        title = f"{name.replace('-', ' ')}, {LONGER} times the pictures"
        changes = {"pictures": LONGER * base.pictures, "seeds": 1}
        rows.append(_row("scaling", base, f"{name}{LONG}", title, None, fusion, **changes))
    return rows


def _layers(base: Base) -> list[StudyRow]:
    rows = list(_common("layers", base))
    for count in base.counts:
        fusion = paper_fusion(base, layers=deepest(base, count))
        rows.append(_row("layers", base, f"deepest-{count}", f"the deepest {count}", DEFAULT, fusion))
    for count in base.counts if base.whole else ():
        fusion = paper_fusion(base, layers=tuple(range(1, count + 1)))
        title = f"the shallowest {count}, z_base of the last"
        rows.append(_row("layers", base, f"shallowest-{count}", title, f"deepest-{count}", fusion))
    return rows


def _rules(base: Base) -> list[StudyRow]:
    if not base.whole:
        return []
    rows = list(_common("rules", base))
    for beta in BETAS:
        title = f"signed, beta {beta:g}" + (" (no correction)" if beta == 1 else "")
        rows.append(_row("rules", base, f"beta-{beta:g}", title, DEFAULT, paper_fusion(base, beta=beta)))
    for beta in (0.2, 1.0):
        title, fusion = f"softmax, beta {beta:g}", paper_fusion(base, rule=SOFTMAX, beta=beta)
        rows.append(_row("rules", base, f"softmax-{beta:g}", title, f"beta-{beta:g}", fusion))
    changes: dict[str, tuple[str, dict[str, Any]]] = {
        "router-deepest": ("router reads the last layer", {"router": DEEPEST}),
        "no-activation": ("experts without GELU", {"activation": False}),
        "budgets": ("HiRAE's residual budgets for beta", {"rule": BUDGETS}),
    }
    for name, (title, change) in changes.items():
        rows.append(_row("rules", base, name, title, DEFAULT, paper_fusion(base, **change)))
    return rows + _decoders("rules", base)


def _decoders(table: str, base: Base) -> list[StudyRow]:
    """What trains the decoder, too. The two phases of ``three-phases`` see as many pictures together as ``joint``."""
    few = max(2, base.layers // 3)
    mean = paper_fusion(base, layers=deepest(base, few), rule=MEAN)
    default, long = paper_fusion(base), 2 * base.pictures
    return [
        _row(table, base, RETRAINED, "RAE, its decoder trained on", RAE, None, phase=DECODER),
        _row(table, base, "mean", f"mean of {few}, the decoder trained on for it", RETRAINED, mean, phase=DECODER),
        _row(table, base, PHASE3, "phases 2 and 3", DEFAULT, default, phase=FINETUNE),
        _row(table, base, TOGETHER, "fusion and decoder together", PHASE3, default, phase=JOINT, pictures=long),
    ]


def _generation(base: Base) -> list[StudyRow]:
    """The rows whose latents differ in kind (the others of ``rules`` share one of these), and phase 1 from other seeds:
    its decoders paint the same samples as RAE's."""
    rows = [dataclasses.replace(row, table=GENERATION) for row in _rules(base) if row.name != "no-activation"]
    if not rows:
        return []
    schedule = PRESETS[base.name].stage1[DECODER].schedule
    changes = {"phase": AGAIN, "pictures": schedule.steps * schedule.batch_size, "seed": 1, "seeds": DECODER_SEEDS}
    return [*rows, _row(GENERATION, base, OTHER_SEEDS, "RAE, phase 1 from other seeds", RAE, None, **changes)]


_ROWS = {"scaling": _scaling, "layers": _layers, "rules": _rules, GENERATION: _generation}
