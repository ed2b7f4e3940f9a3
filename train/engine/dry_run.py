"""What a preset row would do: configuration, parameters, steps, and what it costs in memory and time.

Costs are computed, not measured: one training step runs on the ``meta`` device, where tensors have shapes but no
data, while torch counts the matrix products (``FlopCounterMode``) and the bytes that autograd keeps for the backward
pass. Time assumes GPUs of ``PEAK_FLOPS`` (``PEAK_TF32`` in fp32) used at the share ``UTILISATION``.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import vgg11_bn, vgg16

from drorae import AutoencoderDRoRAE, DiTDH
from drorae.building import UnfilledMeta
from drorae.errors import count_of
from train.data.batches import Batch
from train.errors import RunError
from train.settings import PerceptualPreset, Preset, Schedule, Stage1Preset, Stage2Preset, TextPreset
from train.tasks.reconstruction import BACKBONE, Reconstruction

# Dense products of an H100 or H200 SXM in bf16, and in TF32 for fp32 runs, from its data sheet; a common share of them
PEAK_FLOPS, PEAK_TF32, UTILISATION = 989e12, 494.5e12, 0.4
GIB = 2**30
TEXT_WIDTHS = {"minilm-l3": 384, "Qwen/Qwen3-0.6B": 1024}  # channels of the frozen text encoders of the presets


class StepCost(NamedTuple):
    """What one training step takes for one picture: floating-point operations, and the most bytes kept for the backward
    pass at one time (fp32)."""

    flops: int
    activations: int


class _Features(nn.Module):
    """The convolutions of a perceptual distance without its weights, which cost the same."""

    def __init__(self, preset: PerceptualPreset):
        super().__init__()
        self.features = (vgg16().features[:30] if preset.network == "lpips" else vgg11_bn().features[:14]).eval()
        self.requires_grad_(False)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.features(target)
        return (self.features(prediction) - wanted).square().mean()


def build_on_meta(preset: Preset, phase: Stage1Preset) -> Reconstruction:
    """The phase's task with all its networks, without memory for their weights."""
    adversary = phase.adversary and dataclasses.replace(phase.adversary, backbone_weights="random")
    with UnfilledMeta(), torch.device("meta"):
        model = AutoencoderDRoRAE(**(preset.model if phase.phase != "decoder" else {**preset.model, "fusion": None}))
        if phase.phase in ("finetune", BACKBONE):
            model.add_finetuned_decoder()
        row = dataclasses.replace(phase, perceptual=None, adversary=adversary)
        task = Reconstruction(model, row, Path(), validation=None)
        task.preset = dataclasses.replace(row, perceptual=phase.perceptual)
        task.perceptual = _Features(phase.perceptual) if phase.perceptual else None
    return task


class SavedBytes:
    """Counts the bytes of the tensors that autograd keeps for the backward pass, each storage once.

    Args:
        left_out: storages that are there anyway, by their ``_cdata``.

    Attributes:
        now: bytes that are kept.
        peak: the most that were kept at one time.
    """

    def __init__(self, left_out: set[int]):
        self.left_out, self.now, self.peak = left_out, 0, 0
        self.uses: Counter[int] = Counter()

    def keep(self, tensor: Tensor) -> _Kept:
        """Hook for ``saved_tensors_hooks``."""
        return _Kept(self, tensor)


class _Kept:
    """A tensor that autograd keeps as long as it needs it: its storage lives as long, so that no other one gets its
    address."""

    def __init__(self, saved: SavedBytes, tensor: Tensor):
        self.saved, self.tensor = saved, tensor.detach()  # an output itself would hold its graph, and the graph this
        storage = tensor.untyped_storage()
        self.key = storage._cdata
        self.bytes = 0 if self.key in saved.left_out else storage.nbytes()
        if not saved.uses[self.key]:
            saved.now += self.bytes
            saved.peak = max(saved.peak, saved.now)
        saved.uses[self.key] += 1

    def __del__(self) -> None:
        self.saved.uses[self.key] -= 1
        if not self.saved.uses[self.key]:
            self.saved.now -= self.bytes


