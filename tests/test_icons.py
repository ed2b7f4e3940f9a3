"""Which captions of the icons are held out, and that none of them reaches a training."""

from collections import Counter

import datasets
import pytest
from conftest import PHOTOS
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from test_data import picture

from train.data.captions import all_captions, captions_of
from train.data.crops import Crop
from train.data.icons import HELD_OUT_COLOURS, HELD_OUT_SHARE, TONES, Role, is_held_out, parse_role
from train.data.positions import TrainingPositions
from train.data.sources import load_photos
from train.errors import DataError

ICONS = [PHOTOS / "emoji" / f"{style}.parquet" for style in ("fluent3d", "noto")]
needs_icons = pytest.mark.skipif(not all(file.is_file() for file in ICONS), reason="the icon files are not here")


@pytest.mark.parametrize(
    ("caption", "role"),
    [
        ("woman cook: dark skin tone", Role("cook", "woman", "dark")),
        ("cook: medium-light skin tone", Role("cook", "person", "medium-light")),
        ("person running: medium skin tone", Role("running", "person", "medium")),
        ("man running: medium skin tone, facing right", Role("running", "man", "medium")),
        ("woman: light skin tone, red hair", Role("red hair", "woman", "light")),
        ("man: medium-dark skin tone", Role("person", "man", "medium-dark")),
        ("women with bunny ears: dark skin tone", Role("with bunny ears", "woman", "dark")),
        ("kiss: woman, man: light skin tone", Role("kiss", "woman, man", "light")),
        ("thumbs up: dark skin tone", Role("thumbs up", "person", "dark")),
        ("woman cook", None),
        ("people holding hands: light skin tone, dark skin tone", None),
    ],
)
def test_a_caption_is_read_as_role_gender_and_tone(caption, role):
    assert parse_role(caption) == role


def test_of_a_role_and_gender_at_most_one_tone_is_held_out():
    """So that each role, gender and tone stays in training, whatever roles there are."""
    chosen = Counter()
    for number in range(4000):
        tones = [tone for tone in TONES if is_held_out(f"woman role {number}: {tone} skin tone")]
        assert len(tones) <= 1
        chosen.update(tones)
    share = chosen.total() / (4000 * len(TONES))
    assert share == pytest.approx(HELD_OUT_SHARE, abs=0.01)  # 3.5 standard errors
    assert min(chosen.values()) > 500  # no tone is spared: 600 expected of each


def test_the_mirror_image_of_a_held_out_icon_is_held_out():
    captions = [f"{who} walking: {tone} skin tone" for who in ("man", "woman", "person") for tone in TONES]
    assert any(map(is_held_out, captions))
    assert all(is_held_out(c) == is_held_out(f"{c}, facing right") for c in captions)


def icon_table(folder, captions: list[str]):
    rows = {
        "image": [{"bytes": picture(i), "path": None} for i in range(len(captions))],
        "caption": captions,
        "tags": [["tag", str(i)] for i in range(len(captions))],
        "skin_tone_variant": [int("skin tone" in caption) for caption in captions],
    }
    kinds = {"image": ImageFeature(), "caption": Value("string"), "skin_tone_variant": Value("int64")}
    table = Dataset.from_dict(rows, features=Features({**kinds, "tags": datasets.List(Value("string"))}))
    folder.mkdir(exist_ok=True)
    table.to_parquet(folder / "noto.parquet")
    table.to_parquet(folder / "train-0.parquet")
    return folder


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", ["noto.parquet", "."])
def test_no_door_lets_a_held_out_caption_into_training(tmp_path, streaming, name):
    held_out = [f"woman cook: {tone} skin tone" for tone in TONES if is_held_out(f"woman cook: {tone} skin tone")]
    captions = ["red apple", *HELD_OUT_COLOURS, *held_out, "cat"]
    folder = icon_table(tmp_path / "data", captions)
    training = list(load_photos(str(folder / name), "train", streaming=streaming))
    assert [row["caption"] for row in training] == ["red apple", "cat"]
    if name == ".":
        return
    held = load_photos(str(folder / name), "validation", streaming=streaming)
    assert [row["caption"] for row in held] == [*HELD_OUT_COLOURS, *held_out]
    row = training[0]
    assert captions_of(held)(row) == ["flat icon of red apple", "flat icon of tag, 0"]


def test_one_file_without_held_out_rows_is_training_data_alone(tmp_path):
    Dataset.from_dict({"image": [{"bytes": picture(1), "path": None}]}, Features({"image": ImageFeature()})).to_parquet(
        tmp_path / "some.parquet"
    )
    assert len(load_photos(str(tmp_path / "some.parquet"), "train")) == 1
    with pytest.raises(DataError, match="one file has no split 'validation'"):
        load_photos(str(tmp_path / "some.parquet"), "validation")
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="this is not a parquet file that can be read"):
        load_photos(str(tmp_path / "broken.parquet"), "train")


@needs_icons
@pytest.mark.data
def test_the_icons_we_train_on():
    training = [load_photos(str(file), "train") for file in ICONS]
    held = [load_photos(str(file), "validation") for file in ICONS]
    assert [len(rows) for rows in training] == [3374 - 236, 3708 - 257]
    assert [len(rows) for rows in held] == [236, 257]
    names = {caption for rows in training for caption in rows["caption"]}
    assert names.isdisjoint(caption for rows in held for caption in rows["caption"])
    assert all(colour in rows["caption"] for colour in HELD_OUT_COLOURS for rows in held)

    others = {caption for rows in held for caption in rows["caption"]}
    seen, missing = ({role for role in map(parse_role, captions) if role} for captions in (names, others))
    for part in Role._fields:  # each in other company
        assert {getattr(r, part) for r in missing} <= {getattr(r, part) for r in seen}
    assert {(r.role, r.gender) for r in missing} <= {(r.role, r.gender) for r in seen}
    for pair in HELD_OUT_COLOURS:
        others = [name.split() for name in names if name != pair]
        assert all(any(word in words for words in others) for word in pair.split())

    positions = TrainingPositions(training, 32, Crop(None, (1.0, 1.0), True), seed=0, captions=all_captions(training))
    assert positions.count == 6589
    assert not any(is_held_out(text.split(" of ", 1)[1]) for texts in positions.captions for text in texts)
    picture = positions[0][0]
    assert picture[:, 0, 0].min() > 0.98  # transparency is white
