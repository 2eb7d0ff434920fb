"""Finding the images below a folder, and what there is besides: nothing is passed over without being counted."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from siamese.data.images import NO_CLASS
from siamese.decoding.formats import is_image_name
from siamese.decoding.names import counted, few, one_line, visible
from siamese.errors import ConfigError, RunError

PARTS = {  # what folders and tables call the parts of a split, in small letters, and what each is
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "query": "query",
    "gallery": "gallery",
}
OF_THE_SYSTEM = ("__macosx", "thumbs.db", "desktop.ini")  # in small letters, as are those that begin with a dot
LAYOUTS = "root/<class>/* or root/{train,val,test,query,gallery}/<class>/*"
# What is skipped, as one and as several.
NO_IMAGE = ("file that is no image", "files that are no images")
HIDDEN = ("hidden file or folder", "hidden files and folders")
EMPTY = ("class folder without an image", "class folders without an image")
BROKEN = ("broken link", "broken links")
LOOP = ("link to a folder that it is in", "links to a folder that they are in")
UNREADABLE = ("folder that cannot be read", "folders that cannot be read")
SPECIAL = ("neither file nor folder", "neither files nor folders")
LOOSE = ("image in no class folder", "images in no class folder")
BESIDE = ("folder beside those of the parts", "folders beside those of the parts")


@dataclass
class Skipped:
    """What was passed over below a folder: the paths of each kind."""

    kinds: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: tuple[str, str], path: str) -> None:
        self.kinds[kind].append(path)

    def __str__(self) -> str:
        """All kinds with their counts, and names or suffixes: one line."""
        return "; ".join(_told(kind, sorted(paths)) for kind, paths in self.kinds.items() if paths)


def _told(kind: tuple[str, str], paths: list[str]) -> str:
    if kind is NO_IMAGE:
        ends = Counter(PurePath(path).suffix.lower() or "no suffix" for path in paths).most_common()
        examples = few([f"{end} {count:,}" for end, count in ends])
    else:
        examples = few(paths)
    return f"{counted(len(paths), *kind)} ({examples})"


@dataclass(frozen=True)
class Found:
    """The images below a folder.

    Attributes:
        paths: [N], relative, with ``/`` between their parts: part by part, class by class, in the order of their names.
        labels: [N], indices into ``class_names``; NO_CLASS of all where there are no class folders.
        class_names: sorted, of all parts together.
        parts: [N], of each "train", "val", "test", "query" or "gallery"; "" of all where the folder has no parts.
        skipped: what there is besides.
    """

    paths: list[str]
    labels: list[int]
    class_names: list[str]
    parts: list[str]
    skipped: Skipped


def find(root: Path) -> Found:
    """The images of ``root``, by the class folders that they are in, at any depth.

    Raises:
        ConfigError: for a root that is no folder, and one that has no images or only some of the parts of a split.
        RunError: for a folder that cannot be read and leaves a class, or all, without images.
    """
    _check_root(root)
    skipped = Skipped()
    parts = _parts(root, skipped)
    classes: dict[tuple[str, str], list[str]] = {}  # (part, class): paths
    loose: list[tuple[str, str]] = []  # (part, path)
    for folder, part in parts.items():
        entries = _entries(root, folder, skipped)
        if not entries:
            _check_readable(root, folder, skipped)
        for path, is_folder in entries:
            if not is_folder:
                loose.append((part, path))
            elif below := _images(root, path, skipped):
                classes[part, PurePath(path).name] = below
            else:
                _check_readable(root, path, skipped)
                skipped.add(EMPTY, path)
    if not classes:
        _check_found(root, loose, skipped)
        ordered = sorted(loose, key=lambda pair: (list(parts.values()).index(pair[0]), pair[1].split("/")))
        paths = [path for _, path in ordered]
        return Found(paths, [NO_CLASS] * len(paths), [], [part for part, _ in ordered], skipped)
    _check_parts(root, parts, {part for part, _ in classes}, loose)
    for _, path in loose:
        skipped.add(LOOSE, path)
    names = sorted({name for _, name in classes})
    found = Found([], [], visible(names), [], skipped)
    for part in parts.values():
        for label, name in enumerate(names):
            below = classes.get((part, name), [])
            found.paths.extend(below)
            found.labels.extend([label] * len(below))
            found.parts.extend([part] * len(below))
    return found


def images_below(root: Path, skipped: Skipped) -> list[str]:
    """The paths of all images below ``root``, sorted; what there is besides is added to ``skipped``.

    Raises:
        ConfigError: for a root that is no folder.
        RunError: for one that cannot be read.
    """
    _check_root(root)
    return _images(root, "", skipped)


def _check_root(root: Path) -> None:
    if not os.path.lexists(root):
        raise _bad(root, "no such folder")
    if not root.is_dir():
        raise _bad(root, f"expected a folder, found {'a file' if root.is_file() else 'no folder'}")
    try:
        os.scandir(root).close()
    except OSError as error:
        raise RunError(f"data.root={one_line(root)}: cannot be read ({error.strerror})") from None


def _bad(root: Path, says: str) -> ConfigError:
    return ConfigError(f"data.root={one_line(root)}: {says}")


def _parts(root: Path, skipped: Skipped) -> dict[str, str]:
    """The folders to look for classes in, relative to ``root``, and the part that each is; "" for the root itself."""
    aside = Skipped()  # looked at again if the root has no parts
    entries = _entries(root, "", aside)
    found = {path: PARTS.get(path.lower(), "") for path, is_folder in entries if is_folder}
    named = {path: part for path, part in found.items() if part}
    twice = [part for part, count in Counter(named.values()).items() if count > 1]
    if "train" in named.values() and len(named) > 1:
        if twice:
            same = sorted(path for path, part in named.items() if part == twice[0])
            raise _bad(root, f"expected one folder of the part {twice[0]}, found {few(same)}")
        for kind, paths in aside.kinds.items():
            skipped.kinds[kind] += paths
        for path, is_folder in entries:
            if path not in named:
                skipped.add(BESIDE if is_folder else LOOSE, path)
        return dict(sorted(named.items(), key=lambda pair: list(PARTS.values()).index(pair[1])))
    if named and len(named) == len(found):
        held = few(sorted(named))
        use = f"; use data.root={one_line(root / next(iter(named)))} for its classes" if len(named) == 1 else ""
        raise _bad(root, f"expected {LAYOUTS} with a folder train and another, found only {held}{use}")
    return {"": ""}


def _check_parts(root: Path, parts: dict[str, str], found: set[str], loose: list[tuple[str, str]]) -> None:
    """Refuse a part without classes where another has some: without it the images would be split in another way."""
    for folder, part in parts.items():
        if part not in found:
            count = sum(of == part for of, _ in loose)
            there = f" ({counted(count, *LOOSE)})" if count else ""
            train = next(name for name in parts if parts[name] == "train")
            use = f"; use data.root={one_line(root / train)} for its classes" if "train" in found else ""
            raise _bad(root, f"expected {LAYOUTS}, found no class folder with images in {folder}{there}{use}")


def _check_readable(root: Path, folder: str, skipped: Skipped) -> None:
    unreadable = [path for path in skipped.kinds.get(UNREADABLE, []) if f"{path}/".startswith(f"{folder}/")]
    if unreadable:
        says = f"found no image in {one_line(folder)}; {few(unreadable)} cannot be read"
        raise RunError(f"data.root={one_line(root)}: {says}")


def _check_found(root: Path, loose: list[tuple[str, str]], skipped: Skipped) -> None:
    if not loose:
        besides = f"; beside it, {skipped}" if str(skipped) else ""
        raise _bad(root, f"expected one folder of images a class ({LAYOUTS}), found none{besides}")


def _entries(root: Path, folder: str, skipped: Skipped) -> list[tuple[str, bool]]:
    """The folders and images in ``folder``, relative to ``root``, sorted, and whether each is a folder."""
    try:
        with os.scandir(root / folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        skipped.add(UNREADABLE, folder)
        return []
    kept = []
    for entry in found:
        path = f"{folder}/{entry.name}" if folder else entry.name
        kind = _kind(entry)
        if kind is None:
            kept.append((path, entry.is_dir()))
        else:
            skipped.add(kind, path)
    return kept


def _kind(entry: os.DirEntry[str]) -> tuple[str, str] | None:
    """Why ``entry`` is skipped; None where it is a folder or an image."""
    if entry.name.startswith(".") or entry.name.lower() in OF_THE_SYSTEM:
        return HIDDEN
    try:
        if entry.is_dir():
            return None
        if entry.is_file():
            return None if is_image_name(entry.name) else NO_IMAGE
        return BROKEN if entry.is_symlink() and not os.path.exists(entry.path) else SPECIAL
    except OSError:  # a link to itself
        return BROKEN


def _images(root: Path, top: str, skipped: Skipped) -> list[str]:
    """The images below ``top`` at any depth, relative to ``root``, in the order of their names."""
    paths: list[str] = []
    start = PurePath(top)
    todo = [(top, frozenset(_identity(root / folder) for folder in (start, *start.parents)))]
    while todo:
        folder, above = todo.pop()
        for path, is_folder in _entries(root, folder, skipped):
            if not is_folder:
                paths.append(path)
            elif (one := _identity(root / path)) in above:
                skipped.add(LOOP, path)
            else:
                todo.append((path, above | {one}))
    return sorted(paths, key=lambda path: path.split("/"))


def _identity(folder: Path) -> tuple[int, int] | None:
    """What is the same for two paths of one folder; None where it cannot be had, nor then what is in it."""
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino
