"""The class-conditional pipeline on a tiny real model: seeds, guidance, decoders, saving, and what it refuses."""

import itertools
import json
import math

import accelerate
import numpy as np
import pytest
import torch
from conftest import LABELS, SHAPE, build, network
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler
from test_denoiser import as_rae_saves_it
from test_rae import DIM, saved, statistics
from test_rae import build as build_rae

import drorae
from drorae import CheckpointError, DiTDH, DRoRAEClassPipeline, SamplingError
from drorae.explorer.sampling import usual_guidance
from drorae.pipelines import flow
from drorae.pipelines.base import SamplerSettings, picture_seeds
from drorae.pipelines.rae_generator import load_rae_pipeline
from drorae.pretrained.rae_denoiser import FILES


def tensors(pipeline, labels, **settings) -> torch.Tensor:
    return pipeline(labels, num_inference_steps=4, output_type="pt", **settings).images


def test_a_seed_is_one_picture_alone_and_in_a_batch(pipeline):
    batch = tensors(pipeline, [0, 1, 2, 0, 1, 2, 0, 1], seed=10)
    assert batch.shape == (8, 3, 32, 32)
    assert batch.min() >= 0
    assert batch.max() <= 1
    for i, label in ((0, 0), (4, 1), (7, 1)):
        torch.testing.assert_close(tensors(pipeline, label, seed=10 + i)[0], batch[i], atol=1e-5, rtol=0)
    listed = tensors(pipeline, [0, 1], seed=[10, 14])
    torch.testing.assert_close(listed[1], batch[4], atol=1e-5, rtol=0)
    assert not torch.allclose(batch[0], batch[3], atol=1e-2)  # same class, another seed


def test_generators_and_latents_are_the_same_noise(pipeline):
    expected = tensors(pipeline, [0, 1], seed=3)
    each = [torch.Generator().manual_seed(3), torch.Generator().manual_seed(4)]
    assert torch.equal(tensors(pipeline, [0, 1], generator=each), expected)
    noise = flow.draw_noise([torch.Generator().manual_seed(3), torch.Generator().manual_seed(4)], SHAPE, "cpu")
    assert torch.equal(tensors(pipeline, [0, 1], latents=noise), expected)
    one = torch.Generator().manual_seed(3)  # one generator gives picture after picture
    both = tensors(pipeline, [0, 0], generator=one)
    one.manual_seed(3)
    singly = torch.cat([tensors(pipeline, 0, generator=one), tensors(pipeline, 0, generator=one)])
    torch.testing.assert_close(both, singly, atol=1e-5, rtol=0)
    unseeded = tensors(pipeline, [0, 0])
    assert not torch.allclose(unseeded[0], unseeded[1], atol=1e-2)


@pytest.mark.parametrize("guidance", ["autoguidance", "cfg"])
@pytest.mark.parametrize("interval", [(0.2, 1.0), (0.0, 0.7)], ids=["not at the end", "not at the start"])
def test_the_pictures_are_the_flow_written_out(pipeline, guidance, interval):
    """Three Euler steps by hand, with guidance inside an interval."""
    noise = torch.randn(1, *SHAPE)
    shift, scale = math.sqrt(48 * 16 / 4096), 1.7
    times = [shift * t / (1 + (shift - 1) * t) for t in (1.0, 0.5005, 0.001)] + [0.0]
    x, label = noise, torch.tensor([2])
    with torch.no_grad():
        for now, then in itertools.pairwise(times):
            t, strong_net = torch.tensor([now]), pipeline.denoiser
            strong = strong_net(x, t, label).sample
            weak = pipeline.guide(x, t, label) if guidance == "autoguidance" else strong_net(x, t, torch.tensor([3]))
            v = weak.sample + scale * (strong - weak.sample) if interval[0] <= now <= interval[1] else strong
            x = x + (then - now) * v
        expected = pipeline.autoencoder.decode(x).sample.clamp(0, 1)
    settings = {"guidance": guidance, "guidance_scale": scale, "guidance_interval": interval}
    images = pipeline(2, 3, latents=noise, output_type="pt", **settings).images
    torch.testing.assert_close(images, expected, atol=1e-5, rtol=0)


