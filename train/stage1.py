"""Train the tokenizer: ``python -m train.stage1 --preset tiny --phase decoder``, then ``fusion``, then ``finetune``.

==========  ==================  =====================  ===========================================
phase       trains              frozen                 reconstructs
==========  ==================  =====================  ===========================================
decoder     decoder             encoder                last layer -> original decoder (RAE)
fusion      fusion              encoder, decoder       fused layers -> original decoder, untouched
finetune    finetuned decoder   encoder, fusion        fused layers -> finetuned decoder
backbone    all of these        original decoder       fused layers -> finetuned decoder
==========  ==================  =====================  ===========================================

Phase ``backbone`` is a row of the paper's table 4, whose latent can hardly be generated; only its preset has it.
A preset whose fusion is the mean of layers has phase ``decoder`` alone, which then learns that mean.

Paper section 3.4 and appendix A. In phase ``fusion`` the gradient flows *through* the frozen decoder. Run the same
command again to continue a run that was stopped. ``--dry-run`` prints what would be done and what it needs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from drorae import AutoencoderDRoRAE
from drorae.checkpoints import DISCRIMINATOR, CheckpointError, read_weights
from drorae.pretrained.adapter import load_tokenizer
from train.encoder import student_weights
from train.engine.dry_run import describe
from train.engine.legs import find_leg, load_strictly
from train.engine.run_folder import CHECKPOINT
from train.engine.session import (
    VALIDATION_PHOTOS,
    add_data_arguments,
    add_dry_run_arguments,
    add_run_arguments,
    load_validation,
    main_guard,
    train,
    with_arguments,
)
from train.engine.task import PeriodicMeasure
from train.errors import RunError
from train.measure.while_training import add_rfid_arguments, build_rfid
from train.presets import PHASES, PRESETS
from train.settings import Preset, Stage1Preset
from train.tasks.backbones import build_pretrained, load_timm
from train.tasks.reconstruction import BACKBONE, Reconstruction, trained_part

ENCODER = "encoder"


def start_model(
    preset: Preset,
    phase: Stage1Preset,
    runs: Path,
    start: str | None,
    legs: Path | None = None,
    weights: Path | None = None,
) -> AutoencoderDRoRAE:
    """The autoencoder as this phase finds it: the checkpoint of the phase before, or the encoder alone.

    Args:
        start: a checkpoint folder or hub repository to start from instead, this project's or RAE's.
        legs: folder of legs, which stand in for runs that are not in ``runs``; they need not have come to their end.
        weights: folder of the preset's ``encoder_weights``, where it names some.

    Raises:
        CheckpointError: the run it starts from has not finished, or ``start`` or a leg cannot be used.
    """
    if start is not None:
        model = load_tokenizer(start)
    elif phase.starts_from == ENCODER and preset.encoder is None:
        model = load_encoder(preset, weights)
    else:
        model = load_run(preset, phase.starts_from, phase.phase, runs, legs, weights)
    if phase.phase == "decoder":
        if preset.model.get("fusion") == "mean":
            _add_fusion(model, preset)
        else:
            model.set_fusion(None)
        model.register_to_config(base_model=None, base_revision=None)  # the decoder is no longer the published one
    elif phase.phase == "fusion":
        _add_fusion(model, preset)
    else:
        if model.fusion_module is None:
            raise CheckpointError(f"phase '{phase.phase}' needs a trained fusion, and '{start}' has none.")
        model.add_finetuned_decoder()
        if phase.phase == BACKBONE:
            model.register_to_config(base_model=None, base_revision=None)  # the encoder is no longer the published one
    return model


def load_encoder(preset: Preset, weights: Path | None) -> AutoencoderDRoRAE:
    """The autoencoder with timm's weights in its encoder and a fresh decoder: those that the preset names in the folder
    ``weights``, or the hub's.

    Raises:
        FileNotFoundError: the file is not there.
        CheckpointError: the hub cannot be reached.
    """
    model = AutoencoderDRoRAE(**{**preset.model, "fusion": None})
    name, arguments = model.config.encoder_name, dict(model.encoder.arguments)
    if preset.encoder_weights is None:
        source = build_pretrained(name, **arguments)
    else:
        source = load_timm(name, preset.encoder_weights, weights or Path(), **arguments)
    load_strictly(model.encoder.model, student_weights(source.state_dict()), Path(preset.encoder_weights or name))
    return model


def load_run(
    preset: Preset, run: str, phase: str, runs: Path, legs: Path | None, weights: Path | None = None
) -> AutoencoderDRoRAE:
    """The autoencoder that ``run`` ("tiny/fusion") left: its checkpoint, or the one before it with the run's leg.
    ``weights`` as in :func:`start_model`."""
    folder, (row, name) = runs / run / CHECKPOINT, run.split("/")
    leg = None if folder.is_dir() else find_leg(legs, row, name)
    if leg is None and not folder.is_dir():
        also = f" (nor is there a leg in '{legs}')" if legs else ""
        raise CheckpointError(f"phase '{phase}' starts from '{folder}', which is not there{also}; run that first.")
    if name == ENCODER:
        model = AutoencoderDRoRAE(**{**preset.model, "fusion": None})
        trained = read_weights(folder / "model.safetensors") if leg is None else student_weights(leg.weights)
        load_strictly(model.encoder.model, trained, folder if leg is None else leg.file)
        return model
    if leg is None:
        return AutoencoderDRoRAE.from_pretrained(folder)
    start = preset.stage1[name].starts_from
    first = start == ENCODER
    model = load_encoder(preset, weights) if first else load_run(preset, start, phase, runs, legs, weights)
    if name == "fusion":
        _add_fusion(model, preset)
    elif name in ("finetune", BACKBONE):
        model.add_finetuned_decoder()
    load_strictly(trained_part(model, name), leg.weights, leg.file)
    model.encoder.freeze()
    return model.eval()


def _add_fusion(model: AutoencoderDRoRAE, preset: Preset) -> None:
    """A fresh fusion as the preset has it."""
    fusion = {key.removeprefix("fusion_"): value for key, value in preset.model.items() if key.startswith("fusion")}
    model.set_fusion(**fusion)


def load_heads(run: str, phase: str, runs: Path, legs: Path | None) -> dict[str, Tensor]:
    """The discriminator's heads that ``run`` left."""
    file = runs / run / CHECKPOINT / DISCRIMINATOR
    leg = None if file.is_file() else find_leg(legs, *run.split("/"))
    if leg is None and not file.is_file():
        raise CheckpointError(f"phase '{phase}' goes on with the discriminator of '{run}', which is not there.")
    return read_weights(file) if leg is None else leg.adversary


