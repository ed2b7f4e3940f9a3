"""What the study measures beyond reconstruction: how hard a latent is to learn, and what decoders make of one set of
samples. Both stand beside the run they belong to, with what they were measured by."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from drorae import DiTDH, LatentStatistics
from drorae.checkpoints import read_weights
from drorae.pipelines import flow
from drorae.pipelines.guidance import Unguided
from train.data.held_out import ValidationPhotos, load_held_out
from train.data.latent_cache import LatentPositions
from train.data.sources import class_names, load_photos
from train.dit_probe import statistics_of
from train.engine.run_folder import CHECKPOINT, is_finished
from train.engine.session import load_validation, train, with_arguments
from train.errors import RunError, writing
from train.evaluate import FEATURES, quantize
from train.experiments.experiment import (
    AGAIN,
    DECODER,
    PROBE_RUN,
    RAE,
    SAMPLER,
    SAMPLER_RUN,
    Experiment,
    denoiser_recipe,
)
from train.experiments.rows import base_of
from train.experiments.running import BATCH, Study, StudyTask, folder_of, remove_state, write_json
from train.measure.diffusability import measure_latents
from train.measure.frechet import FrechetDistance
from train.measure.intervals import GROUPS, Interval, class_groups, grouped_jackknife
from train.measure.latent_sources import ONLY, LatentSource, encode_photos
from train.measure.probe import LabelledLatents, probe_errors
from train.presets import PRESETS
from train.stage2 import VALIDATION_PHOTOS, class_condition, load_latents
from train.tasks.generation import FlowMatching

LATENT_FILE, SAMPLES_FILE = "diffusability.json", "samples.json"
DENOISER, STATISTICS, SAMPLES = "denoiser", "statistics.safetensors", "samples.safetensors"
STEPS, SEED = 50, 0  # of the sampler, and of its first sample
JUDGE = "fd-mobilenetv2"
OF_LATENT = ("viv", "variance_within", "covariance_rank", "same_class_5", "energy_25", "energy_50", "probe")
ENDS = ("", "_low", "_high")
OF_SAMPLES = tuple(
    f"{name}{end}" for name in ("samples_fd", "samples_difference", "rebuilt_difference") for end in ENDS
)
PROTOCOL = ("validation", "photos", "size")  # as those of the result beside it


def read_more(out: Path, experiment: Experiment, result: dict[str, Any]) -> dict[str, Any]:
    """What was measured of an experiment's latent and decoder, by column; nothing of what was measured on other photos
    than its ``result``.

    Raises:
        RunError: a file cannot be read.
    """
    found: dict[str, Any] = {}
    for file in (folder_of(out, experiment.latent) / LATENT_FILE, folder_of(out, experiment.canonical) / SAMPLES_FILE):
        content = _read(file)
        if content is not None and all(content["protocol"].get(name) == result.get(name) for name in PROTOCOL):
            found |= content["protocol"] | content["numbers"]
    return found


def _read(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {"protocol": dict(content["protocol"]), "numbers": dict(content["numbers"])}
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"'{file}' cannot be read; remove it, and what it holds is measured again.") from error


class SamplerTask(FlowMatching):
    """The denoiser of the last layer's latent. Its checkpoint is the network and the statistics of the latent."""

    def export(self, folder: Path) -> None:
        assert self.statistics is not None, "a sampler is trained on normalised latents"
        self.condition.denoiser.save_pretrained(folder / DENOISER)
        state = {name: value.cpu().contiguous() for name, value in self.statistics.state_dict().items()}
        save_file(state, folder / STATISTICS)


