"""The paper's scaling study, refitted from its tables, and what was measured of a model here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from drorae.study import published

MEASURED = "measured.json"
ROUTE_NAMES = tuple(route.key for route in published.ROUTE_SCORES)


class Fit(NamedTuple):
    """A straight line by least squares; ``r2`` is the share of the variance it explains."""

    slope: float
    intercept: float
    r2: float

    def at(self, x: ArrayLike) -> np.ndarray:
        """Values of the line."""
        return self.slope * np.asarray(x, dtype=np.float64) + self.intercept


def least_squares(x: ArrayLike, y: ArrayLike) -> Fit:
    """The straight line through points (``x``, ``y``), two sequences of equal length."""
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    slope, intercept = np.polyfit(xs, ys, 1)
    residuals = ys - slope * xs - intercept
    return Fit(float(slope), float(intercept), float(1 - residuals.var() / ys.var()))


class Refits(NamedTuple):
    """rFID on log10 of the parameters (table 8, and tables 8 and 9 together), and on the number of layers (table 9)."""

    widths: Fit
    layers: Fit
    unified: Fit


def refits() -> Refits:
    """The fits of the paper's appendix C, from its own tables."""
    both = (*published.WIDTHS, *published.LAYERS)
    return Refits(
        least_squares(magnitudes(published.WIDTHS), [row.rfid for row in published.WIDTHS]),
        least_squares([row.setting for row in published.LAYERS], [row.rfid for row in published.LAYERS]),
        least_squares(magnitudes(both), [row.rfid for row in both]),
    )


def magnitudes(rows: Sequence[published.Scaling]) -> np.ndarray:
    """log10 of the parameters of each row."""
    return np.log10([row.parameters * 1e6 for row in rows])


class Measured(NamedTuple):
    """What ``train.evaluate`` measured of a checkpoint: on which pictures, by route, and how to repeat it."""

    name: str
    reference: str
    photos: int
    crop: str
    command: str
    psnr: dict[str, float]
    ssim: dict[str, float]
    cosine: float | None  # mean cos(z_fuse, z_base)


def read_measurements(folder: Path) -> Measured | None:
    """The measurements that lie beside a checkpoint; ``None`` where there are none that can be read."""
    try:
        report: dict[str, Any] = json.loads((folder / MEASURED).read_text(encoding="utf-8"))
        routes = {key: report["routes"][key] for key in ROUTE_NAMES if key in report["routes"]}
        return Measured(
            str(report["checkpoint"]),
            str(report["reference"]),
            int(report["photos"]),
            str(report["crop"]),
            str(report["command"]),
            {key: float(row["psnr"]) for key, row in routes.items()},
            {key: float(row["ssim"]) for key, row in routes.items()},
            report.get("latent", {}).get("cosine_fused_base"),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