def test_guidance_changes_the_picture_and_scale_one_does_not(pipeline):
    plain = tensors(pipeline, [0, 1], seed=0)
    for guidance in ("cfg", "autoguidance"):
        assert torch.equal(tensors(pipeline, [0, 1], seed=0, guidance=guidance, guidance_scale=1.0), plain)
        guided = tensors(pipeline, [0, 1], seed=0, guidance=guidance, guidance_scale=3.0)
        assert not torch.allclose(guided, plain, atol=1e-2)


def test_names_and_numbers_of_classes(pipeline):
    assert pipeline.label_numbers(["tench", "Tinca tinca", "CHURCH", 2, "1", np.int64(0)]) == [0, 0, 1, 2, 1, 0]
    assert pipeline.label_numbers("golf ball") == [2]


def test_both_decoders_and_all_output_types(pipeline):
    latent = pipeline(0, 2, seed=0, output_type="latent").images
    assert latent.shape == (1, *SHAPE)
    original, finetuned = (tensors(pipeline, 0, seed=0, decoder=name) for name in ("original", "finetuned"))
    assert not torch.allclose(original, finetuned, atol=1e-3)
    assert torch.equal(tensors(pipeline, 0, seed=0), finetuned)
    (picture,) = pipeline(0, 4, seed=0).images
    array = pipeline(0, 4, seed=0, output_type="np", return_dict=False)[0]
    assert picture.size == (32, 32)
    assert array.shape == (1, 32, 32, 3)
    assert np.array_equal(np.asarray(picture), (array[0] * 255).round())


def test_another_scheduler(pipeline):
    heun = DRoRAEClassPipeline(
        pipeline.autoencoder, pipeline.denoiser, FlowMatchHeunDiscreteScheduler(shift=0.5), None, LABELS
    )
    heun.set_progress_bar_config(disable=True)
    assert tensors(heun, 0, seed=0).isfinite().all()


def test_steps_can_be_looked_at_and_left(pipeline):
    seen = list(pipeline.steps([0, 1], SamplerSettings(5), seed=1))
    assert [step.index for step in seen] == [0, 1, 2, 3, 4]
    assert torch.equal(seen[-1].latents, pipeline([0, 1], 5, seed=1, output_type="latent").images)
    calls, original = [], pipeline.denoiser.forward
    pipeline.denoiser.forward = lambda *a, **k: calls.append(1) or original(*a, **k)
    try:
        loop = pipeline.steps(0, seed=1)
        next(loop)
        loop.close()
    finally:
        pipeline.denoiser.forward = original
    assert len(calls) == 1


def test_callback_sees_every_step_and_may_change_it_or_stop(pipeline):
    seen = []

    def watch(pipe, index, timestep, values):
        seen.append((index, float(timestep)))
        return {"latents": torch.zeros_like(values["latents"])} if index == 3 else None

    latents = pipeline(0, 4, seed=0, output_type="latent", callback_on_step_end=watch).images
    assert [index for index, _ in seen] == [0, 1, 2, 3]
    assert seen[0][1] == pytest.approx(1000)
    assert not latents.any()

    def stop(pipe, index, timestep, values):
        seen.append(index)
        pipe._interrupt = index == 1

    seen.clear()
    stopped = pipeline(0, 4, seed=0, output_type="latent", callback_on_step_end=stop).images
    assert seen == [0, 1]
    assert torch.equal(stopped, list(pipeline.steps(0, SamplerSettings(4), seed=0))[1].clean)
    tensors(pipeline, 0, seed=0, callback_on_step_end=lambda *a: seen.append("again"))
    assert seen.count("again") == 4  # the next call runs to its end


