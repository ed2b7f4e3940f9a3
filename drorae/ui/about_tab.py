"""The view About: what the page shows, how to use it without a mouse, the model's card, limits, citation."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import gradio as gr
import torch

from drorae import __version__
from drorae.checkpoints import stored_folder
from drorae.devices import precision_name
from drorae.explorer.reading import default_size
from drorae.models.autoencoder import AutoencoderDRoRAE

FACTS = """
# About this page

Model: `{name}`, {size} × {size} pixels{precision}, {layers} layers, {tokens} places. Its card is on this page.
drorae {version}, Apache-2.0.

**What you see.** The encoder cuts a square of your photo{whole} into {tokens} places. *Last layer only* is what a
decoder paints from the encoder's last layer (RAE). *All layers* adds a correction in which every layer has a weight of
its own at every place; *retrained* paints the same latent with a decoder that was trained on it. Weights are signed:
orange layers are added there, blue and hatched ones held back. Everything is computed from your photo while you wait.
Only the examples were computed beforehand, by this model.

**How sure is that?** PSNR (in dB, higher is better) and SSIM (up to 1) compare each picture with yours pixel by
pixel. Half a dB is hard to see, two are not. The map shows where fusion helped and where it *harmed*, with the share of
each, on a scale that is the same for every photo. The line under the third picture says on how many photos that the
model never saw it gained less. Leaving a layer out shows what depended on it in this photo, for this model, and a
decoder that never saw one missing. A layer's weight says how much it is used, not how much it matters.

**Your photo** stays on the machine that serves this page and is deleted there within two hours; neither its name nor
what you type is written down. Your own browser keeps the last eight, so that a reload brings them back. Links carry
settings, never photos. A report carries both and is made only when you ask for it.

## Keys

Everything can be reached with Tab. **1** to **4** open Picture, Layers, Weights and By size of detail, **5** Generate.
On a picture, arrow keys move from place to place, Enter pins, Escape lets go, **+** and **−** zoom. **F** shows it on
the full screen, where left and right flip through the routes. Space plays, **L** copies the link, **D** turns the page
dark. Charts have their numbers as text under *Numbers and sources*.
"""

LIMITS = """
## Limits

- The embedded model is small and was trained for hours, not weeks; its card says on what. It shows the method; it is
  not a codec, and its numbers say nothing about the paper's models.
- Neither code nor weights of the paper are public. Where it is silent, this implementation chooses and says so in
  its docstrings; the paper's numbers have not been reproduced here.
- The routing of the embedded model is its own: a small ViT, not DINOv2. Weights puts the paper's description beside it.

## Citation
"""

CITATION = """@article{drorae2026,
  title         = {Beyond the Last Layer: Multi-Layer Representation Fusion for Visual Tokenization},
  year          = {2026},
  eprint        = {2605.10780},
  archivePrefix = {arXiv},
  url           = {https://arxiv.org/abs/2605.10780}
}"""

PICTURE = re.compile(r"!(?=\[)")  # without which it is a link
HTML = re.compile(r"<(?=[A-Za-z/!?])")  # what begins a tag: it does not where anything comes between, in code, too
NO_CARD = "There is no model card beside this checkpoint, so nothing is known here about its training."


class AboutTab(NamedTuple):
    """What changes with the model."""

    facts: gr.Markdown
    card: gr.Markdown


def facts_text(model: AutoencoderDRoRAE, name: str) -> str:
    """What the page says of a model."""
    size = default_size(model)
    return FACTS.format(
        name=name.replace("`", ""),
        layers=model.encoder.num_layers,
        size=size,
        whole=" (or all of it, at about as many pixels)" if model.config.any_size else "",
        precision="" if model.dtype == torch.float32 else f" in {precision_name(model.dtype)}",
        tokens=f"{(size // model.encoder.patch_size) ** 2:,}",
        version=__version__,
    )


def model_card(name: str) -> str:
    """The card of a checkpoint with smaller headings, without the lines for machines at its start, without pictures,
    which could be anywhere, and with HTML as the text that it is."""
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
    lines = [HTML.sub("<\N{ZERO WIDTH SPACE}", PICTURE.sub("", line)) for line in lines]
    return "\n".join(f"##{line}" if line.startswith(("# ", "## ")) else line for line in lines)


def build_facts(model: AutoencoderDRoRAE, name: str) -> gr.Markdown:
    """Build the first part of the page: what it shows, keys, limits, citation."""
    facts = gr.Markdown(facts_text(model, name), elem_id="facts")
    gr.Markdown(LIMITS)
    gr.Markdown(f"```bibtex\n{CITATION}\n```", elem_id="citation")
    return facts


def build_card(name: str) -> gr.Markdown:
    """Build the last part of the page: the model's card."""
    gr.Markdown("## Model card")
    return gr.Markdown(model_card(name), elem_id="card")


def values(model: AutoencoderDRoRAE, name: str) -> list[Any]:
    """What :class:`AboutTab` says of a model."""
    return [facts_text(model, name), model_card(name)]
