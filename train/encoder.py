"""Distil a small encoder: ``python -m train.encoder --preset tiny --data FOLDER [FOLDER ...]``.

The student sees the picture at its own size, the teacher sees it enlarged, so that both have the same token grid. A
student of any size is trained at several. The loss compares every layer's tokens after the affine-free norm (what the
fusion will read) and the class logits.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import timm
import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn
from torch.nn import functional as F

from drorae.models.fusion import layer_norm
from train.data.batches import Batch
from train.engine.session import (
    VALIDATION_PHOTOS,
    add_data_arguments,
    add_run_arguments,
    load_validation,
    main_guard,
    train,
    with_arguments,
)
from train.errors import RunError
from train.presets import PRESETS
from train.settings import EncoderPreset, Preset
from train.tasks.backbones import load_timm


def build_teacher(preset: EncoderPreset, weights_folder: Path, **timm_args) -> nn.Module:
    """The teacher, its position embeddings stored for ``teacher_input_size``, frozen; it takes any size.

    Raises:
        FileNotFoundError: the preset names a weights file that is not there.
    """
    timm_args = {key: value for key, value in timm_args.items() if key not in ("reg_tokens", "patch_size")}
    return load_timm(
        preset.teacher,
        preset.teacher_weights,
        weights_folder,
        img_size=preset.teacher_input_size,
        dynamic_img_size=True,
        **timm_args,
    )


def start_from_teacher(student: nn.Module, teacher: nn.Module) -> None:
    """Copy the teacher into the student; register tokens keep their own initialisation, and position embeddings are
    resampled to the student's grid.

    The patch projection is folded: <enlarge(patch), w> = <patch, enlarge^T w>, so the student starts as the teacher on
    the enlarged picture, except for the pixels that enlarging mixes across patch borders.
    """
    state = teacher.state_dict()
    kernel = state["patch_embed.proj.weight"]
    small, large = student.patch_embed.patch_size[0], kernel.shape[-1]
    pixels = torch.eye(small**2).view(-1, 1, small, small)
    enlarge = F.interpolate(pixels, size=(large, large), mode="bicubic", align_corners=False).flatten(1)
    folded = kernel.flatten(2) @ enlarge.T.to(kernel)
    state["patch_embed.proj.weight"] = folded.unflatten(2, (small, small))
    state["pos_embed"] = resample_abs_pos_embed(
        state["pos_embed"], student.patch_embed.grid_size, old_size=teacher.patch_embed.grid_size
    )
    if student.reg_token is not None:
        registers = student.num_reg_tokens
        state["reg_token"] = student.reg_token.detach()
        position = state["pos_embed"]
        gap = position.new_zeros(1, registers, position.shape[-1])
        state["pos_embed"] = torch.cat([position[:, :1], gap, position[:, 1:]], dim=1)
    student.load_state_dict(state, strict=True)


class LayersAndLogits(nn.Module):
    """A timm ViT whose forward gives both things that are compared (one forward, as distributed training needs)."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised pixels to every layer's tokens after the affine-free norm (L, B, N, C) and logits (B, K)."""
        final, layers = self.model.forward_intermediates(x, norm=False, output_fmt="NLC")
        tokens = layer_norm(torch.stack([layer.float() for layer in layers]), self.model.norm.eps)
        return tokens, self.model.forward_head(final).float()


