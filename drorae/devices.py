"""Where networks run: the one place that chooses."""

from __future__ import annotations

import torch


def best_device() -> torch.device:
    """The accelerator of this machine (``cuda``, ``mps``, ...), else the CPU.

    Seeded noise is drawn on the CPU and moved (:func:`drorae.pipelines.flow.draw_noise`), so a seed is the same picture
    on each of them, up to rounding.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return torch.device("cpu") if accelerator is None else accelerator
