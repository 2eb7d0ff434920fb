"""scripts/accumulation.py: what it writes, and that its numbers are those of the gradients."""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path

import pytest
from PIL import Image
from support.accumulating import ROOT

sys.path.insert(0, str(ROOT / "scripts"))

import accumulation as script
from siamese.training.gradient_study.study import mean

pytestmark = pytest.mark.slow

WORDS = (
    "loss=triplet_koleo data=digits data.images_per_class=20 data.batch_size=8 trainer.accumulate_grad_batches=2 "
    "model=conv_small model._target_=support.accumulating.plain_net model.embedding_dim=6 "
    "optimizer=sgd optimizer.lr=0.1 trainer.max_epochs=2 device=cpu device.precision=64-true"
).split()


def test_a_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script.main([*WORDS, "--batches", "3", "--out", str(tmp_path)])
    with (tmp_path / "accumulation.csv").open() as file:
        rows = list(csv.DictReader(file))
    kinds = {(row["state"], row["accumulation"], row["term"], row["window"]) for row in rows}
    assert len(kinds) == len(rows) == 2 * 2 * 3 * 3
    for row in rows:
        assert row["batches"] == "3"
        assert float(row["micro_batch"]) * int(row["window"]) == 16
        cosine, ratio, value, exact = (float(row[k]) for k in ("cosine", "norm_ratio", "value", "exact_value"))
        if row["window"] == "1" or row["term"] == "triplet":  # one batch; a loss of single tuples
            assert (cosine, ratio, value) == pytest.approx((1, 1, exact), rel=1e-9)
        elif row["term"] == "koleo":
            assert cosine < 0.99
            assert value < exact  # fewer embeddings are further apart
        assert float(row["cosine_low"]) <= cosine <= float(row["cosine_high"])
    assert {row["exact_value"] for row in rows if row["term"] == "koleo" and row["state"] == "after training"} != {
        row["exact_value"] for row in rows if row["term"] == "koleo" and row["state"] == "at initialisation"
    }
    with Image.open(tmp_path / "accumulation.png") as image:
        assert min(image.size) > 500
    shown = capsys.readouterr().out
    assert "after training" in shown
    assert str(tmp_path / "accumulation.csv") in shown


def test_a_cut_that_cannot_be_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        script.main([*WORDS, "--windows", "2,9", "--out", str(tmp_path / "out")])
    assert exit.value.code == 2
    assert capsys.readouterr().err.startswith("error: --windows 9: expected cuts of 16 tuples")
    assert not (tmp_path / "out").exists()


def test_the_interval_is_that_of_t() -> None:
    """Of 1, 2, 3, 4: 2.5 ± 3.1824 · 1.2910 / 2, the quantile from a printed table of t."""
    assert mean([1, 2, math.nan, 3, 4]) == pytest.approx((2.5, 2.5 - 2.0542, 2.5 + 2.0542), abs=1e-3)
    assert mean([7])[0] == 7
    assert math.isnan(mean([7])[1])
