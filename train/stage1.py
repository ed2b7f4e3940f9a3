"""Train the tokenizer: ``python -m train.stage1 --preset tiny --phase decoder``, then ``fusion``, then ``finetune``.

==========  ==================  =====================  ===========================================
phase       trains              frozen                 reconstructs
==========  ==================  =====================  ===========================================
decoder     decoder             encoder                last layer -> original decoder (RAE)
fusion      fusion              encoder, decoder       fused layers -> original decoder, untouched
finetune    finetuned decoder   encoder, fusion        fused layers -> finetuned decoder
==========  ==================  =====================  ===========================================

Paper section 3.4 and appendix A. In phase ``fusion`` the gradient flows *through* the frozen decoder. Run the same
command again to continue a run that was stopped. ``--dry-run`` prints what would be done and what it needs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn

from drorae import AutoencoderDRoRAE
from drorae.adapter import load_tokenizer
from drorae.checkpoints import DISCRIMINATOR, CheckpointError
from train.arguments import (
    add_data_arguments,
    add_run_arguments,
    load_validation,
    main_guard,
    train,
    with_arguments,
)
from train.backbones import pretrained
from train.dry_run import describe
from train.presets import PHASES, PRESETS
from train.reconstruction import Reconstruction
from train.run import CHECKPOINT
from train.settings import Preset, Stage1Preset

ENCODER = "encoder"


def start_model(preset: Preset, phase: Stage1Preset, runs: Path, start: str | None) -> AutoencoderDRoRAE:
    """The autoencoder as this phase finds it: the checkpoint of the phase before, or the encoder alone.

    Args:
        start: a checkpoint folder or hub repository to start from instead, this project's or RAE's.

    Raises:
        CheckpointError: the run it starts from has not finished, or ``start`` cannot be used.
    """
    rae = {**preset.model, "fusion": None}
    if start is not None:
        model = load_tokenizer(start)
    elif phase.starts_from == ENCODER and preset.encoder is None:
        model = AutoencoderDRoRAE(**rae)
        source = pretrained(model.config.encoder_name, **model.encoder.arguments)
        source.norm = nn.Identity()  # LN_bb has no affine
        model.encoder.model.load_state_dict(source.state_dict(), strict=True)
    else:
        before = _finished(runs, phase.starts_from, phase.phase)
        if phase.starts_from.endswith(ENCODER):
            model = AutoencoderDRoRAE(**rae)
            model.encoder.model.load_state_dict(load_file(before / "model.safetensors"), strict=True)
        else:
            model = AutoencoderDRoRAE.from_pretrained(before)
    if phase.phase == "decoder":
        model.set_fusion(None)
        model.register_to_config(base_model=None, base_revision=None)  # the decoder is no longer the published one
    elif phase.phase == "fusion":
        fusion = {key.removeprefix("fusion_"): value for key, value in preset.model.items() if key.startswith("fusion")}
        model.set_fusion(**fusion)
    else:
        if model.fusion_module is None:
            raise CheckpointError(f"phase 'finetune' needs a trained fusion, and '{start}' has none.")
        model.add_finetuned_decoder()
    return model


def _finished(runs: Path, name: str, phase: str) -> Path:
    folder = runs / name / CHECKPOINT
    if not folder.is_dir():
        raise CheckpointError(f"phase '{phase}' starts from '{folder}', which is not there; run that first.")
    return folder


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=PRESETS, required=True)
    parser.add_argument("--phase", choices=PHASES, required=True)
    parser.add_argument("--start", help="checkpoint or hub id (also RAE's; id@revision) to start from")
    parser.add_argument("--dry-run", action="store_true", help="print configuration, sizes and cost, and do nothing")
    parser.add_argument("--processes", type=int, default=8, help="GPUs that --dry-run counts with (default: 8)")
    add_data_arguments(parser)
    add_run_arguments(parser)
    args = parser.parse_args(argv)
    preset = PRESETS[args.preset]
    phase = with_arguments(preset.stage1[args.phase], args)
    if args.dry_run:
        print(describe(args.preset, preset, phase, args.processes))
        return

    def build(accelerator: Accelerator) -> Reconstruction:
        torch.manual_seed(phase.schedule.seed)
        model = start_model(preset, phase, args.out, args.start)
        validation = load_validation(args, model.image_size, limit=256)
        task = Reconstruction(model, phase, args.weights, validation)
        if task.adversary is not None and phase.adversary.continues is not None:
            heads = _finished(args.out, phase.adversary.continues, args.phase) / DISCRIMINATOR
            task.adversary.load_state_dict(load_file(heads), strict=True)
        return task

    start = f" --start {args.start}" if args.start else ""
    command = f"train.stage1 --preset {args.preset} --phase {args.phase}{start}"
    train(args, command, args.phase, preset.model, phase, build)


if __name__ == "__main__":
    main_guard(main)
