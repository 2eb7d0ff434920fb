"""From a directory to an encoder: which run, which checkpoint, on what; and what is refused in one line."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import siamese
from siamese.errors import ConfigError, RunError
from siamese.models import EmbeddingNet, conv_small


def edit(file: Path, **changes: Any) -> None:
    """Change a JSON file's entries."""
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def several(trained: Path, folder: Path, values: dict[str, float | None]) -> Path:
    """A folder with a copy of a run for each of ``values``, its val/auc."""
    for name, value in values.items():
        run = Path(shutil.copytree(trained, folder / name))
        summary = json.loads((run / "summary.json").read_text())
        edit(run / "summary.json", **{"val/auc": summary["val/auc"] | {"value": value}})
    return folder


def test_of_several_runs_the_best_by_a_measure_is_taken(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = several(trained, tmp_path / "runs", {"a": 0.5, "b": 0.9, "c": 0.7, "d": None, "stopped": 0.99})
    edit(folder / "stopped" / "status.json", state="interrupted")
    with caplog.at_level("INFO"):
        assert siamese.load_run(folder, by="val/auc").run == folder / "b"
    assert "1 run is not completed, and left out" in caplog.text
    assert "1 run has not measured it" in caplog.text
    assert "the best of 4 runs by val/auc (0.9000)" in caplog.text
    summary = json.loads((trained / "summary.json").read_text())
    for name, loss in (("a", 0.3), ("b", 0.4), ("c", 0.2), ("d", 0.5)):
        edit(folder / name / "summary.json", **{"val/loss": summary["val/loss"] | {"value": loss}})
    assert siamese.load_run(folder, by="val/loss").run == folder / "c"  # of a loss less is better
    with pytest.raises(ConfigError, match=r"holds 4 runs \(.*/a, .*/d\); expected one of them, or the measure"):
        siamese.load_run(folder)
    with pytest.raises(ConfigError, match=r"by=val/acu: none of .* has measured it; did you mean 'val/auc'"):
        siamese.load_run(folder, by="val/acu")
    with pytest.raises(ConfigError, match="by=val/threshold_at_eer: neither more nor less of it is better"):
        siamese.load_run(folder, by="val/threshold_at_eer")
    for name in "abcd":
        edit(folder / name / "status.json", state="failed")
    with pytest.raises(RunError, match="none of its 5 runs is completed"):
        siamese.load_run(folder, by="val/auc")


def test_a_folder_of_one_run_is_that_run(trained: Path, tmp_path: Path) -> None:
    folder = several(trained, tmp_path / "runs", {"a": 0.5})
    assert siamese.load_run(folder).run == folder / "a"
    with pytest.raises(ConfigError, match=r"by=val/auc: chooses among several runs, and .*a is one"):
        siamese.load_run(folder / "a", by="val/auc")


def test_what_is_no_run_is_one_line(tmp_path: Path, run: Path) -> None:
    with pytest.raises(ConfigError, match=r"rnu: no such directory; did you mean 'run'\?"):
        siamese.load_run(tmp_path / "rnu")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="empty: holds no run; expected a run directory, or a folder of them"):
        siamese.load_run(tmp_path / "empty")
    with pytest.raises(ConfigError, match=r"train\.log: expected a run directory, found a file"):
        siamese.load_run(run / "train.log")
    with pytest.raises(RunError, match=r"epoch3\.ckpt: not found; there is best\.ckpt, last\.ckpt"):
        siamese.load_run(run, checkpoint="epoch3")
    edit(run / "manifest.json", schema_version=99)
    with pytest.raises(ConfigError, match="its schema_version is 99; this program reads up to 1"):
        siamese.load_run(run)


def test_a_checkpoint_has_to_be_there_whole_and_the_runs_own(run: Path, tmp_path: Path) -> None:
    best = run / "checkpoints" / "best.ckpt"
    whole = best.read_bytes()
    best.write_bytes(whole[:-500])
    with pytest.raises(RunError, match=r"best\.ckpt: cannot be read as a checkpoint"):
        siamese.load_run(run)
    (run / "checkpoints" / "last.ckpt").unlink()
    best.unlink()
    with pytest.raises(RunError, match=r"best\.ckpt: not found; the run has not finished an epoch"):
        siamese.load_run(run)
    best.write_bytes(whole)
    edit(run / "manifest.json", run_id="another")
    with pytest.raises(RunError, match="is a checkpoint of another run"):
        siamese.load_run(run)


