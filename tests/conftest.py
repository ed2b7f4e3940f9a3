"""Tiny real models and pictures that the tests share."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

# Before anything imports gradio or huggingface_hub: the tests reach no network.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="drorae-tests-")  # a page that closes removes its files there
if "PYTEST_XDIST_WORKER" in os.environ:  # tests in several processes: threads beyond the cores only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import datasets
import gradio as gr
import gradio.networking
import gradio.routes
import numpy as np
import pytest
import torch
from browser import CHROMIUM, FLAGS, Watched
from diffusers import AutoencoderKL
from PIL import Image
from playwright.sync_api import BrowserContext, BrowserType, sync_playwright
from safetensors.torch import load_file
from torch import nn

from drorae import AutoencoderDRoRAE, DiTDH, DRoRAEClassPipeline, DRoRAETextPipeline
from drorae.explorer.explore import Exploration, explore
from drorae.explorer.reading import Reading
from drorae.images import load_image, open_photo
from drorae.pipelines import flow
from drorae.ui.page import build_demo, launch_options
from drorae.viewers.values import routes_value
from train import encoder, latent_stats, stage1, stage2
from train.data.crops import Crop
from train.data.positions import TrainingPositions
from train.data.sources import load_photos
from train.tasks.text_encoder import build_encoder, train_tokenizer

atexit.register(shutil.rmtree, os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)
datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0  # 5 s for every stream that is left early, for threads on a network
gradio.networking.url_ok = lambda url: True  # it gives a page three seconds to answer, and a busy machine takes longer

ROOT = Path(__file__).resolve().parent.parent
PHOTOS = ROOT.parent / "shared" / "data"

PHASES = ("decoder", "fusion", "finetune")

TINY = {
    "encoder_name": "vit_tiny_patch16_224",
    "encoder_args": {"patch_size": 8, "reg_tokens": 4, "depth": 3, "embed_dim": 48},
    "encoder_input_size": 32,
    "encoder_mean": (0.5, 0.4, 0.3),
    "encoder_std": (0.5, 0.6, 0.7),
    "fusion_hidden_size": 64,
    "decoder_hidden_size": 48,
    "decoder_num_layers": 1,
    "decoder_num_heads": 2,
    "decoder_intermediate_size": 96,
    "decoder_patch_size": 8,
}


LABELS = ["tench, Tinca tinca", "church", "golf ball"]
SHAPE = (48, 4, 4)


def build(**changes) -> AutoencoderDRoRAE:
    """A random but real autoencoder: 32 px, 4 x 4 tokens, 3 layers, 48 channels."""
    torch.manual_seed(0)
    model = AutoencoderDRoRAE(**{**TINY, **changes}).eval()
    for name, parameter in model.named_parameters():  # LayerScale and biases start at values that hide mistakes
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=float(name.endswith("weight")), std=0.1)
    return model


@pytest.fixture
def model() -> AutoencoderDRoRAE:
    """A fresh random model with fusion and both decoders, free to be changed."""
    model = build(finetuned_decoder=True)
    for parameter in model.decoder_finetuned.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def network(seed: int, **changes) -> DiTDH:
    """A random denoiser of 3 classes for the latents of :func:`build`; fresh ones would predict nothing."""
    torch.manual_seed(seed)
    sizes = {"in_channels": 48, "hidden_size": (24, 48), "depth": (2, 1), "num_heads": (2, 2), "num_classes": 3}
    made = DiTDH(sample_size=4, **{**sizes, **changes}).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.15)
    return made


@pytest.fixture(scope="session")
def pipeline() -> DRoRAEClassPipeline:
    """A random generator with a guide and both decoders. Do not change it."""
    autoencoder = build(finetuned_decoder=True)
    for parameter in autoencoder.decoder_finetuned.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    autoencoder.set_statistics(torch.full(SHAPE, 0.8), torch.full(SHAPE, 0.1))
    fingerprint = autoencoder.statistics.fingerprint()
    pair = [network(seed, latent_fingerprint=fingerprint) for seed in (1, 2)]
    made = DRoRAEClassPipeline(autoencoder, pair[0], flow.build_scheduler(*SHAPE), pair[1], LABELS)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="session")
def text_pipeline(pipeline) -> DRoRAETextPipeline:
    """A random text-to-image generator with its own tiny text encoder. Do not change it."""
    tokenizer = train_tokenizer(["a red ball on green grass", "two dogs run on the grass", "a church at night"], 300)
    encoder = build_encoder(len(tokenizer), 32, 1, 8, seed=0).eval()
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    parts = (pipeline.autoencoder, network(3, num_classes=None, text_dim=32), pipeline.scheduler)
    made = DRoRAETextPipeline(*parts, tokenizer, encoder, max_tokens=8)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def embedded() -> AutoencoderDRoRAE:
    """The shipped model. Do not change it."""
    return AutoencoderDRoRAE.from_pretrained("assets/drorae-tiny")


@pytest.fixture(scope="session")
def cat() -> Image.Image:
    return load_image(ROOT / "assets" / "examples" / "cat.jpg")


@pytest.fixture(scope="session")
def explored(embedded, cat) -> Exploration:
    return explore(cat, embedded)


def sent(result: Exploration) -> dict:
    """What the page is sent of a picture."""
    return routes_value(result, key="0", name="photo", model={"name": "tiny", "hash": "0"}, facts={})


def smoke(out: Path, phase: str | None = None) -> list[str]:
    """Arguments of a smoke run: of ``train.encoder``, or of a phase of ``train.stage1``."""
    arguments = ["--preset", "smoke", "--data", "generated", "--validation", "generated", "--out", str(out)]
    return arguments if phase is None else [*arguments, "--phase", phase]


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> Path:
    """All phases of the smoke preset, run once by the commands of the README. Do not change the folder."""
    out = tmp_path_factory.mktemp("runs")
    encoder.main(smoke(out))
    for phase in PHASES:
        stage1.main(smoke(out, phase))
    return out


@pytest.fixture(scope="session")
def generators(runs, tmp_path_factory) -> Path:
    """The smoke tokenizer with statistics, and both denoisers trained upon it. Do not change it."""
    out = tmp_path_factory.mktemp("stage2")
    shutil.copytree(runs / "smoke", out / "smoke")
    latent_stats.main([str(out / "smoke" / "finetune" / "checkpoint"), "--data", "generated"])
    for guide in ([], ["--guide"]):
        stage2.main([*smoke(out), "--condition", "class", *guide])
    return out


CENTRE = Crop(None, (1.0, 1.0), True, centre=True)


def photos(folder, count=7, damaged=(), seed=0) -> TrainingPositions:
    """Noise pictures of two classes in ``folder``, as training data; the ``damaged`` ones cannot be read."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        place = folder / "train" / ("cat", "dog")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(place / f"{i}.png")
        if i in damaged:
            (place / f"{i}.png").write_bytes(b"not a picture")
    return TrainingPositions([load_photos(str(folder), "train")], 32, CENTRE, seed=0)


