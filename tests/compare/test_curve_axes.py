"""A panel of curves stands on the axis that it is labelled with."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from support.synthetic_runs import write_run

from siamese.compare import charts
from siamese.compare.comparison import Comparison, Options, compare

# Places of the same five rows on each axis; no two are in proportion.
AXES = {"epoch": [0, 1, 2, 3, 4], "step": [0, 5, 7, 40, 50], "images": [0, 100, 900, 1500, 1600]}
AUC = [0.5, 0.6, 0.8, 0.85, 0.9]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    root: Path = tmp_path_factory.mktemp("curves")
    rows = [{**{k: v[i] for k, v in AXES.items()}, "val/auc": AUC[i], "train/loss": "", "lr": 0.1} for i in range(5)]
    for weight in (0.0, 0.1):
        for seed in range(2):
            write_run(
                root / f"{weight}_{seed}", {"loss.koleo_weight": weight, "seed": seed}, {"test/auc": 0.9}, rows=rows
            )
    return compare([root], Options())


@pytest.mark.parametrize(("place", "column"), list(enumerate(AXES)))
def test_a_curve_lies_over_the_values_of_its_axis(found: Comparison, place: int, column: str) -> None:
    figure = charts.curves(found, "val/auc")[place]
    assert figure.slug.endswith(f"_{column}")
    assert charts.X_AXES[column] in re.findall(r'class="name"[^>]*>([^<]+)<', figure.drawing)
    lines = re.findall(r'<path d="M([^"]*)" class="(?:mean|thin)"', figure.drawing)
    assert len(lines) == 2 * (2 + 1)
    for line in lines:
        x = np.array([float(point.split(" ")[0]) for point in line.split("L")])
        shares = np.array(AXES[column]) / AXES[column][-1]
        assert (x - x[0]) / (x[-1] - x[0]) == pytest.approx(shares, abs=2e-3)
