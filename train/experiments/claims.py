"""What the paper claims, and what the study's numbers say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from drorae.study import published
from drorae.study.fits import Fit, refits
from train.evaluate import METRICS
from train.experiments.experiment import RAE
from train.experiments.rows import BASES, DEFAULT, LONG, OTHER_SEEDS, PHASE3, RETRAINED, TOGETHER, Base
from train.experiments.statistics import (
    CONFIRMED,
    CONTRADICTED,
    UNDECIDED,
    Estimate,
    Line,
    fit_line,
    paired_difference,
    row_slope,
    student,
    verdict,
)
from train.experiments.tables import Record
from train.measure.diffusability import TITLES as LATENT_TITLES

AXES = ("rfid", "fd-mobilenetv2", "st-lpips", "psnr")  # the paper's axis, then what stands in for it
TITLES = {name: title.split(",")[0] for name, (title, _) in METRICS.items()} | {
    "cosine_final_base": "cos(z_final, z_base)",
    "cosine_fused_base": "cos(z_fuse, z_base)",
    **LATENT_TITLES,
}
TRADED = ("beta-", "budgets", "joint")  # rows between which reconstruction and generation are traded
NOT_RUN = "not run"
Tables = Mapping[str, Sequence[Record]]


@dataclass(frozen=True)
class Difference:
    """``row`` rebuilds better than ``reference``, seed by seed; worse with ``better=False``; or its ``measure`` is
    above (+1) or below (-1) by ``sign``."""

    row: str
    reference: str
    better: bool = True
    measure: str | None = None
    sign: int = 0


@dataclass(frozen=True)
class Level:
    """``measure`` of a row is above (+1) or below 0 (-1)."""

    row: str
    measure: str
    sign: int


@dataclass(frozen=True)
class Slope:
    """The rows that begin with one of ``rows`` rebuild better the larger they are: by ``log10(parameters)``, or by the
    number of ``layers``."""

    rows: tuple[str, ...]
    by_layers: bool
    paper: Fit


@dataclass(frozen=True)
class Trade:
    """Among the rows that begin with one of ``rows``, those that rebuild better have more of ``measure``."""

    rows: tuple[str, ...]
    measure: str


@dataclass(frozen=True)
class Decoders:
    """A decoder of ``row`` rebuilds photos as well as phase 1's, and paints the same samples worse. The rows ``beside``
    are stated, too."""

    row: str
    beside: tuple[str, ...]


@dataclass(frozen=True)
class Claim:
    """A claim: in words, where it stands, the number there, and what decides about it here."""

    key: str
    text: str
    source: str
    stated: str
    test: Difference | Level | Slope | Trade | Decoders
    second: bool = False  # on the second encoder


class SizedRow(NamedTuple):
    """A row of a slope: its name, its size on the axis, its values by seed."""

    name: str
    size: float
    values: list[float]


class Fitted(NamedTuple):
    """The line of a slope, the rows it goes through, and the paper's."""

    line: Line
    rows: list[SizedRow]
    paper: Fit


class Outcome(NamedTuple):
    """What became of a claim on a base; ``fitted`` of a slope."""

    claim: Claim
    verdict: str
    measure: str
    estimate: Estimate | None
    sentence: str
    base: Base
    fitted: Fitted | None = None


