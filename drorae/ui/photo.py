"""What the page asks about a photo, by kind: plain functions of a wish (see ``store/questions.js``), tested without a
browser.

The photo is decoded and cut here, and what was found in it is kept here. What runs networks is in
:mod:`drorae.ui.looking`, and may be another process.
"""

from __future__ import annotations

import base64
import io
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import numpy as np

from drorae.checkpoints import CheckpointError, stored_folder
from drorae.explorer.answers import frame_answer
from drorae.explorer.exploration import Exploration, Frame, Interventions
from drorae.explorer.interventions import InterventionError, can_intervene
from drorae.explorer.reading import cut_photo, default_size
from drorae.explorer.recent import Findings, Found, Recent, RecentReadings, photo_key
from drorae.explorer.standing import Spread, place, read_spread
from drorae.explorer.tokenizers import TokenizerColumn
from drorae.images import CENTRE, ImageError, open_photo
from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.pretrained.autoencoders import licence_of
from drorae.ui import durations, gpu, looking
from drorae.ui.examples import EXAMPLES, NAMES, example_path
from drorae.ui.models import Shelf
from drorae.ui.parsing import intervention_of
from drorae.ui.tokenizers import Tokenizers
from drorae.ui.uploads import uploaded_path
from drorae.viewers.encodings import webp
from drorae.viewers.report import report
from drorae.viewers.tokenizers_value import column_value
from drorae.viewers.values import frames_value, routes_value, similar_value, standing_value, tiles_value

KNOWN = (CheckpointError, ImageError, InterventionError, gpu.GPUError)
COUNT, LIMIT = 24, 300_000_000  # photos whose findings are kept, and bytes of all; about 12 MB each at 256 pixels
UNFORESEEN = "This could not be computed here. Try again, or choose another photo."
Wish = dict[str, Any]


class Look(NamedTuple):
    """A part of a photo, as one model looks at it.

    Attributes:
        name: of the model.
        photo: which one it is, see :func:`drorae.explorer.recent.photo_key`.
        findings: what is known of it.
    """

    name: str
    model: AutoencoderDRoRAE
    photo: str
    findings: Findings


