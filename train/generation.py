"""Stage 2 as a task for the training loop: flow matching on the latents of a frozen tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drorae import AutoencoderDRoRAE, DiTDH, DRoRAEClassPipeline, LatentStatistics, flow
from drorae.guidance import Unguided
from train.data import Batch, ValidationPhotos, normal_draws, uniform_draws
from train.latent_cache import encode_raw
from train.presets import Stage2Preset

GRID_PICTURES, GRID_STEPS = 8, 25
VALIDATION_TIMES = 4  # per held-out latent


def logit_normal(draws: Tensor) -> Tensor:
    """Uniform draws in [0, 1) to times in (0, 1) whose logit is standard normal (RAE's training times)."""
    return torch.sigmoid(torch.special.ndtri(draws.clamp(1e-6, 1 - 1e-6)))


class Generation(nn.Module):
    """Flow matching as a task: mean of |v(x_t, t, y) - (e - x_0)|^2 over shifted logit-normal times.

    Every random draw of a sample (time, noise, dropped label) depends on its position in the run only.

    Args:
        model: the frozen tokenizer; with ``fused=False`` its last layer alone.
        statistics: what the latents are normalised with.
        labels: names of the classes.
    """

    adversary = None

    def __init__(
        self,
        model: AutoencoderDRoRAE,
        denoiser: DiTDH,
        preset: Stage2Preset,
        statistics: LatentStatistics | None,
        validation: ValidationPhotos | None,
        labels: Sequence[str],
        tokenizer: str,
        fused: bool = True,
        labelled: bool = True,
    ):
        super().__init__()
        self.model, self.preset, self.validation = model.eval().requires_grad_(False), preset, validation
        self.trainable, self.denoiser = denoiser.requires_grad_(True), denoiser
        self.statistics, self.labels, self.tokenizer, self.fused = statistics, list(labels), tokenizer, fused
        self.seed, self.image_size = preset.schedule.seed, model.image_size
        self.shape = (denoiser.config.in_channels, denoiser.config.sample_size, denoiser.config.sample_size)
        self.shift = flow.time_shift(*self.shape)
        self.labelled = labelled  # whether the held-out photos have the same classes
        self._held_out: tuple[Tensor, Tensor] | None = None

    def compile(self) -> None:
        """Compile the repeated blocks, of the denoiser and of the encoder."""
        for block in (*self.denoiser.trunk, *self.denoiser.head, *self.model.encoder.model.blocks):
            block.compile()

    def use(self, trainable: nn.Module, discriminator: nn.Module | None) -> None:
        self.denoiser = trainable

    def latents(self, batch: Batch) -> Tensor:
        """Normalised latents (B, C, h, w) of a batch, in fp32."""
        latents = batch.latents if batch.latents is not None else encode_raw(self.model, batch.images, self.fused)
        return latents.float() if self.statistics is None else self.statistics.normalize(latents.float())

    def velocity_error(self, clean: Tensor, labels: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Mean squared error of the predicted velocity per sample, (B,)."""
        where = t[:, None, None, None]
        predicted = self.denoiser((1 - where) * clean + where * noise, t, labels, return_dict=False)[0]
        return F.mse_loss(predicted.float(), noise - clean, reduction="none").flatten(1).mean(1)

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        clean, positions = self.latents(batch), batch.positions
        draws = uniform_draws(self.seed, positions, 2, "flow").to(clean.device)
        t = flow.shift_time(logit_normal(draws[:, 0]), self.shift)
        known = (batch.labels >= 0) & (batch.labels < len(self.labels))
        dropped = draws[:, 1] < self.preset.class_dropout
        labels = torch.where(known & ~dropped, batch.labels, len(self.labels))
        noise = normal_draws(self.seed, positions, self.shape, clean.device)
        loss = self.velocity_error(clean, labels, t, noise).mean()
        return loss, {"loss": loss.detach()}

    def adversary_loss(self, step: int) -> None:
        """There is no adversary."""

    def held_out(self) -> tuple[Tensor, Tensor]:
        """Latents and labels of the held-out photos, computed once."""
        if self._held_out is None:
            device = self.model.device
            raw = torch.cat([encode_raw(self.model, x.to(device), self.fused) for x in self.validation.batches(32)])
            labels = self.validation.labels() if self.labelled else None
            labels = torch.full((len(raw),), -1) if labels is None else labels
            latents = self.latents(Batch(None, labels, [], labels, raw))
            self._held_out = latents, torch.where(labels < 0, len(self.labels), labels).to(device)
        return self._held_out

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The loss on held-out photos, at fixed times (quantiles of the training distribution) and noise."""
        if self.validation is None:
            return {}
        latents, labels = self.held_out()
        quantiles = (torch.arange(VALIDATION_TIMES, device=latents.device) + 0.5) / VALIDATION_TIMES
        times = flow.shift_time(logit_normal(quantiles), self.shift)
        errors = []
        for start in range(0, len(latents), 32):
            clean, label = latents[start : start + 32], labels[start : start + 32]
            for number, t in enumerate(times):
                positions = torch.arange(start, start + len(clean)) * VALIDATION_TIMES + number
                noise = normal_draws(self.seed + 1, positions, self.shape, clean.device)
                errors.append(self.velocity_error(clean, label, t.expand(len(clean)), noise))
        return {"loss": torch.cat(errors).mean().item()}

    @torch.no_grad()
    def pictures(self) -> Tensor:
        """One unguided sample of each of the first classes, seeds 0, 1, ..., (n, 3, H, W) in [0, 1]."""
        count = min(GRID_PICTURES, len(self.labels))
        device = self.model.device
        noise = flow.draw_noise([torch.Generator().manual_seed(i) for i in range(count)], self.shape, device)
        velocity = Unguided(self.denoiser, {"class_labels": torch.arange(count, device=device)})
        scheduler = flow.start(flow.build_scheduler(*self.shape), GRID_STEPS, device)
        *_, last = flow.sample(velocity, noise, scheduler)
        tokens = last.latents if self.statistics is None else self.statistics.denormalize(last.latents)
        saved, self.model.statistics = self.model.statistics, None
        try:
            return self.model.decode(tokens.to(self.model.dtype)).sample.float().clamp(0, 1)
        finally:
            self.model.statistics = saved

    def export(self, folder: Path) -> None:
        """A pipeline's folder, which names its tokenizer instead of holding it."""
        scheduler = flow.build_scheduler(*self.shape)
        DRoRAEClassPipeline(None, self.trainable, scheduler, None, self.labels, self.tokenizer).save_pretrained(folder)
