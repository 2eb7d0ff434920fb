"""The benchmark's command line, its arithmetic, and that its two sides train the same thing.

Nothing here depends on how long anything takes.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import benchmark  # noqa: E402
from benchmarks import fitting, timing, training  # noqa: E402
from benchmarks.setup import Setup, random_images  # noqa: E402

pytestmark = pytest.mark.slow


def command(*words: str) -> str:
    wide = os.environ | {"COLUMNS": "200"}
    line = [sys.executable, "scripts/benchmark.py", *words]
    done = subprocess.run(line, cwd=ROOT, env=wide, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_names_every_measurement_and_the_shape_of_the_file(cli):
    shown = cli("scripts/benchmark.py", "--help").stdout
    for name in (*benchmark.MEASUREMENTS, *benchmark.gpu.MEASUREMENTS):
        assert f"\n  {name} " in shown
    assert "schema_version" in shown


def test_startup_writes_its_report(tmp_path):
    file = tmp_path / "report.json"
    shown = command("--only", "startup", "--repeats", "2", "--json", str(file))
    report = json.loads(file.read_text())
    assert list(report) == ["schema_version", "command", "repeats", "machine", "measurements", "left_out"]
    assert (report["schema_version"], report["repeats"]) == (1, 2)
    assert report["command"] == f"python scripts/benchmark.py --only startup --repeats 2 --json {file}"
    assert set(report["machine"]) >= {"cpu", "cores", "threads", "load", "torch"}
    assert list(report["measurements"]) == ["startup"]
    described, helped = report["measurements"]["startup"]
    for found in (described, helped):
        assert set(found) == {
            *("what", "unit", "median", "low", "high"),
            *("sense", "target", "met", "note", "values", "samples"),
        }
        assert len(found["values"]) == 2
        assert 0 < found["low"] <= found["median"] <= found["high"]
        assert found["unit"] == "s"
        assert found["what"] in shown
    assert described["target"] == 0.8
    assert described["met"] is (described["median"] < 0.8)
    assert (helped["target"], helped["met"]) == (None, None)


def test_ratios_are_of_neighbours_and_their_spread_is_of_the_ratios():
    # 3/2, 8/4 and 5/5: the median of the ratios is 1.5, the ratio of the medians would be 5/4.
    ratios = timing.paired_ratios([3.0, 8.0, 5.0], [2.0, 4.0, 5.0])
    assert ratios == [1.5, 2.0, 1.0]
    assert timing.spread(ratios) == {"median": 1.5, "low": 1.0, "high": 2.0}
    assert timing.spread([4.0, 1.0]) == {"median": 2.5, "low": 1.0, "high": 4.0}
    with pytest.raises(ValueError, match="zip"):
        timing.paired_ratios([1.0], [1.0, 2.0])


def test_sides_take_turns_and_the_first_turn_is_dropped():
    taken: list[str] = []

    def side(name: str, values: list[float]):
        def turn() -> float:
            taken.append(name)
            return values.pop(0)

        return turn

    found = timing.interleaved({"a": side("a", [9.0, 1.0, 2.0]), "b": side("b", [8.0, 3.0, 4.0])}, 2)
    assert taken == ["a", "b"] * 3
    assert found == {"a": [1.0, 2.0], "b": [3.0, 4.0]}


@pytest.mark.parametrize(
    ("sense", "target", "met"),
    [("≥", 2.0, True), ("≥", 2.1, False), ("≤", 2.0, True), ("≤", 1.9, False), ("<", 2.0, False), ("<", None, None)],
)
def test_the_median_is_held_against_the_target(sense, target, met):
    assert timing.result("", "×", [1.0, 2.0, 9.0], sense, target)["met"] is met


def test_both_sides_have_one_loss_and_one_gradient_on_the_same_triplets():
    setup = Setup(repeats=1, epoch_steps=1, data_root=None)
    still = ("data.augment.crop_padding=0", "data.augment.flip=false")
    source = random_images(train=1500, test=100)
    ours = training.Ours(source, setup.config("device=cpu", "data.batch_size=8", *still))
    batch = next(iter(ours.data.loader))
    pixels = source.images[batch.images.view(3, 8).t()] / 255  # [8, 3, 3, 32, 32]
    notebook = training.Notebook(pixels.double(), ours.data.mean, ours.data.std, augment=False)
    notebook.net[0].load_state_dict(ours.module.net.backbone.state_dict())
    notebook.net[3].load_state_dict(ours.module.net.projection.state_dict())
    for net in (ours.module.net, notebook.net):
        net.double()  # random weights embed all images alike, and differences of likes need the digits

    # The notebook's loader shuffles; the mean over the triplets does not mind.
    losses = [ours.loss(batch), notebook.loss(next(notebook.batches))]
    for loss in losses:
        loss.backward()
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-6)
    for one, other in zip(ours.module.net.parameters(), notebook.net.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5 * other.grad.abs().max().item())


def test_the_fitted_and_the_bare_epoch_end_at_the_same_weights(monkeypatch):
    modules = []
    build = training.build
    for place in (training, fitting):
        monkeypatch.setattr(place, "build", lambda *what: modules.append(build(*what)) or modules[-1])
    setup = Setup(repeats=1, epoch_steps=2, data_root=None)
    config, source = setup.config("device=cpu", "data.batch_size=8"), random_images(train=400, test=40)
    assert training.fitted_epoch(source, config) > 0
    assert training.bare_epoch(source, config) > 0
    fitted, bare = (module.net.state_dict() for module in modules)
    assert all(torch.equal(fitted[name], bare[name]) for name in fitted)