def build_task(args: argparse.Namespace, preset: Preset, phase: Stage1Preset) -> Reconstruction:
    """The autoencoder as the phase finds it with the phase's loss, and held-out photos."""
    torch.manual_seed(phase.schedule.seed)
    model = start_model(preset, phase, args.out, args.start, args.legs, args.weights)
    validation = load_validation(args, phase.validation_side or model.image_size, limit=VALIDATION_PHOTOS)
    task = Reconstruction(model, phase, args.weights, validation)
    continues = phase.adversary.continues if phase.adversary else None
    if task.adversary is not None and continues is not None:
        load_strictly(task.adversary, load_heads(continues, phase.phase, args.out, args.legs), args.out / continues)
    return task


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=PRESETS, required=True, help="preset whose recipe is followed")
    parser.add_argument("--phase", choices=(*PHASES, BACKBONE), required=True, help="phase to train")
    parser.add_argument("--start", help="checkpoint or hub id (also RAE's; id@revision) to start from")
    add_dry_run_arguments(parser)
    add_data_arguments(parser)
    add_run_arguments(parser)
    add_rfid_arguments(parser)
    args = parser.parse_args(argv)
    preset = PRESETS[args.preset]
    if args.phase not in preset.stage1:
        has = ", ".join(preset.stage1) or "none here; its runs are train.stage2's"
        raise RunError(f"preset '{args.preset}' has no phase '{args.phase}'; it has {has}.")
    phase = with_arguments(preset.stage1[args.phase], args)
    if args.dry_run:
        print(describe(args.preset, preset, phase, args.processes))
        return

    def build(accelerator: Accelerator) -> Reconstruction:
        return build_task(args, preset, phase)

    def observe(task: Reconstruction, accelerator: Accelerator) -> PeriodicMeasure:
        return build_rfid(args, task.held_out.size, accelerator)

    start = f" --start {args.start}" if args.start else ""
    command = f"train.stage1 --preset {args.preset} --phase {args.phase}{start}"
    train(args, command, args.phase, preset.model, phase, build, observe=observe if args.rfid_every else None)


if __name__ == "__main__":
    main_guard(main)
