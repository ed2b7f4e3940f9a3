"""Folders of pictures: what is a split, what is a class, what is left out and said."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import save_noise
from datasets import ClassLabel, Dataset, Features, Value
from datasets import Image as ImageFeature

from drorae.images import ImageError, load_image
from train.data import picture_folders, rows
from train.data.captions import TEMPLATES, captions_of
from train.data.crops import Crop
from train.data.held_out import ValidationPhotos
from train.data.positions import TrainingPositions
from train.data.rows import label_of, picture_of
from train.data.sources import class_names, load_photos
from train.data.stream import TrainingStream
from train.errors import DataError
from train.settings import Schedule

WHOLE = Crop(None, (1.0, 1.0), True)


def make(root, *files) -> str:
    for number, file in enumerate(files):
        save_noise(root / file, number)
    return str(root)


def classes(rows) -> list[str | None]:
    """The class of every row by name, in order."""
    names = class_names([rows])
    return [names[label] if label >= 0 else None for label in map(label_of, rows)]


def files(rows, root) -> list[str]:
    return [os.path.relpath(row["image"]["path"], root) for row in rows]


def test_only_the_first_level_names_a_split(tmp_path):
    """Two photos of each of cat, dev and dog in either split, where ``dev`` is a class and no split."""
    names = ("cat", "dev", "dog")
    root = make(tmp_path, *(f"{s}/{c}/{i}.jpg" for s in ("train", "validation") for c in names for i in range(2)))
    for split in ("train", "validation"):
        rows = load_photos(root, split)
        assert files(rows, tmp_path) == [f"{split}/{name}/{i}.jpg" for name in names for i in range(2)]
        assert classes(rows) == ["cat", "cat", "dev", "dev", "dog", "dog"]
    with pytest.raises(DataError, match=r"no 'test' pictures there \(the first level has 'train', 'validation' only"):
        load_photos(root, "test")


@pytest.mark.parametrize("folder", ["val", "valid", "dev", "Validation"])
def test_a_split_by_another_name(tmp_path, folder):
    root = make(tmp_path, "train/a/1.jpg", f"{folder}/b/2.jpg")
    assert files(load_photos(root, "validation"), tmp_path) == [f"{folder}/b/2.jpg"]


def test_a_class_may_be_called_train(tmp_path):
    root = make(tmp_path, *(f"{c}/{i}.jpg" for c in ("cat", "train", "bus") for i in range(2)))
    assert classes(load_photos(root, "train")) == ["bus", "bus", "cat", "cat", "train", "train"]
    with pytest.raises(DataError, match="no folder of the first level is called 'validation'"):
        load_photos(root, "validation")


@pytest.mark.parametrize("split", [("train/cat/1.jpg",), ("train/1.jpg", "val/2.jpg")])
def test_folders_beside_the_splits_are_named(tmp_path, capsys, split):
    root = make(tmp_path, *split, "raw/3.jpg")
    (tmp_path / "docs").mkdir()
    assert files(load_photos(root, "train"), tmp_path) == [split[0]]
    said = capsys.readouterr().err
    assert "the pictures in 'raw' are in no split and left out" in said
    assert "docs" not in said


def test_links_are_followed_once(tmp_path):
    make(tmp_path / "store", "cat/1.jpg", "cat/2.jpg")
    root = tmp_path / "data"
    make(root, "train/own/3.jpg")
    (root / "train" / "cat").symlink_to("../../store/cat")
    (tmp_path / "store" / "cat" / "circle").symlink_to(root / "train")
    rows = load_photos(str(root), "train")
    assert files(rows, root) == ["train/cat/1.jpg", "train/cat/2.jpg", "train/own/3.jpg"]
    assert [picture_of(row, "").size for row in rows] == [(48, 40)] * 3
    (tmp_path / "store" / "cat" / "circle").unlink()
    (root / "train" / "own" / "3.jpg").unlink()
    assert classes(load_photos(str(root), "train")) == ["cat", "cat"]  # links alone


def test_the_first_level_is_the_class_however_deep_the_picture_lies(tmp_path, capsys):
    deep = ("animals/cat/1.jpg", "animals/dog/2.jpg", "plants/4.jpg", "plants/oak/3.jpg")
    root = make(tmp_path, *(f"train/{name}" for name in deep), "train/.cache/5.jpg", "train/__MACOSX/6.jpg")
    rows = load_photos(root, "train")
    assert files(rows, tmp_path) == [f"train/{name}" for name in deep]
    assert classes(rows) == ["animals", "animals", "plants", "plants"]
    assert capsys.readouterr().err == ""
    make(tmp_path, "train/alone.JPEG")
    rows = load_photos(root, "train")
    assert classes(rows) == [None, "animals", "animals", "plants", "plants"]
    assert "no class folder holds 1 of 5 pictures" in capsys.readouterr().err
    of = captions_of(rows)
    assert [of(row) for row in rows][:2] == [[], [text.format("animals") for text in TEMPLATES]]


def test_a_streamed_folder_is_the_same(tmp_path):
    root = make(tmp_path, *(f"train/{c}/{i}.png" for c in ("cat", "dog") for i in range(3)))
    rows, stream = load_photos(root, "train"), load_photos(root, "train", streaming=True)
    assert list(stream) == list(rows)
    assert class_names([stream]) == ["cat", "dog"]
    schedule = Schedule(1, 6, 1e-3, 1, workers=0)
    (batch,) = TrainingStream(stream, 32, WHOLE, seed=0).batches(schedule, 0, 0, 1)
    assert sorted(batch.labels.tolist()) == [0, 0, 0, 1, 1, 1]


# ---- labels in columns --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ({"image": None, "labels": ["x", "y"]}, ["x", "y"]),
        ({"img": None, "fine_label": ["x", "y"], "coarse_label": ["q"]}, ["x", "y"]),
        ({"image": None, "kind": ["x", "y"]}, ["x", "y"]),
        ({"image": None, "kind": ["x", "y"], "colour": ["q"]}, []),
    ],
)
def test_columns_of_labels_are_understood(tmp_path, columns, names, streaming):
    save_noise(tmp_path / "picture.png")
    encoded = [{"bytes": (tmp_path / "picture.png").read_bytes(), "path": None}] * 3
    features = Features({n: ImageFeature() if v is None else ClassLabel(names=v) for n, v in columns.items()})
    values = {n: encoded if v is None else [0, len(v) - 1, 0] for n, v in columns.items()}
    Dataset.from_dict(values, features=features).to_parquet(tmp_path / "train-0.parquet")
    rows = load_photos(str(tmp_path), "train", streaming=streaming)
    assert class_names([rows]) == names
    assert [label_of(row) for row in rows] == ([0, 1, 0] if names else [-1] * 3)


def test_numbers_are_labels_and_texts_are_not(tmp_path):
    save_noise(tmp_path / "picture.png")
    encoded = [{"bytes": (tmp_path / "picture.png").read_bytes(), "path": None}] * 2
    for kind, values, names in (("int64", [1, 0], ["0", "1"]), ("string", ["a", "b"], [])):
        features = Features({"image": ImageFeature(), "labels": Value(kind)})
        (tmp_path / kind).mkdir()
        Dataset.from_dict({"image": encoded, "labels": values}, features).to_parquet(
            tmp_path / kind / "train-0.parquet"
        )
        assert class_names([load_photos(str(tmp_path / kind), "train")]) == names


# ---- tables of metadata -------------------------------------------------------------------------------------------


def write_table(file, rows) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_pictures_without_metadata_and_rows_without_pictures_are_counted(tmp_path, capsys):
    root = make(tmp_path, *(f"train/cat/{i}.jpg" for i in range(3)))
    listed = [{"file_name": "cat/2.jpg", "text": "zwei Bäume"}, {"file_name": "cat/0.jpg", "text": "none"}]
    write_table(tmp_path / "train" / "metadata.jsonl", [*listed, {"file_name": "cat/7.jpg", "text": "gone"}])
    rows = load_photos(root, "train")
    assert files(rows, tmp_path) == ["train/cat/0.jpg", "train/cat/2.jpg"]
    assert [captions_of(rows)(row) for row in rows] == [["none"], ["zwei Bäume"]]
    assert classes(rows) == ["cat", "cat"]
    said = capsys.readouterr().err
    assert "no table of metadata lists 1 of 3 pictures" in said
    assert "rows of metadata whose picture is not there: 1 of 3" in said
    write_table(tmp_path / "train" / "metadata.jsonl", [{"file_name": "cat/9.jpg"}])
    with pytest.raises(DataError, match="the tables of metadata list none of 3 pictures"):
        load_photos(root, "train")


def test_a_table_may_lie_above_the_splits_and_be_csv(tmp_path):
    root = make(tmp_path, "train/1.jpg", "validation/2.jpg")
    (tmp_path / "metadata.csv").write_text("file_name,text,label\ntrain/1.jpg,one,4\nvalidation/2.jpg,two,3\n")
    rows = load_photos(root, "validation")
    assert [(row["text"], label_of(row)) for row in rows] == [("two", 3)]


@pytest.mark.parametrize("text", ["{", '{"name": "1.jpg"}', '{"file_name": 3}'])
def test_a_table_that_cannot_be_used_is_one_sentence(tmp_path, text):
    root = make(tmp_path, "train/1.jpg")
    (tmp_path / "train" / "metadata.jsonl").write_text(text)
    with pytest.raises(DataError, match=r"metadata\.jsonl' (cannot be read|names no picture)") as caught:
        load_photos(root, "train")
    assert "\n" not in str(caught.value)


def test_rows_that_name_a_picture_again_are_counted(tmp_path, capsys):
    root = make(tmp_path, "train/0.jpg", "train/1.jpg")
    table = [{"file_name": f"{number % 2}.jpg", "text": f"caption {number}"} for number in range(3)]
    write_table(tmp_path / "train" / "metadata.jsonl", table)
    assert [row["text"] for row in load_photos(root, "train")] == ["caption 2", "caption 1"]
    said = capsys.readouterr().err
    assert "1 of 3 rows of metadata name a picture that an earlier row names; the last one is used" in said


# ---- columns of tables that other libraries wrote, and data that is none --------------------------------------------


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", ["image", "img"])
@pytest.mark.parametrize("kind", ["struct", "binary", "large_binary"])
def test_pictures_in_a_plain_table_are_understood(tmp_path, name, kind, streaming):
    """Without the note by which ``datasets`` knows its own columns."""
    save_noise(tmp_path / "picture.png")
    content = (tmp_path / "picture.png").read_bytes()
    if kind == "struct":
        column = pa.array([{"bytes": content, "path": None}] * 2)
    else:
        column = pa.array([content] * 2, pa.binary() if kind == "binary" else pa.large_binary())
    pq.write_table(pa.table({name: column, "label": pa.array([1, 0])}), tmp_path / "train-0.parquet")
    read = list(load_photos(str(tmp_path), "train", streaming=streaming))
    assert [label_of(row) for row in read] == [1, 0]
    assert picture_of(read[0], "a").tobytes() == load_image(content).tobytes()


def test_a_table_without_pictures_says_what_its_columns_are(tmp_path):
    pq.write_table(pa.table({"image": pa.array(["a"]), "hash": pa.array([b"a"])}), tmp_path / "train-0.parquet")
    with pytest.raises(DataError, match=r"columns are 'image' \(string\), 'hash' \(binary\); the pictures, encoded"):
        load_photos(str(tmp_path), "train")


@pytest.mark.parametrize("name", ["", " "])
def test_no_name_is_not_the_folder_one_is_in(tmp_path, monkeypatch, name):
    make(tmp_path, "1.jpg")
    monkeypatch.chdir(tmp_path)
    assert len(load_photos(".", "train")) == 1
    with pytest.raises(DataError, match="--data: the name of the data is empty"):
        load_photos(name, "train")


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_names_that_no_folder_can_have_are_one_sentence(name):
    with pytest.raises(DataError, match="no folder can have this name"):
        load_photos(name, "train")


@pytest.mark.parametrize("ending", ["parquet", "tar"])
def test_files_that_are_there_are_not_said_to_be_missing(tmp_path, ending):
    make(tmp_path, "train/1.jpg")
    (tmp_path / f"train-0.{ending}").write_bytes(b"x" * 600)
    with pytest.raises(DataError, match=rf"its 'train-\*\.{ending}' cannot be read, or hold nothing \("):
        load_photos(str(tmp_path), "train")


# ---- what cannot be read ------------------------------------------------------------------------------------------


@pytest.fixture
def locked(tmp_path, monkeypatch):
    """A folder of four photos, one of which may not be read by this user."""
    root = make(tmp_path, *(f"train/cat/{i}.png" for i in range(4)))

    def refuse(picture, name):
        if str(picture).endswith("2.png"):
            raise PermissionError(13, "Permission denied")
        return original(picture, name=name)

    original = rows.load_image
    monkeypatch.setattr(rows, "load_image", refuse)
    return load_photos(root, "train")


def test_a_file_that_cannot_be_read_is_skipped_and_listed(locked):
    positions = TrainingPositions([locked], 32, WHOLE, seed=0)
    (batch,) = positions.batches(Schedule(1, 4, 1e-3, 1, workers=0), 0, 0, 1)
    assert len(batch.images) == 4
    assert len(batch.damaged) == 1
    assert "2.png' cannot be read (Permission denied)" in batch.damaged[0]
    photos = ValidationPhotos(locked, 32)
    assert [len(images) for images in photos.batches(8)] == [3]
    assert len(photos.damaged) == 1


def test_odd_files_are_pictures_that_cannot_be_read(tmp_path):
    for path in ("/proc/self/mem", "x" * 300 + ".jpg", str(tmp_path), str(tmp_path / "gone.jpg")):
        with pytest.raises(ImageError):
            picture_of({"image": {"bytes": None, "path": path}}, "a photo")


def test_names_that_are_not_utf_8_are_counted_and_the_others_are_used(tmp_path, capsys):
    """``datasets`` writes paths down as text."""
    root = make(tmp_path, "train/cat/1.jpg", "train/dog/2.jpg", os.fsdecode(b"train/dog/\xff.jpg"))
    for streaming in (False, True):
        read = load_photos(root, "train", streaming=streaming)
        assert [os.path.relpath(row["image"]["path"], root) for row in read] == ["train/cat/1.jpg", "train/dog/2.jpg"]
    assert "1 of 3 pictures are left out, whose names are not UTF-8; rename them" in capsys.readouterr().err


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch, capsys):
    root = make(tmp_path, "train/cat/1.jpg", "train/dog/2.jpg")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(picture_folders.os, "scandir", refuse)
    assert files(load_photos(root, "train"), tmp_path) == ["train/cat/1.jpg"]
    assert "dog' cannot be listed (Permission denied); its pictures are left out" in capsys.readouterr().err


def test_changed_pictures_have_another_fingerprint(tmp_path):
    root = make(tmp_path, "train/cat/1.jpg", "train/dog/2.jpg")
    first = load_photos(root, "train")._fingerprint
    assert load_photos(root, "train")._fingerprint == first
    save_noise(tmp_path / "train" / "dog" / "2.jpg", 5)
    os.utime(tmp_path / "train" / "dog" / "2.jpg", (1, 1))
    assert load_photos(root, "train")._fingerprint != first