def test_saves_a_folder_that_loads_again(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path / "whole")
    again = DRoRAEClassPipeline.from_pretrained(tmp_path / "whole")
    again.set_progress_bar_config(disable=True)
    settings = {"seed": 4, "guidance": "autoguidance", "guidance_scale": 2.0}
    assert torch.equal(tensors(again, ["church", 2], **settings), tensors(pipeline, [1, 2], **settings))
    assert again.config.labels == LABELS
    index = json.loads((tmp_path / "whole" / "model_index.json").read_text(encoding="utf-8"))
    own = {"autoencoder": "AutoencoderDRoRAE", "denoiser": "DiTDH", "guide": "DiTDH"}
    assert {name: index[name] for name in own} == {name: ["drorae", kind] for name, kind in own.items()}
    assert all(hasattr(drorae, kind) for kind in own.values())


def test_its_own_guidance_is_saved_and_is_what_a_call_takes(pipeline, tmp_path):
    parts = (pipeline.autoencoder, pipeline.denoiser, pipeline.scheduler, pipeline.guide, LABELS)
    own = DRoRAEClassPipeline(*parts, guidance="autoguidance", guidance_scale=2.5)
    own.save_pretrained(tmp_path)
    again = DRoRAEClassPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)

    def same(ours: torch.Tensor, **settings) -> bool:
        return torch.allclose(ours, tensors(pipeline, 1, seed=4, **settings), atol=1e-5)

    assert same(tensors(again, 1, seed=4), guidance="autoguidance", guidance_scale=2.5)
    assert not same(tensors(again, 1, seed=4), guidance="autoguidance", guidance_scale=1.5)
    assert same(tensors(again, 1, seed=4, guidance_scale=4.0), guidance="autoguidance", guidance_scale=4.0)
    assert same(tensors(again, 1, seed=4, guidance="cfg"), guidance="cfg", guidance_scale=2.5)
    assert same(tensors(again, 1, seed=4, guidance="none"))  # what a call takes where nothing is saved
    *_, last = again.steps(1, seed=4)
    *_, step = pipeline.steps(1, SamplerSettings(50, "autoguidance", 2.5), seed=4)
    torch.testing.assert_close(last.latents, step.latents, atol=1e-4, rtol=0)
    assert usual_guidance(again) == ("autoguidance", 2.5)
    assert usual_guidance(pipeline) == ("autoguidance", 1.5)  # where nothing is saved


@pytest.mark.parametrize(
    ("own", "message"),
    [({"guidance": "strong"}, "guidance is one of none, cfg"), ({"guidance_scale": "2"}, "scale is from 0 to 100")],
)
def test_a_guidance_that_there_is_not_is_not_saved(pipeline, own, message):
    with pytest.raises(CheckpointError, match=message):
        DRoRAEClassPipeline(pipeline.autoencoder, pipeline.denoiser, pipeline.scheduler, pipeline.guide, LABELS, **own)


@pytest.mark.parametrize("saving", [{"max_shard_size": "100kB"}, {"variant": "fp16"}])
def test_shards_and_variants_give_the_same_pictures(pipeline, tmp_path, saving):
    pipeline.save_pretrained(tmp_path, **saving)
    assert not list(tmp_path.rglob("diffusion_pytorch_model.safetensors"))
    expected = tensors(pipeline, 1, seed=4)
    for variant in {None, saving.get("variant")}:
        again = DRoRAEClassPipeline.from_pretrained(tmp_path, variant=variant)
        again.set_progress_bar_config(disable=True)
        for name in ("autoencoder", "denoiser", "guide"):
            state = getattr(again, name).state_dict()
            assert all(torch.equal(value, state[key]) for key, value in getattr(pipeline, name).state_dict().items())
        torch.testing.assert_close(tensors(again, 1, seed=4), expected, atol=1e-5, rtol=0)


