"""A trained network in use: against what the run measured itself, brute force, and whatever people hand over."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from docs.pages import blocks
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn
from PIL import Image
from support.messy import FILES
from support.processes import ROOT
from torch import Tensor, nn

import siamese
from siamese.decoding.decode import decode
from siamese.encoder import Encoder, Gallery, Neighbours
from siamese.encoder.images import items_of
from siamese.errors import ConfigError, RunError


@pytest.fixture(scope="module")
def encoder(trained: Path) -> Encoder:
    return siamese.load_run(trained)


@pytest.fixture(scope="module")
def own(trained: Path) -> dict[str, np.ndarray]:
    """What the run stored of its test images."""
    with np.load(trained / "arrays" / "test.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def paths(photos: Path, own: dict[str, np.ndarray]) -> list[Path]:
    """The test images' files."""
    return [photos / str(name) for name in own["ids"]]


# -- images to vectors ---------------------------------------------------------------------------


def test_the_runs_own_images_are_where_the_run_put_them(
    encoder: Encoder, paths: list[Path], own: dict[str, np.ndarray]
) -> None:
    z = encoder.embed(paths)
    assert z.dtype == np.float32
    assert z.shape == (len(paths), 16) == (54, encoder.embedding_dim)
    assert np.abs(z - own["embeddings"]).max() < 1e-5
    assert z.std(axis=0).max() > 0.1  # else any two would be as near


def test_whatever_images_are_handed_over_as_they_are_the_same(encoder: Encoder, paths: list[Path]) -> None:
    some = paths[:7]
    z = encoder.embed(some)
    opened = [Image.open(path) for path in some]
    whole = [np.asarray(image.convert("RGB")) for image in opened]  # of two shapes
    small = np.stack([decode(path, encoder.decoding).pixels for path in some])
    table = pytest.importorskip("pandas").DataFrame({"label": range(7), "path": [str(path) for path in some]})
    handed: dict[str, Any] = {
        "text": [str(path) for path in some],
        "generator": (path for path in some),
        "array of text": np.array([str(path) for path in some]),
        "open images": opened,
        "[H, W, 3]": whole,
        "[3, H, W]": [torch.from_numpy(one.transpose(2, 0, 1).copy()) for one in whole],
        "[N, 3, H, W]": torch.from_numpy(small),
        "[N, H, W, 3]": small.transpose(0, 2, 3, 1),
        "table": table,
        "column": table["path"],
        "mixed": [some[0], opened[1], *whole[2:4], small[4:]],
    }
    for name, images in handed.items():
        assert np.array_equal(encoder.embed(images), z), name
    assert np.array_equal(encoder.embed(some[0]), encoder.embed([some[0]]))
    assert all(image.size == array.shape[1::-1] for image, array in zip(opened, whole, strict=True))
    assert encoder.embed([]).shape == (0, 16)


@pytest.mark.parametrize("name", FILES)
def test_files_of_every_kind_become_the_pixels_of_training(encoder: Encoder, name: str, tmp_path: Path) -> None:
    FILES[name](tmp_path / name)
    with torch.no_grad():
        expected = encoder.network.net(torch.tensor(decode(tmp_path / name, encoder.decoding).pixels)[None])
    assert np.allclose(encoder.embed(tmp_path / name), expected, atol=1e-6)


@pytest.mark.parametrize("size", [1, 3, 53])
def test_an_embedding_does_not_depend_on_its_batch(
    trained: Path, encoder: Encoder, paths: list[Path], size: int
) -> None:
    other = siamese.load_run(trained)
    other.network.batch_size = size
    assert np.abs(other.embed(paths) - encoder.embed(paths)).max() < 1e-6
    assert np.abs(encoder.embed(paths[::-1])[::-1] - encoder.embed(paths)).max() < 1e-6


def test_mirror_images_are_averaged(encoder: Encoder, paths: list[Path]) -> None:
    pixels = np.stack([decode(path, encoder.decoding).pixels for path in paths])
    both = encoder.embed(pixels).astype(float) + encoder.embed(pixels[..., ::-1].copy())
    expected = both / np.linalg.norm(both, axis=1, keepdims=True)
    found = encoder.embed(paths, flip=True)
    assert np.allclose(found, expected, atol=1e-6)
    assert not np.allclose(found, encoder.embed(paths), atol=1e-4)
    assert np.allclose(encoder.embed(pixels[..., ::-1].copy(), flip=True), found, atol=1e-6)


class Hungry(nn.Module):
    """``net``, for which memory does not suffice beyond ``most`` images."""

    def __init__(self, net: nn.Module, most: int) -> None:
        super().__init__()
        self.net, self.most, self.embedding_dim = net, most, 16

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return self.net(images)


