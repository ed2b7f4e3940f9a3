"""Curves of a card: every point is where its numbers say."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from train.curves import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, curves_svg, save_curves, ticks

SVG = "{http://www.w3.org/2000/svg}"
CURVES = {"decoder": [(200, 15.0), (400, 16.0), (1000, 17.0)], "fusion & more": [(500, 19.0), (750, 25.0)], "none": []}


def points(line: ElementTree.Element) -> np.ndarray:
    return np.array([[float(number) for number in pair.split(",")] for pair in line.get("points").split()])


def test_points_lie_where_their_numbers_say():
    root = ElementTree.fromstring(curves_svg(CURVES, "PSNR, dB"))
    lines = [points(line) for line in root.iter(f"{SVG}polyline")]
    assert [len(line) for line in lines] == [3, 2]  # a curve without points is left out
    low, high = 15 - 0.5, 25 + 0.5  # a twentieth of what the values span
    for line, curve in zip(lines, CURVES.values(), strict=False):
        steps, values = np.array(curve).T
        np.testing.assert_allclose(line[:, 0], LEFT + (WIDTH - LEFT - RIGHT) * steps / 1000, atol=0.06)
        np.testing.assert_allclose(
            line[:, 1], TOP + (HEIGHT - TOP - BOTTOM) * (high - values) / (high - low), atol=0.06
        )
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"decoder 17", "fusion & more 25", "PSNR, dB", "step", "1,000", "20"} <= set(texts)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 6000, [0, 2000, 4000, 6000]),
        (14.5, 25.5, [15, 20, 25]),
        (0.97, 1.1, [1.0, 1.05, 1.1]),
        (3, 3, [3]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_one_point_can_be_drawn_and_none_cannot(tmp_path):
    save_curves(tmp_path / "one.svg", {"class": [(6, 1.25)]}, "loss")
    (line,) = ElementTree.parse(tmp_path / "one.svg").iter(f"{SVG}polyline")
    assert len(points(line)) == 1
    with pytest.raises(ValueError, match="no curve"):
        curves_svg({"class": []}, "loss")
