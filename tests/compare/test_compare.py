"""From run directories to tables, verdicts and exit statuses, as a user types the command."""

import csv
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from support.processes import ROOT
from support.synthetic_runs import write_run

from siamese.commands import compare as command
from siamese.compare.comparison import Options, compare
from siamese.compare.grouping import parse_condition
from siamese.compare.settings import settings_of
from siamese.compare.statistics import seeds_needed
from siamese.errors import ConfigError
from siamese.runs.find import find_runs
from siamese.runs.run import LeftOut, Run, read_run

FOLDS = {0.0: (0.9135, 0.9210, 0.9165, 0.9239, 0.9215), 0.1: (0.9149, 0.9136, 0.9235, 0.9251, 0.9111)}
BATCH, WINDOW, KOLEO = "data.batch_size", "trainer.accumulate_grad_batches", "loss.koleo_weight"


def sweep(root: Path, seeds: int = 4, points=((16, 8), (32, 4), (128, 1)), koleo=(0.0,), **more) -> Path:
    """A batch size × window sweep in which the AUC falls by 0.02 with every doubling of the window."""
    random = np.random.default_rng(0)
    for batch, window in points:
        for weight in koleo:
            for seed in range(seeds):
                auc = 0.9 + 0.01 * seed - 0.02 * math.log2(window) + random.normal(0, 0.0005)
                metrics = {"test/auc": auc, "test/effective_rank": 30.0 + random.normal(), "train/koleo": 1.0}
                settings = {BATCH: batch, WINDOW: window, KOLEO: weight, "seed": seed}
                write_run(root / f"b{batch}x{window}_k{weight}_{seed}", settings, metrics, **more)
    return root


def run(*words: object, width: int = 160) -> tuple[int, str]:
    """The command in this process: its exit status and what it printed on stdout."""
    text = io.StringIO()
    status = command.main([*map(str, words)], Console(file=text, width=width))
    return status, text.getvalue()


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# -- reading -----------------------------------------------------------------------------------


def reason(path: Path) -> str:
    found = read_run(path)
    assert isinstance(found, LeftOut), found
    return found.reason


def test_incomplete_runs_are_left_out_with_the_reason(tmp_path):
    write_run(tmp_path / "failed", state="failed", status={"error": "train/loss became NaN in epoch 2\nTraceback"})
    assert reason(tmp_path / "failed") == "failed, train/loss became NaN in epoch 2"
    epochs = [{"epoch": e, "val/auc": 0.5} for e in range(4)]
    write_run(tmp_path / "running", state="running", rows=epochs)
    assert reason(tmp_path / "running").startswith("running, epoch 3 of 15, heartbeat ")
    os.utime(tmp_path / "running" / "status.json", (0, 0))
    assert " h: killed?" in reason(tmp_path / "running")
    write_run(tmp_path / "newer", manifest={"schema_version": 2})
    assert reason(tmp_path / "newer") == "manifest.json: its schema_version is 2; this program reads up to 1"
    write_run(tmp_path / "early").joinpath("manifest.json").unlink()
    assert reason(tmp_path / "early").startswith("manifest.json: not found")
    write_run(tmp_path / "no_summary").joinpath("summary.json").unlink()
    assert reason(tmp_path / "no_summary").startswith("summary.json: not found")
    write_run(tmp_path / "torn").joinpath("summary.json").write_text('{"test/auc": {"val')
    assert reason(tmp_path / "torn").startswith("summary.json: could not be read as JSON")
    for name, summary in {"flat": {"test/auc": 0.9}, "text": {"test/auc": {"value": "0.9"}}, "empty": {}}.items():
        write_run(tmp_path / name).joinpath("summary.json").write_text(json.dumps(summary))
        assert reason(tmp_path / name).startswith("summary.json: ")
    write_run(tmp_path / "binary").joinpath("status.json").write_bytes(b"\xff\xfe\x00")
    assert reason(tmp_path / "binary").startswith("status.json: could not be read")


