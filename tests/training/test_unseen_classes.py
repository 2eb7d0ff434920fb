"""Losses with weights for each class keep to the classes that are trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_metric_learning.losses import NormalizedSoftmaxLoss, SupConLoss
from support.processes import Cli

from siamese.data.images import LabelledImages
from siamese.losses import KoLeo, Objective

OPEN = ("data=digits", "data.split=by_class", "data.test_fraction=0.3", "data.val_fraction=0.3")
TINY = ("model=conv_small", "model.width=4", "data.images_per_class=30", "trainer.max_epochs=1", "device=cpu")


def images(labels: list[int], more: list[tuple[int, int]] | None = None) -> LabelledImages:
    return LabelledImages(
        torch.zeros(len(labels), 3, 4, 4, dtype=torch.uint8),
        torch.tensor(labels),
        ("a", "b", "c", "d"),
        np.array([str(i) for i in range(len(labels))]),
        np.zeros(len(labels), dtype=bool),
        more_labels=None if more is None else np.array(more),
    )


def test_the_classes_of_training_come_first() -> None:
    numbers, count = images([0, 1, 2, 3, 3, -1]).numbered_from(np.array([1, 3, 5]))
    assert numbers is not None
    assert (numbers.tolist(), count) == ([2, 0, 3, 1], 2)
    assert images([0, 1, 2, 3]).numbered_from(np.arange(4)) == (None, 4)
    numbers, count = images([0, 1, 2, 3], [(1, 2), (0, 3)]).numbered_from(np.array([1]))  # the other is not of them
    assert numbers is not None
    assert (numbers.tolist(), count) == ([2, 0, 1, 3], 2)


def test_weights_of_classes_are_those_of_training_alone() -> None:
    random = torch.Generator().manual_seed(0)
    z = torch.nn.functional.normalize(torch.randn(6, 5, generator=random), dim=1)
    labels = torch.tensor([1, 3, 1, 3, 3, 1])
    base = NormalizedSoftmaxLoss(num_classes=2, embedding_size=5)
    objective = Objective("softmax", base, KoLeo("all", 1), 0.0, classes=torch.tensor([2, 0, 3, 1]), weighed=2)
    total, _ = objective(z, labels, None)
    assert total == base(z, (labels == 3).long())
    assert objective.knows(labels)
    assert not objective.knows(torch.tensor([1, 2]))
    plain = Objective("supcon", SupConLoss(), KoLeo("all", 1), 0.0, classes=torch.tensor([2, 0, 3, 1]))
    assert plain.knows(torch.arange(4))
    assert plain(z, labels, None)[0] == pytest.approx(SupConLoss()(z, labels).item())


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "weighs"), [("proxy_anchor", True), ("supcon", False)])
def test_a_run_on_classes_that_are_held_out(train_cli: Cli, tmp_path: Path, loss: str, weighs: bool) -> None:
    run = tmp_path / "run"
    train_cli(*OPEN, *TINY, f"loss={loss}", "figures.draw=false", f"hydra.run.dir={run}")
    summary = json.loads((run / "summary.json").read_text())
    assert ("val/loss" in summary, "test/loss" in summary) == (not weighs, not weighs)
    assert summary["test/auc"]["value"] > 0
    manifest = json.loads((run / "manifest.json").read_text())
    trained = len(manifest["split"]["classes"]["train"])
    assert trained < 10
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    proxies = [tuple(value.shape) for name, value in state.items() if name.startswith("objective.")]
    assert proxies == ([(trained, 128)] if weighs else [])
