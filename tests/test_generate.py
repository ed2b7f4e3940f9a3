"""What the explorer shows of a sampling, against the pipeline itself."""

import base64
import io
import math

import numpy as np
import pytest
from PIL import Image

from drorae import DiTDH, DRoRAEClassPipeline, SamplingError
from drorae.explorer.sampling import (
    Generation,
    Request,
    SamplingProgress,
    class_names,
    kept_steps,
    sample_with_progress,
)
from drorae.images import png_settings
from drorae.pipelines.base import SamplerSettings
from drorae.viewers.values import generation_value, progress_value

REQUEST = Request("church", seed=5, count=2, steps=12, guidance="autoguidance", scale=2.0)


def run(pipeline, request=REQUEST):
    *progress, result = sample_with_progress(pipeline, request, "tiny")
    assert all(isinstance(state, SamplingProgress) for state in progress)
    assert isinstance(result, Generation)
    return progress, result


def arrays(pictures) -> np.ndarray:
    return np.stack([np.asarray(picture) for picture in pictures])


def test_rows_are_the_pipelines_pictures(pipeline):
    _progress, result = run(pipeline)
    assert result.seeds == [5, 6]
    assert result.label == "church"
    assert [row.name for row in result.rows] == ["guided", "unguided"]
    for row, guidance in zip(result.rows, ("autoguidance", "none"), strict=True):
        for decoder in ("original", "finetuned"):
            images = pipeline([1, 1], 12, guidance, 2.0, seed=[5, 6], decoder=decoder).images
            assert np.array_equal(row.pictures[decoder], arrays(images))
        assert row.settings[1] == {"model": "tiny", "class": "church", "steps": 12, "guidance": guidance, "seed": 6} | (
            {"scale": 2.0} if guidance != "none" else {}
        )


def test_the_film_shows_clean_estimates_and_ends_with_the_picture(pipeline):
    _, result = run(pipeline)
    row = result.rows[0]
    assert row.film.shape == (8, 2, 32, 32, 3)
    assert len(row.times) == 8
    assert row.times[-1] == 0
    assert row.times == sorted(row.times, reverse=True)
    assert np.array_equal(row.film[-1], row.pictures["finetuned"])
    steps = list(pipeline.steps([1, 1], SamplerSettings(12, "autoguidance", 2.0), seed=5))
    kept = [step for step in steps if step.index + 1 in kept_steps(12, 8)][:-1]
    assert [step.next_time for step in kept] == row.times[:-1]
    assert np.array_equal(row.film[2], arrays(pipeline.decode(kept[2].clean)))


def test_progress_counts_every_step_and_previews_some(pipeline):
    progress, _ = run(pipeline)
    assert [state.step for state in progress] == list(range(1, 12))
    assert progress[0].count == 12
    shown = [state.step for state in progress if state.previews]
    assert 5 <= len(shown) < 11
    assert set(progress[shown[0] - 1].previews) == {"guided", "unguided"}


@pytest.mark.parametrize(
    ("changes", "rows"),
    [
        ({"guidance": "none"}, ["unguided"]),
        ({"scale": 1.0}, ["unguided"]),
        ({"guidance": "cfg", "compare": False}, ["guided"]),
        ({"steps": 1}, ["guided", "unguided"]),
    ],
)
def test_what_is_asked_for_is_made(pipeline, changes, rows):
    _, result = run(pipeline, Request(**{**REQUEST.__dict__, **changes}))
    assert [row.name for row in result.rows] == rows


