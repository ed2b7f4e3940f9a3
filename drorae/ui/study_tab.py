"""The view Study: the paper's tables as charts, its fits redone, its peers, and measurements of the loaded model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from drorae.checkpoints import stored_folder
from drorae.study import charts, own_study, paper_rows, published
from drorae.study.fits import Measured, read_measurements, refits
from drorae.study.own_study import OwnStudy
from drorae.study.paper_rows import PaperRows
from drorae.ui.lanes import IN_STUDY

if TYPE_CHECKING:
    import plotly.graph_objects as go  # which is loaded when a chart is drawn

INTRODUCTION = """
# What is published, what is measured here
What the paper and its peers published, on ImageNet at 256 pixels, as charts to point at. **Filled marks are
published numbers; open diamonds and dotted lines were measured here**, on other photos. Every group has its own
evaluation, so small differences mean nothing. Of the paper's numbers nothing has been reproduced here yet.
"""

PHASES_TEXT = """
## What each phase adds
The paper's DINOv2-B at 256 pixels next to the model on this page. Same method, other encoder, other photos: compare
the steps, not the heights. {own}
"""

PEERS_TEXT = """
## Where it stands
Left and down is better where an axis says so. The paper's three routes are joined: **rFID falls and generation
without guidance gets worse** (2.16, 2.45, 2.68); only with AutoGuidance it gains (1.74, 1.70, 1.65). A dot says
whose it is when you point at it or tap it.
"""

SCALING_TEXT = """
## Does a larger fusion help?
rFID of phase 2 against the width of the experts and the number of layers, each point a separate training of the
authors. The line refitted from the paper's own table is {slope:.4f} · log10(parameters) + {intercept:.3f} with R²
{r2:.2f}; the paper states {stated_slope} · log10(parameters) + {stated_intercept} with R² {stated_r2}. **The slopes
agree, the stated intercept does not fit its own points.** By layers: {layer_slope:.2e} per layer, R² {layer_r2:.2f}
(stated {stated_layer_slope:.1e}, {stated_layer_r2}); both together R² {unified_r2:.2f} ({stated_unified_r2}). Nine
layers do better than twelve, ten worse than nine by 0.075: one seed per point is not enough for a law.
"""

DESIGNS_TEXT = """
## Which fusion?
Without the incremental correction reconstruction is best (left) and a generator learns the latent worst (top). The
paper's choice, *energy + incremental*, gives up a little rFID for a latent that can be generated. Cross-attention
(rFID 0.498) has no published loss.
"""

STRATEGIES_TEXT = """
## What to train?
Training the backbone too gives the best rFID and a latent that cannot be generated: gFID 18.36.
"""

GENEVAL_TEXT = """
## Text to image
GenEval of generators of about 1 B parameters that differ in the tokenizer only. DRoRAE gains 0.04 over RAE; VA-VAE
and RPiAE stay ahead by 0.01. The paper's text gives DRoRAE 0.59, its table 0.60.

