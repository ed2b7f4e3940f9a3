"""Tab *About*: what the page shows, how to use it without a mouse, the model's card, limits, citation."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from drorae import __version__
from drorae.checkpoints import stored_folder
from drorae.models.autoencoder import AutoencoderDRoRAE

INTRODUCTION = """
# See what the layers see

A frozen vision encoder looks at your photo in {layers} layers. Most tokenizers keep only the last one. **DRoRAE**
reads them all: see what the last layer lost, what fusing all layers brings back, and which layer did it where.
"""

FACTS = """
## About this page

Model: `{name}`, {size} × {size} pixels, {layers} layers, {tokens} tokens. Its card is below. drorae {version},
Apache-2.0.

**What you see.** The encoder cuts the central square of your photo into {tokens} tokens. *Last layer* is what the
decoder paints from the encoder's last layer alone (RAE); *all layers* adds a correction in which every layer has a
weight of its own at every token; *full* paints the same latent with a decoder that was trained on it. The routing
weights are signed: red layers are added there, blue ones subtracted. Everything is computed from your photo while
you wait; nothing is stored or invented beforehand.

**How sure is that?** PSNR (in dB, higher is better) and SSIM (up to 1) compare each picture with yours pixel by
pixel; half a dB is hard to see, two are not. The gain map shows where fusion helped and where it *harmed*, with the
share of each. Leaving a layer out shows what depended on it in this photo, for this model, and a decoder that
never saw one missing. The meter on the tab Intervene compares how far out a latent lies, channel by channel, with
held-out photos: it catches strong corrections, but a single missing layer hardly moves that distance, so a *yes* is
no promise. A layer's weight says how much it is used, not how much it matters.

**Your picture** stays on the machine that serves this page and is deleted within two hours. Links carry settings,
never pictures; a report carries both and is made only when you ask for it.

## Without a mouse

Every control can be reached with Tab and used with Enter, Space or the arrow keys. On the token grids the arrow
keys move from token to token, Enter or Space pins or paints, and Escape lets go. Charts have their numbers as text
under *Numbers and sources*.
"""

LIMITS = """
## Limits

- The embedded model is small, was trained for a few hours on a CPU with 24,490 photos, and paints 128 × 128 pixels.
  It shows the method; it is not a codec, and its numbers say nothing about the paper's models.
- Neither code nor weights of the paper are public. Where it is silent, this implementation chooses and says so in
  its docstrings; the paper's numbers have not been reproduced here.
- The routing of the embedded model is its own: a distilled ViT-Ti, not DINOv2. The tab Routing puts the paper's
  description beside it.

## Citation
"""

CITATION = """@article{drorae2026,
  title         = {Beyond the Last Layer: Multi-Layer Representation Fusion for Visual Tokenization},
  year          = {2026},
  eprint        = {2605.10780},
  archivePrefix = {arXiv},
  url           = {https://arxiv.org/abs/2605.10780}
}"""

NO_CARD = "There is no model card beside this checkpoint, so nothing is known here about its training."


class AboutTab(NamedTuple):
    """What changes with the model."""

    facts: gr.Markdown
    card: gr.Markdown


class Facts(NamedTuple):
    """Texts about a model."""

    introduction: str
    about: str


def model_facts(model: AutoencoderDRoRAE, name: str) -> Facts:
    """What the page says of a model."""
    facts = {
        "name": name.replace("`", ""),
        "layers": model.encoder.num_layers,
        "size": model.image_size,
        "tokens": model.grid_size**2,
        "version": __version__,
    }
    return Facts(INTRODUCTION.format(**facts), FACTS.format(**facts))


def model_card(name: str) -> str:
    """The card of a checkpoint with smaller headings, without the lines for machines at its start and without pictures,
    whose files the page does not serve."""
    folder = stored_folder(name)
    try:
        text = (folder / "README.md").read_text(encoding="utf-8") if folder is not None else ""
    except (OSError, UnicodeDecodeError):
        text = ""
    if text.startswith("---\n"):
        text = text.partition("\n---\n")[2]
    if not text.strip():
        return NO_CARD
    lines = [line for line in text.strip().splitlines() if not line.startswith("![")]
    return "\n".join(f"##{line}" if line.startswith(("# ", "## ")) else line for line in lines)


def build(model: AutoencoderDRoRAE, name: str) -> AboutTab:
    """Build the tab."""
    facts = gr.Markdown(model_facts(model, name).about, elem_id="facts")
    gr.Markdown(LIMITS)
    gr.Code(CITATION, language=None, label="BibTeX", interactive=False, elem_id="citation")
    gr.Markdown("## Model card")
    card = gr.Markdown(model_card(name), elem_id="card", elem_classes="card")
    return AboutTab(facts, card)


def values(model: AutoencoderDRoRAE, name: str) -> list[Any]:
    """What :class:`AboutTab` says of a model."""
    return [model_facts(model, name).about, model_card(name)]
