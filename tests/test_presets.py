"""Preset rows: the paper's numbers, and what a dry run says about them."""

import dataclasses
import re

import pytest
import torch
from conftest import ROOT
from torch.utils.flop_counter import FlopCounterMode

from drorae import AutoencoderDRoRAE, DiTDH
from drorae.building import UnfilledMeta
from drorae.study.published import WIDTHS
from train import stage1, stage2
from train.engine.dry_run import build_on_meta, describe, step_cost
from train.errors import RunError
from train.paper_presets import DINOV2_B
from train.presets import PRESETS


def test_the_paper_is_in_the_rows():
    """Table 5 and appendix A; RAE's recipe where the paper is silent."""
    steps = {"decoder": 100 * 5004, "fusion": 100 * 5004, "finetune": 20 * 5004}
    for phase, row in DINOV2_B.stage1.items():
        schedule = row.schedule
        assert (schedule.steps, schedule.batch_size) == (steps[phase], 256)
        optimiser = (schedule.optimizer, schedule.lr, schedule.betas, schedule.weight_decay)
        assert optimiser == ("adamw", 1e-4, (0.5, 0.9), 0.05)
        assert (row.l1_weight, row.perceptual.network, row.perceptual.weight) == (1.0, "lpips", 1.0)
        adversary = (row.adversary.backbone, row.adversary.weight, row.adversary.lr)
        assert adversary == ("vit_small_patch8_224.dino", 0.75, 1e-4)
        assert row.noise_tau == 0.8
        assert row.router_smoothness == row.router_dropout == 0
        assert row.measured == "not yet trained"
    starts = {phase: row.adversary.generator_start for phase, row in DINOV2_B.stage1.items()}
    assert starts == {"decoder": 30_000, "fusion": 10_000, "finetune": 0}
    assert DINOV2_B.stage1["finetune"].adversary.continues == "dinov2-b/fusion"  # nobody learns from fresh heads
    leads = {p: row.adversary.generator_start - row.adversary.discriminator_start for p, row in DINOV2_B.stage1.items()}
    assert leads == {"decoder": 10_000, "fusion": 10_000, "finetune": 0}


def parameters(h: int) -> int:
    with UnfilledMeta(), torch.device("meta"):
        model = AutoencoderDRoRAE(**{**PRESETS[f"dinov2-b-{h}"].model, "decoder_num_layers": 1})
    return sum(p.numel() for p in model.fusion_module.parameters())


def test_the_scaling_rows_have_the_sizes_of_table_8():
    table = {128: 2.5, 256: 4.8, 512: 9.6, 1024: 19.0, 2048: 37.8, 3072: 56.7, 4096: 75.6, 6144: 113.3}
    assert {row.setting: row.parameters for row in WIDTHS} == table
    for h, millions in table.items():
        # appendix C: L (C h + h + h C + C) + C L^2 + L; our hidden norm adds 2 h per layer
        count = parameters(h)
        assert count == 12 * (2 * 768 * h + h + 768) + 768 * 144 + 12 + 12 * 2 * h
        assert count / 1e6 == pytest.approx(millions, rel=0.01, abs=0.1)


def test_every_run_starts_from_a_run_that_a_preset_makes():
    made = {f"{name}/encoder" for name, preset in PRESETS.items() if preset.encoder}
    made |= {f"{name}/{phase}" for name, preset in PRESETS.items() for phase in preset.stage1}
    for preset in PRESETS.values():
        for row in preset.stage1.values():
            needed = [row.starts_from, row.adversary and row.adversary.continues]
            assert all(name in made for name in needed if name not in (None, "encoder"))


