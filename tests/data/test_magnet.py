"""Clusters of each class, their neighbours, and the batches drawn from them."""

from __future__ import annotations

import numpy as np
import pytest

from siamese.data.batches.magnet import cluster_groups, impostors
from siamese.errors import RunError
from siamese.losses.magnet import cluster

CENTRES = np.array([[0, 0], [10, 0], [1, 1], [30, 0], [12, 0], [0, 40]], dtype=np.float32)
LABELS = np.repeat([0, 0, 1, 1, 2, 2], 20)  # two clusters each, of 20 embeddings about a centre
EMBEDDINGS = CENTRES.repeat(20, axis=0) + np.random.default_rng(0).normal(0, 0.1, (120, 2)).astype(np.float32)


def groups(seed: int = 0, place: tuple[int, ...] = (0, 0), **changed: int) -> np.ndarray:
    asked = {"clusters_per_class": 2, "images_per_cluster": 6, "clusters_per_batch": 3, "batches": 400} | changed
    return cluster_groups(EMBEDDINGS, LABELS, seed=seed, place=place, **asked)


def test_clusters_are_found_in_each_class() -> None:
    shuffled = np.random.default_rng(1).permutation(120)
    found = cluster(EMBEDDINGS[shuffled], LABELS[shuffled], 2, np.random.default_rng(0))
    blob = np.repeat(np.arange(6), 20)[shuffled]
    names = {(c, b) for c, b in zip(found.of_image.tolist(), blob.tolist(), strict=True)}
    assert len(names) == 6  # one cluster a blob, one blob a cluster
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    for number, b in names:
        assert found.labels[number] == b // 2
        np.testing.assert_allclose(found.means[number], CENTRES[b], atol=0.2)
        assert found.losses[number] == 0


def test_a_cluster_among_impostors_has_the_larger_loss() -> None:
    near = np.array([[0, 0], [1, 0], [0.5, 0], [9, 9]], dtype=np.float32).repeat(20, axis=0)
    near += np.random.default_rng(0).normal(0, 0.3, near.shape).astype(np.float32)
    found = cluster(near, np.repeat([0, 1, 2, 3], 20), 1, np.random.default_rng(0))
    assert found.losses[3] == 0
    assert found.losses[2] > max(found.losses[0], found.losses[1]) > 0


def test_impostors_are_the_nearest_clusters_of_other_classes() -> None:
    found = cluster(EMBEDDINGS, LABELS, 2, np.random.default_rng(0))
    for of in range(6):
        distances = {c: float(np.square(found.means[c] - found.means[of]).sum()) for c in range(6)}
        others = [c for c in sorted(distances, key=distances.__getitem__) if found.labels[c] != found.labels[of]]
        assert impostors(found, of, 3).tolist() == others[:3]
    with pytest.raises(RunError, match=r"a micro-batch of 6 clusters needs 5 .*; there are 4"):
        impostors(found, 0, 5)


def test_batches_are_of_a_cluster_and_its_impostors() -> None:
    found = groups()
    assert found.shape == (400 * 3, 6)
    blobs = found // 20
    assert (blobs == blobs[:, :1]).all()
    assert all(len(set(row)) == 6 for row in found.tolist())  # no image twice
    near = {0: {2, 4}, 1: {4, 2}, 2: {0, 1}, 3: {4, 1}, 4: {1, 2}, 5: {0, 2}}
    first, *rest = blobs[:, 0].reshape(400, 3).T
    assert all({int(b), int(c)} == near[int(a)] for a, b, c in zip(first, *rest, strict=True))
    assert set(first.tolist()) == set(range(6))  # without any loss, all alike


def test_a_cluster_with_fewer_images_repeats_them() -> None:
    found = groups(images_per_cluster=50, batches=5)
    for row in found.tolist():
        counts = np.unique(row, return_counts=True)[1]
        assert len(counts) == 20
        assert set(counts.tolist()) == {2, 3}


def test_draws_are_of_their_seed_and_place() -> None:
    assert (groups(batches=9) == groups(batches=9)).all()
    assert (groups(batches=9) != groups(batches=9, seed=1)).any()
    assert (groups(batches=9) != groups(batches=9, place=(0, 1))).any()


def test_seeds_are_drawn_by_their_loss() -> None:
    near = np.array([[0, 0], [1, 0], [0.5, 0], [9, 9]], dtype=np.float32).repeat(20, axis=0)
    near += np.random.default_rng(0).normal(0, 0.3, near.shape).astype(np.float32)
    labels = np.repeat([0, 1, 2, 3], 20)
    found = cluster_groups(
        near, labels, clusters_per_class=1, images_per_cluster=2, clusters_per_batch=2, batches=2000, seed=0, place=()
    )
    seen = np.bincount(found[::2, 0] // 20, minlength=4) / 2000
    losses = cluster(near, labels, 1, np.random.default_rng(0)).losses
    np.testing.assert_allclose(seen, losses / losses.sum(), atol=0.05)


def test_collapsed_embeddings_make_fewer_clusters_and_small_classes_are_refused() -> None:
    found = cluster(np.zeros((8, 3), np.float32), np.repeat([0, 1], 4), 3, np.random.default_rng(0))
    assert found.labels.tolist() == [0, 1]
    assert np.isfinite(found.losses).all()
    with pytest.raises(ValueError, match="30 clusters of each class need as many images; class 0 has 20"):
        cluster(EMBEDDINGS[:20], LABELS[:20], 30, np.random.default_rng(0))
