"""Train and measure one experiment; what is there already is left alone.

A run of the study is a folder like any other (``runs/study/HASH``), whose checkpoint holds the trained part alone: a
model with a fusion that only the study has cannot be saved as an ``AutoencoderDRoRAE``. Its numbers stand beside it.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor, nn

from drorae import AutoencoderDRoRAE
from drorae.checkpoints import CheckpointError, read_weights
from drorae.devices import best_device
from train.data.held_out import ValidationPhotos
from train.engine.legs import LEG, find_leg, load_strictly
from train.engine.run_folder import CHECKPOINT, LOG, RECORD, STATE, is_finished
from train.engine.session import VALIDATION_PHOTOS, load_validation, train, with_arguments
from train.errors import RunError, writing
from train.evaluate import LatentDiagnostics, Measure, choose_metrics
from train.experiments.experiment import AGAIN, DECODER, FINETUNE, JOINT, Experiment
from train.experiments.fusions import build_choice
from train.presets import PRESETS
from train.settings import Stage1Preset
from train.stage1 import build_task, load_run
from train.tasks.reconstruction import Reconstruction

TRAINED, RESULT = "trained.safetensors", "result.json"
BATCH, NEVER = 32, ("vgg11",)  # the loss is not among the judges
ROUTE = "route"


class StudyTask(Reconstruction):
    """A phase of the study. Its checkpoint is the trained part alone.

    Args:
        joint: the decoder trains along with the fusion; in one process only.
    """

    def __init__(
        self,
        model: AutoencoderDRoRAE,
        row: Stage1Preset,
        weights: Path,
        validation: ValidationPhotos | None,
        joint: bool = False,
    ):
        super().__init__(model, row, weights, validation)
        self.joint = joint
        if joint:
            model.decoder.requires_grad_(True)
            self.trainable = nn.ModuleDict({"fusion": model.fusion_module, "decoder": model.decoder})

    def use(self, trainable: nn.Module, discriminator: nn.Module | None) -> None:
        """See :meth:`train.engine.task.Task.use`."""
        if not self.joint:  # whose two parts stay where they are
            super().use(trainable, discriminator)

    def export(self, folder: Path) -> None:
        """See :meth:`train.engine.task.Task.export`."""
        save_file({k: v.contiguous().cpu() for k, v in self.trainable.state_dict().items()}, folder / TRAINED)


class StudyMeasure(Measure):
    """A :class:`~train.evaluate.Measure` for many runs on the same photos, whose features are computed once."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.known: list[dict[str, Tensor]] = []
        self.turn = 0

    def begin(self) -> None:
        """Forget what was measured, keep the originals' features."""
        self.scores, self.frechet, self.turn = {}, {}, 0

    def features_of_originals(self, images: Tensor) -> dict[str, Tensor]:
        """Features of images (B, 3, H, W) in [0, 1], by name, (B, D) each."""
        if self.turn == len(self.known):
            self.known.append(super().features_of_originals(images))
        self.turn += 1
        return self.known[self.turn - 1]


def folder_of(out: Path, experiment: Experiment) -> Path:
    """Where a run is kept."""
    return out / experiment.base / experiment.hash


def read_result(out: Path, experiment: Experiment) -> dict[str, Any] | None:
    """What was measured of an experiment; ``None`` before that.

    Raises:
        RunError: the file cannot be read.
    """
    file = folder_of(out, experiment) / RESULT
    if not file.is_file():
        return None
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
        return {**result, "numbers": dict(result["numbers"])}
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"'{file}' cannot be read; remove it, and the run is measured again.") from error


def hash_weights(*networks: nn.Module) -> str:
    """A hash of all weights of some networks."""
    digest = hashlib.sha256()
    for network in networks:
        for name, value in network.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