def test_nothing_in_a_run_directory_is_executed_or_expanded(tmp_path):
    path = write_run(tmp_path / "run")
    config = path / "config.resolved.yaml"
    plain = config.read_text()
    config.write_text(plain + f"evil: !!python/object/apply:os.system ['touch {tmp_path}/ran']\n")
    assert "could not be read as YAML" in reason(path)
    lines = ["a0: &a0 {x: 1}"] + [f"a{i}: &a{i} {{l: *a{i - 1}, r: *a{i - 1}}}" for i in range(1, 40)]
    config.write_text("\n".join(lines))
    assert "aliases" in reason(path)
    config.write_text("[" * 3000)
    assert "could not be read as YAML" in reason(path)
    config.write_text("- 1\n")
    assert "expected a mapping, found list" in reason(path)
    config.write_text(plain + "#" * 5_000_000)
    assert "bytes; expected at most" in reason(path)
    assert not (tmp_path / "ran").exists()


def test_arrays_hold_no_pickles_and_a_damaged_file_is_none(tmp_path):
    path = write_run(tmp_path / "run", arrays={"roc_test": {"fpr": np.arange(3.0), "tpr": np.arange(3.0)}})
    run = read_run(path)
    assert isinstance(run, Run)
    assert run.arrays("roc_test", "fpr", "tpr")["tpr"].tolist() == [0, 1, 2]
    assert run.arrays("roc_test", "missing") is None
    assert run.arrays("distances_test", "matrix") is None
    np.savez(path / "arrays" / "roc_test.npz", fpr=np.array([{}], dtype=object), tpr=np.arange(3))
    assert run.arrays("roc_test", "fpr", "tpr") is None
    (path / "arrays" / "roc_test.npz").write_bytes(b"PK\x03\x04torn")
    assert run.arrays("roc_test", "fpr") is None


def test_a_torn_last_line_of_metrics_is_dropped(tmp_path):
    path = write_run(tmp_path / "run", rows=[{"epoch": 0, "val/auc": 0.5}, {"epoch": 1, "val/auc": 0.6}])
    with open(path / "metrics.csv", "a") as file:
        file.write("2,0.")
    found = read_run(path)
    assert isinstance(found, Run)
    assert [row["epoch"] for row in found.rows] == ["0", "1"]


def test_runs_are_found_at_any_depth_once_and_hidden_folders_are_not(tmp_path):
    write_run(tmp_path / "sweeps" / "one" / "a")
    write_run(tmp_path / "sweeps" / "one" / "a" / "checkpoints" / "inner")  # a run's inside is its own
    write_run(tmp_path / ".trash" / "b")
    write_run(tmp_path / "c")
    runs, left_out = find_runs([tmp_path, tmp_path / "sweeps", tmp_path / "c"])
    assert sorted(r.path.name for r in runs) == ["a", "c"]
    assert left_out == []
    with pytest.raises(ConfigError, match="found nothing"):
        find_runs([tmp_path / "nowhere"])


# -- groups ------------------------------------------------------------------------------------


def test_groups_are_by_scientific_keys_but_the_seed_in_order_of_numbers(tmp_path):
    sweep(tmp_path, points=((128, 1), (16, 8), (32, 4)))
    write_run(tmp_path / "elsewhere", {BATCH: 16, WINDOW: 8, KOLEO: 0.0, "seed": 9, "data.root": "/x", "name": "y"})
    found = compare([tmp_path], Options())
    assert [g.settings[BATCH] for g in found.groups] == [16, 32, 128]
    assert [len(g.runs) for g in found.groups] == [5, 4, 4]
    assert found.varying == [BATCH, WINDOW]
    assert found.constant["loss.margin"] == 0.4
    assert "seed" not in found.constant
    assert [g.effective_batch for g in found.groups] == [128, 128, 128]


