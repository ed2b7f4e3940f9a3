"""How long a GPU is asked for: upper ends, since ZeroGPU ends what takes longer.

They grow with what is asked for. The rates are guesses on the safe side for the larger published models; a Space on
other hardware does not look at them.
"""

from __future__ import annotations

from drorae.explorer.reading import Cut
from drorae.explorer.sampling import PAGE_STEPS, Request, guidance_rows

READING = 2.0  # seconds: encoder, experts and router, and the first kernels
PAINTING = 0.15  # seconds for a decoder to paint and measure 256 x 256 pixels
STEP = 0.03  # seconds for one step of one picture, without guidance
LOADING = 20.0  # seconds for another tokenizer from the disk


def painting_seconds(*cuts: Cut, count: int = 3) -> float:
    """For reading parts of photos and painting each ``count`` times."""
    pixels = sum(cut.picture.shape[0] * cut.picture.shape[1] for cut in cuts)
    return READING + PAINTING * count * pixels / 256**2


def intervening_seconds(cut: Cut, layers: int) -> float:
    """For painting every strength, and every layer without, alone and as its expert."""
    return painting_seconds(cut, count=11 + 3 * layers)


def sampling_seconds(request: Request, pictures: int | None = None, rows: int | None = None) -> float:
    """For the steps of a request.

    Args:
        pictures: how many are sampled at once; those of the request when ``None``.
        rows: how often they are sampled; what the request compares when ``None``.
    """
    pictures = len(request.seeds) or request.count if pictures is None else pictures
    rows = len(guidance_rows(request)) + bool(request.other) if rows is None else rows
    passes = 1 if request.guidance == "none" else 2
    steps = request.steps if isinstance(request.steps, int) and 0 < request.steps <= PAGE_STEPS else 0  # else refused
    return READING + STEP * steps * pictures * rows * passes