def test_batches_are_halved_until_they_fit(
    trained: Path, encoder: Encoder, paths: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    hungry = siamese.load_run(trained)
    hungry.network.net = Hungry(encoder.network.net, 7)  # type: ignore[assignment]
    assert np.abs(hungry.embed(paths) - encoder.embed(paths)).max() < 1e-6
    assert hungry.network.batch_size == 6  # 54, 27, 13, 6
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3
    assert "6 at a time from here on" in caplog.messages[-1]
    hungry.network.net = Hungry(encoder.network.net, 0)  # type: ignore[assignment]
    with pytest.raises(RunError, match="too little memory is free on cpu to embed one image"):
        hungry.embed(paths[:3])
    hungry.network.net = nn.Linear(3, 3)  # type: ignore[assignment]
    with pytest.raises(RuntimeError, match=r"shapes|dtype"):  # a bug is no lack of memory
        hungry.embed(paths[:3])


def test_threads_share_an_encoder(encoder: Encoder, paths: list[Path]) -> None:
    z = encoder.embed(paths)
    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(lambda start: encoder.embed(paths[start:]), range(8))]
    assert all(np.abs(one - z[start:]).max() < 1e-6 for start, one in enumerate(found))


def test_a_forked_process_goes_on_with_it(encoder: Encoder, paths: list[Path], tmp_path: Path) -> None:
    torch.set_num_threads(2)  # whose second does not survive
    try:
        torch.ones(2000, 2000) @ torch.ones(2000, 2000)
        z = encoder.embed(paths)
        child = os.fork()
        if not child:
            try:
                np.save(tmp_path / "z.npy", encoder.embed(paths))
            finally:
                os._exit(0)
        ends = time.monotonic() + 20
        while not os.waitpid(child, os.WNOHANG)[0]:
            if time.monotonic() > ends:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                pytest.fail("it waits for ever")
            time.sleep(0.01)
    finally:
        torch.set_num_threads(1)
    assert np.abs(np.load(tmp_path / "z.npy") - z).max() < 1e-6


@pytest.mark.parametrize(("precision", "within"), [("64-true", 1e-5), ("bf16-mixed", 0.1)])
def test_other_precisions(trained: Path, encoder: Encoder, paths: list[Path], precision: str, within: float) -> None:
    other = siamese.load_run(trained, device="cpu", precision=precision)
    z = other.embed(paths)
    assert z.dtype == np.float32
    assert 0 < np.abs(z - encoder.embed(paths)).max() < within
    assert f"{precision} on cpu" in repr(other)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (3, "expected paths, PIL images, uint8 pixels, or a table with a column path; found int"),
        ({"path": ["a.jpg"]}, "found dict"),
        ([1.5], r"found float \(1.5\) among them"),
        ([None, "a.jpg"], r"found NoneType \(None\) among them"),
        (np.zeros((2, 3, 8, 8)), "expected pixels as uint8, 0 to 255, found float64"),
        (torch.zeros(2, 3, 8, 8), "expected pixels as uint8, 0 to 255, found torch.float32"),
        (np.zeros((2, 8, 8), np.uint8), r"expected pixels \[N, 3, H, W\] or \[N, H, W, 3\], found shape \[2, 8, 8\]$"),
        (np.zeros((2, 3, 8, 3), np.uint8), r"found shape \[2, 3, 8, 3\], which could be either"),
        (["/", "/tmp"], "/, /tmp: expected image files, found folders"),
    ],
)
def test_what_is_no_image_is_one_line(encoder: Encoder, images: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        encoder.embed(images)


def test_files_that_are_not_there_are_named(encoder: Encoder, tmp_path: Path, paths: list[Path]) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "cat.png")
    with pytest.raises(ConfigError, match=r"cta\.png: no such file; did you mean 'cat\.png'\?$"):
        encoder.embed([tmp_path / "cat.png", tmp_path / "cta.png"])
    with pytest.raises(ConfigError, match=r"^7 images of 8: .*/0\.png, .*/4\.png and 2 more: no such file"):
        encoder.embed([tmp_path / "cat.png", *(tmp_path / f"{i}.png" for i in range(7))])
    pandas = pytest.importorskip("pandas")
    with pytest.raises(ConfigError, match=r"a table with a column path, found paths, label; did you mean 'paths'\?"):
        encoder.embed(pandas.DataFrame({"paths": ["cat.png"], "label": [1]}))


