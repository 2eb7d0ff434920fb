"""Fashion-MNIST's files, the measurement of pairs, and the contrastive experiment on them."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from sklearn.metrics import roc_auc_score
from support.idx import digits, write_idx
from support.processes import ROOT
from torchvision.datasets import FashionMNIST

from siamese.config.data import Data
from siamese.config.targets import find_target
from siamese.config.validate import validate
from siamese.data import load
from siamese.data.sources import fashion_mnist
from siamese.errors import ConfigError, RunError
from siamese.evaluation.given_pairs import pair_verification
from siamese.training.check import Command, job_config
from siamese.training.run import train

OFFICIAL = {
    name: path
    for name, path in {
        "environment": os.environ.get("SIAMESE_FASHION_MNIST"),
        "debian": str(fashion_mnist.DEBIAN),
    }.items()
    if path and Path(path).is_dir()
}


Files = dict[str, np.ndarray]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """Small files in the official form in tmp_path, known as official: a brighter square for each class."""
    made: Files = {}
    for i, (part, per_class) in enumerate((("train", 30), ("t10k", 12))):
        images, labels = digits(10, per_class, seed=i)
        made |= {f"{part}-images-idx3-ubyte": images, f"{part}-labels-idx1-ubyte": labels}
        for name, values in list(made.items())[2 * i :]:
            write_idx(tmp_path / f"{name}{'.gz' * (i == 0)}", values, compress=i == 0)
    sums = {}
    for name in made:
        path = tmp_path / name
        content = path.read_bytes() if path.exists() else gzip.decompress((tmp_path / f"{name}.gz").read_bytes())
        sums[name] = hashlib.md5(content).hexdigest()
    monkeypatch.setattr(fashion_mnist, "FILES", sums)
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "nothing")
    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    return made


def read(folder: Path, **changes: Any) -> Data:
    return dataclasses.replace(
        Data(source={"_target_": "siamese.data.fashion_mnist"}, root=str(folder), image_size=28, download=False),
        **changes,
    )


# -- the files -------------------------------------------------------------------------------------


def test_plain_and_compressed_files_become_three_equal_channels(files: Files, tmp_path: Path) -> None:
    source = load(read(tmp_path), 0)
    expected = np.concatenate([files["train-images-idx3-ubyte"], files["t10k-images-idx3-ubyte"]])
    assert source.images.shape == (420, 3, 28, 28)
    assert source.images.dtype == torch.uint8
    for channel in range(3):
        assert np.array_equal(source.images[:, channel].numpy(), expected)
    labels = np.concatenate([files["train-labels-idx1-ubyte"], files["t10k-labels-idx1-ubyte"]])
    assert np.array_equal(source.labels.numpy(), labels)
    assert source.labels.dtype == torch.int64
    assert source.is_test.tolist() == [False] * 300 + [True] * 120
    assert (source.ids[0], source.ids[300], source.ids[-1]) == ("train/00000", "test/00000", "test/00119")
    assert source.class_names[9] == "Ankle boot"
    assert load(read(tmp_path, image_size=32), 0).images.shape == (420, 3, 32, 32)


def test_the_files_are_found_where_debian_and_torchvision_put_them(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load(read(tmp_path), 0).images
    raw = tmp_path / "root" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for file in tmp_path.glob("*ubyte*"):
        file.rename(raw / file.name)
    assert torch.equal(load(read(tmp_path / "root"), 0).images, expected)
    monkeypatch.setattr(fashion_mnist, "DEBIAN", raw)
    assert torch.equal(load(read(tmp_path, root=None), 0).images, expected)


def flip_a_byte(path: Path) -> None:
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[100] ^= 1
    path.write_bytes(gzip.compress(bytes(content)))


IMAGES = "train-images-idx3-ubyte.gz"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: f.write_bytes(f.read_bytes()[:500]), f"{IMAGES}: cannot be read (Compressed file ended before"),
        (lambda f: f.write_bytes(b"no gzip"), f"{IMAGES}: cannot be read (Not a gzipped file"),
        (lambda f: f.write_bytes(b""), f"{IMAGES}: not the official file, or damaged"),
        (flip_a_byte, f"{IMAGES}: not the official file, or damaged (MD5 of its contents "),
        (Path.unlink, "expected train-images-idx3-ubyte or train-images-idx3-ubyte.gz, found neither"),
        (lambda f: [x.unlink() for x in f.parent.glob("*ubyte*")], "set data.download=true"),
    ],
)
def test_bad_files_are_named_in_one_line(
    files: Files, tmp_path: Path, spoil: Callable[[Path], object], says: str
) -> None:
    spoil(tmp_path / IMAGES)
    with pytest.raises(RunError) as raised:
        load(read(tmp_path), 0)
    assert says in str(raised.value)
    assert str(tmp_path) in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_download_that_fails_says_what_to_do(files: Files, tmp_path: Path) -> None:
    with pytest.raises(RunError) as raised:
        load(read(tmp_path / "empty", download=True), 0)
    for part in ("empty: Fashion-MNIST could not be downloaded", "t10k-labels-idx1-ubyte.gz", "dataset-fashion-mnist"):
        assert part in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.skipif(
    not OFFICIAL, reason="no official files: install dataset-fashion-mnist or set SIAMESE_FASHION_MNIST"
)
def test_the_official_files_have_their_sums_and_counts() -> None:
    source = load(read(Path(next(iter(OFFICIAL.values())))), 0)
    assert source.images.shape == (70_000, 3, 28, 28)
    assert np.bincount(source.labels[~source.is_test]).tolist() == [6000] * 10
    assert np.bincount(source.labels[source.is_test]).tolist() == [1000] * 10
    assert source.labels[:5].tolist() == [9, 0, 0, 3, 0]


# -- measuring pairs -------------------------------------------------------------------------------


def test_pair_verification_against_a_loop_and_scikit_learn() -> None:
    random = np.random.default_rng(0)
    z, labels = random.normal(0, 0.5, (30, 2)), random.integers(0, 3, 30)
    z[7] = z[8]
    pairs = random.integers(0, 30, (200, 2))
    right, distances, same = 0, [], []
    for i, j in pairs:
        distance = sum((a - b) ** 2 for a, b in zip(z[i], z[j], strict=True)) ** 0.5
        right += (distance < 0.5) == (labels[i] == labels[j])
        distances.append(distance)
        same.append(labels[i] == labels[j])
    found = pair_verification(torch.from_numpy(z), torch.from_numpy(labels), torch.from_numpy(pairs), 0.5)
    assert found["pair_accuracy"] == pytest.approx(right / 200)
    assert found["pair_auc"] == pytest.approx(roc_auc_score(same, -np.array(distances)), abs=1e-6)


def test_a_pair_at_the_threshold_counts_as_of_two_classes() -> None:
    z = torch.tensor([[0.0], [0.5], [3.0]])
    found = pair_verification(z, torch.tensor([0, 0, 1]), torch.tensor([[0, 1], [0, 2]]), 0.5)
    assert found == {"pair_accuracy": 0.5, "pair_auc": 1.0}


# -- the experiment --------------------------------------------------------------------------------


def trained(where: Path, *words: str) -> dict[str, dict[str, float]]:
    """The summary of ``python train.py WORDS hydra.run.dir=WHERE``, run in this process."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", [*words, f"hydra.run.dir={where}"], return_hydra_config=True)
        config.hydra.runtime.output_dir = str(where)
        HydraConfig.instance().set_config(config)
        train(Command(job_config(config), words), where)
    summary = json.loads((where / "summary.json").read_text())
    assert isinstance(summary, dict)
    return summary


