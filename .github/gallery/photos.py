"""Collect twelve photos that are free to publish: ``python .github/gallery/photos.py FOLDER``, with ``captions.json``.

Six are the examples of the page, six come with scikit-image; the captions say whose they are.
"""

from __future__ import annotations

import json
import shutil
import sys
from importlib.resources import files
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "assets" / "examples"
FREE = {
    "cat.jpg": "Chelsea the cat. Photo by Stefan van der Walt, CC0.",
    "astronaut.jpg": "Eileen Collins in an orange space suit. NASA, public domain.",
    "coffee.jpg": "A cup of coffee at Pikolo Espresso Bar. Photo by Rachel Michetti, CC0.",
    "rocket.jpg": "A Falcon 9 takes off with DSCOVR. SpaceX, public domain.",
    "handwriting.jpg": "Handwriting. From the collection of scikit-image, public domain.",
    "galaxies.jpg": "The Hubble eXtreme Deep Field. NASA, public domain.",
    "camera.png": "A photographer and his camera. Photo by Lav Varshney, CC0.",
    "retina.jpg": "A human retina. Photo by Mikael H\u00e4ggstr\u00f6m, CC0.",
    "clock_motion.png": "A wall clock, blurred by motion. Photo by Stefan van der Walt, public domain.",
    "brick.png": "A brick wall. CC0 Textures, CC0.",
    "grass.png": "Grass. By linolafett, CC0.",
    "gravel.png": "Gravel. CC0 Textures, CC0.",
}


def collect(folder: Path) -> None:
    """Copy the photos into a new folder, and write their captions beside them."""
    folder.mkdir(parents=True)
    for name in FREE:
        source = EXAMPLES / name
        shutil.copy(source if source.is_file() else Path(str(files("skimage") / "data" / name)), folder / name)
    captions = json.dumps(FREE, indent=1, ensure_ascii=False)
    (folder / "captions.json").write_text(captions + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2 or Path(sys.argv[1]).exists():
        sys.exit("Name a folder that is not there yet: python .github/gallery/photos.py FOLDER")
    collect(Path(sys.argv[1]))
