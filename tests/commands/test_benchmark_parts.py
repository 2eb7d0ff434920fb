"""What the benchmark measures of a card, of a machine's rate and of time to quality, each in small.

Nothing here depends on how long anything takes.
"""

import io
import itertools
import json
import logging
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torchvision
from PIL import Image
from rich.console import Console
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import benchmark  # noqa: E402
from benchmarks import card, fitting, gpu, quality, rate, training  # noqa: E402
from benchmarks.quality import Epoch  # noqa: E402
from benchmarks.setup import Setup, composed  # noqa: E402
from benchmarks.timing import LeftOut  # noqa: E402
from siamese.evaluation.verification import verification  # noqa: E402
from siamese.training.build import split_data  # noqa: E402

pytestmark = pytest.mark.slow
SMALL = ("model=conv_small", "model.width=4")


@pytest.fixture
def quiet():
    """What the command does to logs and warnings ends with the test."""
    with warnings.catch_warnings():
        yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def _small_notebook(monkeypatch):
    """The notebook's loop around one convolution, in place of VGG11."""
    features = lambda: nn.Sequential(nn.Conv2d(3, 512, 8, stride=8), nn.ReLU())  # noqa: E731
    monkeypatch.setattr(torchvision.models, "vgg11", lambda: SimpleNamespace(features=features()))


# -- the rate of matrix products -----------------------------------------------------------------------


def test_the_counted_flop_are_those_of_every_multiplication():
    net = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 2, stride=2), nn.Flatten())
    net.append(nn.Linear(8, 5))
    images = torch.rand(2, 2, 4, 4)
    first = sum(2 for _ in itertools.product(range(2), range(3), range(4), range(4), range(2), range(3), range(3)))
    second = sum(2 for _ in itertools.product(range(2), range(2), range(2), range(2), range(3), range(2), range(2)))
    linear = sum(2 for _ in itertools.product(range(2), range(5), range(8)))
    # Backward: a gradient of the weights and one of what went in, but for the images, of which none is wanted.
    assert rate.flop_of(lambda: net(images).sum()) == 2 * first + 3 * second + 3 * linear


def test_a_step_of_ours_has_the_flop_of_its_layers():
    setup = Setup(1, 1, None, images=(300, 40), batch=4, also=SMALL)
    ours, found = training.Ours(setup.source, setup.config("device=cpu")), []

    def count(layer, given, made):
        taps = layer.weight[0].numel()  # multiplications for each number that the layer makes
        found.append(2 * made.numel() * taps * (2 + (len(found) > 0)))

    for layer in ours.module.net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    counted = rate.flop_of(lambda: ours.loss(next(ours.batches)))
    assert len(found) == 5
    assert counted == sum(found)


def test_a_product_is_of_the_asked_type_and_its_precision_is_put_back(monkeypatch):
    monkeypatch.setitem(rate.SIDES, "cpu", 32)
    seen, mm, before = [], torch.mm, torch.get_float32_matmul_precision()
    monkeypatch.setattr(torch, "mm", lambda a, b, out: seen.append((a.dtype, *a.shape)) or mm(a, b, out=out))
    assert rate.seconds_a_product("cpu", torch.bfloat16) > 0
    assert seen == [(torch.bfloat16, 32, 32)] * rate.PRODUCTS["cpu"]
    with rate._as_convolutions_are("cuda"):
        assert torch.get_float32_matmul_precision() == "high"  # TF32, as cuDNN's
    assert torch.get_float32_matmul_precision() == before


def test_the_share_is_of_the_rate_in_the_same_turn(monkeypatch):
    monkeypatch.setitem(rate.SIDES, "cpu", 1000)  # 2 GFLOP a product
    found = rate.share_reached("a step", "cpu", 16 * 10**9, [2.0, 4.0, 5.0], [0.125, 0.25, 0.5])
    assert found["values"] == [0.5, 0.5, 0.8]  # 8, 4 and 3.2 of 16, 8 and 4 GFLOP/s
    assert (found["median"], found["target"], found["met"]) == (0.5, 0.8, False)
    assert found["note"] == "a step reaches 50% of this machine's 8 GFLOP/s of matrix products (16 GFLOP in 4 s)"


@pytest.mark.usefixtures("_small_notebook")
def test_the_share_stands_beside_the_step_where_the_cpu_has_the_type(monkeypatch):
    monkeypatch.setitem(rate.SIDES, "cpu", 32)
    monkeypatch.setattr(training, "notebooks_process", lambda: ThreadPoolExecutor(1))
    asked, product = [], rate.seconds_a_product
    monkeypatch.setattr(training, "seconds_a_product", lambda *what: asked.append(what) or product(*what))
    setup = Setup(1, 1, None, images=(300, 40), batch=2, also=SMALL)
    for device, has, dtype in (("cpu", False, torch.float32), ("cpu_bf16", True, torch.bfloat16)):
        monkeypatch.setattr(training, "has_bf16", lambda _, has=has: (has, ""))
        speed, share = training.against_notebook(device, 1.0, setup)
        assert asked == [("cpu", dtype)] * 2  # a turn before the one that counts
        assert share["samples"]["seconds"] == speed["samples"]["ours"]
        assert share["note"].startswith(f"a step of 2 triplets in {'bf16' if has else 'float32'} reaches ")
        asked.clear()
    monkeypatch.setattr(training, "has_bf16", lambda _: (False, ""))
    assert len(training.against_notebook("cpu_bf16", 1.0, setup)) == 1
    assert asked == []


