"""What is measured against what. Both sides of a contest compute the same, which is checked before they are timed."""

from __future__ import annotations

import copy
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from drorae.bench.timing import Contest, Work
from drorae.bundled import DEFAULT_GENERATOR, DEFAULT_MODEL, picture_path
from drorae.checkpoints import CheckpointError
from drorae.choices import CONTESTS
from drorae.devices import multiplies_bf16
from drorae.errors import DRoRAEError, reason_of
from drorae.explorer.explore import explore, intervene
from drorae.explorer.interventions import standard_interventions
from drorae.images import to_pil
from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.models.fusion import DepthRoutedFusion, LayerExperts, layer_norm
from drorae.pipelines.class_to_image import DRoRAEClassPipeline
from drorae.pipelines.guidance import AutoGuidance, extrapolate, predict
from drorae.pretrained.rae_export import export_rae

# DINOv2-S and a decoder of its size, with random weights: a tokenizer that a CPU times in seconds
SMALL: dict[str, Any] = {
    "encoder_name": "vit_small_patch14_reg4_dinov2",
    "encoder_input_size": 224,
    "decoder_hidden_size": 384,
    "decoder_num_layers": 12,
    "decoder_num_heads": 6,
    "decoder_intermediate_size": 1536,
}
PAPER: dict[str, Any] = {}  # the model's defaults: DINOv2-B, the paper's fusion, a decoder of ViT-XL, random weights
BATCH = 8  # pictures at once, where a batch is timed
CLOSE = 1e-3  # relative difference up to which two ways gave the same


class BenchError(DRoRAEError):
    """Two ways to do one thing gave different results, or there is nothing to measure."""


def contests(device: torch.device, names: Sequence[str] | None = None) -> Iterator[Contest | str]:
    """The contests by name, built one after the other, or a sentence why one is left out."""
    for name, build in BUILDERS.items():
        if names is None or name in names:
            torch.manual_seed(0)
            yield build(device)


def against_diffusers(device: torch.device) -> Contest:
    """Encoding and decoding without fusion, against the same weights in diffusers' class."""
    ours = AutoencoderDRoRAE(fusion=None, **SMALL).eval()
    theirs = export_rae(ours)
    ours, theirs = ours.to(device), theirs.to(device)
    images = torch.rand(1, 3, 224, 224, device=device)
    return matching_contest(
        "rae",
        "encode + decode of the last layer / the same in diffusers' AutoencoderRAE",
        lambda: ours.decode(ours.encode(images).latent).sample,
        lambda: theirs.decode(theirs.encode(images).latent).sample,
        aim=0.95,
    )


def against_last_layer(device: torch.device) -> Contest:
    """All layers against the last one, through the same decoder, at the paper's sizes. They compute different things:
    nothing is matched."""
    model = AutoencoderDRoRAE(**PAPER).eval().to(device)
    images = torch.rand(1, 3, model.encoder.input_size, model.encoder.input_size, device=device)

    def rebuild(fusion: bool) -> Tensor:
        return model.decode(model.encode(images, fusion=fusion).latent).sample

    title = "encode + decode of all layers / of the last one, at the paper's sizes"
    return counting_contest("fused", title, partial(rebuild, True), partial(rebuild, False), aim=1.11)


def against_loop(device: torch.device) -> Contest:
    """The experts against one small network per layer, as one would first write them."""
    experts = fusion_of(embedded_model(device)).experts
    layers, dim, _ = experts.weight_in.shape
    networks = [plain_expert(experts, k).to(device) for k in range(layers)]
    tokens = torch.randn(layers, BATCH * 256, dim, device=device)

    def loop() -> Tensor:
        return layer_norm(torch.stack([network(each) for network, each in zip(networks, tokens, strict=True)]))

    title = "the experts of all layers / one nn.Sequential after the other"
    return matching_contest("experts", title, lambda: experts(tokens), loop, 0.8)


def plain_expert(experts: LayerExperts, k: int) -> nn.Sequential:
    """MLP_k of equation 2 from torch's own modules, with the same weights."""
    _, dim, hidden = experts.weight_in.shape
    network = nn.Sequential(
        nn.Linear(dim, hidden), nn.LayerNorm(hidden, experts.eps), nn.GELU(), nn.Linear(hidden, dim)
    )
    state = {
        "0.weight": experts.weight_in[k].T,
        "0.bias": experts.bias_in[k, 0],
        "1.weight": experts.norm_weight[k, 0],
        "1.bias": experts.norm_bias[k, 0],
        "3.weight": experts.weight_out[k].T,
        "3.bias": experts.bias_out[k, 0],
    }
    network.load_state_dict(state)
    return network.eval()


def against_one_by_one(device: torch.device) -> Contest:
    """All interventions of the page from one reading, against asking for each of them."""
    model = embedded_model(device)
    side = model.image_size
    picture = to_pil(torch.rand(3, side, side))
    every = standard_interventions(model.encoder.num_layers, fusion_of(model).beta)
    wanted = [each for some in every.values() for each in some]

    def run_together() -> Tensor:
        found = explore(picture, model).interventions
        assert found is not None
        frames = [frame for beta, frame in zip(found.betas, found.strengths, strict=True) if beta != found.beta]
        return stack_pictures([*frames, *found.removed, *found.alone])

    def one_by_one() -> Tensor:
        explore(picture, model, interventions=False)
        return stack_pictures([intervene(picture, model, each) for each in wanted])

    title = f"{len(wanted)} interventions and the experts' pictures, from one reading / interventions one by one"
    return matching_contest("bundle", title, run_together, one_by_one, 0.32, close=0.02)  # of 255 levels, rounded


