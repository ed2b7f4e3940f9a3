"""An equivalent of the data the embedded models are trained on: ``python -m train.fetch_data --to FOLDER PART ...``.

* ``--photos``: Imagenette and Imagewoof from the hub, cut to 224 px (ImageNet's terms: non-commercial research). The
  split is by class and order, not the one our numbers were measured on, which keeps no file names.
* ``--icons FLUENT EMOJIBASE NOTO``: the archives of three npm packages, as ``npm pack`` leaves them:
  ``@lobehub/fluent-emoji-3d`` (Microsoft's Fluent Emoji, MIT), ``emojibase-data`` (captions, MIT) and
  ``@iconify-json/noto`` (Google's Noto Emoji, Apache-2.0), whose drawings take the package ``resvg-py``.
* ``--weights``: ViT-Ti/16 and EfficientNet-Lite2 from timm, VGG-11 from torchvision, ST-LPIPS from the package
  ``stlpips_pytorch`` where it is installed.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import datasets
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import vgg11_bn

from drorae.images import load_image
from train.data.crops import adm_square
from train.engine.session import main_guard
from train.errors import DataError
from train.tasks.losses import TAPS

PHOTO_SETS = ("frgfm/imagenette", "frgfm/imagewoof")
CONVERTED = "refs/convert/parquet"  # the hub's own parquet copy: these sets are scripts, which datasets no longer runs
PER_CLASS = {"train": 900, "validation": 75}
QUALITY = {"train": 75, "validation": 82}
PARTS = {"train": 6, "validation": 1}
PHOTO_SIDE, ICON_SIDE = 224, 256
ST_LPIPS_LAYERS = ("net.slice1.0", "net.slice2.5", "net.slice3.9", "net.slice4.11", "net.slice5.13")


# ---- photos -------------------------------------------------------------------------------------------------------


def photo_rows(split: str, load: Callable[..., Any]) -> tuple[list[dict], list[str]]:
    """Encoded squares and labels of a split of both sets, and the names of all classes."""
    names: list[str] = []
    rows: list[dict] = []
    for source in PHOTO_SETS:
        photos = load(source, "320px", split=split, revision=CONVERTED)
        classes = photos.features["label"].names
        taken: Counter[int] = Counter()
        for photo in photos:
            if taken[photo["label"]] == PER_CLASS[split]:
                continue
            taken[photo["label"]] += 1
            square = adm_square(load_image(photo["image"]), PHOTO_SIDE)
            rows.append({"image": _webp(square, QUALITY[split]), "label": len(names) + photo["label"]})
        names += classes
    return rows, names


def _webp(picture: Image.Image, quality: int) -> dict[str, Any]:
    stream = io.BytesIO()
    picture.save(stream, "WEBP", quality=quality)
    return {"bytes": stream.getvalue(), "path": None}


def write_photos(folder: Path, load: Callable[..., Any] = datasets.load_dataset) -> None:
    """``{split}-00-of-06.parquet`` and so on, shuffled, so that every part has all classes."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, parts in PARTS.items():
        rows, names = photo_rows(split, load)
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
        table = datasets.Dataset.from_list(rows, features=features).shuffle(seed=0)
        for part in range(parts):
            table.shard(parts, part, contiguous=True).to_parquet(folder / f"{split}-{part:02}-of-{parts:02}.parquet")
        print(f"{folder}: {len(rows)} photos of {len(names)} classes, {split}")


# ---- icons --------------------------------------------------------------------------------------------------------


def emoji_names(archive: Path) -> dict[str, dict[str, Any]]:
    """What emojibase says of every emoji and skin tone, by its hexcode without variation selectors."""
    entries = json.loads(_member(archive, "en/data.json"))
    messages = json.loads(_member(archive, "en/messages.json"))
    groups, subgroups = ({m["order"]: m["message"] for m in messages[kind]} for kind in ("groups", "subgroups"))
    names = {}
    for entry in entries:
        for each in (entry, *entry.get("skins", ())):
            names[plain_hexcode(each["hexcode"])] = {
                "caption": each["label"],
                "tags": entry.get("tags") or [],
                "group": groups.get(entry.get("group")),
                "subgroup": subgroups.get(entry.get("subgroup")),
                "skin_tone_variant": int(each is not entry),
            }
    return names


def plain_hexcode(hexcode: str) -> str:
    """Lower case, without the variation selector FE0F, which the packages spell differently."""
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")


