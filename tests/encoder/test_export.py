"""scripts/export.py: the files against the checkpoint, the lines of docs/export.md without torch, what is refused."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from docs.pages import blocks
from support.processes import ROOT, Cli

import siamese
from siamese.commands import export
from siamese.encoder import Encoder, exported
from siamese.encoder.own_images import own_test_images
from siamese.errors import RunError

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (pip install onnxruntime)")
SCRIPT = "scripts/export.py"


@pytest.fixture(scope="module")
def encoder(trained: Path) -> Encoder:
    return siamese.load_run(trained)


@pytest.fixture(scope="module")
def mine(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the run, which is exported into."""
    return Path(shutil.copytree(trained, tmp_path_factory.mktemp("exported") / "run"))


@pytest.fixture(scope="module")
def file(cli: Cli, mine: Path) -> Path:
    """The run as ONNX."""
    done = cli(SCRIPT, mine)
    said = done.stdout.splitlines()
    assert said[1].startswith("differs from best.ckpt by at most ")
    assert float(said[1].split()[6]) < 1e-5
    assert said[1].endswith("on 54 test images")
    assert said[2].startswith(f"{mine}/encoder.onnx: 0.0")
    return mine / "encoder.onnx"


@pytest.fixture(scope="module")
def paths(photos: Path, trained: Path) -> list[Path]:
    with np.load(trained / "arrays" / "test.npz") as stored:
        return [photos / str(name) for name in stored["ids"]]


def pixels(encoder: Encoder) -> np.ndarray:
    """The run's test images, uint8 [54, 3, 16, 16]."""
    return own_test_images(encoder.run, encoder.config, (), None, "").some(100).numpy()


def test_the_file_embeds_as_the_checkpoint_does(file: Path, encoder: Encoder, paths: list[Path]) -> None:
    embed, images, z = exported.onnx_runner(file.read_bytes()), pixels(encoder), encoder.embed(paths)
    for size in (1, 5, 54):
        found = np.concatenate([embed(images[start : start + size]) for start in range(0, 54, size)])
        assert found.dtype == np.float32
        assert np.abs(found - z).max() < 1e-5


def test_the_file_says_what_it_is(file: Path, trained: Path) -> None:
    session = importlib.import_module("onnxruntime").InferenceSession(file)
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape[1:]) == ("images", "tensor(uint8)", [3, 16, 16])
    assert isinstance(given.shape[0], str)  # free
    facts = session.get_modelmeta().custom_metadata_map
    summary, manifest = (json.loads((trained / f"{name}.json").read_text()) for name in ("summary", "manifest"))
    assert facts["run_id"] == manifest["run_id"]
    assert json.loads(facts["classes"]) == ["blue", "green", "red"]
    assert json.loads(facts["image_size"]) == [16, 16]
    assert facts["fit"] == "crop"
    assert float(facts["threshold"]) == summary["val/threshold_at_eer"]["value"]
    assert (facts["checkpoint"], facts["epoch"]) == ("best", str(summary["val/auc"]["epoch"]))


@pytest.mark.parametrize("name", ["00.jpg", "01.png"])
def test_the_lines_of_the_page_embed_without_torch_and_without_us(
    file: Path, encoder: Encoder, photos: Path, tmp_path: Path, name: str
) -> None:
    (lines,) = [block.lines for block in blocks(ROOT / "docs" / "export.md") if block.language == "python"]
    assert len([line for line in lines if line and "import" not in line]) <= 10
    shutil.copy(file, tmp_path)
    shutil.copy(photos / "red" / name, tmp_path / "photo.jpg")
    before = "import sys; sys.modules['torch'] = sys.modules['siamese'] = None"
    code = "\n".join([before, *lines, "print(*embedding)"])
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = np.array(done.stdout.split(), dtype=float)
    assert np.abs(found - encoder.embed(photos / "red" / name)[0]).max() < 1e-3  # of a level here and there


def test_eight_bits_cost_little_and_say_the_same(file: Path, encoder: Encoder) -> None:
    model = file.read_bytes()
    small = exported.quantized(encoder, model)
    assert len(small) < len(model)
    embed, images = exported.onnx_runner(small), pixels(encoder)
    apart = np.abs(embed(images) - encoder.embed(images))
    assert 1e-4 < apart.max() < 0.2
    tested = own_test_images(encoder.run, encoder.config, (), None, "")
    assert (
        tested.recall_at_1(encoder, exported.onnx_runner(model))
        == f"{encoder.summary['test/recall_at_1']['value']:.4f}"
    )
    assert float(tested.recall_at_1(encoder, lambda images: embed(images) * 0 + 1)) < 0.6
    onnx = importlib.import_module("onnx")
    facts = [{p.key: p.value for p in onnx.load_from_string(one).metadata_props} for one in (model, small)]
    assert facts[0] == facts[1]