class Trap:
    """What runs a command when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.file),)


def test_nothing_in_a_run_is_executed(run: Path, tmp_path: Path) -> None:
    best = run / "checkpoints" / "best.ckpt"
    trap = Trap(tmp_path / "sprung")
    best.write_bytes(pickle.dumps(trap))
    with pytest.raises(RunError, match="cannot be read as a checkpoint"):
        siamese.load_run(run)
    torch.save({"state_dict": trap}, best)
    with pytest.raises(RunError, match="cannot be read as a checkpoint"):
        siamese.load_run(run)
    assert not (tmp_path / "sprung").exists()
    config = yaml.safe_load((run / "config.resolved.yaml").read_text())
    config["model"] = {"_target_": "os.mkdir", "path": str(tmp_path / "sprung")}
    (run / "config.resolved.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match=r"model\._target_=os\.mkdir: .*to trust it: load_run with trust=os$"):
        siamese.load_run(run)
    assert not (tmp_path / "sprung").exists()


def own_model(run: Path) -> None:
    """Let the run name its model by a module of one's own."""
    config = yaml.safe_load((run / "config.resolved.yaml").read_text())
    config["model"]["_target_"] = "ownmodel.net"
    config["loss"] = {**config["loss"], "_target_": "ownloss.Gone"}  # which embedding has no need of
    (run / "config.resolved.yaml").write_text(yaml.safe_dump(config))


def test_a_model_of_ones_own_is_made_once_it_is_trusted(
    run: Path, trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_model(run)
    with pytest.raises(ConfigError, match=r"model\._target_=ownmodel\.net: .*load_run with trust=ownmodel$"):
        siamese.load_run(run)
    with pytest.raises(ConfigError, match=r"model\._target_=ownmodel\.net: cannot be imported \(No module named"):
        siamese.load_run(run, trust="ownmodel")
    (tmp_path / "ownmodel.py").write_text("from siamese.models import conv_small as net\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    image = photos / "red" / "00.jpg"
    for trust in ("ownmodel", ["ownmodel.net"]):
        found = siamese.load_run(run, trust=trust).embed(image)
        assert np.array_equal(found, siamese.load_run(trained).embed(image))


def test_loading_leaves_the_callers_random_numbers_alone(trained: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    siamese.load_run(trained)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"device": "gpu"}, "device=gpu: expected one of auto, cpu, cuda, mps; did you mean 'cpu'?"),
        ({"device": "7"}, "device=7: expected one of auto, cpu, cuda, mps"),
        ({"precision": "16"}, "precision=16: expected one of auto, 32-true, 64-true, bf16-mixed, 16-mixed"),
        ({"device": "cpu", "precision": "16-mixed"}, "the CPU has no float16"),
        ({"device": "cuda:99"}, "device=cuda:99: found"),
    ],
)
def test_a_device_or_precision_that_there_is_not_is_one_line(trained: Path, asked: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        siamese.load_run(trained, **asked)  # type: ignore[arg-type]
    assert says in str(raised.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and nothing to go without")
def test_a_run_of_a_gpu_is_used_without_one(
    run: Path, trained: Path, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = yaml.safe_load((run / "config.resolved.yaml").read_text())
    config["device"] |= {"accelerator": "cuda", "precision": "16-mixed", "devices": 4, "strategy": "ddp"}
    config["model"] |= {"pretrained": True, "weights": "/nowhere.pt"}
    (run / "config.resolved.yaml").write_text(yaml.safe_dump(config))
    encoder = siamese.load_run(run)
    assert "there is no cuda here, as the run had" in caplog.text
    assert "the CPU has no 16-mixed, as the run had; going on in 32-true" in caplog.text
    image = photos / "red" / "00.jpg"
    assert np.array_equal(encoder.embed(image), siamese.load_run(trained).embed(image))
    with pytest.raises(ConfigError, match=r"device\.accelerator=cuda: no CUDA device was found here"):
        siamese.load_run(run, device="cuda")


def test_a_run_that_is_not_completed_is_used_with_a_warning(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    edit(run / "status.json", state="interrupted")
    (run / "summary.json").unlink()
    encoder = siamese.load_run(run, checkpoint="last.ckpt")
    assert "is interrupted, not completed: this is its last.ckpt checkpoint so far" in caplog.text
    assert isinstance(encoder.network.net, EmbeddingNet)
    assert type(encoder.network.net) is type(conv_small([0.5] * 3, [0.5] * 3))


def test_the_precision_is_what_the_hardware_has(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for has, precision in ((True, "bf16-mixed"), (False, "32-true")):
        monkeypatch.setattr("siamese.training.precision.has_bf16", lambda accelerator, has=has: (has, "as it is here"))
        assert siamese.load_run(trained, precision="auto", device="cpu").network.precision == precision
