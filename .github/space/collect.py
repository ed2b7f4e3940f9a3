"""Collect what a Space gets: ``python .github/space/collect.py FOLDER``.

README, with the front matter, and requirements are the Space's own, in the place of the repository's.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PARTS = ("app.py", "LICENSE", "drorae", "assets")
LEFT_OUT = ("assets/legs/", "assets/screenshots/")
OWN = ("README.md", "requirements.txt")


def collect(folder: Path) -> list[str]:
    """Copy the files of a Space into a new folder; returns their names."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *PARTS], cwd=ROOT, check=True, capture_output=True, encoding="utf-8"
    )
    names = [name for name in listed.stdout.split("\0") if name and not name.startswith(LEFT_OUT)]
    folder.mkdir(parents=True)
    for name, source in [*((name, ROOT / name) for name in names), *((name, HERE / name) for name in OWN)]:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    return sorted([*names, *OWN])


if __name__ == "__main__":
    if len(sys.argv) != 2 or Path(sys.argv[1]).exists():
        sys.exit("Name a folder that is not there yet: python .github/space/collect.py FOLDER")
    print(f"{len(collect(Path(sys.argv[1])))} files for a Space in {sys.argv[1]}")