def fluent_rows(archive: Path, names: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The icons of ``@lobehub/fluent-emoji-3d`` that emojibase names, as they are published."""
    with tarfile.open(archive) as tar:
        for member in tar:
            path = Path(member.name)
            about = names.get(plain_hexcode(path.stem))
            if path.suffix == ".webp" and path.parent.name == "assets" and about is not None:
                picture = {"bytes": _content(tar, member), "path": None}
                yield {"image": picture, **about, "hexcode": path.stem}


def noto_rows(
    archive: Path, names: dict[str, dict[str, Any]], draw: Callable[[str], bytes]
) -> Iterator[dict[str, Any]]:
    """The icons of ``@iconify-json/noto`` that emojibase names, drawn from their SVG by ``draw`` (SVG to PNG)."""
    icons = json.loads(_member(archive, "icons.json"))
    width, height = icons.get("width", 16), icons.get("height", 16)
    for hexcode, name in json.loads(_member(archive, "chars.json")).items():
        about = names.get(plain_hexcode(hexcode))
        while name in icons.get("aliases", {}):
            name = icons["aliases"][name]["parent"]
        icon = icons["icons"].get(name)
        if about is None or icon is None:
            continue
        box = f"0 0 {icon.get('width', width)} {icon.get('height', height)}"
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{box}" width="{ICON_SIDE}" height="{ICON_SIDE}">{icon["body"]}</svg>'
        )
        with Image.open(io.BytesIO(draw(svg))) as picture:
            yield {"image": _webp(picture.convert("RGBA"), 72), **about, "hexcode": hexcode}


def draw_svg(svg: str) -> bytes:
    """PNG of an SVG, by resvg.

    Raises:
        DataError: the package is not installed.
    """
    if find_spec("resvg_py") is None:
        raise DataError("--icons: Noto's icons are drawn by the package resvg-py; pip install resvg-py")
    import resvg_py

    return bytes(resvg_py.svg_to_bytes(svg_string=svg, width=ICON_SIDE, height=ICON_SIDE))


def write_icons(folder: Path, rows: Iterator[dict[str, Any]], style: str) -> None:
    """``{style}.parquet``."""
    folder.mkdir(parents=True, exist_ok=True)
    text = datasets.Value("string")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "caption": text,
            "tags": datasets.List(text),
            "group": text,
            "subgroup": text,
            "skin_tone_variant": datasets.Value("int64"),
            "hexcode": text,
        }
    )
    table = datasets.Dataset.from_list(list(rows), features=features)
    table.to_parquet(folder / f"{style}.parquet")
    print(f"{folder}: {len(table)} icons, {style}")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo | str) -> bytes:
    """The bytes of a file of an archive.

    Raises:
        KeyError: there is no such file.
    """
    file = tar.extractfile(member)
    if file is None:  # a folder
        raise KeyError(f"'{member}' is not a file")
    return file.read()


def _member(archive: Path, name: str) -> bytes:
    """A file of an npm package's archive.

    Raises:
        DataError: the archive cannot be read, or has no such file.
    """
    try:
        with tarfile.open(archive) as tar:
            return _content(tar, f"package/{name}")
    except (OSError, tarfile.TarError, KeyError) as error:
        raise DataError(f"--icons {archive}: there is no '{name}' in it ({error}); give npm pack's file.") from error


# ---- weights ------------------------------------------------------------------------------------------------------


def st_lpips_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """ST-LPIPS' own names to ``conv{0..4}_weight``, ``conv{0..4}_bias`` and ``lin{0..4}``."""
    result = {}
    for number, layer in enumerate(ST_LPIPS_LAYERS):
        for part in ("weight", "bias"):
            result[f"conv{number}_{part}"] = state[f"{layer}.{part}"].half()
        result[f"lin{number}"] = state[f"lin{number}.model.1.weight"].flatten().float()
    return result


def write_weights(folder: Path) -> None:
    """The files that presets and evaluation name; what could not be fetched is said and left out."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, tag in (("vit_tiny_patch16_224", ".augreg_in21k_ft_in1k"), ("tf_efficientnet_lite2", ".in1k")):
        state = timm.create_model(name + tag, pretrained=True).state_dict()
        half = {k: v.half() for k, v in state.items() if not k.endswith("num_batches_tracked")}
        save_file(half, folder / f"{name}_fp16.safetensors")
    features = vgg11_bn(weights="DEFAULT").features[: TAPS[-1]].state_dict()
    save_file({f"features.{k}": v for k, v in features.items()}, folder / "vgg11_bn_conv1to4.safetensors")
    package = find_spec("stlpips_pytorch")
    if package is None or not package.submodule_search_locations:
        print("ST-LPIPS is left out: pip install stlpips_pytorch, then run this again.")
    else:
        file = Path(package.submodule_search_locations[0]) / "weights" / "vST0.0" / "alex_shift_tolerant.pth"
        state = torch.load(file, map_location="cpu", weights_only=True)
        save_file(st_lpips_weights(state), folder / "st_lpips_alex_fp16.safetensors")
    print("MobileNetV2 is left out: its TensorFlow weights have no standard download; FD-MobileNetV2 is then left out.")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, required=True, help="folder for photos20, emoji and weights")
    parser.add_argument("--photos", action="store_true", help="Imagenette and Imagewoof, from the hub")
    parser.add_argument("--icons", nargs=3, type=Path, metavar=("FLUENT", "EMOJIBASE", "NOTO"), help="npm archives")
    parser.add_argument("--weights", action="store_true", help="pretrained networks, from timm and torchvision")
    args = parser.parse_args(argv)
    if not (args.photos or args.icons or args.weights):
        raise DataError("nothing was asked for: give --photos, --icons FLUENT EMOJIBASE NOTO or --weights")
    if args.photos:
        write_photos(args.to / "photos20")
    if args.icons:
        fluent, emojibase, noto = args.icons
        names = emoji_names(emojibase)
        write_icons(args.to / "emoji", fluent_rows(fluent, names), "fluent3d")
        write_icons(args.to / "emoji", noto_rows(noto, names, draw_svg), "noto")
    if args.weights:
        write_weights(args.to / "weights")


if __name__ == "__main__":
    main_guard(main)
