"""Tokens of all captions of a data set, computed once and kept on disk: for a frozen text encoder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from drorae.checkpoints import module_hash
from drorae.pipelines.text_encoding import encode, token_width
from train.errors import RunError, writing

TOKENS, DONE = "tokens.npy", "done"
BATCH = 64


class CachedText:
    """Encoded captions by their text.

    Args:
        tokens: (total, D) fp16, the tokens of all captions one after another.
        places: caption to its first row and the row after its last.
    """

    def __init__(self, tokens: np.ndarray, places: dict[str, tuple[int, int]]):
        self.tokens, self.places = tokens, places

    def get(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Tokens (B, T, D) and a mask (B, T) of the ones that count."""
        rows = [self.places[caption] for caption in captions]
        longest = max(end - start for start, end in rows)
        tokens = torch.zeros(len(rows), longest, self.tokens.shape[1])
        mask = torch.zeros(len(rows), longest, dtype=torch.bool)
        for i, (start, end) in enumerate(rows):
            tokens[i, : end - start] = torch.from_numpy(self.tokens[start:end].astype(np.float32))
            mask[i, : end - start] = True
        return tokens, mask


def load_features(
    tokenizer: PreTrainedTokenizerBase,
    encoder: PreTrainedModel,
    max_tokens: int,
    captions: list[str],
    parent: Path,
    accelerator: Accelerator,
) -> CachedText:
    """The tokens of every different caption, computed where they are not there yet. Every process does its share; a
    computation that was stopped starts again.

    Args:
        parent: folder in which the folder of these captions is kept.

    Raises:
        RunError: the disk takes no more.
    """
    unique = list(dict.fromkeys(captions))
    counts = [len(ids) for ids in tokenizer(unique, truncation=True, max_length=max_tokens)["input_ids"]]
    ends = np.cumsum(counts)
    places = {text: (int(end - count), int(end)) for text, end, count in zip(unique, ends, counts, strict=True)}
    made_with = [module_hash(encoder), str(max_tokens), accelerator.mixed_precision, str(counts), *unique]
    key = hashlib.sha256("\n".join(made_with).encode()).hexdigest()[:16]
    folder = parent / f"text-{key}"
    shape = (int(ends[-1]), token_width(encoder))
    if accelerator.is_main_process and not (folder / DONE).is_file():
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            np.lib.format.open_memmap(folder / TOKENS, "w+", np.float16, shape).flush()
            if hasattr(os, "posix_fallocate"):  # a full disk is an error here, and the death of the process later
                with (folder / TOKENS).open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, os.path.getsize(folder / TOKENS))
    accelerator.wait_for_everyone()
    if not (folder / DONE).is_file():
        tokens = np.load(folder / TOKENS, mmap_mode="r+")
        mine = list(range(accelerator.process_index * BATCH, len(unique), accelerator.num_processes * BATCH))
        for start in tqdm(mine, desc="captions", disable=not accelerator.is_main_process):
            texts = unique[start : start + BATCH]
            with accelerator.autocast():
                features = encode(tokenizer, encoder, texts, max_tokens)
            for text, values in zip(texts, features.tokens.half().cpu().numpy(), strict=True):
                first, last = places[text]
                tokens[first:last] = values[: last - first]
        with writing(folder):
            tokens.flush()
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            (folder / DONE).touch()
    accelerator.wait_for_everyone()
    found = np.load(folder / TOKENS, mmap_mode="r")
    if found.shape != shape:
        raise RunError(f"'{folder}' does not hold these captions; remove it.")
    return CachedText(found, places)
