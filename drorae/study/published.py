"""Numbers that others published, on ImageNet-256: nothing here was measured by this project.

"The paper" is arXiv 2605.10780. Each peer's numbers come from its own protocol, so that small differences mean nothing.
"""

from __future__ import annotations

from typing import NamedTuple

PAPER = "2605.10780"


class Peer(NamedTuple):
    """A tokenizer and what was generated upon it. PSNR in dB; ``epochs`` are the generator's, ``None`` not stated."""

    name: str
    source: str  # arXiv number, or the id of a model card on the Hub
    rfid: float | None = None
    psnr: float | None = None
    gfid: float | None = None  # without guidance
    epochs: int | None = None
    guided: float | None = None  # gFID with the guidance of its authors
    guided_epochs: int | None = None
    note: str = ""


PEERS = (
    Peer("VA-VAE", "2501.01423", 0.28, 27.96, 4.29, 80, 1.35, 800, "VAE aligned to DINOv2"),
    Peer("REPA-E", "2504.10483", 0.28, 26.25, 3.46, 80, 1.12, 800, "VAE and generator end to end; balanced labels"),
    Peer("SVG", "2510.15301", 0.65, None, 6.57, 80, 3.54, 80, "DINOv3 and a branch for detail"),
    Peer("VFM-VAE", "2510.18457", 0.52, 22.99, 2.22, 80, 1.31, 640, "frozen SigLIP2, several scales, into a VAE"),
    Peer("DINO-Tok", "2511.20565", 0.32, 28.54, 5.94, 80, None, None, "shallow and deep DINO layers side by side"),
    Peer("FAE", "2512.07829", 0.68, None, 2.08, 80, 1.70, 80, "one attention layer, 32 channels"),
    Peer("VTP-L", "2512.13687", 0.36, None, 2.03, 80, 1.11, None, "tokenizer trained with CLIP and self-supervision"),
    Peer("DINO-SAE", "2601.22904", 0.78, 25.2, 2.65, 80, 1.90, 550, "convolutional stem, spherical latent"),
    Peer("RPiAE", "2603.19206", 0.50, 21.3, 2.25, 80, 1.51, 80, "finetuned encoder, 64 channels"),
    Peer("RAEv2, K=7", "2605.18324", 0.299, 22.6, 1.65, 80, 1.06, 80, "DINOv3-L, fixed mean of 7 layers"),
    Peer("RAEv2, K=23", "2605.18324", 0.185, 27.03, 3.01, 80, 1.25, 80, "DINOv3-L, fixed mean of 23 layers"),
    Peer("DecQ", "2605.22777", 0.47, 22.76, 1.80, 80, 1.33, 80, "8 queries for detail, generated jointly"),
    Peer("UniSpace", "2608.08676", 0.14, 30.84, 2.10, None, 1.87, None, "second, trained patch embedding"),
    Peer("FuseReg", "2609.31620", gfid=2.21, note="RAEv2, K=23, its decoder trained on random subsets of layers"),
    Peer(
        "FuseLift",
        "Hongyang-Du/FuseLift",
        guided=0.98,
        guided_epochs=80,
        note="RAEv2, K=7, whose decoder it keeps; the generator learns the decoder's first hidden state",
    ),
    Peer("HiRAE-7", "2609.37775", 0.217, 25.07, 2.085, 80, 1.038, 80, "learned fusion with budgets, DINOv3-L"),
    Peer("HiRAE-24", "2609.37775", 0.209, 26.38, 2.129, 80, 1.038, 80, "learned fusion with budgets, DINOv3-L"),
    Peer(
        "DRoRAE-style, DINOv3-L",
        "2609.37775",
        0.065,
        guided=1.551,
        guided_epochs=80,
        note="fusion and decoder trained together, as HiRAE's authors rebuilt it",
    ),
)


def source_words(source: str) -> str:
    """The source of a peer as text: an arXiv number, or a model card."""
    return f"model card {source}" if "/" in source else f"arXiv {source}"


class RouteScores(NamedTuple):
    """One row of the paper's table 1, with generators of 80 epochs: what the page calls a route."""

    key: str
    name: str
    rfid: float
    psnr: float
    lpips: float
    ssim: float
    gfid: float
    guided: float


ROUTE_SCORES = (
    RouteScores("rae", "RAE (last layer)", 0.57, 18.8, 0.256, 0.483, 2.16, 1.74),
    RouteScores("phase2", "DRoRAE, phase 2", 0.47, 21.79, 0.195, 0.583, 2.45, 1.70),
    RouteScores("drorae", "DRoRAE, full", 0.29, 24.32, 0.134, 0.701, 2.68, 1.65),
)


class Quoted(NamedTuple):
    """A row of the paper's table 1 that it quotes from others: ``generator`` with parameters and epochs."""

    name: str
    generator: str
    rfid: float
    psnr: float | None
    lpips: float | None
    ssim: float | None
    gfid: float
    guided: float | None


