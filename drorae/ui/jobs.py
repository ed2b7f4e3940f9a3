"""Jobs that a page did: numbers for its host, and a line of JSON for each. Nothing that visitors sent is among them."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

ANSWERED = "answered"
TOLD = "told"  # a sentence about what was asked
REFUSED = "refused"
FAILED = "failed"  # nobody foresaw it
STOPPED = "stopped"  # by the visitor
LEFT = "left"  # the visitor is gone
OUTCOMES = (ANSWERED, TOLD, REFUSED, FAILED, STOPPED, LEFT)
LOG = logging.getLogger("drorae.jobs")
RECENT = 60.0  # seconds over which answers per second are counted
KEPT = 50  # last jobs of a lane, whose usual duration is known


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes:
        lane: where it waited.
        kind: what was asked: a kind of question of the page, or an endpoint.
        outcome: one of ``OUTCOMES``.
        waited, seconds: in the lane, and computing.
        reason: why it was refused.
    """

    lane: str
    kind: str
    outcome: str
    waited: float = 0.0
    seconds: float = 0.0
    reason: str = ""


class Jobs:
    """Jobs of each lane, counted. The event loop of the server is the only thread that notes any.

    Args:
        lanes: whose jobs are counted.
        clock: seconds that only grow.
    """

    def __init__(self, lanes: Iterable[str], clock: Callable[[], float] = time.monotonic):
        self.lanes, self._clock = tuple(lanes), clock
        self.outcomes: Counter[tuple[str, str]] = Counter()  # by lane and outcome
        self.reasons: Counter[tuple[str, str]] = Counter()  # of refusals, by lane and reason
        self.waited: Counter[str] = Counter()  # seconds by lane
        self.seconds: Counter[str] = Counter()
        self._answers: deque[float] = deque()
        self._last: dict[str, deque[float]] = {}

    def note(self, job: Job) -> None:
        """Count a job, and write its line."""
        self.outcomes[job.lane, job.outcome] += 1
        if job.outcome == REFUSED:
            self.reasons[job.lane, job.reason] += 1
        else:
            self.waited[job.lane] += job.waited  # type: ignore[assignment]
            self.seconds[job.lane] += job.seconds  # type: ignore[assignment]
            self._last.setdefault(job.lane, deque(maxlen=KEPT)).append(job.seconds)
        if job.outcome == ANSWERED:
            self._answers.append(self._clock())
        self._forget()
        LOG.info("%s", line_of(job))

    def answers_per_second(self) -> float:
        """Answers of the last minute, by second."""
        self._forget()
        return len(self._answers) / RECENT

    def usual_seconds(self, lane: str) -> float:
        """How long a job of a lane took, on average over the last ones; 0 where there was none."""
        last = self._last.get(lane)
        return sum(last) / len(last) if last else 0.0

    def _forget(self) -> None:
        while self._answers and self._answers[0] < self._clock() - RECENT:
            self._answers.popleft()


def line_of(job: Job) -> str:
    """A job as one line of JSON."""
    values: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "lane": job.lane,
        "kind": job.kind,
        "outcome": job.outcome,
        "waited": round(job.waited, 3),
        "seconds": round(job.seconds, 3),
    }
    if job.reason:
        values["reason"] = job.reason
    return json.dumps(values)


def log_jobs() -> None:
    """Let the lines go to the standard error stream, whatever else is logged."""
    if not LOG.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