# -- the card ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_small_notebook")
def test_all_that_is_measured_on_a_card_can_be_measured_in_small_on_the_cpu(monkeypatch):
    monkeypatch.setitem(rate.SIDES, "cpu", 32)
    monkeypatch.setattr(gpu, "STEPS", 1)
    monkeypatch.setattr(gpu, "STEPS_A_TURN", 1)
    monkeypatch.setattr(training.seconds_a_step, "__defaults__", (1,))
    monkeypatch.setattr(gpu, "WINDOW", 2)
    assert gpu.IN_WINDOW == 16
    setup = Setup(1, 2, None, images=(300, 40), batch=2, also=SMALL)
    found = [*gpu.step(setup), *gpu.epoch(setup), *gpu.windows(setup), *gpu.evaluate(setup, 200)]
    whole = Setup(1, 2, None, images=(300, 40), also=("model.widths=[4,8,8]",))
    found += [*gpu.experiment("article", setup, epochs=2), *gpu.experiment("from_scratch", whole, epochs=2)]
    named = {one["what"]: one for one in found}
    assert len(named) == len(found)
    for device in ("cpu", "cpu_bf16"):
        step = named[f"speed of a step of 2 triplets under device={device}, of the notebook's in float32"]
        assert step["values"] == [step["samples"]["notebook"][0] / step["samples"]["ours"][0]]
        share = named[f"rate of a step of 2 triplets under device={device}, of this machine's matrix products"]
        assert share["samples"]["seconds"] == step["samples"]["ours"]
        window = f"a window of 2 × 16 triplets under device={device}"
        times = named[f"time of {window}, exact, of naive's"]["samples"]
        assert set(times) == {"naive", "exact", "full"}
        assert named[f"time of {window}, exact, of the full batch's"]["values"] == [
            times["exact"][0] / times["full"][0]
        ]
        for name, of in (("article", setup), ("from_scratch", whole)):
            data = split_data(composed(of.experiment(f"experiment={name}", "device=cpu")), of.source)
            epochs = named[f"an epoch of experiment={name} under device={device} ({len(data.loader)} steps)"]
            assert len(epochs["values"]) == 2
            assert epochs["low"] > 0


