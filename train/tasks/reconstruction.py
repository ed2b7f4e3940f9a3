"""One phase of the tokenizer as a task for the training loop: which part trains, what it rebuilds, and the loss."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from drorae import AutoencoderDRoRAE
from drorae.checkpoints import DISCRIMINATOR
from drorae.metrics import psnr, ssim
from drorae.models.decoder import decode_tokens
from drorae.models.fusion import MeanFusion
from train.data.batches import Batch
from train.data.crops import crop_squares
from train.data.draws import normal_draws, uniform_draws
from train.data.held_out import ValidationPhotos
from train.settings import Stage1Preset
from train.tasks.discriminator import Discriminator, augment, generator_loss, hinge_loss
from train.tasks.losses import build_perceptual


class Seen(NamedTuple):
    """What the discriminator needs of a micro-batch.

    Attributes:
        images: (B, 3, H, W) in [0, 1].
        output: their reconstruction, (B, 3, H, W), with latent noise where the preset has some.
        frozen: what does not change in this phase: the encoder's layers where the fusion is trained, else the latent
            tokens (B, N, C) before noise; nothing in phase ``backbone``.
        positions: (B,) in the run.
    """

    images: Tensor
    output: Tensor
    frozen: tuple[Tensor, ...]
    positions: Tensor


TRAINED_PART = {"decoder": "decoder", "fusion": "fusion_module", "finetune": "decoder_finetuned"}
BACKBONE = "backbone"  # the phase that trains everything


class WholeTokenizer(nn.Module):
    """Encoder, fusion and finetuned decoder as one network, which phase ``backbone`` trains (paper, table 4).

    One call goes through all three, so that several processes exchange the gradients of all three.
    """

    def __init__(self, model: AutoencoderDRoRAE):
        super().__init__()
        assert model.fusion_module is not None, "phases that train a fusion have one"
        assert model.decoder_finetuned is not None, "phase 'backbone' starts with a copy of the decoder"
        model.encoder.freeze(False)
        self.encoder, self.fusion, self.decoder = model.encoder, model.fusion_module, model.decoder_finetuned

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Images (B, 3, H, W) to pictures (B, 3, H, W), fp32, with ``noise`` (B, N, C) on the latent."""
        tokens = self.fusion(self.encoder(images)).tokens
        tokens = tokens if noise is None else tokens + noise
        mean, std, grid = self.encoder.mean, self.encoder.std, self.encoder.grid_of(images)
        return decode_tokens(self.decoder, tokens, mean, std, grid).float()


def trained_part(model: AutoencoderDRoRAE, phase: str) -> nn.Module:
    """The network that a phase trains, its weights those of ``model``."""
    return WholeTokenizer(model) if phase == BACKBONE else getattr(model, TRAINED_PART[phase])