@pytest.mark.parametrize("phase", ["decoder", "fusion", "finetune"])
def test_a_dry_run_lists_the_parts_of_its_phase(phase):
    """On small networks without adversary, whose steps are counted in no time."""
    row = dataclasses.replace(PRESETS["smoke"].stage1[phase], adversary=None)
    text = describe("smoke", PRESETS["smoke"], row, gpus=1)
    parts = re.findall(r"^(\w[\w ]*?) +([\d.]+)M parameters$", text, re.M)
    expected = {"decoder": set(), "fusion": {"fusion"}, "finetune": {"fusion", "finetuned decoder"}}
    assert {name for name, _ in parts} == {"encoder", "decoder"} | expected[phase]
    model = AutoencoderDRoRAE(**PRESETS["smoke"].model)
    sizes = {"encoder": model.encoder, "fusion": model.fusion_module, "decoder": model.decoder}
    sizes["finetuned decoder"] = model.decoder
    assert re.search(r"GiB per GPU with \d+ pictures on 1 GPU: ", text)
    for name, millions in parts:
        assert float(millions) == round(sum(p.numel() for p in sizes[name].parameters()) / 1e6, 2)


# The slow ones build the same networks in another order of training: 'finetune' runs each of them.
@pytest.mark.parametrize(
    ("phase", "gigaflops"),
    [
        pytest.param("decoder", 1335, marks=pytest.mark.slow),
        pytest.param("fusion", 1225, marks=pytest.mark.slow),
        ("finetune", 1364),
    ],
)
def test_a_dry_run_prints_sizes_steps_and_cost_and_does_nothing(capsys, tmp_path, phase, gigaflops):
    """The compute is that of a whole step, with latent noise, perceptual distance and adversary; the discriminator's
    step runs nothing frozen again."""
    stage1.main(["--preset", "dinov2-b", "--phase", phase, "--dry-run", "--out", str(tmp_path)])
    text = capsys.readouterr().out
    assert "415.06M parameters" in text  # RAE's ViT-XL decoder
    assert ("56.85M parameters" in text) == (phase != "decoder")  # phase 1 has no fusion
    assert f"{DINOV2_B.stage1[phase].schedule.steps} x 256 pictures of 256 px" in text
    assert float(re.search(r"compute +([\d.]+) GFLOP per picture", text)[1]) == pytest.approx(gigaflops, rel=2e-3)
    hours = float(re.search(r"time +([\d.]+) h on 8 H100 at 40% of 989 TFLOP/s", text)[1])
    pictures = DINOV2_B.stage1[phase].schedule.steps * 256
    assert hours == pytest.approx(gigaflops * 1e9 * pictures / (8 * 0.4 * 989e12) / 3600, rel=5e-3, abs=0.05)
    memory = r"memory +([\d.]+) GiB per GPU with 32 pictures on each of 8 GPUs: ([\d.]+) for weights .+, ([\d.]+) for"
    whole, weights, activations = map(float, re.search(memory, text).groups())
    assert whole == pytest.approx(weights + activations, abs=0.11)
    parts = {name: float(size) for name, size in re.findall(r"^(\w[\w ]*?) +([\d.]+)M parameters", text, re.M)}
    heads = float(re.search(r"and ([\d.]+)M in the discriminator's heads", text)[1])
    trained = parts.pop("trained")
    judges = 14.71 + 21.67  # the convolutions of VGG-16, and ViT-S/8
    # in fp32: what stands still; weights, gradient, two moments and the average; the heads, which need no average
    expected = 4 * (sum(parts.values()) - trained + judges) + 20 * trained + 16 * heads
    assert weights == pytest.approx(expected * 1e6 / 2**30, abs=0.06)
    assert DINOV2_B.stage1[phase].expected in text
    assert "ours: not yet trained" in text
    assert not list(tmp_path.iterdir())


def test_a_dry_run_of_a_denoiser(capsys, tmp_path):
    """Three times a call of DiT^DH-XL: 313.6 GFLOP in its linear maps, and the products of its attention."""
    arguments = ["--preset", "dinov2-b", "--condition", "class", "--dry-run", "--out", str(tmp_path)]
    stage2.main([*arguments, "--processes", "16"])
    text = capsys.readouterr().out
    assert "838.38M parameters" in text
    attention = 4 * 256**2 * (28 * 1152 + 2 * 2048) / 1e9
    assert float(re.search(r"compute +([\d.]+) GFLOP per latent", text)[1]) == pytest.approx(
        3 * (313.6 + attention), rel=2e-3
    )
    assert "100080 x 1024 latents, 64 on each of 16 GPUs" in text
    assert "768 x 16 x 16, of dinov2-b/finetune" in text
    assert DINOV2_B.stage2["class"].expected in text
    assert not list(tmp_path.iterdir())
    with pytest.raises(RunError, match=r"a batch of 1024 does not divide over 3 processes"):
        stage2.main([*arguments, "--processes", "3"])


