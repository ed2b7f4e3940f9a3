"""The cache of latents: what it holds, when it is another one, kills and full disks."""

import hashlib
import json
import os
import pickle

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import SHAPE, build, photos
from PIL import Image

from drorae.checkpoints import module_hash
from drorae.images import to_tensor
from train.data.crops import adm_square
from train.data.latent_cache import (
    DAMAGED_LABEL,
    LatentPositions,
    cache_key,
    drawn_view,
    encode_raw,
    load_cache,
    size_in_bytes,
    tokenizer_hash,
    view_images,
)
from train.data.positions import TrainingPositions
from train.data.rows import picture_of
from train.errors import DataError, RunError
from train.presets import PRESETS


def test_cached_latents_are_those_of_the_pictures(tmp_path):
    model, source = build(), photos(tmp_path / "p")
    latents, labels, damaged = load_cache(model, source, tmp_path / "cache", Accelerator(), batch_size=3)
    assert latents.shape == (7, 2, *SHAPE)
    assert latents.dtype == np.float16
    assert sorted(labels.tolist()) == [0, 0, 0, 0, 1, 1, 1]
    assert damaged == []
    for i in (0, 6):
        row = source.row(i)
        picture = to_tensor(adm_square(Image.open(row["image"]["path"]), 32))[None]
        for view, image in enumerate((picture, picture.flip(-1))):
            torch.testing.assert_close(
                torch.tensor(latents[i, view]).float(), encode_raw(model, image)[0], atol=4e-3, rtol=2e-3
            )
        assert labels[i] == row["label"]
    positions = LatentPositions(latents, labels, [], source.sources, seed=0)
    schedule = PRESETS["smoke"].stage2["class"].schedule
    batches = list(positions.batches(schedule, 0, 0, 1))
    assert len(batches) == 6
    assert batches[0].images is None
    again = next(iter(positions.batches(schedule, 3, 0, 1)))
    assert torch.equal(again.latents, batches[3].latents)
    assert torch.equal(again.labels, batches[3].labels)
    plain = LatentPositions(latents[:, :1], labels, [], source.sources, seed=0)
    index = [positions.whole[positions.index(p)] for p in range(4)]
    assert np.array_equal(next(iter(plain.batches(schedule, 0, 0, 1))).latents, latents[index, 0])


def test_with_and_without_cache_the_same_views_are_seen(tmp_path):
    model, source = build(), photos(tmp_path / "p")
    positions = LatentPositions(*load_cache(model, source, tmp_path / "cache", Accelerator()), source.sources, seed=0)
    schedule = PRESETS["smoke"].stage2["class"].schedule
    pairs = zip(positions.batches(schedule, 0, 0, 1), source.batches(schedule, 0, 0, 1), strict=True)
    for cached, plain in pairs:
        torch.testing.assert_close(cached.latents.float(), encode_raw(model, plain.images), atol=4e-3, rtol=2e-3)
        assert torch.equal(cached.labels, plain.labels)
        assert torch.equal(cached.positions, plain.positions)


def test_damaged_pictures_are_left_out_and_named(tmp_path):
    source = photos(tmp_path / "p", damaged=(2, 5))
    latents, labels, damaged = load_cache(build(), source, tmp_path / "cache", Accelerator())
    assert (labels == DAMAGED_LABEL).sum() == 2
    assert len(damaged) == 2
    assert all("2.png" in note or "5.png" in note for note in damaged)
    positions = LatentPositions(latents, labels, damaged, source.sources, 0)
    assert positions.count == 5
    assert set(labels[[positions.whole[positions.index(p)] for p in range(50)]]) == {0, 1}
    assert positions.collate([0, 1]).damaged == damaged
    with pytest.raises(DataError, match="no picture of the training split can be read"):
        LatentPositions(latents, np.full(7, DAMAGED_LABEL), damaged, source.sources, 0)


def test_workers_are_told_where_the_latents_are(tmp_path):
    source = photos(tmp_path / "p")
    positions = LatentPositions(*load_cache(build(), source, tmp_path / "c", Accelerator()), [], seed=0)
    message = pickle.dumps(positions)
    assert len(message) < positions.latents.nbytes / 10
    assert torch.equal(pickle.loads(message).collate([3, 4]).latents, positions.collate([3, 4]).latents)


@pytest.mark.parametrize("harm", [None, "progress", "record"])
def test_a_stopped_cache_goes_on(tmp_path, harm):
    model, source = build(), photos(tmp_path / "p", count=60)
    reading, original = [], source.row
    source.row = lambda index: reading.append(index) or (original(index) if len(reading) < 40 else stop())
    folder = tmp_path / "cache"

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_cache(model, source, folder, Accelerator(), batch_size=2)
    done = int((folder / "done-0-of-1").read_text())
    assert 0 < done < 60
    if harm is not None:  # as a kill in the middle of writing without the rename would leave it
        file = folder / ("done-0-of-1" if harm == "progress" else "cache.json")
        file.write_text("" if harm == "progress" else file.read_text()[:10])
    again: list[int] = []
    source.row = lambda index: again.append(index) or original(index)
    latents, labels, _ = load_cache(model, source, folder, Accelerator(), batch_size=2)
    assert sorted(again) == list(range(0 if harm else done, 60))  # two threads read them
    source.row = original
    whole, names, _ = load_cache(model, source, tmp_path / "other", Accelerator(), batch_size=2)
    assert np.array_equal(latents, whole)
    assert np.array_equal(labels, names)


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RunError, match="No space left on device"):
        load_cache(build(), photos(tmp_path / "p"), tmp_path / "cache", Accelerator())