def test_leaving_ends_the_sampling(pipeline):
    calls, original = [], pipeline.denoiser.forward
    pipeline.denoiser.forward = lambda *a, **k: calls.append(1) or original(*a, **k)
    try:
        states = sample_with_progress(pipeline, REQUEST, "tiny")
        next(states)
        states.close()
    finally:
        pipeline.denoiser.forward = original
    assert len(calls) == 2  # one step of both rows


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subject": "chapel"}, "There is no class 'chapel'"),
        ({"count": 10_000}, "10000 pictures at once; ask for 1 to 8"),
        ({"count": 2.5}, "2.5 pictures at once"),
        ({"steps": 0}, "from 1 to 1000, not 0"),
        ({"steps": None}, "from 1 to 1000, not None"),
        ({"scale": -1}, "from 0 to 100, not -1"),
        ({"scale": 1e9}, "not 1000000000.0"),
        ({"scale": math.nan}, "not nan"),
        ({"seed": None}, "The first seed is a whole number from 0, not None"),
        ({"seed": [1, 2]}, "The first seed is a whole number"),
        ({"steps": 500}, "500 steps are too many for this page"),
        ({"seed": -3}, "A seed is a whole number from 0"),
        ({"seed": 0.5}, "The first seed is a whole number from 0, not 0.5"),
    ],
)
def test_bad_requests(pipeline, changes, message, monkeypatch):
    monkeypatch.setattr(DiTDH, "forward", lambda *_, **__: pytest.fail("the denoiser was called"))
    with pytest.raises(SamplingError, match=message):
        next(sample_with_progress(pipeline, Request(**{**REQUEST.__dict__, **changes}), "tiny"))


def test_kept_steps():
    assert kept_steps(25, 8) == {3, 6, 9, 12, 16, 19, 22, 25}
    assert kept_steps(3, 8) == {1, 2, 3}
    assert kept_steps(1, 8) == {1}


def test_without_names_the_numbers_are_the_names(pipeline):
    bare = DRoRAEClassPipeline(pipeline.autoencoder, pipeline.denoiser, pipeline.scheduler)
    assert list(class_names(bare)) == ["0", "1", "2"]


def test_what_travels_to_the_page(pipeline):
    """Pictures are PNG that hold their settings; the film is by picture, and about what it was."""

    def decode(text):
        return io.BytesIO(base64.b64decode(text.partition(",")[2]))

    progress, result = run(pipeline)
    value = generation_value(result)
    assert value["decoders"] == ["original", "finetuned"]
    assert not value["running"]
    row, made = value["rows"][0], result.rows[0]
    for i in range(2):
        file = decode(row["pictures"]["original"][i])
        assert png_settings(file) == {**made.settings[i], "decoder": "original"}
        assert np.array_equal(np.asarray(Image.open(file)), made.pictures["original"][i])
        assert len(row["film"][i]) == 7
        frame = np.asarray(Image.open(decode(row["film"][i][3])), int)
        others = [np.abs(frame - made.film[3, j]).mean() for j in range(2)]
        assert others[i] == min(others)
    running = progress_value(progress[1])
    assert running["running"]
    assert running["step"] == 2
    assert running["seeds"] == [5, 6]
    assert running["label"] == "church"
    latents = list(pipeline.steps([1, 1], SamplerSettings(12, "autoguidance", 2.0), seed=5))[-1].latents
    packed = row["latents"]
    lengths = np.frombuffer(base64.b64decode(packed["data"]), "<i2").reshape(2, 4, 4) * packed["scale"]
    assert np.abs(lengths - latents.norm(dim=1).numpy()).max() <= packed["scale"]


def test_prompts_have_rows_of_their_own(text_pipeline):
    request = Request("a red ball", 3, 2, 4, "cfg", 2.0, negative="grass", other="a church")
    *_, result = sample_with_progress(text_pipeline, request, "tiny")
    assert [row.name for row in result.rows] == ["guided", "unguided", "other"]
    expected = {
        "guided": ("a red ball", {"guidance": "cfg", "negative_prompt": "grass"}),
        "unguided": ("a red ball", {"guidance": "none"}),
        "other": ("a church", {"guidance": "cfg", "negative_prompt": "grass"}),
    }
    for row in result.rows:
        prompt, settings = expected[row.name]
        images = text_pipeline(prompt, 4, guidance_scale=2.0, num_images_per_prompt=2, seed=3, **settings).images
        assert np.array_equal(row.pictures["finetuned"], arrays(images))
        assert row.settings[1]["prompt"] == prompt
        assert row.settings[1]["seed"] == 4
    assert result.rows[0].settings[0]["negative"] == "grass"
    assert "negative" not in result.rows[1].settings[0]
    with pytest.raises(SamplingError, match="prompt is a text"):
        next(sample_with_progress(text_pipeline, Request(3), "tiny"))