def test_the_effective_batch_counts_window_and_devices(tmp_path):
    settings = {BATCH: 16, WINDOW: 8, "device.devices": 2}
    found = read_run(write_run(tmp_path / "run", settings))
    assert isinstance(found, Run)
    assert settings_of(found)["effective_batch"] == 256
    found = read_run(write_run(tmp_path / "other", settings | {WINDOW: None}))
    assert isinstance(found, Run)
    assert settings_of(found)["effective_batch"] is None


def test_the_seed_never_tells_groups_apart_whatever_runs_are_paired_by(tmp_path):
    for seed in range(2):
        for fold in range(3):
            write_run(tmp_path / f"{seed}{fold}", {"seed": seed, "data.fold": fold}, {"val/auc": 0.9 + seed / 10})
    found = compare([tmp_path], Options(pair_by=("data.fold",)))
    assert len(found.groups) == 1
    assert found.cells[0, "val/auc"].values == pytest.approx({(f"{fold}",): 0.95 for fold in range(3)})
    assert any("averaged first" in warning for warning in found.warnings)


def test_a_list_a_null_and_a_missing_key_tell_groups_apart(tmp_path):
    write_run(tmp_path / "a", {"optimizer.betas": [0.9, 0.99]})
    write_run(tmp_path / "b", {"optimizer.betas": [0.9, 0.999]})
    write_run(tmp_path / "c", {"model.pretrained": None})
    found = compare([tmp_path], Options())
    assert len(found.groups) == 3
    assert found.varying == ["optimizer.betas", "model.pretrained"]


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("loss.koleo_weight>0", [0.1]),
        ("loss.koleo_weight>=0", [0.0, 0.1]),
        ("loss.koleo_weight = 0", [0.0]),
        ("loss.koleo_weight==0.10", [0.1]),
        ("loss.koleo_weight!=0.0", [0.1]),
        ("loss.koleo_weight<1e-1", [0.0]),
    ],
)
def test_conditions(text, fits):
    condition = parse_condition(text, [KOLEO])
    assert [v for v in (0.0, 0.1) if condition.holds({KOLEO: v})] == fits
    assert not condition.holds({})


def test_where_leaves_out_and_says_so(tmp_path):
    sweep(tmp_path, koleo=(0.0, 0.1))
    found = compare([tmp_path], Options(where=("loss.koleo_weight>0", "effective_batch=128")))
    assert len(found.runs) == 12
    assert {r.state for r in found.left_out} == {"filtered"}


def test_the_baseline_of_a_group_is_the_nearest_that_fits(tmp_path):
    sweep(tmp_path, koleo=(0.0, 0.1))
    found = compare([tmp_path], Options(baseline=(f"{WINDOW}=1",), metrics=("test/auc",)))
    assert len(found.differences) == 4
    for d in found.differences:
        assert d.baseline.settings[WINDOW] == 1
        assert d.group.settings[KOLEO] == d.baseline.settings[KOLEO]
    with pytest.raises(ConfigError, match="equally near"):
        compare([tmp_path], Options(baseline=(f"{BATCH}!=16",)))
    with pytest.raises(ConfigError, match=r"no group fits; trainer.accumulate_grad_batches is one of 1, 4, 8"):
        compare([tmp_path], Options(baseline=(f"{WINDOW}=2",)))


def test_the_newest_of_equal_runs_counts_and_other_code_is_averaged_within_the_seed(tmp_path):
    for name, started, auc, sha in (
        ("old", "2026-01-01", 0.1, "a"),
        ("new", "2026-01-02", 0.8, "a"),
        ("other", "2026-01-01", 0.9, "b"),
    ):
        write_run(
            tmp_path / name, {}, {"test/auc": auc}, manifest={"started": started, "git": {"sha": sha, "dirty": True}}
        )
    found = compare([tmp_path], Options())
    assert [(r.path.name, r.state) for r in found.left_out] == [("old", "repeated")]
    (cell,) = found.cells.values()
    assert (cell.n, cell.mean) == (1, pytest.approx(0.85))
    assert any("averaged first" in w for w in found.warnings)
    assert any("different code: 2 git commits" in w for w in found.warnings)
    assert any("uncommitted changes: 2 of 2" in w for w in found.warnings)
    assert len(compare([tmp_path], Options(group_by=("git_sha",))).groups) == 2


