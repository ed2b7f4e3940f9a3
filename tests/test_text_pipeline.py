"""Text to image on a tiny real model: prompts, negatives, features, cutting, saving, and what is refused."""

import itertools
import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel, T5Model

from drorae import CheckpointError, DiTDH, DRoRAEClassPipeline, DRoRAETextPipeline, SamplingError
from drorae.pipelines.text_encoding import ATTENTION, encode, load_text_encoder, token_width, without_attention
from train.errors import DataError
from train.tasks.text_encoder import END, build_encoder, train_tokenizer
from train.text_evidence import derangement, evidence, loss_difference, table

PROMPTS = ["a red ball", "two dogs run on the grass"]


def tensors(pipeline, prompt, **settings) -> torch.Tensor:
    defaults = {"num_inference_steps": 4, "output_type": "pt", "guidance_scale": 3.0}
    return pipeline(prompt, **{**defaults, **settings}).images


def test_prompts_make_different_pictures_and_seeds_hold(text_pipeline):
    batch = tensors(text_pipeline, PROMPTS, seed=4)
    assert batch.shape == (2, 3, 32, 32)
    torch.testing.assert_close(tensors(text_pipeline, PROMPTS[1], seed=5)[0], batch[1], atol=1e-5, rtol=0)
    same_seed = tensors(text_pipeline, PROMPTS, seed=[4, 4])
    assert not torch.allclose(same_seed[0], same_seed[1], atol=1e-2)
    each = tensors(text_pipeline, PROMPTS, seed=4, num_images_per_prompt=2)
    torch.testing.assert_close(each[1], tensors(text_pipeline, PROMPTS[0], seed=5)[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(each[2], tensors(text_pipeline, PROMPTS[1], seed=6)[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.0, 0.5), (0.5, 1.0)])
def test_classifier_free_guidance_written_out(text_pipeline, interval):
    """Two Euler steps by hand, away from a negative prompt inside an interval."""
    pipe, scale = text_pipeline, 2.5
    noise = torch.randn(1, 48, 4, 4)
    shift = math.sqrt(48 * 16 / 4096)
    times = [shift * t / (1 + (shift - 1) * t) for t in (1.0, 0.001)] + [0.0]
    with torch.no_grad():
        features = [encode(pipe.tokenizer, pipe.text_encoder, [text], 8) for text in ("a red ball", "grass")]
        x = noise
        for now, then in itertools.pairwise(times):
            t = torch.tensor([now])
            strong, weak = (pipe.denoiser(x, t, None, each.tokens, each.mask).sample for each in features)
            x = x + (then - now) * (weak + scale * (strong - weak) if interval[0] <= now <= interval[1] else strong)
    settings = {"negative_prompt": "grass", "guidance_interval": interval, "output_type": "latent"}
    got = pipe("a red ball", 2, "cfg", scale, latents=noise, **settings).images
    torch.testing.assert_close(got, x, atol=1e-4, rtol=1e-3)


def test_the_empty_prompt_is_no_text(text_pipeline):
    plain = tensors(text_pipeline, "", seed=0, guidance="none")
    torch.testing.assert_close(tensors(text_pipeline, "   ", seed=0, guidance="none"), plain, atol=1e-4, rtol=0)
    torch.testing.assert_close(tensors(text_pipeline, "", seed=0, guidance_scale=9.0), plain, atol=1e-4, rtol=0)
    unguided = tensors(text_pipeline, "a red ball", seed=0, guidance="none")
    assert torch.equal(tensors(text_pipeline, "a red ball", seed=0, guidance_scale=1.0), unguided)


def test_features_can_be_given(text_pipeline):
    features = encode(text_pipeline.tokenizer, text_pipeline.text_encoder, PROMPTS, 8)
    given = tensors(text_pipeline, None, prompt_embeds=features.tokens, prompt_attention_mask=features.mask, seed=1)
    assert torch.equal(given, tensors(text_pipeline, PROMPTS, seed=1))


def test_long_prompts_are_cut_and_the_loss_is_said_but_not_what_it_was(text_pipeline, caplog):
    long = "two dogs run on the grass and a church at night"
    with caplog.at_level("WARNING"):
        tensors(text_pipeline, long, seed=0)
    (message,) = [r.message for r in caplog.records if "is cut after 8 tokens" in r.message]
    tokenizer = text_pipeline.tokenizer
    (lost,) = encode(tokenizer, text_pipeline.text_encoder, [long], 8).lost
    assert message.endswith(f"its last {len(lost)} characters are lost.")
    assert not any(word in message for word in lost.split() if len(word) > 3)
    kept = tokenizer(long, truncation=True, max_length=8)["input_ids"]
    assert tokenizer.decode(kept, skip_special_tokens=True) + lost == long  # nothing is missing, nothing told twice
    features = encode(tokenizer, text_pipeline.text_encoder, [long, "a red ball"], 8)
    assert features.tokens.shape[1] == 8
    assert features.lost == [lost, ""]


def test_padding_does_not_change_a_prompts_tokens(text_pipeline):
    pair = encode(text_pipeline.tokenizer, text_pipeline.text_encoder, PROMPTS, 8)
    alone = encode(text_pipeline.tokenizer, text_pipeline.text_encoder, PROMPTS[:1], 8)
    count = alone.tokens.shape[1]
    torch.testing.assert_close(pair.tokens[0, :count], alone.tokens[0], atol=1e-5, rtol=1e-4)
    assert pair.mask[0].tolist() == [True] * count + [False] * (pair.tokens.shape[1] - count)


def test_saves_a_folder_that_loads_again(text_pipeline, tmp_path):
    text_pipeline.save_pretrained(tmp_path)
    assert not list(tmp_path.rglob("*.bin"))
    again = DRoRAETextPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert again.config.max_tokens == 8
    assert torch.equal(tensors(again, PROMPTS, seed=2), tensors(text_pipeline, PROMPTS, seed=2))
    with pytest.raises(CheckpointError, match="holds the class DRoRAETextPipeline, not DRoRAEClassPipeline"):
        DRoRAEClassPipeline.from_pretrained(tmp_path)


@pytest.mark.parametrize("saving", [{"max_shard_size": "20kB"}, {"variant": "fp16"}])
def test_shards_and_variants_give_the_same_pictures(text_pipeline, tmp_path, saving):
    text_pipeline.save_pretrained(tmp_path, **saving)
    assert not list(tmp_path.rglob("model.safetensors"))
    again = DRoRAETextPipeline.from_pretrained(tmp_path, variant=saving.get("variant"))
    again.set_progress_bar_config(disable=True)
    assert torch.equal(tensors(again, PROMPTS, seed=2), tensors(text_pipeline, PROMPTS, seed=2))


def test_a_folder_may_name_its_text_encoder(text_pipeline, tmp_path):
    text_pipeline.text_encoder.save_pretrained(tmp_path / "encoder")
    text_pipeline.tokenizer.save_pretrained(tmp_path / "encoder")
    parts = (text_pipeline.autoencoder, text_pipeline.denoiser, text_pipeline.scheduler, None, None)
    named = DRoRAETextPipeline(*parts, max_tokens=8, text_encoder_name=str(tmp_path / "encoder"))
    named.save_pretrained(tmp_path / "pipeline")
    again = DRoRAETextPipeline.from_pretrained(tmp_path / "pipeline")
    again.set_progress_bar_config(disable=True)
    torch.testing.assert_close(
        tensors(again, PROMPTS, seed=2), tensors(text_pipeline, PROMPTS, seed=2), atol=1e-5, rtol=0
    )
    index = tmp_path / "pipeline" / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "text_encoder_name": None}))
    with pytest.raises(CheckpointError, match="has no text encoder and names none"):
        DRoRAETextPipeline.from_pretrained(tmp_path / "pipeline")


