"""The comparison after fewer epochs: of a group that only trains slower, and of one that ends elsewhere."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from support.synthetic_runs import write_run

from siamese.commands import compare as command
from siamese.compare import page
from siamese.compare.budgets import budgets
from siamese.compare.comparison import Options, compare
from siamese.compare.statistics import Verdict, holm

KOLEO = "loss.koleo_weight"


def test_what_trains_slower_is_told_from_what_ends_elsewhere(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    behind = {0.0: lambda e: 0.0, 0.1: lambda e: 0.2 * 2.0**-e, 0.2: lambda e: 0.1}
    for weight, by in behind.items():
        for seed in range(5):
            aucs = [0.9 - by(e) + random.normal(0, 5e-4) for e in range(11)]
            rows = [{"epoch": e, "step": e, "images": e, "val/auc": auc} for e, auc in enumerate(aucs)]
            write_run(tmp_path / f"{weight}_{seed}", {KOLEO: weight, "seed": seed}, {"test/auc": aucs[-1]}, rows=rows)
    c = compare([tmp_path], Options())
    (found,) = budgets(c)
    assert (found.metric.name, found.epochs) == ("val/auc", [1, 2, 4, 8, 10])
    slower, elsewhere = ([found.differences[e][i] for e in found.epochs] for i in (0, 1))
    assert slower[0].verdict is Verdict.DIFFERENT
    assert slower[-1].verdict is Verdict.EQUIVALENT
    assert {d.verdict for d in elsewhere} == {Verdict.DIFFERENT}
    for epoch, d in zip(found.epochs, slower, strict=True):
        assert d.mean == pytest.approx(-behind[0.1](epoch), abs=2e-3)
        assert d.family == 10
    every = [d for epoch in found.epochs for d in found.differences[epoch]]
    assert [d.p_holm for d in every] == holm([d.p_t for d in every])  # five seeds: by t alone
    assert "Over budgets" in page.render(c, page.draw(c, ()), [], "")
    assert command.main([str(tmp_path), "--out", str(tmp_path / "out")], Console(quiet=True)) == 0
    with (tmp_path / "out" / "budgets.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    told = [(d.metric.name, d.group.label, d.mean, d.p_holm, d.says) for d in every]
    assert [(r["metric"], r["label"], float(r["difference"]), float(r["p_holm"]), r["says"]) for r in rows] == told
    assert [int(r["epochs"]) for r in rows] == [epoch for epoch in found.epochs for _ in range(2)]
    assert [r["says"] for r in json.loads((tmp_path / "out" / "report.json").read_text())["budgets"]] == [
        d.says for d in every
    ]


def test_runs_of_one_epoch_or_without_a_baseline_have_no_budgets(tmp_path: Path) -> None:
    for weight in (0.0, 0.1):
        rows = [{"epoch": e, "step": e, "images": e, "val/auc": 0.5} for e in range(2)]
        write_run(tmp_path / str(weight), {KOLEO: weight}, {"test/auc": 0.5}, rows=rows)
    assert budgets(compare([tmp_path], Options())) == []
    assert budgets(compare([tmp_path / "0.1"], Options())) == []
    assert command.main([str(tmp_path), "--out", str(tmp_path / "out")], Console(quiet=True)) == 0
    assert (tmp_path / "out" / "budgets.csv").read_text().splitlines() == ["empty"]