def test_a_folder_may_name_its_tokenizer(pipeline, tmp_path):
    pipeline.autoencoder.save_pretrained(tmp_path / "tokenizer")
    name = str(tmp_path / "tokenizer")
    parts = DRoRAEClassPipeline(None, pipeline.denoiser, pipeline.scheduler, None, LABELS, name)
    parts.save_pretrained(tmp_path / "parts")
    assert not (tmp_path / "parts" / "autoencoder").exists()
    assert not (tmp_path / "parts" / "guide").exists()
    again = DRoRAEClassPipeline.from_pretrained(tmp_path / "parts")
    again.set_progress_bar_config(disable=True)
    torch.testing.assert_close(tensors(again, 0, seed=0), tensors(pipeline, 0, seed=0), atol=1e-5, rtol=0)
    shared = DRoRAEClassPipeline.from_pretrained(tmp_path / "parts", autoencoder=pipeline.autoencoder)
    assert shared.autoencoder is pipeline.autoencoder
    index = tmp_path / "parts" / "model_index.json"
    index.write_text(json.dumps({k: v for k, v in json.loads(index.read_text()).items() if k != "autoencoder_name"}))
    with pytest.raises(CheckpointError, match="has no autoencoder and names none"):
        DRoRAEClassPipeline.from_pretrained(tmp_path / "parts")


def test_pushes_to_the_hub_what_it_saves(pipeline, tmp_path, monkeypatch):
    """Only the two calls that leave this machine are replaced."""
    sent = {}
    monkeypatch.setattr(
        "diffusers.pipelines.pipeline_utils.create_repo", lambda name, **_: type("R", (), {"repo_id": name})
    )
    monkeypatch.setattr("diffusers.utils.hub_utils.create_repo", lambda name, **_: type("R", (), {"repo_id": name}))

    def upload(self, folder, repo_id, **_):
        sent[repo_id] = sorted(str(p.relative_to(folder)) for p in __import__("pathlib").Path(folder).rglob("*.*"))

    monkeypatch.setattr(DRoRAEClassPipeline, "_upload_folder", upload)
    pipeline.push_to_hub("someone/generator")
    (files,) = sent.values()
    for part in ("autoencoder", "denoiser", "guide"):
        assert f"{part}/diffusion_pytorch_model.safetensors" in files
    assert "model_index.json" in files
    assert "scheduler/scheduler_config.json" in files