def test_the_contrastive_experiment_learns_and_reports_its_pairs(files: Files, tmp_path: Path) -> None:
    where = tmp_path / "run"
    (where / ".hydra").mkdir(parents=True)
    summary = trained(
        where,
        "experiment=keras_contrastive",
        f"data.root={tmp_path}",
        "trainer.max_epochs=6",
        "data.val_fraction=0.2",
        "data.batch_size=16",
        "callbacks.progress_bar=false",
    )
    for part in ("train", "val", "test"):
        for name in ("pair_accuracy", "pair_auc"):
            entry = summary[f"{part}/{name}"]
            assert entry["direction"] == "max"
            assert 0.8 < entry["value"] <= 1, (part, name, entry)
    with np.load(where / "arrays" / "test.npz") as stored:
        z, labels = stored["embeddings"], stored["labels"]
    assert (z >= 0).all()
    assert z.std() > 0
    assert abs(np.linalg.norm(z, axis=1).mean() - 1) > 1e-3  # not normalised
    n = np.bincount(labels).min() - 1
    members = [np.flatnonzero(labels == label) for label in range(10)]
    positive = np.concatenate([np.linalg.norm(z[m[:n]] - z[m[1 : n + 1]], axis=1) for m in members])
    for part in ("train", "test"):
        assert (where / "figures" / f"pairs_{part}.png").stat().st_size > 10_000
        with np.load(where / "arrays" / f"pairs_{part}.npz") as stored:
            assert stored["images"].shape == (10, 2, 3, 28, 28)
            same = stored["labels"][:, 0] == stored["labels"][:, 1]
            assert same.tolist() == [True, False] * 5
            if part == "test":
                assert all(np.isclose(positive, d, rtol=1e-4).any() for d in stored["distances"][::2])


def test_the_contrastive_experiment_is_kerass() -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = validate(compose("train", ["name=test", "experiment=keras_contrastive"]))
    optimizer = dict(config.optimizer)
    assert optimizer.pop("_target_") == "torch.optim.RMSprop"
    ours = {"decay": "all", "backbone_lr": None, "layer_decay": None}
    assert optimizer == {"lr": 1e-3, "alpha": 0.9, "eps": 1e-7, "momentum": 0.0, "weight_decay": 0.0, **ours}
    assert (config.data.batch_size, config.trainer.max_epochs, config.loss["margin"]) == (128, 20, 1.0)
    assert (config.data.image_size, config.data.mean, config.data.std) == (28, [0.0] * 3, [1.0] * 3)
    assert (config.model["normalize"], config.model["embedding_dim"], config.model["grey"]) == (False, None, True)
    assert config.data.augment["_target_"] is None


def test_a_source_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data.source._target_=.*did you mean 'siamese.data.fashion_"):
        find_target("data.source", "siamese.data.fashion_mnits")
