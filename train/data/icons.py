"""Emoji icons as training data: which captions are held out, and what a caption says of role, gender and skin tone.

Held out are *combinations*. A generator that has learned "woman", "cook" and "dark skin tone" apart should draw the
three together, so some of their combinations are kept from every training, of the tokenizer too, while each role,
gender and tone is seen in other company.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

STYLES = {"fluent3d": "3D icon", "noto": "flat icon"}  # by the name of the file
COLUMNS = ("caption", "tags", "skin_tone_variant")  # what tells a table of icons from other pictures

TONES = ("light", "medium-light", "medium", "medium-dark", "dark")
NEUTRAL = "person"
HELD_OUT_SHARE = 0.15  # of the captions with one skin tone

# Colour and thing occur apart in training: "blue heart", "green book".
HELD_OUT_COLOURS = (
    "red circle",
    "orange heart",
    "yellow square",
    "green apple",
    "blue book",
    "purple circle",
    "brown square",
    "black heart",
)

_TONE = re.compile(r"\b(medium-light|medium-dark|light|medium|dark) skin tone\b")
_GENDER = re.compile(r"\b(man|woman|person|men|women|people)\b")
_ONE_OF_MANY = {"men": "man", "women": "woman", "people": "person"}
_FACING = re.compile(r",? ?facing right")  # the mirror image of another icon


class Role(NamedTuple):
    """What a caption with one skin tone is about: "woman cook: dark skin tone" is ("cook", "woman", "dark").

    Attributes:
        role: the caption without gender word and skin tone; ``"person"`` where nothing is left.
        gender: ``"man"``, ``"woman"``, several of them ("woman, man"), or ``"person"`` where no word says.
        tone: one of ``TONES``.
    """

    role: str
    gender: str
    tone: str


def parse_role(caption: str) -> Role | None:
    """Role, gender and skin tone of a caption; ``None`` for captions with no or with several skin tones.

    A caption that faces right has the role of the one that faces left.
    """
    tones = _TONE.findall(caption)
    if len(tones) != 1:
        return None
    text = _FACING.sub("", _TONE.sub("", caption))
    genders = [_ONE_OF_MANY.get(word, word) for word in _GENDER.findall(text)]
    role = " ".join(re.findall(r"[\w’'-]+", _GENDER.sub("", text)))
    return Role(role or NEUTRAL, ", ".join(genders) or NEUTRAL, tones[0])


def is_held_out(caption: str) -> bool:
    """Whether icons with this caption are kept from training.

    Of a role and gender at most one of the five skin tones is, in three cases of four (15 % of these captions in all),
    chosen by a hash of both: the rule needs no list, is the same in every style, and leaves each role, gender and tone
    in training. Besides, the eight pairs of ``HELD_OUT_COLOURS`` are.
    """
    if caption in HELD_OUT_COLOURS:
        return True
    parsed = parse_role(caption)
    if parsed is None:
        return False
    digest = hashlib.sha256(f"{parsed.role}/{parsed.gender}".encode()).digest()
    chosen = int.from_bytes(digest[:4], "big") / 2**32 < HELD_OUT_SHARE * len(TONES)
    return chosen and TONES.index(parsed.tone) == digest[4] % len(TONES)


def is_icon_table(columns: Iterable[str]) -> bool:
    """Whether rows with these columns are icons, as the emoji files have them."""
    return set(COLUMNS) <= set(columns)


def texts(caption: str, tags: Sequence[str] | None, style: str) -> list[str]:
    """What an icon can be called in training: "3D icon of red apple", "3D icon of apple, fruit, red"."""
    names = [caption, ", ".join(tags or ())]
    return [f"{style} of {name}" for name in names if name]
