"""All events of the page: which component calls which function, and where its answer goes.

Every picture is one call; what the views show afterwards needs no request. The functions are in the modules of the
views and take plain values, so they can be called without a page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import MethodType
from typing import Any

import gradio as gr
from gradio.events import Dependency

from drorae.ui import generate, many_photos
from drorae.ui.about_tab import AboutTab
from drorae.ui.components import Channel, View
from drorae.ui.generators import Generator
from drorae.ui.lanes import IN_EXPLORE, IN_GENERATE, IN_LAYERS, IN_LOAD, IN_PHOTOS, IN_STUDY, IN_TOKENIZE, goes_on
from drorae.ui.models import ModelControls, Shelf, answer_cancel, end_load, switch_unless_cancelled
from drorae.ui.photo import Photos, answering, failure_answer
from drorae.ui.study_tab import StudyTab, all_charts
from drorae.ui.turns import Turns

# A function whose first argument is given; unlike functools.partial it keeps the hints by which Gradio passes events.
bind = MethodType

PRIVATE = {"api_visibility": "private"}
QUIET = {**PRIVATE, "show_progress": "hidden"}
# Lanes of kinds of questions about photos; others are in IN_EXPLORE. What follows behind the routes does not stand
# before those of somebody else.
LANES = {"tokenizers": IN_TOKENIZE, "frames": IN_LAYERS, "tiles": IN_LAYERS, "standing": IN_LAYERS}


def wire_photos(photos: Photos, channels: dict[str, Channel]) -> None:
    """Answer what the page asks about photos. A new photo ends what is still painted of the one before.

    What uses the page's model takes turns: a new photo waits for some of another's frames, not for all.
    """
    runs: dict[str, Dependency] = {}
    turns = Turns()
    for kind, function in reversed(photos.answers().items()):
        channel = channels[kind]
        if kind == "routes":
            # An event of its own before the other: Gradio takes them one after the other, and once the routes are
            # there, the frames that it would cancel are the new photo's.
            channel.ask(None, cancels=[runs["frames"]], queue=False, **QUIET)
        lane = LANES.get(kind, IN_EXPLORE)
        answer: Callable[..., Any] = answering(function)
        if kind == "frames":
            answer = in_turns(answer, turns)
        elif lane is not IN_TOKENIZE:
            answer = turns.at_once(answer, ahead=lane is IN_EXPLORE)
        runs[kind] = channel.ask(answer, channel, channel, trigger_mode="always_last", **QUIET, **lane)
        runs[kind].failure(failure_answer, channel, channel, queue=False, **QUIET)


def in_turns(function: Callable[..., Iterator[Any]], turns: Turns) -> Callable[..., Iterator[Any]]:
    """A function whose steps are made in turns."""

    def answer(wish: dict[str, Any]) -> Iterator[Any]:
        yield from turns.step_by_step(function(wish), goes_on)

    return answer


def wire_models(shelf: Shelf, controls: ModelControls, about: AboutTab, study: StudyTab, bar: View) -> None:
    """Load the model that was asked for; what it changes besides the picture's views follows it."""
    states = [controls.status, controls.load, controls.cancel]
    cancelled = gr.State(False)
    run = controls.load.click(
        bind(switch_unless_cancelled, shelf),
        [controls.name, study.plane],
        [*states, controls.current, *about, *study.following(), bar, cancelled],
        **IN_LOAD,
        **QUIET,
    )
    # Gradio counts a cancelled run as a failed one. It may still deliver its last value, after the first answer, and
    # would write over it: it is said again once it has ended.
    controls.cancel.click(
        answer_cancel,
        controls.current,
        [*states, cancelled],
        cancels=[run],
        queue=False,
        **QUIET,
    )
    run.failure(end_load, [controls.current, cancelled], states, queue=False, **QUIET)


def wire_study(opened: gr.Tab, tab: StudyTab) -> None:
    """Draw the charts when somebody looks at them."""
    charts = [tab.phases, tab.peers, *tab.fixed]
    opened.select(all_charts, [tab.plane, tab.own], charts, **QUIET, **IN_STUDY)


def wire_many(shelf: Shelf, channel: Channel) -> None:
    """Read many photos, row by row, until done or stopped, in a lane of their own: who looks at one need not wait. Some
    visitors' photos are read at a time, in turns.

    The page says itself that it stopped; what a stopped run still delivers it knows by its ``id``.
    """
    run = channel.ask(
        partial(many_photos.answer, shelf), channel, channel, trigger_mode="multiple", **QUIET, **IN_PHOTOS
    )
    run.failure(many_photos.failure_answer, channel, channel, queue=False, **QUIET)
    channel.stop(None, None, None, cancels=[run], queue=False, **QUIET)


def wire_generate(shelf: Shelf, generators: list[Generator], channel: Channel) -> None:
    """Make what the page Generate asks for, with previews, until done or stopped.

    The page says itself that it stopped; what a stopped run still delivers it knows by its key.
    """
    make = partial(generate.answer, shelf, generators)
    run = channel.ask(make, channel, channel, trigger_mode="multiple", **QUIET, **IN_GENERATE)
    run.failure(generate.failure_answer, channel, channel, queue=False, **QUIET)
    channel.stop(None, None, None, cancels=[run], queue=False, **QUIET)
