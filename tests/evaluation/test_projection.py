"""The line that draws an ellipse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from siamese.evaluation.projection import Ellipse, ellipse


def test_an_outline_lies_on_the_ellipse_with_its_first_axis_along_the_angle() -> None:
    found = Ellipse(np.array([3.0, -1.0]), width=6.0, height=2.0, angle=math.pi / 2)
    outline = found.outline(4)
    assert outline == pytest.approx(np.array([[3, 2], [2, -1], [3, -4], [4, -1]]))


@pytest.mark.parametrize("angle", [0.0, 0.4, -1.2])
def test_as_many_points_are_within_an_outline_as_its_ellipse_covers(angle: float) -> None:
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    points = np.random.default_rng(0).normal(size=(2000, 2)) * [3, 1] @ turn.T
    outline = ellipse(points, 0.5).outline(360)
    away = outline[:, None] - points
    crossed = np.unwrap(np.arctan2(away[..., 1], away[..., 0]), axis=0)
    assert (np.abs(crossed[-1] - crossed[0]) > math.pi).mean() == pytest.approx(0.5, abs=0.01)
