"""An equivalent data set from public sources: npm archives, hub data sets and packages, as they are published."""

import io
import json
import tarfile

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from train import fetch_data
from train.data.rows import picture_of
from train.data.sources import load_photos
from train.errors import DataError
from train.fetch_data import emoji_names, fluent_rows, noto_rows, plain_hexcode, st_lpips_weights, write_icons

EMOJI = [
    {"label": "red apple", "hexcode": "1F34E", "tags": ["fruit", "red"], "group": 4, "subgroup": 7},
    {
        "label": "woman judge",
        "hexcode": "1F469-200D-2696-FE0F",
        "tags": ["law"],
        "group": 1,
        "skins": [{"label": "woman judge: dark skin tone", "hexcode": "1F469-1F3FF-200D-2696-FE0F"}],
    },
    {"label": "copyright", "hexcode": "00A9-FE0F"},
]
MESSAGES = {"groups": [{"order": 4, "message": "food & drink"}, {"order": 1, "message": "people & body"}]}
MESSAGES["subgroups"] = [{"order": 7, "message": "fruit"}]
NOTO = {
    "icons": {"red-apple": {"body": '<circle cx="64" cy="64" r="40" fill="#f00"/>'}, "judge": {"body": "<g/>"}},
    "aliases": {"woman-judge": {"parent": "judge"}},
    "width": 128,
    "height": 128,
}
CHARS = {"1f34e": "red-apple", "1f469-200d-2696": "woman-judge", "1f000": "red-apple", "a9": "not-there"}