class Distillation(nn.Module):
    """Student against teacher, see the module docstring."""

    def __init__(self, student: nn.Module, teacher: nn.Module, preset: EncoderPreset, mean, std, validation):
        super().__init__()
        self.trainable, self.teacher = LayersAndLogits(student), LayersAndLogits(teacher)
        self.preset, self.validation = preset, validation
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.student = self.trainable
        self.enlarge = teacher.patch_embed.patch_size[0] / student.patch_embed.patch_size[0]
        self.adversary, self.image_size = None, student.patch_embed.img_size[0]

    def compile(self) -> None:
        """See :meth:`train.engine.task.Task.compile`."""
        self.trainable.compile()
        self.teacher.compile()

    def use(self, trainable: nn.Module, discriminator: nn.Module | None) -> None:
        """See :meth:`train.engine.task.Task.use`."""
        self.student = trainable

    def compare(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Tokens of student and teacher (L, B, N, C each), then their logits (B, K each)."""
        x = (images - self.mean) / self.std
        large = F.interpolate(x, scale_factor=self.enlarge, mode="bicubic", align_corners=False)
        student, student_logits = self.student(x)
        with torch.no_grad():
            teacher, teacher_logits = self.teacher(large)
        return student, teacher, student_logits, teacher_logits

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """See :meth:`train.engine.task.Task.loss`; pictures (B, 3, H, W) in [0, 1]."""
        student, teacher, student_logits, teacher_logits = self.compare(batch.images)
        features = F.mse_loss(student, teacher)
        logits = F.kl_div(
            student_logits.log_softmax(-1), teacher_logits.log_softmax(-1), log_target=True, reduction="batchmean"
        )
        return features + self.preset.logits_weight * logits, {"features": features.detach(), "logits": logits.detach()}

    def adversary_loss(self, step: int) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Nothing, since there is no adversary."""
        return iter(())

    def pictures(self) -> None:
        """``None``: there is nothing to look at."""
        return None

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Cosine to the teacher per layer and agreement of the most likely class, on held-out photos."""
        cosines, agreements = [], []
        for images in self.validation.batches(32):
            student, teacher, student_logits, teacher_logits = self.compare(images.to(self.mean.device))
            cosines.append(F.cosine_similarity(student, teacher, dim=-1).mean((1, 2)).cpu())
            agreements.append((student_logits.argmax(-1) == teacher_logits.argmax(-1)).float().mean().cpu())
        cosine = torch.stack(cosines).mean(0)
        numbers = {f"cosine_layer_{i + 1}": value.item() for i, value in enumerate(cosine)}
        return numbers | {"top1_agreement": torch.stack(agreements).mean().item()}

    def export(self, folder: Path) -> None:
        """Write the student without its classifier, keys as in timm."""
        state = {key: value.contiguous().cpu() for key, value in student_weights(self.trainable.state_dict()).items()}
        save_file(state, folder / "model.safetensors")
        (folder / "config.json").write_text(
            json.dumps({"distilled_from": self.preset.teacher}, indent=2) + "\n", encoding="utf-8"
        )


def student_weights(trained: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's weights out of those of :class:`LayersAndLogits`, keys as in timm: no classifier, and no final
    norm, since LN_bb has no affine (see drorae.models.encoder)."""
    names = {name: name.removeprefix("model.") for name in trained}
    return {short: trained[name] for name, short in names.items() if not short.startswith(("head", "norm."))}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=PRESETS, required=True, help="preset whose recipe is followed")
    add_data_arguments(parser)
    add_run_arguments(parser)
    args = parser.parse_args(argv)
    preset = PRESETS[args.preset]
    if preset.encoder is None:
        raise RunError(f"preset '{args.preset}' takes its encoder from timm and has none to distil; start with stage1.")
    encoder = with_arguments(preset.encoder, args)

    def build(accelerator: Accelerator) -> Distillation:
        return build_task(args, preset, encoder)

    train(args, f"train.encoder --preset {args.preset}", "encoder", preset.model, encoder, build)


def build_task(args: argparse.Namespace, preset: Preset, encoder: EncoderPreset) -> Distillation:
    """The preset's student beside its teacher, and held-out photos."""
    torch.manual_seed(encoder.schedule.seed)
    model = preset.model
    size = model["encoder_input_size"]
    teacher = build_teacher(encoder, args.weights, **model["encoder_args"])
    student = timm.create_model(
        model["encoder_name"],
        pretrained=False,
        img_size=size,
        dynamic_img_size=model.get("any_size", False),
        **model["encoder_args"],
    )
    start_from_teacher(student, teacher)
    validation = load_validation(args, size, limit=VALIDATION_PHOTOS)
    return Distillation(student, teacher, encoder, model["encoder_mean"], model["encoder_std"], validation)


if __name__ == "__main__":
    main_guard(main)
