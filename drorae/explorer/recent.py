"""The last few readings, and what was found in them: the same photo again is instant.

A reading holds tensors, and lies where networks run. What was found is plain, and lies where visitors ask: where these
are two processes (:mod:`drorae.ui.gpu`), a finding outlives the reading that it came from.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Generic, Protocol, TypeVar

from drorae.explorer.exploration import Exploration, Frame, Interventions
from drorae.explorer.interventions import can_intervene
from drorae.explorer.reading import Cut, Reading, default_size
from drorae.images import CENTRE, Photo
from drorae.models.autoencoder import AutoencoderDRoRAE

COUNT = 12  # readings
LIMIT = 600_000_000  # bytes; about 60 MB each for the embedded model at 256 pixels with all its interventions


class HasBytes(Protocol):
    """A value that knows how many bytes it takes."""

    @property
    def nbytes(self) -> int:
        """Memory that it takes, bytes."""


Value = TypeVar("Value", bound=HasBytes)


class Recent(Generic[Value]):
    """Values by place: those that were asked for last. Threads may share it.

    Args:
        count: how many are kept, at most.
        limit: how much memory they may take together, bytes. The last one is kept whatever it takes.
    """

    def __init__(self, count: int = COUNT, limit: int = LIMIT):
        self.count, self.limit = count, limit
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = Lock()

    def get(self, place: Hashable, make: Callable[[], Value]) -> Value:
        """The value at a place: the one that is kept, or a new one. What two threads make at once is made by both, and
        one of them is kept."""
        with self._lock:
            value = self._values.get(place)
        if value is None:
            value = make()
        with self._lock:
            value = self._values.setdefault(place, value)
            self._values.move_to_end(place)
            self._trim()
        return value

    def __len__(self) -> int:
        return len(self._values)

    def _trim(self) -> None:
        """Drop the oldest until the rest fits; values grow while they are used, so sizes are taken anew."""
        sizes = [value.nbytes for value in self._values.values()]
        while len(sizes) > max(1, self.count) or (len(sizes) > 1 and sum(sizes) > self.limit):
            self._values.popitem(last=False)
            del sizes[0]


class RecentReadings(Recent[Reading]):
    """Readings by model, photo, size and crop."""

    def read(
        self,
        key: str,
        load: Callable[[], Photo | Cut],
        model: AutoencoderDRoRAE,
        size: int | None = None,
        whole: bool = False,
        centre: Sequence[float] = CENTRE,
    ) -> Reading:
        """The reading of a photo, see :meth:`get`.

        Args:
            key: which photo it is, see :func:`photo_key`.
            load: gives the photo; it is called only if there is no reading.
            model, size, whole, centre: as in :class:`~drorae.explorer.reading.Reading`.

        Raises:
            ImageError: a size that the model does not work at, and whatever ``load`` raises.
        """
        # a reading holds its model, so the number is not another's as long as the reading is here
        place = (id(model), key, default_size(model) if size is None else size, whole, tuple(centre))
        return self.get(place, lambda: Reading(load(), model, size, whole, centre))

    def forget(self, model: AutoencoderDRoRAE) -> None:
        """Drop what a model has read, and with it the last reference to the model that is here."""
        with self._lock:
            for place in [place for place, reading in self._values.items() if reading.model is model]:
                del self._values[place]


@dataclass
class Findings:
    """What was found in a photo so far. Whoever finds more puts it here.

    Attributes:
        cut: the part of the photo that is looked at.
        routes, tiles, interventions: as :class:`~drorae.explorer.reading.Reading` finds them; the interventions only
            once all are painted.
        gain: that of :func:`~drorae.explorer.standing.photo_gain`, dB.
    """

    cut: Cut
    routes: Exploration | None = None
    tiles: list[Frame] | None = None
    interventions: Interventions | None = None
    gain: float | None = None

    @property
    def nbytes(self) -> int:
        """Memory of its pictures and maps."""
        arrays = [self.cut.picture, *(frame.picture for frame in self.tiles or ())]
        if self.interventions is not None:
            made = self.interventions
            arrays += [frame.picture for frame in (*made.strengths, *made.removed, *made.alone, *made.experts)]
        if self.routes is not None:
            arrays += [self.routes.original, self.routes.components, *self.routes.pictures.values()]
            arrays += [gain.map for gain in self.routes.gains.values()]
        return sum({id(array): array.nbytes for array in arrays}.values())


class Found:
    """What was found in a photo, in the place of its reading: it holds no tensors, and computes nothing.

    Args:
        model: that read it.
        findings: all of them, where the model can have interventions.
    """

    def __init__(self, model: AutoencoderDRoRAE, findings: Findings):
        cut, self.model, self._findings = findings.cut, model, findings
        self.size, self.whole, self.centre, self.facts = cut.size, cut.whole, cut.centre, cut.facts

    @property
    def routes(self) -> Exploration:
        """As :attr:`Reading.routes <drorae.explorer.reading.Reading.routes>`."""
        assert self._findings.routes is not None
        return self._findings.routes

    def tiles(self) -> list[Frame]:
        """As :meth:`Reading.tiles <drorae.explorer.reading.Reading.tiles>`."""
        assert self._findings.tiles is not None
        return self._findings.tiles

    def interventions(self) -> Iterator[Interventions]:
        """As the last of :meth:`Reading.interventions <drorae.explorer.reading.Reading.interventions>`."""
        assert self._findings.interventions is not None
        yield self._findings.interventions

    def can_intervene(self) -> bool:
        """Whether the model has a router."""
        return can_intervene(self.model)


def photo_key(content: bytes) -> str:
    """Which photo a file holds: the first 16 hexadecimal digits of the SHA-256 of its bytes."""
    return hashlib.sha256(content).hexdigest()[:16]
