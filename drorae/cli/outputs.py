"""Where a command writes: never over a picture that it reads, and never half a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from drorae.whole_file import whole_file

if TYPE_CHECKING:
    import numpy as np

# What is wrong with a place to write to, before pictures are read; ``None`` where nothing is.
Misdirected = Callable[[Path, list[Path]], "str | None"]
PICTURES = {".avif", ".bmp", ".gif", ".heic", ".jpeg", ".jpg", ".png", ".svg", ".tif", ".tiff", ".webp"}
TABLES = {".csv", ".json", ".npy", ".npz", ".parquet", ".tsv", ".xlsx"}
TEXTS = {".htm", ".html", ".md", ".pdf", ".txt"}
KINDS = PICTURES | TABLES | TEXTS | {".zip"}  # endings that say what is in a file
ESCAPED = "backslashreplace"  # what UTF-8 has no bytes for: names of files that are not UTF-8


def misdirected_file(*endings: str) -> Misdirected:
    """The rule for a file to be written, whose name may end with ``endings``, or with nothing that says what is in it:
    no folder, none of the pictures, and not the name of another kind of file."""

    def fault_of(out: Path, pictures: list[Path]) -> str | None:
        if out.is_dir():
            return f"--out '{out}' is a folder; name a file in it."
        if any(_is_same(path, out) for path in pictures):
            return f"--out '{out}' is a picture to be read, which would be overwritten; choose another name."
        ending = out.suffix.lower()
        if ending in KINDS and ending not in endings:
            return (
                f"--out '{out}' cannot be {ending}: this command writes {endings[0]}; call it {out.stem}{endings[0]}."
            )
        return None

    return fault_of


def misdirected_folder(out: Path, pictures: list[Path]) -> str | None:
    """What is wrong with a folder to write pictures to: some that are read lie in it; ``None`` where none do."""
    if any(_is_same(Path(os.path.realpath(path)).parent, out) for path in pictures):
        return f"--out '{out}' holds pictures to be read, which could be overwritten; choose another folder."
    return None


def misdirected_site(out: Path, pictures: list[Path]) -> str | None:
    """What is wrong with a folder to write folders to: a picture that is read lies somewhere in it; ``None`` where
    none does."""
    within = [path for path in pictures if out.resolve() in Path(os.path.realpath(path)).parents]
    if within:
        return f"--out '{out}' holds '{within[0].name}', which could be overwritten; choose another folder."
    return None


def _is_same(path: Path, other: Path) -> bool:
    """Whether two paths lead to one file or folder; not those that are missing, or that nobody may look at."""
    try:
        return path.samefile(other)
    except (OSError, ValueError):  # ValueError: a name with a null character
        return False


def write_file(path: Path, content: bytes) -> None:
    """A file of ``content``, which is there whole or not at all."""
    with whole_file(path) as file:
        file.write(content)


def save_picture(picture: np.ndarray, path: str | Path) -> None:
    """A PNG file of a picture (H, W, 3), uint8."""
    from PIL import Image

    with whole_file(path) as file:
        Image.fromarray(picture).save(file, "PNG")


def size_text(picture: np.ndarray) -> str:
    """Width and height of a picture (H, W, 3), as display text: ``"256 x 192 px"``."""
    height, width, _ = picture.shape
    return f"{width} x {height} px"