def claims_of(bases: str = "study") -> list[Claim]:
    """All claims, with the names of rows that a pair of bases has."""
    first, second = BASES[bases]
    fits, most = refits(), max(first.counts)
    widths, layers = Slope(("width-",), False, fits.widths), Slope(("deepest-",), True, fits.layers)
    both = Slope(("width-", "deepest-"), False, fits.unified)
    table8, table9 = (
        f"rFID {fits.widths.slope:.4f} for ten times the parameters",
        f"rFID {fits.layers.slope:.4f} a layer",
    )
    wider = "Wider experts rebuild better"
    deeper = "More of the deepest layers rebuild better"
    claims = [
        Claim(
            "fusion",
            "All layers rebuild better than the last one, through the same decoder",
            "table 1",
            "rFID 0.57 to 0.47",
            Difference(DEFAULT, RAE),
        ),
        Claim("widths", wider, "table 8, refitted", table8, widths),
        Claim("layers", deeper, "table 9, refitted", table9, layers),
        Claim(
            "unified",
            "Widths and layers follow one line on the parameters",
            "tables 8 and 9, refitted",
            f"rFID {fits.unified.slope:.4f} for ten times the parameters",
            both,
        ),
        Claim(
            "depth",
            "All layers rebuild better than an expert upon the last one alone",
            "table 9",
            "rFID 0.570 to 0.471",
            Difference(f"deepest-{most}", "deepest-1"),
        ),
        Claim(
            "signed-free",
            "Without the correction, signed weights rebuild better than a softmax",
            "table 3",
            "rFID 0.475 to 0.447",
            Difference("beta-1", "softmax-1"),
        ),
        Claim(
            "signed",
            "With the correction, signed weights rebuild better than a softmax",
            "table 3",
            "rFID 0.512 to 0.470",
            Difference("beta-0.2", "softmax-0.2"),
        ),
        Claim(
            "correction",
            "The correction costs reconstruction",
            "table 3",
            "rFID 0.447 to 0.470",
            Difference("beta-0.2", "beta-1", better=False),
        ),
        Claim(
            "phase3",
            "Phase 3 rebuilds better than phase 2",
            "tables 1 and 4",
            "rFID 0.47 to 0.29",
            Difference(PHASE3, DEFAULT),
        ),
        Claim(
            "method",
            "The whole method rebuilds better than RAE, whose decoder was trained on here for as long as phase 3",
            "table 1",
            "rFID 0.57 to 0.29",
            Difference(PHASE3, RETRAINED),
        ),
        Claim(
            "joint",
            "Trained together, fusion and decoder move the latent farther from the last layer than the phases do",
            "section 3.4",
            "no number",
            Difference(TOGETHER, PHASE3, measure="cosine_final_base", sign=-1),
        ),
        Claim(
            "cosine",
            "z_fuse points away from z_base",
            "figures 7 and 9",
            f"cosine about {np.mean(published.COSINES):.2f}",
            Level(DEFAULT, "cosine_fused_base", -1),
        ),
        Claim(
            "mean",
            "The plain mean of layers rebuilds better than the last one, each with its decoder trained on for it",
            "RAEv2, arXiv 2605.18324",
            "PSNR 18.9 to 22.6 dB, on another encoder",
            Difference("mean", RETRAINED),
        ),
        Claim(
            "cost-probe",
            "Between betas, budgets and joint training, a latent that rebuilds better is harder to learn",
            "table 3",
            "generator's loss 0.47 at rFID 0.470, 0.81 at 0.447",
            Trade(TRADED, "probe"),
        ),
        Claim(
            "cost-viv",
            "Between them, a latent that rebuilds better has more velocity that nothing can predict",
            "arXiv 2606.03578",
            "VIV and gFID of 43 tokenizers correlate with 0.87",
            Trade(TRADED, "viv"),
        ),
        Claim(
            "correction-probe",
            "The correction makes the latent easier to learn",
            "table 3",
            "generator's loss 0.81 to 0.47",
            Difference("beta-0.2", "beta-1", measure="probe", sign=-1),
        ),
        Claim(
            "joint-probe",
            "Trained together with its decoder, the fusion makes a latent that is harder to learn",
            "HiRAE, arXiv 2609.37775",
            "guided gFID 1.060 to 1.551, on another encoder",
            Difference(TOGETHER, DEFAULT, measure="probe", sign=1),
        ),
        Claim(
            "budgets-probe",
            "HiRAE's budgets make a latent that is easier to learn than beta 0.2 does",
            "HiRAE, arXiv 2609.37775",
            "guided gFID 1.551 to 1.038, trained together, on another encoder",
            Difference("budgets", DEFAULT, measure="probe", sign=-1),
        ),
        Claim(
            "decoders",
            "A decoder that was trained again rebuilds photos as well and paints the same samples worse",
            "RAE, issue 80",
            "equal rFID, worse gFID",
            Decoders(OTHER_SEEDS, (RETRAINED,)),
        ),
        Claim("widths-2", wider, "table 8, refitted", table8, widths, second=True),
        Claim("layers-2", deeper, "table 9, refitted", table9, layers, second=True),
    ]
    assert first.whole
    assert not second.whole
    return claims


def all_records(tables: Tables) -> list[Record]:
    """The records of all tables, once each: a row of one name is the same experiment in every table."""
    return list({(r["base"], r["row"], r["seed"]): r for table in tables.values() for r in table}.values())


def axis_of(records: Sequence[Record]) -> str:
    """The measure that decides: the first of :data:`AXES` that every record has."""
    return next(name for name in AXES if all(record[name] is not None for record in records) or name == AXES[-1])


def improvement(measure: str) -> int:
    """The sign of a change for the better."""
    return 1 if METRICS[measure][1] else -1


def by_seed(records: Sequence[Record], base: str, row: str, measure: str) -> dict[int, float] | float | None:
    """Values of a row by seed; the one value of what is not trained; ``None`` where there is nothing."""
    mine = [r for r in records if (r["base"], r["row"]) == (base, row) and r[measure] is not None]
    if not mine:
        return None
    if mine[0]["seed"] is None:
        return mine[0][measure]
    return {record["seed"]: record[measure] for record in mine}


