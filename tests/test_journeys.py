"""Grids, walks, photos as starts and morphs, against the pipelines themselves and closed forms."""

import math

import numpy as np
import pytest
import torch
from conftest import build
from PIL import Image

from drorae import SamplingError
from drorae.explorer.journeys import (
    WALK,
    PhotoJourney,
    conditions,
    mix,
    morph,
    sample_from_photo,
    sample_grid,
    sample_walk,
)
from drorae.explorer.reading import open_picture
from drorae.explorer.sampling import Request, slerp, to_arrays
from drorae.images import to_uint8
from drorae.pipelines import flow

REQUEST = Request("church", steps=4, guidance="autoguidance", scale=2.0, seeds=(5, 9))


def photo(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 32, 3), dtype=np.uint8))


def close(pictures, others) -> bool:
    """Within one level of 255: batches of another size round differently."""
    return np.abs(np.asarray(pictures, int) - np.asarray(others, int)).max() <= 1


def made(pipeline, subject, seeds, guidance="autoguidance", scale=2.0, **options):
    images = pipeline([subject] * len(seeds), 4, guidance, scale, seed=seeds, **options).images
    return np.stack([np.asarray(image) for image in images])


def test_slerp_follows_the_circle():
    a, b = torch.zeros(2, 1, 2), torch.zeros(2, 1, 2)
    a[0, 0, 0], b[1, 0, 1] = 3, 3
    points = slerp(a, b, [0, 1 / 3, 0.5, 1])
    for point, angle in zip(points, (0, 30, 45, 90), strict=True):
        turned = 3 * (math.cos(math.radians(angle)) * a / 3 + math.sin(math.radians(angle)) * b / 3)
        assert torch.allclose(point, turned, atol=1e-6)
    assert torch.allclose(points.flatten(1).norm(dim=1), torch.full((4,), 3.0))


def test_slerp_keeps_the_length_of_noise_where_a_line_loses_it():
    a, b = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    lengths = slerp(a, b, np.linspace(0, 1, 5).tolist()).flatten(1).norm(dim=1)
    assert lengths.min() > 0.98 * min(a.norm(), b.norm())
    assert ((a + b) / 2).norm() < 0.75 * a.norm()
    assert torch.allclose(slerp(a, b, [0, 1]), torch.stack([a, b]), atol=1e-6)


def test_slerp_of_parallel_noise_is_the_line():
    a = torch.ones(1, 2, 2)
    assert torch.allclose(slerp(a, 3 * a, [0.25])[0], 1.5 * a)
    assert torch.allclose(slerp(a, -a, [0.25])[0], 0.5 * a)
    assert slerp(a, a, [0.5]).isfinite().all()


@pytest.mark.parametrize("begin", [0, 3, 9])
def test_a_flow_that_begins_in_the_middle_reaches_the_same_data(begin):
    scheduler = flow.start(flow.build_scheduler(48, 4, 4), 10, "cpu", begin)
    data, noise = torch.randn(2, 1, 48, 4, 4, generator=torch.Generator().manual_seed(1))
    time = flow.times_of(scheduler)[begin]
    start = (1 - time) * data + time * noise
    steps = list(flow.sample(lambda x, t: (x - data) / t[:, None, None, None], start, scheduler, begin))
    assert [step.index for step in steps] == list(range(begin, 10))
    assert steps[0].time == time
    assert torch.allclose(steps[-1].latents, data, atol=1e-5)


def test_the_first_step_is_the_closest():
    scheduler = flow.start(flow.build_scheduler(48, 4, 4), 10, "cpu")
    times = flow.times_of(scheduler)
    assert flow.first_step(scheduler, 1.0) == 0
    assert flow.first_step(scheduler, 1e-6) == 9
    assert flow.first_step(scheduler, times[4] + 1e-3) == 4
    assert flow.first_step(scheduler, 0.49 * times[4] + 0.51 * times[5]) == 5


def test_classes_are_mixed_by_their_embeddings(pipeline):
    denoiser = pipeline.denoiser
    condition, without = conditions(pipeline, ["church", "golf ball"], REQUEST)
    table = denoiser.label_embed.weight
    _, _, half = denoiser.embed_condition(mix(condition["class_labels"], [0.5]), None, None)
    assert torch.allclose(half[0, 0], (table[1] + table[2]) / 2, atol=1e-6)
    _, _, nothing = denoiser.embed_condition(without["class_labels"], None, None)
    assert torch.allclose(nothing[:, 0], table[3].expand(2, -1))


def test_a_grid_has_the_pipelines_pictures_row_by_row(pipeline):
    *before, last = sample_grid(pipeline, REQUEST, [1.0, 3.0])
    assert [state.done for state in (*before, last)] == list(range(1, 9))
    assert [len(state.pictures) for state in (*before, last)] == [0, 0, 0, 2, 0, 0, 0, 4]
    expected = [made(pipeline, "church", [5, 9], "none", 1.0), made(pipeline, "church", [5, 9], scale=3.0)]
    assert close(last.pictures, np.concatenate(expected))


