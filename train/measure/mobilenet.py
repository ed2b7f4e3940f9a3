"""MobileNetV2 as an evaluator that no tokenizer here was trained with: pooled features and class logits."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drorae.checkpoints import CheckpointError, read_weights
from train.errors import check_weights

WEIGHTS, ARCHITECTURE = "mobilenet_v2_224_dequant.safetensors", "mobilenet_v2_224_arch.json"
INPUT_SIZE = 224


class MobileNetV2(nn.Module):
    """MobileNetV2 (arXiv 1801.04381) with folded batch norms, run from its list of operations.

    Args:
        folder: holds the weights and the list (convolutions, additions, the pooling).

    Raises:
        FileNotFoundError: one of the two files is not there.
        CheckpointError: one of them is damaged.
    """

    num_features = 1280

    def __init__(self, folder: Path):
        super().__init__()
        for name in (WEIGHTS, ARCHITECTURE):
            check_weights(folder / name, f"FD-MobileNetV2 needs '{folder / name}'")
        try:
            self.operations = json.loads((folder / ARCHITECTURE).read_text(encoding="utf-8"))
        except ValueError as error:
            raise CheckpointError(f"'{folder / ARCHITECTURE}' is damaged; fetch it again.") from error
        for key, value in read_weights(folder / WEIGHTS).items():
            self.register_buffer(key.replace(".", "_"), value.float(), persistent=False)

    def _convolve(self, x: Tensor, op: dict) -> Tensor:
        weight, bias = getattr(self, f"{op['name']}_weight"), getattr(self, f"{op['name']}_bias")
        # TensorFlow's "same": the output is ceil(size / stride), and an odd pixel of padding goes to the far side
        needed = [max((-(-side // op["stride"]) - 1) * op["stride"] + op["kernel"] - side, 0) for side in x.shape[-2:]]
        top, left = needed[0] // 2, needed[1] // 2
        x = F.pad(x, (left, needed[1] - left, top, needed[0] - top))
        x = F.conv2d(x, weight, bias, stride=op["stride"], groups=op["groups"])
        return x.clamp(0, 6) if op["relu6"] else x

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) in [0, 1], enlarged to 224 px, to pooled features (B, 1280) and logits (B, 1001).

        Class 0 of the logits is "background".
        """
        if images.shape[-1] != INPUT_SIZE:
            images = F.interpolate(images, (INPUT_SIZE, INPUT_SIZE), mode="bicubic", antialias=True).clamp(0, 1)
        results = {"input": (images.float() * 2 - 1).contiguous(memory_format=torch.channels_last)}
        last: dict[str, int] = {}
        for index, op in enumerate(self.operations):
            for source in op["src"] if isinstance(op["src"], list) else [op["src"]]:
                last[source] = index
        for index, op in enumerate(self.operations):
            sources = op["src"] if isinstance(op["src"], list) else [op["src"]]
            if op["op"] == "conv":
                results[op["name"]] = self._convolve(results[sources[0]], op)
            elif op["op"] == "add":
                results[op["name"]] = results[sources[0]] + results[sources[1]]
            else:
                results[op["name"]] = results[sources[0]].mean((2, 3), keepdim=True)
            for source in sources:
                if last[source] == index and source != "pool":
                    del results[source]  # what nothing reads any more
        return results["pool"].flatten(1), results[self.operations[-1]["name"]].flatten(1)