@pytest.mark.slow
def test_eight_bits_are_exported_with_what_they_cost(cli: Cli, mine: Path, encoder: Encoder) -> None:
    said = cli(SCRIPT, mine, "--int8").stdout.splitlines()
    recall = f"{encoder.summary['test/recall_at_1']['value']:.4f}"
    assert said[2].startswith(f"recall_at_1 of 54 test images: {recall}, with 8 bits 0.")
    assert exported.onnx_runner((mine / "encoder.int8.onnx").read_bytes())(pixels(encoder)).shape == (54, 16)


def test_torch_loads_it_without_us(encoder: Encoder, paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "encoder.pt2").write_bytes(exported.as_torch(encoder))
    said = {"siamese.json": ""}
    module = torch.export.load(tmp_path / "encoder.pt2", extra_files=said).module()
    facts = json.loads(said["siamese.json"])
    assert facts == exported.facts(encoder)
    for size in (1, 9, 54):
        some = torch.from_numpy(pixels(encoder))[:size]
        assert np.abs(module(some).detach().numpy() - encoder.embed(paths[:size])).max() < 1e-6


def test_what_differs_is_refused(encoder: Encoder) -> None:
    images = torch.from_numpy(pixels(encoder))
    z = encoder.embed_pixels(images).numpy()

    def off(by: float) -> exported.Embed:
        parts: Iterator[np.ndarray] = iter(np.split(z + np.eye(54, 16, -50) * by, [1]))  # one image alone, and the rest
        return lambda images: next(parts)

    assert exported.difference(encoder, off(9e-5), images) == pytest.approx(9e-5, rel=1e-2)
    for by in (2e-4, np.nan):
        with pytest.raises(
            RunError, match=r"differs from best\.ckpt by .*; expected at most 0\.0001; nothing is written"
        ):
            exported.difference(encoder, off(by), images)


def test_nothing_is_written_of_what_differs(
    mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    as_torch = exported.as_torch

    def changed(encoder: Encoder) -> bytes:
        other = siamese.load_run(mine)
        other.network.net.projection.weight.data += 0.01  # type: ignore[operator, union-attr]
        return as_torch(other)

    monkeypatch.setattr(exported, "as_torch", changed)
    with pytest.raises(SystemExit) as ended:
        export.main([str(mine), "--format", "torch"])
    assert ended.value.code == 1
    assert "nothing is written" in capsys.readouterr().err
    assert not (mine / "encoder.pt2").exists()


def test_samples_are_compared_where_the_images_are_gone(run: Path, photos: Path, cli: Cli, tmp_path: Path) -> None:
    config = (run / "config.resolved.yaml").read_text()
    (run / "config.resolved.yaml").write_text(config.replace(str(photos), str(tmp_path / "gone")))
    done = cli(SCRIPT, run, "--format", "torch", "--checkpoint", "last", "--out", tmp_path / "new" / "e.pt2")
    assert "gone: no such folder; samples of the run are compared in their place" in done.stdout
    assert "differs from last.ckpt by at most" in done.stdout
    assert "on 15 samples" in done.stdout
    said = {"siamese.json": ""}
    torch.export.load(tmp_path / "new" / "e.pt2", extra_files=said)
    assert "threshold" not in json.loads(said["siamese.json"])
    refused = cli(SCRIPT, run, "--int8", check=False)
    assert "no such folder; --int8 needs the test images to measure what it costs" in refused.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--format onxx", "--format onxx: expected onnx or torch; did you mean 'onnx'?"),
        ("--format torch --int8", "--int8: expected --format onnx, found torch"),
        ("--out {run}/manifest.json", "manifest.json: already exists; choose another name"),
        ("--format torch --checkpoint beast", "beast.ckpt: not found; there is best.ckpt, last.ckpt"),
    ],
)
def test_what_is_wrong_is_one_line(cli: Cli, trained: Path, words: str, says: str) -> None:
    done = cli(SCRIPT, trained, *words.format(run=trained).split(), check=False)
    assert done.returncode in (1, 2)
    assert done.stderr.count("\n") == 1
    assert says in done.stderr


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_what_is_not_installed_is_said_with_its_extra(trained: Path, tmp_path: Path, package: str) -> None:
    (tmp_path / f"{package}.py").write_text("raise ModuleNotFoundError('No module named that')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, SCRIPT, str(trained)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    says = f"error: --format onnx: {package} is not installed; pip install -e '.[export]' installs it\n"
    assert done.stderr == says


def test_a_network_that_cannot_be_exported_is_one_line(trained: Path) -> None:
    encoder = siamese.load_run(trained)

    class Loud(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.float().mean((2, 3)) * float(images.float().std())  # a number that a graph does not have

    encoder.network.net = Loud()  # type: ignore[assignment]
    with pytest.raises(RunError, match=r"siamese\.models\.conv_small cannot be exported \("):
        exported.as_torch(encoder)
