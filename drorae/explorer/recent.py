"""The last few readings: the same photo again is instant, and later questions start from the encoder's layers."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock

from drorae.explorer.reading import Reading, default_size
from drorae.images import CENTRE, Photo
from drorae.models.autoencoder import AutoencoderDRoRAE

COUNT = 12  # readings
LIMIT = 600_000_000  # bytes; about 60 MB each for the embedded model at 256 pixels with all its interventions


class RecentReadings:
    """Readings by model, photo, size and crop: those that were asked for last. Threads may share it.

    Args:
        count: how many are kept, at most.
        limit: how much memory they may take together, bytes. The last one is kept whatever it takes.
    """

    def __init__(self, count: int = COUNT, limit: int = LIMIT):
        self.count, self.limit = count, limit
        self._readings: OrderedDict[tuple, Reading] = OrderedDict()
        self._lock = Lock()

    def read(
        self,
        key: str,
        load: Callable[[], Photo],
        model: AutoencoderDRoRAE,
        size: int | None = None,
        whole: bool = False,
        centre: Sequence[float] = CENTRE,
    ) -> Reading:
        """The reading of a photo: the one that is kept, or a new one.

        A photo that two threads ask for at once is read by both, and one of the readings is kept.

        Args:
            key: which photo it is, see :func:`photo_key`.
            load: gives the photo; it is called only if there is no reading.
            model, size, whole, centre: as in :class:`~drorae.explorer.reading.Reading`.

        Raises:
            ImageError: a size that the model does not work at, and whatever ``load`` raises.
        """
        # a reading holds its model, so the number is not another's as long as the reading is here
        place = (id(model), key, default_size(model) if size is None else size, whole, tuple(centre))
        with self._lock:
            reading = self._readings.get(place)
        if reading is None:
            reading = Reading(load(), model, size, whole, centre)
        with self._lock:
            reading = self._readings.setdefault(place, reading)
            self._readings.move_to_end(place)
            self._trim()
        return reading

    def forget(self, model: AutoencoderDRoRAE) -> None:
        """Drop what a model has read, and with it the last reference to the model that is here."""
        with self._lock:
            for place in [place for place, reading in self._readings.items() if reading.model is model]:
                del self._readings[place]

    def __len__(self) -> int:
        return len(self._readings)

    def _trim(self) -> None:
        """Drop the oldest until the rest fits; readings grow while they are used, so sizes are taken anew."""
        sizes = [reading.nbytes for reading in self._readings.values()]
        while len(sizes) > max(1, self.count) or (len(sizes) > 1 and sum(sizes) > self.limit):
            self._readings.popitem(last=False)
            del sizes[0]


def photo_key(content: bytes) -> str:
    """Which photo a file holds: the first 16 hexadecimal digits of the SHA-256 of its bytes."""
    return hashlib.sha256(content).hexdigest()[:16]
