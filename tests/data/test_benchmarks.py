"""Benchmarks of retrieval in their official formats: read whole, trained on, and refused where they are damaged."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import layouts
from support.processes import Cli

from siamese.config.data import Data
from siamese.data.images import LabelledImages
from siamese.data.load import describe
from siamese.data.sources.cars196 import CARS196
from siamese.data.sources.cub200 import CUB200
from siamese.data.sources.in_shop import IN_SHOP
from siamese.data.sources.stanford_online_products import PRODUCTS
from siamese.errors import ConfigError, RunError

MAKE: dict[str, Callable[[Path], Path]] = {
    "cub200": lambda root: layouts.cub200(root, [1, 2, 99, 100, 101, 200], 3),
    "cars196": lambda root: layouts.cars196(root, [1, 2, 97, 98, 99, 196], 3),
    "stanford_online_products": lambda root: layouts.stanford_online_products(root, [1, 2, 5, 6], [11319, 11320], 3),
    "in_shop": lambda root: layouts.in_shop(root, [1, 2, 5, 6], [3, 4], 1, 2),
}


def described(name: str, root: Path, **keys: Any) -> LabelledImages:
    return describe(Data(source={"_target_": f"siamese.data.{name}"}, root=str(root), **keys), 0)


def by_class(source: LabelledImages) -> dict[str, list[str]]:
    """The class of every image, by the name of the part it is in."""
    parts = np.where(source.is_test, "test", "train") if source.roles is None else source.roles
    found: dict[str, list[str]] = {}
    for part, label in zip(parts, source.labels.tolist(), strict=True):
        found.setdefault(part or "train", []).append(source.class_names[label])
    return found


def test_birds_are_read_and_divided_by_species(tmp_path: Path) -> None:
    folder = MAKE["cub200"](tmp_path)
    source = described("cub200", folder)
    assert source.class_names == (
        *("001.Bird_1", "002.Bird_2", "099.Bird_99", "100.Bird_100"),
        *("101.Bird_101", "200.Bird_200"),
    )
    assert by_class(source) == {
        "train": [name for name in source.class_names[:4] for _ in range(3)],
        "test": [name for name in source.class_names[4:] for _ in range(3)],
    }
    assert source.ids[0] == "images/001.Bird_1/Bird_1_0000_1000.jpg"
    assert np.array_equal(described("cub200", tmp_path).ids, source.ids)  # the folder that the archive unpacks in


def test_cars_are_read_and_divided_by_model(tmp_path: Path) -> None:
    source = described("cars196", MAKE["cars196"](tmp_path))
    names = [f"Make Model {c} 2012" for c in (1, 2, 97, 98, 99, 196)]
    assert list(source.class_names) == names
    assert by_class(source) == {
        "train": [name for name in names[:4] for _ in range(3)],
        "test": [name for name in names[4:] for _ in range(3)],
    }
    assert source.ids[-1] == "car_ims/000018.jpg"


def test_products_are_read_from_their_two_lists(tmp_path: Path) -> None:
    source = described("stanford_online_products", MAKE["stanford_online_products"](tmp_path))
    assert source.class_names == ("1", "2", "5", "6", "11319", "11320")
    assert by_class(source) == {
        "train": [c for c in ("1", "2", "5", "6") for _ in range(3)],
        "test": [c for c in ("11319", "11320") for _ in range(3)],
    }
    assert source.ids[0] == "chair_final/110000000001_0.JPG"


@pytest.mark.parametrize("place", ["Eval", "Anno", "."])
@pytest.mark.parametrize("images", ["Img", "."])
def test_clothes_have_queries_and_a_gallery(tmp_path: Path, place: str, images: str) -> None:
    MAKE["in_shop"](tmp_path)
    (tmp_path / "Anno").mkdir()
    (tmp_path / "Eval" / "list_eval_partition.txt").rename(tmp_path / place / "list_eval_partition.txt")
    if images == ".":
        (tmp_path / "Img" / "img").rename(tmp_path / "img")
    source = described("in_shop", tmp_path)
    items = [f"id_{c:08d}" for c in (1, 2, 5, 6, 3, 4)]
    assert by_class(source) == {
        "train": [item for item in items[:4] for _ in range(3)],
        "query": items[4:],
        "gallery": [item for item in items[4:] for _ in range(2)],
    }
    assert source.is_test.sum() == 6
    assert source.ids[0] == "img/WOMEN/Dresses/id_00000001/00_1_front.jpg"


def test_the_official_counts_are_those_that_are_published() -> None:
    assert sum(CUB200.counts.values()) == 11_788
    assert sum(CARS196.counts.values()) == 16_185
    assert sum(PRODUCTS.counts.values()) == 120_053
    assert sum(IN_SHOP.counts.values()) == 52_712


@pytest.mark.parametrize("name", MAKE)
def test_a_part_of_a_collection_is_said_to_be_one(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    MAKE[name](tmp_path)
    with caplog.at_level(logging.INFO):
        described(name, tmp_path)
    [record] = caplog.records
    assert "not the whole of" in record.message
    assert "12 in train" in record.message


@pytest.mark.parametrize("name", MAKE)
def test_a_folder_without_the_collection_says_what_to_get(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        described(name, tmp_path)
    for part in (f"data.root={tmp_path}", "https://", "expected a folder with "):
        assert part in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("name", MAKE)
def test_images_that_are_missing_are_counted_refused_or_left_out(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    MAKE[name](tmp_path)
    whole = described(name, tmp_path)
    files = {path for path in tmp_path.rglob("*") if path.suffix.lower() == ".jpg"}
    gone = sorted(files)[:7]
    for file in gone:
        file.unlink()
    with pytest.raises(RunError, match=r"7 of 18 rows name a file that is not below .* and 2 more\); expected"):
        described(name, tmp_path)
    with caplog.at_level(logging.WARNING):
        rest = described(name, tmp_path, damaged="skip")
    assert len(rest.ids) == 11
    assert set(rest.ids) < set(whole.ids)
    assert "7 of 18 rows" in caplog.text
    kept = {image: whole.class_names[label] for image, label in zip(whole.ids, whole.labels.tolist(), strict=True)}
    assert [rest.class_names[label] for label in rest.labels.tolist()] == [kept[image] for image in rest.ids]


def edit(path: str, change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        layouts.write_lines(root / path, change((root / path).read_text().splitlines()))

    return spoil


def cut(path: str, size: int) -> Callable[[Path], None]:
    return lambda root: (root / path).write_bytes((root / path).read_bytes()[:size]) and None


CUB, SOP, SHOP = "CUB_200_2011/", "Stanford_Online_Products/", "Eval/list_eval_partition.txt"


@pytest.mark.parametrize(
    ("name", "spoil", "says"),
    [
        ("cub200", edit(CUB + "images.txt", lambda x: [*x[:4], "5"]), "images.txt:5: expected image_id image_name, "),
        ("cub200", edit(CUB + "images.txt", lambda x: [*x, "3 again.jpg"]), "images.txt:19: expected another number"),
        (
            "cub200",
            edit(CUB + "images.txt", lambda x: x[:-2]),
            "labels.txt: 2 lines have a number that is not in images",
        ),
        (
            "cub200",
            edit(CUB + "classes.txt", lambda x: x[1:]),
            "labels.txt: 3 lines have a number that is not in class",
        ),
        (
            "cub200",
            edit(CUB + "image_class_labels.txt", lambda x: x[:9]),
            "labels.txt:9: the last line; expected one for",
        ),
        (
            "cub200",
            edit(CUB + "image_class_labels.txt", lambda x: ["1 one"]),
            "labels.txt:1: expected image_id class_id",
        ),
        ("cars196", cut("cars_annos.mat", 900), "cars_annos.mat: cannot be read ("),
        ("cars196", cut("cars_annos.mat", 0), "cars_annos.mat: cannot be read ("),
        (
            "cars196",
            lambda root: layouts.savemat(root / "cars_annos.mat", {"annotations": 1, "class_names": "x"}),
            "cars_annos.mat: expected annotations (relative_im_path, class) and class_names",
        ),
        (
            "stanford_online_products",
            edit(SOP + "Ebay_train.txt", lambda x: x[1:]),
            "Ebay_train.txt:1: expected image_id class_id super_class_id path, found 1 1 2 chair",
        ),
        (
            "stanford_online_products",
            edit(SOP + "Ebay_test.txt", lambda x: [*x[:3], x[3][:4]]),
            "Ebay_test.txt:4: expected image_id class_id super_class_id path, found '15 1'",
        ),
        ("stanford_online_products", cut(SOP + "Ebay_test.txt", 0), "Ebay_test.txt:1: expected image_id"),
        (
            "stanford_online_products",
            edit(SOP + "Ebay_test.txt", lambda x: [*x, x[1], x[2]]),
            "2 images are listed more than once (chair_final",
        ),
        ("in_shop", edit(SHOP, lambda x: x[:-1]), "partition.txt:19: expected 18 images, as line 1 says, found 17"),
        ("in_shop", edit(SHOP, lambda x: ["many", *x[1:]]), "partition.txt:1: expected a count, found 'many'"),
        ("in_shop", edit(SHOP, lambda x: [x[0], *x[2:]]), "partition.txt:2: expected image_name item_id evaluation_"),
        ("in_shop", edit(SHOP, lambda x: [*x[:2], "a b galery"]), "found 'galery'; did you mean 'gallery'?"),
        ("in_shop", lambda root: (root / SHOP).write_bytes(b"\xff\xfe"), "list_eval_partition.txt: cannot be read ("),
    ],
)
def test_lists_that_are_damaged_are_named_in_one_line(
    name: str, spoil: Callable[[Path], object], says: str, tmp_path: Path
) -> None:
    MAKE[name](tmp_path)
    spoil(tmp_path)
    with pytest.raises(RunError) as raised:
        described(name, tmp_path)
    assert says in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_class_of_cars_that_has_no_name_is_refused(tmp_path: Path) -> None:
    layouts.cars196(tmp_path, [1, 197], 2)
    with pytest.raises(RunError, match=r"cars_annos.mat: annotation 3: expected a class from 1 to 196, found 197"):
        described("cars196", tmp_path)


@pytest.mark.parametrize("name", MAKE)
def test_a_collection_trains_from_the_command_line(name: str, train_cli: Cli, tmp_path: Path) -> None:
    made = {
        "cub200": lambda root: layouts.cub200(root, [*range(1, 9), *range(101, 105)], 6),
        "cars196": lambda root: layouts.cars196(root, [*range(1, 9), *range(101, 105)], 6),
        "stanford_online_products": lambda root: layouts.stanford_online_products(
            root, range(1, 9), range(11319, 11323), 6
        ),
        "in_shop": lambda root: layouts.in_shop(root, range(1, 9), range(20, 24), 2, 4),
    }[name](tmp_path / "images")
    with Image.open(next(p for p in made.rglob("*") if p.suffix.lower() == ".jpg")) as image:
        assert image.size == (16, 16)
    done = train_cli(
        f"data={name}",
        f"data.root={made}",
        "experiment=open_set",
        f"data={name}",
        *("data.image_size=16", "data.val_fraction=0.25", "data.batch_size=8"),
        *("model=conv_small", "model.width=4", "device=cpu", "trainer.max_epochs=1", "figures.draw=false"),
        f"data.cache_dir={tmp_path / 'cache'}",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert "not the whole of" in done.stdout + done.stderr
    assert (tmp_path / "run" / "summary.json").is_file()