def test_the_counted_compute_is_that_of_the_parts():
    """Encoder and decoder as published (47.1 and 221.6 GFLOP); only the decoder is run backwards in phase 1."""
    row = DINOV2_B.stage1["decoder"]
    task = build_on_meta(DINOV2_B, row)
    task.preset = dataclasses.replace(task.preset, perceptual=None, adversary=None)
    task.perceptual = task.adversary = None
    assert step_cost(task).flops / 1e9 == pytest.approx(47.1 + 3 * 221.6, rel=0.02)


def test_the_denoisers_of_the_paper():
    """RAE's recipe for 80 epochs of ImageNet, its two networks, and the guide's 14 epochs."""
    rows = DINOV2_B.stage2
    assert rows["class"].schedule.steps == 80 * 1251
    assert rows["class-guide"].schedule.steps == 14 * 1251
    for name, millions in (("class", 838.4), ("class-guide", 196.4)):
        schedule = rows[name].schedule
        assert (schedule.batch_size, schedule.lr, schedule.betas, schedule.lr_floor) == (1024, 2e-4, (0.9, 0.95), 1.0)
        assert (schedule.ema_decay, schedule.max_grad_norm, schedule.precision) == (0.9995, 1.0, "no")
        assert rows[name].dropout == 0.1
        with UnfilledMeta(), torch.device("meta"):
            denoiser = DiTDH(num_classes=1000, **rows[name].denoiser)
        assert sum(p.numel() for p in denoiser.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)
    text = rows["text"]
    assert (text.schedule.steps, text.schedule.batch_size, text.schedule.lr) == (100_000, 128, 5e-5)
    assert (text.text.encoder, text.text.max_tokens) == ("Qwen/Qwen3-0.6B", 256)


def test_every_denoiser_stands_on_a_tokenizer_that_is_made_or_shipped():
    made = {f"{name}/{phase}" for name, preset in PRESETS.items() for phase in preset.stage1}
    for preset in PRESETS.values():
        for row in preset.stage2.values():
            assert row.tokenizer in made or (ROOT / row.tokenizer).is_dir()


def test_the_embedded_denoisers_are_small_enough():
    """8 million parameters at most for the classes with their guide, and for the icons: 16 MB each in fp16."""
    millions = {}
    for name, row in PRESETS["tiny"].stage2.items():
        condition = {"num_classes": None, "text_dim": 384} if row.text else {"num_classes": 20}
        with UnfilledMeta(), torch.device("meta"):
            denoiser = DiTDH(in_channels=192, **condition, **row.denoiser)
        millions[name] = sum(p.numel() for p in denoiser.parameters()) / 1e6
    assert millions["class"] + millions["class-guide"] <= 8
    assert millions["text"] <= 8


def test_four_pictures_of_an_embedded_denoiser_are_cheap_enough():
    """25 guided steps of 4 pictures in 12 s on two cores, which do 60 GFLOP/s in fp32: at most 720 GFLOP."""
    rows, forward = PRESETS["tiny"].stage2, {}
    for name, row in rows.items():
        condition = {"num_classes": None, "text_dim": 384} if row.text else {"num_classes": 20}
        with UnfilledMeta(), torch.device("meta"):
            denoiser = DiTDH(in_channels=192, **condition, **row.denoiser)
            latents, t = torch.randn(1, 192, 16, 16), torch.rand(1)
            told = (torch.zeros(1, dtype=torch.long),)
            if row.text:
                told = (None, torch.randn(1, 12, 384), torch.ones(1, 12, dtype=torch.bool))
        with FlopCounterMode(display=False) as counter:
            denoiser(latents, t, *told)
        forward[name] = counter.get_total_flops() / 1e9
    assert 4 * 25 * (forward["class"] + forward["class-guide"]) <= 720
    assert 4 * 25 * 2 * forward["text"] <= 720  # with and without the text
