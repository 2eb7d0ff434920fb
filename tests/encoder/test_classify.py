"""Classes as the weights of a loss tell them: logits of every such loss, accuracy at the end of a run, classify."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from support.processes import Cli
from torch.nn.functional import cross_entropy, normalize

import siamese
from siamese.encoder import Encoder
from siamese.errors import ConfigError, RunError
from siamese.evaluation import Undefined
from siamese.evaluation.classified import class_accuracy
from siamese.losses.logits import class_logits, class_loss
from siamese.losses.make import make_loss, weighs_classes

CONF = Path(__file__).parents[2] / "conf" / "loss"
# All that have class weights, but those made of others.
NODES = {file.stem: yaml.safe_load(file.read_text()) for file in CONF.glob("*.yaml")}
WEIGHING = [name for name, node in sorted(NODES.items()) if "defaults" not in node and weighs_classes(node)]


def test_there_are_such_losses() -> None:
    assert {"arcface", "normalized_softmax", "proxy_anchor", "proxy_softmax"} <= set(WEIGHING)


@pytest.fixture(scope="module")
def encoder(trained: Path) -> Encoder:
    return siamese.load_run(trained)


def stored(run: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(run / "arrays" / f"{name}.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("name", WEIGHING)
def test_the_class_whose_weights_are_an_images_own_is_told(name: str) -> None:
    node = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    torch.manual_seed(0)
    loss = make_loss(node, 4, 8)
    weighing = class_loss(loss)
    assert weighing is not None
    weights = next(weighing.parameters()).detach()
    rows = weights if weights.shape[1] == 8 else weights.t()  # one or several a class, class by class
    logits = class_logits(loss if weighing is loss else weighing, normalize(rows, dim=1))
    assert logits.shape == (len(rows), 4)
    assert logits.argmax(1).tolist() == np.repeat(np.arange(4), len(rows) // 4).tolist()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("normalized_softmax", {}),
        ("proxy_softmax", {"label_smoothing": 0.0}),
        ("arcface", {"margin": 0.0}),
        ("cosface", {"margin": 0.0}),
        ("soft_triple", {"margin": 0.0}),
    ],
)
def test_logits_are_those_whose_cross_entropy_is_trained(name: str, changes: dict[str, float]) -> None:
    node = yaml.safe_load((CONF / f"{name}.yaml").read_text()) | changes
    torch.manual_seed(1)
    loss, z, labels = make_loss(node, 4, 8), normalize(torch.randn(12, 8), dim=1), torch.arange(12) % 4
    weighing = class_loss(loss)
    assert weighing is not None
    expected = cross_entropy(class_logits(weighing, z), labels)
    assert torch.allclose(loss(z, labels, None), expected, atol=1e-5)


def test_proxy_ncas_logits_are_those_of_its_paper() -> None:
    node = yaml.safe_load((CONF / "proxy_nca.yaml").read_text()) | {"softmax_scale": 3.0}
    torch.manual_seed(1)
    loss, z = make_loss(node, 3, 8), normalize(torch.randn(5, 8), dim=1)
    weighing = class_loss(loss)
    assert weighing is not None
    proxies = normalize(next(weighing.parameters()).detach(), dim=1)
    expected = -(z[:, None] - proxies).square().sum(2) * node["softmax_scale"]
    assert torch.allclose(class_logits(weighing, z), expected, atol=1e-4)


def test_a_loss_without_class_weights_has_no_logits() -> None:
    node = yaml.safe_load((CONF / "triplet_margin.yaml").read_text())
    assert class_loss(make_loss(node, 4, 8)) is None


def test_accuracy_is_over_images_of_trained_classes() -> None:
    trained = np.array([4, 1])
    assert class_accuracy(np.array([4, 1, 1, 4]), np.array([4, 4, 1, 7]), trained) == pytest.approx(2 / 3)
    assert class_accuracy(np.array([4]), np.array([-1]), trained) == Undefined(
        "no image is of a class that was trained on"
    )


@pytest.mark.parametrize(("part", "prefix"), [("validation", "val"), ("test", "test")])
def test_a_run_ends_with_its_class_accuracy(trained: Path, encoder: Encoder, part: str, prefix: str) -> None:
    summary, images, told = json.loads((trained / "summary.json").read_text()), stored(trained, part), None
    told = stored(trained, f"logits_{part}")
    weights = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    w = next(value for name, value in weights.items() if name.startswith("objective.")).double().numpy()
    expected = images["embeddings"] @ (w / np.linalg.norm(w, axis=0)) / 0.05
    assert np.allclose(told["logits"], expected, atol=1e-4)
    assert told["classes"].tolist() == [0, 1, 2]
    assert np.array_equal(told["predicted"], expected.argmax(1))
    entry = summary[f"{prefix}/class_accuracy"]
    assert entry["value"] == (expected.argmax(1) == images["labels"]).mean()
    assert entry["value"] > 0.5
    assert (entry["direction"], entry["split"]) == ("max", part)


@pytest.mark.slow
def test_evaluating_again_tells_the_same(run: Path, trained: Path, cli: Cli) -> None:
    (run / "arrays" / "logits_test.npz").unlink()
    done = cli("scripts/evaluate.py", run, "--split", "test")
    before, after = (json.loads((where / "summary.json").read_text()) for where in (trained, run))
    assert after["test/class_accuracy"] == before["test/class_accuracy"]
    assert after["val/class_accuracy"] == before["val/class_accuracy"]
    assert "class_accuracy" in done.stdout
    again = stored(run, "logits_test")
    assert all(np.array_equal(again[name], array) for name, array in stored(trained, "logits_test").items())


def test_images_are_classified(trained: Path, photos: Path, encoder: Encoder) -> None:
    images, told = stored(trained, "test"), stored(trained, "logits_test")
    found = encoder.classify([photos / name for name in images["ids"]])
    assert found.class_names == ["blue", "green", "red"]
    assert np.array_equal(found.classes, images["class_names"][told["predicted"]])
    exponents = np.exp(told["logits"].astype(float))
    assert np.allclose(found.probabilities, exponents / exponents.sum(1, keepdims=True), atol=1e-4)
    flipped = encoder.classify(photos / "red" / "00.jpg", flip=True)
    assert flipped.probabilities.shape == (1, 3)
    assert flipped.probabilities[0].max() != encoder.classify(photos / "red" / "00.jpg").probabilities[0].max()


def edit(run: Path, **loss: object) -> None:
    config = yaml.safe_load((run / "config.resolved.yaml").read_text())
    config["loss"] = {**config["loss"], **loss}
    (run / "config.resolved.yaml").write_text(yaml.safe_dump(config))


def test_what_cannot_be_classified_is_one_line(run: Path, photos: Path) -> None:
    image = photos / "red" / "00.jpg"
    edit(run, _target_="ownloss.Gone")
    with pytest.raises(ConfigError, match=r"loss\._target_=ownloss\.Gone: .*load_run with trust=ownloss"):
        siamese.load_run(run).classify(image)
    with pytest.raises(ConfigError, match=r"loss\._target_=ownloss\.Gone: cannot be imported"):
        siamese.load_run(run, trust="ownloss").classify(image)
    edit(run, _target_="siamese.losses.TripletLoss")
    with pytest.raises(RunError, match="its loss, TripletLoss, has no class weights to tell classes by; search finds"):
        siamese.load_run(run).classify(image)


@pytest.mark.slow
def test_classes_that_were_never_trained_on_are_told_as_what_is_nearest(photos: Path, cli: Cli, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for i, colour in enumerate(("green", "red", "blue", "red", "blue", "green", "red", "blue")):
        (root / f"{i}{colour}").mkdir(parents=True)
        for file in sorted((photos / colour).iterdir())[:12]:
            (root / f"{i}{colour}" / file.name).hardlink_to(file)
    words = "data=image_folder data.image_size=16 data.split=by_class data.val_fraction=0.3 data.test_fraction=0.3"
    words += " loss=arcface model=conv_small model.width=4 trainer.max_epochs=1 device=cpu data.batch_size=12"
    words += " data.triplets=resampled evaluation.resamples=0 figures.draw=false callbacks.progress_bar=false"
    run = tmp_path / "run"
    cli("train.py", *words.split(), f"data.root={root}", f"data.cache_dir={tmp_path}", f"hydra.run.dir={run}")
    entry = json.loads((run / "summary.json").read_text())["test/class_accuracy"]
    assert entry["value"] is None
    assert entry["reason"] == "no image is of a class that was trained on"
    manifest = json.loads((run / "manifest.json").read_text())
    trained = sorted(manifest["split"]["classes"]["train"])
    assert 2 <= len(trained) < 8
    encoder, image = siamese.load_run(run), root / trained[-1] / "00.jpg"
    found = encoder.classify(image)
    assert found.class_names == trained
    for file in (run / "arrays").glob("logits_*.npz"):
        file.unlink()
    assert siamese.load_run(run).classify(image).class_names == trained
