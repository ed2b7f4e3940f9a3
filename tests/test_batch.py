"""Rows of many pictures against single calls, and the table that is saved."""

import csv
import io

import numpy as np
import pytest
from conftest import ROOT, build

from drorae.cli import main
from drorae.explorer.batch import THUMBNAIL, distinct_names, explore_batch, to_csv
from drorae.explorer.explore import explore
from drorae.images import load_image
from drorae.ui.many_photos import picture_endings
from drorae.viewers.values import batch_value

EXAMPLES = [ROOT / "assets" / "examples" / f"{name}.jpg" for name in ("cat", "coffee")]


@pytest.fixture
def files(tmp_path):
    bad = tmp_path / "notes, about.png"
    bad.write_text("no picture")
    return [EXAMPLES[0], bad, EXAMPLES[1]]


def test_rows_are_those_of_single_calls(model, files):
    rows = list(explore_batch(files, model))
    assert [row.name for row in rows] == ["cat.jpg", "notes, about.png", "coffee.jpg"]
    for row, path in zip(rows[::2], EXAMPLES, strict=True):
        single = explore(load_image(path), model)
        assert row.metrics == single.metrics
        assert row.gain == single.metrics["drorae"]["psnr"] - single.metrics["rae"]["psnr"]
        assert row.harmed == single.gains["drorae"].harmed
        assert row.layer == np.argmax(single.shares.mean(0)) + 1
        assert row.thumbnail.shape == (THUMBNAIL, THUMBNAIL, 3)
        assert row.error is None
    assert "is not a picture that can be read" in rows[1].error
    assert (rows[1].metrics, rows[1].gain, rows[1].thumbnail) == ({}, None, None)


def test_nothing_is_computed_ahead(model, files):
    """500 pictures do not grow the memory: a row is made when it is asked for."""
    opened = []

    def read(path, name):
        opened.append(path)
        return load_image(path, name)

    rows = explore_batch(files, model, read=read)
    assert not opened
    next(rows)
    assert len(opened) == 1


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/x.jpg", "b/y.jpg"], ["x.jpg", "y.jpg"]),
        (["a/x.jpg", "b/x.jpg", "b/y.jpg"], ["a/x.jpg", "b/x.jpg", "y.jpg"]),
        (["1/a/x.jpg", "2/a/x.jpg", "1/b/x.jpg"], ["1/a/x.jpg", "2/a/x.jpg", "b/x.jpg"]),
        (["x.jpg", "a/x.jpg", "/a/x.jpg"], ["x.jpg", "a/x.jpg", "/a/x.jpg"]),
        (["a/x.jpg", "a/x.jpg", "./a/x.jpg"], ["x.jpg", "x.jpg", "x.jpg"]),  # one and the same
        ([], []),
    ],
)
def test_names_have_the_folders_that_tell_them_apart(paths, names):
    assert distinct_names(paths) == names


def test_a_model_without_fusion_has_one_route_and_no_gain():
    (row,) = explore_batch(EXAMPLES[:1], build(fusion=None))
    assert list(row.metrics) == ["rae"]
    assert (row.gain, row.harmed, row.layer) == (None, None, None)


def test_the_csv_is_read_back(model, files):
    rows = list(explore_batch(files, model))
    table = list(csv.DictReader(io.StringIO(to_csv(rows))))
    assert [line["picture"] for line in table] == [row.name for row in rows]
    assert float(table[0]["drorae_psnr"]) == pytest.approx(rows[0].metrics["drorae"]["psnr"], rel=1e-5)
    assert float(table[2]["harmed"]) == pytest.approx(rows[2].harmed, rel=1e-5)
    assert int(table[2]["dominant_layer"]) == rows[2].layer
    assert table[1]["rae_psnr"] == ""
    assert table[1]["error"] == rows[1].error


@pytest.mark.parametrize("name", ["=cmd|' !A0.png", "+1.png", "-1.png", "@a.png"])
def test_no_name_is_a_formula(model, files, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(files[0].read_bytes())
    (line,) = csv.DictReader(io.StringIO(to_csv(explore_batch([path], model))))
    assert line["picture"] == f"'{name}"


def test_the_page_gets_rows_and_the_table_as_lines(model, files):
    rows = list(explore_batch(files, model))
    value = batch_value(rows, 7)
    assert (value["done"], value["total"]) == (3, 7)
    assert [row["thumbnail"] is None for row in value["rows"]] == [False, True, False]
    assert "".join(value["csv"]) == to_csv(rows)
    assert len(value["csv"]) == 4
    assert [route["name"] for route in value["routes"]] == ["rae", "phase2", "drorae"]


def test_endings_of_pictures_are_in_small_letters():
    endings = picture_endings()
    assert {".jpg", ".webp", ".heic", ".tif", ".avif"} <= set(endings)
    assert not {".txt", ".ds_store", ".py", ""} & set(endings)
    assert endings == [ending.lower() for ending in endings]


def test_the_command_writes_the_table_and_names_bad_files(tmp_path, capsys, files):
    folder = tmp_path / "model"
    build(finetuned_decoder=True).save_pretrained(folder)
    out = tmp_path / "new" / "rows.csv"
    assert main(["batch", *map(str, files), "--model", str(folder), "--out", str(out)]) == 2
    printed = capsys.readouterr()
    assert "2 pictures of 32 x 32 px, mean gain" in printed.out
    assert "notes, about.png" in printed.err
    assert len(list(csv.DictReader(out.open()))) == 3
