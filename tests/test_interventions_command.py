"""What interventions do to held-out photos: limits and statistics in closed form, and the command on a smoke model."""

import json

import numpy as np
import pytest
from conftest import PHOTOS, ROOT, build
from scipy.stats import spearmanr

from drorae import AutoencoderDRoRAE
from drorae.checkpoints import CheckpointError
from drorae.explorer.compatibility import GROWTH, Compatibility
from drorae.explorer.interventions import FusionParts, Intervention
from drorae.explorer.layer_usage import USAGE, read_layer_usage
from drorae.explorer.reading import picture_metrics
from train import interventions
from train.data.held_out import load_held_out
from train.errors import DataError

MODEL = ROOT / "assets" / "drorae-tiny"


def test_limits_of_cases_that_fall_apart_at_one_departure():
    departure = np.arange(201.0)
    assert interventions.choose_limits(departure, departure <= 70) == (70, 70)


def test_limits_follow_the_share_of_harmless_cases():
    """Of 100 cases at each departure so many are harmless as the share says: 95 is enough, and 5 is too few."""
    shares = {0.1: 100, 0.2: 97, 0.3: 95, 0.4: 94, 0.5: 50, 0.6: 6, 0.7: 5, 0.8: 0}
    departure = np.repeat(list(shares), 100)
    harmless = np.concatenate([np.arange(100) < share for share in shares.values()])
    shuffled = np.random.default_rng(0).permutation(len(departure))
    # ties are cases of one departure, whatever their order
    assert interventions.choose_limits(departure[shuffled], harmless[shuffled]) == (0.3, 0.6)


def test_a_rare_failure_does_not_end_the_yes_and_a_rare_success_does_not_put_off_the_no():
    departure = np.arange(400.0)
    harmless = departure < 200
    harmless[[40, 390]] = [False, True]
    assert interventions.choose_limits(departure, harmless) == (199.0, 199.0)


def test_without_a_harmless_case_nothing_but_the_trained_picture_is_a_yes():
    assert interventions.choose_limits(np.array([0.5, 1.0]), np.array([False, False])) == (0.0, 0.0)
    low, high = interventions.choose_limits(np.array([0.5, 1.0]), np.array([True, True]))
    assert (low, high) == (1.0, 1.0)


def test_growth_is_that_of_the_root_mean_square_error():
    standing = Compatibility(1.0, None, None, None, 0.0, None)
    cases = interventions.Cases(["a", "b"], np.array([20.0]), np.array([[20.0, 10.0]]), [[standing, standing]])
    np.testing.assert_allclose(cases.growth, [[0, 10**0.5 - 1]])  # a tenth of the PSNR's ratio is that of mean squares


def test_a_distribution_written_out():
    values = np.array([1.0, 2.0, 3.0, 4.0, 10.0])
    found = interventions.distribution(values)
    half = 2.776445 * values.std(ddof=1) / 5**0.5  # Student's t of 4 degrees of freedom, 97.5 %
    assert found == {
        "mean": 4.0,
        "low": pytest.approx(4 - half, abs=1e-3),
        "high": pytest.approx(4 + half, abs=1e-3),
        "q10": 1.4,
        "q90": 7.6,
    }
    assert interventions.distribution(np.full(3, 2.5)) == dict.fromkeys(("mean", "low", "high", "q10", "q90"), 2.5)


@pytest.fixture
def checkpoint(model, tmp_path):
    model.save_pretrained(tmp_path / "m")
    return tmp_path / "m"


