"""Measurements that are kept: made once for the same things, and again for others or after half a file."""

import pytest

from train.measure.kept import measure_once


class Meter:
    """Counts how often it measured."""

    def __init__(self):
        self.count = 0

    def __call__(self) -> dict:
        self.count += 1
        return {"value": self.count, "pair": (1, 2)}


@pytest.mark.parametrize("damage", [None, b"", b'{"of": ["abc", 3], "fou', b"[]", b"\xff"])
def test_the_same_is_measured_once_and_half_a_file_again(tmp_path, damage):
    file, measure = tmp_path / "deep" / "result.json", Meter()
    first = measure_once(file, ["abc", 3, None], measure)
    assert first == {"value": 1, "pair": [1, 2]}
    if damage is not None:
        file.write_bytes(damage)
    again = measure_once(file, ["abc", 3, None], measure)
    assert again["value"] == (1 if damage is None else 2)
    assert measure_once(file, ("abc", 3, None), measure) == again


def test_other_weights_or_arguments_are_measured_anew(tmp_path):
    measure = Meter()
    for of, value in ((["abc", 3], 1), (["abd", 3], 2), (["abd", 4], 3), (["abd", 4], 3), (["abc", 3], 4)):
        assert measure_once(tmp_path / "result.json", of, measure)["value"] == value


def test_what_fails_is_not_kept(tmp_path):
    def fail() -> dict:
        raise ValueError("no photos")

    with pytest.raises(ValueError, match="no photos"):
        measure_once(tmp_path / "result.json", ["abc"], fail)
    assert not list(tmp_path.iterdir())