QUOTED = (
    Quoted("VQGAN", "MaskGiT, 227M, 555 epochs", 2.23, 17.9, 0.202, 0.422, 6.18, None),
    Quoted("SD-VAE", "DiT-XL, 675M, 1400 epochs", 0.61, 26.9, 0.130, 0.736, 9.62, 2.27),
    Quoted("REPA", "SiT-XL, 675M, 80 epochs", 0.61, 26.9, 0.130, 0.736, 7.90, None),
    Quoted("VA-VAE", "SiT-XL, 675M, 80 epochs", 0.27, 27.7, 0.097, 0.779, 5.96, 3.63),
    Quoted("FAE-d32", "LightningDiT, 675M, 80 epochs", 0.68, None, None, None, 2.08, 1.70),
    Quoted("SVG", "SVG-XL, 675M, 80 epochs", 0.65, None, None, None, 6.57, 3.54),
    Quoted("RPiAE", "LightningDiT, 675M, 80 epochs", 0.50, 21.3, 0.216, 0.525, 2.25, 1.51),
)


class LayerRole(NamedTuple):
    """What the paper's figures 7 and 9 show of some layers of its DINOv2-B, from ``first`` to ``last``."""

    first: int
    last: int
    text: str


DEPTH = 12  # layers of DINOv2-B
LAYER_ROLES = (
    LayerRole(1, 3, "added a little; layer 1 where there is texture"),
    LayerRole(4, 5, "first suppressed in places"),
    LayerRole(6, 7, "suppressed everywhere, most on the subject"),
    LayerRole(8, 9, "added exactly where 6 and 7 are suppressed"),
    LayerRole(10, 12, "added alike everywhere"),
)
COSINES = (-0.223, -0.209, -0.223, -0.236)  # mean cos(z_fuse, z_base) of each of four photos


class Scaling(NamedTuple):
    """A row of tables 8 and 9: size of the fusion in millions of parameters, and the rFID of phase 2."""

    setting: int  # expert width h, or number of the deepest layers
    parameters: float
    rfid: float


WIDTHS = (
    Scaling(128, 2.5, 0.539),
    Scaling(256, 4.8, 0.559),
    Scaling(512, 9.6, 0.525),
    Scaling(1024, 19.0, 0.519),
    Scaling(2048, 37.8, 0.510),
    Scaling(3072, 56.7, 0.471),
    Scaling(4096, 75.6, 0.470),
    Scaling(6144, 113.3, 0.459),
)
LAYERS = (
    Scaling(1, 4.7, 0.570),
    Scaling(2, 9.5, 0.530),
    Scaling(3, 14.2, 0.568),
    Scaling(4, 18.9, 0.518),
    Scaling(5, 23.7, 0.540),
    Scaling(6, 28.4, 0.515),
    Scaling(7, 33.1, 0.522),
    Scaling(8, 37.9, 0.507),
    Scaling(9, 42.6, 0.466),
    Scaling(10, 47.3, 0.541),
    Scaling(11, 52.1, 0.515),
    Scaling(12, 56.7, 0.471),
)
# Appendix C: rFID = slope * log10(parameters) + intercept; rFID = slope * layers + (not stated)
STATED_WIDTH_FIT = (-0.058, 0.97, 0.86)  # slope, intercept, R^2
STATED_LAYER_FIT = (-6.2e-3, None, 0.49)
STATED_UNIFIED_FIT = (-0.058, None, 0.59)


class Variant(NamedTuple):
    """A row of table 3: a fusion, its rFID, and the loss of a generator after 12 epochs upon it."""

    name: str
    rfid: float
    loss: float | None


VARIANTS = (
    Variant("no fusion (RAE)", 0.57, 0.43),
    Variant("cross-attention", 0.498, None),
    Variant("softmax", 0.475, 0.79),
    Variant("energy", 0.447, 0.81),
    Variant("softmax + incremental", 0.512, 0.48),
    Variant("energy + incremental", 0.470, 0.47),
)


class Strategy(NamedTuple):
    """A row of table 4: what is trained, and what becomes of reconstruction and generation."""

    name: str
    rfid: float
    gfid: float
    guided: float | None


STRATEGIES = (
    Strategy("fusion", 0.47, 2.46, 1.70),
    Strategy("fusion, then decoder", 0.29, 2.68, 1.65),
    Strategy("backbone, fusion and decoder", 0.13, 18.36, None),
)

GENEVAL_TASKS = ("single object", "two objects", "counting", "colours", "position", "attributes", "overall")
GENEVAL = {
    "FLUX-VAE": (0.83, 0.30, 0.25, 0.65, 0.08, 0.18, 0.38),
    "VA-VAE": (0.96, 0.72, 0.46, 0.79, 0.25, 0.49, 0.61),
    "RAE": (0.96, 0.69, 0.46, 0.70, 0.23, 0.33, 0.56),
    "RPiAE-VB": (0.97, 0.72, 0.56, 0.79, 0.26, 0.38, 0.61),
    "DRoRAE": (0.98, 0.69, 0.56, 0.79, 0.22, 0.35, 0.60),
}
