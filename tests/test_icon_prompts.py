"""The prompts of the icon generator's card: what is held out was held out, what is plain was seen, the rest was not."""

import re
from itertools import pairwise

import pytest
from conftest import PHOTOS

from train.data.captions import captions_of
from train.data.icons import HELD_OUT_COLOURS, STYLES, TONES, is_held_out, parse_role
from train.data.sources import load_photos
from train.icon_prompts import PLAIN, UNSEEN, grid_prompts, held_out_combinations

FILES = [PHOTOS / "emoji" / f"{style}.parquet" for style in STYLES]
needs_icons = pytest.mark.skipif(not all(file.is_file() for file in FILES), reason="the icons are not here")


def test_the_rule_needs_captions_alone():
    cast = [f"{who} {what}: {tone} skin tone" for who in ("man", "woman") for what in "abcdefghijkl" for tone in TONES]
    captions = ["cat", *cast, *(f"{name}, facing right" for name in cast)]
    chosen = held_out_combinations(captions)
    held_out = [caption for caption in cast if is_held_out(caption)]
    assert chosen[:-4] == held_out  # fewer than sixteen: all of them, in order
    assert chosen[-4:] == ["red circle", "yellow square", "blue book", "brown square"]
    more = [f"man number{i} chef: {tone} skin tone" for i in range(60) for tone in TONES]
    many = [caption for caption in more if is_held_out(caption)]
    assert len(many) > 32
    chosen = held_out_combinations(more)[:-4]
    places = [many.index(caption) for caption in chosen]
    assert len(places) == 16
    assert (places[0], places[-1]) == (0, len(many) - 1)
    assert max(b - a for a, b in pairwise(places)) <= 1 + len(many) / 15


@pytest.mark.data
@needs_icons
def test_of_forty_prompts_half_were_held_out_and_the_last_words_never_seen():
    prompts = grid_prompts(load_photos(str(FILES[0]), "validation")["caption"])
    assert len(set(prompts)) == 40
    assert [prompt.partition(" of ")[0] for prompt in prompts] == ["3D icon", "flat icon"] * 20
    names = [prompt.partition(" of ")[2] for prompt in prompts]
    assert all(is_held_out(name) for name in names[:20])
    assert len({parse_role(name).role for name in names[:16]}) > 12
    assert set(names[16:20]) <= set(HELD_OUT_COLOURS)
    assert names[20:] == [*PLAIN, *UNSEEN]
    for file in FILES:
        rows = load_photos(str(file), "train").remove_columns("image")
        of = captions_of(rows)
        captions = set(rows["caption"])
        assert not captions & set(names[:20])
        assert set(PLAIN) <= captions  # in both styles
        words = {word for row in rows for text in of(row) for word in re.findall(r"[a-z]+", text.lower())}
        assert not words & set(UNSEEN)
        assert {"dog", "horse", "house"} <= words  # the words are found where they are