def test_bfloat16(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    half = DRoRAEClassPipeline.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    half.set_progress_bar_config(disable=True)
    assert half.denoiser.dtype == half.autoencoder.dtype == torch.bfloat16
    assert half.autoencoder.statistics.std.dtype == torch.float32
    difference = tensors(half, [0, 1], seed=0) - tensors(pipeline, [0, 1], seed=0)
    assert difference.abs().mean() < 0.05


@pytest.mark.parametrize(
    ("labels", "settings", "message"),
    [
        (3, {}, "There is no class 3; classes are numbered 0 to 2"),
        (-1, {}, "There is no class -1"),
        ("chirch", {}, "There is no class 'chirch'; use for example 'church'"),
        (True, {}, "There is no class 'True'"),
        ([], {}, "0 pictures at once; ask for 1 to 256"),
        ([0] * 10_000, {}, "10000 pictures at once"),
        (0, {"num_inference_steps": 0}, "from 1 to 1000, not 0"),
        (0, {"num_inference_steps": 2.5}, "whole number from 1 to 1000, not 2.5"),
        (0, {"guidance": "strong"}, "guidance is one of 'none', 'cfg', 'autoguidance', not 'strong'"),
        (0, {"guidance_scale": -1}, "from 0 to 100, not -1"),
        (0, {"guidance_scale": 1e9}, "from 0 to 100, not 1000000000.0"),
        (0, {"guidance_scale": math.nan}, "from 0 to 100, not nan"),
        ("1" * 5000, {}, "There is no class '1111"),
        (10**400, {}, "There is no class 1000"),
        (None, {}, "There is no class 'None'"),
        (0, {"guidance_scale": 10**400}, "from 0 to 100, not 1000"),
        (0, {"guidance_interval": 0.5}, "two times"),
        ([0, 1], {"seed": 2**32 - 1}, "2 seeds from 4294967295 on go beyond"),
        (0, {"seed": 2**32}, "A seed is a whole number from 0 to 4294967295"),
        (0, {"guidance_interval": (0.7, 0.3)}, "two times .from, to. in .0, 1., not .0.7, 0.3"),
        (0, {"decoder": "best"}, "decoder is 'original' or 'finetuned', not 'best'"),
        (0, {"seed": -1}, "A seed is a whole number from 0"),
        (0, {"seed": 1.5}, "A seed is a whole number from 0 to .*, not 1.5"),
        ([0, 1], {"seed": [1]}, "1 seed for 2 pictures"),
        ([0, 1], {"generator": [torch.Generator()]}, "1 generator for 2 pictures"),
        (0, {"seed": 1, "latents": torch.zeros(1, *SHAPE)}, "one of seed, generator and latents"),
        (0, {"latents": torch.zeros(1, 3, 4, 4)}, "latents must be finite numbers of shape"),
        (0, {"latents": torch.full((1, *SHAPE), math.nan)}, "latents must be finite numbers"),
        (0, {"output_type": "jpeg"}, "output_type 'jpeg' is not one of"),
        (0, {"callback_on_step_end_tensor_inputs": ["noise"]}, "there is only 'latents'"),
    ],
)
def test_bad_requests_are_refused_before_any_computing(pipeline, labels, settings, message, monkeypatch):
    monkeypatch.setattr(DiTDH, "forward", lambda *_, **__: pytest.fail("the denoiser was called"))
    with pytest.raises(SamplingError, match=message):
        pipeline(labels, **settings)


def test_autoguidance_needs_a_guide(pipeline):
    alone = DRoRAEClassPipeline(pipeline.autoencoder, pipeline.denoiser, pipeline.scheduler)
    with pytest.raises(SamplingError, match="has no guide"):
        alone(0, guidance="autoguidance")
    with pytest.raises(SamplingError, match="There is no class 'church'; use a number from 0 to 2"):
        alone("church")


def test_parts_that_do_not_belong_together(pipeline):
    other = build()
    other.set_statistics(torch.full(SHAPE, 0.7))
    with pytest.raises(CheckpointError, match="The denoiser was trained with latent statistics"):
        DRoRAEClassPipeline(other, pipeline.denoiser, pipeline.scheduler)
    other.statistics = None
    with pytest.raises(CheckpointError, match="and the tokenizer has none"):
        DRoRAEClassPipeline(other, pipeline.denoiser, pipeline.scheduler)
    small = network(0, hidden_size=(24, 24), in_channels=12)
    with pytest.raises(CheckpointError, match="The guide makes latents of shape"):
        DRoRAEClassPipeline(pipeline.autoencoder, pipeline.denoiser, pipeline.scheduler, small)
    with pytest.raises(CheckpointError, match="2 class names for a denoiser of 3 classes"):
        DRoRAEClassPipeline(pipeline.autoencoder, pipeline.denoiser, pipeline.scheduler, labels=LABELS[:2])


def test_whole_names_come_before_synonyms(pipeline):
    """ImageNet's corgi is called "Cardigan" before the cardigan is, and two classes are cranes."""
    names = ["Cardigan, Cardigan Welsh corgi", "crane", "cardigan"]
    made = DRoRAEClassPipeline(pipeline.autoencoder, pipeline.denoiser, pipeline.scheduler, None, names)
    assert made.label_numbers(["cardigan", "Cardigan, Cardigan Welsh corgi", "cardigan welsh corgi"]) == [2, 0, 0]


def test_more_classes_than_pictures_at_once(pipeline):
    many = network(0, num_classes=300)
    made = DRoRAEClassPipeline(pipeline.autoencoder, many, pipeline.scheduler)
    assert made.label_numbers(range(300)) == list(range(300))


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (DDIMScheduler(), "DDIMScheduler is not a flow-matching scheduler"),
        (FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), "shifts its times dynamically"),
    ],
)
def test_other_schedulers_are_refused(pipeline, scheduler, message):
    with pytest.raises(CheckpointError, match=message):
        DRoRAEClassPipeline(pipeline.autoencoder, pipeline.denoiser, scheduler)


