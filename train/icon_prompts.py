"""The 40 prompts of an icon generator's card, the same for every training: combinations that were held out, plain
things, and words that no caption and no tag holds."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle

import numpy as np

from train.data.icons import HELD_OUT_COLOURS, STYLES, is_held_out, parse_role

ROLES = 16  # held-out captions of a role, a gender and a tone; with every second pair of colours these are 20
PLAIN = (
    "red heart",
    "blue heart",
    "red apple",
    "green book",
    "pizza",
    "rocket",
    "sunflower",
    "house",
    "dog face",
    "astronaut",
)
UNSEEN = ("hound", "pony", "calf", "sofa", "cottage", "lad", "attorney", "weeping", "motorbike", "grumpy")


def held_out_combinations(captions: Iterable[str]) -> list[str]:
    """Twenty captions out of those of a table of icons, in its order: 16 held-out ones of a role, evenly spread, and
    four held-out pairs of colour and thing. Mirror images ("facing right") are not taken."""
    held_out = [c for c in dict.fromkeys(captions) if parse_role(c) and is_held_out(c) and "facing right" not in c]
    chosen = np.linspace(0, len(held_out) - 1, min(ROLES, len(held_out))).round().astype(int)
    return [held_out[i] for i in chosen] + list(HELD_OUT_COLOURS[::2])


def grid_prompts(captions: Iterable[str]) -> list[str]:
    """Combinations, plain things and unseen words, the two styles in turn."""
    names = [*held_out_combinations(captions), *PLAIN, *UNSEEN]
    return [f"{style} of {name}" for style, name in zip(cycle(STYLES.values()), names, strict=False)]
