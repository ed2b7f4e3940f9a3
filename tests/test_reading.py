"""A picture is read once; what is asked for later starts there, can be left early, and goes on where it stopped."""

import numpy as np
import pytest
import torch
from conftest import build
from PIL import Image

from drorae.explorer.explore import explore, intervene
from drorae.explorer.interventions import Intervention, InterventionError
from drorae.explorer.reading import BATCH, Reading
from drorae.images import ImageError, Photo, to_uint8

LAYERS = 3
TOTAL = 10 + 3 * LAYERS  # eleven strengths, one of them the trained one


@pytest.fixture(scope="module")
def photo() -> Photo:
    return Photo.of(Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)))


@pytest.fixture
def calls(model) -> dict[str, int]:
    """How many pictures the encoder has seen and how many the decoders have painted."""
    seen = {"encoder": 0, "decoders": 0}

    def count(name):
        def hook(module, args, output):
            seen[name] += len(args[0])

        return hook

    model.encoder.register_forward_hook(count("encoder"))
    for decoder in (model.decoder, model.decoder_finetuned):
        decoder.register_forward_hook(count("decoders"))
    return seen


def finish(reading: Reading):
    *_, made = reading.interventions()
    return made


def test_nothing_is_computed_twice(model, photo, calls):
    reading = Reading(photo, model)
    assert calls == {"encoder": 1, "decoders": 0}
    assert reading.routes is reading.routes
    assert calls == {"encoder": 1, "decoders": 3}
    tiles = reading.tiles()
    assert calls == {"encoder": 1, "decoders": 3 + LAYERS}
    made = finish(reading)
    assert calls == {"encoder": 1, "decoders": 3 + TOTAL}
    assert all(a is b for a, b in zip(made.experts, tiles, strict=True))
    assert finish(reading) == made
    assert reading.tiles() == tiles
    assert calls == {"encoder": 1, "decoders": 3 + TOTAL}
    reading.intervene(Intervention(beta=0.35))
    assert calls == {"encoder": 1, "decoders": 3 + TOTAL + 1}


def test_later_stages_find_what_one_call_does(model, photo):
    reading, all_at_once = Reading(photo, model), explore(photo.picture, model)
    assert reading.routes.metrics == all_at_once.metrics
    assert np.array_equal(reading.routes.weights, all_at_once.weights)
    assert reading.routes.interventions is None
    reading.tiles()  # first, unlike in the one call: other batches
    for kind in ("strengths", "removed", "alone", "experts"):
        pairs = list(zip(getattr(finish(reading), kind), getattr(all_at_once.interventions, kind), strict=True))
        assert pairs
        for found, expected in pairs:
            assert np.abs(found.picture.astype(int) - expected.picture.astype(int)).max() <= 1
    wish = Intervention(layers=(1, 3), beta=0.5, tokens=(3, 4))
    assert np.array_equal(reading.intervene(wish).picture, intervene(photo.picture, model, wish).picture)


def test_tiles_are_what_each_expert_paints(model, photo):
    reading = Reading(photo, model)
    with torch.no_grad():
        base, experts, _ = model.fusion_module.read(model.encoder(reading.images))
        for tile, expert in zip(reading.tiles(), experts, strict=True):
            tokens = torch.nn.functional.layer_norm(base + 0.2 * (expert - base), (48,), eps=1e-6)
            painted = to_uint8(model.decode(model.tokens_to_latent(tokens), "finetuned").sample[0])
            assert np.abs(tile.picture.astype(int) - painted.permute(1, 2, 0).numpy().astype(int)).max() <= 1


def test_strengths_and_removals_come_first_and_every_state_is_a_beginning(model, photo):
    reading = Reading(photo, model)
    states = list(reading.interventions())
    assert [state.done for state in states] == [0, 4, 8, 12, 16, 16 + LAYERS]
    assert BATCH == 4
    assert {state.total for state in states} == {TOTAL}
    last = states[-1]
    for state in states:
        lists = [(getattr(state, kind), getattr(last, kind)) for kind in ("strengths", "removed", "alone", "experts")]
        for found, expected in lists:
            assert all(a is b for a, b in zip(found, expected, strict=False))
        lengths = [len(found) for found, _ in lists]
        complete = [len(found) == len(expected) for found, expected in lists]
        assert all(complete[i] or not any(lengths[i + 1 :]) for i in range(4))
    assert [len(state.strengths) for state in states[:3]] == [0, 5, 9]  # with the trained strength, which is known


def test_a_photo_that_is_left_is_not_painted_further_and_goes_on_where_it_stopped(model, photo, calls):
    reading = Reading(photo, model)
    painting = reading.interventions()
    next(painting)
    next(painting)
    painting.close()
    assert calls["decoders"] == 3 + BATCH
    first = next(reading.interventions())
    assert first.done == BATCH
    assert finish(reading).done == TOTAL
    assert calls["decoders"] == 3 + TOTAL


def test_a_callback_ends_the_tiles(photo):
    class LeftError(Exception):
        pass

    model = build(encoder_args={"patch_size": 8, "reg_tokens": 4, "depth": 6, "embed_dim": 48})
    reading, seen = Reading(photo, model), []

    def leave(done, total):
        seen.append((done, total))
        raise LeftError

    with pytest.raises(LeftError):
        reading.tiles(leave)
    assert seen == [(BATCH, 6)]
    assert len(reading.tiles(lambda done, total: seen.append((done, total)))) == 6
    assert seen == [(BATCH, 6), (6, 6)]


@pytest.mark.parametrize("fusion", [None, "mean"])
def test_without_a_router_there_are_routes_only(photo, fusion):
    reading = Reading(photo, build(fusion=fusion))
    assert "rae" in reading.routes.pictures
    assert not reading.can_intervene()
    for ask in (reading.tiles, lambda: next(reading.interventions()), lambda: reading.intervene(Intervention())):
        with pytest.raises(InterventionError, match="no router"):
            ask()


def test_the_crop_can_be_moved(model):
    wide = Image.new("RGB", (96, 32))
    for i, colour in enumerate(((255, 0, 0), (0, 255, 0), (0, 0, 255))):
        wide.paste(colour, (32 * i, 0, 32 * i + 32, 32))
    for x, expected in ((0.0, [1, 0, 0]), (0.5, [0, 1, 0]), (0.9, [0, 0, 1])):
        reading = Reading(Photo.of(wide), model, centre=(x, 0.5))
        assert reading.images[0].mean((1, 2)).tolist() == expected
    assert reading.facts["crop"] == [64, 0, 32]
    with pytest.raises(ImageError, match="two numbers from 0 to 1"):
        Reading(Photo.of(wide), model, centre=(float("nan"), 0.5))


def test_memory_is_that_of_what_is_there(model, photo):
    reading = Reading(photo, model)
    read = reading.nbytes
    # the picture, every layer with its class and register tokens, and the last layer normalised
    assert read == 4 * (3 * 32 * 32 + LAYERS * (16 + 5) * 48 + 16 * 48)
    reading.routes  # noqa: B018 (asking computes it)
    seen = reading.nbytes
    assert seen > read + 3 * 3 * 32 * 32 * 4
    before = reading.nbytes
    finish(reading)
    assert reading.nbytes >= before + (TOTAL + 1) * 3 * 32 * 32