def stack_pictures(frames: list[Any]) -> Tensor:
    """Pictures of frames, (n, H, W, 3) in [0, 255]."""
    return torch.stack([torch.from_numpy(frame.picture).float() for frame in frames])


def against_doubled_batch(device: torch.device) -> Contest | str:
    """AutoGuidance against RAE's way to do it: both networks on the batch twice."""
    try:
        pipeline = DRoRAEClassPipeline.from_pretrained(DEFAULT_GENERATOR).to(device)
    except CheckpointError as error:
        return f"guidance is left out: {error}"
    denoiser, guide = pipeline.denoiser, pipeline.guide
    if guide is None:
        return f"guidance is left out: {DEFAULT_GENERATOR} has no guide"
    config = denoiser.config
    latents = torch.randn(4, config.in_channels, config.sample_size, config.sample_size, device=device)
    t, condition = torch.full((4,), 0.5, device=device), {"class_labels": torch.tensor([0, 1, 2, 0], device=device)}
    labels = {"class_labels": condition["class_labels"].repeat(2)}
    twice = torch.cat([latents] * 2), torch.cat([t] * 2), labels

    def run_doubled() -> Tensor:
        strong, weak = predict(denoiser, *twice), predict(guide, *twice)
        return extrapolate(strong[:4], weak[:4], 1.5)

    ours = AutoGuidance(denoiser, guide, condition, 1.5)
    return matching_contest(
        "guidance", "AutoGuidance / RAE's, on the batch twice", partial(ours, latents, t), run_doubled
    )


def against_fp32(device: torch.device) -> Contest | str:
    """All layers in bf16 against fp32."""
    if not multiplies_bf16(device):
        return "bf16 is left out: this processor only emulates it"
    model = embedded_model(device)
    half = copy.deepcopy(model).to(torch.bfloat16)
    images = torch.rand(BATCH, 3, model.image_size, model.image_size, device=device)
    return matching_contest(
        "bf16", "all layers in bf16 / fp32", lambda: half(images), lambda: model(images), close=0.05
    )


def against_eager(device: torch.device) -> Contest | str:
    """All layers through ``torch.compile`` against the same without it."""
    model = embedded_model(device)
    images = torch.rand(BATCH, 3, model.image_size, model.image_size, device=device)
    compiled = torch.compile(model)
    try:
        with torch.inference_mode():
            compiled(images)
    except Exception as error:  # whatever a compiler that is not there or too old says
        return f"torch.compile is left out: {reason_of(error)}"
    ours, theirs = (lambda: compiled(images)), (lambda: model(images))
    return matching_contest("compile", "all layers, torch.compile / eager", ours, theirs)


def against_python(_device: torch.device) -> Contest:
    """``import drorae`` against Python that imports nothing."""
    return Contest("import", "`import drorae` / Python itself", program("-c", "import drorae"), program("-c", ""))


def against_libraries(_device: torch.device) -> Contest:
    """The command line up to its first pictures, against the import of the libraries that it needs."""
    folder = tempfile.TemporaryDirectory()
    picture = str(picture_path("assets/examples/cat.jpg"))
    ours = program("-m", "drorae", "reconstruct", picture, "--out", folder.name)
    theirs = program("-c", "import torch, diffusers, timm, torchmetrics")

    def first() -> None:
        ours()
        assert Path(folder.name).exists()  # which keeps the folder until the contest is over

    title = "`drorae reconstruct` of a picture, from start to end / `import torch, diffusers, timm, torchmetrics`"
    return Contest("start", title, first, theirs)


BUILDERS: dict[str, Callable[[torch.device], Contest | str]] = dict(
    zip(
        CONTESTS,
        (
            against_diffusers,
            against_last_layer,
            against_loop,
            against_one_by_one,
            against_doubled_batch,
            against_fp32,
            against_eager,
            against_python,
            against_libraries,
        ),
        strict=True,
    )
)


def matching_contest(
    name: str, title: str, ours: Work, theirs: Work, aim: float | None = None, close: float = CLOSE
) -> Contest:
    """A contest of two ways that give the same, up to ``close`` of the root mean square of theirs.

    Raises:
        BenchError: they do not.
    """
    with torch.inference_mode():
        one, other = as_tensor(ours()), as_tensor(theirs())
    apart = ((one - other).square().mean() / other.square().mean()).sqrt().item()
    if one.shape != other.shape or not apart <= close:
        raise BenchError(f"The two sides of '{name}' differ by {apart:.2g} of their size, more than {close:g}.")
    return counting_contest(name, title, ours, theirs, aim)


def as_tensor(result: Any) -> Tensor:
    """The result of a contestant as one tensor, in fp32."""
    return (result if isinstance(result, Tensor) else result.sample).float()


def counting_contest(name: str, title: str, ours: Work, theirs: Work, aim: float | None = None) -> Contest:
    """A contest with the ratio of its floating-point operations, as torch counts them."""
    operations = []
    for work in (ours, theirs):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            work()
        operations.append(counter.get_total_flops())
    floating = operations[0] / operations[1] if all(operations) else None
    return Contest(name, title, ours, theirs, aim, floating)


def embedded_model(device: torch.device) -> AutoencoderDRoRAE:
    """The model that comes with the package."""
    return AutoencoderDRoRAE.from_pretrained(DEFAULT_MODEL).to(device)


def fusion_of(model: AutoencoderDRoRAE) -> DepthRoutedFusion:
    """The fusion of a model.

    Raises:
        BenchError: it has none with experts.
    """
    if not isinstance(model.fusion_module, DepthRoutedFusion):
        raise BenchError(f"{DEFAULT_MODEL} has no experts to measure.")
    return model.fusion_module


def program(*arguments: str) -> Work:
    """The work of running Python with these arguments, from start to end."""
    return lambda: subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
