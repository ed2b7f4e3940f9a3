"""Where networks run and in which precision: the one place that chooses."""

from __future__ import annotations

import os

import torch

from drorae.errors import DRoRAEError

DEVICE = "DRORAE_DEVICE"  # variable of the environment: where networks run
PRECISION = "DRORAE_PRECISION"  # variable of the environment: what a page computes in
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def best_device() -> torch.device:
    """The device that ``DRORAE_DEVICE`` names (``cpu``, ``cuda``, ``cuda:1``, ``mps``), else the accelerator of this
    machine, else its CPU.

    Seeded noise is drawn on the CPU and moved (:func:`drorae.pipelines.flow.draw_noise`), so a seed is the same picture
    on each of them, up to rounding.

    Raises:
        DRoRAEError: the device that is named does not exist here.
    """
    name = os.environ.get(DEVICE)
    if name:
        return _named_device(name)
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return torch.device("cpu") if accelerator is None else accelerator


def _named_device(name: str) -> torch.device:
    unknown = DRoRAEError(f"{DEVICE} is cpu or an accelerator that this machine has, not '{name[:40]}'.")
    try:
        device = torch.device(name)
        found = 1 if device.type == "cpu" else torch.get_device_module(device).device_count()
    except (AttributeError, RuntimeError) as error:  # no such kind, or one that torch was built without
        raise unknown from error
    if (device.index or 0) >= found:
        raise unknown
    return device


def page_precision() -> torch.dtype:
    """The precision that a page computes in: fp32, so that a link shows everybody the same numbers, unless
    ``DRORAE_PRECISION`` says ``bf16``.

    Raises:
        DRoRAEError: it says something else.
    """
    name = os.environ.get(PRECISION) or "fp32"
    if name not in PRECISIONS:
        raise DRoRAEError(f"{PRECISION} is {' or '.join(PRECISIONS)}, not '{name[:40]}'.")
    return PRECISIONS[name]


def precision_name(dtype: torch.dtype) -> str:
    """``"fp32"``, ``"bf16"``; other types by torch's name."""
    names = {value: name for name, value in PRECISIONS.items()}
    return names.get(dtype, str(dtype).removeprefix("torch."))


def multiplies_bf16(device: torch.device) -> bool:
    """Whether this device has instructions for products of bf16 matrices."""
    if device.type != "cpu":
        return True
    # the function is newer than the oldest torch allowed
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
