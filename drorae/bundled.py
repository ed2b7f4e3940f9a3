"""What comes with the code, by name: models, generators and example pictures. Nothing heavy is imported here."""

from __future__ import annotations

from pathlib import Path

DEFAULT_MODEL = "assets/drorae-tiny"
DEFAULT_GENERATOR = "assets/drorae-tiny-class"
DEFAULT_TEXT_GENERATOR = "assets/drorae-tiny-text"
EXAMPLE_NAMES = ("cat", "astronaut", "coffee", "rocket", "handwriting", "galaxies")
FOLDER = "assets"


def assets_of(package: Path) -> Path:
    """The folder of what is bundled with a package: inside an installed one, beside it in a checkout of the source."""
    inside = package / FOLDER
    return inside if inside.is_dir() else package.parent / FOLDER


ASSETS = assets_of(Path(__file__).resolve().parent)


def bundled_path(name: str | Path) -> Path | None:
    """The bundled folder or file of a name (``drorae-tiny``, ``assets/drorae-tiny``); ``None`` where there is none."""
    parts = Path(name).parts
    if parts[:1] == (FOLDER,):
        parts = parts[1:]
    if not parts or ".." in parts or Path(*parts).is_absolute():
        return None
    place = ASSETS.joinpath(*parts)
    return place if _is_there(place) else None


def is_bundled(name: str | Path) -> bool:
    """Whether a model of this name came with the code."""
    place = bundled_path(name)
    return place is not None and place.is_dir()


def picture_path(name: str) -> Path:
    """Path of a picture: the file of that name, or the bundled one (``assets/examples/cat.jpg``) where there is no
    such file."""
    path = Path(name)
    return path if _is_there(path) else bundled_path(path) or path


def _is_there(path: Path) -> bool:
    """Whether there is a file or folder of that name; not of one that no system can have."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or with a null character
        return False
