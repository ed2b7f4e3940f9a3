"""Reference statistics as ADM publishes them, ``VIRTUAL_imagenet256_labeled.npz``: what gFID is measured against.

Such a file has mean and covariance of Inception's pooled features (``mu``, ``sigma``), those of its spatial features
for sFID (``mu_s``, ``sigma_s``, which are not used here), or the pictures themselves (``arr_0``), or all of them.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from train.errors import DataError

PUBLISHED = "VIRTUAL_imagenet256_labeled.npz"


class Moments(NamedTuple):
    """Mean (D,) and covariance (D, D) of features, float64."""

    mean: Tensor
    covariance: Tensor


class ReferenceFile(NamedTuple):
    """What a file has: moments, or pictures (n, H, W, 3) of bytes that they are still to be computed from."""

    path: Path
    moments: Moments | None
    pictures: np.ndarray | None


def read_reference(path: Path, num_features: int, option: str = "--reference") -> ReferenceFile:
    """A file of reference statistics. Nothing in it is unpickled. Moments are taken where it also has pictures.

    Args:
        num_features: D, of the network that they are compared in.
        option: named in error messages.

    Raises:
        DataError: it cannot be read, or its layout is another.
    """
    where = f"{option} {path}"
    try:
        opened = np.load(path, allow_pickle=False)
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise ValueError("it is one array")
        with opened as file:
            arrays: dict[str, np.ndarray] = {name: file[name] for name in ("mu", "sigma") if name in file.files}
            if not arrays and "arr_0" in file.files:
                arrays = {"arr_0": file["arr_0"]}
            names = ", ".join(sorted(file.files)) or "nothing"
    except (OSError, ValueError, EOFError, AttributeError, BadZipFile, zlib.error, MemoryError) as error:
        raise DataError(
            f"{where}: it is not an npz file that can be read ({error}); give ADM's {PUBLISHED}, or one of its layout."
        ) from error
    if "arr_0" in arrays:
        return ReferenceFile(path, None, check_pictures(arrays["arr_0"], where))
    if len(arrays) < 2:
        raise DataError(
            f"{where}: it has {names}, and neither 'mu' with 'sigma' nor pictures 'arr_0'; give ADM's "
            f"{PUBLISHED}, or one of its layout."
        )
    return ReferenceFile(path, check_moments(arrays["mu"], arrays["sigma"], num_features, where), None)


def check_moments(mean: Any, covariance: Any, num_features: int, where: str) -> Moments:
    """The arrays of a file as moments.

    Raises:
        DataError: other shapes, values that are not finite numbers, or no covariance.
    """
    wanted = ((num_features,), (num_features, num_features))
    if (mean.shape, covariance.shape) != wanted:
        raise DataError(
            f"{where}: 'mu' is {list(mean.shape)} and 'sigma' {list(covariance.shape)}, where Inception's "
            f"pooled features have {list(wanted[0])} and {list(wanted[1])}."
        )
    numbers = all(np.issubdtype(array.dtype, np.floating) and np.isfinite(array).all() for array in (mean, covariance))
    covariance = covariance.astype(np.float64) if numbers else covariance
    scale = np.abs(np.diag(covariance)).max() if numbers else 0
    if (
        not numbers
        or not np.allclose(covariance, covariance.T, rtol=0, atol=1e-3 * scale)
        or (np.diag(covariance).min() < 0)
    ):
        raise DataError(f"{where}: 'sigma' is not a covariance, or not all of 'mu' and 'sigma' are finite.")
    return Moments(torch.from_numpy(mean.astype(np.float64)), torch.from_numpy((covariance + covariance.T) / 2))


def check_pictures(pictures: Any, where: str) -> np.ndarray:
    """The pictures of a file.

    Raises:
        DataError: they are not (n, H, W, 3) bytes.
    """
    if pictures.ndim != 4 or pictures.shape[-1] != 3 or pictures.dtype != np.uint8 or not len(pictures):
        raise DataError(
            f"{where}: 'arr_0' is {list(pictures.shape)} of {pictures.dtype}, where pictures are "
            "[n, height, width, 3] of uint8."
        )
    return pictures