def seed_differences(records: Sequence[Record], base: str, row: str, reference: str, measure: str) -> Estimate | None:
    """How much a row is above another, seed by seed; ``None`` where one of them is not there."""
    one, other = (by_seed(records, base, name, measure) for name in (row, reference))
    if other is None or not isinstance(one, dict):
        return None
    return paired_difference(one, other)


def sized_rows(records: Sequence[Record], base: str, test: Slope | Trade, measure: str) -> list[SizedRow]:
    """The rows that a line is fitted to, equal ones once, in order of size: layers, log10 of the parameters, or, of a
    trade, the mean of the measure that decides, beside the values of ``measure``."""
    found: dict[frozenset[str], SizedRow] = {}
    mine = [r for r in records if r["base"] == base and r["row"].startswith(test.rows)]
    axis = axis_of(records)
    for record in mine:
        name = record["row"]
        values = by_seed(mine, base, name, measure)
        if isinstance(values, dict) and not name.endswith(LONG):
            if isinstance(test, Trade):
                size = float(np.mean([r[axis] for r in mine if r["row"] == name]))
            else:
                size = len(record["layers"].split()) if test.by_layers else float(np.log10(record["parameters"]))
            runs = frozenset(r["hash"] for r in mine if r["row"] == name)
            found.setdefault(runs, SizedRow(name, size, list(values.values())))
    return sorted(found.values(), key=lambda row: row.size)


def judge(claim: Claim, records: Sequence[Record], bases: str = "study") -> Outcome:
    """What the numbers say of a claim."""
    base = BASES[bases][int(claim.second)]
    test = claim.test
    if isinstance(test, Slope):
        return _judge_slope(claim, test, records, base)
    if isinstance(test, Trade):
        return _judge_trade(claim, test, records, base)
    if isinstance(test, Decoders):
        return _judge_decoders(claim, test, records, base)
    measure = test.measure or axis_of(records)
    if isinstance(test, Level):
        values = by_seed(records, base.name, test.row, measure)
        estimate, sign = student(list(values.values())) if isinstance(values, dict) else None, test.sign
        compared = f"`{test.row}`"
    else:
        estimate = seed_differences(records, base.name, test.row, test.reference, measure)
        sign = test.sign or improvement(measure) * (1 if test.better else -1)
        compared = f"`{test.row}` against `{test.reference}`"
    if estimate is None:
        return Outcome(claim, NOT_RUN, measure, None, _sentence(claim, NOT_RUN, compared, base), base)
    said = verdict(estimate.low, estimate.high, sign)
    words = f"{TITLES[measure]} {signed_text(estimate.mean)}{interval(estimate)}, {compared}, {seeds(estimate.seeds)}"
    if isinstance(test, Difference) and test.measure is None and measure != "psnr":
        also = seed_differences(records, base.name, test.row, test.reference, "psnr")
        words += f"; PSNR {signed_text(also.mean)} dB{interval(also)}" if also is not None else ""
    return Outcome(claim, said, measure, estimate, _sentence(claim, said, words, base), base)


def _judge_slope(claim: Claim, test: Slope, records: Sequence[Record], base: Base) -> Outcome:
    measure = axis_of(records)
    rows = sized_rows(records, base.name, test, measure)
    needed = f"three rows {' or '.join(f'`{name}...`' for name in test.rows)}"
    if len({row.size for row in rows}) < 3:
        return Outcome(claim, NOT_RUN, measure, None, _sentence(claim, NOT_RUN, needed, base), base)
    line = fit_line([row.size for row in rows], [row.values for row in rows])
    fewest = min(len(row.values) for row in rows)
    estimate = Estimate(line.fit.slope, line.low, line.high, None, fewest)
    said = verdict(line.low, line.high, improvement(measure))
    unit = "a layer" if test.by_layers else "for ten times the parameters"
    words = (
        f"{TITLES[measure]} {signed_text(line.fit.slope)} {unit}{interval(estimate)}, R² {line.fit.r2:.2f}, "
        f"{len(rows)} rows of at least {seeds(fewest)}; one row left out: {signed_text(min(line.without))} to "
        f"{signed_text(max(line.without))}"
    )
    alone = by_seed(records, base.name, RAE, measure)
    if isinstance(alone, float) and measure != "psnr":
        share, paper = line.fit.slope / alone, test.paper.slope / published.ROUTE_SCORES[0].rfid
        words += f"; as a share of RAE's distance {share:+.1%}, the paper's {paper:+.1%}"
    fitted = Fitted(line, rows, test.paper)
    return Outcome(claim, said, measure, estimate, _sentence(claim, said, words, base), base, fitted)


