"""One experiment: a base model, a fusion, what trains, on how many pictures, from which seed; and its hash."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from train.presets import PRESETS, ema_decay
from train.settings import Stage1Preset

SIGNED, SOFTMAX, MEAN, BUDGETS = "signed", "softmax", "mean", "budgets"  # how layers are weighted
ALL, DEEPEST = "all", "deepest"  # what the router reads
RAE, DECODER, FUSION, FINETUNE, JOINT = "rae", "decoder", "fusion", "finetune", "joint"  # what trains
AGAIN, SAMPLER = "decoder-again", "sampler"  # phase 1 from another seed; a denoiser of the last layer's latent
MACHINE_ONLY = ("workers", "save_every", "gradient_checkpointing", "compile", "stop")
STATED = ("expected", "measured")
HASH_LETTERS = 12
PROBE_RUN, SAMPLER_RUN = "class-guide", "class"  # of a base's stage 2


@dataclass(frozen=True)
class FusionChoice:
    """A fusion of the study.

    Attributes:
        layers: which are fused, from 1, ascending.
        width: width of the experts.
        rule: ``"signed"`` (equation 4), ``"softmax"``, ``"mean"`` (no experts) or ``"budgets"`` (HiRAE's anchor).
        beta: strength of the correction; 1 is no correction.
        router: reads ``"all"`` the fused layers or the ``"deepest"`` one.
        activation: GELU in the experts.
    """

    layers: tuple[int, ...]
    width: int
    rule: str = SIGNED
    beta: float = 0.2
    router: str = ALL
    activation: bool = True


@dataclass(frozen=True)
class Experiment:
    """One training of the study, upon phase 1 of ``base``, which all experiments share.

    ``phase`` says what trains: ``"fusion"`` (phase 2), ``"finetune"`` (phase 3 after the same fusion's phase 2),
    ``"joint"`` (fusion and decoder together), ``"decoder"`` (the decoder goes on; on the last layer, or on a mean),
    ``"decoder-again"`` (all of phase 1, from its own seed), ``"sampler"`` (a class denoiser of the last layer's
    latent), or ``"rae"``: nothing, phase 1 is measured.
    """

    base: str
    phase: str
    fusion: FusionChoice | None
    pictures: int
    seed: int = 0

    @property
    def canonical(self) -> Experiment:
        """The experiment as it is hashed: beta = 0 *is* RAE, a mean has no experts, and so on."""
        if self.phase in (AGAIN, SAMPLER):
            again = self.phase == AGAIN and self.seed == PRESETS[self.base].stage1[DECODER].schedule.seed
            return Experiment(self.base, RAE, None, 0) if again else dataclasses.replace(self, fusion=None)
        fusion = _canonical(self.fusion, len_layers(self.base))
        mean = self.fusion is not None and self.fusion.rule == MEAN  # has no phase 2: its decoder is trained
        if self.phase == RAE or (self.phase == FUSION and fusion is None and not mean):
            return Experiment(self.base, RAE, None, 0)
        phase = DECODER if fusion is None or mean else self.phase
        return dataclasses.replace(self, phase=phase, fusion=fusion)

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that name everything the result depends on, but for data and frozen weights."""
        one = self.canonical
        # json has tuples and lists alike, so that a row that was stored and read again keeps its hash
        content = {"experiment": dataclasses.asdict(one), "recipe": recipe(one.base)}
        if one.phase == SAMPLER:
            content["sampler"] = denoiser_recipe(one.base, SAMPLER_RUN)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:HASH_LETTERS]

    @property
    def before(self) -> Experiment | None:
        """The experiment whose fusion this one goes on from."""
        return dataclasses.replace(self, phase=FUSION) if self.canonical.phase == FINETUNE else None

    @property
    def latent(self) -> Experiment:
        """The experiment that made the latent of this one: a decoder that trains alone leaves it as it is."""
        one = self.canonical
        if one.phase == DECODER and one.fusion is not None:
            return dataclasses.replace(one, seed=0)  # a mean has nothing that a seed would change
        if one.phase in (DECODER, AGAIN, SAMPLER):
            return Experiment(one.base, RAE, None, 0)
        return (one.before or one).canonical

    @property
    def trains(self) -> bool:
        """Whether there is anything to train."""
        return self.canonical.phase != RAE

    def row(self) -> Stage1Preset:
        """The stage-1 row that trains it: the base's phase 2, its length and seed changed."""
        one = self.canonical
        if one.phase == AGAIN:
            row = PRESETS[one.base].stage1[DECODER]
            return dataclasses.replace(row, schedule=dataclasses.replace(row.schedule, seed=one.seed))
        row = PRESETS[one.base].stage1[FUSION]
        steps = max(1, -(-one.pictures // row.schedule.batch_size))
        schedule = dataclasses.replace(row.schedule, steps=steps, seed=one.seed, ema_decay=ema_decay(steps))
        # painted as in phase 2, and the decoder trains along; RAE is painted as in phase 1
        phase = {JOINT: FUSION, RAE: DECODER}.get(one.phase, one.phase)
        starts_from = f"{one.base}/{self.before.hash}" if self.before else row.starts_from
        return dataclasses.replace(row, schedule=schedule, phase=phase, starts_from=starts_from)


def _canonical(fusion: FusionChoice | None, total: int) -> FusionChoice | None:
    """The fusion with what does not matter at fixed values; ``None`` where it leaves the last layer as it is."""
    if fusion is None or (fusion.beta == 0 and fusion.rule in (SIGNED, SOFTMAX)):
        return None
    if fusion.rule == MEAN:
        return None if fusion.layers == (total,) else FusionChoice(fusion.layers, 0, MEAN, 1.0)
    if fusion.rule == BUDGETS:
        fusion = dataclasses.replace(fusion, beta=1.0)
    if fusion.layers == (total,):
        fusion = dataclasses.replace(fusion, router=ALL)  # there is no other to read
    return dataclasses.replace(fusion, beta=float(fusion.beta))


def len_layers(base: str) -> int:
    """Layers of a base's encoder: those that its preset states, else a ViT's 12."""
    return int((PRESETS[base].model["encoder_args"] or {}).get("depth", 12))


def recipe(base: str) -> dict[str, Any]:
    """What a base fixes for all its experiments: the model, phase 1, and the row that they change."""
    preset = PRESETS[base]
    rows = {phase: dataclasses.asdict(preset.stage1[phase]) for phase in (DECODER, FUSION)}
    for row in rows.values():
        for name in STATED:
            del row[name]
        for name in MACHINE_ONLY:
            del row["schedule"][name]
    return {"model": preset.model, "weights": preset.encoder_weights, "rows": rows}


def denoiser_recipe(base: str, run: str) -> dict[str, Any]:
    """What a base fixes for its probe or its sampler."""
    row = dataclasses.asdict(PRESETS[base].stage2[run])
    for name in (*STATED, "tokenizer"):
        del row[name]
    for name in MACHINE_ONLY:
        del row["schedule"][name]
    return row