def test_the_command_measures_what_the_page_paints(checkpoint, capsys):
    before = json.loads((checkpoint / "config.json").read_text())
    interventions.main([str(checkpoint), "--data", "generated", "--photos", "6"])
    printed = capsys.readouterr().out
    assert "6 photos at 32 pixels" in printed
    assert "Rank correlation" in printed
    model = AutoencoderDRoRAE.from_pretrained(checkpoint)
    found = read_layer_usage(checkpoint)
    assert (found.photos, found.size, found.data) == (6, 32, "generated validation")
    assert found.betas == [0.0, 0.1, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert [len(effects) for effects in (found.strengths, found.removed, found.alone)] == [10, 3, 3]

    photos = load_held_out("generated", "validation", 32, 6)
    wanted = [Intervention(), Intervention(beta=0.7), Intervention(layers=(1, 3)), Intervention(layers=(2,))]
    rows = []
    for i in range(6):
        image = photos[i][None]
        parts = FusionParts(model, model.encoder(image), (4, 4))
        rows.append([picture_metrics(parts.paint(parts.mix([one])), image)["psnr"] for one in wanted])
    trained, strength, removed, alone = np.array(rows).T
    assert found.trained.mean == pytest.approx(trained.mean(), abs=2e-3)
    assert found.strengths[6].psnr.mean == pytest.approx(strength.mean(), abs=2e-3)
    assert found.removed[1].change.mean == pytest.approx((removed - trained).mean(), abs=2e-3)
    assert found.removed[1].change.q10 == pytest.approx(np.quantile(removed - trained, 0.1), abs=2e-3)
    assert found.alone[1].psnr.mean == pytest.approx(alone.mean(), abs=2e-3)
    assert found.alone[1].psnr.low < found.alone[1].psnr.mean < found.alone[1].psnr.high

    record, after = (json.loads((checkpoint / name).read_text()) for name in (USAGE, "config.json"))
    assert after.pop("departure_limits") == record["departure"]["limits"] == list(model.config.departure_limits)
    before.pop("departure_limits")
    assert after == before
    rows = [row for row in record["departure"]["verdicts"] if row["kind"] == "all"]
    assert sum(row["cases"] for row in rows) == 3 * 16  # the other half of the photos


def test_usage_of_other_weights_is_not_used(checkpoint):
    assert read_layer_usage(checkpoint) is None
    interventions.main([str(checkpoint), "--data", "generated", "--photos", "4"])
    content = json.loads((checkpoint / USAGE).read_text())
    assert read_layer_usage(checkpoint) is not None
    (checkpoint / USAGE).write_text(json.dumps({k: v for k, v in content.items() if k != "alone"}))
    with pytest.raises(CheckpointError, match="does not say what layers are worth"):
        read_layer_usage(checkpoint)
    (checkpoint / USAGE).write_text(json.dumps({**content, "sha256": "0" * 16}))
    assert read_layer_usage(checkpoint) is None


def test_limits_do_not_outlive_what_they_were_measured_on():
    for change in ("fusion", "decoder"):
        model = build()
        model.register_to_config(departure_limits=(0.5, 1.0))
        model.set_fusion("mean") if change == "fusion" else model.add_finetuned_decoder()
        assert model.config.departure_limits is None


@pytest.mark.parametrize("fusion", [None, "mean"])
def test_a_model_without_router_says_so(tmp_path, fusion):
    build(fusion=fusion).save_pretrained(tmp_path / "m")
    with pytest.raises(DataError, match="has no router"):
        interventions.main([str(tmp_path / "m"), "--data", "generated"])


def test_the_shipped_usage_and_limits_are_of_the_shipped_weights(embedded):
    found = read_layer_usage(MODEL)
    assert found is not None, "run: python -m train.interventions assets/drorae-tiny"
    assert len(found.removed) == len(found.alone) == embedded.encoder.num_layers
    record = json.loads((MODEL / USAGE).read_text())["departure"]
    assert record["limits"] == list(embedded.config.departure_limits)
    assert (MODEL / USAGE).stat().st_size < 50_000


def test_the_shipped_meter_tells_the_truth():
    """On the photos that its limits were not chosen on."""
    record = json.loads((MODEL / USAGE).read_text())["departure"]
    rows = {row["verdict"]: row for row in record["verdicts"] if row["kind"] == "all"}
    assert rows["yes"]["harmless"] >= 0.95
    assert rows["no"]["harmless"] <= 0.05
    assert rows["yes"]["cases"] > rows["partly"]["cases"]
    assert record["rank_correlations"]["departure"] > 0.9


@pytest.mark.data
@pytest.mark.skipif(not (PHOTOS / "photos20").is_dir(), reason="photos20 is not at ../shared/data")
@pytest.mark.slow
def test_the_meter_tells_the_truth_on_other_photos(embedded):
    photos = load_held_out(str(PHOTOS / "photos20"), "validation", 128, 7)
    cases = interventions.painted_cases(embedded, photos.batches(7), interventions.tqdm(disable=True))
    verdicts = np.array([[standing.verdict for standing in row] for row in cases.standings])
    harmless = cases.growth < GROWTH
    assert (verdicts == "yes").sum() > 30
    assert harmless[verdicts == "yes"].mean() >= 0.93  # of 95, on few photos
    assert harmless[verdicts == "no"].mean() <= 0.07
    assert spearmanr(cases.numbers("departure").ravel(), cases.growth.ravel()).statistic > 0.9
    # at the strength that once was a yes while the error grew by three quarters
    assert "yes" not in verdicts[:, 5]