def _judge_trade(claim: Claim, test: Trade, records: Sequence[Record], base: Base) -> Outcome:
    axis = axis_of(records)
    rows = sized_rows(records, base.name, test, test.measure)
    if len({row.size for row in rows}) < 3:
        needed = f"three rows {' or '.join(f'`{name}`' for name in test.rows)}, with {TITLES[test.measure]}"
        return Outcome(claim, NOT_RUN, test.measure, None, _sentence(claim, NOT_RUN, needed, base), base)
    fewest = min(len(row.values) for row in rows)
    line = row_slope([row.size for row in rows], [float(np.mean(row.values)) for row in rows])
    estimate = Estimate(line.slope, line.low, line.high, line.p, fewest)
    said = verdict(line.low, line.high, improvement(axis))
    ends = [f"`{row.name}` {TITLES[axis]} {row.size:.4g}, {np.mean(row.values):.4g}" for row in (rows[0], rows[-1])]
    words = (
        f"{TITLES[test.measure]} {signed_text(line.slope)} for one more of {TITLES[axis]}{interval(estimate)}, R² "
        f"{line.r2:.2f}, {len(rows)} rows of at least {seeds(fewest)}, from {ends[0]} to {ends[1]}"
    )
    return Outcome(claim, said, test.measure, estimate, _sentence(claim, said, words, base), base)


def painters(records: Sequence[Record], base: str) -> list[Record]:
    """The decoders that painted the samples of a base, each compared with that of phase 1, which comes first."""
    mine = [r for r in records if r["base"] == base and r["samples_fd"] is not None]
    return sorted(mine, key=lambda record: record["seed"] is not None)  # stable: rows stay in order


def _judge_decoders(claim: Claim, test: Decoders, records: Sequence[Record], base: Base) -> Outcome:
    """Confirmed: a decoder whose reconstruction may be equal (the interval of its difference includes 0) paints worse
    (that of the samples is above 0). Contradicted: all such decoders paint better."""
    mine = [record for record in painters(records, base.name) if record["row"] in (test.row, *test.beside)]
    again = [record for record in mine if record["row"] == test.row]
    if not again:
        needed = f"samples through the decoders of `{test.row}`"
        return Outcome(claim, NOT_RUN, "samples_fd", None, _sentence(claim, NOT_RUN, needed, base), base)
    equal = [record for record in again if _read_pair(record, "rebuilt_difference").includes_zero]
    verdicts = [verdict(*_read_pair(record, "samples_difference")[1:], 1) for record in equal]
    said = UNDECIDED
    if CONFIRMED in verdicts:
        said = CONFIRMED
    elif verdicts and set(verdicts) == {CONTRADICTED}:
        said = CONTRADICTED
    parts = [
        f"`{record['row']}`, seed {record['seed']}: samples {_read_pair(record, 'samples_difference')}, photos "
        f"{_read_pair(record, 'rebuilt_difference')}"
        for record in mine
    ]
    words = (
        f"FD-MobileNetV2 above the first decoder's, {'; '.join(parts)}; {mine[0]['samples']:,} samples of one denoiser"
    )
    if not equal:
        words += "; none of the decoders of other seeds rebuilds equally well"
    one = _read_pair((equal or again)[0], "samples_difference")
    estimate = Estimate(one.value, one.low, one.high, None, len(again))
    return Outcome(claim, said, "samples_fd", estimate, _sentence(claim, said, words, base), base)


class Paired(NamedTuple):
    """A difference to the first decoder on the same pictures, with its interval over them, if there is one."""

    value: float
    low: float | None
    high: float | None

    @property
    def includes_zero(self) -> bool:
        """Whether the interval is there and includes 0."""
        return self.low is not None and self.high is not None and self.low <= 0 <= self.high

    def __str__(self) -> str:
        return signed_text(self.value) + interval(Estimate(self.value, self.low, self.high, None, 1))


def _read_pair(record: Record, name: str) -> Paired:
    return Paired(record[name], record[f"{name}_low"], record[f"{name}_high"])


def _sentence(claim: Claim, said: str, words: str, base: Base) -> str:
    where = f" ({base.title})" if claim.second else ""
    if said == NOT_RUN:
        words = f"it takes {words}"
    few = "; one seed decides nothing" if said == UNDECIDED and "1 seed" in words else ""
    return f"{claim.text}{where} ({claim.source}: {claim.stated}): **{said}**: {words}{few}."


def signed_text(value: float) -> str:
    """A difference with its sign, to three digits."""
    return f"{value:+.3g}"


def interval(estimate: Estimate) -> str:
    """The interval of 95 % in brackets, with a blank before; empty where there is none."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f" [{signed_text(estimate.low)}, {signed_text(estimate.high)}]"


def seeds(count: int) -> str:
    """A number of seeds in words."""
    return f"{count} seed{'s' if count > 1 else ''}"
