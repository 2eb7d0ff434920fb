"""Image folders."""

from __future__ import annotations

from pathlib import Path

from siamese.data.files import Decoding, collection
from siamese.data.images import LabelledImages
from siamese.errors import ConfigError, RunError
from siamese.memory import check_images_fit


def image_folder(
    root: str,
    image_size: int | list[int],
    fit: str,
    background: list[int],
    damaged: str,
    cache_dir: str | None,
    decode_workers: int,
) -> LabelledImages:
    """``root/<class>/*`` or ``root/{train,test}/<class>/*``, in the order of the sorted file names.

    Args:
        cache_dir: where decoded pixels are kept; null is $XDG_CACHE_HOME/siamese, or else ~/.cache/siamese.
        decode_workers: how many images are decoded at a time.

    Raises:
        ConfigError: for a missing root, one without class folders, and classes that differ between
            train and test.
        RunError: for a file that is no image, or a damaged one.
    """
    decoding = Decoding(image_size, fit, background, damaged, cache_dir, decode_workers)
    folder = Path(root).expanduser()
    paths, labels, names, parts = find(folder)
    check_images_fit(len(paths), decoding.size)
    return collection(folder, paths, labels, names, decoding, parts=parts)


def find(root: Path) -> tuple[list[str], list[int], list[str], list[str]]:
    """The image files under ``root`` with labels, class names and parts."""
    if not root.is_dir():
        raise ConfigError(f"data.root={root}: no such folder")
    parts = [root / "train", root / "test"] if (root / "train").is_dir() and (root / "test").is_dir() else [root]
    classes = [sorted(d.name for d in _folders(part)) for part in parts]
    if not classes[0]:
        raise ConfigError(
            f"data.root={root}: expected one folder of images a class (root/<class>/* or "
            "root/{train,test}/<class>/*), found none"
        )
    if classes[0] != classes[-1]:
        odd = sorted(set(classes[0]) ^ set(classes[-1]))
        raise ConfigError(f"data.root={root}: train and test must have the same classes; only one has {', '.join(odd)}")
    paths: list[str] = []
    labels: list[int] = []
    of_part: list[str] = []
    for part in parts:
        for label, name in enumerate(classes[0]):
            folder = part / name
            found = sorted(f for f in folder.iterdir() if f.is_file() and not f.name.startswith("."))
            if not found:
                raise RunError(f"{folder}: expected images, found none")
            paths += [f.relative_to(root).as_posix() for f in found]
            labels += [label] * len(found)
            of_part += [part.name if len(parts) == 2 and part.name == "test" else ""] * len(found)
    return paths, labels, classes[0], of_part


def _folders(part: Path) -> list[Path]:
    return [d for d in part.iterdir() if d.is_dir() and not d.name.startswith(".")]