@pytest.mark.parametrize(
    ("prompt", "settings", "message"),
    [
        (None, {}, "Give a prompt or prompt_embeds"),
        ("x", {"prompt_embeds": torch.zeros(1, 2, 32)}, "Give a prompt or prompt_embeds"),
        ([], {}, "prompt is a text or a list of texts"),
        (["x", 3], {}, "prompt is a text or a list of texts"),
        ("x" * 10_001, {}, "A prompt of 10001 characters is too long"),
        ("a \ud83d dog", {}, r"^Character 3 of the prompt is half a character \(U\+D83D\); type it again\.$"),
        (["x", "\udc80"], {}, r"Character 1 of the prompt is half a character \(U\+DC80\)"),
        ("x", {"negative_prompt": "y\udfff"}, r"Character 2 of the negative_prompt is half a character"),
        ("x", {"negative_prompt": "y", "guidance": "none"}, "A negative prompt needs guidance 'cfg'"),
        ("x", {"negative_prompt": ["y", "z"]}, "2 negative prompts for 1 prompt"),
        ("x", {"num_images_per_prompt": 0}, "num_images_per_prompt is a whole number from 1, not 0"),
        ("x", {"num_images_per_prompt": 1000}, "1000 pictures at once; ask for 1 to 256"),
        (None, {"prompt_embeds": torch.zeros(1, 2, 31)}, r"must have the shape \(B, T, 32\), not \(1, 2, 31\)"),
        (
            None,
            {"prompt_embeds": torch.zeros(1, 2, 32), "prompt_attention_mask": torch.ones(1, 3)},
            r"prompt_attention_mask must have the shape \(1, 2\)",
        ),
        ("x", {"guidance_scale": math.nan}, "not nan"),
        ("x", {"guidance": "autoguidance"}, "has no guide"),
        ("x", {"seed": [1, 2]}, "2 seeds for 1 picture"),
    ],
)
def test_bad_requests_are_refused_before_any_computing(text_pipeline, prompt, settings, message, monkeypatch):
    monkeypatch.setattr(DiTDH, "forward", lambda *_, **__: pytest.fail("the denoiser was called"))
    with pytest.raises(SamplingError, match=message):
        text_pipeline(prompt, **settings)