def test_a_peak_is_of_what_a_run_adds_to_what_the_card_holds(monkeypatch):
    held = [700]  # bytes now, and the greatest so far
    greatest = [900]
    for name in ("synchronize", "ones"):
        monkeypatch.setattr(torch if name == "ones" else torch.cuda, name, lambda *_, **__: torch.zeros(2, 2))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: held[0])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: greatest.__setitem__(0, held[0]))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: greatest[0])

    def run() -> str:
        greatest[0] = max(greatest[0], held[0] + 50)
        return "done"

    assert card.with_peak("cuda", run) == ("done", 50.0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_one_line_says_so(quiet):
    with pytest.raises(SystemExit, match=r"^error: --gpu: expected a CUDA card, torch \S+ finds none$"):
        benchmark.main(["--gpu"])


def test_a_measurement_that_there_is_not_is_refused(capsys, quiet):
    for words, expected in ((["--only", "stepp"], "did you mean 'step'?"), (["--gpu", "--only", "losses"], "--gpu")):
        with pytest.raises(SystemExit) as ended:
            benchmark.main(words)
        assert ended.value.code == 2
        assert expected in capsys.readouterr().err


# -- time to quality -----------------------------------------------------------------------------------

EPOCHS = [Epoch(10.0, 0.7), Epoch(20.0, 0.94), Epoch(15.0, 0.91), Epoch(30.0, 0.99)]


def test_a_quality_is_reached_at_the_end_of_the_first_epoch_that_has_it():
    assert quality.reached(EPOCHS, 0.90, 100) == 30.0
    assert quality.reached(EPOCHS, 0.94, 100) == 30.0
    assert quality.reached(EPOCHS, 0.95, 75) == 75.0
    assert quality.reached(EPOCHS, 0.95, 74) is None  # the epoch that has it ends too late
    assert quality.reached([], 0.90, 100) is None
    assert quality.shortfall(EPOCHS, 74) == "not within 74 s (best AUC 0.940, epochs 3, which took 45 s)"
    assert quality.shortfall(EPOCHS, 9) == "not within 9 s (no epoch ended)"
    found = quality.told({"it": EPOCHS}, 74)
    assert [one["values"] for one in found] == [[30.0], [30.0], []]
    assert found[2]["note"] == f"until a validation AUC of 0.95: it: {quality.shortfall(EPOCHS, 74)}"
    json.dumps(found)


def test_what_was_not_reached_stands_in_the_table_and_below_it():
    console = Console(record=True, width=200, file=io.StringIO())
    facts = {"load": 0.0, "cores": 2}
    report = {"measurements": {"quality": quality.told({"it": EPOCHS}, 74)}, "left_out": {"step": "it is tired"}}
    benchmark.show({**report, "machine": facts, "repeats": 1, "command": "it"}, console)
    lines = console.export_text().splitlines()
    rows = [line.split("│")[2:] for line in lines if line.startswith("│")]
    assert [row[0].strip() for row in rows] == [f"until a validation AUC of {auc:.2f}: it" for auc in quality.AUC]
    assert [row[1].strip() for row in rows] == ["30.000 s", "30.000 s", "–"]
    assert rows[2][-2].strip() == "not reached"
    assert f"until a validation AUC of 0.95: it: {quality.shortfall(EPOCHS, 74)}" in lines
    assert "step is left out: it is tired" in lines


def test_quality_without_images_is_left_out_and_the_report_says_why(tmp_path, capsys, quiet):
    with pytest.raises(LeftOut):
        quality.quality(Setup(1, 1, None))
    benchmark.main(["--only", "quality", "--json", str(tmp_path / "report.json")])
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["measurements"] == {}
    assert report["left_out"]["quality"].startswith("it needs --data-root")
    assert "quality is left out: it needs --data-root" in capsys.readouterr().out


@pytest.fixture
def coloured(tmp_path) -> Path:
    """Ten classes of twenty images of 32x32, each in a colour of its own with some noise."""
    random = np.random.default_rng(0)
    for label, number in itertools.product(range(10), range(20)):
        colour = random.integers(40, 215, 3) if number == 0 else colour  # noqa: F821 (of the class so far)
        folder = tmp_path / "images" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.clip(colour + random.normal(0, 20, (32, 32, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "images"


@pytest.mark.usefixtures("_small_notebook")
def test_all_contestants_train_and_are_measured_on_the_same_images(coloured, monkeypatch, tmp_path):
    monkeypatch.setattr(quality, "notebooks_process", lambda: ThreadPoolExecutor(1))
    few = ("data.batch_size=20", "batches.images_per_class=2", "trainer.max_epochs=3")
    monkeypatch.setitem(quality.EXPERIMENTS, "experiment=from_scratch", ("experiment=from_scratch", *few))
    measured, curve = [], verification
    for place in ("siamese.training.module.verification", "benchmarks.quality.verification"):
        monkeypatch.setattr(place, lambda z, t: measured.append((len(z), t.tolist())) or curve(z, t))
    also = (*SMALL, f"data.cache_dir={tmp_path}/cache")
    setup = Setup(1, 1, coloured, quality_seconds=3, also=also)
    found = quality.quality(setup)
    assert len(found) == 9
    assert {one["what"].partition(": ")[2] for one in found} == {"the notebook's loop", *quality.EXPERIMENTS}
    assert all((one["values"] and one["values"][0] <= 3) or "not within 3 s" in one["note"] for one in found)
    assert len(measured) >= 1 + 2 + 2  # the notebook's epochs, and before and after each epoch of ours
    assert all(one == measured[0] for one in measured)


class Keep(pl.Callback):
    """Keeps the module as it is at the end."""

    def on_fit_end(self, trainer, pl_module):
        self.module = pl_module


def test_the_auc_of_the_notebook_is_that_of_ours_with_the_same_weights():
    setup = Setup(1, 1, None, images=(300, 40), batch=4)
    keep, config = Keep(), setup.config("device=cpu")
    rows = fitting.fit(setup.source, config, keep)
    assert [row["epoch"] for row in rows] == ["0", "1"]
    data = keep.module.data
    notebook = training.Notebook(torch.zeros(1, 3, 3, 32, 32), data.mean, data.std)
    notebook.net[0].load_state_dict(keep.module.net.backbone.state_dict())
    notebook.net[3].load_state_dict(keep.module.net.projection.state_dict())
    index = torch.from_numpy(data.parts["validation"])
    embeddings = quality.embedded(notebook, setup.source.images[index], 8)
    triplets = torch.searchsorted(index, torch.from_numpy(data.triplets["validation"]))
    torch.testing.assert_close(nn.functional.normalize(embeddings), keep.module.embeddings, rtol=1e-3, atol=1e-4)
    assert verification(embeddings, triplets)["auc"] == pytest.approx(float(rows[1]["val/auc"]), abs=0.02)


def test_training_ends_with_the_first_epoch_that_is_good_enough(monkeypatch):
    setup = Setup(1, 1, None, images=(300, 40), batch=4, also=SMALL)
    config = setup.config("device=cpu", "trainer.max_epochs=4")
    monkeypatch.setattr(quality, "AUC", (0.0,))
    assert len(quality.our_epochs(setup, config)) == 1
    monkeypatch.setattr(quality, "AUC", (1.1,))
    epochs = quality.our_epochs(setup, config)
    assert len(epochs) == 4
    assert all(epoch.seconds > 0 and 0 <= epoch.auc <= 1 for epoch in epochs)
