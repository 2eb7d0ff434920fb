"""The evaluation at the end of a run, and scripts/evaluate.py as a user types it."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from support.images import write_folder
from support.processes import Cli

from siamese.config.data import Data
from siamese.config.schema import Evaluation
from siamese.data import load
from siamese.evaluation import METRICS, Undefined
from siamese.evaluation.measure import How, measure
from siamese.evaluator.measured import entry, evaluate_part, part_entries, said_of, thresholds_in
from siamese.evaluator.part import Part, gallery, hardest
from siamese.runs.directory import RunDirectory
from siamese.runs.locks import claim, release

pytestmark = pytest.mark.slow

QUICK = ("data=digits", "model=conv_small", "model.width=4", "device=cpu", "data.images_per_class=40")
SCRIPT = "scripts/evaluate.py"


@pytest.fixture(scope="module")
def finished(train_cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("evaluated") / "run"
    words = ("data.val_fraction=0.3", "trainer.max_epochs=2", "optimizer.lr=1e-3", "evaluation.every=2")
    train_cli(*QUICK, *words, f"hydra.run.dir={where}")
    return where


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def undrawn(run: Path) -> Path:
    """The same of a run that draws its figures only when asked to."""
    edit_config(run, "figures", "draw", False)
    return run


def digests(folder: Path, *without: str) -> dict[str, str]:
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != ".lock"]
    names = {p.relative_to(folder).as_posix(): hashlib.md5(p.read_bytes()).hexdigest() for p in files}
    return {name: digest for name, digest in names.items() if not name.startswith(without or ("\0",))}


def arrays(run: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(run / "arrays" / f"{name}.npz", allow_pickle=False) as stored:
        return dict(stored)


def summary(run: Path) -> dict[str, dict]:
    return json.loads((run / "summary.json").read_text())


# -- the end of a run ----------------------------------------------------------------------------


def test_a_run_ends_with_every_measure_of_what_its_arrays_hold(finished: Path) -> None:
    found, threshold, chosen = summary(finished), None, None
    for part, prefix in (("validation", "val"), ("test", "test")):
        stored = arrays(finished, part)
        how = How(threshold=threshold, chosen=chosen, resamples=1000)
        classes = len(stored["class_names"])
        again = measure(stored["embeddings"], stored["labels"], stored["triplets"], classes, how)
        threshold, chosen = again.threshold, chosen or thresholds_in(again.values)
        assert again.intervals
        for name, interval in again.intervals.items():
            assert found[f"{prefix}/{name}"]["interval"] == list(interval)
            assert found[f"{prefix}/{name}"]["interval_over"] == "images"
        assert set(METRICS) <= set(again.values)
        for name, value in again.values.items():
            entry = found[f"{prefix}/{name}"]
            assert (entry["split"], entry["batch_dependent"]) == (part, False)
            if isinstance(value, Undefined):
                assert (entry["value"], entry["reason"]) == (None, value.reason)
            else:
                assert entry["value"] == value, name
                assert "reason" not in entry
        assert found[f"{prefix}/accuracy"]["threshold"] == threshold
        for name, values in again.arrays.items():
            stored = arrays(finished, f"{name}_{part}")
            assert all(np.array_equal(stored[key], values[key], equal_nan=True) for key in values), name
    assert found["val/tar_at_far_1e-3"]["value"] is None
    assert {"test/triplet", "test/loss", "train/loss"} <= set(found)
    assert found["test/ellipse_area_median"]["direction"] is None


def per_class(run: Path) -> list[dict[str, str]]:
    with open(run / "per_class.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_every_class_has_its_row_in_a_table(finished: Path) -> None:
    rows = per_class(finished)
    assert list(rows[0])[:3] == ["part", "class", "images"]
    for part, of_part in (("validation", rows[:10]), ("test", rows[10:])):
        stored, projected = arrays(finished, part), arrays(finished, f"projection_{part}")
        assert [(row["part"], row["class"]) for row in of_part] == [(part, str(name)) for name in stored["class_names"]]
        assert [int(row["images"]) for row in of_part] == np.bincount(stored["labels"], minlength=10).tolist()
        for area in ("ellipse_area", "normalised_area", "legacy_area"):
            assert [float(row[area] or "nan") for row in of_part] == pytest.approx(
                projected[f"{area}s"].tolist(), nan_ok=True
            )
        assert float(projected["coverage"]) == 0.5
    found = summary(finished)
    assert np.median([float(row["ellipse_area"]) for row in rows[10:]]) == found["test/ellipse_area_median"]["value"]
    assert not [name for name in found if name.count("/") > 1]


def test_every_kth_epoch_everything_is_measured(finished: Path) -> None:
    with open(finished / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["val/recall_at_1"]) for row in rows] == [True, False, True]
    assert all(row["val/auc"] for row in rows)
    found = summary(finished)
    best = rows[found["val/auc"]["epoch"]]
    for name in ("recall_at_1", "nmi", "effective_rank", "accuracy", "ellipse_area_mean"):
        if best[f"val/{name}"]:
            assert float(best[f"val/{name}"]) == pytest.approx(found[f"val/{name}"]["value"], abs=1e-9)
    assert not any(column.startswith("test/") for column in rows[0])


def test_the_gallery_shows_the_same_queries_whatever_embeds_them(finished: Path) -> None:
    stored, shown = arrays(finished, "test"), arrays(finished, "gallery_test")
    z = stored["embeddings"].astype(np.float64)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    place = {image: i for i, image in enumerate(stored["ids"])}
    queries = [place[image] for image in shown["query_ids"]]
    first_of_each = [int(np.flatnonzero(stored["labels"] == label)[0]) for label in range(10)]
    assert queries == first_of_each
    cosines = z @ z.T
    for q, neighbours, scores, labels in zip(
        queries, shown["neighbour_ids"], shown["cosines"], shown["neighbour_labels"], strict=True
    ):
        others = [i for i in np.argsort(-cosines[q], kind="stable") if i != q][:8]
        assert [place[image] for image in neighbours] == others
        assert np.allclose(scores, cosines[q][others], atol=1e-6)
        assert np.array_equal(labels, stored["labels"][others])
    images = load(Data(source={"_target_": "siamese.data.digits"}), 0)
    known = {image: images.images[i].numpy() for i, image in enumerate(images.ids)}
    assert all(np.array_equal(shown["query_images"][i], known[q]) for i, q in enumerate(shown["query_ids"]))
    assert np.array_equal(shown["neighbour_images"][3, 5], known[shown["neighbour_ids"][3, 5]])


def part(n: int, classes: int, seed: int = 0) -> Part:
    random = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    triplets = np.stack([np.arange(n), (np.arange(n) + classes) % n, (np.arange(n) + 1) % n], 1)
    images = random.integers(0, 256, (n, 3, 4, 4), dtype=np.uint8)
    ids = np.array([f"i{k}" for k in range(n)])
    return Part(
        "test", random.normal(size=(n, 5)), labels, ids, [str(c) for c in range(classes)], triplets, images.__getitem__
    )


@pytest.mark.parametrize(("n", "classes", "queries"), [(24, 3, 10), (6, 2, 6), (60, 20, 10), (4, 2, 4)])
def test_gallery_of_few_and_many_classes(n: int, classes: int, queries: int) -> None:
    given = part(n, classes)
    shown = gallery(given, given.images)
    assert np.array_equal(shown["query_ids"], gallery(part(n, classes, seed=1), given.images)["query_ids"])
    assert len(shown["query_ids"]) == queries
    assert shown["cosines"].shape == (queries, min(8, n - 1))
    assert (np.diff(shown["cosines"], axis=1) <= 0).all()
    assert np.bincount(shown["query_labels"]).max() - 1 <= queries / min(classes, queries)
    assert not (shown["query_ids"][:, None] == shown["neighbour_ids"]).any()


def test_the_hardest_triplets_are_those_with_the_nearest_negative() -> None:
    given = part(30, 3)
    found = hardest(given, given.images)
    z = given.embeddings / np.linalg.norm(given.embeddings, axis=1, keepdims=True)
    excess = [(z[a] @ z[n] - z[a] @ z[p], k) for k, (a, p, n) in enumerate(given.triplets)]
    worst = [k for _, k in sorted(excess, reverse=True)[:6]]
    assert np.array_equal(found["ids"], given.ids[given.triplets[worst]])
    a, p, n = given.triplets[worst[0]]
    assert np.allclose(found["distances"][0], [1 - z[a] @ z[p], 1 - z[a] @ z[n]])
    assert np.array_equal(found["images"][0, 2], given.images(np.array(n)))


# -- evaluate.py ---------------------------------------------------------------------------------


def test_evaluating_again_gives_the_same_and_leaves_the_checkpoints(cli: Cli, run: Path) -> None:
    before = digests(run)
    (run / "arrays" / "histogram_test.npz").unlink()
    shutil.rmtree(run / "figures")
    done = cli(SCRIPT, run, "--data", "digits")  # which are its own
    assert digests(run) == before
    assert "best checkpoint, epoch" in done.stdout
    assert f"{summary(run)['test/map_at_r']['value']:.4f}" in done.stdout
    assert "undefined: tar_at_far_1e-3, threshold_at_far_1e-3: it needs 1000 pairs" in done.stdout
    assert "the classes nearest to each other" in done.stdout


def test_another_checkpoint_goes_beside_the_best_ones_results(cli: Cli, undrawn: Path) -> None:
    before = digests(undrawn)
    cli(SCRIPT, undrawn, "--checkpoint", "last", "--split", "test")
    assert digests(undrawn, "evaluations") == before
    found = summary(undrawn / "evaluations" / "last")
    assert {name.partition("/")[0] for name in found} == {"test"}
    assert found["test/auc"]["epoch"] == 2
    last = torch.load(undrawn / "checkpoints" / "last.ckpt", weights_only=True)
    assert not (undrawn / "evaluations" / "last" / "arrays" / "validation.npz").exists()
    about = evaluation(undrawn / "evaluations" / "last")
    assert (about["checkpoint"], about["epoch"], about["data"]) == ("last", 2, "digits")
    assert {row["part"] for row in per_class(undrawn / "evaluations" / "last")} == {"test"}
    done = cli(SCRIPT, undrawn, "--checkpoint", "last.ckpt", "--split", "validation")
    assert f"evaluations/last: measured before, at {about['time']}; measured again in its place" in done.stdout
    both = summary(undrawn / "evaluations" / "last")
    assert both == both | found
    sizes = {part: len(arrays(undrawn / "evaluations" / "last", part)["labels"]) for part in ("test", "validation")}
    about = evaluation(undrawn / "evaluations" / "last")
    assert (about["split"], about["images"], about["classes"]) == (sizes, sum(sizes.values()), 10)
    assert {row["part"] for row in per_class(undrawn / "evaluations" / "last")} == {"test", "validation"}
    assert [path.name for path in (undrawn / "evaluations").iterdir()] == ["last"]
    assert last["epoch"] == 1

    assert "its figures are drawn by --figures-only: the run has figures.draw=false" in done.stdout
    folder = undrawn / "evaluations" / "last"
    assert not (folder / "figures").exists()
    for path in folder.glob("arrays/*"):
        if path.name not in ("roc_test.npz", "histogram_validation.npz"):  # a figure each
            path.unlink()
    cli(SCRIPT, undrawn, "--figures-only", "--evaluation", "last")
    assert {path.name for path in (folder / "figures").iterdir()} == {"roc.png", "similarities_validation.png"}
    assert digests(undrawn, "evaluations") == before


def evaluation(folder: Path) -> dict:
    return json.loads((folder / "evaluation.json").read_text())


def test_no_evaluation_takes_the_place_of_another(cli: Cli, undrawn: Path, tmp_path: Path) -> None:
    words = ("--data", "image_folder", "--root")
    roots = [tmp_path / name / "test" for name in ("one", "two")]
    for seed, root in enumerate(roots):
        write_folder(root, {"dog": 5 + seed, "fox": 5}, size=(8, 8), seed=seed)
        cli(SCRIPT, undrawn, *words, root, XDG_CACHE_HOME=str(tmp_path))
    folders = sorted((undrawn / "evaluations").iterdir(), key=lambda folder: len(folder.name))
    one, two = map(evaluation, folders)
    assert [folder.name for folder in folders] == [
        "best_image_folder_test",
        f"best_image_folder_test_{two['fingerprint'][:8]}",
    ]
    assert [(about["root"], about["images"], about["classes"]) for about in (one, two)] == [
        (str(roots[0]), 10, 2),
        (str(roots[1]), 11, 2),
    ]
    manifest = json.loads((undrawn / "manifest.json").read_text())
    assert {about["run_id"] for about in (one, two)} == {manifest["run_id"]}
    assert {entry["epoch"] for entry in summary(folders[0]).values()} == {one["epoch"]}
    before = [digests(folder) for folder in folders]
    (folders[1] / "summary.json").unlink()
    done = cli(SCRIPT, undrawn, *words, roots[1], XDG_CACHE_HOME=str(tmp_path))  # the same again, in its place
    assert f"{folders[1]}: measured before" in done.stdout
    (folders[0] / "evaluation.json").unlink()  # as an earlier version left it: nobody knows what of
    cli(SCRIPT, undrawn, *words, roots[0], XDG_CACHE_HOME=str(tmp_path))
    assert len(list((undrawn / "evaluations").iterdir())) == 3
    for folder, was in zip(folders, before, strict=True):
        assert {**digests(folder), "evaluation.json": ""} == {**was, "evaluation.json": ""}  # which has the time


def test_a_folder_that_holds_another_evaluation_is_refused(cli: Cli, undrawn: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cli(SCRIPT, undrawn, "--checkpoint", "last", "--split", "test", "--out", out)
    before, own = digests(out), digests(undrawn)
    said = f"error: --out {out}: already holds the evaluation of last digits; choose another directory\n"
    for words, expected in (
        (["--out", out], said),
        (
            ["--checkpoint", "last", "--out", undrawn],
            f"error: --out {undrawn}: holds the run's own results; choose another",
        ),
    ):
        done = cli(SCRIPT, undrawn, *words, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith(expected)
        assert done.stderr.count("\n") == 1
    assert (digests(out), digests(undrawn)) == (before, own)
    (out / "evaluation.json").write_text('{"data": "digits"}')
    done = cli(SCRIPT, undrawn, "--out", out, check=False)
    assert (done.returncode, done.stderr) == (1, f"error: {out}/evaluation.json: has no root\n")


def test_a_damaged_array_costs_its_figure(cli: Cli, run: Path) -> None:
    for path in [*(run / "arrays").glob("*_validation.npz"), run / "metrics.csv"]:  # what is quick to draw
        path.unlink()
    expected = {path.name for path in (run / "figures").glob("*_test.*")} | {"roc.png", "spectrum.png"}
    (run / "arrays" / "samples.npz").write_bytes(b"torn")
    shutil.rmtree(run / "figures")
    done = cli(SCRIPT, run, "--split", "test")
    assert "figures: samples could not be drawn (" in done.stdout
    assert {path.name for path in (run / "figures").iterdir()} == expected
    alone = cli(SCRIPT, run, "--figures-only", check=False)
    assert alone.returncode == 1
    assert alone.stderr.startswith(f"error: samples could not be drawn; {len(expected)} figures are in ")
    assert alone.stderr.count("\n") == 1


def test_one_part_alone_keeps_the_others_results_and_their_threshold(cli: Cli, undrawn: Path) -> None:
    before = summary(undrawn)
    table = per_class(undrawn)
    spoilt = {**before, "test/auc": {**before["test/auc"], "value": 0.0}}
    (undrawn / "summary.json").write_text(json.dumps(spoilt))
    status = json.loads((undrawn / "status.json").read_text())
    (undrawn / "status.json").write_text(json.dumps({**status, "state": "interrupted"}))
    done = cli(SCRIPT, undrawn, "--split", "test")
    assert summary(undrawn) == before
    assert per_class(undrawn) == table
    assert "the run is interrupted, not completed" in done.stdout
    assert json.loads((undrawn / "status.json").read_text())["state"] == "interrupted"
    assert "validation  " not in done.stdout.partition("┡")[0]


def test_other_images_are_measured_by_their_embeddings(cli: Cli, run: Path, tmp_path: Path) -> None:
    before = digests(run)
    folder = write_folder(tmp_path / "photos", {"dog": 12, "fox": 7, "lone": 1}, size=(20, 26))
    cli(
        SCRIPT,
        run,
        "--data",
        "image_folder",
        "--root",
        folder,
        "--out",
        tmp_path / "out",
        XDG_CACHE_HOME=str(tmp_path),
    )
    assert digests(run) == before
    found, stored = summary(tmp_path / "out"), arrays(tmp_path / "out", "test")
    assert list(stored["class_names"]) == ["dog", "fox", "lone"]
    assert len(stored["labels"]) == 20  # nothing of it was trained on, so all of it is measured
    assert "test/loss" not in found
    assert found["test/linear_probe"]["value"] is None
    assert "found a class of 1" in found["test/linear_probe"]["reason"]
    assert found["test/auc"]["value"] is not None
    assert 2 not in stored["labels"][stored["triplets"][:, 0]]
    from siamese.models import conv_small

    net = conv_small([0.5] * 3, [0.5] * 3, width=4).eval()
    weights = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    net.load_state_dict({k.removeprefix("net."): v for k, v in weights.items()})
    images = load(
        Data({"_target_": "siamese.data.image_folder"}, str(folder), cache_dir=str(tmp_path / "siamese")), 0
    ).images[:]
    assert np.allclose(stored["embeddings"], net(images).detach().numpy(), atol=1e-5)
    assert (tmp_path / "out" / "figures" / "gallery_test.png").exists()


def test_figures_alone_need_no_model(cli: Cli, run: Path) -> None:
    drawn = {path.name: path.read_bytes() for path in (run / "figures").iterdir()}
    shutil.rmtree(run / "checkpoints")
    shutil.rmtree(run / "figures")
    before = digests(run)
    done = cli(SCRIPT, run, "--figures-only")
    assert {path.name: path.read_bytes() for path in (run / "figures").iterdir()} == drawn
    assert digests(run, "figures") == before
    assert f"{len(drawn)} figures" in done.stdout


def edit_config(run: Path, group: str, key: str, value: object) -> None:
    config = yaml.safe_load((run / "config.resolved.yaml").read_text())
    config[group][key] = value
    (run / "config.resolved.yaml").write_text(yaml.safe_dump(config))


def of_another_model(run: Path) -> None:
    edit_config(run, "model", "width", 8)


def with_a_foreign_target(run: Path) -> None:
    edit_config(run, "model", "_target_", "antigravity.fly")


def with_a_damaged_checkpoint(run: Path) -> None:
    (run / "checkpoints" / "best.ckpt").write_bytes(b"torn")


def with_a_pickle_for_a_checkpoint(run: Path) -> None:
    torch.save({"state_dict": {}, "run": Path}, run / "checkpoints" / "best.ckpt")


def with_other_images(run: Path) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["data"]["fingerprint"] = "0" * 16
    (run / "manifest.json").write_text(json.dumps(manifest))


def without_best(run: Path) -> None:
    (run / "checkpoints" / "best.ckpt").unlink()


def before_its_first_epoch(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")


def without_arrays(run: Path) -> None:
    for file in (run / "arrays").iterdir():
        file.unlink()
    (run / "metrics.csv").unlink()


def as_it_is(run: Path) -> None:
    pass


def test_the_test_part_of_a_table_is_measured(cli: Cli, undrawn: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "photos", {"dog": 6, "fox": 6}, size=(20, 26))
    rows = [f"{kind}/{i:03d}.png,{kind},{'test' if i < 4 else 'train'}" for kind in ("dog", "fox") for i in range(6)]
    (tmp_path / "mine.csv").write_text("\n".join(["path,label,split", *rows]))
    words = ("--data", "label_file", "--root", folder, "--labels", tmp_path / "mine.csv")
    cli(SCRIPT, undrawn, *words, XDG_CACHE_HOME=str(tmp_path))
    (out,) = (undrawn / "evaluations").iterdir()
    assert out.name == "best_label_file_photos_mine"
    with np.load(out / "arrays" / "test.npz", allow_pickle=False) as stored:
        assert sorted(stored["ids"]) == [f"{kind}/{i:03d}.png" for kind in ("dog", "fox") for i in range(4)]


@pytest.mark.parametrize(
    ("spoil", "words", "status", "said"),
    [
        (without_best, [], 1, "best.ckpt: not found; there is last.ckpt"),
        (before_its_first_epoch, [], 1, "best.ckpt: not found; the run has not finished an epoch"),
        (with_a_damaged_checkpoint, [], 1, "best.ckpt: cannot be read as a checkpoint"),
        (with_a_pickle_for_a_checkpoint, [], 1, "best.ckpt: cannot be read as a checkpoint"),
        (of_another_model, [], 1, "best.ckpt: not a checkpoint of this run's model"),
        (with_a_foreign_target, [], 2, "model._target_=antigravity.fly: the run directory names it"),
        (with_other_images, [], 1, "digits: no longer has the images that the run was trained on"),
        (without_arrays, ["--figures-only"], 1, "arrays: holds nothing to draw figures from"),
        (as_it_is, ["--checkpoint", "epoch-0009"], 1, "epoch-0009.ckpt: not found; there is best.ckpt, last.ckpt"),
        (as_it_is, ["--chekpoint", "last"], 2, "did you mean '--checkpoint'?"),
        (as_it_is, ["--split", "train"], 2, "argument --split: invalid choice: 'train'"),
        (as_it_is, ["--data", "image_folder"], 2, "--data image_folder: needs a folder; add --root PATH"),
        (as_it_is, ["--data", "label_file", "--labels", "x.csv"], 2, "--data label_file: needs a folder; add --root"),
        (as_it_is, ["--data", "label_file", "--root", "."], 2, "--data label_file: needs a table; add --labels FILE"),
        (
            as_it_is,
            ["--data", "label_file", "--root", ".", "--labels", "no.csv"],
            2,
            "data.labels=no.csv: no such file, neither from the working directory nor below .",
        ),
        (as_it_is, ["--root", "."], 2, "data.root=.: digits has no use for it; expected null"),
        (as_it_is, ["--labels", "x.csv"], 2, "data.labels=x.csv: digits has no use for it; expected null"),
        (as_it_is, ["--data", "image_foldr"], 2, "data=image_foldr: no such option"),
        (as_it_is, ["--data", "image_folder", "--root", "/no/such"], 2, "data.root=/no/such: no such folder"),
    ],
)
def test_bad_input_gets_one_line(
    cli: Cli, run: Path, spoil: Callable[[Path], None], words: list[str], status: int, said: str
) -> None:
    spoil(run)
    before = digests(run)
    done = cli(SCRIPT, run, *words, check=False)
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert digests(run) == before


def test_directories_that_are_none_or_anothers(cli: Cli, run: Path, tmp_path: Path) -> None:
    before = digests(run)
    nothing = cli(SCRIPT, tmp_path / "nothing", check=False)
    assert (nothing.returncode, nothing.stderr.count("\n")) == (2, 1)
    assert "not a run directory" in nothing.stderr
    assert not (tmp_path / "nothing").exists()
    other = Path(shutil.copytree(run, tmp_path / "other"))
    onto = cli(SCRIPT, run, "--out", other, check=False)
    assert (onto.returncode, "already holds a run" in onto.stderr) == (2, True)
    assert digests(other) == before
    claim(run)
    try:
        held = cli(SCRIPT, run, check=False)
    finally:
        release(run)
    assert (held.returncode, "in use by process" in held.stderr) == (2, True)
    assert digests(run) == before


def test_the_table_is_every_measure_again_though_another_process_has_the_run(cli: Cli, run: Path) -> None:
    before = digests(run)
    claim(run)
    try:
        table = cli(SCRIPT, run, "--table").stdout.strip()
    finally:
        release(run)
    assert table in (run / "train.log").read_text()  # which has it from the training itself
    rows = {words[1]: words[2:] for words in map(str.split, table.replace("│", " │ ").splitlines()) if len(words) > 2}
    whole = {name.partition("/")[2] for name in summary(run) if name.count("/") == 1 and name.startswith("test/")}
    assert whole - rows.keys() == set()
    assert digests(run) == before


def test_embeddings_of_nothing_leave_named_gaps(tmp_path: Path) -> None:
    given = part(24, 3)
    given.embeddings[5] = 0
    found = evaluate_part(RunDirectory(tmp_path), given, Evaluation(), None)
    entries = part_entries(given, found.values, found, 3)
    release(tmp_path)
    assert entries["test/recall_at_1"]["value"] is None
    assert "1 of 24 embeddings are zero" in entries["test/recall_at_1"]["reason"]
    assert [line for line in said_of(given, found) if "embeddings are zero" in line]
    assert entry(float("nan"), "test", 3, "min")["reason"] == "it is nan"
    assert sorted(path.name for path in (tmp_path / "arrays").iterdir()) == ["test.npz"]