def test_parts_that_do_not_belong_together(text_pipeline):
    parts = (text_pipeline.autoencoder, text_pipeline.denoiser, text_pipeline.scheduler, text_pipeline.tokenizer)
    with pytest.raises(CheckpointError, match="reads text tokens of 32 channels and the text encoder gives 64"):
        DRoRAETextPipeline(*parts, build_encoder(300, 64, 1, 8, seed=0))


# ---- text encoders --------------------------------------------------------------------------------------------------


def test_every_text_can_be_written_with_the_tokenizer():
    tokenizer = train_tokenizer(["a red ball", "a blue ball"], 300)
    for text in ("a red ball", "Ein grüner Ball!", "🙂 <b>no markup</b>"):
        ids = tokenizer(text)["input_ids"]
        assert ids[-1] == tokenizer.eos_token_id == tokenizer.pad_token_id == tokenizer.convert_tokens_to_ids(END)
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert len(tokenizer("a red ball")["input_ids"]) <= 4


@pytest.mark.parametrize("kind", ["clip", "t5", "t5-encoder"])
def test_the_part_that_reads_text_is_taken(kind, tmp_path):
    tokenizer = train_tokenizer(["a red ball"], 300)
    torch.manual_seed(0)
    if kind == "clip":
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
        model = CLIPTextModel(CLIPTextConfig(vocab_size=300, max_position_embeddings=16, **sizes))
    else:
        sizes = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2}
        config = T5Config(vocab_size=300, decoder_start_token_id=0, **sizes)
        model = (T5Model if kind == "t5" else T5EncoderModel)(config)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = load_text_encoder(tmp_path)
    assert token_width(loaded[1]) == 32
    features = encode(*loaded, ["a red ball", ""], 6)
    assert features.tokens.shape == (2, features.mask.shape[1], 32)
    assert features.mask[0].any()
    assert not features.mask[1].any()


