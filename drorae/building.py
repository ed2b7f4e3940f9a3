"""Building a network from a configuration that may ask for far more than there are weights."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration
from torch.overrides import TorchFunctionMode

MODULES = 40  # at most, for each stored tensor: activations and containers have none
SPARE = 1000  # of both, for what is built and left out again


class TooLargeError(Exception):
    """A network that would have more parts than its weights could fill."""


class UnfilledMeta(TorchFunctionMode):
    """While it is active, what would fill tensors on the meta device does nothing.

    They have no values, and yet the initialisation of a vision transformer there takes half of the time of loading it.
    """

    FILLING = frozenset({Tensor.uniform_, Tensor.normal_, Tensor.erfinv_, Tensor.mul_, Tensor.add_, Tensor.clamp_})

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in self.FILLING and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def on_meta(stored: int) -> Iterator[None]:
    """While it is active, this thread builds networks without values, and none that is much larger than its weights.

    Args:
        stored: tensors that there are weights for.

    Raises:
        TooLargeError: within it, as soon as there are more tensors or modules than these weights could fill.
    """
    left = {"tensors": 2 * stored + SPARE, "modules": MODULES * stored + SPARE}
    here = threading.get_ident()

    def count(what: str) -> None:
        if threading.get_ident() != here:
            return
        left[what] -= 1
        if left[what] < 0:
            raise TooLargeError(f"it has many more {what} than the {stored} stored weights could fill")

    def on_module(parent: nn.Module, name: str, child: Any) -> None:
        count("modules")

    def on_tensor(parent: nn.Module, name: str, value: Any) -> None:
        count("tensors")

    hooks = [
        registration.register_module_module_registration_hook(on_module),
        registration.register_module_parameter_registration_hook(on_tensor),
        registration.register_module_buffer_registration_hook(on_tensor),
    ]
    try:
        with UnfilledMeta(), torch.device("meta"):
            yield
    finally:
        for hook in hooks:
            hook.remove()
