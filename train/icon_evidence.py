"""Do generated icons show what was asked? ``python -m train.icon_evidence PIPELINE``.

For every held-out role prompt one icon is drawn, seeds in order, none picked. In EfficientNet-Lite2 features it is
compared with the real icons of its style, in forced choices: which *role*, among all roles with the prompt's gender and
tone; which *gender*, with role and tone given; which *tone*, with role and gender given; and which of *all* icons.
Beside these numbers stand those of a copy of the trained icon with the nearest caption, of the same icons under each
other's prompts, of the true icons through the tokenizer (the ceiling), and chance.

Colours: hearts, circles and squares in eight colours. The colour of an icon is the median of its pixels that are not
white; it counts as the colour whose real icons of *other* things are nearest in CIELAB.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from skimage.color import rgb2lab
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from drorae import AutoencoderDRoRAE, DRoRAETextPipeline
from drorae.devices import best_device
from drorae.explorer.sampling import usual_guidance
from drorae.images import square, to_tensor, to_uint8
from drorae.pipelines.text_encoding import encode
from train.data.icons import STYLES, Role, is_held_out, parse_role
from train.data.rows import picture_of
from train.data.sources import load_photos
from train.engine.session import ICONS, SHARED, main_guard, number_of, read_scale
from train.measure.efficientnet import EfficientNetLite2

PARTS = ("role", "gender", "tone")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "brown", "black")
THINGS = ("heart", "circle", "square")
COLOURED = re.compile(rf"(?:large |medium |small )*({'|'.join(COLOURS)}) (?:large |medium |medium-small |small )?(\w+)")
COLOURED_THINGS = (*THINGS, "diamond", "book", "apple")
WHITE = 245  # a pixel whose channels are all at least this is background
COLOUR_SEEDS = 5
BATCH, STEPS = 16, 25
Draw = Callable[[Sequence[str], Sequence[int]], Tensor]  # prompts and seeds to pictures (n, 3, H, W) in [0, 1]


@dataclass(frozen=True)
class Gallery:
    """The real icons of a style.

    Attributes:
        style: "3D icon" or "flat icon".
        captions: (n,).
        pictures: (n, 3, H, H) in [0, 1].
        features: (n, D), of unit length.
        roles: role, gender and tone where a caption has one skin tone. Icons that face right, mirror images of others,
            have none, so that no choice has the same role twice.
    """

    style: str
    captions: list[str]
    pictures: Tensor
    features: Tensor
    roles: list[Role | None]

    def candidates(self, wanted: Role, part: str | None) -> list[int]:
        """Icons to choose among: those that differ from ``wanted`` in ``part`` at most, or all for ``None``."""
        if part is None:
            return list(range(len(self.captions)))
        others = [name for name in PARTS if name != part]
        return [
            i
            for i, role in enumerate(self.roles)
            if role is not None and all(getattr(role, name) == getattr(wanted, name) for name in others)
        ]


def load_gallery(file: str, network: EfficientNetLite2, size: int) -> Gallery:
    """All icons of a file, held out or not, at ``size`` pixels."""
    rows = [row for split in ("train", "validation") for row in load_photos(file, split)]
    captions = [row["caption"] for row in rows]
    pictures = torch.stack([to_tensor(square(picture_of(row, row["caption"]), size)) for row in rows])
    roles = [None if "facing right" in caption else parse_role(caption) for caption in captions]
    return Gallery(STYLES.get(Path(file).stem, "icon"), captions, pictures, unit_features(pictures, network), roles)


def unit_features(pictures: Tensor, network: EfficientNetLite2) -> Tensor:
    """Features (n, D) of unit length of pictures (n, 3, H, W) in [0, 1]."""
    return torch.cat([F.normalize(network(part)[0], dim=-1) for part in pictures.split(BATCH)])


def held_out_prompts(gallery: Gallery) -> list[int]:
    """The icons whose captions are the prompts: held out, with role, gender and tone."""
    return [i for i, role in enumerate(gallery.roles) if role is not None and is_held_out(gallery.captions[i])]


def forced_choices(features: Tensor, wanted: Sequence[int], gallery: Gallery) -> dict[str, dict[str, float]]:
    """How often the nearest candidate is right.

    Args:
        features: (P, D) of unit length, one picture per prompt.
        wanted: the true icon of every prompt.

    Returns:
        For "role", "gender", "tone" and "all" the shares ``right`` and ``chance``.
    """
    result = {}
    for part in (*PARTS, None):
        right, chance = [], []
        for feature, true in zip(features, wanted, strict=True):
            role = gallery.roles[true]
            assert role is not None, "a prompt is the caption of an icon with a role"
            among = gallery.candidates(role, part)
            nearest = among[int((gallery.features[among] @ feature).argmax())]
            right.append(gallery.captions[nearest] == gallery.captions[true])
            chance.append(1 / len(among))
        result[part or "all"] = {"right": float(np.mean(right)), "chance": float(np.mean(chance))}
    return result


# ---- colours ------------------------------------------------------------------------------------------------------


def icon_colour(picture: Tensor) -> np.ndarray:
    """Median of the pixels (3, H, W) in [0, 1] that are not white, in CIELAB; white where there are none."""
    pixels = to_uint8(picture).flatten(1).T.cpu().numpy()
    coloured = pixels[(pixels < WHITE).any(1)]
    median = np.median(coloured, axis=0) if len(coloured) else np.full(3, 255.0)
    return rgb2lab(median / 255)


def coloured_icons(gallery: Gallery) -> list[tuple[str, str, int]]:
    """Colour, thing and number of the icons that are named by both."""
    found = [(COLOURED.fullmatch(caption), i) for i, caption in enumerate(gallery.captions)]
    return [(match[1], match[2], i) for match, i in found if match and match[2] in COLOURED_THINGS]


def nearest_colour(lab: np.ndarray, thing: str, references: list[tuple[str, str, np.ndarray]]) -> str:
    """The colour whose real icons of other things are nearest on average; ``references`` are colour, thing, CIELAB."""
    means = {}
    for colour in COLOURS:
        others = [value for name, other, value in references if name == colour and other != thing]
        if others:
            means[colour] = np.mean(others, axis=0)
    return min(means, key=lambda colour: float(np.linalg.norm(means[colour] - lab)))


def colour_choices(gallery: Gallery, draw: Draw) -> dict[str, float]:
    """Share of drawn icons of the right colour, and of real ones."""
    references = [(c, thing, icon_colour(gallery.pictures[i])) for c, thing, i in coloured_icons(gallery)]
    real = [nearest_colour(lab, thing, references) == colour for colour, thing, lab in references]
    wanted = [(colour, thing) for colour in COLOURS for thing in THINGS for _ in range(COLOUR_SEEDS)]
    pictures = draw(
        [f"{gallery.style} of {colour} {thing}" for colour, thing in wanted],
        [i % COLOUR_SEEDS for i in range(len(wanted))],
    )
    drawn = [
        nearest_colour(icon_colour(picture), thing, references) == colour
        for picture, (colour, thing) in zip(pictures, wanted, strict=True)
    ]
    return {"drawn": float(np.mean(drawn)), "real": float(np.mean(real)), "real_icons": len(real)}


# ---- what it is compared with -------------------------------------------------------------------------------------


@torch.no_grad()
def caption_features(pipeline: DRoRAETextPipeline, captions: Sequence[str]) -> Tensor:
    """Mean token of every caption, (n, D), of unit length."""
    parts = []
    for start in range(0, len(captions), 64):
        texts = list(captions[start : start + 64])
        features = encode(pipeline.tokenizer, pipeline.text_encoder, texts, pipeline.config.max_tokens)
        counted = features.mask[..., None]
        parts.append((features.tokens * counted).sum(1) / counted.sum(1).clamp(min=1))
    return F.normalize(torch.cat(parts), dim=-1)


def nearest_trained(pipeline: DRoRAETextPipeline, gallery: Gallery, wanted: Sequence[int]) -> list[int]:
    """The icon of the training data whose caption is nearest to each prompt."""
    texts = caption_features(pipeline, gallery.captions)
    trained = torch.tensor([i for i, caption in enumerate(gallery.captions) if not is_held_out(caption)])
    return trained[(texts[list(wanted)] @ texts[trained].T).argmax(1)].tolist()


@torch.no_grad()
def round_trip(model: AutoencoderDRoRAE, pictures: Tensor) -> Tensor:
    """Pictures (n, 3, H, H) in [0, 1] through the tokenizer."""
    return torch.cat([model(part.to(model.device)).sample.clamp(0, 1).cpu() for part in pictures.split(BATCH)])


def pipeline_draw(pipeline: DRoRAETextPipeline, steps: int, scale: float) -> Draw:
    """A function that draws prompts with the pipeline, guided by ``scale``."""

    def draw(prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        pictures = []
        for start in tqdm(range(0, len(prompts), BATCH), desc="icons"):
            part = slice(start, start + BATCH)
            guidance = {"guidance": "none"} if scale == 1 else {"guidance": "cfg", "guidance_scale": scale}
            made = pipeline(list(prompts[part]), steps, seed=list(seeds[part]), output_type="pt", **guidance)
            pictures.append(made.images.cpu())
        return torch.cat(pictures)

    return draw


def measure_choices(
    pipeline: DRoRAETextPipeline,
    files: Sequence[str],
    weights: Path,
    steps: int = STEPS,
    scale: float | None = None,
    limit: int | None = None,
) -> dict:
    """The report: forced choices by style and by kind of picture, and colours by style.

    Args:
        files: files of icons, one per style.
        steps, scale: steps and scale of the sampler; the pipeline's own scale of guidance when ``None``.
        limit: prompts of a style, evenly spread.
    """
    network = EfficientNetLite2(weights)
    scale = usual_guidance(pipeline)[1] if scale is None else scale
    draw = pipeline_draw(pipeline, steps, scale)
    given = f" --limit {limit}" if limit else ""
    given += "" if list(files) == ICONS else f" --data {' '.join(files)}"
    command = f"python -m train.icon_evidence {pipeline.name_or_path} --steps {steps} --scale {scale:g}{given}"
    report: dict = {"command": command, "steps": steps, "scale": scale, "styles": {}}
    for file in files:
        gallery = load_gallery(file, network, pipeline.autoencoder.image_size)
        wanted = held_out_prompts(gallery)
        if limit:
            wanted = [wanted[i] for i in np.linspace(0, len(wanted) - 1, min(limit, len(wanted))).round().astype(int)]
        prompts = [f"{gallery.style} of {gallery.captions[i]}" for i in wanted]
        drawn = unit_features(draw(prompts, range(len(prompts))), network)
        copies = gallery.features[nearest_trained(pipeline, gallery, wanted)]
        ceiling = unit_features(round_trip(pipeline.autoencoder, gallery.pictures[wanted]), network)
        kinds = {
            "drawn": drawn,
            "copy of the nearest": copies,
            "prompts rotated": drawn.roll(1, 0),
            "true icon": ceiling,
        }
        report["styles"][gallery.style] = {
            "prompts": len(prompts),
            "choices": {name: forced_choices(features, wanted, gallery) for name, features in kinds.items()},
            "colours": colour_choices(gallery, draw),
        }
    return report


def table(report: dict) -> str:
    """The report as Markdown."""
    lines = ["| style | icons | role | gender | tone | of all |", "|---|---|---:|---:|---:|---:|"]
    for style, numbers in report["styles"].items():
        for name, choices in numbers["choices"].items():
            cells = [f"{choice['right']:.0%}" for choice in choices.values()]
            lines.append(f"| {style} | {name} | {' | '.join(cells)} |")
        chances = [f"{choice['chance']:.1%}" for choice in numbers["choices"]["drawn"].values()]
        lines.append(f"| {style} | chance | {' | '.join(chances)} |")
    lines.append("")
    for style, numbers in report["styles"].items():
        colours = numbers["colours"]
        lines.append(
            f"{style}: {numbers['prompts']} held-out prompts; of hearts, circles and squares in eight colours, "
            f"{COLOUR_SEEDS} seeds each, {colours['drawn']:.0%} have the right colour "
            f"({colours['real']:.0%} of {colours['real_icons']} real icons)."
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pipeline", help="folder or hub id of a text-to-image pipeline trained on icons")
    parser.add_argument("--data", nargs="+", default=ICONS, help="icon files (default: %(default)s)")
    parser.add_argument("--weights", type=Path, default=SHARED / "weights", help="folder of EfficientNet-Lite2")
    parser.add_argument(
        "--steps", type=number_of("steps"), default=STEPS, help="steps of the sampler (default: %(default)s)"
    )
    parser.add_argument(
        "--scale",
        type=read_scale,
        help="strength of the guidance; 1 means none (default: the pipeline's own, else 3)",
    )
    parser.add_argument(
        "--limit", type=number_of("pictures"), help="use only this many prompts of a style, evenly spread"
    )
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args(argv)
    pipeline = DRoRAETextPipeline.from_pretrained(args.pipeline)
    pipeline.to(best_device()).set_progress_bar_config(disable=True)
    pipeline.register_to_config(_name_or_path=args.pipeline)
    report = measure_choices(pipeline, args.data, args.weights, args.steps, args.scale, args.limit)
    print(table(report))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main_guard(main)