def archive(file, members: dict[str, bytes]):
    with tarfile.open(file, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file


def encoded(colour, size=(256, 256), kind="WEBP") -> bytes:
    stream = io.BytesIO()
    Image.new("RGBA", size, colour).save(stream, kind)
    return stream.getvalue()


@pytest.fixture
def packages(tmp_path):
    """The three npm archives, with few icons."""
    texts = {"en/data.json": json.dumps(EMOJI).encode(), "en/messages.json": json.dumps(MESSAGES).encode()}
    icons = {"1f34e.webp": (255, 0, 0, 255), "1f469-1f3ff-200d-2696-fe0f.webp": (9, 9, 9, 0)}
    icons["ffff.webp"] = (1, 1, 1, 255)
    noto = {"icons.json": json.dumps(NOTO).encode(), "chars.json": json.dumps(CHARS).encode()}
    return (
        archive(tmp_path / "f.tgz", {f"assets/{n}": encoded(c) for n, c in icons.items()} | {"README.md": b"x"}),
        archive(tmp_path / "e.tgz", texts),
        archive(tmp_path / "n.tgz", noto),
    )


def test_icons_of_both_styles_get_their_captions(packages, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(fetch_data, "draw_svg", lambda svg: drawn.append(svg) or encoded((255, 0, 0, 255), kind="PNG"))
    fetch_data.main(["--to", str(tmp_path / "out"), "--icons", *map(str, packages)])
    fluent = datasets.load_dataset("parquet", data_files=str(tmp_path / "out/emoji/fluent3d.parquet"), split="train")
    assert fluent["caption"][:] == ["red apple", "woman judge: dark skin tone"]  # nobody names ffff
    assert fluent["tags"][:] == [["fruit", "red"], ["law"]]
    assert fluent["skin_tone_variant"][:] == [0, 1]
    assert fluent["group"][:] == ["food & drink", "people & body"]
    assert fluent["hexcode"][:] == ["1f34e", "1f469-1f3ff-200d-2696-fe0f"]
    noto = load_photos(str(tmp_path / "out" / "emoji" / "noto.parquet"), "train")
    assert noto["caption"][:] == ["red apple", "woman judge"]  # by its alias; without selector
    assert noto["subgroup"][:] == ["fruit", None]
    assert 'viewBox="0 0 128 128"' in drawn[0]
    assert '<circle cx="64" cy="64" r="40" fill="#f00"/>' in drawn[0]
    picture = np.asarray(picture_of(noto[0], "apple"))
    assert np.abs(picture[128, 128].astype(int) - [255, 0, 0]).max() < 12  # WebP


def test_names_are_found_however_a_package_spells_the_code(packages):
    names = emoji_names(packages[1])
    assert plain_hexcode("00A9-FE0F") == "00a9"
    assert names["00a9"]["tags"] == []
    assert len(list(fluent_rows(packages[0], names))) == 2
    assert [row["hexcode"] for row in noto_rows(packages[2], names, lambda svg: encoded((0, 0, 0, 0), kind="PNG"))] == [
        "1f34e",
        "1f469-200d-2696",
    ]


def test_a_wrong_archive_is_one_sentence(packages, tmp_path):
    with pytest.raises(DataError, match=r"there is no 'en/data\.json' in it"):
        emoji_names(packages[0])
    (tmp_path / "text.tgz").write_text("no archive")
    with pytest.raises(DataError, match=r"there is no 'en/data\.json' in it"):
        emoji_names(tmp_path / "text.tgz")
    with pytest.raises(DataError, match="nothing was asked for"):
        fetch_data.main(["--to", str(tmp_path)])


def test_without_a_drawer_it_is_one_sentence(monkeypatch):
    monkeypatch.setattr(fetch_data, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install resvg-py"):
        fetch_data.draw_svg("<svg/>")


def test_photos_of_both_sets_become_classes_of_one(tmp_path, monkeypatch):
    """So many of each class, squares of 224 px, and names as the sets have them."""
    monkeypatch.setattr(fetch_data, "PER_CLASS", {"train": 3, "validation": 2})
    monkeypatch.setattr(fetch_data, "PARTS", {"train": 2, "validation": 1})
    asked = []

    def load(source, size, split, revision):
        asked.append((source, size, split, revision))
        names = ["tench", "church"] if source.endswith("nette") else ["beagle"]
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
        picture = {"bytes": encoded((200, 10, 10, 255), (400, 320), "PNG"), "path": None}
        rows = [{"image": picture, "label": i % len(names)} for i in range(8)]
        return datasets.Dataset.from_list(rows, features=features)

    fetch_data.write_photos(tmp_path / "photos20", load)
    assert asked[0] == ("frgfm/imagenette", "320px", "train", "refs/convert/parquet")
    files = sorted(file.name for file in (tmp_path / "photos20").iterdir())
    assert files == ["train-00-of-02.parquet", "train-01-of-02.parquet", "validation-00-of-01.parquet"]
    train = load_photos(str(tmp_path / "photos20"), "train")
    assert train.features["label"].names == ["tench", "church", "beagle"]
    assert sorted(train["label"][:]) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert picture_of(train[0], "a photo").size == (224, 224)
    assert len(load_photos(str(tmp_path / "photos20"), "validation")) == 6


def test_st_lpips_weights_get_the_names_we_read():
    layers = ("net.slice1.0", "net.slice2.5", "net.slice3.9", "net.slice4.11", "net.slice5.13")
    parts = ("weight", "bias")
    state = {f"{layer}.{part}": torch.full((2,), float(i)) for i, layer in enumerate(layers) for part in parts}
    state |= {f"lin{i}.model.1.weight": torch.full((1, 4, 1, 1), float(i)) for i in range(5)}
    weights = st_lpips_weights(state)
    assert set(weights) == {f"conv{i}_{p}" for i in range(5) for p in parts} | {f"lin{i}" for i in range(5)}
    assert all((weights[f"conv{i}_weight"] == i).all() and (weights[f"lin{i}"] == i).all() for i in range(5))
    assert weights["lin3"].shape == (4,)


def test_rows_without_group_keep_their_place(packages, tmp_path):
    names = emoji_names(packages[1])
    picture = {"bytes": encoded((0, 0, 0, 0)), "path": None}
    write_icons(tmp_path, iter([{"image": picture, **names["00a9"], "hexcode": "a9"}]), "x")
    (row,) = load_photos(str(tmp_path / "x.parquet"), "train")
    assert (row["caption"], row["group"], row["style"]) == ("copyright", None, "icon")
