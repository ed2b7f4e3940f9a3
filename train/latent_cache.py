"""Latents of a data set, computed once and kept on disk: a frozen tokenizer need not run in every epoch."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm.auto import tqdm

from drorae import AutoencoderDRoRAE
from drorae.images import ImageError, square, to_tensor
from train.data import Batch, Positions, TrainingPositions, label_of, open_row, prefetch, uniform_draws
from train.run import RunError, writing
from train.sources import DataError

RECORD, LATENTS, LABELS = "cache.json", "latents.npy", "labels.npy"
VIEWS = 2  # the picture and its mirror image
DAMAGED_LABEL = -2


def tokenizer_hash(model: AutoencoderDRoRAE) -> str:
    """A hash of what makes the latent: encoder and fusion, in half precision, so that a copy in fp16 has the same."""
    digest = hashlib.sha256()
    for part in (model.encoder, model.fusion_module):
        for name, value in part.state_dict().items() if part is not None else ():
            digest.update(name.encode())
            digest.update(value.detach().cpu().half().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


class LatentPositions(Positions):
    """Cached latents by :class:`~train.data.Positions`; a mirrored picture half of the time.

    Args:
        latents: (n, 2, C, h, w), of a picture and of its mirror image, before normalisation.
        labels: (n,) class numbers, ``DAMAGED_LABEL`` where the picture could not be read.
        sources: the data they were computed from.
    """

    def __init__(self, latents: np.ndarray, labels: np.ndarray, sources: Sequence, flip: bool, seed: int):
        self.latents, self.labels, self.sources, self.flip = latents, labels, sources, flip
        self.whole = np.flatnonzero(labels != DAMAGED_LABEL)
        if not len(self.whole):
            raise DataError("--data: no picture of the training split can be read")
        super().__init__(len(self.whole), seed)

    def __getitem__(self, position: int) -> int:
        return position

    def collate(self, samples: Sequence[int]) -> Batch:
        """Positions to one batch, read from the disk together."""
        positions = torch.tensor(samples)
        rows = self.whole[[self.index(position) for position in samples]]
        views = (uniform_draws(self.seed, positions, 1, "mirror")[:, 0] < 0.5).long().numpy() * int(self.flip)
        latents = torch.from_numpy(np.stack([self.latents[row, view] for row, view in zip(rows, views, strict=True)]))
        return Batch(None, positions, [], torch.from_numpy(self.labels[rows]), latents)


@torch.no_grad()
def encode_raw(model: AutoencoderDRoRAE, images: Tensor, fused: bool = True) -> Tensor:
    """Images (B, 3, H, H) in [0, 1] to latents (B, C, h, w) before normalisation."""
    tokens = model.fuse(model.encoder(images), fused).tokens
    return tokens.transpose(1, 2).unflatten(2, (model.grid_size, model.grid_size))


def size_in_bytes(model: AutoencoderDRoRAE, count: int) -> int:
    """Disk space that the cache of ``count`` pictures takes."""
    return count * VIEWS * model.encoder.dim * model.grid_size**2 * 2


def fits(model: AutoencoderDRoRAE, count: int, folder: Path) -> bool:
    """Whether the cache takes less than half of the free disk space."""
    place = folder
    while not place.exists():
        place = place.parent
    return size_in_bytes(model, count) < shutil.disk_usage(place).free / 2


def load_cache(
    model: AutoencoderDRoRAE,
    photos: TrainingPositions,
    names: list[str],
    folder: Path,
    accelerator: Accelerator,
    batch_size: int = 32,
    fused: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Latents (n, 2, C, h, w) fp16 of all photos (central square, and mirrored) and their labels (n,).

    They are computed where they are not there yet; a computation that was stopped goes on. Every process does its
    share of the rows.

    Args:
        names: of the data, written into the record.
        folder: where this cache is kept, or is to be kept.
        fused: ``False`` for the latents of the last layer.

    Raises:
        RunError: the cache is of another tokenizer or other data, or the disk takes no more.
    """
    count, rank, world = photos.count, accelerator.process_index, accelerator.num_processes
    shape = (count, VIEWS, model.encoder.dim, model.grid_size, model.grid_size)
    record = {"tokenizer": tokenizer_hash(model), "data": names, "shape": list(shape), "fused": fused}
    file = folder / RECORD
    if file.is_file():
        before = json.loads(file.read_text())
        if {key: before.get(key) for key in record} != record:
            raise RunError(f"'{folder}' holds latents of another tokenizer or other data; remove it or use another.")
    elif accelerator.is_main_process:
        with writing(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            np.lib.format.open_memmap(folder / LATENTS, "w+", np.float16, shape)
            np.lib.format.open_memmap(folder / LABELS, "w+", np.int64, (count,))
            file.write_text(json.dumps(record, indent=2) + "\n")
    accelerator.wait_for_everyone()
    latents = np.load(folder / LATENTS, mmap_mode="r+")
    labels = np.load(folder / LABELS, mmap_mode="r+")
    progress = folder / f"done-{rank}-of-{world}"
    if not (folder / "done").is_file():
        mine = range(rank, count, world)
        done = int(progress.read_text()) if progress.is_file() else 0
        _fill(model, photos, mine[done:], latents, labels, progress, done, accelerator, batch_size, fused)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            (folder / "done").touch()
    accelerator.wait_for_everyone()
    return np.load(folder / LATENTS, mmap_mode="r"), np.load(folder / LABELS, mmap_mode="r")


def _fill(model, photos, indices, latents, labels, progress, done, accelerator, batch_size, fused) -> None:
    """Compute the rows ``indices``, noting after every few batches how many are on the disk."""

    def read(index: int) -> tuple[int, Tensor | str, int]:
        row = photos.row(index)
        try:
            image = to_tensor(square(open_row(row, f"training photo {index}"), model.image_size))
        except ImageError as error:
            return index, str(error), DAMAGED_LABEL
        return index, image, label_of(row)

    def store(rows: list[tuple[int, Tensor, int]]) -> None:
        where = [index for index, _, _ in rows]
        images = torch.stack([image for _, image, _ in rows]).to(accelerator.device)
        with accelerator.autocast():
            views = [encode_raw(model, view, fused) for view in (images, images.flip(-1))]
        latents[where] = torch.stack(views, 1).half().cpu().numpy()
        labels[where] = [label for _, _, label in rows]

    bar = tqdm(total=done + len(indices), initial=done, desc="latents", disable=not accelerator.is_main_process)
    rows: list[tuple[int, Tensor, int]] = []
    for number, (index, image, label) in enumerate(prefetch(read, indices, threads=2), start=1):
        if isinstance(image, str):
            tqdm.write(f"skipped: {image}")
            labels[index] = DAMAGED_LABEL
        else:
            rows.append((index, image, label))
        if len(rows) == batch_size or (number == len(indices) and rows):
            store(rows)
            rows = []
            if number % (8 * batch_size) < batch_size:
                with writing(progress.parent):
                    latents.flush()
                    labels.flush()
                    progress.write_text(str(done + number))
        bar.update()
    bar.close()
    with writing(progress.parent):
        latents.flush()
        labels.flush()