def test_statistics_stay_exact_whatever_the_precision(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path / "whole")
    autoencoder = DRoRAEClassPipeline.from_pretrained(tmp_path / "whole").autoencoder
    std = autoencoder.statistics.std.clone()
    autoencoder.to(torch.bfloat16)
    assert autoencoder.dtype == torch.bfloat16
    assert torch.equal(autoencoder.statistics.std, std)
    DRoRAEClassPipeline(autoencoder, pipeline.denoiser, pipeline.scheduler)  # the statistics are still those
    latent = torch.randn(1, *SHAPE, dtype=torch.bfloat16)
    exact = autoencoder.statistics.denormalize(latent.float()).bfloat16()
    assert torch.equal(autoencoder.statistics.denormalize(latent), exact)


def test_a_named_tokenizer_comes_in_the_asked_precision(pipeline, tmp_path):
    pipeline.autoencoder.save_pretrained(tmp_path / "tokenizer")
    parts = (None, pipeline.denoiser, pipeline.scheduler, None, LABELS, str(tmp_path / "tokenizer"))
    DRoRAEClassPipeline(*parts).save_pretrained(tmp_path / "parts")
    half = DRoRAEClassPipeline.from_pretrained(tmp_path / "parts", torch_dtype=torch.bfloat16)
    assert half.autoencoder.dtype == torch.bfloat16
    assert half.autoencoder.statistics.std.dtype == torch.float32


def test_offloading_moves_the_autoencoder_where_it_computes(pipeline, tmp_path):
    """diffusers' model offloading waits for a call of ``encode`` or ``decode``; "meta" stands for the GPU."""
    pipeline.save_pretrained(tmp_path)
    autoencoder = DRoRAEClassPipeline.from_pretrained(tmp_path).autoencoder
    accelerate.cpu_offload_with_hook(autoencoder, torch.device("meta"))
    autoencoder.decode(torch.zeros(1, *SHAPE, device="meta"))
    assert autoencoder.device.type == "meta"


def test_damaged_folders(pipeline, tmp_path):
    with pytest.raises(CheckpointError, match="holds no readable pipeline"):
        DRoRAEClassPipeline.from_pretrained(tmp_path)
    pipeline.save_pretrained(tmp_path)
    weights = tmp_path / "guide" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"guide.*is damaged or incomplete"):
        DRoRAEClassPipeline.from_pretrained(tmp_path)


def test_drawn_seeds_differ():
    assert len(set(picture_seeds(None, 8))) == 8


def test_raes_generator_from_its_own_files(tmp_path):
    """RAE, DiT^DH-XL and its guide, all tiny, saved in the published layouts."""
    rae = saved(build_rae("dinov2", **statistics(mean=False)), tmp_path / "rae", "dinov2", old=True)
    for file, seed in zip(FILES.values(), (1, 2), strict=True):
        (tmp_path / file).parent.mkdir(parents=True)
        torch.save(as_rae_saves_it(network(seed, in_channels=DIM, hidden_size=(24, 64))), tmp_path / file)
    made = load_rae_pipeline(tokenizer=str(rae), repository=str(tmp_path))
    made.set_progress_bar_config(disable=True)
    assert torch.equal(made.guide.final.bias, network(2, in_channels=DIM, hidden_size=(24, 64)).final.bias)
    assert made.scheduler.config.shift == pytest.approx(math.sqrt(DIM * 16 / 4096))
    assert tensors(made, "great white shark", seed=0, guidance="autoguidance").isfinite().all()