def step_cost(task: Reconstruction) -> StepCost:
    """Cost of a step in which everything is active."""
    own = {parameter.untyped_storage()._cdata for parameter in task.parameters()}
    if task.adversary is not None:
        own |= {parameter.untyped_storage()._cdata for parameter in task.adversary.frozen.parameters()}
    saved = SavedBytes(own)
    size = task.image_size
    batch = Batch(torch.rand(1, 3, size, size, device="meta"), torch.zeros(1, dtype=torch.long), [])
    every = task.preset.adversary.every if task.preset.adversary else 1
    last = -(-task.preset.schedule.steps // every) * every
    with FlopCounterMode(display=False) as counter, saved_tensors_hooks(saved.keep, lambda kept: kept.tensor):
        loss, _ = task.loss(batch, last)
        loss.backward()
        for against, _ in task.adversary_loss(last):
            against.backward()
    return StepCost(counter.get_total_flops(), saved.peak)


class MetaDenoiser(NamedTuple):
    """A denoiser without memory for its weights, and what a call takes: one latent, its time, its condition."""

    network: DiTDH
    latent: Tensor
    condition: dict[str, Tensor]


def text_width(text: TextPreset) -> int:
    """Channels of the text tokens: the small encoder's own, or those of a frozen one that is known here."""
    return text.hidden_size or TEXT_WIDTHS.get(text.encoder or "", TEXT_WIDTHS["Qwen/Qwen3-0.6B"])


def build_denoiser_on_meta(preset: Preset, row: Stage2Preset) -> MetaDenoiser:
    """A row's denoiser for the latents of its preset's model; of classes it has ImageNet's 1,000."""
    width = text_width(row.text) if row.text else None
    condition = {"num_classes": 1000} if width is None else {"num_classes": None, "text_dim": width}
    with UnfilledMeta(), torch.device("meta"):
        model = AutoencoderDRoRAE(**preset.model)
        size, channels = model.grid_size, model.encoder.dim
        denoiser = DiTDH(sample_size=size, in_channels=channels, **condition, **row.denoiser)
        inputs: dict[str, Tensor] = {"class_labels": torch.zeros(1, dtype=torch.long)}
        if row.text is not None:
            inputs = {
                "encoder_hidden_states": torch.zeros(1, row.text.max_tokens, width),
                "encoder_attention_mask": torch.ones(1, row.text.max_tokens, dtype=torch.bool),
            }
        return MetaDenoiser(denoiser, torch.zeros(1, channels, size, size), inputs)


def denoiser_cost(preset: Preset, row: Stage2Preset) -> int:
    """Floating point operations of a training step of a denoiser with one latent; the backward pass counts twice.

    The frozen encoders are left out: the latents of all pictures are computed once.
    """
    made = build_denoiser_on_meta(preset, row)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        made.network(made.latent, torch.zeros(1), **made.condition)
    return 3 * counter.get_total_flops()


def estimate_hours(flops: int, schedule: Schedule, gpus: int) -> float:
    """Hours of a whole run on so many GPUs; ``flops`` are of a step with one picture."""
    peak = PEAK_FLOPS if schedule.precision == "bf16" else PEAK_TF32
    return flops * schedule.batch_size * schedule.last_step / (gpus * peak * UTILISATION) / 3600


def describe(name: str, preset: Preset, phase: Stage1Preset, gpus: int = 8) -> str:
    """The answer to ``--dry-run``, for so many GPUs.

    Raises:
        RunError: the batch does not divide over them.
    """
    try:
        micro = phase.schedule.micro_batch(gpus)
    except ValueError as error:
        raise RunError(f"{error} (--processes)") from error
    task = build_on_meta(preset, phase)
    model, schedule = task.model, phase.schedule
    cost = step_cost(task)
    trained, opponent = count_parameters(task.trainable), count_parameters(task.adversary) if task.adversary else 0
    others = [task.perceptual, task.adversary.frozen if task.adversary else None]
    frozen = (
        count_parameters(model) - trained + sum(count_parameters(network) for network in others if network is not None)
    )
    half = 0.5 if schedule.precision == "bf16" else 1
    # weights, gradient, two moments; the average of the weights on top for what is exported
    fixed = 4 * frozen + 20 * trained + 16 * opponent
    activations = cost.activations * micro * half
    hours, peak = estimate_hours(cost.flops, schedule, gpus), PEAK_FLOPS if half < 1 else PEAK_TF32
    parts: list[tuple[str, Callable[[], nn.Module | None]]] = [
        ("encoder", lambda: model.encoder),
        ("fusion", lambda: model.fusion_module),
        ("decoder", lambda: model.decoder),
        ("finetuned decoder", lambda: model.decoder_finetuned),
    ]
    lines = [
        f"preset {name}, phase {phase.phase}",
        json.dumps({"model": preset.model, **dataclasses.asdict(phase)}, indent=2),
        "",
        *(f"{part:18} {count_parameters(get()) / 1e6:8.2f}M parameters" for part, get in parts if get() is not None),
        f"{'trained':18} {trained / 1e6:8.2f}M parameters, and {opponent / 1e6:.2f}M in the discriminator's heads",
        f"{'steps':18} {schedule.last_step} x {schedule.batch_size} pictures of {task.image_size} px",
        f"{'compute':18} {cost.flops / 1e9:.1f} GFLOP per picture and step (counted on the meta device)",
        f"{'memory':18} {(fixed + activations) / GIB:.1f} GiB per GPU "
        f"with {count_of(micro, 'picture')} {on_gpus(gpus)}: "
        f"{fixed / GIB:.1f} for weights and optimisers, {activations / GIB:.1f} for activations "
        f"({schedule.precision}; fused kernels need less)",
        f"{'time':18} {hours:.1f} h on {gpus} H100 at {UTILISATION:.0%} of {peak / 1e12:.0f} TFLOP/s",
        f"{'expected':18} {phase.expected}",
        f"{'measured':18} ours: {phase.measured}",
    ]
    return "\n".join(lines)


def describe_denoiser(name: str, run: str, preset: Preset, row: Stage2Preset, gpus: int = 8) -> str:
    """The answer to ``--dry-run`` of a denoiser, for so many GPUs.

    Raises:
        RunError: the batch does not divide over them.
    """
    schedule = row.schedule
    try:
        micro = schedule.micro_batch(gpus)
    except ValueError as error:
        raise RunError(f"{error} (--processes)") from error
    made = build_denoiser_on_meta(preset, row)
    trained, flops = count_parameters(made.network), denoiser_cost(preset, row)
    peak = PEAK_FLOPS if schedule.precision == "bf16" else PEAK_TF32
    channels, height, width = made.latent.shape[1:]
    lines = [
        f"preset {name}, run {run}",
        json.dumps(dataclasses.asdict(row), indent=2),
        "",
        f"{'denoiser':18} {trained / 1e6:8.2f}M parameters",
        f"{'latents':18} {channels} x {height} x {width}, of {row.tokenizer}",
        f"{'steps':18} {schedule.last_step} x {schedule.batch_size} latents, {micro} {on_gpus(gpus)}",
        f"{'compute':18} {flops / 1e9:.1f} GFLOP per latent and step (counted on the meta device; the latents, and the "
        "tokens of a frozen text encoder, are computed once before)",
        f"{'memory':18} {20 * trained / GIB:.1f} GiB per GPU for weights and optimiser; activations are not counted",
        f"{'time':18} {estimate_hours(flops, schedule, gpus):.1f} h on {gpus} H100 at {UTILISATION:.0%} of "
        f"{peak / 1e12:.0f} TFLOP/s",
        f"{'expected':18} {row.expected}",
        f"{'measured':18} ours: {row.measured}",
    ]
    return "\n".join(lines)


def on_gpus(count: int) -> str:
    """Where a micro-batch is, as text."""
    return "on 1 GPU" if count == 1 else f"on each of {count} GPUs"


def count_parameters(module: nn.Module) -> int:
    """Numbers that a network holds, trained or not."""
    return sum(parameter.numel() for parameter in module.parameters())
