"""One model for pictures of every size and shape: the numbers at its own size, and everything at others."""

import json

import numpy as np
import pytest
import torch
from browser import NEEDS_CHROMIUM
from conftest import build, sent
from PIL import Image
from playwright.sync_api import expect
from test_encodings import decode, frame_of, unpack

from drorae import AutoencoderDRoRAE, ImageError
from drorae.choices import SIDE
from drorae.cli import main
from drorae.explorer.batch import explore_batch
from drorae.explorer.explore import explore, intervene, open_picture
from drorae.explorer.interventions import Intervention
from drorae.explorer.reading import Reading
from drorae.images import Photo, whole_picture
from drorae.viewers.report import report
from drorae.viewers.values import frames_value

SIZES = [(32, 32), (48, 80), (104, 24)]  # height and width


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (20, 32, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((320, 200), Image.Resampling.BICUBIC)


@torch.no_grad()
def test_at_its_own_size_it_is_the_model_of_one_size(images):
    fixed, free = build(finetuned_decoder=True), build(any_size=True, finetuned_decoder=True)
    free.load_state_dict(fixed.state_dict())
    for each in ("original", "finetuned"):
        latents = [model.encode(images, return_routing=True) for model in (fixed, free)]
        assert torch.equal(latents[0].latent, latents[1].latent)
        assert torch.equal(latents[0].routing.weights, latents[1].routing.weights)
        assert torch.equal(*(model.decode(latents[0].latent, each).sample for model in (fixed, free)))


@pytest.mark.parametrize(("height", "width"), SIZES)
@torch.no_grad()
def test_latents_and_pictures_have_the_shape_of_the_picture(anysize, height, width):
    images = torch.rand(2, 3, height, width)
    output = anysize.encode(images, return_routing=True)
    assert output.latent.shape == (2, 48, height // 8, width // 8)
    assert output.routing.weights.shape == (2, height * width // 64, 3)
    assert anysize(images).sample.shape == images.shape
    alone = anysize.encode(images[1:]).latent
    torch.testing.assert_close(alone[0], output.latent[1], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_token_lies_where_its_patch_does(anysize):
    """Before attention mixes them: the layout of a picture that is not square is row by row."""
    x = torch.zeros(1, 3, 48, 80)
    x[:, :, 16:24, 56:64] = 1  # row 2, column 7 of 6 x 10
    patches = anysize.encoder.model.patch_embed.proj(x).flatten(2)[0]
    odd = (patches - patches[:, :1]).abs().sum(0).nonzero().flatten().tolist()
    assert odd == [2 * 10 + 7]
    painted = torch.zeros(1, 60, 8 * 8 * 3)
    painted[:, 2 * 10 + 7] = 1
    (rows, columns) = anysize.decoder.unpatchify(painted, (48, 80))[0, 0].nonzero(as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (16, 23, 56, 63)


def test_position_embeddings_span_the_same_interval_on_every_grid(anysize):
    """The decoder's are sine and cosine of numbers from 0 to 16, along each axis, at the grid's own spacing."""
    decoder = anysize.decoder
    own = decoder.positions((16, 16))[0, 1:].unflatten(0, (16, 16))
    fine, wide = (decoder.positions(grid)[0, 1:].unflatten(0, grid) for grid in ((32, 32), (16, 32)))
    torch.testing.assert_close(fine[::2, ::2], own)
    torch.testing.assert_close(wide[:, ::2], own)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 30, 32), "multiples of 8 pixels, not 30 x 32"),
        ((1, 3, 32, 0), "multiples of 8 pixels, not 32 x 0"),
        ((1, 1, 32, 32), r"takes images \(B, 3, H, W\)"),
    ],
)
def test_sides_that_the_patch_does_not_divide_are_refused(anysize, shape, message):
    with pytest.raises(ValueError, match=message):
        anysize.encode(torch.rand(shape))


def test_a_model_of_one_size_says_which(tiny, photo):
    with pytest.raises(ValueError, match="sees them at 32 x 32 pixels"):
        tiny.encode(torch.rand(1, 3, 32, 48))
    with pytest.raises(ValueError, match="latents are 4 x 4, not 4 x 6"):
        tiny.decode(torch.rand(1, 48, 4, 6))
    with pytest.raises(ImageError, match="works at 32 pixels only, not at 64"):
        explore(photo, tiny, size=64)
    with pytest.raises(ImageError, match="works on squares only, not on whole pictures"):
        explore(photo, tiny, whole=True)


def test_patches_of_encoder_and_decoder_must_agree():
    with pytest.raises(ValueError, match="the decoder's patch must be the encoder's 8 pixels, not 16"):
        build(any_size=True, decoder_patch_size=16)


@torch.no_grad()
def test_statistics_are_per_channel_and_serve_every_size(anysize):
    raw = build(any_size=True)
    for height, width in SIZES:
        images = torch.rand(1, 3, height, width)
        latent = raw.encode(images).latent
        expected = (latent - anysize.statistics.mean) / (anysize.statistics.std + 1e-5)
        torch.testing.assert_close(anysize.encode(images).latent, expected)
    with pytest.raises(ValueError, match=r"finite numbers of shape \(48, 1, 1\)"):
        raw.set_statistics(torch.ones(48, 4, 4))


def test_the_checkpoint_remembers(anysize, tmp_path):
    anysize.save_pretrained(tmp_path)
    again = AutoencoderDRoRAE.from_pretrained(tmp_path)
    images = torch.rand(1, 3, 24, 40)
    with torch.no_grad():
        assert torch.equal(again(images).sample, anysize(images).sample)


# ---- everything that is shown -------------------------------------------------------------------------------------


def test_the_square_and_the_whole_picture(anysize, photo):
    assert open_picture(photo, anysize).shape == (1, 3, SIDE, SIDE)
    assert open_picture(photo, anysize, 64).shape == (1, 3, 64, 64)
    everything = open_picture(photo, anysize, 64, whole=True)
    assert everything.shape == (1, 3, 48, 80)  # 320 x 200, about 64 x 64 pixels
    reference = np.asarray(photo.resize((80, 50), Image.Resampling.LANCZOS).crop((0, 1, 80, 49))) / 255
    assert np.abs(everything[0].permute(1, 2, 0).numpy() - reference).mean() < 0.02  # only the edges are cut
    assert whole_picture(photo.resize((320, 20)), 64, 8).size == (256, 16)  # never less than two patches
    for width, height in ((2000, 17), (17, 2000), (1_000_000, 16)):  # which would be many times the work
        with pytest.raises(ImageError, match=f"{width} x {height} pixels is too long to be shown whole"):
            whole_picture(Image.new("RGB", (width, height)), 64, 8)
    for size, near in ((60, 64), (8, 16)):
        with pytest.raises(ImageError, match=f"multiple of 8 pixels, not {size}; use {near}"):
            open_picture(photo, anysize, size)


def test_everything_that_is_found_has_the_shape_of_the_picture(anysize, photo):
    result = explore(photo, anysize, size=64, whole=True)
    rows, columns = result.grid_size
    assert (rows, columns) == (6, 10)
    assert result.original.shape == (48, 80, 3)
    assert all(picture.shape == (48, 80, 3) for picture in result.pictures.values())
    assert all(gain.map.shape == (48, 80) for gain in result.gains.values())
    assert result.shares.shape == (60, 3)
    assert result.components.shape == (3, 60, 3)
    assert len(result.texture) == len(result.cosines) == 60
    for name, energies in result.energies.items():  # Parseval, also where it is not square
        wrong = result.pictures[name].astype(float) - result.original.astype(float)
        assert energies.sum() == pytest.approx(np.square(wrong).mean())
    assert all(frame.picture.shape == (48, 80, 3) for frame in result.interventions.removed)
    # one token changed: its place in the picture is its place in the grid
    changed = intervene(photo, anysize, Intervention(beta=1.0, tokens=(2 * columns + 7,)), 64, whole=True)
    usual = result.interventions.strengths[result.interventions.betas.index(result.beta)]
    difference = np.abs(changed.picture.astype(int) - usual.picture.astype(int)).sum(2)
    inside = difference[16:24, 56:64].mean()
    assert inside > 0
    assert inside == max(
        difference[8 * r : 8 * r + 8, 8 * c : 8 * c + 8].mean() for r in range(rows) for c in range(columns)
    )

    value = sent(result)
    assert [value[name] for name in ("width", "height", "rows", "columns")] == [80, 48, 6, 10]
    assert decode(value["pictures"]["drorae"]).shape == (48, 80, 3)
    assert unpack(value["shares"], (60, 3)).shape == (60, 3)
    value = frames_value(result, result.interventions)
    assert (value["width"], value["height"]) == (80, 48)
    shown = frame_of(value, value["removed"][1], result.pictures["drorae"])
    assert np.array_equal(shown, result.interventions.removed[1].picture)


def test_texture_is_read_where_the_token_is():
    from drorae.explorer.layer_maps import texture_energy

    picture = np.zeros((16, 32, 3), np.uint8)
    picture[8:, 24:] = np.indices((8, 8)).sum(0)[..., None] % 2 * 255
    energies = texture_energy(picture, (2, 4)).reshape(2, 4)
    assert energies.argmax() == 1 * 4 + 3


def test_commands_say_the_size_they_used(anysize, photo, tmp_path, capsys):
    anysize.save_pretrained(tmp_path / "model")
    photo.save(tmp_path / "photo.png")
    common = [str(tmp_path / "photo.png"), "--model", str(tmp_path / "model"), "--size", "64"]
    assert main(["reconstruct", *common, "--whole", "--out", str(tmp_path / "out"), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["width"], row["height"]) == (80, 48)
    assert Image.open(row["drorae"]["file"]).size == (80, 48)
    assert main(["routing", *common, "--whole", "--out", str(tmp_path / "r.npz")]) == 0
    assert "grid 6 x 10 (rows, columns)" in capsys.readouterr().out
    assert np.load(tmp_path / "r.npz")["grid"].tolist() == [6, 10]
    assert main(["intervene", *common, "--without", "2", "--tokens", "63", "--out", str(tmp_path / "i.png")]) == 0
    assert main(["intervene", *common, "--whole", "--tokens", "63", "--out", str(tmp_path / "i.png")]) == 2
    assert "tokens are numbered 0 to 59" in capsys.readouterr().err
    assert main(["batch", *common, "--whole", "--out", str(tmp_path / "b.csv")]) == 0
    capsys.readouterr()
    for option in (["--size", "60"], ["--size", "-8"]):
        for command in ("reconstruct", "batch"):
            assert main([command, *common, *option, "--out", str(tmp_path / "x.csv")]) == 2
            assert "must be a multiple of 8 pixels" in capsys.readouterr().err


def test_a_batch_keeps_whole_pictures_in_shape(anysize, photo, tmp_path):
    photo.save(tmp_path / "photo.png")
    (row,) = explore_batch([tmp_path / "photo.png"], anysize, size=64, whole=True)
    assert row.metrics == explore(photo, anysize, interventions=False, size=64, whole=True).metrics
    assert row.thumbnail.shape == (64, 64, 3)


def test_a_report_names_size_and_part_and_how_to_make_it_again(anysize, photo):
    text = report(Reading(Photo.of(photo), anysize, 64, whole=True), "m", "photo.png")
    assert "all of it at 80 x 48 pixels" in text
    assert "--size 64 --whole --out report.html" in text
    square = report(Reading(Photo.of(photo), anysize), "m", "photo.png")
    assert f"a square of it at {SIDE} x {SIDE} pixels" in square
    assert "--size" not in square.split("made by")[1][:200]


@NEEDS_CHROMIUM[0]
@NEEDS_CHROMIUM[1]
def test_views_draw_pictures_that_are_not_square(browser, anysize, photo, tmp_path):
    """Shapes are kept, and the pointer finds the token and the pixel it is on."""
    reading = Reading(Photo.of(photo), anysize, 64, whole=True)
    (tmp_path / "wide.html").write_text(report(reading, "m", "photo.png"), encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "wide.html").as_uri())
    page.wait_for_selector("html[data-painted]", state="attached")
    panels = page.locator(".pane:visible")
    assert panels.count() >= 8  # of Picture, its maps, Layers, Weights, Frequency
    for box in (panel.bounding_box() for panel in panels.all()):
        assert box["width"] / box["height"] == pytest.approx(80 / 48, rel=0.02)
    stage = page.locator("#picture [data-part=stage] .fig >> nth=0 >> .pane")
    for column, row in ((0, 0), (9, 0), (7, 4), (9, 5)):
        box = stage.bounding_box()
        stage.hover(position={"x": box["width"] * (column + 0.5) / 10, "y": box["height"] * (row + 0.5) / 6})
        assert page.evaluate("store.state.token") == row * 10 + column
    gain = page.locator("#picture [data-part=maps] .fig >> nth=0 >> .pane")
    gain.scroll_into_view_if_needed()
    box = gain.bounding_box()
    gain.hover(position={"x": box["width"] * 70.5 / 80, "y": box["height"] * 40.5 / 48})
    note = page.locator("#picture [data-part=maps] .note").first
    expect(note).to_contain_text("Pixel 70, 40:")
    levels = float(reading.routes.gains["drorae"].map[40, 70])
    expect(note).to_contain_text(f"{abs(levels):.1f} of 255 levels {'closer' if levels > 0 else 'farther'}")
    page.close()