def test_damaged_files_are_all_named_and_the_others_can_be_had(
    encoder: Encoder, tmp_path: Path, paths: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "cut.png").write_bytes(paths[1].read_bytes()[:99])
    given = [tmp_path / "text.jpg", *paths[:3], tmp_path / "cut.png"]
    with pytest.raises(RunError, match=r"^2 images of 5 cannot be read: .*text\.jpg: not an image.*, .*cut\.png: "):
        encoder.embed(given)
    with pytest.raises(RunError, match=r"^[^ ]*text\.jpg: not an image that can be read$"):
        encoder.embed(given[:3])
    found = encoder.embed_readable(given)
    assert found.positions.tolist() == [1, 2, 3]
    assert np.array_equal(found.embeddings, encoder.embed(paths[:3]))
    assert found.damaged.keys() == {0, 4}
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    with caplog.at_level(logging.INFO):
        encoder.embed([tmp_path / "two.gif"])
    assert "1 image with several frames or pages, of which the first counts" in caplog.text


# -- what is near what ---------------------------------------------------------------------------


def summary(run: Path) -> dict[str, Any]:
    return json.loads((run / "summary.json").read_text())


def test_two_images_are_the_same_up_to_the_runs_threshold(trained: Path, encoder: Encoder, paths: list[Path]) -> None:
    z, found = encoder.embed(paths).astype(float), summary(trained)
    for rate, far in (("eer", None), ("far_1e-1", "1e-1"), ("far_1e-1", 0.1)):
        threshold = found[f"val/threshold_at_{rate}"]["value"]
        outcomes = set()
        for i, j in ((0, 1), (0, 30), (5, 53), (20, 45), (50, 51), (7, 7)):
            said = encoder.same(paths[i], paths[j], far=far)
            assert said.distance == pytest.approx(np.linalg.norm(z[i] - z[j]), abs=1e-6)
            assert said.same == (said.distance <= threshold)
            outcomes.add(said.same)
        assert outcomes == {True, False}
        assert (said.threshold.name, said.threshold.distance) == (rate, threshold)
        assert said.threshold.far == found[f"test/far_at_threshold_{rate}"]["value"]
        assert said.threshold.tar == found[f"test/tar_at_threshold_{rate}"]["value"]
    assert encoder.distance(paths[3], paths[3]) == 0


def test_a_threshold_that_there_is_not_is_said_so(run: Path, encoder: Encoder, paths: list[Path]) -> None:
    with pytest.raises(RunError, match=r"val/threshold_at_far_1e-3 is undefined: it needs 1000 pairs"):
        encoder.same(*paths[:2], far="1e-3")
    with pytest.raises(ConfigError, match="far=1e-4: expected one of 1e-1, 1e-2, 1e-3"):
        encoder.same(*paths[:2], far="1e-4")
    with pytest.raises(RunError, match=r"there is no threshold of last\.ckpt; the run has one of best\.ckpt"):
        siamese.load_run(run, checkpoint="last").same(*paths[:2])
    earlier = {name: entry for name, entry in summary(run).items() if "threshold_at" not in name}
    (run / "summary.json").write_text(json.dumps(earlier))
    with pytest.raises(RunError, match=r"has no val/threshold_at_eer; to measure it: .*evaluate.* [^ ]*run$"):
        siamese.load_run(run).same(*paths[:2])
    moved = {name: entry | {"epoch": 7} for name, entry in summary(run).items()}
    (run / "summary.json").write_text(json.dumps(moved))
    with pytest.raises(RunError, match=r"its threshold is of epoch 7, and best\.ckpt is of epoch [12] by now"):
        siamese.load_run(run).same(*paths[:2])
    assert siamese.load_run(run).distance(*paths[:2]) == encoder.distance(*paths[:2])


def test_the_nearest_are_those_of_the_runs_test_images(
    encoder: Encoder, paths: list[Path], own: dict[str, np.ndarray], run: Path
) -> None:
    z = encoder.embed(paths)
    found = encoder.search(z, k=5)
    apart = np.linalg.norm(z[:, None].astype(float) - own["embeddings"], axis=2)
    expected = np.argsort(apart, axis=1)[:, :5]
    assert np.allclose(found.distances, np.take_along_axis(apart, expected, axis=1), atol=1e-6)
    assert np.array_equal(found.ids[:, 0], own["ids"])  # itself
    names = own["class_names"][own["labels"]]
    assert np.array_equal(found.classes, names[found.positions])
    assert np.array_equal(found.ids, own["ids"][found.positions])
    assert np.array_equal(encoder.search(paths[:3], 4).positions, found.positions[:3, :4])
    assert np.array_equal(encoder.search(torch.from_numpy(z[2]), 4).positions, found.positions[2:3, :4])
    with pytest.raises(ConfigError, match=r"k=55: expected 1 to 54, as many as there are \(.*: its test images\)"):
        encoder.search(z, k=55)
    with pytest.raises(ConfigError, match=r"expected vectors \[N, 16\], found shape \[2, 3\]"):
        encoder.search(np.zeros((2, 3)))
    with pytest.raises(ConfigError, match="1 of 2 embeddings are zero"):
        encoder.search(np.eye(2, 16) * [[1.0], [0.0]])
    with pytest.raises(RunError, match=r"no embedding of its test images of last\.ckpt"):
        siamese.load_run(run, checkpoint="last").search(z)
    (run / "arrays" / "test.npz").unlink()
    with pytest.raises(RunError, match=r"test\.npz: not found"):
        siamese.load_run(run).search(z)


