"""EfficientNet-Lite2 as an evaluator that nothing here is trained with: pooled features and class logits."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drorae.checkpoints import read_weights
from train.errors import check_weights

WEIGHTS = "tf_efficientnet_lite2_fp16.safetensors"
INPUT_SIZE = 260


class EfficientNetLite2(nn.Module):
    """timm's ``tf_efficientnet_lite2``.

    Args:
        folder: holds its weights, ``tf_efficientnet_lite2_fp16.safetensors``.

    Raises:
        FileNotFoundError: they are not there.
        CheckpointError: their file is damaged.
    """

    num_features = 1280

    def __init__(self, folder: Path):
        super().__init__()
        file = folder / WEIGHTS
        check_weights(file, f"EfficientNet-Lite2 needs '{file}' (timm's tf_efficientnet_lite2)")
        self.model = timm.create_model("tf_efficientnet_lite2", pretrained=False)
        state = {name: value.float() for name, value in read_weights(file, only_floats=False).items()}
        missing, unexpected = self.model.load_state_dict(state, strict=False)
        missing = [name for name in missing if not name.endswith("num_batches_tracked")]  # of no use in eval mode
        if missing or unexpected:
            raise FileNotFoundError(f"'{file}' does not hold timm's tf_efficientnet_lite2; fetch it again")
        self.model.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) in [0, 1], resized to 260 px, to pooled features (B, 1280) and class logits (B, 1000)."""
        if images.shape[-2:] != (INPUT_SIZE, INPUT_SIZE):
            images = F.interpolate(images, (INPUT_SIZE, INPUT_SIZE), mode="bicubic", antialias=True).clamp(0, 1)
        pixels = (images.float() * 2 - 1).contiguous(memory_format=torch.channels_last)
        features = self.model.forward_head(self.model.forward_features(pixels), pre_logits=True)
        return features, self.model.get_classifier()(features)
