"""What runs networks on a photo: plain functions for :mod:`drorae.ui.gpu`, from plain values to plain values.

Readings that are kept save time where the next question comes to the same process; nothing here relies on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from drorae.explorer.batch import BatchRow, row_of
from drorae.explorer.exploration import Exploration, Frame, Interventions
from drorae.explorer.interventions import Intervention
from drorae.explorer.reading import Cut, images_of
from drorae.explorer.recent import RecentReadings
from drorae.explorer.similarity import Similarity, similarity
from drorae.explorer.standing import fusion_gains
from drorae.explorer.tokenizers import TokenizerColumn, measure_tokenizer
from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.ui.tokenizers import Tokenizers


def _read(recent: RecentReadings, model: AutoencoderDRoRAE, photo: str, cut: Cut) -> Any:
    return recent.read(photo, lambda: cut, model, cut.size, cut.whole, cut.centre)


def routes(recent: RecentReadings, model: AutoencoderDRoRAE, photo: str, cut: Cut) -> Exploration:
    """A photo through every route."""
    return _read(recent, model, photo, cut).routes


def tiles(recent: RecentReadings, model: AutoencoderDRoRAE, photo: str, cut: Cut) -> list[Frame]:
    """What each layer's expert can paint."""
    return _read(recent, model, photo, cut).tiles()


def interventions(
    recent: RecentReadings, model: AutoencoderDRoRAE, photo: str, cut: Cut
) -> Iterator[Interventions | tuple[int, int]]:
    """Every intervention that the page has at hand: twice, once strengths and removals are painted and at the end. In
    between, how many are painted of how many."""
    reading, sent = _read(recent, model, photo, cut), False
    for made in reading.interventions():
        whole = made.done == made.total
        if whole or (not sent and len(made.removed) == reading.parts.num_layers):
            sent = True
            yield made
        else:
            yield made.done, made.total


def intervene(
    recent: RecentReadings, model: AutoencoderDRoRAE, photo: str, cut: Cut, intervention: Intervention
) -> Frame:
    """One intervention."""
    return _read(recent, model, photo, cut).intervene(intervention)


def similarities(
    recent: RecentReadings,
    model: AutoencoderDRoRAE,
    photo: str,
    cut: Cut,
    token: int,
    other: tuple[str, Cut] | None,
) -> list[Similarity]:
    """What resembles a token, on its own photo and on the other one, where there is one."""
    reading = _read(recent, model, photo, cut)
    found = [similarity(reading, token)]
    if other is not None:
        found.append(similarity(reading, token, _read(recent, model, *other)))
    return found


def gain(model: AutoencoderDRoRAE, cut: Cut) -> float:
    """PSNR of the last route over ``rae``, dB."""
    return fusion_gains(model, images_of(cut, model)).item()


def column(
    others: Tokenizers, name: str, model: AutoencoderDRoRAE, licence: str | None, cut: Cut
) -> Iterator[str | TokenizerColumn]:
    """A photo through another tokenizer; before it, how far loading it is."""
    tokenizer = yield from others.find(name, model, licence)
    yield measure_tokenizer(images_of(cut, model), tokenizer)


def rows(model: AutoencoderDRoRAE, cuts: Sequence[tuple[str, Cut]]) -> Iterator[BatchRow]:
    """A row for each photo, which comes with its name."""
    for name, cut in cuts:
        yield row_of(cut, model, name)
