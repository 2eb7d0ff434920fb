"""Cars-196 (Krause et al. 2013): photographs of cars by make, model and year."""

from __future__ import annotations

from pathlib import Path

from siamese.data.files import Decoding
from siamese.data.files.source import source_of_files
from siamese.data.images import LabelledImages
from siamese.data.sources.layout import Benchmark, Listing, collected, train_or_test
from siamese.errors import RunError

CARS196 = Benchmark(
    "Cars-196",
    "https://ai.stanford.edu/~jkrause/cars/car_dataset.html",
    "car_ims.tgz with cars_annos.mat beside it",
    "cars196",
    {"train": 8054, "test": 8131},
)


@source_of_files
def cars196(root: str, decoding: Decoding) -> LabelledImages:
    """16,185 cars of 196 models; models 1 to 98 train, 99 to 196 test (Song et al. 2016, section 5).

    Args:
        root: the folder with cars_annos.mat and car_ims.

    Raises:
        ConfigError: when the collection is not there.
        RunError: for annotations that are damaged, malformed or name what is not there.
    """
    folder = CARS196.unpacked(root, "cars_annos.mat", "car_ims")
    file = folder / "cars_annos.mat"
    annotations, names = _read(file)
    listing = Listing()
    for row, (path, of_class) in enumerate(annotations, 1):
        if not 1 <= of_class <= len(names):
            raise RunError(f"{file}: annotation {row}: expected a class from 1 to {len(names)}, found {of_class}")
        listing.add(path, of_class, train_or_test(of_class, 98))
    return collected(CARS196, folder, file, listing, decoding, lambda of_class: names[of_class - 1])


def _read(file: Path) -> tuple[list[tuple[str, int]], list[str]]:
    """(path, class) of each annotation, and the names of the classes."""
    from scipy.io import loadmat

    try:
        stored = loadmat(file, variable_names=["annotations", "class_names"])  # data alone; no MATLAB code is run
    except Exception as error:  # whatever meets scipy first
        raise RunError(f"{file}: cannot be read ({' '.join(str(error).split())}); expected MATLAB's format 5") from None
    try:
        rows = stored["annotations"].reshape(-1)
        annotations = [(str(row["relative_im_path"].item()), int(row["class"].item())) for row in rows]
        return annotations, [str(name.item()) for name in stored["class_names"].reshape(-1)]
    except (KeyError, ValueError, IndexError, AttributeError, TypeError) as error:
        raise RunError(
            f"{file}: expected annotations (relative_im_path, class) and class_names, found others ({error})"
        ) from None
