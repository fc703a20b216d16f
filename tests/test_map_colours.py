"""The map's colours: numbers on a scale, and a plain one where there are none."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app import scatter
from app.points import NUMBERS, Points
from app.theme import LIGHT
from feature_store.feature_maps import FeatureMap


@pytest.fixture
def points() -> Points:
    about: Any = None  # colours do not ask how it was made
    drawn = FeatureMap(about, np.arange(3), np.zeros((3, 2)), np.array([0, -1, 1]))
    numbers = {name: np.array([0.1, 0.5, 0.9]) for name in NUMBERS}
    return Points(drawn, numbers, [[]] * 3, [""] * 3, [""] * 3)


@pytest.mark.parametrize("by", scatter.COLOURS)
def test_every_colour_paints_every_point(points: Points, by: str) -> None:
    painted = scatter.paint(points, by, LIGHT)
    assert len(painted["color"]) == 3  # type: ignore[arg-type]
    assert by == "cluster" or painted["cmin"] < painted["cmax"]  # type: ignore[operator]


def test_without_any_score_points_are_plain_and_with_some_the_scale_is_theirs(
    points: Points,
) -> None:
    none = replace(points, numbers=points.numbers | {"score": np.full(3, np.nan)})
    assert isinstance(scatter.paint(none, "score", LIGHT)["color"], str)
    some = replace(points, numbers=points.numbers | {"score": np.array([np.nan, 0.6, 0.8])})
    painted = scatter.paint(some, "score", LIGHT)
    assert 0.59 < painted["cmin"] < painted["cmax"] < 0.81  # type: ignore[operator]