def save_noise(file: Path, seed: int = 0) -> None:
    """A small noise picture, and the folders it lies in."""
    file.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)


def rows_of(**columns) -> datasets.Dataset:
    """A data set of empty pictures with these columns."""
    picture = {"bytes": b"", "path": None}
    count = len(next(iter(columns.values())))
    return datasets.Dataset.from_dict({"image": [picture] * count, **columns})


def weights(runs: Path, phase: str) -> dict[str, torch.Tensor]:
    """The weights a smoke run left."""
    folder = runs / "smoke" / phase / "checkpoint"
    return load_file(next(folder.glob("*model.safetensors")))


def same(a: dict, b: dict, prefix: str = "") -> bool:
    """Whether all tensors whose names start with ``prefix`` are equal, bit for bit."""
    names = [name for name in a if name.startswith(prefix)]
    assert names
    return all(torch.equal(a[name], b[name]) for name in names)


@contextmanager
def served(demo: gr.Blocks) -> Iterator[str]:
    """A page on this machine; yields its address."""
    _, address, _ = demo.launch(prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, **launch_options())
    yield address
    assert not demo._queue.stopped, "Gradio's queue ended by itself: nothing was served any more"
    demo.close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[BrowserType]:
    with sync_playwright() as playwright:
        yield playwright.chromium