def test_attention_is_ours_whatever_a_folder_asks_for(text_pipeline, tmp_path):
    """It is left out of what the configuration says, and named where the encoder is built."""
    text_pipeline.text_encoder.save_pretrained(tmp_path)
    text_pipeline.tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    chosen = {"_attn_implementation": "sdpa", "attn_implementation": "kernels/planted"}
    (tmp_path / "config.json").write_text(json.dumps(config | chosen), encoding="utf-8")
    assert without_attention({"heads": 2, **chosen, "inner": {"heads": 3, **chosen}}) == {
        "heads": 2,
        "inner": {"heads": 3},
    }
    assert load_text_encoder(tmp_path)[1].config._attn_implementation == ATTENTION == "eager"


def test_a_text_encoder_that_lacks_weights(text_pipeline, tmp_path):
    text_pipeline.text_encoder.save_pretrained(tmp_path)
    text_pipeline.tokenizer.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["layers.0.mlp.up_proj.weight"]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks 1 weight \(first: layers\.0\.mlp\.up_proj\.weight\)"):
        load_text_encoder(tmp_path)


def test_a_text_encoder_that_is_not_there():
    with pytest.raises(CheckpointError, match="The text encoder 'nowhere/at-all' could not be loaded"):
        load_text_encoder("nowhere/at-all")


# ---- evidence -------------------------------------------------------------------------------------------------------


def test_paired_differences_against_their_formula():
    right = torch.tensor([1.0, 2.0, 3.0, 4.0])
    wrong = right + torch.tensor([0.1, 0.3, 0.2, 0.2])
    numbers = loss_difference(right, wrong)
    assert numbers["difference"] == pytest.approx(0.2)
    assert numbers["standard_error"] == pytest.approx((0.02 / 3) ** 0.5 / 2)
    assert numbers["ratio"] == pytest.approx(0.2 / numbers["standard_error"])


@pytest.mark.parametrize("count", [2, 3, 10, 101])
def test_no_caption_stays_with_its_photo(count):
    order = derangement(count, 0)
    assert sorted(order.tolist()) == list(range(count))
    assert not (order == torch.arange(count)).any()


def test_evidence_compares_the_same_photos_times_and_noise(text_pipeline, monkeypatch):
    seen = {}
    original = DiTDH.forward

    def forward(self, x, t, **told):
        seen.setdefault((float(t[0]), told["encoder_attention_mask"].any().item()), []).append(x.clone())
        return original(self, x, t, **told)

    monkeypatch.setattr(DiTDH, "forward", forward)
    report = evidence(text_pipeline, ["generated"], 8)
    assert report["command"].endswith(" --data generated --limit 8")
    assert [round(row["t"], 3) for row in report["times"]] == sorted(round(row["t"], 3) for row in report["times"])
    for row in report["times"]:
        ((right, wrong), (none,)) = (seen[t, told] for (t, told) in seen if abs(t - row["t"]) < 1e-6)
        assert torch.equal(right, wrong)
        assert torch.equal(right, none)
        assert row["shuffled"]["standard_error"] > 0
    mean = sum(row["loss"] for row in report["times"]) / 5
    assert report["all"]["loss"] == pytest.approx(mean, rel=1e-5)
    assert "| all |" in table(report)


def test_every_source_is_shuffled_by_itself(text_pipeline, monkeypatch):
    asked = []
    encode = DRoRAETextPipeline.encode_prompts
    monkeypatch.setattr(DRoRAETextPipeline, "encode_prompts", lambda self, p: asked.append(p) or encode(self, p))
    report = evidence(text_pipeline, ["generated", "generated"], 5)
    assert report["data"].startswith("held-out pictures (5 of generated, 5 of generated)")
    right, wrong, none = asked[:3]
    assert right[:5] == right[5:]
    assert sorted(wrong[:5]) == sorted(right[:5])
    assert sorted(wrong[5:]) == sorted(right[5:])
    assert none == [""] * 10
    once = evidence(text_pipeline, ["generated"], 5)
    assert report["all"]["shuffled"]["difference"] != once["all"]["shuffled"]["difference"]  # noise goes on counting


def test_a_source_of_two_pictures_is_too_few(text_pipeline):
    with pytest.raises(DataError, match="--data generated: too few pictures to compare captions, 2; use more"):
        evidence(text_pipeline, ["generated", "generated"], 2)