def test_images_that_a_seed_draws_for_itself_are_no_mixture(tmp_path):
    for seed in (0, 1, 2):
        for batch in (16, 64):
            facts = {"data": {"fingerprint": f"drawn by {seed}"}}
            write_run(tmp_path / f"{batch}_{seed}", {BATCH: batch, "seed": seed}, {"test/auc": 0.5}, manifest=facts)
    assert not any("mixed data" in warning for warning in compare([tmp_path], Options()).warnings)


def test_weights_of_one_name_that_are_several_files_are_said(tmp_path):
    for seed, mark in enumerate(("a1", "a1", "b2")):
        more = {"model.weights": "outputs/FIRST", BATCH: 16 + 16 * seed, "seed": seed}
        write_run(tmp_path / f"{seed}", more, {"test/auc": 0.5}, manifest={"weights": {"fingerprint": mark}})
    write_run(tmp_path / "3", {"model.weights": "x", "seed": 3}, {"test/auc": 0.5}, manifest={"weights": None})
    said = [warning for warning in compare([tmp_path], Options()).warnings if "model.weights" in warning]
    assert said == ["model.weights=outputs/FIRST was not the same file for all (fingerprints a1, b2)"]


def test_warnings_of_mixed_data_splits_batches_and_missing_values(tmp_path):
    sweep(tmp_path, seeds=2)
    facts = {"data": {"fingerprint": "other"}, "split": {"fingerprint": "other"}, "device": {"type": "cuda"}}
    write_run(
        tmp_path / "b16x8_k0.0_1", {BATCH: 16, WINDOW: 8, KOLEO: 0.0, "seed": 1}, {"test/auc": None}, manifest=facts
    )
    found = compare([tmp_path], Options(metrics=("test/auc", "train/*"), baseline=(f"{WINDOW}=1",)))
    text = "\n".join(found.warnings)
    assert "mixed data: 2 data sets" in text
    assert "different devices: cpu, cuda" in text or "different devices: cuda, cpu" in text
    assert "different processors" not in text
    assert "pairs on different splits: (batch_size=16, accumulate_grad_batches=8)" in text
    assert "train/koleo depends on the batch" in text
    assert "test/auc: 1 of 6 runs have no value" in text


@pytest.mark.parametrize(("kind", "says"), [("cpu", "processors"), ("cuda", "GPUs")])
def test_warnings_of_other_processors(kind, says, tmp_path):
    for seed, name in enumerate(["one", "one", "other", None]):  # runs of earlier versions do not say
        device = {"device": {"type": kind, "name": name}}
        write_run(tmp_path / f"{seed}", {BATCH: 16 + 16 * (seed % 2), "seed": seed}, {"test/auc": 0.5}, manifest=device)
    said = [warning for warning in compare([tmp_path], Options()).warnings if warning.startswith("different")]
    assert said == [f"different {says}: one, other"]


# -- verdicts ----------------------------------------------------------------------------------


def folds(root: Path) -> Path:
    for weight, values in FOLDS.items():
        for fold, auc in enumerate(values):
            settings = {"data.split": "kfold", "data.fold": fold, KOLEO: weight}
            write_run(root / f"koleo{weight}_fold{fold}", settings, {"val/auc": auc})
    return root


