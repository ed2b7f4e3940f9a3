"""Write ``assets/card.png``, the picture that a shared link shows, with the embedded model: ``python docs/card.py``."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from PIL import Image, ImageDraw, ImageFont  # noqa: E402

from drorae import AutoencoderDRoRAE  # noqa: E402
from drorae.explorer.explore import explore  # noqa: E402
from drorae.images import load_image  # noqa: E402
from drorae.ui.web import CARD_SIZE, TITLE  # noqa: E402
from train.derived import CARD, record_built  # noqa: E402

TARGET = ROOT / CARD
WIDTH, HEIGHT = CARD_SIZE
SIDE, GAP, TOP = 512, 24, 18
PAPER, INK, SECOND, HELPED = "#faf9f7", "#15171a", "#585e68", "#0b7a53"


def card(last: Image.Image, fused: Image.Image, gain: float) -> Image.Image:
    """The card of two pictures, the last layer's and all layers', and what lies between them in dB."""
    page = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    draw = ImageDraw.Draw(page)
    left = (WIDTH - 2 * SIDE - GAP) // 2
    names = (("Last layer only", SECOND), (f"All layers: +{gain:.1f} dB", HELPED))
    for column, (picture, (name, colour)) in enumerate(zip((last, fused), names, strict=True)):
        x = left + column * (SIDE + GAP)
        # a whole multiple: what is shown are the model's pixels
        page.paste(picture.resize((SIDE, SIDE), Image.Resampling.NEAREST), (x, TOP))
        draw.text((x, TOP + SIDE + 12), name, colour, ImageFont.load_default(30))
    draw.text((left, HEIGHT - 14), TITLE, INK, ImageFont.load_default(26), anchor="ls")
    return page


def main() -> None:
    """Write the card."""
    model = AutoencoderDRoRAE.from_pretrained(ROOT / "assets" / "drorae-tiny")
    result = explore(load_image(ROOT / "assets" / "examples" / "cat.jpg"), model, interventions=False)
    gain = result.metrics["drorae"]["psnr"] - result.metrics["rae"]["psnr"]
    pictures = (Image.fromarray(result.pictures[name]) for name in ("rae", "drorae"))
    card(*pictures, gain).save(TARGET, optimize=True)
    record_built(TARGET)


if __name__ == "__main__":
    main()
