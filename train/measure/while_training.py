"""rFID and gFID of a run while it trains: ``--rfid-every`` of ``train.stage1``, ``--gfid-every`` of ``train.stage2``.

Both compare Inception's features of what the averaged weights make with those of the validation split, and are options
of a command, not fields of a preset: they change no weight, and a run may be continued with or without them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm.auto import tqdm

from train.data.captions import captions_of
from train.data.held_out import ValidationPhotos
from train.engine.session import load_validation, number_of
from train.errors import DataError
from train.measure import inception
from train.measure.frechet import FrechetDistance, check_count
from train.measure.reference_statistics import Moments, read_reference
from train.tasks.generation import FlowMatching
from train.tasks.reconstruction import Reconstruction

SAMPLES, STEPS = 5000, 50  # of gFID
BATCH = 32


def add_rfid_arguments(parser: argparse.ArgumentParser) -> None:
    """``--rfid-every`` and ``--rfid-photos``."""
    parser.add_argument(
        "--rfid-every",
        type=number_of("steps"),
        help="also log rFID every so many steps and at the end, of the averaged weights on --validation, with "
        "Inception (torch-fidelity, and its weights in --weights or fetched)",
    )
    parser.add_argument(
        "--rfid-photos", type=number_of("photos"), help="photos of --validation to measure it on (default: all)"
    )


def add_gfid_arguments(parser: argparse.ArgumentParser) -> None:
    """``--gfid-every``, ``--gfid-samples`` and ``--gfid-reference``."""
    parser.add_argument(
        "--gfid-every",
        type=number_of("steps"),
        help="also log gFID every so many steps and at the end, of samples without guidance by the averaged weights "
        "against --validation, with Inception (torch-fidelity, and its weights in --weights or fetched)",
    )
    parser.add_argument(
        "--gfid-samples",
        type=number_of("samples"),
        default=SAMPLES,
        help="samples to measure it on (default: %(default)s)",
    )
    parser.add_argument(
        "--gfid-reference",
        type=Path,
        metavar="FILE",
        help="statistics in ADM's layout (npz), in the place of --validation; only with --gfid-every",
    )


class _Distance:
    """What both have in common: photos and Inception, which the main process alone has, and the reference's moments."""

    def __init__(
        self, every: int, photos: ValidationPhotos | None, network: nn.Module | None, device: torch.device | str
    ):
        self.every, self.photos, self.network, self.device = every, photos, network, torch.device(device)
        self.moments: Moments | None = None  # of the reference, computed once
        if photos is not None:
            check_count(len(photos), inception.NUM_FEATURES)

    def start(self) -> FrechetDistance:
        """A distance that knows the reference, where its moments have been computed."""
        distance = FrechetDistance(inception.NUM_FEATURES)
        if self.moments is not None:
            distance.set_reference(*self.moments)
        return distance

    def features(self, images: Tensor) -> Tensor:
        """Features (B, D) of images (B, 3, H, W) around [0, 1], as 8-bit pictures."""
        assert self.network is not None, "only the main process measures, and it has the network"
        with torch.autocast(self.device.type, enabled=False):  # the precision of a training is not Inception's
            return self.network(inception.to_bytes(images.float()).to(self.device))

    def end(self, distance: FrechetDistance) -> float:
        """The distance; the reference's moments are kept."""
        self.moments = self.moments or Moments(*distance.reference_moments())
        return distance.compute()


class ReconstructionDistance(_Distance):
    """rFID: held-out photos against what the phase that trains makes of them.

    Args:
        every: steps between two measurements.
        photos: photos of the validation split.
        network: pictures (B, 3, H, W) of bytes to features. Both are ``None`` in processes that do not measure.

    Raises:
        DataError: no more photos than features.
    """

    name = "rfid"

    @torch.no_grad()
    def measure(self, task: Reconstruction) -> dict[str, float]:
        """rFID, and of how many photos."""
        assert self.photos is not None, "only the main process measures, and it has the photos"
        distance, known, count = self.start(), self.moments is not None, 0
        with tqdm(total=len(self.photos), desc=self.name, leave=False) as bar:
            for images in self.photos.batches(BATCH):
                output, _, _ = task.reconstruct(images.to(self.device), None)
                if not known:
                    distance.add(self.features(images), real=True)
                distance.add(self.features(output), real=False)
                bar.update(len(images))
                count += len(images)
        return {self.name: self.end(distance), f"{self.name}_photos": count}


