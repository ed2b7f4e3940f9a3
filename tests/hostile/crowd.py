"""Many visitors at once, each of whom behaves as the page does: what they were answered, and how long it took."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
from PIL import Image

from drorae.explorer.reading import Reading
from drorae.images import open_photo
from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.viewers.values import frames_value, routes_value
from tests.page_client import BrokenError, PageClient, RefusedError, ToldError

ROUTES, FRAMES, SAMPLES = "routes", "frames", "generate"
LAYERS_EVERY = 5  # visitors, one of whom opens Layers
STEPS = 4  # of a sampling
DECIBELS = 0.05  # that an answer may be off: sums are in another order where threads differ
LEVELS = 0.5  # of 255, the same on the mean of a picture


@dataclass
class Tally:
    """What a crowd was answered.

    Attributes:
        answered, refused, broken: by kind of question.
        waited: seconds for an answer, by kind.
        reasons: sentences of refusals, and why something was broken: what failed, where, and how long after it was
            asked for.
        values: answers to be compared, by kind and number of the picture, those that differ.
    """

    answered: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    waited: dict[str, list[float]] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    values: dict[tuple[str, int], dict[str, list[Any]]] = field(default_factory=dict)

    @property
    def asked(self) -> int:
        """Questions that ended in any way."""
        return sum(map(sum, (self.answered.values(), self.refused.values(), self.broken.values())))

    def keep(self, kind: str, picture: int, value: Any) -> None:
        """Keep an answer, once for all that are the same."""
        told = {name: each for name, each in value.items() if name not in ("seconds", "key", "name")}
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
        kept = self.values.setdefault((kind, picture), {}).setdefault(digest, [value, 0])
        kept[1] += 1


@dataclass(frozen=True)
class Behaviour:
    """What visitors do.

    Attributes:
        think: seconds between an answer and the next choice.
        goes_on: asked before each choice.
        size: side of the photos in pixels; ``None`` is the page's.
        patience: seconds after which an answer of which nothing is heard is not waited for any more.
    """

    think: float
    goes_on: Callable[[int], bool]
    size: int | None = None
    patience: float = 300.0


def picture(number: int) -> bytes:
    """A photo that only one visitor has: smooth colours with some detail, as JPEG."""
    rng = np.random.default_rng(number)
    small = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    smooth = Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC)
    detail = rng.normal(0, 12, (480, 640, 1))
    shown = np.clip(np.asarray(smooth, np.float32) + detail, 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(shown).save(stream, "JPEG", quality=90)
    return stream.getvalue()


class Visitor:
    """One of the crowd.

    Args:
        number: of the visitor; pictures and address are its own.
        pictures: numbers of its pictures.
    """

    def __init__(self, url: str, number: int, pictures: list[int], tally: Tally, behaviour: Behaviour):
        address = f"198.18.{number // 250}.{number % 250 + 1}"  # a range for such measurements
        self.client, self.tally, self.behaviour = PageClient(url, address, behaviour.patience), tally, behaviour
        self.pictures, self.opens_layers = pictures, number % LAYERS_EVERY == LAYERS_EVERY - 1
        self.files: dict[int, str] = {}
        self.later: dict[str, asyncio.Task[Any]] = {}
        self.rng = random.Random(number)

    async def visit(self) -> None:
        """Open the page, choose photos one after the other, and leave."""
        try:
            await self.client.open()
            round_ = 0
            while self.behaviour.goes_on(round_):
                await self.choose(self.pictures[round_ % len(self.pictures)])
                await asyncio.sleep(self.behaviour.think * self.rng.uniform(0.8, 1.2))
                round_ += 1
            await asyncio.gather(*self.later.values(), return_exceptions=True)  # frames that were given up
        except (httpx.HTTPError, BrokenError, OSError) as error:
            self.note_broken("page", error)
        finally:
            await self.client.close()

    async def choose(self, number: int) -> None:
        """Look at a photo: its routes first, the rest behind them."""
        if number not in self.files:
            try:
                self.files[number] = await self.client.upload(picture(number), f"{number}.jpg")
            except RefusedError as error:
                self.note_refused("upload", error)
                return
        key = hashlib.sha256(picture(number)).hexdigest()[:16]
        wish = {"key": key, "file": {"path": self.files[number]}, "name": f"{number}.jpg", "version": 0}
        wish |= {"size": self.behaviour.size} if self.behaviour.size else {}
        if (frames := self.later.get(FRAMES)) is not None:
            frames.cancel()  # of the photo before
            await asyncio.gather(frames, return_exceptions=True)
        if not await self.ask(ROUTES, number, wish):
            return
        for kind in ("tiles", "standing", *([FRAMES] if self.opens_layers else [])):
            before = self.later.get(kind)
            self.later[kind] = asyncio.create_task(self.follow(before, kind, number, wish))

    async def follow(self, before: asyncio.Task[Any] | None, kind: str, number: int, wish: dict[str, Any]) -> None:
        """Ask once the same kind of question was answered: a page asks one at a time."""
        if before is not None:
            await asyncio.gather(before, return_exceptions=True)
        await self.ask(kind, number, wish)

    async def ask(self, kind: str, number: int, wish: dict[str, Any]) -> bool:
        """Ask, and note how it ended; whether there is an answer."""
        started, event, value, heard = time.monotonic(), None, {}, 0
        try:
            event = await self.client.join(kind, wish)
            async for answer in self.client.updates(event):
                heard += 1
                if "error" in answer:
                    raise (RefusedError if answer.get("busy") else ToldError)(answer["error"])
                if (answer.get("key"), kind) != (wish["key"], kind):
                    raise BrokenError("the answer is about another photo")
                value |= answer["value"]
        except RefusedError as error:
            self.note_refused(kind, error)
            return False
        except asyncio.CancelledError:
            if event is not None:
                await asyncio.shield(self.client.cancel(kind, event))
            raise
        except (ToldError, BrokenError, httpx.HTTPError, OSError) as error:
            stage = "asking" if event is None else f"{heard} answers" if heard else "in line"
            self.note_broken(kind, error, f"{stage}, after {time.monotonic() - started:.1f} s")
            return False
        self.tally.answered[kind] += 1
        self.tally.waited.setdefault(kind, []).append(time.monotonic() - started)
        if kind in (ROUTES, FRAMES, SAMPLES):
            self.tally.keep(kind, number, value)
        return True

    def note_refused(self, kind: str, error: RefusedError) -> None:
        """Count a refusal, which is polite where it is a sentence."""
        self.tally.refused[kind] += 1
        self.tally.reasons[f"refused: {error}"] += 1

    def note_broken(self, kind: str, error: Exception, when: str = "") -> None:
        """Count what is neither an answer nor a refusal."""
        self.tally.broken[kind] += 1
        asked = error.request if isinstance(error, (httpx.RequestError, httpx.HTTPStatusError)) else None
        where = "" if asked is None else f" at {asked.url.path}"
        told = f"broken: {kind}: {type(error).__name__}{where} {error}"[:240]
        self.tally.reasons[f"{told} ({when})" if when else told] += 1


class Sampler(Visitor):
    """A visitor of Generate, who asks for the same picture again and again."""

    async def choose(self, number: int) -> None:
        """Ask for the picture of a seed."""
        wish = {"key": f"generate {number}", "what": "pictures", "steps": STEPS, "seeds": [number], "subject": 0}
        title = self.client.prop("generate", "config")["generators"][0]["title"]
        await self.ask(SAMPLES, number, {**wish, "generator": title, "guidance": "none", "scale": 1.0})


async def crowd(
    url: str, clients: int, each: int, behaviour: Behaviour, samplers: int = 0, first: int = 0
) -> tuple[Tally, int]:
    """What a crowd is answered, and how many pictures it has.

    Args:
        clients: visitors who look at photos.
        each: photos that each of them has.
        samplers: visitors of Generate besides.
        first: number of the first visitor.
    """
    tally = Tally()
    visitors = [
        Visitor(url, number, list(range(each * number, each * (number + 1))), tally, behaviour)
        for number in range(first, first + clients)
    ]
    visitors += [Sampler(url, 10_000 + number, [number], tally, behaviour) for number in range(samplers)]
    await asyncio.gather(*(visitor.visit() for visitor in visitors))
    return tally, clients * each


def wrong_answers(tally: Tally, model: AutoencoderDRoRAE, size: int | None = None) -> tuple[int, int]:
    """How many answers were compared with what their pictures must give, and how many of those are something else."""
    compared = wrong = 0
    for number in sorted({number for kind, number in tally.values if kind in (ROUTES, FRAMES)}):
        reading = Reading(open_photo(picture(number), "x"), model, size)
        right = routes_value(reading.routes, key="", name="", model={"name": "", "hash": ""}, facts=reading.facts)
        for value, count in tally.values.get((ROUTES, number), {}).values():
            compared += count
            wrong += 0 if same_routes(value, right) else count
        if (FRAMES, number) in tally.values:
            *_, made = reading.interventions()
            painted = frames_value(reading.routes, made)
            for value, count in tally.values[FRAMES, number].values():
                compared += count
                wrong += 0 if same_frames(value, painted) else count
    return compared, wrong


def same_routes(value: dict[str, Any], right: dict[str, Any]) -> bool:
    """Whether an answer's pictures and numbers are those of its photo."""
    if set(value["pictures"]) != set(right["pictures"]) or value["size"] != right["size"]:
        return False
    pictures = [(pixels(value["pictures"][name]), pixels(url)) for name, url in right["pictures"].items()]
    measured = [(value["metrics"][route]["psnr"], numbers["psnr"]) for route, numbers in right["metrics"].items()]
    return all(a.shape == b.shape and np.abs(a - b).mean() <= LEVELS for a, b in pictures) and are_near(measured)


def same_frames(value: dict[str, Any], right: dict[str, Any]) -> bool:
    """Whether all interventions are there, with the numbers of their photo."""
    kinds = ("strengths", "removed", "alone", "experts")
    if any(len(value[kind]) != len(right[kind]) for kind in kinds) or value["done"] != right["done"]:
        return False
    pairs = [(a["psnr"], b["psnr"]) for kind in kinds for a, b in zip(value[kind], right[kind], strict=True)]
    return are_near(pairs) and np.abs(pixels(value["sprite"]) - pixels(right["sprite"])).mean() <= LEVELS


def are_near(pairs: list[tuple[float | None, float | None]]) -> bool:
    """Whether numbers are equal but for rounding; of identical pictures they are ``None``."""
    return all(a == b or (None not in (a, b) and abs(a - b) <= DECIBELS) for a, b in pairs)


def pixels(url: str) -> np.ndarray:
    """A picture of an answer."""
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as opened:
        return np.asarray(opened.convert("RGB"), np.float32)
