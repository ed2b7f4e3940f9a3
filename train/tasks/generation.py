"""Stage 2 as a task for the training loop: flow matching on the latents of a frozen tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drorae import AutoencoderDRoRAE, LatentStatistics
from drorae.pipelines import flow
from drorae.pipelines.guidance import Unguided
from train.data.batches import Batch
from train.data.captions import captions_of
from train.data.draws import normal_draws, uniform_draws
from train.data.held_out import ValidationPhotos
from train.data.latent_cache import encode_raw
from train.settings import Stage2Preset
from train.tasks.conditions import ConditionKind

GRID_PICTURES, GRID_STEPS = 8, 25
VALIDATION_TIMES = 4  # per held-out latent
VALIDATION_BATCH = 32


def logit_normal(draws: Tensor) -> Tensor:
    """Uniform draws in [0, 1) to times in (0, 1) whose logit is standard normal (RAE's training times)."""
    return torch.sigmoid(torch.special.ndtri(draws.clamp(1e-6, 1 - 1e-6)))


class LatentFlow(nn.Module):
    """Flow matching of latents: mean of |v(x_t, t, y) - (e - x_0)|^2 over shifted logit-normal times.

    Every random draw of a sample (time, noise, dropped condition) depends on its position in the run only.

    Args:
        condition: what the denoiser is told, and the network to be trained.
        statistics: what the latents are normalised with.
        shape: shape of a latent, (C, h, w).
    """

    def __init__(
        self,
        condition: ConditionKind,
        preset: Stage2Preset,
        statistics: LatentStatistics | None,
        shape: tuple[int, int, int],
    ):
        super().__init__()
        self.preset, self.condition, self.statistics = preset, condition, statistics
        self.trainable = condition.network.requires_grad_(True)
        self.network = self.trainable  # what is called: wrapped for several processes
        self.seed, self.shape, self.shift = preset.schedule.seed, shape, flow.time_shift(*shape)

    def latents(self, batch: Batch) -> Tensor:
        """Normalised latents (B, C, h, w) of a batch, in fp32."""
        assert batch.latents is not None, "nothing here encodes pictures"
        latents = batch.latents.float()
        return latents if self.statistics is None else self.statistics.normalize(latents)

    def velocity_error(self, clean: Tensor, t: Tensor, noise: Tensor, arguments: dict[str, Tensor]) -> Tensor:
        """Mean squared error of the predicted velocity per sample, (B,)."""
        where = t[:, None, None, None]
        predicted = self.network((1 - where) * clean + where * noise, t, **arguments, return_dict=False)[0]
        return F.mse_loss(predicted.float(), noise - clean, reduction="none").flatten(1).mean(1)

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar loss of a batch, and its value."""
        clean, positions = self.latents(batch), batch.positions
        draws = uniform_draws(self.seed, positions, 2, "flow").to(clean.device)
        t = flow.shift_time(logit_normal(draws[:, 0]), self.shift)
        arguments = self.condition.arguments(batch, draws[:, 1] < self.preset.dropout)
        noise = normal_draws(self.seed, positions, self.shape, clean.device)
        loss = self.velocity_error(clean, t, noise, arguments).mean()
        return loss, {"loss": loss.detach()}

    def held_out_errors(self, batch: Batch, t: Tensor, number: int, arguments: dict[str, Tensor]) -> Tensor:
        """Errors (B,) of a held-out batch at one time, the ``number``-th of several, with its own fixed noise."""
        clean = self.latents(batch)
        noise = normal_draws(self.seed + 1, batch.positions * VALIDATION_TIMES + number, self.shape, clean.device)
        return self.velocity_error(clean, t.expand(len(clean)), noise, arguments)

    def validation_times(self) -> Tensor:
        """Quantiles of the training distribution, (VALIDATION_TIMES,)."""
        quantiles = (torch.arange(VALIDATION_TIMES, device=self.condition.denoiser.device) + 0.5) / VALIDATION_TIMES
        return flow.shift_time(logit_normal(quantiles), self.shift)

    def errors_by_time(self, batch: Batch) -> Tensor:
        """Errors of a held-out batch at each of the :meth:`validation_times`, (VALIDATION_TIMES, B)."""
        arguments = self.condition.arguments(batch, torch.zeros_like(batch.labels, dtype=torch.bool))
        times = self.validation_times()
        return torch.stack([self.held_out_errors(batch, t, n, arguments) for n, t in enumerate(times)])


class FlowMatching(LatentFlow):
    """Flow matching as a task, on the latents of a frozen tokenizer.

    Args:
        model: the frozen tokenizer; with ``fused=False`` its last layer alone.
        condition: what the denoiser is told, and the network to be trained.
        statistics: what the latents are normalised with.
        validation: held-out photos; ``labelled`` says whether their classes are those of the training data.
        autoencoder_name: how a checkpoint names the tokenizer.
    """

    adversary = None

    def __init__(
        self,
        model: AutoencoderDRoRAE,
        condition: ConditionKind,
        preset: Stage2Preset,
        statistics: LatentStatistics | None,
        validation: ValidationPhotos | None,
        autoencoder_name: str,
        fused: bool = True,
        labelled: bool = True,
    ):
        super().__init__(condition, preset, statistics, (model.encoder.dim, model.grid_size, model.grid_size))
        self.model, self.validation = model.eval().requires_grad_(False), validation
        if preset.schedule.gradient_checkpointing:
            condition.denoiser.enable_gradient_checkpointing()
        self.autoencoder_name, self.fused, self.image_size = autoencoder_name, fused, model.image_size
        self.labelled = labelled
        self._held_out: list[Batch] | None = None

    def compile(self) -> None:
        """Compile the repeated blocks, of the denoiser and of the encoder."""
        denoiser = getattr(self.trainable, "denoiser", self.trainable)
        for block in (*denoiser.trunk, *denoiser.head, *self.model.encoder.model.blocks):
            block.compile()

    def use(self, trainable: nn.Module, discriminator: nn.Module | None) -> None:
        """See :meth:`train.engine.task.Task.use`."""
        self.network = trainable

    def latents(self, batch: Batch) -> Tensor:
        """Normalised latents (B, C, h, w) of a batch, in fp32; of pictures, where they were not computed before."""
        if batch.latents is None:
            batch = batch._replace(latents=encode_raw(self.model, batch.images, self.fused))
        return super().latents(batch)

    def adversary_loss(self, step: int) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Nothing, since there is no adversary."""
        return iter(())

    def held_out(self) -> list[Batch]:
        """Batches of the held-out photos, their latents (not normalised) computed once."""
        if self._held_out is None:
            device, photos, seen = self.model.device, self.validation, 0
            assert photos is not None, "validate asks only where there are held-out photos"
            latents = [
                encode_raw(self.model, images.to(device), self.fused) for images in photos.batches(VALIDATION_BATCH)
            ]
            count = sum(map(len, latents))
            labels = photos.labels() if self.labelled else None
            labels = torch.full((count,), -1) if labels is None else labels
            captions = photos.captions(captions_of(photos.rows)) if self.condition.wants_captions else None
            self._held_out = []
            for part in latents:
                rows = slice(seen, seen + len(part))
                texts = captions[rows] if captions is not None else None
                positions = torch.arange(rows.start, rows.stop)
                self._held_out.append(Batch(None, positions, [], labels[rows].to(device), part, texts))
                seen += len(part)
        return self._held_out

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The loss on held-out photos, at fixed times and noise."""
        if self.validation is None:
            return {}
        return {"loss": torch.cat([self.errors_by_time(batch).flatten() for batch in self.held_out()]).mean().item()}

    @torch.no_grad()
    def pictures(self) -> Tensor:
        """One unguided sample of each of the first classes or prompts, seeds 0, 1, ..., (n, 3, H, W) in [0, 1]."""
        arguments = self.condition.examples(GRID_PICTURES)
        return self.sample(arguments, range(len(next(iter(arguments.values())))), GRID_STEPS)

    @torch.no_grad()
    def sample(self, arguments: dict[str, Tensor], seeds: Sequence[int], steps: int) -> Tensor:
        """Unguided samples, one per seed, (n, 3, H, W) in [0, 1], through the decoder that the tokenizer prefers.

        Args:
            arguments: the condition of each, see :meth:`train.tasks.conditions.ConditionKind.examples`.
            steps: steps of the Euler sampler.
        """
        device = self.model.device
        noise = flow.draw_noise([torch.Generator().manual_seed(seed) for seed in seeds], self.shape, device)
        scheduler = flow.start(flow.build_scheduler(*self.shape), steps, device)
        *_, last = flow.sample(Unguided(self.network, arguments), noise, scheduler)
        tokens = last.latents if self.statistics is None else self.statistics.denormalize(last.latents)
        saved, self.model.statistics = self.model.statistics, None
        try:
            return self.model.decode(tokens.to(self.model.dtype)).sample.float().clamp(0, 1)
        finally:
            self.model.statistics = saved

    def export(self, folder: Path) -> None:
        """A pipeline's folder, which names its tokenizer instead of holding it."""
        self.condition.export(flow.build_scheduler(*self.shape), self.autoencoder_name, folder)