@pytest.mark.parametrize("guidance", ["none", "cfg", "autoguidance"])
def test_a_walk_begins_and_ends_with_the_pictures_of_its_ends(pipeline, guidance):
    request = Request("church", steps=4, guidance=guidance, scale=2.0, seeds=(5,))
    *_, last = sample_walk(pipeline, request, 9, "golf ball")
    assert len(last.pictures) == WALK
    assert close(last.pictures[0], made(pipeline, "church", [5], guidance)[0])
    assert close(last.pictures[-1], made(pipeline, "golf ball", [9], guidance)[0])
    assert not close(last.pictures[3], last.pictures[0])


def test_a_walk_between_texts_begins_and_ends_with_theirs(text_pipeline):
    request = Request("a red ball", steps=3, guidance="cfg", scale=3.0, seeds=(2,), negative="night")
    *_, last = sample_walk(text_pipeline, request, 4, "two dogs run on the grass")
    for at, prompt, seed in ((0, "a red ball", 2), (-1, "two dogs run on the grass", 4)):
        image = text_pipeline(prompt, 3, "cfg", 3.0, negative_prompt="night", seed=seed).images[0]
        assert close(last.pictures[at], np.asarray(image))


def test_noise_alone_keeps_nothing_of_a_photo(pipeline):
    start, *_, last = sample_from_photo(pipeline, REQUEST, photo(), 1.0)
    assert isinstance(start, PhotoJourney)
    assert (start.time, start.steps) == (pytest.approx(1), 4)
    assert close(last.pictures, made(pipeline, "church", [5, 9]))


def test_a_photo_is_noised_to_the_time_of_a_step_and_denoised_from_there(pipeline):
    request = Request("church", steps=10, seeds=(5,))
    times = flow.times_of(flow.start(pipeline.scheduler, 10, "cpu"))
    start, *steps = sample_from_photo(pipeline, request, photo(), times[7] + 1e-4)
    assert (start.time, start.steps, len(steps)) == (times[7], 3, 3)
    model = pipeline.autoencoder
    with torch.no_grad():
        latent = model.encode(open_picture(photo(), model)).latent
    noisy = (1 - times[7]) * latent + times[7] * pipeline.noise(1, 5, None, None)
    assert close(start.rebuilt, to_arrays(pipeline, latent)[0])
    assert close(start.noisy, to_arrays(pipeline, noisy)[0])
    changed = np.abs(steps[-1].pictures[0].astype(int) - start.rebuilt).mean()
    *_, free = sample_from_photo(pipeline, request, photo(), 1.0)
    assert changed < np.abs(free.pictures[0].astype(int) - start.rebuilt).mean()


def test_a_morph_begins_and_ends_with_both_reconstructions(model):
    result = morph(model, photo(1), photo(2))
    for at, seed in ((0, 1), (-1, 2)):
        with torch.no_grad():
            image = open_picture(photo(seed), model)
            for pictures, fusion, decoder in ((result.last, False, "original"), (result.fused, True, "finetuned")):
                sample = model.decode(model.encode(image, fusion=fusion).latent, decoder=decoder).sample
                assert close(pictures[at], to_uint8(sample)[0].permute(1, 2, 0))
    assert morph(build(fusion=None), photo(1), photo(2)).fused is None


def call(pipeline, what):
    if what == "grid":
        return sample_grid(pipeline, REQUEST, [1.0])
    return sample_walk(pipeline, REQUEST, 7) if what == "walk" else sample_from_photo(pipeline, REQUEST, photo(), 0.5)


@pytest.fixture
def calls(pipeline):
    """Grows with every call of a denoiser. Hooks, because other tests may have put a ``forward`` of its own on it."""
    made = []
    hooks = [each.register_forward_hook(lambda *_: made.append(1)) for each in (pipeline.denoiser, pipeline.guide)]
    yield made
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("what", ["grid", "walk", "photo"])
def test_leaving_ends_the_sampling(pipeline, what, calls):
    states = call(pipeline, what)
    while not calls:
        next(states)
    before = len(calls)
    states.close()
    assert len(calls) == before <= 2


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (lambda p: sample_grid(p, REQUEST, []), "1 to 6 guidance scales"),
        (lambda p: sample_grid(p, REQUEST, [1.0] * 7), "1 to 6 guidance scales"),
        (lambda p: sample_grid(p, REQUEST, [2.0, math.nan]), "not nan"),
        (lambda p: sample_grid(p, Request("church", seeds=(1,)), [2.0]), "choose a kind of guidance"),
        (lambda p: sample_walk(p, REQUEST, -1), "A seed is a whole number"),
        (lambda p: sample_walk(p, REQUEST, 7, "chapel"), "There is no class 'chapel'"),
        (lambda p: sample_from_photo(p, REQUEST, photo(), 0), "above 0 and at most 1, not 0"),
        (lambda p: sample_from_photo(p, REQUEST, photo(), None), "not None"),
        (lambda p: sample_from_photo(p, Request("chapel", seeds=(1,)), photo(), 0.5), "There is no class 'chapel'"),
    ],
)
def test_bad_wishes_compute_nothing(pipeline, start, message, calls):
    with pytest.raises(SamplingError, match=message):
        next(start(pipeline))
    assert calls == []
