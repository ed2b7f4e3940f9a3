"""What a row of :mod:`train.presets` is made of: one dataclass per kind of experiment and part of its loss."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from drorae.errors import count_of

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of its pixels, per channel
NOT_TRAINED = "not yet trained"  # what a row says of its own result until there is one


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: AdamW or Muon, linear warm-up, cosine decay to ``lr * lr_floor``.

    ``batch_size`` counts the pictures of one step over all processes and all ``accumulation`` micro-batches.
    """

    steps: int
    batch_size: int
    lr: float
    warmup_steps: int
    optimizer: str = "adamw"  # or "muon": Muon for matrices, AdamW for the rest
    lr_floor: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    ema_decay: float = 0.9978
    max_grad_norm: float | None = 1.0
    precision: str = "bf16"
    accumulation: int = 1
    crop_resize: int | None = None  # shorter side before the random crop, pixels; None leaves the photo as it is
    crop_scale: tuple[float, float] = (0.85, 1.0)  # side of the random crop, as a share of the shorter side
    # From a step on, the sides of the pictures, pixels; each step draws one of them. Empty: the model's own side.
    sides: tuple[tuple[int, tuple[int, ...]], ...] = ()
    flip: bool = True
    save_every: int = 250
    workers: int = 1
    gradient_checkpointing: bool = False  # compute blocks again in the backward pass: slower, far less memory
    compile: bool = False  # torch.compile the networks; needs a C++ compiler on a CPU
    seed: int = 0
    stop: int | None = None  # end after this step, in the middle of the schedule of ``steps``

    @property
    def last_step(self) -> int:
        """The step that the run ends with."""
        return self.steps if self.stop is None else min(self.stop, self.steps)

    def side(self, step: int) -> int:
        """Side of the pictures of a step, pixels, one of ``sides``."""
        choices = next(sides for start, sides in reversed(self.sides) if start <= step)
        return random.Random(f"side-{self.seed}-{step}").choice(choices)

    def micro_batch(self, processes: int) -> int:
        """Pictures that one process sees at once.

        Raises:
            ValueError: the batch does not divide over processes and accumulation.
        """
        parts = processes * self.accumulation
        if self.batch_size % parts:
            raise ValueError(
                f"a batch of {self.batch_size} does not divide over {count_of(processes, 'process', 'processes')} x "
                f"{count_of(self.accumulation, 'accumulation step')}; choose another --accumulation or "
                "number of processes"
            )
        return self.batch_size // parts


@dataclass(frozen=True)
class PerceptualPreset:
    """The perceptual distance in the loss: ``"lpips"`` (VGG-16, weights fetched by torchvision) or ``"vgg11"``
    (the file ``weights``)."""

    network: str
    weight: float
    weights: str | None = None


@dataclass(frozen=True)
class AdversaryPreset:
    """The discriminator: heads on the frozen timm ViT ``backbone``, whose weights come from the file
    ``backbone_weights``, from timm's hub when ``None``, or are ``"random"``.

    It learns from step ``discriminator_start`` on; the reconstruction feels it from ``generator_start`` on, with
    ``weight`` times the adaptive weight, which is at most ``max_adaptive``; both on every ``every``-th step only.
    """

    backbone: str
    backbone_weights: str | None
    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    discriminator_start: int
    generator_start: int
    weight: float = 0.75
    max_adaptive: float = 1e4
    lr: float = 2e-4
    taps: tuple[int, ...] = (2, 5, 8, 11)
    every: int = 1
    continues: str | None = None  # the run whose discriminator is taken over; fresh heads when None

    def acts(self, step: int, start: int) -> bool:
        """Whether what begins at step ``start`` happens at this step."""
        return step >= start and step % self.every == 0


@dataclass(frozen=True)
class EncoderPreset:
    """Distillation of a small frozen-to-be encoder: all layers and the class logits of a teacher ViT.

    The student starts from the teacher's weights, its patch embedding folded to the smaller patches.
    """

    schedule: Schedule
    teacher: str
    teacher_input_size: int  # that its position embeddings are stored for
    teacher_weights: str | None  # file in the weights folder, None for timm's hub, "random" for the smoke test
    logits_weight: float = 1.0


@dataclass(frozen=True)
class Stage1Preset:
    """One phase of the tokenizer. ``starts_from`` names the run whose checkpoint it continues, or ``"encoder"`` for
    timm's weights. The trained part starts fresh, in phase ``finetune`` as a copy of the original decoder."""

    schedule: Schedule
    phase: str
    starts_from: str
    l1_weight: float = 1.0
    perceptual: PerceptualPreset | None = None
    adversary: AdversaryPreset | None = None
    loss_crop: int | None = None  # the perceptual and adversarial parts see a random square of this side, pixels
    noise_tau: float = 0.0  # RAE: per picture sigma ~ tau * U(0, 1) on the latent, in training only
    router_smoothness: float = 0.0  # weight of the squared difference of routing between neighbouring tokens
    router_dropout: float = 0.0  # share of layers left out of the sum, per picture, in phase "fusion"
    validation_side: int | None = None  # of the held-out photos, pixels; the model's own when None
    expected: str = ""  # the number this row should reach
    measured: str = NOT_TRAINED


@dataclass(frozen=True)
class TextPreset:
    """The text encoder of a denoiser: a frozen one (a folder in the weights folder, or a published id), or a small one
    that is trained along.

    ``vocab_size``, ``hidden_size`` and ``num_layers`` are of the small one; ``examples`` are the prompts of the grid in
    the log.
    """

    max_tokens: int
    encoder: str | None = None
    vocab_size: int = 0
    hidden_size: int = 0
    num_layers: int = 0
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage2Preset:
    """A denoiser on the latents of ``tokenizer``, a finished run or a checkpoint. ``denoiser`` are arguments of
    :class:`~drorae.DiTDH`; the sizes of the latent come from the tokenizer, the number of classes from the data.
    ``dropout`` is the share of samples that are trained without their class or text."""

    schedule: Schedule
    tokenizer: str
    denoiser: dict[str, Any]
    dropout: float = 0.1
    views: int | None = None  # of every picture in the cache; central square and mirror image when None
    text: TextPreset | None = None
    expected: str = ""
    measured: str = NOT_TRAINED


@dataclass(frozen=True)
class Preset:
    """Everything needed to make one checkpoint. ``encoder`` is ``None`` where timm's own weights are used: those of the
    file ``encoder_weights`` in the weights folder, of timm's hub when that is ``None`` too, or ``"random"`` ones.

    ``stage2`` has the denoisers by run: ``"class"``, ``"class-guide"`` (the weak network of AutoGuidance), ``"text"``.
    """

    model: dict[str, Any]
    encoder: EncoderPreset | None
    stage1: dict[str, Stage1Preset] = field(default_factory=dict)
    stage2: dict[str, Stage2Preset] = field(default_factory=dict)
    encoder_weights: str | None = None
