"""DRoRAE: depth-routed representation autoencoders (arXiv 2605.10780), reference implementation and explorer.

Conventions, stated once; ``tests/test_conventions.py`` tests those that are in use:

* images are float tensors (B, 3, H, W) in [0, 1]; encoder and loss specific ranges stay inside those modules;
* token maps are (B, N, C), row-major over the token grid; latents are (B, C, h, w) with N = h * w;
* a *layer* is a transformer block of the encoder, index 0..L-1 in code and 1..L on screen and in files for people;
  the patch embedding is not a layer;
* a checkpoint is a folder with ``config.json``, safetensors weights and a model card ``README.md``;
* of the generators: flow time t = 0 is data and t = 1 is noise, x_t = (1 - t) x_0 + t e, velocity = e - x_0,
  time shift s = sqrt(C * H * W / 4096); guidance scale 1 means none: out = weak + scale * (strong - weak).

The three routes every number is reported for:

* ``rae``: last layer only, original (phase 1) decoder;
* ``phase2``: fused layers, the same untouched decoder;
* ``drorae``: fused layers, decoder finetuned on them (phase 3).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drorae.checkpoints import CheckpointError
    from drorae.images import ImageError, load_image
    from drorae.models.autoencoder import AutoencoderDRoRAE, DRoRAEEncoderOutput
    from drorae.models.denoiser import DiTDH
    from drorae.models.fusion import DepthRoutedFusion, FusionOutput, MeanFusion, Routing
    from drorae.models.latents import LatentStatistics
    from drorae.pipelines.base import SamplingError
    from drorae.pipelines.class_to_image import DRoRAEClassPipeline
    from drorae.pipelines.text_to_image import DRoRAETextPipeline

__version__ = "0.2.0"

__all__ = [
    "AutoencoderDRoRAE",
    "CheckpointError",
    "DRoRAEClassPipeline",
    "DRoRAEEncoderOutput",
    "DRoRAETextPipeline",
    "DepthRoutedFusion",
    "DiTDH",
    "FusionOutput",
    "ImageError",
    "LatentStatistics",
    "MeanFusion",
    "Routing",
    "SamplingError",
    "load_image",
]

# Where each name lives, for those who run the code; the lines above say the same to type checkers.
_HOMES = {
    "AutoencoderDRoRAE": "models.autoencoder",
    "CheckpointError": "checkpoints",
    "DRoRAEClassPipeline": "pipelines.class_to_image",
    "DRoRAEEncoderOutput": "models.autoencoder",
    "DRoRAETextPipeline": "pipelines.text_to_image",
    "DepthRoutedFusion": "models.fusion",
    "DiTDH": "models.denoiser",
    "FusionOutput": "models.fusion",
    "ImageError": "images",
    "LatentStatistics": "models.latents",
    "MeanFusion": "models.fusion",
    "Routing": "models.fusion",
    "SamplingError": "pipelines.base",
    "load_image": "images",
}


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first asked for (PEP 562): ``import drorae`` alone loads no library."""
    if name not in _HOMES:
        raise AttributeError(f"module 'drorae' has no attribute {name!r}")
    value = getattr(import_module(f"drorae.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