def test_whatever_makes_another_latent_has_another_hash():
    plain = build()
    assert tokenizer_hash(build().half()) == tokenizer_hash(plain)
    painted = build()
    painted.decoder.decoder_pred.weight.data += 1
    painted.register_to_config(finetuned_decoder=True)
    assert tokenizer_hash(painted) == tokenizer_hash(plain)
    others = [
        build(fusion=None),
        build(fusion="mean", fusion_mean_layers=2),
        build(fusion="mean", fusion_mean_layers=3),
        build(fusion="depth-routed-softmax"),
        build(fusion_beta=0.9),
        build(fusion_layers=2),
        build(encoder_mean=(0.5, 0.5, 0.5)),
    ]
    changed = build()
    changed.fusion_module.router.weight.data[0, 0] += 1
    hashes = [tokenizer_hash(model) for model in (plain, *others, changed)]
    assert len(set(hashes)) == len(hashes)


def test_a_fusion_of_all_layers_has_the_hash_it_had_before_there_was_a_choice():
    """Latents that were cached, and runs upon them, stay those of the same tokenizer."""
    model = build()
    settings = {k: v for k, v in model.config.items() if k.startswith(("encoder", "fusion", "decoder_patch_size"))}
    assert settings.pop("fusion_layers") is None
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=list).encode())
    for part in (model.encoder, model.fusion_module):
        module_hash(part, digest)
    assert tokenizer_hash(model) == digest.hexdigest()[:16]


def unmirrored(source: TrainingPositions) -> TrainingPositions:
    """The same photos, never mirrored."""
    return TrainingPositions(source.sources, source.size, source.crop._replace(flip=False), source.seed)


def test_a_run_that_never_mirrors_keeps_one_view(tmp_path):
    model, source = build(), photos(tmp_path / "p")
    both, labels, _ = load_cache(model, source, tmp_path / "both", Accelerator())
    one, same_labels, _ = load_cache(model, unmirrored(source), tmp_path / "one", Accelerator())
    assert one.shape == (7, 1, *SHAPE)
    assert np.array_equal(one[:, 0], both[:, 0])
    assert np.array_equal(labels, same_labels)
    assert 2 * size_in_bytes(model, unmirrored(source)) == size_in_bytes(model, source) == both.nbytes


def test_other_pictures_precision_or_route_are_another_cache(tmp_path):
    model, source = build(), photos(tmp_path / "a" / "p")
    keys = {cache_key(model, source, "no", True), cache_key(model, source, "bf16", True)}
    keys |= {cache_key(model, source, "no", False)}
    keys.add(cache_key(model, photos(tmp_path / "b" / "p", seed=1), "no", True))
    keys.add(cache_key(model, unmirrored(source), "no", True))
    assert len(keys) == 5
    load_cache(model, source, tmp_path / "cache", Accelerator())
    with pytest.raises(RunError, match="latents of another tokenizer or other data"):
        load_cache(build(fusion_beta=0.9), source, tmp_path / "cache", Accelerator())


def test_views_beyond_two_are_random_crops_and_their_mirror_images(tmp_path):
    model, source = build(), photos(tmp_path / "p")
    latents, labels, _ = load_cache(model, source, tmp_path / "five", Accelerator(), batch_size=3, views=5)
    assert latents.shape == (7, 5, *SHAPE)
    two, _, _ = load_cache(model, source, tmp_path / "two", Accelerator())
    np.testing.assert_allclose(latents[:, :2], two, atol=4e-3, rtol=2e-3)
    picture = picture_of(source.row(3), "a photo")
    seen = view_images(picture, 32, 5, source.seed, 3)
    assert torch.equal(seen[3], seen[2].flip(-1))
    assert not torch.equal(seen[2], seen[0])
    assert not torch.equal(seen[4], seen[2])
    for view, image in enumerate(seen):
        expected = encode_raw(model, image[None])[0]
        torch.testing.assert_close(torch.tensor(latents[3, view]).float(), expected, atol=4e-3, rtol=2e-3)
    positions = LatentPositions(latents, labels, [], source.sources, seed=0)
    drawn = [drawn_view(5, 0, p) for p in range(700)]
    assert set(drawn) == set(range(5))
    batch = positions.collate(range(20))
    for i in range(20):
        row = positions.whole[positions.index(i)]
        assert np.array_equal(batch.latents[i], latents[row, drawn[i]])
    assert cache_key(model, source, "no", True, 5) != cache_key(model, source, "no", True)
    assert cache_key(model, source, "no", True, 2) == cache_key(model, source, "no", True)