class Study:
    """Runs experiments with the options of the command line, one after the other.

    Args:
        args: as ``add_data_arguments`` and ``add_run_arguments`` have them, ``limit`` (validation photos) and ``rfid``.
    """

    def __init__(self, args: argparse.Namespace):
        self.args, self.device = args, best_device()
        self.judges: dict[str, StudyMeasure] = {}
        self.photos: dict[str, ValidationPhotos] = {}
        self.origins: dict[str, dict[str, str]] = {}

    def run(self, experiment: Experiment) -> dict[str, Any]:
        """Train an experiment where that has not been done, measure it where that has not been done: its result.

        Raises:
            RunError: its result is of other weights than those that phase 1 has now.
            CheckpointError: phase 1, or the run it goes on from, is not there.
        """
        one = experiment.canonical
        self.train_decoder(one.base)
        folder = folder_of(self.args.out, one)
        if one.trains and not is_finished(folder):
            row = with_arguments(one.row(), self.args)
            choice = {"experiment": dataclasses.asdict(one), "model": PRESETS[one.base].model}

            def build(_: Accelerator) -> StudyTask:
                limit = min(VALIDATION_PHOTOS, self.args.limit or VALIDATION_PHOTOS)
                size = self.held_out(one.base).size
                return self.build(one, row, load_validation(self.args, size, limit=limit))

            train(self.args_of(one.base), f"train.study ({one.hash})", one.hash, choice, row, build)
        task = self.load(one)
        origin = self.origin(one.base)
        result = read_result(self.args.out, one)
        if result is not None and {name: result.get(name) for name in origin} != origin:
            raise RunError(
                f"{folder} was trained upon another phase 1 ({result.get('encoder')}, {result.get('decoder')}) than "
                f"the one that is there ({origin['encoder']}, {origin['decoder']}); give another --out, or remove it."
            )
        protocol = self.protocol(one.base)
        if result is None or not self.fits(result):
            started = time.monotonic()
            numbers = self.measure(task, one.base)
            spent = {"measuring_seconds": round(time.monotonic() - started, 1)}
            parameters = sum(p.numel() for p in task.trainable.parameters()) if one.trains else 0
            result = {"experiment": dataclasses.asdict(one), "parameters": parameters, **origin, **protocol, **spent}
            result |= {**_history(folder), "numbers": numbers}
            write_json(folder / RESULT, result)
        remove_state(folder)
        return result

    def train_decoder(self, base: str) -> None:
        """Train phase 1 of a base, where it is not there; it goes on from its leg, where there is one."""
        preset, args = PRESETS[base], self.args_of(base)
        if is_finished(self.args.out / base / DECODER):
            return
        row = with_arguments(preset.stage1[DECODER], args)
        command = f"train.stage1 --preset {base} --phase {DECODER}"
        train(args, command, DECODER, preset.model, row, lambda _: build_task(args, preset, row))

    def phase1(self, base: str) -> AutoencoderDRoRAE:
        """The autoencoder that all experiments of a base begin with."""
        args = self.args
        return load_run(PRESETS[base], f"{base}/{DECODER}", DECODER, args.out, args.legs, args.weights)

    def origin(self, base: str) -> dict[str, str]:
        """Hashes of the frozen weights that all experiments of a base begin with."""
        if base not in self.origins:
            model = self.phase1(base)
            self.origins[base] = {"encoder": hash_weights(model.encoder), "decoder": hash_weights(model.decoder)}
        return self.origins[base]

    def load(self, experiment: Experiment) -> StudyTask:
        """The task of an experiment as it was trained."""
        one = experiment.canonical
        task = self.build(one, one.row(), None)
        if one.trains:
            file = folder_of(self.args.out, one) / CHECKPOINT / TRAINED
            load_strictly(task.trainable, read_weights(file), file)
        return task

    def build(self, experiment: Experiment, row: Stage1Preset, validation: ValidationPhotos | None) -> StudyTask:
        """The task of an experiment as it starts."""
        one = experiment.canonical
        model = self.phase1(one.base)
        torch.manual_seed(one.seed)
        if one.phase == AGAIN:  # as phase 1 begins: a fresh decoder after the encoder
            fresh = AutoencoderDRoRAE(**{**PRESETS[one.base].model, "fusion": None})
            fresh.encoder = model.encoder
            model = fresh
        if one.fusion is not None:
            encoder = model.encoder
            model.fusion_module = build_choice(one.fusion, encoder.num_layers, encoder.dim, encoder.norm_eps)
        if one.phase == FINETUNE:
            weights, file = self.trained_fusion(one)
            load_strictly(model.fusion_module, weights, file)
            model.add_finetuned_decoder()
        return StudyTask(model, row, self.args.weights, validation, joint=one.phase == JOINT)

    def trained_fusion(self, experiment: Experiment) -> tuple[dict[str, Tensor], Path]:
        """The fusion that phase 3 goes on from, and where it was found."""
        before = experiment.before
        assert before is not None, "only phase 3 goes on from another run"
        file = folder_of(self.args.out, before) / CHECKPOINT / TRAINED
        leg = None if file.is_file() else find_leg(self.args.legs, before.base, before.hash)
        if leg is None and not file.is_file():
            raise CheckpointError(f"'{file}', which phase 3 goes on from, is not there; run 'default' first.")
        return (read_weights(file), file) if leg is None else (leg.weights, leg.file)

    def held_out(self, base: str) -> ValidationPhotos:
        """The photos that a base is measured on."""
        if base not in self.photos:
            size = self.phase1(base).image_size
            self.photos[base] = load_validation(self.args, size, limit=self.args.limit)
        return self.photos[base]

    def protocol(self, base: str) -> dict[str, Any]:
        """What is measured, on what."""
        photos = self.held_out(base)
        return {
            "validation": Path(self.args.validation).name,
            "photos": len(photos),
            "size": photos.size,
            "metrics": list(self.metrics(len(photos))),
        }

    def fits(self, result: dict[str, Any]) -> bool:
        """Whether an experiment was measured on the photos of this call, by its metrics or more."""
        protocol = self.protocol(result["experiment"]["base"])
        wanted, measured = set(protocol.pop("metrics")), set(result.get("metrics", ()))
        return wanted <= measured and {name: result.get(name) for name in protocol} == protocol

    def metrics(self, photos: int) -> tuple[str, ...]:
        """Names out of :data:`train.evaluate.METRICS`."""
        chosen, _ = choose_metrics(None, self.args.weights, photos)
        asked, _ = choose_metrics(["rfid"], self.args.weights, photos) if self.args.rfid else ((), {})
        return tuple(name for name in (*chosen, *asked) if name not in NEVER)

    def judge(self, base: str) -> StudyMeasure:
        """What measures all runs of a base."""
        if base not in self.judges:
            metrics = self.metrics(len(self.held_out(base)))
            self.judges[base] = StudyMeasure(metrics, self.args.weights, str(self.device))
        return self.judges[base]

    @torch.inference_mode()
    def measure(self, task: StudyTask, base: str) -> dict[str, float]:
        """PSNR, distances and diagnostics of the latent on the held-out photos."""
        photos, task = self.held_out(base), task.to(self.device)
        judge, diagnostics, cosines = self.judge(base), LatentDiagnostics(), []
        judge.begin()
        task.eval()
        for images in photos.batches(BATCH):
            images = images.to(self.device)
            layers, grid = task.model.encoder(images), task.model.encoder.grid_of(images)
            last = task.model.fuse(layers, fusion=False).tokens
            fused = task.model.fuse(layers, return_routing=True) if task.fused and task.model.fusion_module else None
            tokens = last if fused is None else fused.tokens
            diagnostics.update(last, fused, grid)
            cosines.append(torch.cosine_similarity(tokens, last, dim=-1).mean(1).cpu())
            judge.update(images, [(ROUTE, task.paint(tokens, grid))], "round")
        latent = diagnostics.compute(photos.labels())
        side = "base" if "effective_rank_final" not in latent else "final"
        numbers = {"cosine_final_base": torch.cat(cosines).double().mean().item()}
        if "cosine_fused_base" in latent:
            numbers["cosine_fused_base"] = latent["cosine_fused_base"]
        for name in ("effective_rank", "high_frequency", "same_class"):
            if f"{name}_{side}" in latent:
                numbers[name] = latent[f"{name}_{side}"]
        return judge.compute()[ROUTE] | numbers

    def args_of(self, base: str) -> argparse.Namespace:
        """The options with the preset that :func:`train.engine.session.train` writes to, and no other start."""
        return argparse.Namespace(**{**vars(self.args), "preset": base, "start": None})


def remove_state(folder: Path) -> None:
    """Remove what a finished run needs no more: the state to go on from, its log of pictures, its leg."""
    for part in (STATE, f"{STATE}.old", f"{STATE}.new", "log"):
        shutil.rmtree(folder / part, ignore_errors=True)
    (folder / LEG).unlink(missing_ok=True)


def _history(folder: Path) -> dict[str, Any]:
    """What is known of a trained run: seconds, data, machines, precision."""
    log, record = folder / LOG, folder / RECORD
    if not log.is_file() or not record.is_file():
        return {"seconds": 0.0, "data": "", "devices": "", "precision": ""}
    run = json.loads(record.read_text(encoding="utf-8"))
    last = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
    return {
        "seconds": last["seconds"],
        "data": " ".join(f"{name}:{count}" for name, count in run["data"]),
        "devices": "; ".join(run["devices"]),
        "precision": run["settings"]["row"]["schedule"]["precision"],
    }


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write a file whole, or not at all."""
    with writing(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_suffix(".new")
        fresh.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        fresh.replace(file)