Scale-RAE ([arXiv 2601.16208](https://arxiv.org/abs/2601.16208)) takes RAE to this task with latents of SigLIP2 and
generators of 2.4 and 9.8 B parameters. It finds that the time shift stays essential, and that the wide head and
decoders trained with noise bring little at that scale.
"""

ROWS_TEXT = """
## What would it take?
Every row of the paper's tables, with the command that trains it here. The hours are those of one H100 at {share:.0%}
of its peak, counted and not measured, for the row's own runs: what these stand on is trained once for all rows.
**{run} of {total} rows have been run.** Rows without a command are of other tokenizers. `docs/reproduction.md` has
whole commands, and what the paper leaves open.
"""


RESULTS_TEXT = """
## What a study of small models says
{report}
"""


class StudyTab(NamedTuple):
    """What changes on the tab: the plane of the peers by choice, ``fixed`` when it is first opened, the rest with the
    model."""

    plane: gr.Radio
    heading: gr.Markdown
    phases: gr.Plot
    table: gr.Markdown
    peers: gr.Plot
    own: gr.State
    fixed: list[gr.Plot]

    def following(self) -> list[Any]:
        """What changes with the model, in the order of :func:`values`."""
        return [self.heading, self.phases, self.table, self.peers, self.own]


NUM_FOLLOWING = len(StudyTab._fields) - 2  # all but the plane and the charts of the paper alone


def values(name: str, plane: str) -> list[Any]:
    """The measurements of a model for :meth:`StudyTab.following`.

    Args:
        name: of the model.
        plane: what the chart of the peers shows.
    """
    own = measurements_of(name)
    return [phases_text(own), charts.phases(own), phases_table(own), charts.peers(plane, own), own]


def measurements_of(name: str) -> Measured | None:
    """What was measured of a model, where that lies beside it."""
    folder = stored_folder(name)
    return None if folder is None else read_measurements(folder)


def build(own: Measured | None) -> StudyTab:
    """Build the tab.

    Args:
        own: what was measured of the page's model.
    """
    gr.Markdown(INTRODUCTION, elem_id="study-introduction")
    with section():
        heading = gr.Markdown(phases_text(own), elem_id="study-phases-text")
        phases = chart("study-phases")
        with numbers_accordion():
            table = gr.Markdown(phases_table(own))
    with section():
        with gr.Column():
            gr.Markdown(PEERS_TEXT)
            choices = list(charts.PLANES)
            plane = gr.Radio(choices, value=choices[0], label="Show", elem_id="study-plane")
        peers = chart("study-peers")
        with numbers_accordion():
            gr.Markdown(peers_table())
    with section():
        gr.Markdown(scaling_text())
        scaling = chart("study-scaling")
        with numbers_accordion():
            gr.Markdown(scaling_table())
    with section():
        gr.Markdown(DESIGNS_TEXT)
        designs = chart("study-designs")
        with numbers_accordion():
            gr.Markdown(markdown_table(("fusion (table 3)", "rFID", "generator's loss"), published.VARIANTS))
    with section():
        gr.Markdown(STRATEGIES_TEXT)
        strategies = chart("study-strategies")
        with numbers_accordion():
            header = ("trained (table 4)", "rFID", "gFID", "gFID, AutoGuidance")
            gr.Markdown(markdown_table(header, published.STRATEGIES))
    with section():
        gr.Markdown(GENEVAL_TEXT)
        geneval = chart("study-geneval")
        with numbers_accordion():
            rows = [(name, *scores) for name, scores in published.GENEVAL.items()]
            gr.Markdown(markdown_table(("tokenizer (tables 2, 7)", *published.GENEVAL_TASKS), rows))
    fixed = [scaling, designs, strategies, geneval]
    build_rows()
    study = results()
    if study is not None:
        with section():
            gr.Markdown(RESULTS_TEXT.format(report=own_study.study_text(study)), elem_id="study-results-text")
            with gr.Column():
                fixed += [chart(f"study-results-{name}") for name in own_study.figure_names(study)]
                tables = [own_study.latent_rows(study), own_study.decoder_rows(study)]
                if any(rows for _, rows in tables):
                    with numbers_accordion():
                        gr.Markdown(
                            "\n\n".join(markdown_table(*each) for each in tables if each[1]),
                            elem_id="study-results-latents",
                        )
    state = gr.State(own)
    plane.input(charts.peers, [plane, state], peers, api_visibility="private", **IN_STUDY)
    return StudyTab(plane, heading, phases, table, peers, state, fixed)


def build_rows() -> None:
    """The matrix of the paper's rows, a fold for each table, where the code came with it."""
    matrix = paper_rows.read_rows()
    if matrix is None:
        return
    with section():
        gr.Markdown(rows_text(matrix), elem_id="study-rows-text")
        with gr.Column(elem_id="study-rows"):
            for table in matrix["tables"]:
                title = f"{paper_rows.table_title(table)} ({len(table['rows'])} rows)"
                with gr.Accordion(title, open=False):
                    gr.Markdown(rows_table(table["rows"], matrix["runs"]))


def rows_text(matrix: PaperRows) -> str:
    """How many rows there are, how many have been run, and how hours are counted."""
    rows = [row for table in matrix["tables"] for row in table["rows"]]
    run = sum(row["ours"] != paper_rows.NOT_RUN for row in rows)
    return ROWS_TEXT.format(share=matrix["utilisation"], run=run, total=len(rows))


def rows_table(rows: Sequence[dict[str, Any]], runs: dict[str, Any]) -> str:
    """One table of the paper: what it says, what was measured here, what it takes."""
    lines = []
    for row in rows:
        own = [runs[name] for name in row["runs"]]
        note = f"<br><small>{row['note']}</small>" if row["note"] else ""
        commands = [f"{as_command('python -m ' + run['command'])} {run['hours']:,.0f}&nbsp;h" for run in own]
        lines.append((row["name"] + note, row["paper"], row["ours"], "<br>".join(commands) or None))
    return markdown_table(("row", "the paper", "ours", "command, hours of an H100"), lines)


def section() -> gr.Column:
    """A text beside its chart; on narrow screens above it."""
    return gr.Column(elem_classes="section")


def chart(name: str) -> gr.Plot:
    """A chart without a frame, empty until the tab is opened."""
    return gr.Plot(show_label=False, container=False, elem_id=name)


def all_charts(plane: str, own: Measured | None) -> list[go.Figure]:
    """All charts: the phases, the peers, and those of :attr:`StudyTab.fixed`."""
    fixed = [charts.scaling(), charts.designs(), charts.strategies(), charts.geneval()]
    study = results()
    measured = [] if study is None else list(own_study.figures(study).values())
    return [charts.phases(own), charts.peers(plane, own), *fixed, *measured]


@cache
def results() -> OwnStudy | None:
    """What ``train.study`` found, read once; ``None`` where the code came without."""
    return own_study.read_study()


def numbers_accordion() -> gr.Accordion:
    """The numbers of the charts as text, for those who cannot see a chart, and for copying."""
    return gr.Accordion("Numbers and sources", open=False)


def phases_text(own: Measured | None) -> str:
    """What the open diamonds are."""
    if own is None:
        return PHASES_TEXT.format(own="There are no measurements beside the loaded model, so it has no points here.")
    return PHASES_TEXT.format(
        own=f"Open diamonds: {as_code(own.name)} on {own.photos:,} photos of {plain_text(own.reference)} "
        f"({plain_text(own.crop)}), printed by {as_command(own.command)}."
    )


def phases_table(own: Measured | None) -> str:
    """Table 1's rows of the paper, and the same routes of the model."""
    header = ("route", "rFID", "PSNR, dB", "LPIPS", "SSIM", "gFID", "gFID, AutoGuidance")
    rows: list[Sequence[Any]] = [route[1:] for route in published.ROUTE_SCORES]
    if own is not None:
        rows += [
            (
                f"{plain_text(own.name)}, {key} (measured here)",
                None,
                f"{value:.2f}",
                None,
                f"{own.ssim[key]:.3f}",
                None,
                None,
            )
            for key, value in own.psnr.items()
        ]
    text = markdown_table(header, rows) + f"\n\nThe paper: {link(published.PAPER)}, table 1."
    if own is not None and own.cosine is not None:
        stated = sum(published.COSINES) / len(published.COSINES)
        text += f" cos(z_fuse, z_base): about {stated:.2f} in the paper, {own.cosine:.3f} measured here."
    return text


def peers_table() -> str:
    """All peers with their sources."""
    header = ("tokenizer", "source", "rFID", "PSNR, dB", "gFID (epochs)", "gFID guided (epochs)", "what it is")
    rows = [
        (
            peer.name,
            link(peer.source),
            peer.rfid,
            peer.psnr,
            gfid_cell(peer.gfid, peer.epochs),
            gfid_cell(peer.guided, peer.guided_epochs),
            peer.note,
        )
        for peer in published.PEERS
    ]
    return markdown_table(header, rows)


def scaling_text() -> str:
    """The fits, refitted and stated."""
    fits = refits()
    slope, intercept, r2 = published.STATED_WIDTH_FIT
    return SCALING_TEXT.format(
        slope=fits.widths.slope,
        intercept=fits.widths.intercept,
        r2=fits.widths.r2,
        stated_slope=slope,
        stated_intercept=intercept,
        stated_r2=r2,
        layer_slope=fits.layers.slope,
        layer_r2=fits.layers.r2,
        stated_layer_slope=published.STATED_LAYER_FIT[0],
        stated_layer_r2=published.STATED_LAYER_FIT[2],
        unified_r2=fits.unified.r2,
        stated_unified_r2=published.STATED_UNIFIED_FIT[2],
    )


def scaling_table() -> str:
    """Tables 8 and 9 with the residuals of both lines."""
    fits = refits()
    slope, intercept, _ = published.STATED_WIDTH_FIT
    rows = []
    for row in published.WIDTHS:
        size = charts.magnitudes([row])
        refit: float = fits.widths.at(size).item()
        stated = slope * size.item() + intercept
        rows.append((f"h = {row.setting}", row.parameters, row.rfid, *residuals(row.rfid, refit, stated)))
    for row in published.LAYERS:
        refit = fits.layers.at(row.setting).item()
        rows.append((f"{row.setting} layers", row.parameters, row.rfid, *residuals(row.rfid, refit)))
    header = ("setting (tables 8, 9)", "parameters, M", "rFID", "residual, refit", "residual, stated line")
    return markdown_table(header, rows)


def residuals(value: float, refit: float, stated: float | None = None) -> tuple[str, str | None]:
    """What both lines leave over."""
    return f"{value - refit:+.3f}", None if stated is None else f"{value - stated:+.3f}"


def gfid_cell(value: float | None, epochs: int | None) -> str | None:
    """A gFID and the epochs behind it."""
    return None if value is None else f"{value} ({epochs or 'not stated'})"


def link(source: str) -> str:
    """A source, an arXiv number or a model card, as a link."""
    place = f"https://huggingface.co/{source}" if "/" in source else f"https://arxiv.org/abs/{source}"
    return f"[{published.source_words(source)}]({place})"


def as_code(text: str) -> str:
    """Text of a checkpoint's files as Markdown code; underscores, that commands need, stay."""
    kept = "".join(character for character in text if character not in "`[]()<>|")
    return f"`{' '.join(kept.split())}`"


def as_command(text: str) -> str:
    """The same of a command, as HTML in which every argument stays whole where a line ends."""
    words = as_code(text).strip("`").split()
    return f'<code class="command">{" ".join(f"<span>{escape(word)}</span>" for word in words)}</code>'


def plain_text(text: str) -> str:
    """Text of a checkpoint's files, without what Markdown would take for its own."""
    return "".join(character for character in text if character not in "`*_[]()<>|\n\r#")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows as a Markdown table; ``None`` is a dash."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1)]
    lines += [["–" if cell is None else str(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