@pytest.fixture(scope="session")
def browser(chromium, tmp_path_factory) -> Iterator[BrowserContext]:
    context = chromium.launch_persistent_context(
        tmp_path_factory.mktemp("profile"), executable_path=CHROMIUM, headless=True, args=FLAGS
    )
    yield context
    context.close()


@pytest.fixture(scope="session")
def phone(chromium, tmp_path_factory) -> Iterator[BrowserContext]:
    """A browser that is touched, as wide as most phones."""
    context = chromium.launch_persistent_context(
        tmp_path_factory.mktemp("phone"),
        executable_path=CHROMIUM,
        headless=True,
        args=FLAGS,
        has_touch=True,
        is_mobile=True,
        viewport={"width": 390, "height": 844},
    )
    yield context
    context.close()


@pytest.fixture(autouse=True)
def pages_closed(request) -> Iterator[None]:
    """A test that fails leaves no page open: its streams would take connections away from the tests after it, of which
    a browser makes six to a host."""
    names = {"browser", "phone"} & set(request.fixturenames)
    contexts = {request.getfixturevalue(name) for name in names}
    before = {page for context in contexts for page in context.pages}
    yield
    for page in {page for context in contexts for page in context.pages} - before:
        page.close()


@pytest.fixture(scope="session")
def tiny() -> AutoencoderDRoRAE:
    """A random model with fusion and both decoders. Do not change it."""
    return build(finetuned_decoder=True)


@pytest.fixture(scope="session")
def anysize() -> AutoencoderDRoRAE:
    """A random model of any size with per-channel statistics. Do not change it."""
    model = build(any_size=True, finetuned_decoder=True)
    for parameter in model.decoder_finetuned.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.set_statistics(torch.rand(48, 1, 1) + 0.5, torch.randn(48, 1, 1))
    return model


@pytest.fixture(scope="session")
def cat_reading(tiny) -> Reading:
    """The cat as that model reads it."""
    return Reading(open_photo((ROOT / "assets" / "examples" / "cat.jpg").read_bytes(), "cat"), tiny)


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory) -> str:
    """A tiny autoencoder of diffusers, in a folder called small."""
    place = tmp_path_factory.mktemp("kl") / "small"
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, latent_channels=5, **blocks).save_pretrained(place)
    return str(place)


@pytest.fixture(scope="session")
def tiny_url(tiny) -> Iterator[str]:
    """The page of that model."""
    with served(build_demo(tiny, "tiny")) as address:
        yield address


@pytest.fixture(scope="module")
def home(browser, tiny_url) -> Iterator[Watched]:
    """The page of a tiny model, 1440 px wide; it takes longer to open than a test takes, so one serves a whole file."""
    with Watched(browser, tiny_url, width=1440) as watched:
        watched.painted()
        yield watched


@pytest.fixture
def cancelling(monkeypatch) -> Event:
    """Set when the server has a request to cancel. Gradio then waits for the step of the run that is being computed."""
    asked, cancel_tasks = Event(), gradio.routes.cancel_tasks

    async def cancel(tasks: set[str]) -> list[str]:
        asked.set()  # nothing else of the server runs before it has cancelled them
        return await cancel_tasks(tasks)

    monkeypatch.setattr(gradio.routes, "cancel_tasks", cancel)
    return asked