class Photos:
    """The photos that visitors look at, as the models of a shelf read them. What was found in the last ones is kept."""

    def __init__(self, shelf: Shelf, others: Tokenizers | None = None):
        self.shelf, self.found = shelf, Recent[Findings](COUNT, LIMIT)
        self.recent = RecentReadings()  # where networks run
        self.others = others or Tokenizers(shelf.open_to_all)
        shelf.on_drop.append(self.recent.forget)
        self.spreads: dict[str, Spread | None] = {}  # by name of the model
        gpu.keep(self.recent, self.others, shelf.get(shelf.first))

    def look(self, wish: Wish) -> Look:
        """The photo of a wish, decoded and cut for its model; no network runs.

        Raises:
            CheckpointError: the model is no longer loaded.
            ImageError: the photo cannot be read, or is gone.
        """
        path, name = photo_path(wish), photo_name(wish)
        model_name = wish.get("model") or self.shelf.first
        model = self.shelf.get(model_name)
        content = Path(path).read_bytes()
        photo, size, whole, centre = photo_key(content), own_size(wish, model), is_whole(wish), centre_of(wish)
        spot = (self.shelf.hash(model_name), photo, size or default_size(model), whole, centre)

        def cut() -> Findings:
            return Findings(cut_photo(open_photo(content, name), model, size, whole, centre))

        return Look(model_name, model, photo, self.found.get(spot, cut))

    def ask(self, look: Look, function: Callable[..., Any], *args: Any, seconds: float) -> Any:
        """What a function of :mod:`drorae.ui.looking` finds in a photo."""
        return gpu.run(function, self.recent, look.model, look.photo, look.findings.cut, *args, seconds=seconds)

    def routes_of(self, look: Look) -> Exploration:
        """A photo through every route."""
        found = look.findings
        if found.routes is None:
            found.routes = self.ask(look, looking.routes, seconds=durations.painting_seconds(found.cut))
        return found.routes

    def routes(self, wish: Wish) -> dict[str, Any]:
        """The kind ``routes``: the only thing that a new photo waits for."""
        look = self.look(wish)
        return routes_value(
            self.routes_of(look),
            key=str(wish.get("key")),
            name=photo_name(wish),
            model={"name": look.name, "hash": self.shelf.hash(look.name)},
            facts=look.findings.cut.facts,
            example=wish.get("example"),
        )

    def tiles(self, wish: Wish) -> dict[str, Any]:
        """The kind ``tiles``: what each layer alone can paint, for the strip."""
        return tiles_value(self.tiles_of(self.look(wish)))

    def tiles_of(self, look: Look) -> list[Frame]:
        """What each layer alone can paint of a photo."""
        found = look.findings
        if found.tiles is None:
            count = look.model.encoder.num_layers
            found.tiles = self.ask(look, looking.tiles, seconds=durations.painting_seconds(found.cut, count=count))
        return found.tiles

    def standing(self, wish: Wish) -> dict[str, Any]:
        """The kind ``standing``: where the photo's gain stands among those of held-out photos, measured at their size;
        empty where they were not measured of this model."""
        name = wish.get("model") or self.shelf.first
        self.shelf.get(name)  # one that is loaded: others name any folder
        if name not in self.spreads:
            folder = stored_folder(name)
            self.spreads[name] = None if folder is None else read_spread(folder)
        spread = self.spreads[name]
        if spread is None:
            return {}
        look = self.look(wish)
        found = look.findings
        if found.gain is None:
            routes = self.routes_of(look)
            if routes.size == spread.size:  # measured there already
                *_, last = routes.metrics
                found.gain = routes.metrics[last]["psnr"] - routes.metrics["rae"]["psnr"]
            else:
                photo = open_photo(photo_path(wish), photo_name(wish))
                cut = cut_photo(photo, look.model, spread.size, found.cut.whole, found.cut.centre)
                found.gain = gpu.run(looking.gain, look.model, cut, seconds=durations.painting_seconds(cut, count=2))
        return standing_value(place(spread, found.gain))

    def frames(self, wish: Wish) -> Iterator[dict[str, Any]]:
        """The kind ``frames``: every intervention the page has at hand. Pictures come twice, once strengths and
        removals are painted and at the end; in between only how far it is."""
        look = self.look(wish)
        routes = self.routes_of(look)
        for made in self.interventions_in(look):
            if isinstance(made, Interventions):
                yield frames_value(routes, made)
            else:
                done, total = made
                yield {"done": done, "total": total}

    def interventions_in(self, look: Look) -> Iterator[Interventions | tuple[int, int]]:
        """The interventions in a photo, as :func:`drorae.ui.looking.interventions` finds them; the last has all."""
        found = look.findings
        if found.interventions is not None:
            yield found.interventions
            return
        seconds = durations.intervening_seconds(found.cut, look.model.encoder.num_layers)
        given = (self.recent, look.model, look.photo, found.cut)
        for made in gpu.stream(looking.interventions, *given, seconds=seconds):
            if isinstance(made, Interventions) and made.done == made.total:
                found.interventions = made
            yield made

    def intervene(self, wish: Wish) -> dict[str, Any]:
        """The kind ``intervene``: one intervention that is not among the frames, under the ``id`` of the wish.

        Raises:
            InterventionError: it cannot be made, or the model has no router.
        """
        look = self.look(wish)
        seconds = durations.painting_seconds(look.findings.cut)
        frame = self.ask(look, looking.intervene, intervention_of(wish), seconds=seconds)
        return {"id": wish.get("id"), "picture": webp(frame.picture), **frame_answer(frame)}

    def tokenizers(self, wish: Wish) -> Iterator[dict[str, Any]]:
        """The kind ``tokenizers``: the photo through the tokenizer that the ``id`` of the wish names. ``columns`` holds
        it under that name; until it is there, how far it is.

        Raises:
            CheckpointError: there is no such tokenizer, or it does not work at this size.
        """
        name, look = str(wish.get("id") or "").strip(), self.look(wish)
        given = (self.others, name, look.model, licence_of(look.name), look.findings.cut)
        for state in gpu.stream(looking.column, *given, seconds=durations.LOADING):
            if isinstance(state, TokenizerColumn):
                yield {"columns": {name: column_value(state)}, "done": 1, "total": 1}
            else:
                yield {"columns": {name: {"id": name, "progress": state}}, "done": 0, "total": 1}

    def similarity(self, wish: Wish) -> dict[str, Any]:
        """The kind ``similar``: what resembles the ``token`` of the wish, on its photo and on the ``second`` one.

        Raises:
            InterventionError: there is no such token.
        """
        token, second = wish.get("token"), wish.get("second")
        if isinstance(token, bool) or not isinstance(token, int):
            raise InterventionError(f"A token is a whole number from 0, not {str(token)[:40]!r}.")
        look, keys, other = self.look(wish), [str(wish.get("key"))], None
        cuts = [look.findings.cut]
        if isinstance(second, dict):
            there = self.look({**second, "model": wish.get("model")})
            keys.append(str(second.get("key")))
            cuts.append(there.findings.cut)
            other = (there.photo, cuts[1])
        found = self.ask(look, looking.similarities, token, other, seconds=durations.painting_seconds(*cuts))
        return similar_value(dict(zip(keys, found, strict=True)))

    def arrays(self, wish: Wish) -> dict[str, Any]:
        """A file of NumPy with every array of the photo in full precision: ``name``, ``type`` and ``base64``."""
        result = self.routes_of(self.look(wish))
        arrays = {
            "original": result.original,
            "weights": result.weights,
            "shares": result.shares,
            "cosines": result.cosines,
            "texture": result.texture,
            **{f"picture_{route}": picture for route, picture in result.pictures.items()},
            **{f"gain_{route}": gain.map for route, gain in result.gains.items()},
        }
        known: dict[str, Any] = {name: array for name, array in arrays.items() if array is not None}
        stream = io.BytesIO()
        np.savez_compressed(stream, **known)
        return {
            "name": f"{Path(photo_name(wish)).stem}.npz",
            "type": "application/octet-stream",
            "base64": base64.b64encode(stream.getvalue()).decode(),
            "moment": time.time(),
        }

    def report(self, wish: Wish) -> dict[str, Any]:
        """One HTML file of the photo, opened as the page stood: ``name``, ``type`` and ``text``. It is made of what the
        page has found, and whatever is missing is found first."""
        example = wish.get("example")
        picture = example_path(example) or photo_name(wish)  # as the command can take it
        state, look = wish.get("state"), self.look(wish)
        chosen = state if isinstance(state, dict) else None
        self.routes_of(look)
        if can_intervene(look.model):
            self.tiles_of(look)
            deque(self.interventions_in(look), maxlen=0)
        found = Found(look.model, look.findings)
        text = report(found, look.name, picture, chosen, code=self.shelf.hash(look.name))
        return {
            "name": f"drorae-{Path(picture).stem}.html",
            "type": "text/html",
            "text": text,
            "moment": time.time(),
        }

    def answers(self) -> dict[str, Callable[[Wish], Any]]:
        """The function of every kind."""
        return {
            "routes": self.routes,
            "tiles": self.tiles,
            "standing": self.standing,
            "frames": self.frames,
            "intervene": self.intervene,
            "tokenizers": self.tokenizers,
            "similar": self.similarity,
            "arrays": self.arrays,
            "report": self.report,
        }


