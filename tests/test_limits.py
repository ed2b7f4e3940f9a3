"""What the environment says visitors may take: read once, and refused in a sentence."""

from __future__ import annotations

import pytest
from conftest import ROOT

from drorae.errors import DRoRAEError
from drorae.ui.limits import LANES, MB, SHARES, SIZES, Limits, read_limits


def test_an_empty_environment_leaves_the_usual_limits():
    assert read_limits({}) == Limits()
    assert read_limits({"DRORAE_QUEUES": " ", "DRORAE_BODY_MB": ""}) == Limits()
    assert set(SIZES) == set(SHARES) == set(LANES)


def test_lanes_that_are_named_change_and_others_stay():
    limits = read_limits({"DRORAE_QUEUES": "explore=7, generate=3", "DRORAE_VISITOR_QUEUES": "explore=2"})
    assert limits.sizes == {**SIZES, "explore": 7, "generate": 3}
    assert limits.shares == {**SHARES, "explore": 2}


def test_amounts_are_megabytes_and_numbers_of_files():
    names = ("BODY_MB", "UPLOAD_MB", "UPLOAD_FILES", "VISITOR_MB", "VISITOR_FILES")
    limits = read_limits({f"DRORAE_{name}": str(number) for number, name in enumerate(names, 1)})
    assert (limits.body, limits.upload, limits.visitor) == (1 * MB, 2 * MB, 4 * MB)
    assert (limits.upload_files, limits.visitor_files) == (3, 5)


def test_the_hubs_proxies_count_as_configured_on_a_space_only():
    assert read_limits({"DRORAE_PROXIES": "192.0.2.1, 198.51.100.0/24"}).proxies == ("192.0.2.1", "198.51.100.0/24")
    assert read_limits({}).proxies == ()
    on_space = read_limits({"SPACE_ID": "me/drorae", "DRORAE_PROXIES": "192.0.2.1"}).proxies
    assert on_space[0] == "192.0.2.1"
    assert "10.0.0.0/8" in on_space


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DRORAE_QUEUES", "explore=0", "explore=0"),
        ("DRORAE_QUEUES", "explore", "'explore'"),
        ("DRORAE_QUEUES", "explore=-1", "explore=-1"),
        ("DRORAE_QUEUES", "explore=\u0663", "whole numbers"),
        ("DRORAE_QUEUES", "explore=" + "9" * 5000, "whole numbers"),
        ("DRORAE_VISITOR_QUEUES", "kitchen=3", "generate"),  # the lanes there are
        ("DRORAE_BODY_MB", "many", "'many'"),
        ("DRORAE_UPLOAD_FILES", "1.5", "'1.5'"),
        ("DRORAE_VISITOR_MB", "0", "'0'"),
        ("DRORAE_PROXIES", "nginx", "'nginx'"),
        ("DRORAE_PROXIES", "10.0.0.1/8", "'10.0.0.1/8'"),
        ("DRORAE_HOST_TOKEN", "short", "16"),
        ("DRORAE_HOST_TOKEN", "with spaces in between it", "spaces"),
    ],
)
def test_a_value_that_makes_no_sense_is_one_sentence_that_names_it(name, value, said):
    with pytest.raises(DRoRAEError) as raised:
        read_limits({name: value})
    sentence = str(raised.value)
    assert sentence.startswith(name)
    assert said in sentence
    assert len(sentence) < 250
    assert "\n" not in sentence
    assert name != "DRORAE_HOST_TOKEN" or value not in sentence


def test_the_documents_say_what_the_limits_are():
    text = (ROOT / "docs" / "hosting.md").read_text(encoding="utf-8")
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    lanes = {row[0]: (int(row[2]), int(row[3])) for row in rows if row[0] in LANES}
    assert lanes == {lane: (SIZES[lane], SHARES[lane]) for lane in LANES}
    usual = Limits()
    amounts = {row[0]: int(row[2]) for row in rows if row[0].startswith("DRORAE_") and len(row) == 3}
    assert amounts == {
        "DRORAE_BODY_MB": usual.body // MB,
        "DRORAE_UPLOAD_MB": usual.upload // MB,
        "DRORAE_UPLOAD_FILES": usual.upload_files,
        "DRORAE_VISITOR_MB": usual.visitor // MB,
        "DRORAE_VISITOR_FILES": usual.visitor_files,
    }
    for name in ("DRORAE_QUEUES", "DRORAE_VISITOR_QUEUES", "DRORAE_PROXIES", "DRORAE_HOST_TOKEN"):
        assert name in text
