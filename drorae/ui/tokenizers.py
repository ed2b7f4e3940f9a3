"""Which tokenizers stand beside the page's own: what visitors may ask for, and the last few that were loaded."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import Any

import torch

from drorae.bundled import is_bundled
from drorae.checkpoints import CheckpointError, local_folder
from drorae.errors import reason_of
from drorae.explorer.tokenizers import MEAN, PictureTokenizer, load_picture_tokenizer, mean_tokenizer
from drorae.model_files import States
from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.pretrained.download import AUTOENCODER, build_checked
from drorae.pretrained.rae_tokenizer import MODELS
from drorae.pretrained.taef2 import TAEF2
from drorae.ui.models import prepare_with_progress

KEPT = 3  # loaded tokenizers
SECONDS = 0.5  # between two looks at one that is being loaded
LONGEST = 300  # characters of a name
SUGGESTED = (  # public, with safetensors, and what they are
    ("stabilityai/sd-vae-ft-mse", "the autoencoder of Stable Diffusion"),
    ("madebyollin/taesd", "a tiny one for the same latent"),
    ("Qwen/Qwen-Image:vae", "the autoencoder of Qwen-Image, 16 channels"),
    ("mit-han-lab/dc-ae-f32c32-sana-1.1-diffusers", "every 32nd pixel, 32 channels"),
    *((MODELS[key], "a published RAE") for key in list(MODELS)[:1] + list(MODELS)[-1:]),
)


class Tokenizers:
    """Tokenizers by name. The last ones stay loaded; visitors share them.

    Args:
        open_to_all: whether visitors may name any folder or Hub id.
        allowed: names that they may ask for even if not. ``taef2`` and ``mean-K`` always work.
    """

    def __init__(self, open_to_all: bool, allowed: Sequence[str] = ()):
        self.open_to_all, self.allowed = open_to_all, tuple(dict.fromkeys((TAEF2, *allowed)))
        self._loaded: OrderedDict[tuple[str, str], PictureTokenizer] = OrderedDict()
        self._lock = Lock()

    def config(self) -> dict[str, Any]:
        """What the page offers: ``open``, and a list ``offered`` of names and what they are."""
        about = {TAEF2: "the tiny autoencoder of FLUX.2"}
        offered = [(name, about.get(name, "")) for name in self.allowed]
        if self.open_to_all:
            offered += [each for each in SUGGESTED if each[0] not in self.allowed]
        return {"open": self.open_to_all, "offered": [{"id": name, "about": text} for name, text in offered]}

    def find(
        self, name: str, model: AutoencoderDRoRAE, licence: str | None = None
    ) -> Generator[str, None, PictureTokenizer]:
        """A tokenizer by name, ``mean-K`` of ``model``; while it takes, sentences that say how far it is.

        Args:
            model: whose layers are averaged, and on whose device others run.
            licence: of that model.

        Raises:
            CheckpointError: there is no such tokenizer, or visitors may not ask for it.
        """
        if not name:
            raise CheckpointError("Name a folder or a Hub id first.")
        if len(name) > LONGEST:
            raise CheckpointError(f"A name has at most {LONGEST} characters, this one has {len(name)}.")
        found = MEAN.fullmatch(name)
        if found is not None and local_folder(name) is None:
            return mean_tokenizer(model, int(found[1]), licence)
        if not self.open_to_all and name not in self.allowed:
            raise CheckpointError("On this page the list of tokenizers is fixed; run your own copy to add others.")
        place = (name, str(model.device))
        with self._lock:
            states: States = {}
            known = place in self._loaded or is_bundled(name)
        if not known:
            states = yield from prepare_with_progress(name, AUTOENCODER)
        # in a thread of its own, so that whoever gives up need not wait for it
        pool = ThreadPoolExecutor(1)
        try:
            loading, started = pool.submit(self._load, *place, states), time.monotonic()
            while True:
                try:
                    return loading.result(SECONDS)
                except TimeoutError:
                    if loading.done():  # its own
                        raise
                yield f"Loading: {time.monotonic() - started:.0f} s ..."
        except CheckpointError:
            raise
        except (MemoryError, OSError, RuntimeError) as error:
            raise CheckpointError(f"'{name}' could not be loaded here: {reason_of(error)}") from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def load_allowed(self, device: torch.device) -> None:
        """Load all that visitors may ask for, as a page on ZeroGPU must before it is served.

        Raises:
            CheckpointError: one cannot be loaded.
        """
        for name in self.allowed:
            place = (name, str(device))
            self._loaded[place] = load_picture_tokenizer(*place)  # the host's own choice, which may be fetched now

    def _load(self, name: str, device: str, states: States) -> PictureTokenizer:
        """The one that is kept, or a new one of files that were checked, which is kept then."""
        place = (name, device)
        with self._lock:
            if place not in self._loaded:
                load = partial(load_picture_tokenizer, device=device)
                self._loaded[place] = build_checked(load, name, states)
            self._loaded.move_to_end(place)
            while len(self._loaded) > max(KEPT, len(self.allowed)):
                self._loaded.popitem(last=False)
            return self._loaded[place]