class SampleDistance(_Distance):
    """gFID: samples without guidance against held-out photos or reference statistics. The seeds are 0, 1, ..., and the
    classes take turns; texts are those of the photos.

    Args:
        every: steps between two measurements.
        samples: how many are drawn.
        photos: the validation split; ``None`` where there are ``moments``, or in processes that do not measure.
        network: pictures (B, 3, H, W) of bytes to features; ``None`` in processes that do not measure.

    Raises:
        DataError: no more photos or samples than features.
    """

    name = "gfid"

    def __init__(
        self,
        every: int,
        samples: int,
        photos: ValidationPhotos | None,
        moments: Moments | None,
        network: nn.Module | None,
        device: torch.device | str,
    ):
        super().__init__(every, photos, network, device)
        self.samples, self.moments = samples, moments
        check_count(samples, inception.NUM_FEATURES)
        self.texts: list[str] | None = None

    @torch.no_grad()
    def measure(self, task: FlowMatching) -> dict[str, float]:
        """gFID, and of how many samples."""
        distance, condition = self.start(), task.condition
        if self.moments is None:
            assert self.photos is not None, "without statistics there are photos"
            for images in self.photos.batches(BATCH):
                distance.add(self.features(images), real=True)
            if condition.wants_captions:
                self.texts = self.photos.captions(captions_of(self.photos.rows))
        for start in tqdm(range(0, self.samples, BATCH), desc=self.name, leave=False):
            numbers = range(start, min(start + BATCH, self.samples))
            pictures = task.sample(condition.turns(numbers, self.texts), numbers, STEPS)
            distance.add(self.features(pictures), real=False)
        return {self.name: self.end(distance), f"{self.name}_samples": self.samples}


def build_rfid(args: argparse.Namespace, size: int, accelerator: Accelerator) -> ReconstructionDistance:
    """What ``--rfid-every`` asks for, on photos of ``size`` pixels.

    Raises:
        DataError: too few photos, or Inception's weights cannot be fetched.
    """
    main = accelerator.is_main_process
    photos = load_validation(args, size, limit=args.rfid_photos, crop="adm") if main else None
    made = ReconstructionDistance(args.rfid_every, photos, None, accelerator.device)  # which looks at the counts first
    made.network = inception.load_inception(args.weights).to(accelerator.device) if main else None
    return made


def build_gfid(args: argparse.Namespace, size: int, accelerator: Accelerator) -> SampleDistance:
    """What ``--gfid-every`` asks for, with samples of ``size`` pixels.

    Raises:
        DataError: too few photos or samples, a reference that cannot be used, or Inception's weights cannot be fetched.
    """
    photos = moments = None
    if accelerator.is_main_process and args.gfid_reference is None:
        photos = load_validation(args, size, crop="adm")
    elif accelerator.is_main_process:
        moments = read_moments(args.gfid_reference)
    made = SampleDistance(args.gfid_every, args.gfid_samples, photos, moments, None, accelerator.device)
    if accelerator.is_main_process:
        made.network = inception.load_inception(args.weights).to(accelerator.device)
    return made


def read_moments(file: Path) -> Moments:
    """The moments of a reference file.

    Raises:
        DataError: it cannot be used, or has pictures alone.
    """
    reference = read_reference(file, inception.NUM_FEATURES, "--gfid-reference")
    if reference.moments is None:
        raise DataError(f"--gfid-reference {file}: it has pictures and no 'mu' and 'sigma'; give statistics.")
    return reference.moments
