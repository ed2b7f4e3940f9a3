"""Lanes: a queue for each kind of work with a size of its own, and a share of it for each visitor.

This is the only place that reaches into Gradio's queue. Its own ``max_size`` counts all lanes together, so a crowd in
one would close the others, and its refusal is a sentence of Gradio's, shown beside the page. Here who waits and who is
served is read from Gradio's queue itself, so there is nothing to keep in step with it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from asyncio import Queue as MessageQueue
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import gradio as gr
from gradio.block_function import BlockFunction
from gradio.context import LocalContext
from gradio.queueing import Event, EventQueue, Queue
from gradio.route_utils import get_fn
from gradio.server_messages import EventMessage, ProcessCompletedMessage, ProcessGeneratingMessage

from drorae.errors import count_of
from drorae.ui.components import Channel
from drorae.ui.jobs import ANSWERED, FAILED, LEFT, REFUSED, STOPPED, TOLD, Job, Jobs, log_jobs
from drorae.ui.limits import EXPLORE, GENERATE, LANES, LAYERS, LOAD, PHOTOS, SHARED, STUDY, TOKENIZE, Limits
from drorae.ui.listeners import NOTED, Listeners
from drorae.ui.quiet_logs import where_raised
from drorae.ui.visitors import Visitor, visitor_of

logger = logging.getLogger(__name__)

SAID = "said"  # a sentence about what was asked, in a job that has not ended
READERS = 4  # of many photos that take turns, picture by picture
PAINTERS = 2  # of what follows behind the routes, likewise


def lane(name: str, limit: int = 1) -> dict[str, Any]:
    """Arguments of an event that waits in a lane of which ``limit`` are served at a time."""
    return {"concurrency_limit": limit, "concurrency_id": name}


IN_EXPLORE, IN_GENERATE, IN_TOKENIZE, IN_LOAD, IN_STUDY = map(lane, (EXPLORE, GENERATE, TOKENIZE, LOAD, STUDY))
IN_LAYERS, IN_PHOTOS = lane(LAYERS, PAINTERS), lane(PHOTOS, READERS)

WHAT = {
    EXPLORE: "questions about photos",
    LAYERS: "photos whose layers are looked at",
    PHOTOS: "sets of photos",
    GENERATE: "pictures to be made",
    TOKENIZE: "photos for other tokenizers",
    LOAD: "models to be loaded",
    STUDY: "charts",
}
FULL = "Too many people are here right now: {ahead} {what} are in line before this one. Try again {soon}."
OWN = "You already wait for {count} here. Try again when one of them is there."
NEIGHBOURS = "Too many people at your address ask at once: {ahead} {what} of theirs are in line. Try again {soon}."

# What a refused question is answered with, in the place of what its function would return: data of Gradio's outputs.
# None is for programs, and for what has no place to say it: an error.
Refuse = Callable[[BlockFunction, list[Any], str], list[Any] | None]
# What one that waits is told meanwhile: how many others are before it. None where there is no place to say it.
Place = Callable[[BlockFunction, list[Any], int], list[Any] | None]


class Refusal(NamedTuple):
    """Why a question is not taken: ``reason`` for the host, ``sentence`` for the visitor."""

    reason: str
    sentence: str


class LaneQueue(Queue):
    """Gradio's queue, with room for a fixed number in each lane, and for a part of those by one visitor.

    Args:
        blocks: the page.
        limits: sizes of the lanes, and shares of visitors.
        refuse: what refused questions are answered with.
        place: what those that wait are told.
        jobs: where every job is noted.
    """

    def __init__(self, blocks: gr.Blocks, limits: Limits, refuse: Refuse, place: Place, jobs: Jobs):
        before = blocks._queue
        super().__init__(
            live_updates=before.live_updates,
            concurrency_count=before.max_thread_count,
            update_intervals=before.update_intervals,
            max_size=before.max_size,
            blocks=blocks,
            default_concurrency_limit=before.default_concurrency_limit,
        )
        self.limits, self.refuse, self.place, self.jobs = limits, refuse, place, jobs
        self.listeners = Listeners(self.leave)
        self._outcomes: dict[str, str] = {}  # of running events
        self._places: WeakKeyDictionary[Event, int] = WeakKeyDictionary()  # the last that was told
        self._serving: dict[str, asyncio.Task[Any]] = {}  # by number of the question
        self._admission = asyncio.Lock()  # who asks at the same moment is counted one after the other
        self.ANALYTICS_MAX_EVENTS = 1  # for a page of Gradio's about all visitors, which is closed

    def compute_analytics_summary(self, records: Any) -> dict[str, Any]:
        """Nothing: Gradio would make a table of the last 10,000 events after each one."""
        return {}

    async def push(self, body: Any, request: Any, username: str | None) -> Any:
        """Take a question, or answer it with the reason why not."""
        if body.fn_index is None:
            return await super().push(body, request, username)
        try:
            fn = get_fn(self.blocks, None, body)
        except KeyError:
            return False, "There is no such question on this page.", "error"
        visitor = visitor_of(request, body.session_hash)
        request.state.visitor = visitor
        body.session_hash = body.session_hash or None  # Gradio names a session that has none, and not one called ""
        async with self._admission:
            refusal = self.refusal(fn.concurrency_id, visitor)
            if refusal is None:
                pushed = await super().push(body, request, username)
                for name in self.names_of(pushed[1])[:1] if pushed[0] else ():
                    self.listeners.expect(name)
                return pushed
        self.jobs.note(Job(fn.concurrency_id, kind_of(fn), REFUSED, reason=refusal.reason))
        return await self.answer_refused(fn, body, request, username, refusal.sentence)

    def refusal(self, name: str, visitor: Visitor) -> Refusal | None:
        """Why a visitor's question cannot wait in a lane; ``None`` where it can, and of what waits in none."""
        if name not in self.limits.sizes:
            return None
        waiting, share = self.waiting(name), self.limits.shares[name]
        here = [asker_of(event) for event in [*waiting, *self.running(name)]]
        if sum(each.session == visitor.session for each in here) >= share:
            return Refusal("visitor", OWN.format(count=count_of(share, "answer")))
        near = sum(each.address == visitor.address for each in here)
        if near >= SHARED * share:
            return Refusal("address", NEIGHBOURS.format(ahead=near, what=WHAT[name], soon=self.forecast(name)))
        if len(waiting) >= self.limits.sizes[name]:
            return Refusal("full", FULL.format(ahead=len(waiting), what=WHAT[name], soon=self.forecast(name)))
        return None

    def waiting(self, name: str) -> list[Event]:
        """Who waits in a lane, in the order in which they are served."""
        known = self.event_queue_per_concurrency_id.get(name)
        return [] if known is None else list(known.queue)

    def running(self, name: str) -> list[Event]:
        """Who is served in a lane."""
        return [event for events in self.active_jobs if events for event in events if event.concurrency_id == name]

    def get_events(self) -> tuple[list[Event], bool, str] | None:
        """Whose turn it is. Who does not listen for the answer stays in line, and holds up nobody."""
        lines = [each for each in self.event_queue_per_concurrency_id.values() if each.queue and has_room(each)]
        everybody = [line.queue for line in lines]
        for line in lines:
            line.queue = [event for event in line.queue if self.listens(event)]
        served = super().get_events()
        taken = served[0] if served else []
        for line, events in zip(lines, everybody, strict=True):
            line.queue = [event for event in events if event not in taken]
        return served

    def listens(self, event: Event) -> bool:
        """Whether whoever asked listens; taken for granted where streams are not noted."""
        names = (event.session_hash, asker_of(event).session)
        return NOTED not in event.request.scope or any(name in self.listeners for name in names)

    def names_of(self, number: str) -> tuple[str, ...]:
        """Who asked a question, by its number, as :attr:`listeners` knows them; nobody where it is not there."""
        event = self.event_ids_to_events.get(number)
        return () if event is None else (event.session_hash, asker_of(event).session)

    async def leave(self, name: str) -> None:
        """End what was asked by somebody who does not listen."""
        for lane_name in self.limits.sizes:
            waiting = self.waiting(lane_name)
            for event in [*waiting, *self.running(lane_name)]:
                if name not in self.names_of(event._id) or self.listens(event):
                    continue
                if event in waiting:
                    waited = time.monotonic() - event.enqueue_time
                    self.jobs.note(Job(lane_name, kind_of(event.fn), LEFT, waited))
                await self.clean_events(event_id=event._id)
                numbers = self.pending_event_ids_session.get(event.session_hash, set())
                numbers.discard(event._id)
                if not numbers:  # nothing else is to be said there
                    self.pending_event_ids_session.pop(event.session_hash, None)
                    self.pending_messages_per_session.pop(event.session_hash, None)

    async def clean_events(self, *, session_hash: str | None = None, event_id: str | None = None) -> None:
        """End what somebody asked who left, and tell those behind."""
        await super().clean_events(session_hash=session_hash, event_id=event_id)
        self.tell_places()

    async def remove_from_queue(self, event_id: str) -> None:
        """Take a question out of its line, or end it if it is served, and tell those behind."""
        if task := self._serving.get(event_id):
            task.cancel()
            await asyncio.wait([task])
        await super().remove_from_queue(event_id)
        self.tell_places()

    def broadcast_estimations(self, concurrency_id: str, after: int | None = None) -> None:
        """Send what Gradio sends when a line moves, and tell those who are in one how many others are before them."""
        try:
            super().broadcast_estimations(concurrency_id, after)
            self.tell_places(concurrency_id)
        except Exception as error:  # it would end Gradio's loop, and nothing would ever be served again
            logger.error("Those who wait could not be told: %s", where_raised(error))

    def tell_places(self, *names: str) -> None:
        """Tell those who wait in some lanes, or in all, how many others are before them, where that changed.

        Gradio's own rank counts the questions of the same visitor, and not what is being served.
        """
        for name in names or self.limits.sizes:
            before = {asker_of(event).session for event in self.running(name)}
            for event in self.waiting(name):
                mine = asker_of(event).session
                self.tell_place(event, len(before - {mine}))
                before.add(mine)

    def tell_place(self, event: Event, ahead: int) -> None:
        """Tell whoever asked how many others are before them, if they do not know it.

        It goes where answers go, of which Gradio sends the first in full and the others as changes.
        """
        known = self._places.get(event)
        if ahead == (known or 0) or event.data is None or event.data.simple_format:
            return
        data = self.place(event.fn, event.data.data, ahead)
        if data is not None:
            output = {"data": data if known is None else replacement(data), "is_generating": True}
            self._places[event] = ahead
            self.pass_on(event, ProcessGeneratingMessage(output=output, success=True))

    def forecast(self, name: str) -> str:
        """When a lane will have moved on, as far as its last jobs tell."""
        seconds = self.jobs.usual_seconds(name) * len(self.waiting(name)) / 2
        if seconds < 45:
            return "in half a minute"
        return f"in about {count_of(round(seconds / 60) or 1, 'minute')}"

    async def answer_refused(
        self, fn: BlockFunction, body: Any, request: Any, username: str | None, sentence: str
    ) -> tuple[bool, str, str]:
        """Answer at once, as Gradio answers what it finds in its cache: nothing waits and nothing is computed."""
        event = Event(body.session_hash, fn, request, username)
        async with self.pending_message_lock:
            if event.session_hash not in self.pending_messages_per_session:
                self.pending_messages_per_session[event.session_hash] = MessageQueue()
            self.pending_event_ids_session.setdefault(event.session_hash, set()).add(event._id)
        data = self.refuse(fn, body.data, sentence)
        error = {"error": sentence, "title": "Busy", "visible": True, "duration": 10}
        output = error if data is None else {"data": data, "is_generating": False}
        self.send_message(event, ProcessCompletedMessage(output=output, success=data is not None))
        return True, event._id, "success"

    def send_message(self, event: Event, event_message: EventMessage) -> None:
        """Send what Gradio sends, and note how a job ended."""
        if event.alive and event._id in self._outcomes:
            self._outcomes[event._id] = outcome_of(event_message, self._outcomes[event._id])
        answers = isinstance(event_message, ProcessGeneratingMessage) and event_message.output.get("data")
        if answers and self._places.pop(event, None) is not None:  # Gradio's first, after what was told of the place
            output = event_message.output | {"data": replacement(answers)}
            event_message = event_message.model_copy(update={"output": output})
        self.pass_on(event, event_message)

    def pass_on(self, event: Event, event_message: EventMessage) -> None:
        """Send a message as it is, unless whoever asked has left, and their messages with them."""
        if event.session_hash in self.pending_messages_per_session:
            super().send_message(event, event_message)

    def process_events(
        self, events: list[Event], batch: bool, begin_time: float, fn: BlockFunction
    ) -> Coroutine[Any, Any, None]:
        """Serve a job, and note it.

        What is returned has begun already: otherwise a task that is cancelled before its first step would keep its
        place among those that are served for ever.
        """
        job = self._process(events, batch, begin_time, fn)
        job.send(None)
        return job

    async def _process(self, events: list[Event], batch: bool, begin_time: float, fn: BlockFunction) -> None:
        try:
            await asyncio.sleep(0)  # where process_events leaves it
        except asyncio.CancelledError:
            self.put_back(events, begin_time, fn)
            return
        # Gradio ends all questions of a session and a function at once, by the names of their tasks. A question that is
        # ended late would end the next one, too. So each is ended by its number, in remove_from_queue.
        task = asyncio.current_task()
        assert task is not None
        task.set_name(f"question {events[0]._id}")
        self._serving[events[0]._id] = task
        try:
            await self.serve(events, batch, begin_time, fn)
        finally:
            del self._serving[events[0]._id]

    def put_back(self, events: list[Event], begin_time: float, fn: BlockFunction) -> None:
        """Let questions wait again that were about to be served, as if their turn had not come."""
        line = self.event_queue_per_concurrency_id[events[0].concurrency_id]
        line.current_concurrency -= 1
        line.start_times_per_fn[fn].discard(begin_time)
        if not line.start_times_per_fn[fn]:
            del line.start_times_per_fn[fn]
        self.active_jobs[self.active_jobs.index(events)] = None
        line.queue[:0] = events

    async def serve(self, events: list[Event], batch: bool, begin_time: float, fn: BlockFunction) -> None:
        """Serve a job, and note it."""
        started = time.monotonic()
        waited = started - events[0].enqueue_time
        for event in events:
            self.tell_place(event, 0)
            self._outcomes[event._id] = STOPPED
        try:
            await super().process_events(events, batch, begin_time, fn)
        finally:
            seconds = time.monotonic() - started
            for event in events:
                outcome = self._outcomes.pop(event._id)
                if outcome in (STOPPED, SAID) and not event.alive:
                    outcome = LEFT
                if event.concurrency_id in self.limits.sizes:
                    self.jobs.note(Job(event.concurrency_id, kind_of(fn), outcome, waited, seconds))