class Reconstruction(nn.Module):
    """One phase as a task: which part trains, which route is reconstructed, and the loss (paper equation 6).

    ``L = l1 + perceptual_weight * perceptual + adversary.weight * adaptive * generator``
    """

    def __init__(
        self, model: AutoencoderDRoRAE, preset: Stage1Preset, weights: Path, validation: ValidationPhotos | None
    ):
        super().__init__()
        self.model, self.preset, self.validation = model.eval(), preset, validation
        self.seed, self.image_size = preset.schedule.seed, model.image_size
        model.requires_grad_(False)
        if preset.schedule.gradient_checkpointing:
            model.enable_gradient_checkpointing()
        self.part = TRAINED_PART.get(preset.phase)
        self.trainable = trained_part(model, preset.phase).requires_grad_(True)
        self.whole = self.trainable if self.part is None else None  # what is called in phase "backbone"
        # phase "decoder" reads the last layer (RAE), or a fusion that has nothing to learn (RAEv2's mean)
        self.fused = preset.phase != "decoder" or isinstance(model.fusion_module, MeanFusion)
        self.decoder_part = "decoder" if preset.phase in ("decoder", "fusion") else "decoder_finetuned"
        self.perceptual = build_perceptual(preset.perceptual, weights) if preset.perceptual else None
        self.adversary = Discriminator(preset.adversary, weights) if preset.adversary else None
        self.discriminator = self.adversary  # what is called: wrapped for several processes
        # The adaptive weight is taken here, also while the decoder is frozen; it is in no optimiser then.
        self.last_layer = getattr(model, self.decoder_part).decoder_pred
        if self.adversary is not None:
            self.last_layer.weight.requires_grad_(True)
        self._seen: list[Seen] = []
        self._seen_step = -1

    def compile(self) -> None:
        """Compile the repeated blocks; what is around them stays eager, so that the last layer's gradient is cheap."""
        model = self.model
        blocks = [*model.encoder.model.blocks, *getattr(model, self.decoder_part).decoder_layers]
        if self.adversary is not None:
            blocks += self.adversary.frozen.model.blocks
        for network in (*blocks, model.fusion_module if self.fused else None, self.perceptual):
            if network is not None:
                network.compile()

    def use(self, trainable: nn.Module, discriminator: nn.Module | None) -> None:
        """See :meth:`train.engine.task.Task.use`."""
        if self.part is None:
            self.whole = trainable
        else:
            setattr(self.model, self.part, trainable)
        self.discriminator = discriminator

    def reconstruct(self, images: Tensor, positions: Tensor | None) -> tuple[Tensor, Tensor | None, tuple[Tensor, ...]]:
        """Images (B, 3, H, W) to this phase's reconstruction, the routing weights (B, N, L) of phase ``fusion``, and
        what is frozen, see :class:`Seen`.

        With ``positions``, that is in training, latent noise and router dropout are applied.
        """
        model, preset = self.model, self.preset
        grid = model.encoder.grid_of(images)
        noise = self.noise(positions, (grid[0] * grid[1], model.encoder.dim), images.device)
        if self.whole is not None:
            return self.whole(images, noise), None, ()
        wants_routing = preset.phase == "fusion" and preset.router_smoothness > 0
        keep = None
        if positions is not None and preset.phase == "fusion" and preset.router_dropout:
            draws = uniform_draws(self.seed, positions, model.encoder.num_layers, "router")
            keep = draws >= preset.router_dropout
            keep = (keep | ~keep.any(1, keepdim=True)).to(images.device)  # never nothing at all
        layers = model.encoder(images)
        output = model.fuse(layers, self.fused, wants_routing, keep)
        tokens = output.tokens
        frozen = layers if self.part == "fusion_module" else (tokens.detach(),)
        pictures = self.paint(tokens if noise is None else tokens + noise, grid)
        return pictures, output.routing.weights if wants_routing else None, frozen

    def noise(self, positions: Tensor | None, shape: tuple[int, int], device: torch.device) -> Tensor | None:
        """Latent noise (B, N, C) of training at positions (B,) for ``shape`` (N, C); ``None`` where there is none."""
        if positions is None or not self.preset.noise_tau:
            return None
        sigma = self.preset.noise_tau * uniform_draws(self.seed, positions, 1, "sigma").to(device)
        return sigma[:, :, None] * normal_draws(self.seed, positions, shape, device)

    def paint(self, tokens: Tensor, grid_size: tuple[int, int]) -> Tensor:
        """Latent tokens (B, N, C) of a grid (rows, columns) to pictures (B, 3, H, W), fp32, by this phase's decoder."""
        model = self.model
        decoder = getattr(model, self.decoder_part)
        return decode_tokens(decoder, tokens, model.encoder.mean, model.encoder.std, grid_size).float()

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """A scalar whose gradient is that of equation 6, and the values of its parts."""
        preset, images, positions = self.preset, batch.images, batch.positions
        assert images is not None, "a tokenizer is trained on pictures, not on their latents"
        output, routing, frozen = self.reconstruct(images, positions)
        l1 = F.l1_loss(output, images)
        total, parts = preset.l1_weight * l1, {"l1": l1.detach()}
        crop = self._crop(positions, images.shape[-1])
        if self.perceptual is not None and preset.perceptual is not None:
            perceptual = self.perceptual(crop(output), crop(images))
            total = total + preset.perceptual.weight * perceptual
            parts["perceptual"] = perceptual.detach()
        adversary = preset.adversary if self.adversary is not None else None
        if adversary is not None and adversary.acts(step, adversary.generator_start):
            total, more = self._with_adversary(total, output, crop(output), positions)
            parts |= more
        if routing is not None:
            roughness = router_roughness(routing, self.model.encoder.grid_of(images))
            total = total + preset.router_smoothness * roughness
            parts["router_roughness"] = roughness.detach()
        if step != self._seen_step:
            self._seen, self._seen_step = [], step
        if adversary is not None and adversary.acts(step, adversary.discriminator_start):
            self._seen.append(Seen(images, output.detach(), frozen, positions))
        return total, parts

    def _with_adversary(self, total: Tensor, output: Tensor, seen: Tensor, positions: Tensor):
        """Add the generator's loss, weighted so that both gradients are of one size at the decoder's last layer.

        Each loss is differentiated once, to the picture, and from there both to the last layer and, later, through
        the network: the returned scalar has the gradient of the whole loss, not its value.
        """
        adversary, preset, weight = self.adversary, self.preset.adversary, self.last_layer.weight
        assert adversary is not None, "called where the preset has one"
        assert preset is not None
        adversary.eval()  # no power iteration of the spectral norm here, as in RAE: only the discriminator's step
        (logits,) = adversary(augment(seen, uniform_draws(self.seed, positions, 5, "generator")))
        generator = generator_loss(logits.float())
        (total_gradient,) = torch.autograd.grad(total, output)
        (generator_gradient,) = torch.autograd.grad(generator, output)
        norms = [
            torch.autograd.grad(output, weight, gradient, retain_graph=True)[0].float().norm()
            for gradient in (total_gradient, generator_gradient)
        ]
        adaptive = (norms[0] / (norms[1] + 1e-6)).clamp(0, preset.max_adaptive)
        gradient = total_gradient + preset.weight * adaptive * generator_gradient
        parts = {"loss": total.detach(), "generator": generator.detach(), "adaptive": adaptive}
        return (output * gradient).sum(), parts

    def adversary_loss(self, step: int) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """The discriminator's loss on the pictures of each :meth:`loss` of this step; none before it starts to learn.

        As in RAE, reconstructions are those of inference, without latent noise, clamped and rounded to 8 bits. Where
        training adds noise or drops layers, they are painted anew by the network as it is after this step; what is
        frozen does not run again.
        """
        for seen in self._seen if step == self._seen_step else ():
            crop, fake = self._crop(seen.positions, seen.images.shape[-1]), seen.output
            with torch.no_grad():
                if self.preset.noise_tau or self.preset.router_dropout:
                    fake = self.clean_pictures(seen)
                fake = (crop(fake).clamp(0, 1) * 255).round() / 255
            real = augment(crop(seen.images), uniform_draws(self.seed, seen.positions, 5, "real"))
            fake = augment(fake, uniform_draws(self.seed, seen.positions, 5, "fake"))
            assert self.adversary is not None, "nothing is seen without it"
            assert self.discriminator is not None
            self.adversary.train()
            real_logits, fake_logits = self.discriminator(real, fake)
            parts = {"real_logit": real_logits.detach().mean(), "fake_logit": fake_logits.detach().mean()}
            loss = hinge_loss(real_logits.float(), fake_logits.float())
            yield loss, parts | {"discriminator": loss.detach()}

    def clean_pictures(self, seen: Seen) -> Tensor:
        """Reconstructions (B, 3, H, W) without latent noise, by the network as it is now."""
        if self.whole is not None:
            return self.whole(seen.images)
        tokens = self.model.fuse(seen.frozen).tokens if self.part == "fusion_module" else seen.frozen[0]
        return self.paint(tokens, self.model.encoder.grid_of(seen.images))

    def _crop(self, positions: Tensor, size: int):
        """A function that cuts each picture's own random square of ``loss_crop`` of ``size`` pixels; the identity
        without it, and for smaller pictures."""
        side = self.preset.loss_crop
        if side is None or side >= size:
            return lambda images: images
        corners = (uniform_draws(self.seed, positions, 2, "crop") * (size - side + 1)).long()
        return lambda images: crop_squares(images, corners.to(images.device), side)

    @property
    def held_out(self) -> ValidationPhotos:
        """The held-out photos, which a run has; only the sums of a dry run do without."""
        assert self.validation is not None
        return self.validation

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean PSNR and SSIM of this phase's route on held-out photos."""
        scores = []
        for images in self.held_out.batches(32):
            images = images.to(self.model.device)
            output, _, _ = self.reconstruct(images, None)
            scores.append(torch.stack([psnr(output, images), ssim(output, images)]).cpu())
        mean = torch.cat(scores, 1).mean(1)
        return {"psnr": mean[0].item(), "ssim": mean[1].item()}

    @torch.no_grad()
    def pictures(self) -> Tensor:
        """Held-out photos above their reconstructions, (2n, 3, H, W) in [0, 1]."""
        images = next(self.held_out.batches(8)).to(self.model.device)
        return torch.cat([images, self.reconstruct(images, None)[0].float().clamp(0, 1)])

    def export(self, folder: Path) -> None:
        """See :meth:`train.engine.task.Task.export`."""
        self.model.save_pretrained(folder)
        if self.adversary is not None:  # for a later phase to continue with
            save_file({k: v.contiguous() for k, v in self.adversary.state_dict().items()}, folder / DISCRIMINATOR)


def router_roughness(weights: Tensor, grid_size: tuple[int, int]) -> Tensor:
    """Mean squared difference of the routing weights (B, N, L) of tokens that are neighbours in the grid."""
    grid = weights.unflatten(1, grid_size)
    return (grid.diff(dim=1).square().mean() + grid.diff(dim=2).square().mean()) / 2