class GenerationMeasure:
    """Measures runs of a :class:`~train.experiments.running.Study` that are finished."""

    def __init__(self, study: Study):
        self.study = study
        self.painted: dict[str, tuple[Tensor, Tensor]] = {}  # by base, of the original decoder: of samples and photos
        self.distances: dict[tuple[str, bytes], float] = {}

    def measure(self, experiment: Experiment) -> dict[str, Any]:
        """Measure what there is to measure of an experiment and has not been measured: its numbers by column.

        Raises:
            RunError: training data or photos without classes, streamed data.
        """
        one = experiment.canonical
        numbers = self.measure_latent(one.latent)
        alone = one.phase in (RAE, AGAIN) or (one.phase == DECODER and one.fusion is None)
        if alone and JUDGE in self.study.metrics(len(self.study.held_out(one.base))):
            numbers |= self.measure_samples(one)
        return numbers

    # ---- the latent -----------------------------------------------------------------------------------------------

    def measure_latent(self, experiment: Experiment) -> dict[str, float]:
        """How hard a latent is to learn: VIV and what stands beside it, and the probe's loss."""
        one, study = experiment, self.study
        photos, row = study.held_out(one.base), self.probe_row(one.base)
        learned = load_held_out(self.labelled_data(one.base), "train", photos.size, base_of(one.base).learned)
        protocol = self.protocol(one.base) | {"learned": len(learned), "data": Path(self.labelled_data(one.base)).name}
        protocol |= {"probe_recipe": _digest(denoiser_recipe(one.base, PROBE_RUN))}
        file = folder_of(study.args.out, one) / LATENT_FILE
        content = _read(file)
        if content is None or content["protocol"] != protocol:
            task = study.load(one) if one.phase != DECODER else study.build(one, one.row(), None)
            source = LatentSource(f"{one.base}/{one.hash}", photos.size, _encoder_of(task.to(study.device).eval()))
            held_out = encode_photos(source, photos, BATCH)[ONLY]
            numbers = {name: number.value for name, number in measure_latents(held_out, intervals=False).items()}
            training = encode_photos(source, learned, BATCH)[ONLY]
            numbers["probe"] = self.probe(training, held_out, row, one)
            content = {"protocol": protocol, "numbers": {k: numbers[k] for k in OF_LATENT if k in numbers}}
            write_json(file, content)
        return content["numbers"]

    def probe(self, training: LabelledLatents, held_out: LabelledLatents, row: Any, one: Experiment) -> float:
        """The probe's loss, from the same start for all latents."""
        errors = probe_errors(training, held_out, row, self.study.device, f"probe {one.hash}")
        return errors.double().mean().item()

    def probe_row(self, base: str) -> Any:
        return with_arguments(PRESETS[base].stage2[PROBE_RUN], self.study.args)

    def protocol(self, base: str) -> dict[str, Any]:
        """The photos that all is measured on, as a result has them."""
        return {name: value for name, value in self.study.protocol(base).items() if name in PROTOCOL}

    def labelled_data(self, base: str) -> str:
        """The first of ``--data`` whose pictures have classes.

        Raises:
            RunError: there is none, or it is streamed.
        """
        if self.study.args.stream:
            raise RunError("--stream: the probe and the sampler read latents many times; give a copy of the data.")
        for path in self.study.args.data:
            if class_names([load_photos(path, "train")]):
                return path
        raise RunError(
            "--data: the rows of 'generation' train denoisers of classes, and no source has class numbers; give one "
            "with classes, or leave that table out."
        )

    # ---- the decoders ---------------------------------------------------------------------------------------------

    def sampler(self, base: str) -> Experiment:
        """The denoiser whose samples all decoders of a base paint."""
        schedule = PRESETS[base].stage2[SAMPLER_RUN].schedule
        return Experiment(base, SAMPLER, None, schedule.steps * schedule.batch_size, schedule.seed)

    def train_sampler(self, base: str) -> Path:
        """Train the denoiser where it is not there: the folder of its checkpoint."""
        study, one = self.study, self.sampler(base)
        folder = folder_of(study.args.out, one)
        if not is_finished(folder):
            args = argparse.Namespace(**{**vars(study.args_of(base)), "data": [self.labelled_data(base)]})
            args = argparse.Namespace(**{**vars(args), "shares": None, "no_cache": False, "classes": None})
            row = with_arguments(PRESETS[base].stage2[SAMPLER_RUN], args)
            model = study.phase1(base)
            model.statistics = None
            condition = class_condition(args, model, row)
            accelerator = Accelerator(mixed_precision=row.schedule.precision)
            positions = load_latents(args, model.to(accelerator.device), row, accelerator, fused=False)
            assert isinstance(positions, LatentPositions), "the sampler always keeps its latents"
            statistics = statistics_of(positions.latents, positions.whole).to(accelerator.device)

            def build(_: Accelerator) -> SamplerTask:
                limit = min(VALIDATION_PHOTOS, study.args.limit or VALIDATION_PHOTOS)
                validation = load_validation(args, model.image_size, limit=limit, crop="adm")
                return SamplerTask(model, condition, row, statistics, validation, base, fused=False)

            choice = {"experiment": dataclasses.asdict(one), "denoiser": row.denoiser}
            train(args, f"train.study ({one.hash})", one.hash, choice, row, build, lambda task, accelerator: positions)
            remove_state(folder)
        return folder / CHECKPOINT

    def samples(self, base: str) -> tuple[Tensor, Tensor]:
        """The fixed set of samples: latents (n, C, h, w) of the last layer, as a decoder takes them, and their classes,
        (n,): class i mod K of noise from seed i, without guidance. They are drawn once and kept."""
        folder, count = self.train_sampler(base), base_of(base).samples
        file = folder.parent / SAMPLES
        if file.is_file():
            kept = read_weights(file, only_floats=False)
            if len(kept["latents"]) == count:
                return kept["latents"].float(), kept["labels"]
        denoiser = DiTDH.from_pretrained(folder / DENOISER).to(self.study.device)
        state = read_weights(folder / STATISTICS)
        mean, std = state["mean"], state["std"]
        shape = (std.shape[0], std.shape[1], std.shape[2])
        statistics = LatentStatistics.of(shape, std, mean).to(self.study.device)
        labels = torch.arange(count) % denoiser.config.num_classes
        drawn = []
        with torch.inference_mode(), tqdm(total=count, desc=f"samples of {base}") as bar:
            for rows in torch.arange(count).split(BATCH):
                generators = [torch.Generator().manual_seed(SEED + int(row)) for row in rows]
                noise = flow.draw_noise(generators, shape, self.study.device)
                scheduler = flow.start(flow.build_scheduler(*shape), STEPS, self.study.device)
                velocity = Unguided(denoiser, {"class_labels": labels[rows].to(self.study.device)})
                *_, last = flow.sample(velocity, noise, scheduler)
                drawn.append(statistics.denormalize(last.latents).half().cpu())
                bar.update(len(rows))
        fresh = file.with_suffix(".new")
        latents = torch.cat(drawn)
        with writing(folder):
            save_file({"latents": latents, "labels": labels}, fresh)
            fresh.replace(file)
        return latents.float(), labels

    def measure_samples(self, one: Experiment) -> dict[str, float]:
        """The same samples, and the held-out photos, through an experiment's decoder: the Frechet distance of what it
        paints to the photos, and what it is above that of phase 1, paired."""
        study, base = self.study, base_of(one.base)
        folder = folder_of(study.args.out, one)
        protocol = self.protocol(one.base) | {"sampler": self.sampler(one.base).hash, "samples": base.samples}
        protocol |= {"steps": STEPS, "seed": SEED}
        content = _read(folder / SAMPLES_FILE)
        if content is None or content["protocol"] != protocol:
            latents, labels = self.samples(one.base)
            original = self.features(Experiment(one.base, RAE, None, 0), latents)
            own = original if one.phase == RAE else self.features(one, latents)
            real, classes = self.real_features(one.base)
            numbers = self.compare(one, own, original, real, (labels, classes))
            content = {"protocol": protocol, "numbers": numbers}
            write_json(folder / SAMPLES_FILE, content)
        return content["numbers"]

    def compare(
        self,
        one: Experiment,
        own: tuple[Tensor, Tensor],
        original: tuple[Tensor, Tensor],
        real: Tensor,
        labels: tuple[Tensor, Tensor],
    ) -> dict[str, float]:
        """Distances of painted samples and rebuilt photos to ``real`` photos, (M, D) features each, with intervals:
        groups of samples, or of photos, are left out of both decoders' pictures alike."""

        def of_samples(there: np.ndarray) -> tuple[float, ...]:
            some = torch.from_numpy(there)
            usual = self.original_distance(f"{one.base} samples", there, real, original[0][some])
            mine = usual if one.phase == RAE else frechet(real, own[0][some])
            return mine, mine - usual

        def of_photos(there: np.ndarray) -> tuple[float, ...]:
            some = torch.from_numpy(there)
            mine = frechet(real[some], own[1][some])
            return (mine - self.original_distance(f"{one.base} photos", there, real[some], original[1][some]),)

        found = grouped_jackknife(of_samples, self.groups(labels[0]))
        names = ["samples_fd"]
        if one.phase != RAE:
            found += grouped_jackknife(of_photos, self.groups(labels[1]))
            names += ["samples_difference", "rebuilt_difference"]
        numbers: dict[str, float] = {}
        for name, interval in zip(names, found, strict=False):
            numbers |= _columns(name, interval)
        return numbers

    def original_distance(self, what: str, there: np.ndarray, real: Tensor, features: Tensor) -> float:
        """The distance of the original decoder's pictures, which every other one is compared with; computed once."""
        key = (what, there.tobytes())
        if key not in self.distances:
            self.distances[key] = frechet(real, features)
        return self.distances[key]

    def groups(self, labels: Tensor) -> np.ndarray:
        """Groups to leave out; one alone, which gives no interval, where the rest would be too few for a distance."""
        left = len(labels) - int(np.bincount(class_groups(labels.tolist())).max())
        return class_groups(labels.tolist(), GROUPS if left > FEATURES[JUDGE] else 1)

    def features(self, one: Experiment, latents: Tensor) -> tuple[Tensor, Tensor]:
        """What the judge sees of the samples, and of the held-out photos, as an experiment's decoder paints them."""
        if one.phase == RAE and one.base in self.painted:
            return self.painted[one.base]
        study = self.study
        task = study.load(one).to(study.device).eval()
        found: tuple[list[Tensor], list[Tensor]] = ([], [])
        photos = study.held_out(one.base)
        with torch.inference_mode(), tqdm(total=len(latents) + len(photos), desc=f"pictures of {one.hash}") as bar:
            for part in latents.split(BATCH):
                grid = (part.shape[2], part.shape[3])
                found[0].append(self.look(one.base, task.paint(part.flatten(2).mT.to(study.device), grid)))
                bar.update(len(part))
            for images in photos.batches(BATCH):
                images = images.to(study.device)
                tokens = task.model.fuse(task.model.encoder(images), fusion=False).tokens
                found[1].append(self.look(one.base, task.paint(tokens, task.model.encoder.grid_of(images))))
                bar.update(len(images))
        painted = torch.cat(found[0]), torch.cat(found[1])
        if one.phase == RAE:
            self.painted[one.base] = painted
        return painted

    def real_features(self, base: str) -> tuple[Tensor, Tensor]:
        """What the judge sees of the held-out photos, (M, D), and their classes."""
        photos: ValidationPhotos = self.study.held_out(base)
        with torch.inference_mode():
            seen = torch.cat([self.look(base, images) for images in photos.batches(BATCH)])
        labels = photos.labels()
        return seen, torch.zeros(len(seen), dtype=torch.long) if labels is None else labels

    def look(self, base: str, pictures: Tensor) -> Tensor:
        """Features (B, D) of pictures as 8-bit files would hold them."""
        return self.study.judge(base).features(JUDGE, quantize(pictures.to(self.study.device), "round")).cpu()


def frechet(real: Tensor, others: Tensor) -> float:
    """Frechet distance of two sets of features, (n, D) and (m, D)."""
    distance = FrechetDistance(real.shape[1])
    distance.update(real, others)
    return distance.compute()


def _encoder_of(task: StudyTask):
    """The latent of a run's route, as :class:`~train.measure.latent_sources.LatentSource` has it."""
    model = task.model

    @torch.inference_mode()
    def encode(images: Tensor) -> dict[str, Tensor]:
        images = images.to(model.device)
        tokens = model.fuse(model.encoder(images), task.fused).tokens
        return {ONLY: tokens.mT.unflatten(2, model.encoder.grid_of(images))}

    return encode


def _columns(name: str, interval: Interval) -> dict[str, float]:
    values = dict(zip(ENDS, interval, strict=True))
    return {f"{name}{end}": value for end, value in values.items() if value is not None}


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