def test_an_index_may_be_searched_in_the_place_of_the_test_images(encoder: Encoder, paths: list[Path]) -> None:
    class Index:
        def search(self, vectors: np.ndarray, k: int) -> Neighbours:
            self.asked = vectors.shape, k
            return Neighbours(*(np.full((len(vectors), k), value) for value in ("id", 0.5, "", 3)))

    index = Index()
    assert (encoder.search(paths[:2], 3, among=index).ids == "id").all()
    assert index.asked == ((2, 16), 3)


VECTORS = stn.arrays(
    np.float32, st.tuples(st.integers(1, 12), st.just(3)), elements=st.sampled_from([-2.0, -1, 1, 0.5])
)


@given(gallery=VECTORS, queries=VECTORS, data=st.data())
@settings(max_examples=60, deadline=None)
def test_search_is_brute_force(gallery: np.ndarray, queries: np.ndarray, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(gallery)))
    ids = np.array([f"i{i}" for i in range(len(gallery))])
    found = Gallery("toy", gallery, ids, np.arange(len(gallery)) % 2 - 1, ["only"]).search(queries, k)
    unit = [
        rows.astype(float) / np.linalg.norm(rows.astype(float), axis=1, keepdims=True) for rows in (queries, gallery)
    ]
    for query, row, positions in zip(unit[0], found.distances, found.positions, strict=True):
        apart = np.linalg.norm(query - unit[1], axis=1)
        assert np.allclose(row, np.sort(apart)[:k], atol=1e-12)
        assert len(set(positions)) == k
        assert np.allclose(apart[positions], row, atol=1e-12)
    assert np.array_equal(found.classes == "only", found.positions % 2 == 1)


def test_it_says_what_it_is(encoder: Encoder, trained: Path) -> None:
    found = summary(trained)
    epoch = found["test/auc"]["epoch"]
    figures = ", ".join(f"{name} {found[f'test/{name}']['value']:.4f}" for name in ("auc", "recall_at_1", "map_at_r"))
    assert repr(encoder) == (
        f"<encoder of {trained}: 75 training images of image_folder, 3 classes, 16 x 16; best.ckpt, epoch {epoch}; "
        f"test {figures}; 16 dimensions, 32-true on cpu>"
    )
    assert "not measured on its test images" in repr(siamese.load_run(trained, checkpoint="last"))


def test_a_run_that_was_opened_has_its_encoder(trained: Path, encoder: Encoder, paths: list[Path]) -> None:
    again: Callable[..., np.ndarray] = siamese.open_run(trained).encoder().embed
    assert np.array_equal(again(paths[:2]), encoder.embed(paths[:2]))


def test_items_are_one_an_image(paths: list[Path]) -> None:
    assert items_of(str(paths[0])) == [paths[0]]
    stack = np.zeros((4, 3, 5, 6), np.uint8)
    assert [item.shape for item in items_of([stack, stack[0]])] == [(3, 5, 6)] * 5  # type: ignore[union-attr]


def test_the_lines_of_the_page_run_as_they_are(
    trained: Path, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "RUN").symlink_to(trained)
    for name, path in (("a.jpg", paths[0]), ("b.png", paths[1])):
        Image.open(path).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    for block in blocks(ROOT / "docs" / "using.md"):
        if block.language == "python":
            exec("\n".join(block.lines), found)
    assert found["z"].shape == (2, 16)
    assert found["same"].same == (found["same"].distance <= found["same"].threshold.distance)
    assert found["near"].ids.shape == (2, 10)
    assert set(found["told"].classes) <= {"blue", "green", "red"}


def test_a_pair_is_of_two_images_and_an_index_is_open(encoder: Encoder, photos: Path) -> None:
    image = photos / "red" / "01.png"
    for one, other, counts in (([image, image], [], "2 and 0"), (image, [image] * 3, "1 and 3")):
        with pytest.raises(ConfigError, match=f"^expected one image and one other, found {counts}$"):
            encoder.distance(one, other)
    with pytest.raises(ConfigError, match=r"^among=photos.index: expected an index .* siamese.open_index opens one$"):
        encoder.search(image, among="photos.index")  # type: ignore[arg-type]
