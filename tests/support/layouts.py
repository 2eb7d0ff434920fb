"""Tiny collections in the formats in which the official ones are published."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

SIZE = 16


def write_image(path: Path, number: int, size: int = SIZE) -> None:
    """A JPEG in the colour of its class ``number``, with noise of its own."""
    random = np.random.default_rng([number, len(str(path)), sum(map(ord, path.name))])
    colour = np.random.default_rng(number).integers(40, 216, 3)
    pixels = np.clip(colour + random.integers(-40, 40, (size, size, 3)), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def cub200(root: Path, classes: Sequence[int], per_class: int) -> Path:
    """CUB_200_2011 in ``root``, as the archive has it, with ``per_class`` images of each of ``classes``."""
    folder = root / "CUB_200_2011"
    names = {c: f"{c:03d}.Bird_{c}" for c in classes}
    images = [(f"{names[c]}/Bird_{c}_{i:04d}_{1000 * c + i}.jpg", c) for c in classes for i in range(per_class)]
    for path, c in images:
        write_image(folder / "images" / path, c)
    write_lines(folder / "classes.txt", (f"{c} {name}" for c, name in names.items()))
    write_lines(folder / "images.txt", (f"{n} {path}" for n, (path, _) in enumerate(images, 1)))
    write_lines(folder / "image_class_labels.txt", (f"{n} {c}" for n, (_, c) in enumerate(images, 1)))
    return folder


def cars196(root: Path, classes: Sequence[int], per_class: int) -> Path:
    """cars_annos.mat, with names of all 196 classes, and car_ims in ``root``."""
    rows = []
    for n, c in enumerate([c for c in classes for _ in range(per_class)], 1):
        path = f"car_ims/{n:06d}.jpg"
        write_image(root / path, c)
        rows.append((path, 1, 2, SIZE, SIZE, c, n % 2))
    fields = ["relative_im_path", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "test"]
    annotations = np.empty((1, len(rows)), dtype=[(name, object) for name in fields])
    annotations[0] = rows
    names = np.empty((1, 196), dtype=object)
    names[0] = [f"Make Model {c} 2012" for c in range(1, 197)]
    savemat(root / "cars_annos.mat", {"annotations": annotations, "class_names": names})
    return root


def stanford_online_products(root: Path, train: Sequence[int], test: Sequence[int], per_class: int) -> Path:
    """Stanford_Online_Products in ``root``."""
    folder = root / "Stanford_Online_Products"
    number = 0
    for part, classes in (("train", train), ("test", test)):
        rows = []
        for c in classes:
            for i in range(per_class):
                number += 1
                path = f"{('bicycle', 'chair')[c % 2]}_final/{110000000000 + c}_{i}.JPG"
                write_image(folder / path, c)
                rows.append(f"{number} {c} {1 + c % 2} {path}")
        write_lines(folder / f"Ebay_{part}.txt", ["image_id class_id super_class_id path", *rows])
    return folder


def in_shop(root: Path, train: Sequence[int], test: Sequence[int], queries: int, gallery: int) -> Path:
    """The In-Shop benchmark in ``root``: Eval/list_eval_partition.txt and Img/img."""
    rows = []
    for c in [*train, *test]:
        parts = ["train"] * (queries + gallery) if c in train else ["query"] * queries + ["gallery"] * gallery
        for i, part in enumerate(parts):
            path = f"img/WOMEN/Dresses/id_{c:08d}/{i:02d}_1_front.jpg"
            write_image(root / "Img" / path, c)
            rows.append(f"{path:<70} id_{c:08d} {part}")
    header = "image_name item_id evaluation_status"
    (root / "Eval").mkdir(parents=True, exist_ok=True)
    write_lines(root / "Eval" / "list_eval_partition.txt", [str(len(rows)), header, *rows])
    return root


def write_lines(file: Path, lines: Iterable[str]) -> None:
    file.write_text("".join(f"{line}\n" for line in lines))