def test_the_articles_five_folds_are_inconclusive(tmp_path):
    status, shown = run(folds(tmp_path / "folds"), "--pair-by", "data.fold", "--baseline", "loss.koleo_weight=0")
    assert status == 0
    (row,) = table(tmp_path / "folds.comparison" / "tests.csv")
    assert float(row["difference"]) == pytest.approx(-0.0016, abs=5e-5)
    assert (float(row["high_95"]) - float(row["low_95"])) / 2 == pytest.approx(0.009, abs=5e-4)
    assert float(row["p_t"]) == pytest.approx(0.63, abs=5e-3)
    assert row["verdict"] == "INCONCLUSIVE"
    assert row["says"] in shown
    assert "training sets of folds overlap" in shown


def test_the_articles_five_folds_are_equivalent_within_a_hundredth_by_t_alone(tmp_path):
    margins = tmp_path / "margins.yaml"
    margins.write_text("- {metric: auc, scale: difference, margin: 0.010}\n")
    options = Options(pair_by=("data.fold",), baseline=(f"{KOLEO}=0",), margins=margins)
    (d,) = compare([folds(tmp_path / "folds")], options).differences
    assert d.says.startswith("INCONCLUSIVE (t alone says EQUIVALENT; about ")
    assert d.p_tost < 0.05 < d.p_tost_holm == d.p_tost_flip == 2 / 32  # one fold is 0.0104 apart
    assert -0.010 < d.interval_90[0] < -0.005  # which is why ± 0.005 is out of reach


def test_every_verdict_and_the_numbers_behind_it(tmp_path):
    cases = {
        0.1: ([-0.021, -0.019, -0.020, -0.022, -0.018], "DIFFERENT"),
        0.2: ([0.0012, 0.0010, 0.0009, 0.0011, 0.0008], "DIFFERENT BUT NEGLIGIBLE"),
        0.3: ([0.0002, -0.0003, 0.0001, -0.0002, 0.0002], "EQUIVALENT"),
        0.4: ([0.012, -0.015, 0.008, -0.010, 0.011], "INCONCLUSIVE"),
        0.5: ([0.0] * 5, ""),
        0.6: ([0.003] * 5, ""),
    }
    for seed in range(5):
        write_run(tmp_path / f"base{seed}", {KOLEO: 0.0, "seed": seed}, {"test/auc": 0.9 + seed / 64})
        for weight, (shifts, _) in cases.items():
            metrics = {"test/auc": 0.9 + seed / 64 + shifts[seed]}
            write_run(tmp_path / f"{weight}_{seed}", {KOLEO: weight, "seed": seed}, metrics)
    found = compare([tmp_path], Options())
    for d, (shifts, expected) in zip(found.differences, cases.values(), strict=True):
        assert str(d.verdict or "") == expected
        assert d.mean == pytest.approx(np.mean(shifts))
        assert d.n == 5
        assert d.baseline.number == 0
    *_, inconclusive, same, constant = found.differences
    assert inconclusive.family == 4
    assert inconclusive.says == f"INCONCLUSIVE (about {inconclusive.seeds_needed} seeds needed)"
    assert inconclusive.seeds_needed == seeds_needed(0.005, np.std(cases[0.4][0], ddof=1), 0.05 / 4) > 5
    assert inconclusive.p_holm == 1.0
    assert same.says == "no verdict: every seed has the same value on both sides, which leaves no spread to test with"
    assert same.interval is None
    assert constant.says.startswith("no verdict: every seed differs by the same amount")


