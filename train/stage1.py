"""Train the tokenizer: ``python -m train.stage1 --preset tiny --phase decoder``, then ``fusion``, then ``finetune``.

==========  ==================  =====================  ===========================================
phase       trains              frozen                 reconstructs
==========  ==================  =====================  ===========================================
decoder     decoder             encoder                last layer -> original decoder (RAE)
fusion      fusion              encoder, decoder       fused layers -> original decoder, untouched
finetune    finetuned decoder   encoder, fusion        fused layers -> finetuned decoder
==========  ==================  =====================  ===========================================

Paper section 3.4 and appendix A. In phase ``fusion`` the gradient flows *through* the frozen decoder. Run the same
command again to continue a run that was stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from drorae import AutoencoderDRoRAE
from drorae.checkpoints import CheckpointError
from drorae.decoder import decode_tokens
from drorae.metrics import psnr, ssim
from train.arguments import add_data_arguments, load_positions, load_validation, main_guard, record_run
from train.losses import VGG11Perceptual
from train.presets import PHASES, PRESETS, Preset, Stage1Preset
from train.run import CHECKPOINT, fit

TRAINED_PART = {"decoder": "decoder", "fusion": "fusion_module", "finetune": "decoder_finetuned"}


def start_model(preset: Preset, phase: Stage1Preset, runs: Path) -> AutoencoderDRoRAE:
    """The autoencoder as this phase finds it: the checkpoint of the phase before, or the encoder alone.

    Raises:
        CheckpointError: the run it starts from has not finished.
    """
    before = runs / phase.starts_from / CHECKPOINT
    if not before.is_dir():
        raise CheckpointError(f"phase '{phase.phase}' starts from '{before}', which is not there; run that first.")
    if phase.starts_from == "encoder":
        model = AutoencoderDRoRAE(**preset.model)
        model.encoder.model.load_state_dict(load_file(before / "model.safetensors"), strict=True)
    else:
        model = AutoencoderDRoRAE.from_pretrained(before)
    if phase.phase == "finetune":
        model.add_finetuned_decoder()
    return model


class Reconstruction(nn.Module):
    """One phase as a task: which part trains, which route is reconstructed, and the loss (paper equation 6)."""

    def __init__(self, model: AutoencoderDRoRAE, preset: Stage1Preset, weights: Path, validation):
        super().__init__()
        self.model, self.preset, self.validation = model.eval(), preset, validation
        model.requires_grad_(False)
        self.part = TRAINED_PART[preset.phase]
        self.trainable = getattr(model, self.part).requires_grad_(True)
        self.fused = preset.phase != "decoder"
        self.decoder_part = "decoder_finetuned" if preset.phase == "finetune" else "decoder"
        self.perceptual = None
        if preset.perceptual_weight:
            self.perceptual = VGG11Perceptual(weights / preset.perceptual_weights_file)

    def compile(self) -> None:
        model = self.model
        for network in (model.encoder, model.fusion_module, model.decoder, model.decoder_finetuned, self.perceptual):
            if network is not None:
                network.compile()

    def use(self, wrapped: nn.Module) -> None:
        setattr(self.model, self.part, wrapped)

    def loss(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        model = self.model
        tokens = model.fuse(model.encoder(images), fusion=self.fused).tokens
        if self.preset.noise_tau:
            sigma = self.preset.noise_tau * torch.rand(len(tokens), 1, 1, device=tokens.device)
            tokens = tokens + sigma * torch.randn_like(tokens)
        decoder = getattr(model, self.decoder_part)
        output = decode_tokens(decoder, tokens, model.encoder.mean, model.encoder.std).float()
        l1 = F.l1_loss(output, images)
        total, parts = self.preset.l1_weight * l1, {"l1": l1.detach()}
        if self.perceptual is not None:
            perceptual = self.perceptual(output, images)
            total = total + self.preset.perceptual_weight * perceptual
            parts["perceptual"] = perceptual.detach()
        return total, parts

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean PSNR and SSIM of this phase's route on held-out photos."""
        model, scores = self.model, []
        for images in DataLoader(self.validation, batch_size=32, generator=torch.Generator()):
            images = images.to(model.device)
            tokens = model.fuse(model.encoder(images), fusion=self.fused).tokens
            decoder = getattr(model, self.decoder_part)
            output = decode_tokens(decoder, tokens, model.encoder.mean, model.encoder.std)
            scores.append(torch.stack([psnr(output, images), ssim(output, images)]).cpu())
        mean = torch.cat(scores, 1).mean(1)
        return {"psnr": mean[0].item(), "ssim": mean[1].item()}

    def export(self, folder: Path) -> None:
        self.model.save_pretrained(folder)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=PRESETS, required=True)
    parser.add_argument("--phase", choices=PHASES, required=True)
    add_data_arguments(parser)
    args = parser.parse_args(argv)
    preset = PRESETS[args.preset]
    phase = preset.stage1[args.phase]

    accelerator = Accelerator(mixed_precision=phase.schedule.precision)
    torch.manual_seed(phase.schedule.seed)
    model = start_model(preset, phase, args.out / args.preset)
    task = Reconstruction(model, phase, args.weights, load_validation(args, model.image_size, limit=256))
    task.to(accelerator.device)
    positions = load_positions(args, model.image_size, phase.schedule)
    folder = args.out / args.preset / args.phase
    record_run(args, f"python -m train.stage1 --preset {args.preset} --phase {args.phase}", folder, accelerator)
    fit(task, positions, phase.schedule, folder, accelerator)


if __name__ == "__main__":
    main_guard(main)
