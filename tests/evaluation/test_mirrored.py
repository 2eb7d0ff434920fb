"""evaluation.flip: the mean of an image's embedding and its mirror image's, wherever a run measures embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.images import write_folder
from support.processes import Cli

from siamese.models import conv_small
from siamese.models.mirrored import embed
from siamese.runs.checkpoint import restore

MEAN, STD = [0.5] * 3, [0.25] * 3


@pytest.mark.parametrize("normalize", [True, False])
def test_an_embedding_is_the_mean_of_both_ways_round(normalize: bool) -> None:
    torch.manual_seed(0)
    net = conv_small(MEAN, STD, 5, width=4, normalize=normalize).eval()
    images = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8)
    with torch.no_grad():
        found = embed(net, images, flip=True)
        mean = (net(images) + net(images.flip(3))) / 2
        if normalize:
            mean = mean / mean.norm(dim=1, keepdim=True)
        assert torch.allclose(found, mean, atol=1e-6)
        assert torch.allclose(found, embed(net, images.flip(3), flip=True), atol=1e-6)
        assert torch.equal(embed(net, images, flip=False), net(images))
        assert not torch.allclose(found, net(images), atol=1e-3)


def test_a_run_measures_what_it_is_told(train_cli: Cli, cli: Cli, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "images", {"a": 24, "b": 24, "c": 24}, (8, 8))
    run, other = tmp_path / "run", tmp_path / "other"
    train_cli(
        *"data=image_folder data.image_size=8 model=conv_small model.width=4 model.embedding_dim=6".split(),
        *"evaluation.flip=true trainer.max_epochs=1 figures.draw=false device=cpu data.batch_size=8".split(),
        *("data.val_fraction=0.2", "data.test_fraction=0.3", f"data.root={folder}", f"hydra.run.dir={run}"),
        f"data.cache_dir={tmp_path / 'cache'}",
    )
    net = conv_small(MEAN, STD, 6, width=4)
    restore(net, run / "checkpoints/best.ckpt", prefix="net.")
    arrays = np.load(run / "arrays/test.npz")

    def by_hand(ids: np.ndarray, root: Path = folder) -> np.ndarray:
        pixels = np.stack([np.asarray(Image.open(root / name)).transpose(2, 0, 1) for name in ids])
        with torch.no_grad():
            return embed(net.eval(), torch.from_numpy(pixels), flip=True).numpy()

    assert np.allclose(arrays["embeddings"], by_hand(arrays["ids"]), atol=1e-5)
    again = np.load(run / "arrays/validation.npz")
    assert np.allclose(again["embeddings"], by_hand(again["ids"]), atol=1e-5)
    elsewhere = write_folder(tmp_path / "elsewhere", {"a": 9, "d": 9}, (8, 8), seed=1)
    rows = [f"{file.relative_to(elsewhere)},{file.parent.name}" for file in sorted(elsewhere.glob("*/*.png"))]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    told = ("--data", "label_file", "--root", elsewhere, "--labels", tmp_path / "labels.csv", "--out", other)
    cli("scripts/evaluate.py", run, *told)
    others = np.load(other / "arrays/test.npz")
    assert len(others["ids"]) == 18
    assert np.allclose(others["embeddings"], by_hand(others["ids"], elsewhere), atol=1e-5)