def test_areas_and_spread_are_compared_as_ratios(tmp_path):
    for seed, (a, b) in enumerate([(30.0, 31.5), (28.0, 29.7), (33.0, 34.3), (31.0, 32.6)]):
        write_run(tmp_path / f"a{seed}", {KOLEO: 0.0, "seed": seed}, {"test/effective_rank": a})
        write_run(tmp_path / f"b{seed}", {KOLEO: 0.1, "seed": seed}, {"test/effective_rank": b})
    (d,) = compare([tmp_path], Options()).differences
    assert d.scale == "log_ratio"
    ratios = [31.5 / 30, 29.7 / 28, 34.3 / 33, 32.6 / 31]
    assert math.exp(d.mean) == pytest.approx(np.prod(ratios) ** 0.25)
    assert d.says == "DIFFERENT BUT NEGLIGIBLE (t alone)"
    assert d.metric.margin.bound == pytest.approx(math.log(1.10))  # ± 10 %: a factor of 1.10 either way
    status, shown = run(tmp_path)
    assert status == 0
    assert f"×{np.prod(ratios) ** 0.25:.3f} [×" in shown
    write_run(tmp_path / "a0", {KOLEO: 0.0, "seed": 0}, {"test/effective_rank": 0.0})
    (d,) = compare([tmp_path], Options()).differences
    assert d.says == "no verdict: a ratio needs positive values"


def test_one_seed_is_described_and_gets_no_verdict(tmp_path):
    a = write_run(tmp_path / "a", {KOLEO: 0.1}, {"test/auc": 0.91})
    b = write_run(tmp_path / "b", {KOLEO: 0.0}, {"test/auc": 0.90})
    status, shown = run(a, b)
    assert status == 0
    assert "one seed is a description" in shown
    assert "No verdict: that takes 3 seeds at least" in shown
    (row,) = table(tmp_path / "a.comparison" / "tests.csv")
    assert (row["verdict"], row["p_t"], row["low_95"]) == ("", "", "")