def enter_lanes(blocks: gr.Blocks, limits: Limits, refuse: Refuse, place: Place) -> gr.Blocks:
    """The page with :class:`LaneQueue` in the place of Gradio's queue, which nobody gets past."""
    # more than the lanes take together, for what does not compute: said by Gradio, so it should not come to that
    blocks.queue(max_size=sum(limits.sizes.values()) + 200, api_open=False)
    if limits.token:
        log_jobs()
    blocks._queue = LaneQueue(blocks, limits, refuse, place, Jobs(LANES))
    return blocks


def has_room(line: EventQueue) -> bool:
    """Whether one more of a line may be served."""
    return line.concurrency_limit is None or line.current_concurrency < line.concurrency_limit


def replacement(data: list[Any]) -> list[Any]:
    """Data as Gradio sends changes: everything is replaced."""
    return [[["replace", [], each]] for each in data]


def asker_of(event: Event) -> Visitor:
    """Who asked for what waits or is served."""
    return event.request.state.visitor


def kind_of(fn: BlockFunction) -> str:
    """What a function is called in what the host sees: the page's name of a kind of question, or an endpoint's."""
    kinds = [block.kind for block in fn.outputs if isinstance(block, Channel)]
    return kinds[0] if kinds else str(fn.api_name or fn.concurrency_id)


def outcome_of(message: EventMessage, before: str) -> str:
    """How a job has ended so far: an answer, a sentence about what was asked, or a failure that nobody foresaw.

    Args:
        message: what is sent of it.
        before: the same before this message.
    """
    output = getattr(message, "output", None) or {}
    if says_error(output):
        before = SAID
    if not isinstance(message, ProcessCompletedMessage):
        return before
    if not message.success:
        return TOLD if output.get("error") else FAILED  # show_error is off: only sentences of ours are sent
    return TOLD if before == SAID else ANSWERED


def says_error(output: dict[str, Any]) -> bool:
    """Whether an answer on a channel, or what changed in it since the last one, is an ``error``."""
    first = next(iter(output.get("data") or ()), None)
    if isinstance(first, dict):
        answer = (first.get("props") or {}).get("answer")
        return isinstance(answer, dict) and "error" in answer
    if isinstance(first, list):  # of changes, each an action and where
        return any(change[0] != "delete" and change[1][-1:] == ["error"] for change in first)
    return False


def goes_on() -> bool:
    """Whether whoever asked for what is being computed here is still there."""
    blocks, number = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    event = blocks._queue.event_ids_to_events.get(number) if blocks is not None else None
    return event is None or event.alive
