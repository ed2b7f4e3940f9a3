"""Latents of a data set, computed once and kept on disk: a frozen tokenizer need not run in every epoch."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from drorae import AutoencoderDRoRAE
from drorae.checkpoints import module_hash
from drorae.images import ImageError, to_tensor
from train.data.batches import Batch
from train.data.captions import draw
from train.data.crops import adm_square, is_mirrored, random_crop
from train.data.positions import Positions, TrainingPositions
from train.data.prefetching import prefetch
from train.data.rows import label_of, picture_of
from train.data.sources import PictureRows
from train.errors import DataError, RunError, writing

RECORD, LATENTS, LABELS, DAMAGED, DONE = "cache.json", "latents.npy", "labels.npy", "damaged-{}.txt", "done"
DAMAGED_LABEL = -2
CROP_SCALE = (0.75, 1.0)  # of the shorter side: views beyond the whole picture
LATENT_SETTINGS = ("encoder", "fusion", "decoder_patch_size")  # starts of the configuration keys that make the latent


def tokenizer_hash(model: AutoencoderDRoRAE) -> str:
    """A hash of what makes the latent: encoder and fusion, their weights and their configuration."""
    settings = {key: value for key, value in model.config.items() if key.startswith(LATENT_SETTINGS)}
    if settings.get("fusion_layers") is None:  # a fusion of all layers has the name it had before there was a choice
        settings.pop("fusion_layers", None)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=list).encode())
    for part in (model.encoder, model.fusion_module):
        if part is not None:
            module_hash(part, digest)
    return digest.hexdigest()[:16]


def cache_key(
    model: AutoencoderDRoRAE, photos: TrainingPositions, precision: str, fused: bool, views: int | None = None
) -> str:
    """Names the latents of these pictures by this tokenizer: another of anything is another cache."""
    sources = [getattr(source, "_fingerprint", None) or repr(vars(source)) for source in photos.sources]
    parts = [tokenizer_hash(model), *sources, str(photos.count), str(views or views_of(photos)), precision]
    parts += ["fused" if fused else "last layer", str(photos.seed)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


class LatentPositions(Positions):
    """Cached latents by :class:`~train.data.positions.Positions`; at every position one of the picture's views.

    Args:
        latents: (n, views, C, h, w), see :func:`view_images`, before normalisation.
        labels: (n,) class numbers, ``DAMAGED_LABEL`` where the picture could not be read.
        damaged: notes on those.
        sources: the data they were computed from.
        captions: captions of every row, where they are wanted.
    """

    def __init__(
        self,
        latents: np.ndarray,
        labels: np.ndarray,
        damaged: list[str],
        sources: Sequence[PictureRows],
        seed: int,
        captions: list[list[str]] | None = None,
    ):
        self.latents, self.labels, self.damaged = latents, np.array(labels), damaged
        self.views = latents.shape[1]
        self.sources, self.captions = sources, captions
        self.whole = np.flatnonzero(self.labels != DAMAGED_LABEL)
        if not len(self.whole):
            raise DataError("--data: no picture of the training split can be read")
        super().__init__([len(self.whole)], seed)

    def __getstate__(self) -> dict[str, Any]:
        """For worker processes: where the latents are, not the latents."""
        state = self.__dict__.copy()
        if isinstance(self.latents, np.memmap) and self.latents.filename is not None:
            state["latents"] = Path(self.latents.filename)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(self.latents, Path):
            self.latents = np.load(self.latents, mmap_mode="r")

    def __getitem__(self, position: int) -> int:
        return position

    def collate(self, samples: Sequence[int]) -> Batch:
        """Positions to one batch, read from the disk together."""
        rows = self.whole[[self.index(position) for position in samples]]
        views = [drawn_view(self.views, self.seed, position) for position in samples]
        latents = torch.from_numpy(np.stack([self.latents[row, view] for row, view in zip(rows, views, strict=True)]))
        labels = torch.from_numpy(self.labels[rows])
        texts = None
        if self.captions is not None:
            texts = [draw(self.captions[row], self.seed, p) for row, p in zip(rows, samples, strict=True)]
        return Batch(None, torch.tensor(samples), self.damaged, labels, latents, texts)


@torch.no_grad()
def encode_raw(model: AutoencoderDRoRAE, images: Tensor, fused: bool = True) -> Tensor:
    """Images (B, 3, H, H) in [0, 1] to latents (B, C, h, w) before normalisation."""
    tokens = model.fuse(model.encoder(images), fused).tokens
    return tokens.transpose(1, 2).unflatten(2, (model.grid_size, model.grid_size))


def views_of(photos: TrainingPositions) -> int:
    """How often a picture is encoded at least: where training mirrors it, its mirror image is encoded too."""
    return 2 if photos.crop.flip else 1


def view_images(picture: Image.Image, size: int, views: int, seed: int, index: int) -> list[Tensor]:
    """The views of picture ``index``, (3, size, size) in [0, 1] each: its central square (ADM's), and random squares of
    ``CROP_SCALE`` of its shorter side, each followed by its mirror image."""
    images: list[Tensor] = []
    for pair in range(-(-views // 2)):
        rng = random.Random(f"view-{seed}-{index}-{pair}")
        square = random_crop(picture, size, CROP_SCALE, False, rng) if pair else adm_square(picture, size)
        image = to_tensor(square)
        images += [image, image.flip(-1)]
    return images[:views]


def drawn_view(views: int, seed: int, position: int) -> int:
    """The view that a position of the run sees; of two, the same as without a cache."""
    if views <= 2:
        return int(views == 2 and is_mirrored(seed, position))
    return random.Random(f"view-{seed}-{position}").randrange(views)


def size_in_bytes(model: AutoencoderDRoRAE, photos: TrainingPositions, views: int | None = None) -> int:
    """Disk space that the cache of these pictures takes."""
    return photos.count * (views or views_of(photos)) * model.encoder.dim * model.grid_size**2 * 2


def fits(model: AutoencoderDRoRAE, photos: TrainingPositions, folder: Path, views: int | None = None) -> bool:
    """Whether the cache takes less than half of the free disk space."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return size_in_bytes(model, photos, views) < shutil.disk_usage(place).free / 2


def load_cache(
    model: AutoencoderDRoRAE,
    photos: TrainingPositions,
    folder: Path,
    accelerator: Accelerator,
    batch_size: int = 32,
    fused: bool = True,
    workers: int = 2,
    views: int | None = None,
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Latents (n, views, C, h, w) fp16 of all photos (see :func:`view_images`), their labels (n,), and notes on damaged
    ones.

    They are computed where they are not there yet, in the accelerator's precision; a computation that was stopped goes
    on. Every process does its share of the rows.

    Args:
        folder: where this cache is kept, or is to be kept; see :func:`cache_key`.
        fused: ``False`` for the latents of the last layer.
        workers: threads that read pictures.
        views: views of every photo; its central square, and the mirror image where training mirrors, when ``None``.

    Raises:
        RunError: the cache is of something else, or the disk takes no more.
    """
    count, rank, world = photos.count, accelerator.process_index, accelerator.num_processes
    views = views or views_of(photos)
    shape = (count, views, model.encoder.dim, model.grid_size, model.grid_size)
    record = {"key": cache_key(model, photos, accelerator.mixed_precision, fused, views), "shape": list(shape)}
    if accelerator.is_main_process and _read(folder) is None:
        with writing(folder):
            _create(folder, shape, record)
    accelerator.wait_for_everyone()
    if _read(folder) != record:
        raise RunError(f"'{folder}' holds latents of another tokenizer or other data; remove it or use another.")
    if not (folder / DONE).is_file():
        _fill(model, photos, range(rank, count, world), folder, accelerator, batch_size, fused, workers, views)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            (folder / DONE).touch()
    accelerator.wait_for_everyone()
    notes = [
        line
        for file in sorted(folder.glob(DAMAGED.format("*")))
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    return np.load(folder / LATENTS, mmap_mode="r"), np.load(folder / LABELS), notes


def _read(folder: Path) -> dict | None:
    """The record of a cache; ``None`` where there is none, or it was being made when the process was killed."""
    try:
        return json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _create(folder: Path, shape: tuple[int, ...], record: dict) -> None:
    """Empty arrays, all of their space taken on the disk, and last the record."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, kind, size in ((LATENTS, np.float16, shape), (LABELS, np.int64, shape[:1])):
        np.lib.format.open_memmap(folder / name, "w+", kind, size).flush()
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here, and the death of the process later
            with (folder / name).open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, os.path.getsize(folder / name))
    _write(folder / RECORD, json.dumps(record, indent=2) + "\n")


def _write(file: Path, text: str) -> None:
    fresh = file.with_name(file.name + ".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(file)


def _fill(
    model: AutoencoderDRoRAE,
    photos: TrainingPositions,
    indices: range,
    folder: Path,
    accelerator: Accelerator,
    batch_size: int,
    fused: bool,
    workers: int,
    views: int,
) -> None:
    """Compute this process's rows, noting every now and then how many are on the disk."""
    latents, labels = np.load(folder / LATENTS, mmap_mode="r+"), np.load(folder / LABELS, mmap_mode="r+")
    rank = accelerator.process_index
    progress = folder / f"{DONE}-{rank}-of-{accelerator.num_processes}"
    text = progress.read_text(encoding="utf-8") if progress.is_file() else ""
    done = int(text) if text.isdecimal() else 0

    def read(index: int) -> tuple[int, Tensor | str, int]:
        row = photos.row(index)
        try:
            picture = picture_of(row, f"training photo {index}")
            image = torch.stack(view_images(picture, model.image_size, views, photos.seed, index))
        except ImageError as error:
            return index, str(error), DAMAGED_LABEL
        return index, image, label_of(row)

    def store(rows: list[tuple[int, Tensor, int]], number: int) -> None:
        where = [index for index, _, _ in rows]
        if rows:
            images = torch.stack([image for _, image, _ in rows], 1).to(accelerator.device)  # views first
            with accelerator.autocast():
                encoded = [encode_raw(model, view, fused) for view in images]
            latents[where] = torch.stack(encoded, 1).half().cpu().numpy()
            labels[where] = [label for _, _, label in rows]
        with writing(folder):
            latents.flush()
            labels.flush()
            _write(progress, str(number))

    bar = tqdm(total=len(indices), initial=done, desc="latents", disable=not accelerator.is_main_process)
    rows: list[tuple[int, Tensor, int]] = []
    for number, (index, image, label) in enumerate(prefetch(read, indices[done:], workers), start=done + 1):
        if isinstance(image, str):
            labels[index] = DAMAGED_LABEL
            with writing(folder), (folder / DAMAGED.format(rank)).open("a", encoding="utf-8") as file:
                file.write(" ".join(image.split()) + "\n")
        else:
            rows.append((index, image, label))
        if len(rows) == batch_size or number == len(indices):
            store(rows, number)
            rows = []
        bar.update()
    bar.close()