def test_a_metric_without_a_margin_is_never_equivalent(tmp_path):
    for seed in range(4):
        for weight in (0.0, 0.1):
            metrics = {"val/loss": 0.5 + 1e-6 * (seed % 2) * (weight > 0) * (-1) ** (seed // 2)}
            write_run(tmp_path / f"{weight}{seed}", {KOLEO: weight, "seed": seed}, metrics)
    (d,) = compare([tmp_path], Options(metrics=("val/loss",))).differences
    assert d.says == "INCONCLUSIVE (no margin declared)"


def test_unpaired_seeds_are_named_and_left_out_of_the_differences(tmp_path):
    sweep(tmp_path / "s", seeds=4, points=((16, 8), (128, 1)))
    (tmp_path / "s" / "b16x8_k0.0_2" / "summary.json").unlink()
    status, shown = run(tmp_path / "s", "--baseline", f"{WINDOW}=1", "--metrics", "test/auc")
    assert status == 0
    assert "1 without a partner in (batch_size=128, accumulate_grad_batches=1): seed 2" in shown
    (row,) = table(tmp_path / "s.comparison" / "tests.csv")
    assert row["n"] == "3"
    assert run(tmp_path / "s", "--strict")[0] == 4


# -- the command -------------------------------------------------------------------------------


def test_the_command_prints_tables_and_writes_files_without_torch(tmp_path):
    sweep(tmp_path / "s")
    line = [sys.executable, "-X", "importtime", "scripts/compare.py", str(tmp_path / "s"), "--baseline", f"{WINDOW}=1"]
    environment = {**os.environ, "COLUMNS": "150", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    imported = {row.rpartition("|")[2].strip() for row in done.stderr.splitlines()}
    assert "numpy" in imported
    assert not {"torch", "pytorch_lightning", "matplotlib"} & imported
    assert "12 runs in 3 groups, 4 seeds each" in done.stdout
    assert "vary: data.batch_size, trainer.accumulate_grad_batches" in done.stdout
    assert done.stdout.count("DIFFERENT\n") or "DIFFERENT " in done.stdout
    out = tmp_path / "s.comparison"
    files = {p.name for p in out.iterdir()}
    assert files >= {"runs.csv", "groups.csv", "tests.csv", "table.md", "table.tex", "report.json"}
    runs = table(out / "runs.csv")
    assert len(runs) == 12
    assert {r["effective_batch"] for r in runs} == {"128"}
    groups = table(out / "groups.csv")
    for row in groups:
        own = [float(r[row["metric"]]) for r in runs if r["group"] == row["group"]]
        assert float(row["mean"]) == pytest.approx(np.mean(own))
        assert int(row["n"]) == len(own) == 4
    report = json.loads((out / "report.json").read_text())
    assert report["schema_version"] == 2
    assert [t["verdict"] for t in report["tests"]][:2] == ["DIFFERENT", "DIFFERENT"]
    assert (out / "table.md").read_text().startswith("| group | effective batch | test/auc |")
    assert r"\toprule" in (out / "table.tex").read_text()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--wher", "x=1"], "did you mean '--where'?"),
        (
            ["--where", "loss.koleo_wieght>0"],
            "unknown key 'loss.koleo_wieght': no run has it; did you mean 'loss.koleo_weight'?",
        ),
        (["--where", "loss.koleo_weight"], "expected KEY=VALUE"),
        (["--where", "loss.koleo_weight>big"], "> needs a number, found 'big'"),
        (["--baseline", "seeed=0"], "did you mean 'seed'?"),
        (["--metrics", "test/acu"], "--metrics test/acu: no run has such a metric; did you mean 'test/auc'?"),
        (["--metrics", ""], "expected names with commas between them"),
        (["--group-by", "seed"], "runs are paired by it"),
        (["--heatmap", "data.batch_size"], "expected two keys"),
        (["--heatmap", "data.batch_size,loss.margin"], "--heatmap loss.margin: expected a key that varies"),
        (["--watch", "0"], "expected seconds above 0, found '0'; see siamese-compare --help"),
        (["--margins", "nowhere.yaml"], "nowhere.yaml: could not be read"),
        (["--out", "RUN"], "is a run directory, and only its run writes into it"),
        (["--out", "RUN/figures"], "is a run directory"),
        (["--out", "FILE"], "expected a folder, found a file"),
    ],
)
def test_a_wrong_command_is_one_line_and_exit_status_2(tmp_path, capsys, words, expected):
    sweep(tmp_path / "s", seeds=1)
    (tmp_path / "file").touch()
    places = {"RUN": str(tmp_path / "s" / "b16x8_k0.0_0"), "FILE": str(tmp_path / "file")}
    words = [places.get(w, w.replace("RUN/", places["RUN"] + "/")) for w in words]
    before = sorted(tmp_path.rglob("*"))
    assert run(tmp_path / "s", *words)[0] == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert expected in line
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "text",
    ["auc: 0.1", "- {metric: auc, scale: log, margin: 0.1}", "- {metric: auc, scale: difference, margin: 0}", "- auc"],
)
def test_margins_of_another_form_are_refused(tmp_path, capsys, text):
    sweep(tmp_path / "s", seeds=1)
    (tmp_path / "m.yaml").write_text(text)
    assert run(tmp_path / "s", "--margins", tmp_path / "m.yaml")[0] == 2
    assert "expected {metric: PATTERN" in capsys.readouterr().err


def test_nothing_usable_is_exit_status_3(tmp_path, capsys):
    assert run(tmp_path)[0] == 3
    write_run(tmp_path / "failed", state="failed")
    status, shown = run(tmp_path)
    assert status == 3
    assert "failed: failed" in shown
    assert "no complete run directory found" in capsys.readouterr().err
    write_run(tmp_path / "good")
    assert run(tmp_path, "--where", "seed=7")[0] == 3
    assert run(tmp_path, "--strict")[0] == 4
    assert run(tmp_path / "nowhere")[0] == 2