def photo_path(wish: Wish) -> str:
    """Path of the photo that a wish is about: an example by name, or the file that was uploaded.

    Raises:
        ImageError: neither, or the file was deleted since.
    """
    example, file = wish.get("example"), wish.get("file")
    if example is not None:
        if not isinstance(example, str) or example not in EXAMPLES:
            raise ImageError(f"There is no example '{str(example)[:40]}'; there are {', '.join(NAMES)}.")
        return EXAMPLES[example]
    return uploaded_path(file)


def own_size(wish: Wish, model: AutoencoderDRoRAE) -> int | None:
    """The side in pixels that a generated picture is looked at at, which is its own; ``None`` is the page's.

    Other sizes than the model's own are not taken: anyone can send one, and large ones take long.
    """
    return model.image_size if wish.get("size") == model.image_size else None


def is_whole(wish: Wish) -> bool:
    """Whether all of the photo is looked at, and not a square of it."""
    return wish.get("whole") is True


def photo_name(wish: Wish) -> str:
    """What the visitor calls the photo."""
    return str(wish.get("name") or wish.get("example") or "photo")


def centre_of(wish: Wish) -> tuple[float, float]:
    """Where the visitor put the crop, as a share of width and height; the middle unless moved."""
    try:
        x, y = (float(value) for value in wish.get("centre") or CENTRE)
    except (TypeError, ValueError):
        raise ImageError(f"The centre of the crop must be two numbers from 0 to 1, not {wish['centre']!r}.") from None
    return x, y


def about_wish(wish: Wish) -> dict[str, Any]:
    """What an answer repeats, so that the page knows what it is about: photo, question, and the number of the part of
    the photo that is looked at."""
    return {name: wish.get(name) for name in ("key", "id", "version")}


def answering(function: Callable[[Wish], Any]) -> Callable[[Wish], Iterator[dict[str, Any]]]:
    """The function of a kind as an event of its channel: what it returns or yields becomes the prop ``answer``, a known
    error its sentence."""

    def answer(wish: Wish) -> Iterator[dict[str, Any]]:
        about = about_wish(wish)
        try:
            values = function(wish)
            for value in values if isinstance(values, Iterator) else [values]:
                yield gr.update(answer=about | {"value": value, "moment": time.time()})
        except KNOWN as error:
            # the moment: the page takes no notice of a prop that stays the same
            yield gr.update(answer=about | {"error": str(error), "moment": time.time()})

    return answer


def failure_answer(wish: Wish) -> dict[str, Any]:
    """The answer when something unforeseen happened: the page must not be left waiting."""
    return gr.update(answer=about_wish(wish) | {"error": UNFORESEEN, "moment": time.time()})