def test_watch_redraws_until_nothing_runs(tmp_path):
    sweep(tmp_path / "s", seeds=2)
    late = write_run(tmp_path / "s" / "late", {BATCH: 64, WINDOW: 2, KOLEO: 0.0}, state="running")
    looks = []

    class Screen(io.StringIO):
        def write(self, text: str) -> int:
            looks.extend(word for word in ("1 running", "0 running") if word in text)
            if len(looks) == 2:
                write_run(late, {BATCH: 64, WINDOW: 2, KOLEO: 0.0})
            return super().write(text)

    screen = Screen()
    status = command.main([str(tmp_path / "s"), "--watch", "0.01"], Console(file=screen, width=160))
    assert status == 0
    assert looks == ["1 running", "1 running", "0 running"]
    assert "6 runs in 3 groups" in screen.getvalue()
    assert "7 runs in 4 groups" in screen.getvalue()


OPENED: list[str] = []  # by this process, while it is asked for
_listening: list[bool] = []
sys.addaudithook(lambda event, args: OPENED.append(str(args[0])) if _listening and event == "open" else None)


def test_two_hundred_runs_are_read_once(tmp_path):
    points = [(batch, window) for batch in (8, 16, 32, 64, 128) for window in (1, 2, 4, 8)]
    sweep(tmp_path, seeds=5, points=points, koleo=(0.0, 0.1))
    text = io.StringIO()
    _listening.append(True)
    found = compare([tmp_path], Options())
    command.terminal.show(found, Console(file=text, width=160))
    _listening.clear()
    assert len(found.runs) == 200
    assert len(found.groups) == 40
    read = [name for name in OPENED if name.startswith(str(tmp_path))]
    assert len(set(read)) == 200 * 4  # its configuration, manifest, status and summary
    assert len(read) <= 200 * 5


# -- single classes --------------------------------------------------------------------------------


def with_classes(root: Path) -> Path:
    for rate in (0.1, 0.2):
        for seed in range(3):
            metrics = {"test/auc": 0.9, "test/ellipse_area_mean": 1.0}
            run = write_run(root / f"{rate}_{seed}", {"optimizer.lr": rate, "seed": seed}, metrics)
            places = [(part, name) for part in ("validation", "test") for name in ("a/b", "dog")]
            rows = "".join(f"{part},{name},5,{rate + seed}\n" for part, name in places)
            (run / "per_class.csv").write_text(f"part,class,images,ellipse_area\n{rows}test,odd,1,\n")
    return root


def test_values_of_single_classes_are_read_from_their_table(tmp_path: Path) -> None:
    root = with_classes(tmp_path / "runs")
    c = compare([root], Options(metrics=("test/ellipse_area/*",)))
    assert [metric.name for metric in c.metrics] == ["test/ellipse_area/a/b", "test/ellipse_area/dog"]
    assert [list(c.cells[group.number, "test/ellipse_area/a/b"].values.values()) for group in c.groups] == [
        [0.1, 1.1, 2.1],
        [0.2, 1.2, 2.2],
    ]
    assert all(metric.margin is not None for metric in c.metrics)
    every = compare([root], Options(metrics=("test/*",))).metrics
    assert [metric.name for metric in every] == ["test/auc", "test/ellipse_area_mean"]
    (root / "0.1_0" / "per_class.csv").write_text("part,class,images\ntest,dog,many\n")
    (warning,) = compare([root], Options(metrics=("val/ellipse_area/dog",))).warnings
    why = "per_class.csv: row 2: images: expected a number, found 'many'"
    assert warning == f"val/ellipse_area/dog: 1 of 6 runs have no value ({why})"
    with pytest.raises(ConfigError, match="no run has such a metric"):
        compare([root], Options(metrics=("test/ellipse_area/cat",)))


def test_runs_of_earlier_versions_have_values_of_classes_in_their_summary(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {}, {"test/auc": 0.9, "test/ellipse_area/dog": 0.25})
    (cell,) = compare([run], Options(metrics=("test/ellipse_area/*",))).cells.values()
    assert cell.mean == 0.25
    found = read_run(run)
    assert isinstance(found, Run)
    assert found.metric("test/ellipse_area/dog") == 0.25
